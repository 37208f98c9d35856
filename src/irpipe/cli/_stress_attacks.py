"""The attacks of `irpipe stress`, one after the other: finished ones are not repeated."""

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irpipe import code_hash
from irpipe.cli._failures import attack_failure, is_ours, machine_failure, print_traceback
from irpipe.errors import IrpipeError, NotApplicableError
from irpipe.results.result import Result, read_result, write_result
from irpipe.results.stress_record import Attempt, read_attempts, write_attempts

if TYPE_CHECKING:
    import torch

    from irpipe.datasets import Images
    from irpipe.networks.load import LoadedNetwork


class StressAttacks:
    """Attacks one network; keeps the results, how each attack ended, and why some failed."""

    def __init__(
        self,
        args: argparse.Namespace,
        network: "LoadedNetwork",
        test: "Images",
        device: "torch.device",
    ) -> None:
        self.args = args
        self.network = network
        self.test = test
        self.device = device
        self.results: dict[str, Result] = {}
        self.attempts: list[Attempt] = []
        self.failures: list[str] = []
        self._seconds = {attempt.attack: attempt.seconds for attempt in read_attempts(args.output)}

    def run(self, name: str, options: dict[str, Any]) -> Result | None:
        """Attack, write the result and note how it ended. None means failed or left out."""
        kind = options["kind"]
        try:
            self._require_maps(options)
            result, seconds = self._finished(name, options) or self._attack(name, options)
        except NotApplicableError as error:
            print(f"{name}: left out, because {error}")
            self._note(Attempt(name, kind, "left out", reason=str(error)))
            return None
        except Exception as error:
            reason = self._explain(name, error)
            print(f"{name}: failed")
            self._note(Attempt(name, kind, "failed", reason=reason))
            return None
        self.results[name] = result
        self._note(Attempt(name, kind, "finished", seconds))
        return result

    def _require_maps(self, options: dict[str, Any]) -> None:
        """Raise NotApplicableError if an attack needs maps and the network has none."""
        needs_maps = "interpreter" in options or "interpreters" in options
        if needs_maps and not getattr(self.network.network, "has_maps", True):
            reason = getattr(self.network.network, "why_no_maps", "")
            raise NotApplicableError(f"it attacks maps and this network has none: {reason}")

    def _note(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)
        write_attempts(self.args.output, self.attempts)

    def _explain(self, name: str, error: Exception) -> str:
        """One line on why an attack failed; raises the error if irpipe itself is at fault."""
        # Whatever an external network's code raises is the network's error.
        is_external = self.network.metadata["run"] == "external"
        is_known = isinstance(error, IrpipeError) or machine_failure(error)
        if not is_external and not is_known and is_ours(error):
            raise error
        if self.args.debug:
            print_traceback(error)
        failure = attack_failure(error, name, self.args.checkpoint)
        self.failures.append(failure)
        return failure.removeprefix(f"{name} on {self.args.checkpoint}: ")

    def _path(self, name: str) -> Path:
        path: Path = self.args.output / f"{name}.h5"
        return path

    def _finished(self, name: str, options: dict[str, Any]) -> tuple[Result, float | None] | None:
        """The result of an earlier call, and its seconds, if all that decides it is the same."""
        from irpipe.evaluation import result_attributes

        path = self._path(name)
        if not path.is_file():
            return None
        try:
            result = read_result(path)
        except IrpipeError:
            return None
        current = self._code_hash(options)
        attrs = result_attributes(self.network, name, options, self.test, self.device, current)
        if result.attrs != json.loads(json.dumps(attrs)):
            return None
        print(f"{path}: finished before, not repeated")
        return result, self._seconds.get(name)

    def _attack(self, name: str, options: dict[str, Any]) -> tuple[Result, float]:
        """Attack, note the seconds, write the result and read it back."""
        from irpipe.evaluation import evaluate_network

        start = time.monotonic()
        result = evaluate_network(
            self.network, name, options, self.test, self.device, self._code_hash(options)
        )
        seconds = time.monotonic() - start
        # The seconds come first: a result without them would count as finished.
        self._seconds[name] = seconds
        attempt = Attempt(name, options["kind"], "finished", seconds)
        write_attempts(self.args.output, [*self.attempts, attempt])
        write_result(self._path(name), result)
        print(self._path(name))
        return read_result(self._path(name)), seconds

    def _code_hash(self, options: dict[str, Any]) -> str:
        return code_hash.of_evaluation(self.network.metadata["data"]["kind"], options["kind"])
