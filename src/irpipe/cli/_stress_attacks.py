"""The attacks of `irpipe stress`, one after the other: finished ones are not repeated."""

import argparse
import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irpipe import code_hash
from irpipe.cli._failures import (
    attack_failure,
    has_code_of_others,
    print_traceback,
    require_maps,
)
from irpipe.cli._stress_proofs import FILE_NAME, Certified, kept_proofs
from irpipe.errors import IrpipeError, NotApplicableError
from irpipe.results.labels import duration
from irpipe.results.result import Result, read_result, write_result
from irpipe.results.stress_record import Attempt, read_attempts, write_attempts

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from irpipe.datasets import Images
    from irpipe.networks.load import LoadedNetwork


MAPS = "maps"  # name of the attack whose maps the page shows


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
        self._attrs: dict[str, dict[str, Any]] = {}
        # How attacks ended, in earlier calls too: one that is interrupted forgets no time.
        self._record = {attempt.attack: attempt for attempt in read_attempts(args.output)}

    def print_estimate(self, attacks: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Print how long those attacks take at most that are not finished, from timed passes."""
        try:
            line = self._estimate(attacks)
        except (Exception, SystemExit) as error:  # The attacks will tell of it.
            line = f"no estimate ({type(error).__name__})"
        if line:
            print(f"time: {line}", flush=True)

    def _estimate(self, attacks: Sequence[tuple[str, dict[str, Any]]]) -> str:
        """How long all attacks take that are not finished, and each of them; empty if none is."""
        from irpipe.evaluation.estimate import estimate_seconds, seconds_per_pass

        pending = []
        for name, asked in attacks:
            options = self._with_proofs(asked)
            # What is wrong with an attack, or a network of others, is told when its turn comes.
            with contextlib.suppress(Exception, SystemExit):
                self._require_applicable(name, options)
                if self._finished(name, options) is None:
                    pending.append((name, self._attributes(name, options)["options"]))
        if not pending:
            return ""
        entries = [options for _, options in pending]
        per_pass = seconds_per_pass(self.network, self.test, entries, self.device)
        estimates = estimate_seconds(entries, per_pass, len(self.network.network.head))
        known = [seconds for seconds in estimates if seconds is not None]
        parts = [
            f"{name} {'not known' if seconds is None else duration(seconds)}"
            for (name, _), seconds in zip(pending, estimates, strict=True)
        ]
        return f"at most {duration(sum(known))} ({', '.join(parts)})"

    def _with_proofs(self, options: dict[str, Any]) -> dict[str, Any]:
        """Set `skip_certified` of an l-inf attack that has it, if the network's bounds are fast.

        Bounds are of l-inf balls, and such a ball around one of another norm is far larger.
        Not with --save-images: there, another program may want an adversarial image of each.
        """
        from irpipe.certification.root_bounds import has_fast_bounds

        can_skip = "skip_certified" in options and options.get("norm") == "linf"
        if can_skip and not self.args.save_images and has_fast_bounds(self.network.network):
            return options | {"skip_certified": True}
        return options

    def run(self, name: str, options: dict[str, Any]) -> Result | None:
        """Attack, write the result and note how it ended. None means failed or left out."""
        options = self._with_proofs(options)
        kind = options["kind"]
        try:
            self._require_applicable(name, options)
            result = self._finished(name, options)
            if result:
                print(f"{self._path(name)}: finished before, not repeated")
            else:
                result = self._attack(name, options)
        except NotApplicableError as error:
            print(f"{name}: left out, because {error}")
            self._note(Attempt(name, kind, "left out", reason=str(error)))
            return None
        except (Exception, SystemExit) as error:
            reason = self._explain(name, error, kind)
            print(f"{name}: failed")
            self._note(Attempt(name, kind, "failed", reason=reason))
            return None
        self.results[name] = result
        earlier = self._record.get(name)
        self._note(Attempt(name, kind, "finished", earlier.seconds if earlier else None))
        return result

    def _require_applicable(self, name: str, options: dict[str, Any]) -> None:
        """Raise NotApplicableError if an attack lacks --norm, or the network what it needs."""
        from irpipe.evaluation import norms_of, require_applicable

        if name != MAPS and self.args.norm not in norms_of(options):
            raise NotApplicableError(f"it has no {self.args.norm} version")
        require_maps(self.network.network, options)
        require_applicable(self.network, options, self.test, self.device)

    def _note(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)
        self._write(attempt)

    def _write(self, attempt: Attempt) -> None:
        self._record[attempt.attack] = attempt
        write_attempts(self.args.output, list(self._record.values()))

    def _explain(self, name: str, error: BaseException, kind: str) -> str:
        """One line on why an attack failed; raises the error if irpipe itself is at fault."""
        is_external = has_code_of_others(self.network.metadata, kind)
        source = self.args.checkpoint
        failure = attack_failure(error, name, source, is_external=is_external)
        if self.args.debug:
            print_traceback(error)
        self.failures.append(failure)
        return failure.removeprefix(f"{name} on {source}: ")

    def _path(self, name: str) -> Path:
        path: Path = self.args.output / f"{name}.h5"
        return path

    def _attributes(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        """The attributes that the attack's result has."""
        from irpipe.evaluation import result_attributes

        if name not in self._attrs:
            current = self._code_hash(options)
            self._attrs[name] = result_attributes(
                self.network, name, options, self.test, self.device, current
            )
        return self._attrs[name]

    def _finished(self, name: str, options: dict[str, Any]) -> Result | None:
        """The result of an earlier call, if all that decides it is the same."""
        path = self._path(name)
        lacks_images = self._saves_images(options) and not self._images_path(name).is_file()
        if not path.is_file() or lacks_images:
            return None
        try:
            result = read_result(path)
        except IrpipeError:
            return None
        attrs = json.loads(json.dumps(self._attributes(name, options)))
        # What a result says of the machine, such as its threads, decides nothing else.
        is_same = all(result.attrs.get(key) == value for key, value in attrs.items())
        return result if is_same else None

    def _attack(self, name: str, options: dict[str, Any]) -> Result:
        """Attack, note the seconds, write the result and read it back."""
        from irpipe.evaluation import evaluate_network
        from irpipe.evaluation.saved_images import save_images

        current = self._code_hash(options)
        batches: list[Tensor] = []
        on_images = batches.append if self._saves_images(options) else None
        start = time.monotonic()
        with self._proofs(name, options) as certified:
            result = evaluate_network(
                self.network,
                name,
                options,
                self.test,
                self.device,
                current,
                on_images,
                certified=certified,
            )
        seconds = time.monotonic() - start
        if batches:
            save_images(self._images_path(name), batches, result, self.network.network, self.test)
        # The result comes last: with it, the attack counts as finished.
        self._write(Attempt(name, options["kind"], "finished", seconds))
        write_result(self._path(name), result)
        print(self._path(name))
        return read_result(self._path(name))

    def _proofs(
        self, name: str, options: dict[str, Any]
    ) -> contextlib.AbstractContextManager[Certified]:
        """What bounds certify, which all attacks share."""
        attrs = self._attributes(name, options)
        deciding = ("network_sha256", "data_sha256", "versions", "device")
        identity = {key: attrs[key] for key in deciding}
        identity["code_hash"] = code_hash.of_proofs(self.network.metadata["model"])
        return kept_proofs(self.args.output / FILE_NAME, identity)

    def _saves_images(self, options: dict[str, Any]) -> bool:
        """Whether the images are saved: those of an attack that bounds them by eps."""
        return self.args.save_images and "eps" in options

    def _images_path(self, name: str) -> Path:
        path: Path = self.args.output / "images" / f"{name}.npz"
        return path

    def _code_hash(self, options: dict[str, Any]) -> str:
        return code_hash.of_evaluation(self.network.metadata["data"]["kind"], options["kind"])
