"""Balls in the l-inf, l2 and l1 norm: distances, projections, random points and steps."""

import numpy as np
import torch
from torch import Tensor

from irpipe.ascent.gradient_ascent import Update, linf_sign_update, random_perturbation
from irpipe.option_types import EpsNorm

# Share of the entries that a step in the l1 norm changes.
L1_SHARE = 0.01
# Rounding an entry of an image in float32 moves it by so much at most.
MAX_ROUNDING = 2.0**-25
ORDERS = {"linf": torch.inf, "l2": 2, "l1": 1}


def norms(change: Tensor, norm: EpsNorm) -> Tensor:
    """The norm of each image's change `[..., C, H, W]`, computed in float64 but for l-inf."""
    flat = change.flatten(-3)
    if norm == "linf":
        return flat.abs().amax(dim=-1)
    length: Tensor = torch.linalg.vector_norm(flat.double(), ord=ORDERS[norm], dim=-1)
    return length


def project(change: Tensor, eps: Tensor, norm: EpsNorm) -> Tensor:
    """The nearest change `[m, C, H, W]` of norm at most `eps` `[m, 1, 1, 1]`.

    For l1 it is that of Duchi et al. (ICML 2008): all entries shrink by the same theta. For l2 and
    l1, eps is smaller by what rounding all entries of the image may add to the norm.
    """
    if norm == "linf":
        return torch.clamp(change, -eps, eps)
    rounding = MAX_ROUNDING * change[0].numel() ** (1 / ORDERS[norm])
    eps = (eps - rounding).clamp(min=0)
    if norm == "l2":
        length = norms(change, "l2").view(-1, 1, 1, 1)
        return (change * (eps / length.clamp(min=1e-12)).clamp(max=1)).to(change.dtype)
    size = change.flatten(1).abs().double()
    bound = eps.flatten(1).to(size.dtype)
    falling = size.sort(dim=1, descending=True).values
    count = torch.arange(1, size.shape[1] + 1, device=size.device, dtype=size.dtype)
    theta = (falling.cumsum(dim=1) - bound) / count
    last = (falling > theta).sum(dim=1, keepdim=True).clamp(min=1) - 1
    shrunk = (size - theta.gather(1, last).clamp(min=0)).clamp(min=0)
    return change.sign() * shrunk.view_as(change).to(change.dtype)


def random_in_ball(rng: np.random.RandomState, norm: EpsNorm, like: Tensor) -> Tensor:
    """Points of the unit ball, uniformly distributed, shaped like the images `like`, float64."""
    if norm == "linf":
        return random_perturbation(rng, "uniform", 1.0, like)
    n_images, n_entries = len(like), like[0].numel()
    draw = rng.normal if norm == "l2" else rng.laplace
    direction = draw(size=(n_images, n_entries))
    direction /= np.linalg.norm(direction, ord=ORDERS[norm], axis=1, keepdims=True)
    # A share r^d of the ball's volume lies within r.
    radius = rng.uniform(size=(n_images, 1)) ** (1 / n_entries)
    return torch.from_numpy(direction * radius).view(like.shape).to(like.device)


def ball_update(centre: Tensor, eps: Tensor, step_size: float | Tensor, norm: EpsNorm) -> Update:
    """Return the update of PGD in the ball of size `eps` `[m, 1, 1, 1]` around `centre`.

    A step has the length `step_size` in the norm. For l2 it follows the gradient; for l1 it
    changes the L1_SHARE of the entries that have the largest gradient and room to move, all by as
    much (Tramer and Boneh, NeurIPS 2019). Then the change is projected onto the ball, and the
    pixels are clipped to [0, 1], which brings none further away.
    """
    if norm == "linf":
        return linf_sign_update(centre, eps, step_size)
    direction = _l2_direction if norm == "l2" else _l1_direction

    def update(point: Tensor, gradient: Tensor) -> Tensor:
        change = point + step_size * direction(point, gradient) - centre
        return (centre + project(change, eps, norm)).clamp(0, 1).to(centre.dtype)

    return update


def _l2_direction(point: Tensor, gradient: Tensor) -> Tensor:
    length = norms(gradient, "l2").view(-1, 1, 1, 1)
    # Where the gradient vanishes, no step is taken.
    return (gradient / length.clamp(min=torch.finfo(torch.float64).tiny)).to(gradient.dtype)


def _l1_direction(point: Tensor, gradient: Tensor) -> Tensor:
    is_stuck = ((point <= 0) & (gradient < 0)) | ((point >= 1) & (gradient > 0))
    size = torch.where(is_stuck, 0, gradient.abs()).flatten(1)
    n_moved = max(1, int(L1_SHARE * size.shape[1]))
    least = size.topk(n_moved, dim=1).values[:, -1:]
    is_moved = ((size >= least) & (size > 0)).to(gradient.dtype)
    share = is_moved / is_moved.sum(dim=1, keepdim=True).clamp(min=1)
    return gradient.sign() * share.view_as(gradient)
