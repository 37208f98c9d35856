"""On a GPU, attacks record their steps as CUDA graphs, which the host only starts."""

import dataclasses
import inspect
from typing import Any

import pytest
from made_batches import make_digit_batch
from pretended_device import DEVICE, HOST_READ, PretendedDevice, counts

from irpipe.config.kinds import kinds, options_model
from irpipe.networks.folded import FoldedNetwork
from irpipe.outside_code import import_kind

# Kinds whose steps are those of other packages, of other kinds, or of proofs.
NOT_RECORDED = {"autoattack", "transfer", "certify_maps", "certify_top_k"}
KINDS = [
    kind
    for kind in kinds("attacks")
    if "steps" in options_model("attacks", kind).model_fields and kind not in NOT_RECORDED
]
# An attack of ISA is one graph with all its steps. If no search fails, there is no other attack.
OPTIONS: dict[str, dict[str, Any]] = {
    "isa": {
        "eps_multipliers": [3],
        "norms": ["l1"],
        "class_sets": ["two"],
        "grad_scale": None,
        "rel_step_size": 0.5,
    },
    "margin_pgd": {"restarts": 1},
}
# To start a graph is to copy what changed into its memory, and its results out of it.
MAX_LAUNCHES = 10


def launches(kind: str, steps: int) -> tuple[int, int]:
    """How many operations an attack launches outside graphs, and how often the host reads."""
    made = make_digit_batch(1)  # ISA succeeds on this image
    attack = import_kind("attacks", kind).attack
    parameters = inspect.signature(attack).parameters
    has_list = isinstance(parameters["steps"].default, list)
    options = OPTIONS.get(kind, {}) | {"steps": [steps] if has_list else steps}
    if "eps" in parameters:
        options["eps"] = [0.1]
    with PretendedDevice():
        network = made.network.move_to(DEVICE)
        images, labels = made.images.to(DEVICE), made.labels.to(DEVICE)
        folded = FoldedNetwork(network, images.shape[1:])
        batch = dataclasses.replace(
            made, network=network, folded=folded, images=images, labels=labels
        )
        counts.clear()
        list(attack(batch, **options))
    return counts.total() - counts[HOST_READ], counts[HOST_READ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_further_step_only_starts_its_graph(kind: str) -> None:
    (few, few_reads), (many, many_reads) = launches(kind, 4), launches(kind, 6)
    assert many - few <= 2 * MAX_LAUNCHES
    assert few_reads == many_reads
