"""Attack against interpretability: change the maps and keep the prediction (paper eq (7), protocol C.6-2)."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from irpipe.ascent import Case, Update, attain, noise, sign_steps
from irpipe.attacks import Outcome
from irpipe.attacks.parts.margin import lead
from irpipe.errors import IrpipeError
from irpipe.maps.discrepancy import distance
from irpipe.maps.interpret import interpret
from irpipe.maps.kendall import kendall
from irpipe.models import Folded, Network
from irpipe.quantities import Change, Count, Interpreter, NotNegative, Positive, Radii


def attack(
    case: Case,
    *,
    eps: Radii,
    interpreter: Interpreter = "cam",
    objective: Change = "topk",  # what the steps raise, C.6-2
    top: Count = 8,  # entries of the clean map that are to fall, C.6-2
    steps: Count = 200,  # C.6-2
    step_size: Positive = 0.01,  # C.6-2
    random_start: bool = True,  # C.6-2
    hinge: NotNegative = 0,  # eq (7)'s lambda; the released code has no such term, C.6-2
    kappa: NotNegative = 0,  # the prediction's lead beyond which the hinge gains nothing; 0 in eq (7)
    images: Count = 200,  # C.6-2
) -> Iterator[Outcome]:
    """Yield the last iterate, `[E, N, C, H, W]`: all radii are one batch.

    It raises the change of the true class's map that `objective` names (`_change`); with a hinge, less `hinge` times
    the lead max_{j != t} f_j - f_t over the clean prediction t, as far as that exceeds -kappa. The start is drawn as
    the released code draws it for each radius, behind the targets of all images, which it never uses.
    """
    shape, like = (len(eps), *case.images.shape), case.images
    radii = torch.tensor(eps, dtype=torch.float64, device=like.device).view(-1, 1, 1, 1, 1)
    start = like.expand(shape)
    if random_start:
        if case.first == 0:
            case.rng.randint(len(case.network.head) - 1, size=images)
        start = (start + radii * noise(case.rng, "uniform", 1.0, like)).clamp(0, 1)
    with torch.no_grad():
        logits = case.folded(like.float())
    columns = case.labels[:, None]
    if objective == "two_class":
        others = logits.scatter(1, columns, -torch.inf).argmax(dim=1, keepdim=True)
        columns = torch.cat([columns, others], dim=1)
    # a row an image and radius
    labels, prediction, centre = (
        part.repeat(len(eps), *[1] * (part.dim() - 1)) for part in (columns, logits.argmax(dim=1), like)
    )
    with torch.no_grad():
        change = _change(objective, interpret(case.folded, like.float(), interpreter, columns), top, len(eps))
    radii = radii.to(like.dtype).expand(len(eps), len(like), 1, 1, 1).flatten(0, 1)

    def gain(points: Tensor, rows: Tensor) -> Tensor:
        changed = change(interpret(case.folded, points, interpreter, labels[rows]), rows).sum()
        return changed - hinge * lead(case.folded(points), prediction[rows], kappa).sum() if hinge else changed

    def update(rows: Tensor) -> Update:
        return sign_steps(centre[rows], radii[rows], step_size)

    for _, moved in attain(start.flatten(0, 1), gain, update, [steps], case.label):
        yield Outcome(steps, moved.view(shape).to(like.dtype))


def _change(objective: Change, clean: Tensor, top: int, radii: int) -> Callable[[Tensor, Tensor], Tensor]:
    """How much maps `[m, K, ...]` of the rows `[m]` differ from the `clean` ones `[N, K, ...]` at each radius, `[m]`.

    `topk`: minus the sum of the clean map's `top` largest entries (C.6-2). `centre`: how far the centre of mass has
    moved, in entries; mass is what exceeds the map's least entry (after Ghorbani et al., 2019; their maps are not
    negative). `two_class`: the l1 discrepancy of eq (4), of the true class and the best other one of the clean image.
    `target`: minus the mean l1 distance to the clean map turned over, max + min - map, whose correlation is -1.
    """
    flat = clean.flatten(1)
    if objective == "topk":
        if top > flat.shape[1]:
            raise IrpipeError(f"attack option top: {top}, but the maps have {flat.shape[1]} entries")
        largest = flat.topk(top, dim=1).indices.repeat(radii, 1)
        return lambda maps, rows: -maps.flatten(1).gather(1, largest[rows]).sum(dim=1)
    if objective == "centre":
        at = _centre(clean).repeat(radii, 1)
        return lambda maps, rows: (_centre(maps) - at[rows]).norm(dim=1)
    goal, sign = (clean, 1) if objective == "two_class" else (_turned(clean), -1)
    goal = goal.repeat(radii, *[1] * (clean.dim() - 1))
    return lambda maps, rows: sign * distance(maps, goal[rows], "l1").mean(dim=1)


def _centre(maps: Tensor) -> Tensor:
    """Centre of mass of each image's map `[m, K, ..., h, w]`, row and column, `[m, 2]`; 0, 0 of a constant map."""
    plane = maps.flatten(1, -3).sum(dim=1)
    mass = plane - plane.amin(dim=(1, 2), keepdim=True)
    share = mass / mass.sum(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(mass.dtype).tiny)
    rows, columns = (torch.arange(size, device=maps.device, dtype=maps.dtype) for size in plane.shape[1:])
    return torch.stack([share.sum(dim=2) @ rows, share.sum(dim=1) @ columns], dim=1)


def _turned(maps: Tensor) -> Tensor:
    flat = maps.flatten(1)
    turned = flat.amax(dim=1, keepdim=True) + flat.amin(dim=1, keepdim=True) - flat
    return turned.view_as(maps)


def measure(case: Case, images: Tensor, *, interpreter: Interpreter = "cam") -> dict[str, Tensor]:
    """What an attack did to images `[E, N, C, H, W]`, by the plain network: arrays `[E, N]`.

    `tau`: Kendall's tau-b between the true class's map and the clean one; `defined`: neither is constant (else tau is
    0, C.5 I15); `kept`: the prediction is the clean one, right or wrong (C.6-2).
    """
    with torch.no_grad():
        clean, *moved = [_true_maps(case.network, batch, case.labels, interpreter) for batch in (case.images, *images)]
        before, *after = [case.network(batch.float()).argmax(dim=1) for batch in (case.images, *images)]
    tau, defined = kendall(clean, torch.stack(moved))
    return {"tau": tau, "defined": defined, "kept": torch.stack(after) == before}


def _true_maps(network: Network | Folded, images: Tensor, labels: Tensor, interpreter: Interpreter) -> Tensor:
    """The maps of the true classes, `[N, entries]`."""
    return interpret(network, images.float(), interpreter, labels[:, None]).flatten(1)
