"""Check what a method of one's own gives, before any step: it may be a file of anybody."""

from collections.abc import Callable
from typing import Any, get_args

import torch
from torch import Tensor

from irpipe.errors import IrpipeError
from irpipe.methods import Init, Objective
from irpipe.networks.folded import FoldedNetwork

N_TRIED = 2  # images on which its losses are tried


def check_method(
    objective: Callable[..., Any], folded: FoldedNetwork, labels: Tensor, kind: str
) -> None:
    """Raise IrpipeError, naming `kind`, unless `objective` gives an Objective with two losses.

    Each is a scalar that has a gradient for the perturbed images. `labels` are some labels.
    """
    images = torch.full((len(labels[:N_TRIED]), *folded.shape), 0.5, device=labels.device)
    made = objective(folded, images.clone(), labels[:N_TRIED].clone())
    if not isinstance(made, Objective):
        found = type(made).__name__
        raise IrpipeError(f"{kind}: objective gave a {found}, expected an Objective")
    if made.init not in get_args(Init):
        expected = " or ".join(get_args(Init))
        raise IrpipeError(f"{kind}: init is {made.init!r}, expected {expected}")
    for name, loss in {"loss": made.loss, "inner_loss": made.get_inner_loss()}.items():
        value = loss(images.clone().requires_grad_())
        if not isinstance(value, Tensor) or value.dim() or not value.is_floating_point():
            found = type(value).__name__
            if isinstance(value, Tensor):
                found = f"{value.dtype} {list(value.shape)}"
            raise IrpipeError(f"{kind}: {name} gave {found}, expected a scalar of a float type")
        if made.uses_adversarial and not value.requires_grad:
            raise IrpipeError(
                f"{kind}: {name} has no gradient for the perturbed images; let it depend on them, "
                "or say uses_adversarial=False"
            )
