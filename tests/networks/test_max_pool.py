"""Max-pooling: torch's values and derivatives, bit for bit, where entries are equal too."""

import torch

from irpipe.networks.max_pool import MaxPool2d


def test_max_pooling_has_torchs_values_and_derivatives() -> None:
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(4, 3, 7, 6, generator=generator)
    images[:2] = images[:2].round()  # many squares have several largest entries
    images.requires_grad_()
    torchs = torch.nn.MaxPool2d(2)(images)
    ours = MaxPool2d(2)(images)
    assert torch.equal(ours, torchs)
    weights = torch.randn(torchs.shape, generator=generator)
    gradients = [
        torch.autograd.grad(weights.mul(output).sum(), images) for output in (ours, torchs)
    ]
    assert torch.equal(*(gradient for (gradient,) in gradients))


def test_max_pooling_can_be_differentiated_twice() -> None:
    images = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: MaxPool2d(2)(x) ** 3, images)
