"""Integrated gradients of the cross-entropy of Small with fixed weights, derivatives written out.

Let W, b be the first convolution, V, c the second, M, m the affine end and * the product entry by
entry. With the masks i = [y > 0], j = [z > 0] of the two ReLUs,

    y = W x + b,  z = V relu(y) + c,  f = M relu(z) + m,  q = softmax(f)
    grad CE(f, t) = W^T (i * V^T (j * M^T (q - e_t)))

On the path from x to x', y is linear: W is applied to x and to d = x' - x once, and its transpose
once to the weighted sum over the points of the path.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.two_layer import two_convolutions


def two_layer_attributions(
    network: FoldedNetwork, images: Tensor, perturbed: Tensor, labels: Tensor, ig_steps: int
) -> Tensor:
    """The same as `ig_norm.attributions`, once differentiable with respect to `perturbed`."""
    ig: Tensor = _TwoLayerAttributions.apply(  # type: ignore[no-untyped-call]
        perturbed, images, labels, network, ig_steps
    )
    return ig


class _TwoLayerAttributions(torch.autograd.Function):
    """Integrated gradients and their gradient.

    With the terms k and a_k = k / m of a sum of m, the integrated gradients are

        d * average,  average = (1/m) W^T sum_k i_k * V^T (j_k * M^T (q_k - e_t))

    Let v be the gradient for them and u = W (v * d). The masks are constant almost everywhere, so
    the gradient for x' is v * average plus the Hessian of the cross-entropy times v * d:

        (1/m) W^T sum_k a_k i_k * V^T (j_k * M^T s_k)
        s_k = q_k * (g_k - q_k . g_k),  g_k = M (j_k * V (i_k * u))
    """

    @staticmethod
    def forward(
        ctx: Any,
        perturbed: Tensor,
        images: Tensor,
        labels: Tensor,
        network: FoldedNetwork,
        ig_steps: int,
    ) -> Tensor:
        """Return the integrated gradients `[N, C, H, W]`."""
        first, second = two_convolutions(network.backbone)
        change = perturbed - images
        shares = torch.arange(1, ig_steps + 1, dtype=images.dtype, device=images.device) / ig_steps
        shares = shares.view(-1, 1, 1, 1, 1)
        y = (first.linear(images) + first.bias) + shares * first.linear(change)
        z = second.linear(y.relu()) + second.bias
        mask_y, mask_z = (y > 0).to(y), (z > 0).to(z)
        q = torch.softmax(network.logits_of(z.relu()), dim=-1)
        # Not by one_hot, which looks at the labels' values on a CPU.
        is_label = labels[:, None] == torch.arange(q.shape[-1], device=labels.device)
        error = q - is_label.to(q)
        total = _pull_back(network, error, mask_y, mask_z).mean(dim=0)
        average = first.transposed(total, images.shape[2:])
        ctx.save_for_backward(change, shares, mask_y, mask_z, q, average)
        ctx.network = network
        return change * average

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Return the gradient for `perturbed`."""
        change, shares, mask_y, mask_z, q, average = ctx.saved_tensors
        first, second = two_convolutions(ctx.network.backbone)
        direction = first.linear(gradient * change)  # u
        change_z = mask_z * second.linear(mask_y * direction)
        change_f = ctx.network.logits_of(change_z) - ctx.network.bias  # g_k
        s = q * (change_f - (q * change_f).sum(dim=-1, keepdim=True))
        total = (shares * _pull_back(ctx.network, s, mask_y, mask_z)).mean(dim=0)
        through_path = first.transposed(total, change.shape[2:])
        return gradient * average + through_path, None, None, None, None


def _pull_back(network: FoldedNetwork, rows: Tensor, mask_y: Tensor, mask_z: Tensor) -> Tensor:
    """i * V^T (j * M^T r) for rows r `[m, N, classes]`."""
    _, second = two_convolutions(network.backbone)
    at_z = network.unflatten(rows @ network.matrix)
    return mask_y * second.transposed(mask_z * at_z, mask_y.shape[3:])
