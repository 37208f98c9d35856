"""Check the certificates of a result again, in float64 and from nothing but the file."""

import zipfile
import zlib

import numpy as np

from irpipe.certification.certificate import MIN_MARGIN, Certificate
from irpipe.certification.recheck import CertificateChecker
from irpipe.certification.status import Status
from irpipe.datasets import Images
from irpipe.errors import IrpipeError, reason_of
from irpipe.networks.network import Network
from irpipe.results.labels import eps_label
from irpipe.results.packed_bytes import unpack
from irpipe.results.result import Result
from irpipe.runtime.progress import progress

# Machines add up float64 in different orders. A margin may fall short of the stored one by this.
TOLERANCE = 1e-6
# What numpy and torch raise for a certificate whose bytes were changed.
DAMAGE = (
    OSError,
    LookupError,
    ValueError,
    RuntimeError,
    TypeError,
    zipfile.BadZipFile,
    zlib.error,
)


def recheck_certificates(result: Result, network: Network, test: Images) -> int:
    """Compute again what all certificates of a result of kind `certify` prove; count them.

    `network` and the test set `test` are the result's. Raises IrpipeError, which names the image
    and eps, if
    - an image counts as certified without a certificate, or has one and does not count;
    - the label is not that of the test set;
    - a certificate is invalid, does not prove that the image is certified, or proves less than the
      stored bound.
    """
    arrays = result.arrays
    try:
        content, sizes = arrays["certificate"], arrays["certificate_size"]
    except KeyError as error:
        message = f"{result.path}: has no array {error}, so it certifies nothing; evaluate it again"
        raise IrpipeError(message) from error
    is_certified = arrays["status"] == Status.CERTIFIED
    for number, point, _ in np.argwhere(is_certified != (sizes > 0)):
        raise IrpipeError(
            f"{_name(result, number, point)}: is certified without a certificate, or the reverse"
        )
    checker = CertificateChecker(network)
    with progress(f"certificates of {result.path}", int(is_certified.sum())) as advance:
        for cell, packed in unpack(content, sizes):
            _recheck(result, checker, test, cell, packed)
            advance()
    return int(is_certified.sum())


def _recheck(
    result: Result,
    checker: CertificateChecker,
    test: Images,
    cell: tuple[int, ...],
    packed: bytes,
) -> None:
    """Check the certificate `packed` of the cell [image, eps, step count]; raise IrpipeError."""
    number, point, _ = cell
    arrays = result.arrays
    index, label = int(arrays["indices"][number]), int(arrays["label"][number])
    if label != int(test.labels[index]):
        raise IrpipeError(
            f"{_name(result, number, point)}: has label {label}, "
            f"but the test set has {int(test.labels[index])}"
        )
    try:
        certificate = Certificate.from_bytes(packed)
        eps = float(arrays["eps"][point])
        image = test.images[index : index + 1][0]
        margins = checker.margins(image, label, eps, certificate)
    except (IrpipeError, *DAMAGE) as error:
        raise IrpipeError(f"{_name(result, number, point)}: {reason_of(error)}") from error
    proven, stored = min(margins.values()), float(arrays["margin_lower_bound"][cell])
    if proven <= MIN_MARGIN or proven < stored - TOLERANCE:
        raise IrpipeError(
            f"{_name(result, number, point)}: the certificate proves a margin of {proven:.6g}; "
            f"the result has {stored:.6g}, and an image is certified above {MIN_MARGIN:g}"
        )


def _name(result: Result, number: int, point: int) -> str:
    index = result.arrays["indices"][number]
    return f"{result.path}: image {index} at eps {eps_label(result.arrays['eps'][point])}"
