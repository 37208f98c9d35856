"""IG-Norm's inner loss with derivatives written out, against plain autograd in float64."""

import numpy as np
import pytest
import torch

from irpipe.methods import ig_norm
from irpipe.networks.architectures import build
from irpipe.networks.folded import FoldedNetwork
from irpipe.training.weight_init import draw_weights


@pytest.mark.parametrize("size", [28, 18])  # of 18, the second convolution leaves out a column
@pytest.mark.parametrize("adversarial", [False, True])
def test_inner_loss_and_gradient_are_those_of_autograd(adversarial: bool, size: int) -> None:
    network = build("small", (1, size, size), 10)
    draw_weights(network, np.random.RandomState(3))
    network = network.double().requires_grad_(False)
    network.head *= 30  # as drawn, the logits hardly depend on the image
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(4, 1, size, size, generator=generator, dtype=torch.float64)
    noise = torch.randn(images.shape, generator=generator, dtype=torch.float64)
    perturbed = (images + 0.1 * noise).clamp(0, 1)
    labels = torch.tensor([1, 7, 7, 0])
    results = []
    for classifier in (FoldedNetwork(network, images.shape[1:]), network):
        objective = ig_norm.objective(
            classifier, images, labels, adversarial=adversarial, per_image=True, reg_weight=2.0
        )
        point = perturbed.clone().requires_grad_()
        loss = objective.get_inner_loss()(point)
        results.append((loss.detach(), *torch.autograd.grad(loss, point)))
    (loss, gradient), (expected_loss, expected) = results
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-9)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-9 * expected.abs().max())
    # The integrated gradients matter, not the cross-entropy alone.
    plain = ig_norm.objective(network, images, labels, adversarial=adversarial, reg_weight=0.0)
    assert expected_loss - plain.loss(perturbed) > 0.1
