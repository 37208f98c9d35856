"""Tiny networks of the architecture Small, and the exact minimum of their margins by HiGHS."""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor, nn

from irpipe.certification.certificate import EPS_MARGIN
from irpipe.certification.decomposition import Decomposition, Rest
from irpipe.certification.layer2_bounds import layer2_interval
from irpipe.certification.margin_bounds import MarginBounds, margin_bounds, margins_of
from irpipe.certification.patch_network import PatchNetwork
from irpipe.certification.place_terms import place_terms
from irpipe.certification.relaxation import Ball, Interval, clipped_ball, layer1_interval
from irpipe.networks.network import Network

SHAPE = (1, 8, 8)
N_CLASSES = 3


def tiny_network(seed: int, shape: tuple[int, int, int] = SHAPE, n_channels: int = 4) -> Network:
    """A Small with few channels and random weights, its biases included."""
    backbone = nn.Sequential(
        nn.Conv2d(shape[0], n_channels, 4, 2, padding=1),
        nn.ReLU(),
        nn.Conv2d(n_channels, n_channels, 4, 2, padding=1),
        nn.ReLU(),
    )
    network = Network(backbone, nn.Conv2d(n_channels, 8, 7, padding=3), 8, N_CLASSES)
    generator = torch.Generator().manual_seed(seed)
    scales = {"backbone.0.weight": 0.5, "head": 2.0, "last_conv.bias": 0.1}
    with torch.no_grad():
        for name, weight in network.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(noise * scales.get(name, 0.2))
    return network.requires_grad_(False).eval()


def tiny_image(seed: int, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


class TinyProblem:
    """All bounds of the margin that is smallest at a random image, and what they are made of."""

    def __init__(self, seed: int, eps: float, optimise_layer2: bool = True) -> None:
        self.network = tiny_network(seed)
        self.image = tiny_image(seed)
        self.eps = eps
        logits = self.network(self.image[None])[0]
        self.label = int(logits.argmax())
        self.patches = PatchNetwork(self.network, SHAPE)
        self.ball = clipped_ball(self.image[None], eps + EPS_MARGIN)
        self.interval1 = layer1_interval(self.patches, self.ball)
        n_steps = 20 if optimise_layer2 else 0
        self.interval2, self.rows = layer2_interval(
            self.patches, self.ball, self.interval1, n_steps
        )
        self.margins = margins_of(self.patches, torch.tensor([self.label]))
        self.k = int(logits[self.margins.targets[0]].argmax())
        self.target = int(self.margins.targets[0, self.k])

    def alpha_crown(self, n_steps: int) -> float:
        return float(self._margin_bounds(n_steps).lower[0, self.k])

    def decomposition(self, n_steps: int = 40) -> Decomposition:
        bounds = self._margin_bounds(n_steps)
        terms = place_terms(self.patches, self.ball, self.interval1, self.interval2)
        alpha1 = bounds.alpha1[0, self.k]
        rest = Rest(self.patches, terms, self.ball, self.interval1, alpha1)
        return Decomposition(
            self.patches,
            terms,
            rest,
            self.margins.coefficients[0, self.k],
            self.margins.constant[0, self.k],
            bounds.alpha2[0, self.k],
        )

    def margin(self, images: Tensor) -> Tensor:
        logits = self.network(images.float())
        return logits[:, self.label] - logits[:, self.target]

    def _margin_bounds(self, n_steps: int) -> MarginBounds:
        intervals = (self.interval1, self.interval2)
        return margin_bounds(self.patches, self.ball, *intervals, self.margins, n_steps)


class ExactMinimum(NamedTuple):
    value: float
    image: Tensor


class _Layer(NamedTuple):
    """z = weight h + bias with lower <= z <= upper. `source`, `hidden` and `binary` are the first
    variables of the inputs h, of relu(z) and of the binaries.
    """

    weight: np.ndarray
    bias: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    source: int
    hidden: int
    binary: int

    def constraints(self, n_variables: int) -> LinearConstraint:
        """h >= z,  h <= z - l (1 - b),  h <= u b."""
        n = len(self.bias)
        lower, upper = np.minimum(self.lower, 0), np.maximum(self.upper, 0)
        above, below, off = np.zeros((3, n, n_variables))
        for rows in (above, below, off):
            rows[:, self.hidden : self.hidden + n] = np.eye(n)
        for rows in (above, below):
            rows[:, self.source : self.source + self.weight.shape[1]] = -self.weight
        below[:, self.binary : self.binary + n] = np.diag(-lower)
        off[:, self.binary : self.binary + n] = -np.diag(upper)
        infinity = np.full(n, np.inf)
        return LinearConstraint(
            sparse.csr_matrix(np.concatenate([above, below, off])),
            np.concatenate([self.bias, -infinity, -infinity]),
            np.concatenate([infinity, self.bias - lower, np.zeros(n)]),
        )


def exact_minimum(problem: TinyProblem) -> ExactMinimum:
    """The smallest margin within eps, as a mixed-integer linear program, and its image `[1, ...]`.

    The variables are x, then relu(z) and a binary b of each neuron of both layers. HiGHS solves
    it to a relative gap of 1e-6.
    """
    center, radius = _flat(problem.ball)
    layer1, layer2 = _layers(problem)
    n1, n2 = len(layer1.bias), len(layer2.bias)
    n_variables = layer2.binary + n2
    lower, upper = np.zeros(n_variables), np.ones(n_variables)
    lower[: len(center)], upper[: len(center)] = center - radius, center + radius
    is_integer = np.zeros(n_variables)
    for layer, n in ((layer1, n1), (layer2, n2)):
        upper[layer.hidden : layer.hidden + n] = np.maximum(layer.upper, 0)
        is_integer[layer.binary : layer.binary + n] = 1
    objective = np.zeros(n_variables)
    coefficients = problem.margins.coefficients[0, problem.k].t().flatten()
    objective[layer2.hidden : layer2.hidden + n2] = coefficients.double().numpy()
    outcome = milp(
        objective,
        constraints=[layer.constraints(n_variables) for layer in (layer1, layer2)],
        integrality=is_integer,
        bounds=Bounds(lower, upper),
        options={"mip_rel_gap": 1e-6, "time_limit": 60},
    )
    assert outcome.status == 0, outcome.message
    value = outcome.fun + float(problem.margins.constant[0, problem.k])
    return ExactMinimum(value, torch.from_numpy(outcome.x[: len(center)]).view(1, *SHAPE))


def _layers(problem: TinyProblem) -> tuple[_Layer, _Layer]:
    """Both layers, with intervals that are a little wider, since they come from float32."""
    lower1, upper1 = _flat(problem.interval1)
    channels_first = Interval(*(tensor.transpose(1, 2) for tensor in problem.interval2))
    lower2, upper2 = _flat(channels_first)
    n_pixels, n1, n2 = int(np.prod(SHAPE)), len(lower1), len(lower2)
    backbone = problem.network.backbone
    weight1, bias1 = _as_matrix(backbone[0], (1, *SHAPE))
    weight2, bias2 = _as_matrix(backbone[2], problem.interval1.lower.shape)
    widen = 1e-6
    hidden2 = n_pixels + 2 * n1
    return (
        _Layer(weight1, bias1, lower1 - widen, upper1 + widen, 0, n_pixels, n_pixels + n1),
        _Layer(weight2, bias2, lower2 - widen, upper2 + widen, n_pixels, hidden2, hidden2 + n2),
    )


def _flat(pair: Ball | Interval) -> tuple[np.ndarray, np.ndarray]:
    lower, upper = (tensor.flatten().double().numpy() for tensor in pair)
    return lower, upper


def _as_matrix(layer: nn.Module, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Weight `[outputs, inputs]` and bias of a convolution of one image of this shape, float64."""
    layer = copy.deepcopy(layer).double()
    n_inputs = int(np.prod(shape[1:]))
    bias = layer(torch.zeros(tuple(shape), dtype=torch.float64)).flatten()
    units = torch.eye(n_inputs, dtype=torch.float64).view(n_inputs, *shape[1:])
    return (layer(units).flatten(1) - bias).t().numpy(), bias.numpy()
