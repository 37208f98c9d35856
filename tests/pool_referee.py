"""Tiny networks of the architecture Pool, and the exact minimum of their margins by HiGHS."""

from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp
from small_referee import ExactMinimum
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.nn import functional as F

from irpipe.certification.certificate import EPS_MARGIN
from irpipe.certification.margin_bounds import margins_of
from irpipe.certification.pool_margins import PoolMargins, bound_margins
from irpipe.certification.pool_network import PoolNetwork
from irpipe.certification.pool_relaxation import relax_pool
from irpipe.certification.relaxation import clipped_ball
from irpipe.networks.network import Network

SHAPE = (1, 8, 4)
N_CLASSES = 3


def tiny_pool(seed: int, shape: tuple[int, int, int] = SHAPE) -> Network:
    """A Pool with few channels and random weights, its biases included."""
    backbone = nn.Sequential(
        nn.Conv2d(shape[0], 2, 5, padding=2),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(2, 3, 5, padding=2),
        nn.MaxPool2d(2),
    )
    network = Network(backbone, None, 3, N_CLASSES)
    generator = torch.Generator().manual_seed(seed)
    scales = {"backbone.0.weight": 0.4, "head": 1.5}
    with torch.no_grad():
        for name, weight in network.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(noise * scales.get(name, 0.2))
    return network.requires_grad_(False).eval()


class PoolProblem:
    """The bounds of the margin that is smallest at a random image, and what they are made of."""

    def __init__(self, seed: int, eps: float) -> None:
        self.network = tiny_pool(seed)
        self.image = torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed))
        logits = self.network(self.image[None])[0]
        self.label = int(logits.argmax())
        self.pool = PoolNetwork(self.network, SHAPE)
        self.ball = clipped_ball(self.image[None], eps + EPS_MARGIN)
        self.margins = margins_of(self.pool, torch.tensor([self.label]))
        self.k = int(logits[self.margins.targets[0]].argmax())
        self.target = int(self.margins.targets[0, self.k])

    def bounds(self, n_steps: int) -> PoolMargins:
        relaxation = relax_pool(self.pool, self.ball)
        return bound_margins(self.pool, self.ball, relaxation, self.margins, n_steps)

    def lower(self, n_steps: int) -> float:
        return float(self.bounds(n_steps).lower[0, self.k])

    def margin(self, images: Tensor) -> Tensor:
        logits = self.network(images.float())
        return logits[:, self.label] - logits[:, self.target]


class _Maxima(NamedTuple):
    """h = max over i of z_i, for z_i = weight_i v + bias in lower_i to upper_i, `[n, i]`.

    `source`, `hidden` and `binary` are the first variables of v, of h and of the binaries.
    """

    weight: np.ndarray
    bias: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    source: int
    hidden: int
    binary: int

    def constraints(self, n_variables: int) -> LinearConstraint:
        """h >= z_i,  h <= z_i + (u - l_i) (1 - b_i),  sum of b_i = 1,  u = max over i of u_i."""
        n, n_values, n_inputs = self.weight.shape
        above, below = np.zeros((2, n, n_values, n_variables))
        one = np.zeros((n, n_variables))
        room = self.upper.max(axis=1, keepdims=True) - self.lower
        for k in range(n):
            first = self.binary + k * n_values
            one[k, first : first + n_values] = 1
            for rows in (above, below):
                rows[k, :, self.hidden + k] = 1
                rows[k, :, self.source : self.source + n_inputs] = -self.weight[k]
            below[k, :, first : first + n_values] = np.diag(room[k])
        rows = np.concatenate([above.reshape(-1, n_variables), below.reshape(-1, n_variables), one])
        infinity = np.full(self.bias.size, np.inf)
        ones = np.ones(n)
        return LinearConstraint(
            sparse.csr_matrix(rows),
            np.concatenate([self.bias.ravel(), -infinity, ones]),
            np.concatenate([infinity, (self.bias + room).ravel(), ones]),
        )


def exact_minimum(problem: PoolProblem) -> ExactMinimum:
    """The smallest margin within the ball, as a mixed-integer linear program, and its image.

    The variables are x, then h1, its binaries, h2 and its binaries. HiGHS solves it to a relative
    gap of 1e-6.
    """
    center, radius = (tensor.flatten().double().numpy() for tensor in problem.ball)
    backbone = problem.network.backbone
    lower0, upper0 = center - radius, center + radius
    layer1 = _maxima(backbone[0], SHAPE, lower0, upper0, 0, with_zero=True)
    hidden_shape = (2, SHAPE[1] // 2, SHAPE[2] // 2)
    hidden = (layer1.lower.max(axis=1), layer1.upper.max(axis=1))
    layer2 = _maxima(backbone[3], hidden_shape, *hidden, layer1.hidden)
    layer2 = layer2._replace(
        hidden=layer1.binary + layer1.bias.size,
        binary=layer1.binary + layer1.bias.size + len(layer2.bias),
    )
    n_variables = layer2.binary + layer2.bias.size
    lower, upper = np.zeros(n_variables), np.ones(n_variables)
    lower[: len(center)], upper[: len(center)] = lower0, upper0
    is_integer = np.zeros(n_variables)
    for layer in (layer1, layer2):
        part = slice(layer.hidden, layer.hidden + len(layer.bias))
        lower[part], upper[part] = layer.lower.max(axis=1), layer.upper.max(axis=1)
        is_integer[layer.binary : layer.binary + layer.bias.size] = 1
    objective = np.zeros(n_variables)
    coefficients = problem.margins.coefficients[0, problem.k].t().flatten()
    objective[layer2.hidden : layer2.hidden + len(layer2.bias)] = coefficients.double().numpy()
    outcome = milp(
        objective,
        constraints=[layer.constraints(n_variables) for layer in (layer1, layer2)],
        integrality=is_integer,
        bounds=Bounds(lower, upper),
        options={"mip_rel_gap": 1e-6, "time_limit": 20},
    )
    assert outcome.status == 0, outcome.message
    value = outcome.fun + float(problem.margins.constant[0, problem.k])
    return ExactMinimum(value, torch.from_numpy(outcome.x[: len(center)]).view(1, *SHAPE))


def _maxima(
    conv: nn.Module,
    shape: tuple[int, int, int],
    lower: np.ndarray,
    upper: np.ndarray,
    source: int,
    with_zero: bool = False,
) -> _Maxima:
    """The max-pooling of a convolution of inputs between `lower` and `upper`.

    The h lie behind the inputs, and the binaries behind these.
    """
    zeros = torch.zeros(shape)

    def four(inputs: Tensor) -> Tensor:
        """The convolution's values `[n, 4]`, four of which max-pooling compares."""
        outputs = conv(inputs[None])
        return F.unfold(outputs.transpose(0, 1), 2, stride=2).transpose(1, 2).flatten(0, 1)

    n_inputs = int(np.prod(shape))
    weight = jacobian(four, zeros).reshape(-1, 4, n_inputs).double().numpy()
    bias = four(zeros).double().numpy()
    if with_zero:
        weight, bias = np.pad(weight, ((0, 0), (0, 1), (0, 0))), np.pad(bias, ((0, 0), (0, 1)))
    positive, negative = weight.clip(min=0), weight.clip(max=0)
    hidden = source + n_inputs
    return _Maxima(
        weight,
        bias,
        positive @ lower + negative @ upper + bias,
        positive @ upper + negative @ lower + bias,
        source,
        hidden,
        hidden + len(bias),
    )
