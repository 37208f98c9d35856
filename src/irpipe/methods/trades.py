"""TRADES (Zhang et al., 2019): a small change of the prediction (C.2, C.3 T8)."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from irpipe.methods import Objective
from irpipe.methods._linear_loss import log_softmax_chain
from irpipe.networks.network import Classifier
from irpipe.option_types import NotNegative


def objective(
    network: Classifier,
    images: Tensor,
    labels: Tensor,
    *,
    # Zhang et al. take 6 on CIFAR-10 and 1 on MNIST (C.3 T8).
    beta: NotNegative = 1.0,
    # Zhang et al. start from 0.001 times normal noise, "gaussian" (C.3 T8).
    init: Literal["uniform", "gaussian"] = "uniform",
    # Over the batch. The released code minimises a vector of losses, and so their sum (C.2).
    reduction: Literal["sum", "mean"] = "sum",
) -> Objective:
    """TRADES: minimise CE(f(x), t) + beta * max_{x'} KL(p(x) || p(x')), with p = softmax(f).

    Zhang et al. (2019), eq (3). Gradients flow through p(x) and p(x').
    """
    logits = network(images)
    log_p = F.log_softmax(logits, dim=1)  # log p(x)
    cross_entropy = F.cross_entropy(logits, labels)
    scale = len(labels) if reduction == "sum" else 1

    def loss_of(log_q: Tensor) -> Tensor:
        """The loss, linear in log p(x')."""
        divergence = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
        return scale * (cross_entropy + beta * divergence)

    return Objective(
        lambda perturbed: loss_of(F.log_softmax(network(perturbed), dim=1)),
        inner_chain=log_softmax_chain(network, loss_of),
        init=init,
        separable=True,
    )
