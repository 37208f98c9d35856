"""Transfer of adversarial images between networks."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from made_batches import DIGIT_SHAPE, evaluate_attack, make_digit_batch, make_network
from torch import Tensor, nn

from irpipe import evaluation
from irpipe.attacks import AttackBatch, margin_pgd, transfer
from irpipe.attacks._margin_loss import image_margin_loss
from irpipe.config import kinds
from irpipe.datasets import load
from irpipe.errors import IrpipeError
from irpipe.networks.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.load import LoadedNetwork
from irpipe.results.result import Result
from irpipe.results.select import select_attack


@pytest.fixture
def batch() -> AttackBatch:
    return make_digit_batch(6)


def save_network(folder: Path, network: nn.Module, dataset: str = "mnist") -> str:
    """Write a checkpoint and return its path; files are numbered."""
    path = folder / f"{len(list(folder.iterdir()))}.safetensors"
    metadata = {
        "dataset": dataset,
        "data": {"kind": dataset},
        "model": "small",
        "method": "adv",
        "run": "released",
    }
    write_checkpoint(path, Checkpoint(metadata, network.state_dict()))
    return str(path)


def margins(batch: AttackBatch, images: Tensor) -> Tensor:
    """Margin losses `[E, N]` of images `[E, N, C, H, W]`."""
    losses = [image_margin_loss(batch.folded, one_eps, batch.labels) for one_eps in images]
    return torch.stack(losses)


def test_each_image_is_the_worst_of_the_surrogates(batch: AttackBatch, tmp_path: Path) -> None:
    first, second = make_network(2, DIGIT_SHAPE, 10), make_network(3, DIGIT_SHAPE, 10)
    # The second surrogate is the attacked network itself, which is left out.
    surrogates = [save_network(tmp_path, network) for network in (first, batch.network, second)]
    (output,) = transfer.attack(batch, eps=[0.1, 0.3], surrogates=surrogates, steps=4)
    rng = np.random.RandomState(11)
    surrogate_margins = []
    for network in (first, second):
        folded = FoldedNetwork(network, DIGIT_SHAPE)
        surrogate_batch = dataclasses.replace(batch, network=network, folded=folded, rng=rng)
        (alone,) = margin_pgd.attack(surrogate_batch, eps=[0.1, 0.3], steps=[4], restarts=1)
        surrogate_margins.append(margins(batch, alone.images))
    torch.testing.assert_close(margins(batch, output.images), torch.maximum(*surrogate_margins))
    expected = torch.where(surrogate_margins[1] > surrogate_margins[0], 3, 1)
    assert output.extras["surrogate"].tolist() == expected.tolist()
    assert set(expected.flatten().tolist()) == {1, 3}


def test_transfer_is_weaker_than_the_attack_on_the_network_itself(
    batch: AttackBatch, tmp_path: Path
) -> None:
    others = [make_network(seed, DIGIT_SHAPE, 10) for seed in (2, 3)]
    surrogates = [save_network(tmp_path, network) for network in others]
    white_box = evaluate_attack(batch, margin_pgd, [0.1], steps=[4])
    black_box = evaluate_attack(batch, transfer, [0.1], surrogates=surrogates, steps=4)
    assert white_box["correct"].sum() < black_box["correct"].sum()


def test_results_of_other_surrogates_at_the_same_path_are_not_shown_together(
    batch: AttackBatch, tmp_path: Path
) -> None:
    path = save_network(tmp_path, make_network(2, DIGIT_SHAPE, 10))
    metadata = {
        "dataset": "digits",
        "data": {"kind": "digits"},
        "model": "small",
        "run": "released",
    }
    entry = {"kind": "transfer", "surrogates": [path], "steps": 1, "images": 4, "eps": 0.2}
    options = kinds.resolve_entry("attacks", entry, "here")
    test = load({"kind": "digits"}, Path("unused"), "test")

    def run(method: str) -> Result:
        network = LoadedNetwork(batch.network, batch.folded, metadata | {"method": method}, "feed")
        return evaluation.evaluate_network(
            network, "transfer", options, test, torch.device("cpu"), "c0de"
        )

    result = run("int")
    assert result.attrs["surrogates_sha256"] == [read_checkpoint(Path(path)).sha256]
    select_attack([result, run("adv")], "transfer", "t")
    Path(path).unlink()
    assert save_network(tmp_path, make_network(3, DIGIT_SHAPE, 10)) == path
    message = r"is from surrogates .* with the same surrogates"
    with pytest.raises(IrpipeError, match=message):
        select_attack([result, run("adv")], "transfer", "t")


def test_transfer_needs_another_network(batch: AttackBatch, tmp_path: Path) -> None:
    surrogate = save_network(tmp_path, batch.network)
    with pytest.raises(IrpipeError, match="all are the network itself"):
        list(transfer.attack(batch, eps=[0.1], surrogates=[surrogate]))


def test_transfer_refuses_networks_for_images_of_another_shape(
    batch: AttackBatch, tmp_path: Path
) -> None:
    surrogate = save_network(tmp_path, make_network(1, (3, 32, 32), 10), "cifar10")
    with pytest.raises(IrpipeError, match="images of another shape"):
        list(transfer.attack(batch, eps=[0.1], surrogates=[surrogate]))


def test_transfer_refuses_networks_of_other_classes(batch: AttackBatch, tmp_path: Path) -> None:
    """Of fewer classes, a label might have no logit."""
    surrogate = save_network(tmp_path, make_network(3, DIGIT_SHAPE, 10))
    few = dataclasses.replace(batch, network=make_network(1, DIGIT_SHAPE, 3))
    with pytest.raises(IrpipeError, match="of 10 classes; the attacked one has 3"):
        list(transfer.attack(few, eps=[0.1], surrogates=[surrogate], steps=1))
