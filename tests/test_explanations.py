"""Ways to change a map, by hand and against finite differences; the worst of them for each image."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_aai import OTHER, TRUE, case_of, channels, last
from test_compare import maps
from torch import Tensor, nn

from irpipe.attacks import aai
from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.models import Network
from irpipe.reports import explanations


def test_the_target_is_the_map_turned_over() -> None:
    """Entries .9 .8 .2 .5 become .2 .3 .9 .6; the radius ends the way at .1."""
    ((true, other),) = last(channels((TRUE, OTHER), labels=[0]), objective="target", steps=1)
    assert true == pytest.approx([0.86, 0.76, 0.24, 0.54])
    assert other == pytest.approx(OTHER)
    ((true, _),) = last(channels((TRUE, OTHER), labels=[0]), objective="target", steps=5)
    assert true == pytest.approx([0.8, 0.7, 0.3, 0.6])


def test_centre_of_mass_by_hand() -> None:
    """Mass .7 .6 0 .3 above the least entry."""
    maps = torch.tensor([TRUE, [0.3] * 4, [0.0, 0.0, 0.0, 5.0]]).view(3, 1, 2, 2)
    expected = torch.tensor([[0.3 / 1.6, 0.9 / 1.6], [0, 0], [1, 1]])
    torch.testing.assert_close(aai._centre(maps), expected)
    assert torch.equal(aai._centre(maps.requires_grad_()).isfinite(), torch.ones(3, 2, dtype=torch.bool))


def drawn(rows: int = 1) -> tuple[Network, Tensor]:
    """Three classes whose maps are the image's channels, 3 x 4."""
    network = Network(nn.Identity(), None, 3, 3)
    network.head = nn.Parameter(torch.eye(3), requires_grad=False)
    return network, torch.rand(rows, 3, 3, 4, generator=torch.Generator().manual_seed(3))


def test_the_centre_is_pushed_away() -> None:
    """One step from a random start goes along the sign of the distance's finite differences."""
    network, images = drawn()
    case = case_of(network, images, torch.tensor([1]))
    rng = np.random.RandomState(11)
    rng.randint(2, size=1)
    start = images + torch.from_numpy(rng.uniform(-0.1, 0.1, (1, 3, 4, 3)).transpose(0, 3, 1, 2)).float() * 1.0
    start = start.clamp(0, 1).double()
    options: dict[str, Any] = {"eps": [0.1], "objective": "centre", "steps": 1, "step_size": 0.005, "images": 1}
    (outcome,) = aai.attack(case, **options)

    def centre(plane: np.ndarray) -> np.ndarray:
        mass = (plane - plane.min()) / (plane - plane.min()).sum()
        return np.array([(mass * place).sum() for place in np.indices(plane.shape)])

    clean, slope = centre(images[0, 1].double().numpy()), np.zeros((3, 4))
    for place in np.ndindex(3, 4):
        for way in (1, -1):
            moved = start[0, 1].numpy().copy()
            moved[place] += way * 1e-6
            slope[place] += way * np.linalg.norm(centre(moved) - clean)
    expected = start.clone()
    expected[0, 1] += 0.005 * torch.from_numpy(np.sign(slope))
    expected = torch.minimum(torch.maximum(expected, images - 0.1), images + 0.1).clamp(0, 1)
    torch.testing.assert_close(outcome.images[0], expected.float(), atol=1e-5, rtol=0)


def test_two_classes_are_the_true_and_the_best_other_one() -> None:
    """Each entry of those two runs to the radius, to the side that the start lies on; the third stays as drawn."""
    network, images = drawn()
    images = 0.3 + 0.4 * images
    label, rival, least = images.mean(dim=(2, 3))[0].argsort(descending=True).tolist()
    (outcome,) = aai.attack(
        case_of(network, images, torch.tensor([label])), eps=[0.1], objective="two_class", steps=25, images=1
    )
    moved = (outcome.images[0] - images)[0].abs()
    assert moved[[label, rival]].flatten().tolist() == pytest.approx([0.1] * 24, abs=1e-6)
    assert (moved[least] < 0.0999).all()


@pytest.mark.parametrize("objective", ["topk", "centre", "two_class", "target"])
def test_rows_are_images_within_radii(objective: Any) -> None:
    generator = torch.Generator().manual_seed(5)
    clean, moved = (torch.rand(count, 2, 3, 4, generator=generator) for count in (3, 4))
    rows = torch.tensor([0, 4, 5, 2])  # of three images at two radii
    found = aai._change(objective, clean, 3, 2)(moved, rows)
    for place, row in enumerate(rows.tolist()):
        alone = aai._change(objective, clean[row % 3 : row % 3 + 1], 3, 1)
        torch.testing.assert_close(found[place], alone(moved[place : place + 1], torch.tensor([0]))[0])
    assert len(set(found.tolist())) == 4


# --- the worst for each image ------------------------------------------------------------------------------


def named(attack: str, tau: list[float], kept: range, right: range, **attrs: Any) -> Result:
    result = maps("int", 0.0, kept, right)
    result.attrs.update(attack=attack, **attrs)
    result.arrays["tau"][:] = np.resize(tau, 200)[:, None, None]
    return result


def rows_of(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    with path.open(newline="") as file:
        return {(row["method"], row["attack"]): row for row in csv.DictReader(file)}


def test_worst_is_the_least_of_each_image(tmp_path: Path) -> None:
    """tau .8 and .4 in turn against .6 where kept; ten are wrong under the first, a hundred turned by the other."""
    first = named("a", [0.8, 0.4], range(200), range(10, 200))
    second = named("b", [0.6], range(100), range(200))
    explanations.report([first, second], tmp_path / "e", title="T", attacks=["a", "b"])
    found = rows_of(tmp_path / "e.csv")
    means = {attack: float(row["value"]) for (_, attack), row in found.items()}
    assert means == pytest.approx({"a": 190 * 0.6 / 200, "b": 0.3, "worst": 90 * 0.5 / 200})
    assert [float(found["int", attack]["lost"]) for attack in ("a", "b", "worst")] == [0.05, 0.5, 0.55]
    assert float(found["int", "worst"]["low"]) < 0.225 < float(found["int", "worst"]["high"])
    assert "| Method | a | b | worst |" in (tmp_path / "e.md").read_text()


def test_interpreters_stand_apart(tmp_path: Path) -> None:
    second = named("b", [0.6], range(200), range(200))
    second.attrs["spec"] = second.attrs["spec"] | {"interpreter": "gradcampp"}
    first = named("a", [0.8], range(200), range(200))
    explanations.report([first, second], tmp_path / "e", title="T", attacks=["a", "b"])
    text = (tmp_path / "e.md").read_text()
    assert "| Method | a | worst |" in text
    assert "| Method | b | worst |" in text


def test_networks_are_shown_beside_each_other_under_the_same_attacks(tmp_path: Path) -> None:
    both = [named(attack, [0.8], range(200), range(200)) for attack in "ab"]
    other = named("a", [0.5], range(200), range(200), method="adv")
    with pytest.raises(IrpipeError, match="mnist/small/adv/released/a is there, but no b beside it"):
        explanations.report([*both, other], tmp_path / "e", title="T", attacks=["a", "b"])
    both[1].arrays["index"] = np.arange(200)[::-1]
    with pytest.raises(IrpipeError, match="are of other images"):
        explanations.report(both, tmp_path / "e", title="T", attacks=["a", "b"])
    both[0].arrays["eps"] = both[0].arrays["eps"] + 0.5
    with pytest.raises(IrpipeError, match=r"int/released/a lacks ε = 0\.3"):
        explanations.report(both[:1], tmp_path / "e", title="T", attacks=["a"])
    assert not list(tmp_path.iterdir())
