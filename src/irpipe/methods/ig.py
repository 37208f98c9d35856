"""IG-Norm and IG-Norm-Sum (Chen et al., 2019): small integrated gradients of the loss. Protocol C.2, C.3 T6, T7."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.methods import Objective
from irpipe.models import Classifier
from irpipe.quantities import Count, NotNegative


def objective(
    network: Classifier,
    images: Tensor,
    labels: Tensor,
    *,
    adversarial: bool,  # cross-entropy of the perturbed images: IG-Norm-Sum
    weight: NotNegative = 1.0,  # of the attributions' l1 norm; Chen et al.: 1.0, and 0.1 for IG-Norm-Sum, T6
    per_image: bool = False,  # gradients of each image's own loss, as in Chen et al., not of the batch mean, T6
    points: Count = 5,  # of the path from clean to perturbed, T7; Chen et al.: 50
    inner_points: Count | None = None,  # the same in the inner maximisation; Chen et al.: 10; none: as `points`
) -> Objective:
    """Cross-entropy plus `weight` times the mean l1 norm of the loss's integrated gradients from clean to perturbed.

    The released code differentiates the batch mean, so its effective weight is 1/N of the nominal one; this is the
    default, and `per_image` lifts it (T6).
    """

    def total(points: int) -> Callable[[Tensor], Tensor]:
        """The whole loss, attributions taken at that many points."""

        def loss(perturbed: Tensor) -> Tensor:
            fitted = F.cross_entropy(network(perturbed if adversarial else images), labels)
            attributed = attributions(network, images, perturbed, labels, points)
            scale = weight if per_image else weight / len(labels)
            return fitted + scale * attributed.abs().flatten(1).sum(dim=1).mean()

        return loss

    # the batch's size weighs the norm against a loss of the same images, in IG-Norm-Sum
    return Objective(total(points), total(inner_points or points), apart=per_image or not adversarial)


def attributions(network: Classifier, images: Tensor, perturbed: Tensor, labels: Tensor, points: int) -> Tensor:
    """Integrated gradients `[N, C, H, W]` of each image's cross-entropy from `images` to `perturbed`.

    A right Riemann sum of `points` terms (T7), all in one batch; differentiable with respect to `perturbed` and the
    network's weights.
    """
    move = perturbed - images
    share = torch.arange(1, points + 1, device=move.device).view(-1, 1, 1, 1, 1) / points
    path = (images + share * move).flatten(0, 1)
    if not path.requires_grad:
        path.requires_grad_()
    loss = F.cross_entropy(network(path), labels.repeat(points), reduction="sum")
    (gradient,) = torch.autograd.grad(loss, path, create_graph=True)
    return move * gradient.view(points, *move.shape).mean(dim=0)
