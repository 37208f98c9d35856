"""Dual variables that rise by Adam's steps."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Dual:
    """Dual variables and the means that Adam has of their gradients g and of g^2.

    Every value within the limits gives a sound bound. So float32 is enough to search for them.
    """

    value: Tensor
    gradient: Tensor
    square: Tensor
    square_decay: float = 0.98

    @staticmethod
    def starting_at(value: Tensor, square_decay: float = 0.98) -> "Dual":
        """Return duals of this `value` that have not moved yet."""
        return Dual(value, torch.zeros_like(value), torch.zeros_like(value), square_decay)

    def ascend(self, gradient: Tensor, step_size: float, n_steps: int) -> None:
        """Take a step of Adam. It is step number `n_steps`, counted from 1."""
        # The kernel of torch.optim.adam, whose checks take twice its time for so few duals.
        torch._fused_adam_(
            [self.value],
            [gradient],
            [self.gradient],
            [self.square],
            [],
            [torch.tensor(float(n_steps), device=gradient.device)],
            lr=step_size,
            beta1=0.9,
            beta2=self.square_decay,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=True,
        )

    def rows(self, rows: Tensor) -> "Dual":
        """Return a copy of some rows."""
        tensors = (self.value[rows], self.gradient[rows], self.square[rows])
        return Dual(*tensors, self.square_decay)

    def store(self, rows: Tensor, other: "Dual") -> None:
        """Replace some rows by those of `other`."""
        self.value[rows] = other.value
        self.gradient[rows] = other.gradient
        self.square[rows] = other.square

    def append(self, other: "Dual") -> None:
        """Add the rows of `other` at the end."""
        self.value = torch.cat([self.value, other.value])
        self.gradient = torch.cat([self.gradient, other.gradient])
        self.square = torch.cat([self.square, other.square])
