"""Training methods, one file per kind, and the interface that they share.

To add a method, add a file `methods/KIND.py` with one function:

    def objective(
        network: Classifier, images: Tensor, labels: Tensor, *, weight: Positive = 1.0
    ) -> Objective:

- `network(images)` gives logits `[N, classes]`, `network.maps(images)` the class activation
  maps `[N, classes, h, w]`.
- `images` `[N, C, H, W]` in [0, 1] and `labels` `[N]` are the clean images of one batch.
- The keyword arguments are the options of the method in a config. Their types and defaults are
  read from the source, and wrong options are refused before any job starts.

The trainer owns the optimiser, the schedules and all random numbers. For each batch it calls
`objective` with the network, for `loss`, and then with a `FoldedNetwork` and without gradients of
the weights, for `inner_gradient`. Compute what depends on the clean images alone in `objective`
itself: the trainer calls the functions that it returns once per inner step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from irpipe.ascent.gradient_ascent import chain_gradient, objective_gradient

# Where the inner maximisation starts.
Init = Literal["uniform", "gaussian"]


@dataclass(frozen=True)
class Objective:
    """The losses of one batch, as functions of its perturbed images x' `[N, C, H, W]`.

    What is no function is a trait of the method and its options, the same for every batch.

    Training minimises `loss(x')` over the weights of the network, at the x' in the l-inf ball
    around the clean images that maximises the inner loss (paper eq (9)). Both are scalars.
    """

    loss: Callable[[Tensor], Tensor]
    # None means `loss`.
    inner_loss: Callable[[Tensor], Tensor] | None = None
    # A shorter way to the gradient of the inner loss: something that the network computes from x',
    # and the gradient of the inner loss for that, written out. None means that autograd finds it.
    inner_chain: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    # Whether the loss depends on x'. If not, the trainer makes no x' and passes the clean images.
    uses_adversarial: bool = True
    # Where the inner maximisation starts: at the clean images plus uniform noise in [-eps, eps],
    # or plus 0.001 times normal noise (C.3 T8).
    init: Init = "uniform"
    # Whether the gradient of the inner loss for one image does not depend on the other images,
    # except for a factor common to all. Parts of a batch may then be perturbed in parallel.
    separable: bool = False

    def get_inner_loss(self) -> Callable[[Tensor], Tensor]:
        """Return the function that the inner maximisation maximises."""
        return self.inner_loss or self.loss

    def inner_gradient(self, perturbed: Tensor) -> Tensor:
        """Return the gradient of the inner loss for x', float32."""
        if self.inner_chain is not None:
            return chain_gradient(self.inner_chain, perturbed)
        return objective_gradient(self.get_inner_loss(), perturbed)
