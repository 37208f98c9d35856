"""Check an attack's images and score them with the network itself (D.4)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.ascent.norms import norms
from irpipe.errors import IrpipeError
from irpipe.networks.network import Network
from irpipe.option_types import EpsNorm
from irpipe.runtime.memory import map_fitting_rows

# Rounding may add this to the largest distance that an image may have.
ROUNDING_TOLERANCE = 1e-6


class LogitsNotFiniteError(IrpipeError):
    """A network gives logits that are not finite for images that are."""


def check_images(
    adversarial: Tensor, clean: Tensor, max_distance: Tensor, kind: str, norm: EpsNorm = "linf"
) -> Tensor:
    """Measured distances `[E, N]` of `adversarial` `[E, N, C, H, W]` from `clean` `[N, ...]`.

    `max_distance` `[E, N]` is how far each image may lie from its clean one, in the same norm.
    Raises RuntimeError if the images have another shape, are not finite, leave [0, 1] or lie too
    far away.
    """
    shape = (len(max_distance), *clean.shape)
    if adversarial.shape != shape:
        raise RuntimeError(
            f"attack {kind}: yielded images of shape {tuple(adversarial.shape)}, not {shape}"
        )
    if not bool(adversarial.isfinite().all()):
        raise RuntimeError(f"attack {kind}: yielded images that are not finite")
    if bool(((adversarial < 0) | (adversarial > 1)).any()):
        raise RuntimeError(f"attack {kind}: yielded pixels outside [0, 1]")
    distance = norms(adversarial - clean, norm)
    if not bool((distance <= max_distance + ROUNDING_TOLERANCE).all()):
        worst = int((distance - max_distance).argmax())
        reached = float(distance.flatten()[worst])
        allowed = float(max_distance.flatten()[worst])
        raise RuntimeError(
            f"attack {kind}: moved an image by {reached:.6f} where {allowed:.6f} is allowed"
            f"{'' if norm == 'linf' else f', in {norm}'}"
        )
    return distance


def _logits(network: Network, images: Tensor) -> Tensor:
    return map_fitting_rows(lambda part: [network(part.float())], images)[0]


def score_images(network: Network, adversarial: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """`prediction`, `correct` and cross-entropy `loss` of images `[E, N, C, H, W]`, each `[E, N]`.

    Raises LogitsNotFiniteError if logits are not finite.
    """
    with torch.no_grad():
        logits = torch.stack([_logits(network, images) for images in adversarial])
    if not bool(logits.isfinite().all()):
        raise LogitsNotFiniteError("the network gives logits that are not finite")
    labels = labels.expand(len(adversarial), -1)
    prediction = logits.argmax(dim=2)
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return {
        "prediction": prediction,
        "correct": prediction == labels,
        "loss": loss.view_as(prediction),
    }
