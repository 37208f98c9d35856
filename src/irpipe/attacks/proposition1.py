"""Proposition 1, image by image: how far maps must move for the prediction to change (C.6-4).

The maps are CAM with the factor 1/u. A map then sums to its logit; without the factor, the
proposition says nothing (C.3 T1).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from irpipe.attacks import AttackBatch, AttackOutput, isa
from irpipe.interpretability.interpreters import interpret
from irpipe.option_types import Count, Positive, PositiveList, Seed

PROTOCOL = ("C.3 T1", "C.5 I7", "C.5 I9", "C.5-4", "C.5-5", "C.6-4")

AXIS = isa.AXIS
ROUNDING_TOLERANCE = 1e-5  # of float32, as a share of the largest logit


def attack(
    batch: AttackBatch,
    *,
    # eps over eps*. 1.6 is the largest value that gives Table 1 (C.5 I9).
    eps_multipliers: PositiveList = [1.6],  # noqa: B006
    # A step is clip(grad_scale * gradient, -1, 1) times its size, as in `attacks.isa`. None
    # means the gradient's sign (C.5 I7).
    grad_scale: Positive | None = 10,
    # C.6-4: 100 images and seed 99.
    images: Count = 100,
    seed: Seed = 99,
    batch_size: Count = 100,
) -> Iterator[AttackOutput]:
    """Yield the plain targeted attack at eps*, then ISA at larger eps, `[E, N, C, H, W]`.

    The plain attack keeps no map (C.5-4). ISA keeps the proposition's own discrepancy small:
    l1, 2-class (C.5-5).

    Extras, `[E, N]`: target, eps_min and eps_min_found of `attacks.isa`, and those of
    `check_proposition1`.
    """
    for output in isa.attack(
        batch,
        norms=["l1"],
        class_sets=["two"],
        eps_multipliers=eps_multipliers,
        grad_scale=grad_scale,
    ):
        extras = {name: output.extras[name] for name in ("target", "eps_min", "eps_min_found")}
        sides = check_proposition1(batch, output.images, output.extras["target"])
        yield output._replace(extras=extras | sides)


def check_proposition1(
    batch: AttackBatch, adversarial: Tensor, target: Tensor
) -> dict[str, Tensor]:
    """Both sides of paper eq (5), `[E, N]`, of images `[E, N, C, H, W]` and targets `[E, N]`.

        D(x, x') >= (f_t(x) - f_t'(x)) / 2

    if x is predicted t, the true class, and x' is predicted t', the target class.

    - bound: the right side;
    - discrepancy: D(x, x') of paper eq (4), l1;
    - prop1_applies: whether the two predictions are t and t';
    - tightness: bound / discrepancy where the proposition applies, else 0.

    Raises RuntimeError if the proposition applies and the discrepancy is below the bound.
    """
    clean_logits = batch.network(batch.images.float())
    true = batch.labels.expand_as(target)
    class_pairs = torch.stack([true, target], dim=2)  # t and t', [E, N, 2]
    pair_logits = torch.stack([clean_logits.gather(1, pair) for pair in class_pairs])
    bound = (pair_logits[..., 0] - pair_logits[..., 1]) / 2
    distances = []
    predictions = []
    for images, pair in zip(adversarial, class_pairs, strict=True):
        maps = interpret(batch.network, images.float(), "cam", pair, variant="original")
        clean_maps = interpret(batch.network, batch.images.float(), "cam", pair, variant="original")
        distances.append((maps - clean_maps).abs().sum(dim=(1, 2, 3)) / 2)
        predictions.append(batch.network(images.float()).argmax(dim=1))
    discrepancy = torch.stack(distances)
    is_correct_before = clean_logits.argmax(dim=1) == batch.labels
    applies = is_correct_before & (torch.stack(predictions) == target)
    tolerance = ROUNDING_TOLERANCE * clean_logits.abs().amax(dim=1)
    is_violated = applies & (discrepancy < bound - tolerance)
    if bool(is_violated.any()):
        point, row = (int(index) for index in is_violated.nonzero()[0])
        raise RuntimeError(
            f"Proposition 1 fails on test image {batch.indices[row]}: "
            f"discrepancy {float(discrepancy[point, row]):.6g} "
            f"below its bound {float(bound[point, row]):.6g}"
        )
    return {
        "bound": bound,
        "discrepancy": discrepancy,
        "prop1_applies": applies,
        "tightness": torch.where(applies & (discrepancy > 0), bound / discrepancy, 0),
    }
