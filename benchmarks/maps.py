"""Interpretability maps: integrated gradients against captum, GradCAM++ against pytorch-grad-cam, on MNIST Small."""

from collections.abc import Iterator

import irpipe._torchvision  # noqa: F401  # isort: skip  # before captum and grad-cam, which import torchvision
import captum.attr
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor

from benchmarks.common import Line, Setup, in_turns, line
from benchmarks.plain import Plain
from irpipe.data import load
from irpipe.evaluate import load_network
from irpipe.io import read_checkpoint
from irpipe.maps.interpret import interpret
from irpipe.models import Folded

IMAGES, POINTS = 100, 100


def lines(setup: Setup) -> Iterator[Line]:
    """Maps of each image's true class: by irpipe, and by the library on the plain layers."""
    path = setup.checkpoint("mnist", "small", "int")
    checkpoint = read_checkpoint(path)
    network = load_network(checkpoint, path)
    folded, plain = Folded(network, (1, 28, 28)), Plain(network).requires_grad_(False)
    test = load(checkpoint.metadata["data"], setup.data, "test")
    images, labels = test.images[:IMAGES].float(), test.labels[:IMAGES]

    def by_captum() -> Tensor:
        attributed = captum.attr.IntegratedGradients(plain).attribute(
            images, target=labels, n_steps=POINTS, method="riemann_right", internal_batch_size=1000
        )
        return attributed.float()  # type: ignore[no-any-return]

    (own, found), (quick, slow) = in_turns(
        setup.rounds,
        lambda: interpret(folded, images, "ig", labels[:, None], variant="literature", points=POINTS)[:, 0],
        by_captum,
    )
    yield line(f"IG, {POINTS} points, {IMAGES} images", "captum", quick, slow, _near(own, found))

    network.head.data *= 3e5  # for the library's constant 1e-6 to vanish beside the gradients
    folded, plain = Folded(network, (1, 28, 28)), Plain(network)

    def by_grad_cam() -> Tensor:
        cam = pytorch_grad_cam.GradCAMPlusPlus(plain, [plain.body[-1]])
        targets = [ClassifierOutputTarget(int(label)) for label in labels]
        cam(images, targets)
        store = cam.activations_and_grads
        arrays = store.activations[0].detach().numpy(), store.gradients[0].detach().numpy()
        drawn = cam.get_cam_image(images, plain.body[-1], targets, *arrays)
        store.release()
        return torch.from_numpy(drawn).clamp(min=0)

    (own, found), (quick, slow) = in_turns(
        setup.rounds,
        lambda: interpret(folded, images, "gradcampp", labels[:, None], variant="literature")[:, 0],
        by_grad_cam,
    )
    yield line(f"GradCAM++, {IMAGES} images", "pytorch-grad-cam", quick, slow, _near(own, found))


def _near(ours: Tensor, theirs: Tensor) -> str:
    return f"within {float((ours - theirs).abs().max() / theirs.abs().max()):.0e} of the largest"
