"""Check a certificate in float64, by code that shares nothing with the search for it."""

import copy
import math
from functools import cache

import torch
from torch import Tensor

from irpipe.certification.certificate import Certificate, PoolCertificate, SmallCertificate
from irpipe.certification.recheck_architecture import architecture_of
from irpipe.certification.recheck_network import SmallNetwork
from irpipe.certification.recheck_pool import pool_margins
from irpipe.certification.recheck_small import small_margins
from irpipe.errors import IrpipeError
from irpipe.networks.network import Network


class CertificateChecker:
    """Checks certificates for one network, in float64, whose weights are copied here."""

    def __init__(self, network: Network) -> None:
        self.network = copy.deepcopy(network).to("cpu", torch.float64).requires_grad_(False)
        self.architecture = architecture_of(network)
        self._small = cache(lambda shape: SmallNetwork(self.network, shape))

    def margins(
        self, image: Tensor, label: int, eps: float, certificate: Certificate
    ) -> dict[int, float]:
        """Return a lower bound of f_label - f_t for each other class t.

        It holds for all images within `eps` + EPS_MARGIN of `image` `[C, H, W]`, in real
        arithmetic. All bounds are computed anew in float64, from the network's weights and the
        certificate's duals. Raises IrpipeError if the certificate is not for this label, these
        classes and this eps, if a dual lies outside its limits, if the leaves of a place do not
        cover it, or if the network is of another architecture.
        """
        if certificate.label != label:
            raise IrpipeError(f"certificate: is for label {certificate.label}, not {label}")
        if certificate.eps < eps:
            raise IrpipeError(
                f"certificate: is for eps {certificate.eps}, which is less than {eps}"
            )
        targets = sorted(int(proof.target) for proof in certificate.proofs)
        others = sorted(set(range(len(self.network.head))) - {label})
        if targets != others:
            raise IrpipeError(f"certificate: proves targets {targets}; expected {others}")
        # Numbers that are not finite prove nothing. min() of these margins must not pass over them.
        return {
            target: margin if math.isfinite(margin) else -math.inf
            for target, margin in self._margins(image, certificate).items()
        }

    def _margins(self, image: Tensor, certificate: Certificate) -> dict[int, float]:
        if isinstance(certificate, SmallCertificate) and self.architecture == "Small":
            return small_margins(self._small(image.shape), image, certificate)
        if isinstance(certificate, PoolCertificate) and self.architecture == "Pool":
            return pool_margins(self.network, image, certificate)
        kind = "Pool" if isinstance(certificate, PoolCertificate) else "Small"
        raise IrpipeError(f"certificate: is for the architecture {kind}; the network is another")
