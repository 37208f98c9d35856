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

    def ascend(self, gradient: Tensor, step_size: Tensor | float, n_steps: int) -> None:
        """Take a step of Adam. It is step number `n_steps`, counted from 1."""
        self.gradient.mul_(0.9).add_(gradient, alpha=0.1)
        self.square.mul_(self.square_decay)
        self.square.addcmul_(gradient, gradient, value=1 - self.square_decay)
        scale = (self.square / (1 - self.square_decay**n_steps)).sqrt_().add_(1e-8)
        self.value.addcdiv_(self.gradient, scale, value=float(step_size) / (1 - 0.9**n_steps))

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
