"""The map losses of AAI, by hand and against finite differences."""

from typing import Any

import numpy as np
import pytest
import torch
from made_batches import make_batch
from map_networks import FIRST_MAP, FLAT_MAP, attacked_channels, channel_batch
from torch import Tensor, nn

from irpipe.attacks import aai
from irpipe.networks.network import Network


def test_the_target_is_the_reversed_map() -> None:
    """The target of 0.9 0.8 0.2 0.5 is 0.2 0.3 0.9 0.6; eps 0.1 stops the way there."""
    batch = channel_batch((FIRST_MAP, FLAT_MAP), labels=[0])
    ((true_map, other_map),) = attacked_channels(batch, loss="targeted", steps=1)
    assert true_map == pytest.approx([0.86, 0.76, 0.24, 0.54])
    assert other_map == pytest.approx(FLAT_MAP)
    batch = channel_batch((FIRST_MAP, FLAT_MAP), labels=[0])
    ((true_map, _),) = attacked_channels(batch, loss="targeted", steps=5)
    assert true_map == pytest.approx([0.8, 0.7, 0.3, 0.6])


def test_mass_center_by_hand() -> None:
    """The mass above the smallest entry is 0.7 0.6 0 0.3 for the first map."""
    maps = torch.tensor([FIRST_MAP, [0.3] * 4, [0.0, 0.0, 0.0, 5.0]]).view(3, 1, 2, 2)
    expected = torch.tensor([[0.3 / 1.6, 0.9 / 1.6], [0, 0], [1, 1]])
    torch.testing.assert_close(aai._mass_center(maps), expected)
    centers = aai._mass_center(maps.requires_grad_())
    assert torch.equal(centers.isfinite(), torch.ones(3, 2, dtype=torch.bool))


def channel_network(n_images: int = 1) -> tuple[Network, Tensor]:
    """Three classes whose maps are the image's channels, 3 x 4, and random images."""
    network = Network(nn.Identity(), None, 3, 3)
    network.head = nn.Parameter(torch.eye(3), requires_grad=False)
    return network, torch.rand(n_images, 3, 3, 4, generator=torch.Generator().manual_seed(3))


def mass_center(plane: np.ndarray) -> np.ndarray:
    mass = (plane - plane.min()) / (plane - plane.min()).sum()
    return np.array([(mass * index).sum() for index in np.indices(plane.shape)])


def test_the_mass_center_moves_away() -> None:
    """One step from a random start takes the sign of the distance's finite differences."""
    network, images = channel_network()
    batch = make_batch(network, images, torch.tensor([1]))
    rng = np.random.RandomState(11)
    rng.randint(2, size=1)
    noise = torch.from_numpy(rng.uniform(-0.1, 0.1, (1, 3, 4, 3)).transpose(0, 3, 1, 2)).float()
    start = (images + noise).clamp(0, 1).double()
    options: dict[str, Any] = {"loss": "mass_center", "steps": 1, "step_size": 0.005, "images": 1}
    (output,) = aai.attack(batch, eps=[0.1], **options)
    clean_center = mass_center(images[0, 1].double().numpy())
    gradient = np.zeros((3, 4))
    for index in np.ndindex(3, 4):
        for sign in (1, -1):
            plane = start[0, 1].numpy().copy()
            plane[index] += sign * 1e-6
            gradient[index] += sign * np.linalg.norm(mass_center(plane) - clean_center)
    expected = start.clone()
    expected[0, 1] += 0.005 * torch.from_numpy(np.sign(gradient))
    expected = torch.minimum(torch.maximum(expected, images - 0.1), images + 0.1).clamp(0, 1)
    torch.testing.assert_close(output.images[0], expected.float(), atol=1e-5, rtol=0)


def test_two_classes_are_the_true_and_the_best_other_one() -> None:
    """Each entry of their maps runs to the l-inf bound; the third map stays as it was drawn."""
    network, images = channel_network()
    images = 0.3 + 0.4 * images
    label, best_other, worst = images.mean(dim=(2, 3))[0].argsort(descending=True).tolist()
    batch = make_batch(network, images, torch.tensor([label]))
    (output,) = aai.attack(batch, eps=[0.1], loss="two_class", steps=25, images=1)
    change = (output.images[0] - images)[0].abs()
    assert change[[label, best_other]].flatten().tolist() == pytest.approx([0.1] * 24, abs=1e-6)
    assert (change[worst] < 0.0999).all()


@pytest.mark.parametrize("loss", ["topk", "mass_center", "two_class", "targeted"])
def test_a_row_is_an_image_at_an_eps(loss: Any) -> None:
    """The loss of a chunk of rows, of three images at two eps, is that of each row by itself."""
    generator = torch.Generator().manual_seed(5)
    clean, maps = (torch.rand(count, 2, 3, 4, generator=generator) for count in (3, 4))
    rows = torch.tensor([0, 4, 5, 2])
    losses = aai._make_map_loss(loss, clean, 3, 2)(maps, rows)
    for position, row in enumerate(rows.tolist()):
        one_clean = clean[row % 3 : row % 3 + 1]
        one_map = maps[position : position + 1]
        one_loss = aai._make_map_loss(loss, one_clean, 3, 1)(one_map, torch.tensor([0]))[0]
        torch.testing.assert_close(losses[position], one_loss)
    assert len(set(losses.tolist())) == 4
