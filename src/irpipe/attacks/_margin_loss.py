"""The margin loss of Carlini and Wagner (2017), which several attacks maximise or bound."""

import math

import torch
from torch import Tensor

from irpipe.networks.network import Classifier
from irpipe.runtime.memory import map_fitting_rows


def margin_loss(logits: Tensor, classes: Tensor, kappa: float = math.inf) -> Tensor:
    """C&W margin loss, `[N]`: max_{j != c} f_j - f_c, but not below -kappa.

    `classes` `[N]` holds the classes c. Negative: c wins. Positive: another class wins.

    Paper eq (6), with c = t' (the target class), and eq (7), with c = t. The paper calls
    kappa tau; tau is Kendall's here. AutoAttack's `margin` has the opposite sign.
    """
    column = classes[:, None]
    own_logit = logits.gather(1, column)[:, 0]
    best_other = logits.scatter(1, column, -math.inf).amax(dim=1)
    return (best_other - own_logit).clamp(min=-kappa)


def image_margin_loss(network: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """`margin_loss` of images `[N, C, H, W]`, `[N]`. Positive: the image is misclassified."""

    def margin(part: Tensor, classes: Tensor) -> list[Tensor]:
        return [nan_to_inf(margin_loss(network(part.float()), classes))]

    with torch.no_grad():
        return map_fitting_rows(margin, images, labels)[0]


def nan_to_inf(margin: Tensor) -> Tensor:
    """Margin losses `[N]` in which NaN is infinity.

    So an image with logits of NaN is the worst one. The evaluator then finds and refuses it. NaN
    itself would answer every comparison with False, and the image would be passed over.
    """
    return torch.where(margin.isnan(), math.inf, margin)
