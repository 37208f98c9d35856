"""Try someone else's network on a few images, before any attack does."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from irpipe.errors import IrpipeError, first_line

DYNAMIC_BATCH = "dynamic_shapes=({0: torch.export.Dim.AUTO},)"
N_PROBES = 3  # images on which a module is tried
# Two computations of the same logits may differ by this share, or by so many of the dtype's eps.
PROBE_RTOL = 1e-3
PROBE_EPS = 8


class Trial(NamedTuple):
    """What a network did with the probe images.

    `images` `[N_PROBES, C, H, W]`; `logits` `[N_PROBES, classes]`; `gradient`, as the images, of
    `projection(logits)`.
    """

    images: Tensor
    logits: Tensor
    gradient: Tensor


def probe_images(shape: Sequence[int], seed: int, device: torch.device) -> Tensor:
    """Random images `[N_PROBES, C, H, W]`, each half as bright as the one before."""
    images = torch.rand(N_PROBES, *shape, generator=torch.Generator().manual_seed(seed))
    brightness = 0.5 ** torch.arange(N_PROBES)
    return (images * brightness.view(-1, 1, 1, 1)).to(device)


def projection(logits: Tensor) -> Tensor:
    """One number per image, `[N]`, that depends on each of its logits, also if they sum to 1."""
    return logits @ torch.arange(logits.shape[1]).cos().to(logits)


def try_network(
    module: nn.Module, source: str, shape: Sequence[int], n_classes: int, device: torch.device
) -> Trial:
    """Return what `module` does with images of `shape` (C, H, W).

    Raises IrpipeError, naming `source`, if it does not give logits as it should.
    """
    probe = probe_images(shape, 0, device)
    images = probe.clone().requires_grad_()
    gradient: Tensor | None = None
    try:
        # As the attacks call it: on a copy, which it may change.
        logits = module(images.clone())
        if isinstance(logits, Tensor) and logits.requires_grad and logits.dim() == 2:
            (gradient,) = torch.autograd.grad(
                projection(logits).sum(), images, retain_graph=True, allow_unused=True
            )
        with torch.no_grad():
            reversed_logits = module(probe.flip(0).contiguous())
            single_logits = [module(image[None].clone()) for image in probe]
    except (Exception, SystemExit) as error:  # The network's own code may raise anything.
        message = f"{source}: cannot take images {list(probe.shape)} ({first_line(error)})"
        raise IrpipeError(message + _hint(module, source)) from error
    output = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if output != [N_PROBES, n_classes]:
        raise IrpipeError(
            f"{source}: gives {output} for {N_PROBES} images of {n_classes} classes, not logits"
        )
    if not logits.is_floating_point():
        raise IrpipeError(f"{source}: gives logits of {logits.dtype}, not of a float type")
    if not bool(logits.isfinite().all()):
        raise IrpipeError(f"{source}: gives logits that are not finite")
    if gradient is None:
        raise IrpipeError(
            f"{source}: gives logits without a gradient, which every white-box attack needs"
        )
    if (shape := list(single_logits[0].shape)) != [1, n_classes]:
        raise IrpipeError(f"{source}: gives {shape} for one image, not [1, {n_classes}]")
    if not (agree(logits, reversed_logits.flip(0)) and agree(logits, *single_logits)):
        raise IrpipeError(
            f"{source}: an image's logits depend on chance or on the other images; "
            "export it in eval mode"
        )
    return Trial(probe, logits.detach().float(), gradient)


def _hint(module: nn.Module, source: str) -> str:
    """What may have gone wrong in a network that could not take the images."""
    dtypes = {str(weight.dtype) for weight in module.parameters()} - {"torch.float32"}
    if dtypes:
        return f"; images are torch.float32 and its weights {', '.join(sorted(dtypes))}: " + (
            "let it convert the images"
        )
    if source.endswith(".pt2"):
        return f"; if it takes so many images only, export it with {DYNAMIC_BATCH}"
    return ""


def gradient_note(gradient: Tensor) -> str:
    """A line if no attack can follow the gradient on any probe image, else an empty text."""
    for fault, is_faulty in {"NaN": gradient.isnan(), "0": gradient == 0}.items():
        if bool(is_faulty.flatten(1).any(dim=1).all() if fault == "NaN" else is_faulty.all()):
            return (
                f"its gradient is {fault} on every image tried, so attacks that follow gradients "
                "tell nothing; believe those that do not (square)"
            )
    return ""


def probabilities_note(logits: Tensor) -> str:
    """What the outputs are if they sum to 1 as probabilities do, else an empty text."""
    for name, values in {"probabilities": logits, "log-probabilities": logits.exp()}.items():
        sums = values.sum(dim=1)
        is_one = torch.allclose(sums, torch.ones_like(sums), atol=PROBE_RTOL)
        if is_one and bool((values >= 0).all()):
            return name
    return ""


def agree(logits: Tensor, *others: Tensor) -> bool:
    """Whether `others`, one after the other, are the same `logits` up to rounding."""
    if any(other.dim() != 2 for other in others):
        return False
    other = torch.cat(others)
    if other.shape != logits.shape:
        return False
    rtol = max(PROBE_RTOL, PROBE_EPS * torch.finfo(logits.dtype).eps)
    atol = rtol / 10 * max(1.0, float(logits.detach().abs().amax())) if rtol > PROBE_RTOL else 1e-4
    return torch.allclose(logits.float(), other.float(), rtol=rtol, atol=atol)
