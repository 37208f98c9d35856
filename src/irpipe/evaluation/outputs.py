"""What an attack yields, before its images are checked: it may be a file of anybody (D.4)."""

import dataclasses
from collections.abc import Iterable, Iterator
from numbers import Integral
from typing import Any

from torch import Tensor

from irpipe.attacks import AttackBatch, AttackOutput


def outputs_of(kind: Any, batch: AttackBatch, options: dict[str, Any]) -> Iterator[AttackOutput]:
    """Yield what the attack of the module `kind` yields, without gradients.

    It gets copies of the images and labels, which it may change. Raises RuntimeError if it yields
    nothing, something else, or other `extras` than before.
    """
    images, labels = batch.images.clone(), batch.labels.clone()
    outputs = kind.attack(dataclasses.replace(batch, images=images, labels=labels), **options)
    names: set[str] | None = None
    for output in outputs if isinstance(outputs, Iterable) else [outputs]:
        if not (isinstance(output, AttackOutput) and isinstance(output.images, Tensor)):
            found = type(getattr(output, "images", output)).__name__
            raise RuntimeError(f"yielded a {found}, not an AttackOutput with a Tensor of images")
        if not isinstance(output.axis_value, Integral):
            raise RuntimeError(f"its axis_value is {output.axis_value!r}, not a whole number")
        shape = output.images.shape[:2]
        for name, array in output.extras.items():
            if not isinstance(array, Tensor) or array.shape[:2] != shape:
                raise RuntimeError(f"the extra '{name}' is no Tensor [E, N, ...] as its images are")
        if names not in (None, set(output.extras)):
            raise RuntimeError(f"yielded the extras {sorted(output.extras)} after {sorted(names)}")
        names = set(output.extras)
        extras = {name: array.detach() for name, array in output.extras.items()}
        yield output._replace(images=output.images.detach(), extras=extras)
    if names is None:
        raise RuntimeError("yielded nothing")
