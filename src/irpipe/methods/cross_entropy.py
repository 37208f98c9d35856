"""Cross-entropy of clean images (Normal) or of adversarial ones (Adv; Madry et al., 2018), C.2."""

from torch import Tensor
from torch.nn import functional as F

from irpipe.methods import Objective
from irpipe.methods._linear_loss import log_softmax_chain
from irpipe.networks.network import Classifier


def objective(
    network: Classifier,
    images: Tensor,
    labels: Tensor,
    *,
    # False is Normal, True is Adv.
    adversarial: bool,
) -> Objective:
    """Minimise the mean cross-entropy: CE(f(x), t), or max_{x'} CE(f(x'), t) if `adversarial`."""
    if not adversarial:
        return Objective(lambda _: F.cross_entropy(network(images), labels), uses_adversarial=False)
    return Objective(
        lambda perturbed: F.cross_entropy(network(perturbed), labels),
        inner_chain=log_softmax_chain(network, lambda log_q: F.nll_loss(log_q, labels)),
        separable=True,
    )
