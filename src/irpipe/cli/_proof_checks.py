"""The part of `irpipe verify` that is about proofs: certificates, and attacks against them."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from irpipe.analysis.cross_check import cross_check
from irpipe.errors import IrpipeError
from irpipe.files import files_below
from irpipe.networks.checkpoint import read_checkpoint
from irpipe.results.result import Result, read_result


class ProofChecks:
    """Checks of all results below `folder`. `data` is the folder of data sets, or None."""

    def __init__(self, folder: Path, data: Path | None) -> None:
        self.folder = folder
        self.data = data

    def run(self) -> None:
        """Check certificates, then attacks against them; print what was checked and what was not.

        Raises IrpipeError if a certificate does not prove what its result says, if it is of
        another network than the one that lies next to it, or if an attack breaks an image that is
        certified.
        """
        comparisons = cross_check(self._results())
        if comparisons:
            n_within = sum(comparison.n_within for comparison in comparisons)
            print(
                f"{self.folder}: all of {n_within} adversarial images within a certified eps are "
                "classified correctly"
            )

    def _results(self) -> Iterator[Result]:
        """Yield all results; check certificates on the way."""
        for path in files_below(self.folder):
            if path.suffix == ".h5":
                result = read_result(path)
                if result.attrs.get("kind") == "certify":
                    print(f"{path}: {self._check_certificates(path, result)}")
                yield result

    @cached_property
    def _networks(self) -> dict[str, Path]:
        """The networks below the folder, by SHA-256."""
        paths = [path for path in files_below(self.folder) if path.suffix == ".safetensors"]
        return {read_checkpoint(path).sha256: path for path in paths}

    def _check_certificates(self, path: Path, result: Result) -> str:
        """Check a result's certificates; return in words what was checked."""
        sha256 = result.attrs["network_sha256"]
        checkpoint = self._networks.get(sha256)
        if checkpoint is None:
            neighbour = path.with_name("network.safetensors")
            if neighbour.is_file():
                raise IrpipeError(
                    f"{path}: is of the network with SHA-256 {sha256}, but {neighbour} has "
                    f"{read_checkpoint(neighbour).sha256}; evaluate it again"
                )
            return (
                "certificates not checked, because no network below "
                f"{self.folder} has the SHA-256 {sha256}"
            )
        import torch

        from irpipe.datasets import data_root, load
        from irpipe.evaluation.stored_certificates import recheck_certificates
        from irpipe.networks.load import load_for_attack

        network = load_for_attack(checkpoint, torch.device("cpu"))
        root = data_root(self.data)
        try:
            test = load(network.metadata["data"], root, "test")
        except IrpipeError as error:
            return f"certificates not checked, because the test set is missing: {error}"
        if test.sha256() != result.attrs["data_sha256"]:
            return f"certificates not checked, because {root} has another test set"
        n_certificates = recheck_certificates(result, network.network, test)
        return f"{n_certificates} certificates checked again in float64"
