"""Try someone else's network on a few images, before any attack does."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from irpipe.errors import IrpipeError

DYNAMIC_BATCH = "dynamic_shapes=({0: torch.export.Dim.AUTO},)"
N_PROBES = 3  # images on which a module is tried
# Two computations of the same logits may differ by this share, or by so many of the dtype's eps.
PROBE_RTOL = 1e-3
PROBE_EPS = 8


def probe_images(shape: Sequence[int], seed: int, device: torch.device) -> Tensor:
    """Random images `[N_PROBES, C, H, W]`, each half as bright as the one before."""
    images = torch.rand(N_PROBES, *shape, generator=torch.Generator().manual_seed(seed))
    brightness = 0.5 ** torch.arange(N_PROBES)
    return (images * brightness.view(-1, 1, 1, 1)).to(device)


def check_logits(
    module: nn.Module, source: str, shape: Sequence[int], n_classes: int, device: torch.device
) -> Tensor:
    """Return the images `[N_PROBES, C, H, W]` for which `module` gives logits as it should.

    Raises IrpipeError, naming `source`, if it does not.
    """
    probe = probe_images(shape, 0, device)
    images = probe.clone().requires_grad_()
    try:
        # As the attacks call it: on a copy, which it may change.
        logits = module(images.clone())
        if isinstance(logits, Tensor) and logits.requires_grad:
            (gradient,) = torch.autograd.grad(
                logits.sum(), images, retain_graph=True, allow_unused=True
            )
        else:
            gradient = None
        with torch.no_grad():
            reversed_logits = module(probe.flip(0).contiguous())
            single_logits = [module(image[None].clone()) for image in probe]
    except Exception as error:  # The network's own code may raise anything.
        message = f"{source}: cannot take images {list(probe.shape)} ({first_line(error)})"
        if source.endswith(".pt2"):
            message += f"; if it takes so many images only, export it with {DYNAMIC_BATCH}"
        raise IrpipeError(message) from error
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
    if not (agree(logits.flip(0), reversed_logits) and agree(logits, *single_logits)):
        raise IrpipeError(
            f"{source}: an image's logits depend on chance or on the other images; "
            "export it in eval mode"
        )
    return probe


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


def first_line(error: BaseException) -> str:
    """Return an error's type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
