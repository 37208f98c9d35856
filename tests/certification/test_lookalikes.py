"""Networks that look like Small or Pool and compute something else have no proofs."""

from collections.abc import Callable

import pytest
import torch
from pool_referee import SHAPE as POOL_SHAPE
from pool_referee import tiny_pool
from small_referee import tiny_image, tiny_network
from torch import Tensor, nn

from irpipe.certification.certify import certify_image
from irpipe.certification.patch_network import is_small
from irpipe.certification.pool_network import is_pool
from irpipe.certification.recheck import CertificateChecker
from irpipe.errors import IrpipeError
from irpipe.networks.network import Network

EPS = 0.01


class Doubled(nn.Conv2d):
    """A convolution, times 2."""

    def forward(self, input: Tensor) -> Tensor:
        """Return twice the convolution."""
        return 2 * super().forward(input)


class Leaky(nn.ReLU):
    """A ReLU that lets a tenth of negative inputs through."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the larger of x and x / 10."""
        return torch.maximum(input, input / 10)


class Inverted(Network):
    """A network that sees the negative of an image."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of 1 - x."""
        return super().forward(1 - images)


class Twice(nn.Sequential):
    """Layers whose output is doubled."""

    def forward(self, input: Tensor) -> Tensor:
        """Return twice the output."""
        output: Tensor = super().forward(input)
        return 2 * output


def with_layer(index: int, layer: nn.Module) -> Callable[[Network], Network]:
    """Replace a layer of a network; a convolution keeps its weights."""

    def replace(network: Network) -> Network:
        layer.load_state_dict(network.backbone[index].state_dict())  # type: ignore[index]
        network.backbone[index] = layer  # type: ignore[index]
        return network

    return replace


def of_class(kind: type[nn.Module]) -> Callable[[Network], Network]:
    """Give a network, or its backbone, another class."""

    def replace(network: Network) -> Network:
        (network if issubclass(kind, Network) else network.backbone).__class__ = kind
        return network

    return replace


SMALL_LOOKALIKES = {
    "doubled": with_layer(0, Doubled(1, 4, 4, 2, padding=1)),
    "wrapped": with_layer(2, nn.Conv2d(4, 4, 4, 2, padding=1, padding_mode="circular")),
    "leaky": with_layer(1, Leaky()),
    "smooth": with_layer(3, nn.Softplus()),
    "twice": of_class(Twice),
    "inverted": of_class(Inverted),
}
POOL_LOOKALIKES = {
    "doubled": with_layer(0, Doubled(1, 2, 5, padding=2)),
    "leaky": with_layer(2, Leaky()),
    "ceil": with_layer(1, nn.MaxPool2d(2, ceil_mode=True)),
    "overlapping": with_layer(1, nn.MaxPool2d(3, 2, padding=1)),
    "twice": of_class(Twice),
    "inverted": of_class(Inverted),
}


@pytest.mark.parametrize("name", SMALL_LOOKALIKES)
def test_what_looks_like_small_has_no_proof(name: str) -> None:
    network, image = tiny_network(1), tiny_image(1)
    label = int(network(image[None]).argmax())
    certificate = certify_image(network, image, label, EPS).certificate
    other = SMALL_LOOKALIKES[name](tiny_network(1))
    assert not torch.allclose(network(image[None]), other(image[None]), atol=1e-3)
    assert is_small(other.backbone) is (name == "inverted")
    with pytest.raises(IrpipeError, match="is for the architecture Small; the network is another"):
        CertificateChecker(other).margins(image, label, EPS, certificate)
    with pytest.raises(IrpipeError, match=r"this network is not Small|the network is another"):
        certify_image(other, image, label, EPS)


@pytest.mark.parametrize("name", POOL_LOOKALIKES)
def test_what_looks_like_pool_has_no_proof(name: str) -> None:
    network = tiny_pool(2)
    image = torch.rand(POOL_SHAPE, generator=torch.Generator().manual_seed(2))
    label = int(network(image[None]).argmax())
    certificate = certify_image(network, image, label, EPS).certificate
    other = POOL_LOOKALIKES[name](tiny_pool(2))
    assert is_pool(other.backbone) is (name == "inverted")
    with pytest.raises(IrpipeError, match="is for the architecture Pool; the network is another"):
        CertificateChecker(other).margins(image, label, EPS, certificate)
    with pytest.raises(IrpipeError, match=r"this network is not Small|the network is another"):
        certify_image(other, image, label, EPS)
