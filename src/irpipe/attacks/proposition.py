"""Proposition 1, image by image: how far the maps must move for the prediction to change (protocol C.6-4).

Maps are CAM with 1/u, which sum to the logit; without it the proposition says nothing (C.3 T1).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from irpipe.ascent import Case
from irpipe.attacks import Outcome, isa
from irpipe.maps.interpret import interpret
from irpipe.quantities import Count, Factors, Index, Positive

AXIS = isa.AXIS
SLACK = 1e-5  # of the largest logit: float32's rounding


def attack(
    case: Case,
    *,
    penalties: Factors = [1.6],  # noqa: B006 (read, never changed)  # radii over the smallest one, C.5 I9
    slope: Positive | None = 1000,  # of steps, as in `irpipe.attacks.isa`; none: the gradient's sign, C.5 I7
    images: Count = 100,  # C.6-4
    seed: Index = 99,  # C.6-4
    batch: Count = 100,
) -> Iterator[Outcome]:
    """Yield targeted attacks of least radius, which keep no map, then sneaking ones, `[E, N, C, H, W]` (C.5-4, C.5-5).

    The latter keep the proposition's own discrepancy (l1, 2-class) small, at `penalties` times that radius. The
    record, `[E, N]`: `target`, the smallest radius and whether there is one, as `irpipe.attacks.isa` has them, and
    what `checked` finds.
    """
    for outcome in isa.attack(case, norms=["l1"], classes=["two"], penalties=penalties, slope=slope):
        extra = {name: outcome.extra[name] for name in ("target", "smallest", "found")}
        yield outcome._replace(extra=extra | checked(case, outcome.images, extra["target"]))


def checked(case: Case, moved: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Both sides of paper eq (5) for images `[E, N, C, H, W]` and targets `[E, N]`, each `[E, N]`.

    `bound`: half the clean image's lead of the true class t over the target t'. `discrepancy`: eq (4). `changed`:
    whether the proposition applies, the prediction being t before and t' after. `tightness`: bound over discrepancy
    where it applies, else 0. Raises RuntimeError if it applies and the discrepancy is below the bound.
    """
    logits, pairs = case.network(case.images.float()), torch.stack([case.labels.expand_as(target), target], dim=2)
    ahead = torch.stack([logits.gather(1, pair) for pair in pairs])
    bound = (ahead[..., 0] - ahead[..., 1]) / 2
    discrepancy, after = [], []
    for images, pair in zip(moved, pairs, strict=True):
        maps, clean = (
            interpret(case.network, x.float(), "cam", pair, variant="literature") for x in (images, case.images)
        )
        discrepancy.append((maps - clean).abs().sum(dim=(1, 2, 3)) / 2)
        after.append(case.network(images.float()).argmax(dim=1))
    changed = (logits.argmax(dim=1) == case.labels) & (torch.stack(after) == target)
    found = torch.stack(discrepancy)
    broken = changed & (found < bound - SLACK * logits.abs().amax(dim=1))
    if bool(broken.any()):
        point, image = (int(place) for place in broken.nonzero()[0])
        sides = f"{float(found[point, image]):.6g} below its bound {float(bound[point, image]):.6g}"
        raise RuntimeError(f"Proposition 1 fails on test image {case.index[image]}: discrepancy {sides}")
    tightness = torch.where(changed & (found > 0), bound / found, 0)
    return {"bound": bound, "discrepancy": found, "changed": changed, "tightness": tightness}
