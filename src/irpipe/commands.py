"""What the subcommands do: look names up, check the code's hash, call the one function, write, say what was written.

torch is imported by those that need it, so that the others start at once.
"""

import argparse
import importlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from irpipe import codehash, config, io
from irpipe.errors import IrpipeError
from irpipe.jobs import read_benchmarks
from irpipe.verify import SEAL, damaged, seal

if TYPE_CHECKING:
    import torch

    from irpipe.evaluate import Subject


def _entry(section: str, given: str, options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Name and resolved entry of an argument `NAME` or `NAME={...}`."""
    name, equals, text = given.partition("=")
    if not equals:
        return name, config.lookup(section, name, options.config)
    try:
        entry = json.loads(text)  # as the workflow writes it; YAML would read its 1e-05 as text
    except (ValueError, RecursionError):
        entry = config.parse(text, f"{section}.{name}")
    config.check_name(name, section)
    return name, config.resolved(section, entry, f"{section}.{name}")


def _checked(code: str, options: argparse.Namespace) -> str:
    """The code's hash, if it is the one the caller expects: the code may have changed while the job waited."""
    if options.code not in (None, code):
        raise IrpipeError(f"--code {options.code}: the code is now {code}; start the workflow again")
    return code


def _network(path: Path) -> None:
    """Refuse a place for a network that cannot be written, or that its own log would overwrite."""
    if path.suffix != ".safetensors":
        raise IrpipeError(f"--output {path}: networks are written as NAME.safetensors")
    io.writable(path)


def check_command(options: argparse.Namespace) -> None:
    """`irpipe check`: check a config and count what it makes."""
    path = options.config or config.SHIPPED / "config.yaml"
    checked = config.check(config.read(path), str(path))
    made = [run for entry in checked["networks"] for run in config.runs(entry)]
    print(f"{path}: {len(made)} networks, {len(checked['tables'])} tables, {len(checked['figures'])} figures; all well")


def verify_command(options: argparse.Namespace) -> None:
    """`irpipe verify`: name outputs that are damaged; with --remove, remove them for the workflow to make again."""
    found = damaged(options.folder)
    for path, message in found.items():
        if options.remove:
            path.unlink(missing_ok=True)
        print(message + ("; removed" if options.remove else ""))
    if found and not options.remove:
        raise IrpipeError(f"{options.folder}: {len(found)} damaged; remove them with --remove, then run the workflow")
    print(f"{options.folder}: {len(found)} removed; run the workflow" if found else f"{options.folder}: all whole")


def data_command(options: argparse.Namespace) -> None:
    """`irpipe data`: read a split of a data set, fetching it if allowed, and record its hash."""
    name, spec = _entry("datasets", options.dataset, options)
    _checked(codehash.of_data(spec["kind"]), options)
    from irpipe.data import data_root, load

    root = data_root(options.data)
    images = load(spec, root, options.split, options.download)
    record = {"dataset": name, "data": spec, "split": options.split, "images": len(images), "sha256": images.sha256()}
    with io.replacing(options.output) as beside:
        beside.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{name}: {len(images)} {options.split} images in {root}\n{options.output}")


def import_command(options: argparse.Namespace) -> None:
    """`irpipe import`: a released pickle becomes a checkpoint."""
    name, spec = _entry("datasets", options.dataset, options)
    config.check_name(options.method, "--method")
    _checked(codehash.of_import(spec["kind"]), options)
    _network(options.output)
    from irpipe.released import convert

    io.write_checkpoint(options.output, convert(options.network, name, spec, options.model, options.method))
    print(options.output)


def train_command(options: argparse.Namespace) -> None:
    """`irpipe train`: train one network and write it beside its log."""
    dataset, data = _entry("datasets", options.dataset, options)
    method, spec = _entry("methods", options.method, options)
    _, recipe = _entry("recipes", options.recipe, options)
    _network(options.output)
    if not 0 <= options.run < 2**32 - recipe["seed"]:
        raise IrpipeError(f"--run {options.run}: count networks from 0; seed and run together stay below 2**32")
    code = _checked(codehash.of_training(data["kind"], spec["kind"]), options)
    from irpipe.data import data_root
    from irpipe.hardware import device
    from irpipe.train import Plan, train

    plan = Plan(dataset, data, options.model, method, spec, recipe, options.run, code)
    states = options.state or options.output.parent / ".state"
    path = options.output.with_suffix(".csv")

    def save(checkpoint: io.Checkpoint, log: list[dict[str, float]]) -> None:
        about = {key: checkpoint.metadata[key] for key in ("dataset", "model", "method", "run", "code")}
        io.write_log(path, about | {"device": checkpoint.metadata["versions"]["device"]}, log)
        io.write_checkpoint(options.output, checkpoint)
        print(f"held-out accuracy {log[-1]['clean_accuracy']:.3f}, attacked {log[-1]['attacked_accuracy']:.3f}")
        print(f"{options.output}\n{path}")

    train(plan, data_root(options.data), device(options.device), states, save)


def evaluate_command(options: argparse.Namespace) -> None:
    """`irpipe evaluate`: attack one network, write the result, print its accuracies."""
    name, spec = _entry("attacks", options.attack, options)
    io.writable(options.output)
    about = io.read_checkpoint(options.checkpoint).identity(options.checkpoint)
    kind = config.resolved("datasets", about["data"], f"{options.checkpoint}: data")["kind"]
    code = _checked(codehash.of_evaluation(kind, spec["kind"]), options)
    from irpipe.data import data_root
    from irpipe.evaluate import evaluate
    from irpipe.hardware import device

    result = evaluate(options.checkpoint, name, spec, data_root(options.data), device(options.device), code)
    io.write_result(options.output, result)
    print(_accuracies(result))
    print(options.output)


def _accuracies(result: io.Result) -> str:
    """Accuracy per radius (rows) and step count (columns), as text; for attacks that choose them, mean radii."""
    arrays = result.arrays
    correct = np.mean(arrays["correct"], axis=0)
    radii = arrays["eps"] if "eps" in arrays else np.mean(arrays["radius"], axis=(0, 2))
    heads = [f"{count} steps" for count in arrays["steps"]] if "steps" in arrays else range(correct.shape[1])
    lines = ["   radius" + "".join(f"{head:>11}" for head in heads)]
    for radius, row in zip(radii, correct, strict=True):
        lines.append(f"{radius:9.4f}" + "".join(f"{value:11.3f}" for value in row))
    return "\n".join(lines) + f"\naccuracy on {len(result.arrays['label'])} test images"


def stress_command(options: argparse.Namespace) -> None:
    """`irpipe stress`: attack anyone's network by several attacks, write their results, print what they leave."""
    from irpipe.data import data_root
    from irpipe.evaluate import examine
    from irpipe.hardware import device
    from irpipe.reports.parts.masking import flags, verdict

    where, results = device(options.device), []
    subject = _subject(options, where)
    stress = argparse.Namespace(config=options.config or config.SHIPPED / "stress.yaml")
    attacks = [_entry("attacks", given, stress) for given in options.attacks]
    if options.images is not None:
        attacks = [
            (name, config.resolved("attacks", spec | {"images": options.images}, f"--images, {name}"))
            for name, spec in attacks
        ]
    for name, spec in attacks:
        path = options.output / f"{name}.h5"
        io.writable(path)
        if "interpreter" in spec and not getattr(subject.network, "has_maps", True):
            print(f"{name}: left out, it is on maps, and the network ends in no linear head over averaged features")
            continue
        code = codehash.of_evaluation(subject.about["data"]["kind"], spec["kind"])
        results.append(examine(subject, name, spec, data_root(options.data), where, code))
        io.write_result(path, results[-1])
        print(f"{path}\n{_left(results[-1])}")
    found = flags([result for result in results if _nominal(result)], "stress")
    if found:
        print(verdict(found))


def _nominal(result: io.Result) -> bool:
    """Whether a result has the data set's radius, at which signs of masking are looked for."""
    return bool(np.isclose(result.arrays.get("eps", np.empty(0)), result.attrs["nominal_radius"]).any())


def _subject(options: argparse.Namespace, where: "torch.device") -> "Subject":
    """The network to stress: an irpipe checkpoint, a torch.export file, or what `module:function` gives."""
    from irpipe import foreign
    from irpipe.data import dataset
    from irpipe.evaluate import Subject, subject_of

    given = options.checkpoint
    if given.endswith(".safetensors"):
        if options.dataset or options.name:
            raise IrpipeError(f"--dataset, --name: {given} says both itself; leave them out")
        return subject_of(Path(given), where)
    if ":" not in given and not given.endswith(".pt2"):
        raise IrpipeError(f"--checkpoint {given}: neither NET.safetensors nor NET.pt2 nor module:function")
    if not options.dataset:
        raise IrpipeError(f"--dataset: missing; {given} does not say what its images are")
    name, spec = _entry("datasets", options.dataset, options)
    method = options.name or re.sub(r"\W", "_", Path(given.rpartition(":")[2]).stem)
    config.check_name(method, "--name")
    module = dataset(spec["kind"])
    network, total = foreign.load(given, module.SHAPE, len(module.CLASSES), where)
    about = {"dataset": name, "data": spec, "model": "own", "method": method, "run": "given", "given": given}
    return Subject(network, foreign.AsItIs(network, module.SHAPE), about, total)


def _left(result: io.Result) -> str:
    """What an attack leaves at each radius, after its most steps: accuracy and, for maps, mean correlation."""
    from irpipe.reports.parts.correlation import lasting

    arrays = result.arrays
    if "eps" not in arrays:
        return _accuracies(result)
    heads = [f"{radius:7.4f}" for radius in arrays["eps"]]
    lines = {"radius": heads, "accuracy": [f"{rate:7.3f}" for rate in arrays["correct"][:, :, -1].mean(axis=0)]}
    if "tau" in arrays:
        lines["tau"] = [f"{mean:7.3f}" for mean in lasting(arrays)[:, :, -1].mean(axis=0)]
    return "\n".join(f"  {head:9}" + "".join(row) for head, row in lines.items())


def report_command(options: argparse.Namespace) -> None:
    """`irpipe report`: one table or figure from results."""
    section = "tables" if options.table else "figures"
    name, spec = _entry(section, options.table or options.figure, options)
    _checked(codehash.of_report(spec["kind"]), options)
    report: Callable[..., list[Path]] = importlib.import_module(f"irpipe.reports.{spec['kind']}").report
    own = {key: value for key, value in spec.items() if key != "kind"}
    readers = {".csv": io.read_log, "": read_benchmarks}
    results = [readers.get(path.suffix, io.read_result)(path) for path in options.results]
    written = report(results, options.output / f"{section.removesuffix('s')}_{name}", **own)
    sealed = written[0].with_suffix(SEAL)
    seal(sealed, written)
    print("\n".join(str(path) for path in (*written, sealed)))
