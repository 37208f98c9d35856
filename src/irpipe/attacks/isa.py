"""Interpretability sneaking attack (ISA): fool the classifier and keep its maps.

Paper eq (6); C.5.
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from irpipe.attacks import AttackBatch, AttackOutput
from irpipe.attacks._isa_search import (
    IsaSearch,
    MapInterpreter,
    counted_classes,
)
from irpipe.attacks._isa_steps import projected_descent
from irpipe.attacks._targets import random_targets
from irpipe.interpretability.discrepancy import (
    DiscrepancyMeasure,
    all_measures,
    normalised_discrepancy,
)
from irpipe.option_types import (
    ClassSets,
    Count,
    IgRule,
    Interpreter,
    InterpreterVariant,
    Norms,
    NotNegative,
    Positive,
    PositiveList,
    Seed,
)

PROTOCOL = (
    "C.2",
    "C.3 T1",
    "C.3 T7",
    "C.5",
    "C.5 I1",
    "C.5 I15",
    "C.5 I5",
    "C.5 I7",
    "C.5 I9",
    "C.5-1",
    "C.5-2",
    "C.5-3",
    "C.5-4",
    "C.5-5",
    "C.5-6",
)

# The last axis of a result: the index of a measure in `all_measures`.
AXIS = "measure"


def attack(
    batch: AttackBatch,
    *,
    interpreter: Interpreter = "cam",
    # The maps as the released code or as the interpreter's authors have them (C.3 T1, C.3 T7,
    # C.3 T13).
    interpreter_variant: InterpreterVariant = "released",
    # Terms of the sum of integrated gradients (C.3 T7).
    ig_steps: Count = 100,
    # How to compute that sum: at the few points of a Gauss rule, or term by term (C.3 T7).
    ig_rule: IgRule = "quadrature",
    norms: Norms = ["l1", "l2"],  # noqa: B006
    class_sets: ClassSets = ["one", "two", "all"],  # noqa: B006
    # eps over eps*. These values give Table 1 (C.5 I9).
    eps_multipliers: PositiveList = [1.1, 1.2, 1.4, 1.6],  # noqa: B006
    # A margin loss below -kappa gains nothing (C.5-2).
    kappa: NotNegative = 0.1,
    # Steps of one attack, and their size as a share of eps (C.5-3).
    steps: Count = 10,
    rel_step_size: Positive = 0.2,
    # A step is clip(grad_scale * gradient, -1, 1) times its size. The released code's scale is
    # 1000 / number of images. None means the gradient's sign (C.5 I7).
    grad_scale: Positive | None = 10,
    # Steps of each binary search (C.5 I1).
    binary_search_steps: Count = 10,
    # Search for gamma until high - low <= search_rtol * high. None means that the search ends
    # after `binary_search_steps` (C.5 I1).
    search_rtol: Positive | None = None,
    # Whether D in the loss is the square of the l2 norm (C.5 I5).
    squared_l2: bool = True,
    # The paper does not give the number of images nor the seed (C.5 I9).
    images: Count = 100,
    seed: Seed = 99,
    batch_size: Count = 100,
) -> Iterator[AttackOutput]:
    """Yield, for each discrepancy measure, images `[E, N, C, H, W]` and their bounds `[E, N]`.

    The first of the E points is the plain targeted attack (the paper's PGD) at the image's
    eps*, the smallest eps at which it succeeds. The others are ISA at eps* times each of
    `eps_multipliers`, with the largest weight gamma (the paper's 1/lambda) of the discrepancy
    that still succeeds.

    Extras, `[E, N]`:
    - target: the target class;
    - eps_min: eps*, or 1 where the plain attack never succeeds;
    - eps_min_found: whether it succeeds;
    - gamma: 0 for the plain attack;
    - gamma_capped: whether no gamma that the search tried was too large (C.5 I1);
    - those of `measure_extras`.
    """
    # Batches draw one after the other, so the targets do not depend on their size (C.5-1).
    target = random_targets(batch, batch.rng, len(batch.labels))
    descend = partial(
        projected_descent, steps=steps, rel_step_size=rel_step_size, grad_scale=grad_scale
    )
    maps_of = MapInterpreter(interpreter, interpreter_variant, ig_steps, ig_rule)
    search = IsaSearch(
        batch, target, maps_of, descend, kappa, binary_search_steps, search_rtol, squared_l2
    )
    eps_min, pgd_images = search.find_eps_min()
    multipliers = torch.tensor(eps_multipliers, dtype=eps_min.dtype, device=eps_min.device)
    isa_eps = multipliers[:, None] * eps_min
    max_distance = torch.cat([eps_min[None], isa_eps])
    shared = {"target": target, "eps_min": eps_min, "eps_min_found": eps_min < 1}
    for index, measure in enumerate(all_measures(interpreter, norms, class_sets)):
        isa_images, gamma, is_capped = search.find_gamma(isa_eps, measure)
        adversarial = torch.cat([pgd_images[None], isa_images])
        extras = {name: values.expand(len(adversarial), -1) for name, values in shared.items()}
        extras["gamma"] = _with_zero_first(gamma)
        extras["gamma_capped"] = _with_zero_first(is_capped)
        extras |= measure_extras(batch, adversarial, target, maps_of, measure)
        yield AttackOutput(index, adversarial, max_distance, extras)


def _with_zero_first(values: Tensor) -> Tensor:
    """`[E, N]` from ISA's values `[E - 1, N]`: 0 for the plain attack comes first."""
    return torch.cat([torch.zeros_like(values[:1]), values])


def measure_extras(
    batch: AttackBatch,
    adversarial: Tensor,
    target: Tensor,
    interpreter: MapInterpreter,
    measure: DiscrepancyMeasure,
) -> dict[str, Tensor]:
    """Extras `[E, N]` of images `[E, N, C, H, W]`, by the unfolded network and one measure.

    - discrepancy: D of C.5-2, squared for l2;
    - normalised_discrepancy: what the image adds to NDS (C.5-6);
    - n_constant_maps: how many maps the normalised discrepancy leaves out (C.5 I15);
    - is_valid: whether the image counts in NDS. C.5-6: f_t' >= f_t with the attack, f_t' <= f_t
      without it (t' is the target class, t the true one). Also some map is not constant.
    """
    n_classes = len(batch.network.head)
    classes = counted_classes(measure.class_set, batch.labels, target, n_classes)

    def margin_and_maps(images: Tensor) -> tuple[Tensor, Tensor]:
        """The margin f_t' - f_t, `[N]`, and the maps."""
        logits = batch.network(images.float())
        margin = logits.gather(1, target[:, None]) - logits.gather(1, batch.labels[:, None])
        return margin[:, 0], interpreter.maps(batch.network, images, classes)

    rows: list[dict[str, Tensor]] = []
    with torch.no_grad():
        clean_margin, clean_maps = margin_and_maps(batch.images)
        for images in adversarial:
            margin, maps = margin_and_maps(images)
            normalised, n_constant = normalised_discrepancy(maps, clean_maps, measure.norm)
            rows.append(
                {
                    "discrepancy": interpreter.discrepancy(maps, clean_maps, measure.norm),
                    "normalised_discrepancy": normalised,
                    "n_constant_maps": n_constant,
                    "is_valid": (margin >= 0) & (clean_margin <= 0) & normalised.isfinite(),
                }
            )
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
