"""IG-Norm and IG-Norm-Sum (Chen et al., 2019): small integrated gradients of the loss (C.2)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irpipe.methods import Objective
from irpipe.methods._two_layer_ig_norm import two_layer_attributions
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.network import Classifier
from irpipe.networks.two_layer import is_two_layer
from irpipe.option_types import Count, NotNegative


def objective(
    network: Classifier,
    images: Tensor,
    labels: Tensor,
    *,
    # Cross-entropy of the perturbed images: IG-Norm-Sum.
    adversarial: bool,
    # Chen et al. take 1.0, and 0.1 for IG-Norm-Sum (C.3 T6).
    reg_weight: NotNegative = 1.0,
    # Integrate the gradient of each image's own loss, as Chen et al. do, instead of the
    # gradient of the batch mean (C.3 T6).
    per_image: bool = False,
    # Terms of the sum over the path from x to x' (C.3 T7). Chen et al. take 50.
    ig_steps: Count = 5,
    # The same in the inner maximisation. None means `ig_steps`. Chen et al. take 10.
    inner_ig_steps: Count | None = None,
) -> Objective:
    """IG-Norm: minimise cross-entropy + reg_weight * mean_i max_{x'} ||ig_i||_1.

    ig_i are the integrated gradients of the loss of image i from x to x'; see `attributions`.

    The released code integrates the gradient of the batch mean, which is 1/N of the gradient of
    one image's loss. So its effective weight is `reg_weight` / N, unless `per_image` (C.3 T6).
    """
    weight = reg_weight if per_image else reg_weight / len(labels)
    clean_cross_entropy = None if adversarial else F.cross_entropy(network(images), labels)

    def with_ig_steps(n_terms: int) -> Callable[[Tensor], Tensor]:
        """Return the loss whose integrated gradients are sums of `n_terms` terms."""

        def loss(perturbed: Tensor) -> Tensor:
            cross_entropy = clean_cross_entropy
            if cross_entropy is None:
                cross_entropy = F.cross_entropy(network(perturbed), labels)
            ig = attributions(network, images, perturbed, labels, n_terms)
            return cross_entropy + weight * ig.abs().flatten(1).sum(dim=1).mean()

        return loss

    # In IG-Norm-Sum the batch size weighs the norm against the cross-entropy of the same x'.
    is_separable = per_image or not adversarial
    inner_loss = with_ig_steps(inner_ig_steps or ig_steps)
    return Objective(with_ig_steps(ig_steps), inner_loss, separable=is_separable)


def attributions(
    network: Classifier, images: Tensor, perturbed: Tensor, labels: Tensor, ig_steps: int
) -> Tensor:
    """Integrated gradients `[N, C, H, W]` of each image's cross-entropy from x to x':

        ig = (x' - x) * (1/m) sum_{k=1..m} grad CE(f(x + (x' - x) k/m), t),  m = ig_steps

    x are `images`, x' are `perturbed`. Each term is taken at the right end of its interval
    (C.3 T7). Differentiable with respect to `perturbed` and the weights of the network.
    """
    if isinstance(network, FoldedNetwork) and is_two_layer(network.backbone, nn.ReLU):
        return two_layer_attributions(network, images, perturbed, labels, ig_steps)
    change = perturbed - images
    shares = torch.arange(1, ig_steps + 1, dtype=change.dtype, device=change.device) / ig_steps
    # All terms are in one batch, [m N, C, H, W].
    path = (images + shares.view(-1, 1, 1, 1, 1) * change).flatten(0, 1)
    if not path.requires_grad:
        path.requires_grad_()
    loss = F.cross_entropy(network(path), labels.repeat(ig_steps), reduction="sum")
    (gradient,) = torch.autograd.grad(loss, path, create_graph=True)
    return change * gradient.view(ig_steps, *change.shape).mean(dim=0)
