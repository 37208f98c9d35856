"""One training step: inner maximisation, gradients of the weights and Adam (C.1, C.2)."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from irpipe.ascent.gradient_ascent import linf_sign_update
from irpipe.methods import Objective
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.network import Network
from irpipe.runtime.cuda_graph import CudaGraphed
from irpipe.runtime.threads import map_row_chunks
from irpipe.training.adam import TensorFlowAdam

# No classifier of images in [0, 1] starts from such a loss.
DIVERGED_ABOVE = 1e6


class LossReport(NamedTuple):
    """What the steps since `TrainingStep.start_report` came to."""

    loss_sum: float
    # Of the last step.
    loss: float
    # Steps whose loss or gradients were infinite, NaN or too large.
    n_diverged: float


class TrainingStep:
    """The step of one network as a function of tensors. On a GPU, one graph computes all of it.

    A step changes the weights, Adam's moments and a report, and waits for nothing. It does so even
    if the loss diverges. `keep` and `go_back` undo such steps.
    """

    def __init__(
        self,
        network: Network,
        objective: Callable[..., Objective],
        recipe: dict[str, Any],
        shape: tuple[int, int, int],
    ) -> None:
        """`shape` is an image's (C, H, W). `objective(network, images, labels)` is the method."""
        self.network = network
        self.objective = objective
        self.recipe = recipe
        self.shape = shape
        self.adam = TensorFlowAdam(network)
        # The fields of LossReport.
        self.report = torch.zeros(3, dtype=torch.float64, device=network.head.device)
        moments = *self.adam.exp_avg.values(), *self.adam.exp_avg_sq.values()
        self.state = [*network.state_dict().values(), *moments, self.report]
        self.kept = [tensor.clone() for tensor in self.state]
        self.graphs = [CudaGraphed(self._take, self.state) for _ in range(2)]

    def __call__(
        self, images: Tensor, labels: Tensor, schedule: Tensor, noise: Tensor | None
    ) -> None:
        """Take a step with the images `[N, C, H, W]`, all tensors being on the network's device.

        `schedule` `[2]` has eps and Adam's step size. The inner maximisation starts at the images
        plus `noise`; None means that there is none.
        """
        tensors = [images, labels, schedule]
        if noise is not None:
            tensors.append(noise)
        take = self._take if images.device.type == "cpu" else self.graphs[noise is not None]
        take(*tensors)

    def read_report(self) -> LossReport:
        """Wait for the device and return its report."""
        return LossReport(*self.report.tolist())

    def start_report(self, loss_sum: float) -> None:
        """Start a report, with the sum of the losses of earlier steps."""
        self.report[0].fill_(loss_sum)

    def keep(self) -> None:
        """Keep a copy of all that steps change."""
        torch._foreach_copy_(self.kept, self.state)

    def go_back(self) -> None:
        """Set all that steps change to what was kept."""
        torch._foreach_copy_(self.state, self.kept)

    def folded(self) -> FoldedNetwork:
        """The network with its current weights, for loops that change the images only."""
        return FoldedNetwork(self.network, self.shape)

    def _take(
        self, images: Tensor, labels: Tensor, schedule: Tensor, *noise: Tensor
    ) -> list[Tensor]:
        """Take a step and return nothing: all that it makes is in place."""
        eps, step_size = schedule
        objective = self.objective(self.network, images, labels)
        if noise:
            images = self._perturb(images, labels, eps, noise[0], objective.separable)
        loss = objective.loss(images)
        weights = list(self.network.parameters())
        gradients = list(torch.autograd.grad(loss, weights, materialize_grads=True))
        self._report(loss.detach(), gradients)
        self.adam.step(gradients, step_size)
        return []

    def _perturb(
        self, images: Tensor, labels: Tensor, eps: Tensor, noise: Tensor, separable: bool
    ) -> Tensor:
        """Return the images that maximise the method's inner loss within `eps` (C.2)."""
        start = (images + noise).clamp(0, 1)
        eps_column = eps.expand(len(images), 1, 1, 1)  # rows can be split into chunks
        maximise = partial(self._inner_maximisation, self.folded())
        tensors = images, labels, start, eps_column
        if separable:
            return map_row_chunks(maximise, *tensors)[0]
        return maximise(*tensors)[0]

    def _inner_maximisation(
        self, folded: FoldedNetwork, images: Tensor, labels: Tensor, start: Tensor, eps: Tensor
    ) -> list[Tensor]:
        """Return the last iterate, `[N, C, H, W]` float32, as a list of one.

        The iterates are float64, because numpy makes them so in the released code (C.2).
        """
        with torch.no_grad():
            objective = self.objective(folded, images, labels)
        update = linf_sign_update(images, eps, self.recipe["inner_step_size"])
        point = start
        for _ in range(self.recipe["inner_steps"]):
            point = update(point, objective.inner_gradient(point))
        return [point.float()]

    @torch.no_grad()
    def _report(self, loss: Tensor, gradients: list[Tensor]) -> None:
        loss_sum, last_loss, n_diverged = self.report
        loss_sum += loss
        last_loss.copy_(loss)
        largest = torch.stack(torch._foreach_norm(gradients, torch.inf)).max()
        # Written so that NaN, which fails every comparison, counts.
        is_finite = (loss.abs() < DIVERGED_ABOVE) & (largest < torch.inf)
        n_diverged += ~is_finite
