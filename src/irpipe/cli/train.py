"""`irpipe train`: train one network by a recipe and write it with its training log."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from irpipe import code_hash
from irpipe.cli import _arguments
from irpipe.cli._torch import import_torch
from irpipe.errors import IrpipeError
from irpipe.networks.checkpoint import Checkpoint, write_checkpoint
from irpipe.results.training_log import write_training_log

if TYPE_CHECKING:
    from irpipe.training.trainer import LogLine

# Metadata of the network that stand in every line of the log.
LOGGED = ("dataset", "model", "method", "run", "code_hash")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    _arguments.add_config(parser)
    _arguments.add_code(parser)
    _arguments.add_entries(parser, "dataset", "method", "recipe")
    _arguments.add_model(parser)
    text = "index of the network, from 0; it trains with the recipe's seed + K"
    parser.add_argument("--run", type=int, default=0, metavar="K", help=text)
    _arguments.add_data(parser)
    _arguments.add_device(parser)
    text = "folder of the states of interrupted trainings (default: .state next to the output)"
    parser.add_argument("--state", type=Path, metavar="FOLDER", help=text)
    text = "training log (default: NET.csv)"
    parser.add_argument("--log", type=Path, metavar="FILE.csv", help=text)
    _arguments.add_output(parser, "NET.safetensors")


def run(args: argparse.Namespace) -> None:
    """Train the network, or resume its training where it was interrupted."""
    dataset, data = _arguments.read_entry("datasets", args.dataset, args.config)
    method, options = _arguments.read_entry("methods", args.method, args.config)
    _, recipe = _arguments.read_entry("recipes", args.recipe, args.config)
    _arguments.require_output(args.output, "networks", ".safetensors")
    log_path = args.log or args.output.with_suffix(".csv")
    _arguments.require_output(log_path, "training logs", ".csv", "--log")
    if not 0 <= args.run < 2**32 - recipe["seed"]:
        raise IrpipeError(
            f"--run {args.run}: count networks from 0; seed + run must stay below 2**32"
        )
    current = code_hash.of_training(data["kind"], options["kind"], args.model)
    _arguments.require_code(current, args.code)
    import_torch()
    from irpipe.datasets import data_root
    from irpipe.runtime.device import select_device
    from irpipe.training.plan import TrainingPlan
    from irpipe.training.run import train

    plan = TrainingPlan(dataset, data, args.model, method, options, recipe, args.run, current)
    states = args.state or args.output.parent / ".state"

    def save(checkpoint: Checkpoint, log: "list[LogLine]") -> None:
        """Write the training log, then the checkpoint, and print the last accuracies."""
        metadata = {key: checkpoint.metadata[key] for key in LOGGED}
        metadata["device"] = checkpoint.metadata["versions"]["device"]
        write_training_log(log_path, metadata, log)
        write_checkpoint(args.output, checkpoint)
        clean, attacked = log[-1]["clean_accuracy"], log[-1]["attacked_accuracy"]
        if clean is None or attacked is None:
            print("held-out accuracy: none, because no image of this data set is held out")
        else:
            print(f"held-out accuracy {clean:.3f}, attacked {attacked:.3f}")
        print(f"{args.output}\n{log_path}")

    train(plan, data_root(args.data), select_device(args.device), states, save)
