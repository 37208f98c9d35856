"""What the subcommands do: look names up, check the code's hash, call the one function, write, say what was written.

torch is imported by those that need it, so that the others start at once.
"""

import argparse
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from irpipe import codehash, config, io
from irpipe.errors import IrpipeError
from irpipe.jobs import read_benchmarks


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
    print("\n".join(str(path) for path in written))
