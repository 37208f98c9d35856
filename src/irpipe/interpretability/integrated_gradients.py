"""Integrated gradients of a logit from a black image, as a sum or by quadrature (C.3 T7)."""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from irpipe.interpretability._two_layer_ig import is_smooth_two_layer, two_layer_ig
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.network import Network
from irpipe.option_types import IgRule

# Bounds the memory: pixels that `_autograd_ig` differentiates at once.
MAX_ELEMENTS = 2**18
# The released networks need so many for the sum of 100 terms to the rounding of float32.
N_POINTS = 8


class PathRule(NamedTuple):
    """Points `alphas[i] * x` of a path, and how many terms of a sum each stands for, `[A]`."""

    alphas: Tensor
    n_terms: Tensor


def integrated_gradients(
    network: Network | FoldedNetwork,
    images: Tensor,
    classes: Tensor | None,
    ig_steps: int,
    ig_rule: IgRule,
) -> Tensor:
    """Integrated gradients `[N, K, C, H, W]` of `images` `[N, C, H, W]` for `classes` `[N, K]`.

    `classes` of None means all classes. With m = `ig_steps`, they are

        x * (1/m) sum_{j = 1}^m grad f_c(j x / m)

    `ig_rule` "sum" adds these m terms. "quadrature" needs the gradient at the few points of
    `gauss_rule` only. It is for networks whose gradient is smooth along the path, which of the
    released ones are those of Small, with softplus; other networks get the sum (C.3 T7).

    Differentiable with respect to the images.
    """
    if ig_rule == "sum" or not is_smooth_two_layer(network.backbone):
        alphas = torch.arange(1, ig_steps + 1, dtype=images.dtype, device=images.device) / ig_steps
        rule = PathRule(alphas, torch.ones_like(alphas))
        return _autograd_ig(network, images, classes, ig_steps, rule)
    points = gauss_rule(ig_steps)
    if isinstance(network, FoldedNetwork):
        return two_layer_ig(network, images, classes, points)
    alphas, weights = torch.tensor(points, dtype=images.dtype, device=images.device).T
    return _autograd_ig(network, images, classes, ig_steps, PathRule(alphas, weights * ig_steps))


@cache
def gauss_rule(n_terms: int) -> tuple[tuple[float, float], ...]:
    """Points alpha_i and weights w_i of the Gauss rule of a right Riemann sum of m = `n_terms`.

        sum_i w_i g(alpha_i) = (1/m) sum_{j = 1}^m g(j / m)

    for all polynomials g of degree less than twice the number of points. That number is
    `N_POINTS`. If m is less, it is m, and the rule is the sum itself.

    The points are the zeros of the polynomial that is orthogonal to all lower ones under the
    sum (the discrete Chebyshev polynomial). The Gauss-Legendre rule is the limit of large m.
    Source: G. H. Golub and J. H. Welsch, "Calculation of Gauss quadrature rules", Math. Comp.
    23 (1969), 221-230, who take the eigenvectors of the polynomials' Jacobi matrix.
    """
    n_points = min(N_POINTS, n_terms)
    k = np.arange(1, n_points)
    off_diagonal = np.sqrt(k**2 * (n_terms**2 - k**2) / (4 * (4 * k**2 - 1)))
    jacobi_matrix = np.diag(np.full(n_points, (n_terms + 1) / 2)) + np.diag(off_diagonal, -1)
    j, eigenvectors = np.linalg.eigh(jacobi_matrix)  # of the lower triangle
    return tuple(zip((j / n_terms).tolist(), (eigenvectors[0] ** 2).tolist(), strict=True))


def _autograd_ig(
    network: Network | FoldedNetwork,
    images: Tensor,
    classes: Tensor | None,
    ig_steps: int,
    rule: PathRule,
) -> Tensor:
    """Integrated gradients `[N, K, C, H, W]` of any network, by autograd through all of it."""
    total = torch.zeros((), device=images.device)
    chunk_size = max(1, MAX_ELEMENTS // images.numel())
    for chunk in zip(*(torch.split(column, chunk_size) for column in rule), strict=True):
        if _is_differentiated(images):
            # The backward pass computes the chunk again, so that memory stays bounded.
            gradients = checkpoint(
                _summed_gradients,
                network,
                images,
                classes,
                PathRule(*chunk),
                use_reentrant=False,
                preserve_rng_state=False,
            )
        else:
            gradients = _summed_gradients(network, images, classes, PathRule(*chunk))
        total = total + gradients
    return images[:, None] * total / ig_steps


def _summed_gradients(
    network: Network | FoldedNetwork, images: Tensor, classes: Tensor | None, rule: PathRule
) -> Tensor:
    """Weighted sum of the gradients of f_c at the points of the rule, `[N, K, C, H, W]`."""
    is_differentiated = _is_differentiated(images)
    with torch.enable_grad():
        path = (rule.alphas.view(-1, 1, 1, 1, 1) * images).flatten(0, 1)
        if not is_differentiated:
            path = path.detach().requires_grad_()
        logits = network(path).view(len(rule.alphas), len(images), -1)
        if classes is not None:
            logits = torch.take_along_dim(logits, classes[None], dim=2)
        gradients = [
            torch.autograd.grad(
                logit.sum(), path, retain_graph=True, create_graph=is_differentiated
            )[0]
            for logit in logits.unbind(2)
        ]
    weights = rule.n_terms.view(-1, 1, 1, 1, 1)
    sums = [(weights * gradient.view(-1, *images.shape)).sum(dim=0) for gradient in gradients]
    return torch.stack(sums, dim=1)


def _is_differentiated(images: Tensor) -> bool:
    """Whether the maps need a gradient with respect to the images."""
    return images.requires_grad and torch.is_grad_enabled()
