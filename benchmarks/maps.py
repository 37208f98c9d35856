"""Interpretability maps on MNIST Small: integrated gradients against captum, GradCAM++ against
pytorch-grad-cam.

Integrated gradients are those of the released code, a sum of 100 terms. irpipe computes it from 8
terms ([C.3 T7](protocol.md#c3-t7)).
"""

# captum and grad-cam import torchvision, so this comes first.
import irpipe.datasets._torchvision  # noqa: F401  # isort: skip
from collections.abc import Iterator

import captum.attr
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor

from benchmarks.common import Row, Setup, comparison, time_in_turns
from benchmarks.plain import PlainNetwork
from irpipe.datasets import load
from irpipe.interpretability.interpreters import interpret
from irpipe.networks.checkpoint import read_checkpoint
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.load import load_network
from irpipe.networks.network import Network

N_IMAGES = 100
IG_STEPS = 100
SHAPE = (1, 28, 28)


def rows(setup: Setup) -> Iterator[Row]:
    """Yield a comparison for each interpreter, on the maps of each image's true class."""
    path = setup.checkpoint("mnist", "small", "int")
    checkpoint = read_checkpoint(path)
    network = load_network(checkpoint, path)
    test = load(checkpoint.metadata["data"], setup.data, "test")
    images = test.images[:N_IMAGES].float()
    labels = test.labels[:N_IMAGES]
    yield _compare_integrated_gradients(setup.rounds, network, images, labels)
    # The library adds a constant 1e-6 to a denominator. Next to large gradients it vanishes.
    network.head.data *= 3e5
    yield _compare_gradcampp(setup.rounds, network, images, labels)


def _compare_integrated_gradients(
    rounds: int, network: Network, images: Tensor, labels: Tensor
) -> Row:
    """Compare the maps of the released code, which has softplus in place of ReLU (C.3 T7)."""
    folded = FoldedNetwork(network, SHAPE)
    plain = PlainNetwork(network.with_softplus).requires_grad_(False)

    def by_irpipe() -> Tensor:
        return interpret(folded, images, "ig", labels[:, None], ig_steps=IG_STEPS)[:, 0]

    def by_captum() -> Tensor:
        maps = captum.attr.IntegratedGradients(plain).attribute(
            images,
            target=labels,
            n_steps=IG_STEPS,
            method="riemann_right",
            internal_batch_size=1000,
        )
        return maps.float()  # type: ignore[no-any-return]

    (maps, expected), (irpipe_seconds, captum_seconds) = time_in_turns(rounds, by_irpipe, by_captum)
    work = f"IG, {IG_STEPS} points, {N_IMAGES} images"
    return comparison(work, "captum", irpipe_seconds, captum_seconds, _difference(maps, expected))


def _compare_gradcampp(rounds: int, network: Network, images: Tensor, labels: Tensor) -> Row:
    folded = FoldedNetwork(network, SHAPE)
    plain = PlainNetwork(network)
    layer = plain.body[-1]

    def by_irpipe() -> Tensor:
        return interpret(folded, images, "gradcampp", labels[:, None], variant="original")[:, 0]

    def by_grad_cam() -> Tensor:
        cam = pytorch_grad_cam.GradCAMPlusPlus(plain, [layer])
        targets = [ClassifierOutputTarget(int(label)) for label in labels]
        cam(images, targets)
        store = cam.activations_and_grads
        arrays = store.activations[0].detach().numpy(), store.gradients[0].detach().numpy()
        maps = cam.get_cam_image(images, layer, targets, *arrays)
        store.release()
        return torch.from_numpy(maps).clamp(min=0)

    (maps, expected), (irpipe_seconds, cam_seconds) = time_in_turns(rounds, by_irpipe, by_grad_cam)
    work = f"GradCAM++, {N_IMAGES} images"
    equal = _difference(maps, expected)
    return comparison(work, "pytorch-grad-cam", irpipe_seconds, cam_seconds, equal)


def _difference(maps: Tensor, expected: Tensor) -> str:
    relative = float((maps - expected).abs().max() / expected.abs().max())
    return f"within {relative:.0e} of the largest"
