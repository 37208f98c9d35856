"""Cross-entropy on clean images (Normal) or on attacked ones (Adv; Madry et al., 2018). Protocol C.2."""

from torch import Tensor
from torch.nn import functional as F

from irpipe.methods import Objective
from irpipe.models import Classifier


def objective(network: Classifier, images: Tensor, labels: Tensor, *, attacked: bool) -> Objective:
    """Mean cross-entropy of `images` `[N, C, H, W]`, perturbed if `attacked`."""
    if attacked:
        return Objective(lambda perturbed: F.cross_entropy(network(perturbed), labels), apart=True)
    return Objective(lambda _: F.cross_entropy(network(images), labels), attacked=False)
