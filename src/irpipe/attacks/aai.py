"""Attack against interpretability: change the maps and keep the prediction (paper eq (7), protocol C.6-2)."""

from collections.abc import Iterator

import torch
from torch import Tensor

from irpipe.ascent import Case, attain, noise, sign_steps
from irpipe.attacks import Outcome
from irpipe.attacks.parts.margin import lead
from irpipe.errors import IrpipeError
from irpipe.maps.interpret import interpret
from irpipe.maps.kendall import kendall
from irpipe.models import Folded, Network
from irpipe.quantities import Count, Interpreter, NotNegative, Positive, Radii


def attack(
    case: Case,
    *,
    eps: Radii,
    interpreter: Interpreter = "cam",
    top: Count = 8,  # entries of the clean map that are to fall, C.6-2
    steps: Count = 200,  # C.6-2
    step_size: Positive = 0.01,  # C.6-2
    random_start: bool = True,  # C.6-2
    hinge: NotNegative = 0,  # eq (7)'s lambda; the released code has no such term, C.6-2
    kappa: NotNegative = 0,  # the prediction's lead beyond which the hinge gains nothing; 0 in eq (7)
    images: Count = 200,  # C.6-2
) -> Iterator[Outcome]:
    """Yield the last iterate, `[E, N, C, H, W]`: all radii are one batch.

    It decreases the sum of the `top` largest entries of the true class's clean map, and with a hinge, `hinge` times
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
        clean = _true_maps(case.folded, like, case.labels, interpreter)
        if top > clean.shape[1]:
            raise IrpipeError(f"attack option top: {top}, but the maps have {clean.shape[1]} entries")
        prediction = case.folded(like.float()).argmax(dim=1)
    # a row an image and radius
    largest, labels, prediction, centre = (
        part.repeat(len(eps), *[1] * (part.dim() - 1))
        for part in (clean.topk(top, dim=1).indices, case.labels, prediction, like)
    )
    radii = radii.to(like.dtype).expand(len(eps), len(like), 1, 1, 1).flatten(0, 1)

    def gain(points: Tensor, rows: Tensor) -> Tensor:
        fall = -_true_maps(case.folded, points, labels[rows], interpreter).gather(1, largest[rows]).sum()
        return fall - hinge * lead(case.folded(points), prediction[rows], kappa).sum() if hinge else fall

    def update(points: Tensor, gradients: Tensor, rows: Tensor) -> Tensor:
        return sign_steps(centre[rows], radii[rows], step_size)(points, gradients)

    for _, moved in attain(start.flatten(0, 1), gain, update, [steps], case.label):
        yield Outcome(steps, moved.view(shape).to(like.dtype))


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
