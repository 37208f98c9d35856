"""What an attack yields, before its images are checked: it may be a file of anybody (D.4)."""

import dataclasses
from collections.abc import Iterable, Iterator
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from irpipe.attacks import AttackBatch, AttackOutput
from irpipe.results.packed_bytes import pack


def lent(batch: AttackBatch) -> AttackBatch:
    """The batch with copies of the images and labels, which the code of an attack may change."""
    images, labels = batch.images.clone(), batch.labels.clone()
    return dataclasses.replace(batch, images=images, labels=labels)


def outputs_of(
    kind: Any, batch: AttackBatch, options: dict[str, Any], *, is_outside: bool
) -> Iterator[AttackOutput]:
    """Yield what the attack of the module `kind` yields, without gradients.

    It gets copies of the images and labels, which it may change. `is_outside` says that it is a
    file next to the config; then it may also change what it has yielded, and the next attack meets
    the same network. Raises RuntimeError if it yields nothing, something else, or other `extras`
    than before, or if it changes the network's weights.
    """
    before = _Before(batch.network) if is_outside else None
    try:
        for output in _checked_outputs(kind.attack(lent(batch), **options)):
            if before:
                before.restore()
            images = _detached(output.images, is_outside)
            if is_outside and images.is_floating_point():
                images = images.to(batch.images)  # float64 of numpy, for example
            extras = {name: _detached(array, is_outside) for name, array in output.extras.items()}
            yield output._replace(images=images, extras=extras)
    finally:
        if before:
            before.restore()


def _checked_outputs(outputs: Any) -> Iterator[AttackOutput]:
    """Yield what an attack yields. Raises RuntimeError as `outputs_of` does."""
    # An AttackOutput and a Tensor are iterable, too.
    if isinstance(outputs, AttackOutput | Tensor) or not isinstance(outputs, Iterable):
        returned = type(outputs).__name__
        raise RuntimeError(f"the attack returned {returned}; it must yield each AttackOutput")
    names: list[str] | None = None
    for output in outputs:
        _check(output)
        found = sorted(output.extras)
        if names is None:
            names = found
        if found != names:
            raise RuntimeError(f"the attack yielded the extras {found} after {names}")
        yield output
    if names is None:
        raise RuntimeError("the attack yielded nothing")


class _Before:
    """What the code of an attack might change for all that comes after it."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.state = {name: value.clone() for name, value in network.state_dict().items()}
        self.has_gradients, self.dtype = torch.is_grad_enabled(), torch.get_default_dtype()

    def restore(self) -> None:
        """Undo such a change. Raise RuntimeError if it was one of the network's weights."""
        torch.set_grad_enabled(self.has_gradients)
        torch.set_default_dtype(self.dtype)
        for name, value in self.network.state_dict().items():
            if not torch.equal(value, self.state[name]):
                self.network.load_state_dict(self.state)
                raise RuntimeError(f"the attack changed the network's {name}; change a copy")


def _check(output: Any) -> None:
    """Raise RuntimeError if what an attack yields is no AttackOutput with tensors."""
    if not (isinstance(output, AttackOutput) and isinstance(output.images, Tensor)):
        found = type(getattr(output, "images", output)).__name__
        raise RuntimeError(
            f"the attack yielded a {found}, not an AttackOutput with a Tensor of images"
        )
    if not isinstance(output.axis_value, Integral):
        raise RuntimeError(f"the attack's axis_value is {output.axis_value!r}, not a whole number")
    shape = output.images.shape[:2]
    for name, array in output.extras.items():
        if not isinstance(array, Tensor) or array.shape[:2] != shape:
            raise RuntimeError(
                f"the attack's extra '{name}' is no Tensor [E, N, ...] as its images are"
            )


def _detached(tensor: Tensor, is_outside: bool) -> Tensor:
    """The tensor without gradients; a copy if a file next to the config may change it later.

    Attacks of irpipe do not, and their images may be large.
    """
    return tensor.detach().clone() if is_outside else tensor.detach()


def join_batches(batches: list[dict[str, np.ndarray]], axis: str) -> dict[str, np.ndarray]:
    """Join the arrays `[N, E, S]` of all batches, except `axis`, and pack those of bytes.

    Raises RuntimeError if batches have other arrays, or other values on `axis`.
    """
    first = batches[0]
    for batch in batches:
        if batch.keys() != first.keys():
            raise RuntimeError(
                f"the attack yielded the arrays {sorted(batch)} of one batch of images and "
                f"{sorted(first)} of the first"
            )
        if not np.array_equal(batch[axis], first[axis]):
            raise RuntimeError(
                f"the attack yielded {axis} {batch[axis].tolist()} of one batch of images and "
                f"{first[axis].tolist()} of the first"
            )
    names = [name for name in first if name != axis]
    arrays = {name: np.concatenate([batch[name] for batch in batches]) for name in names}
    for name in [name for name in names if arrays[name].dtype == object]:
        arrays[name], arrays[f"{name}_size"] = pack(arrays[name])
    return arrays
