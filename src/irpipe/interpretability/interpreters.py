"""Interpreters: which parts of an image speak for a class (paper Sec. 2; C.3)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.interpretability.integrated_gradients import integrated_gradients
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.network import Network
from irpipe.option_types import IgRule, Interpreter, InterpreterVariant


def interpret(
    network: Network | FoldedNetwork,
    images: Tensor,
    kind: Interpreter,
    classes: Tensor | None = None,
    *,
    variant: InterpreterVariant = "released",
    ig_steps: int = 100,
    ig_rule: IgRule = "quadrature",
) -> Tensor:
    """Maps `[N, K, ...]` of `images` `[N, C, H, W]` for the `classes` `[N, K]`.

    The images are float32 in [0, 1]. `classes` of None means all classes.

    | kind      | map     | "released"                     | "original"                       |
    |-----------|---------|--------------------------------|----------------------------------|
    | cam       | h, w    | sum_k W_ck A_k                 | that / u: sums to the logit      |
    | gradcam   | h, w    | sum_k w_k A_k                  | relu(sum_k w_k A_k)              |
    | gradcampp | h, w    | sum_k relu(W_ck) A_k           | relu(sum_k relu(W_ck) A_k / d_k) |
    | ig        | C, H, W | of the network with softplus   | of the network itself            |
    | repr      | h, w    | all A_k, `[N, channels, h, w]` | the same                         |

    A_k is a feature map before pooling, a_k its mean, W the head, u = h w, w_k the mean of
    df_c / dA_k over the map, d_k = 2 + W_ck a_k.

    - cam: paper eq (1); the released code leaves out 1 / u (C.3 T1).
    - gradcam: Selvaraju et al. (2017). The released code has none (C.3 T14). A head after
      average pooling makes w_k = W_ck / u.
    - gradcampp: Chattopadhay et al. (2018). The released code leaves out d_k and the last ReLU.
      The original is singular where d_k = 0, which features without a ReLU can reach (C.3 T13).
    - ig: paper eq (2), of the logit, from a black image, as a right Riemann sum of `ig_steps`
      terms; `ig_rule` says how to compute the sum (`integrated_gradients`). The released code
      has softplus in place of ReLU (C.3 T7).
    - repr: features without a ReLU; they belong to no class (C.5 I11).

    Differentiable with respect to the images.
    """
    unfolded = network.network if isinstance(network, FoldedNetwork) else network
    if kind == "repr":
        return unfolded.features(images)
    if kind == "ig":
        if variant == "released":
            network = network.with_softplus
        return integrated_gradients(network, images, classes, ig_steps, ig_rule)
    if kind == "gradcampp" and variant == "original":
        return _original_gradcampp(unfolded, images, classes)
    maps = network.maps(images, positive_head=kind == "gradcampp")
    if classes is not None:
        maps = torch.take_along_dim(maps, classes[:, :, None, None], dim=1)
    if kind == "gradcam" or (kind == "cam" and variant == "original"):
        maps = maps / (maps.shape[2] * maps.shape[3])
    return F.relu(maps) if kind == "gradcam" and variant == "original" else maps


def _original_gradcampp(network: Network, images: Tensor, classes: Tensor | None) -> Tensor:
    """GradCAM++, `[N, K, h, w]`: relu(sum_k relu(W_ck) A_k / (2 + W_ck a_k))."""
    features = network.features(images)  # A, [N, channels, h, w]
    head = network.head.expand(len(images), -1, -1) if classes is None else network.head[classes]
    weight = F.relu(head) / (2 + head * features.mean(dim=(2, 3))[:, None])
    return F.relu(torch.einsum("nck,nkhw->nchw", weight, features))
