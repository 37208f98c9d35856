"""Interpreters: which parts of an image speak for a class (paper section 2; protocol C.3 T1, T7, T13, T14; C.5 I11)."""

from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from irpipe.models import Folded, Network
from irpipe.quantities import Interpreter, Variant

INTERPRETERS: tuple[str, ...] = get_args(Interpreter)
CHUNK = 2**18  # numbers in the images that integrated gradients differentiate at once: bounds memory


def interpret(
    network: Network | Folded,
    images: Tensor,
    kind: Interpreter,
    classes: Tensor | None = None,
    *,
    variant: Variant = "code",
    points: int = 100,
) -> Tensor:
    """Maps `[N, K, ...]` of `images` `[N, C, H, W]`, float32 in [0, 1], for the `classes` `[N, K]` (none: all).

    | kind      | map     | "code": the released code's                | "literature"                               |
    |-----------|---------|--------------------------------------------|--------------------------------------------|
    | cam       | h, w    | sum_k W_ck A_k (T1)                        | that / u, paper eq (1): sums to the logit  |
    | gradcam   | h, w    | sum_k w_k A_k, w_k = mean df_c / dA_k      | its positive part (Selvaraju et al., 2017) |
    | gradcampp | h, w    | sum_k relu(W_ck) A_k (T13)                 | relu(sum_k relu(W_ck) A_k / (2 + W_ck a_k))|
    | ig        | C, H, W | of the network with softplus for ReLU (T7) | of the network itself                      |
    | repr      | h, w    | all A_k, `[N, channels, h, w]`, not rectified, of no class (C.5 I11)                    |

    A_k are the feature maps before pooling, a_k their means, u = h w, W the head. The released code has no GradCAM
    (T14); for a head behind average pooling w_k is W_ck / u, so it is the mean CAM. True GradCAM++ (Chattopadhay et
    al., 2018) is singular where W_ck a_k = -2, which features that were never rectified can reach. Integrated
    gradients (paper eq (2)) are of the logit, from black, by a right Riemann sum of `points` terms.

    Differentiable with respect to the images.
    """
    whole = network.network if isinstance(network, Folded) else network
    if kind == "repr":
        return whole.features(images)
    if kind == "ig":
        return _integrated(network.softened if variant == "code" else network, images, classes, points)
    if kind == "gradcampp" and variant == "literature":
        return _true_gradcampp(whole, images, classes)
    maps = network.maps(images, positive=kind == "gradcampp")
    if classes is not None:
        maps = torch.take_along_dim(maps, classes[:, :, None, None], dim=1)
    if kind == "gradcam" or (kind == "cam" and variant == "literature"):
        maps = maps / (maps.shape[2] * maps.shape[3])
    return F.relu(maps) if kind == "gradcam" and variant == "literature" else maps


def _true_gradcampp(network: Network, images: Tensor, classes: Tensor | None) -> Tensor:
    features = network.features(images)
    head = network.head.expand(len(images), -1, -1) if classes is None else network.head[classes]
    weight = F.relu(head) / (2 + head * features.mean(dim=(2, 3))[:, None])
    return F.relu(torch.einsum("nck,nkhw->nchw", weight, features))


def _integrated(network: Network | Folded, images: Tensor, classes: Tensor | None, points: int) -> Tensor:
    shares = torch.arange(1, points + 1, dtype=images.dtype, device=images.device) / points
    further = images.requires_grad and torch.is_grad_enabled()
    total = torch.zeros((), device=images.device)
    for part in torch.split(shares, max(1, CHUNK // images.numel())):
        if further:  # a chunk is computed again on the way back, rather than kept
            found = checkpoint(
                _gradients, network, images, classes, part, use_reentrant=False, preserve_rng_state=False
            )
        else:
            found = _gradients(network, images, classes, part)
        total = total + found
    return images[:, None] * total / points


def _gradients(network: Network | Folded, images: Tensor, classes: Tensor | None, shares: Tensor) -> Tensor:
    """Gradients `[N, K, C, H, W]` of the logits of `classes`, summed over the images times each of the `shares`."""
    further = images.requires_grad and torch.is_grad_enabled()
    with torch.enable_grad():
        path = (shares.view(-1, 1, 1, 1, 1) * images).flatten(0, 1)
        path = path if further else path.detach().requires_grad_()
        logits = network(path).view(len(shares), len(images), -1)
        if classes is not None:
            logits = torch.take_along_dim(logits, classes[None], dim=2)
        rows = [
            torch.autograd.grad(column.sum(), path, retain_graph=True, create_graph=further)[0]
            for column in logits.unbind(2)
        ]
    return torch.stack([row.view(len(shares), *images.shape).sum(dim=0) for row in rows], dim=1)
