"""TRADES (Zhang et al., 2019, eq (3)): the change of the prediction, beside the clean loss. Protocol C.2, C.3 T8."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from irpipe.methods import Objective
from irpipe.models import Classifier
from irpipe.quantities import NotNegative


def objective(
    network: Classifier,
    images: Tensor,
    labels: Tensor,
    *,
    beta: NotNegative = 1.0,  # T8; the authors of TRADES: 6 on CIFAR-10, 1 on MNIST
    start: Literal["uniform", "gaussian"] = "uniform",  # T8; the authors of TRADES: 0.001 times normal noise
    summed: bool = True,  # over the batch, as the released code's vector loss is, C.2
) -> Objective:
    """Mean cross-entropy of the clean images plus `beta` times the mean KL divergence from clean to perturbed.

    Gradients flow through both predictions. `summed` multiplies by the batch size.
    """
    clean = network(images)
    reference = F.log_softmax(clean, dim=1)
    fitted = F.cross_entropy(clean, labels)
    scale = len(labels) if summed else 1

    def loss(perturbed: Tensor) -> Tensor:
        moved = F.log_softmax(network(perturbed), dim=1)
        divergence = F.kl_div(moved, reference, reduction="batchmean", log_target=True)
        return scale * (fitted + beta * divergence)

    return Objective(loss, start=start, apart=True)
