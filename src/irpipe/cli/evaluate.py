"""`irpipe evaluate`: attack one network, write the result, print its accuracies."""

import argparse
from pathlib import Path

from irpipe import code_hash, config
from irpipe.cli import _arguments
from irpipe.cli._accuracies import accuracies, print_left_out
from irpipe.cli._failures import attack_failure, is_ours, require_packages
from irpipe.errors import IrpipeError
from irpipe.files import ensure_writable
from irpipe.networks.checkpoint import read_checkpoint
from irpipe.results.result import write_result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    _arguments.add_config(parser)
    _arguments.add_code(parser)
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="NET.safetensors")
    _arguments.add_entries(parser, "attack")
    _arguments.add_data(parser)
    _arguments.add_device(parser)
    text = "folder of what interrupted evaluations have done (default: .state next to the output)"
    parser.add_argument("--state", type=Path, metavar="FOLDER", help=text)
    _arguments.add_output(parser, "RESULT.h5")


def run(args: argparse.Namespace) -> None:
    """Attack the network and write the result."""
    name, options = _arguments.read_entry("attacks", args.attack, args.config)
    ensure_writable(args.output)
    require_packages(options["kind"])
    metadata = read_checkpoint(args.checkpoint).identity(args.checkpoint)
    data = config.resolve_named("datasets", metadata["data"], f"{args.checkpoint}: data")
    current = code_hash.of_evaluation(data["kind"], options["kind"])
    _arguments.require_code(current, args.code)
    from irpipe.datasets import data_root
    from irpipe.evaluation import evaluate_checkpoint
    from irpipe.evaluation.state import EvaluationState
    from irpipe.runtime.device import select_device

    device = select_device(args.device)
    state = EvaluationState(args.state or args.output.parent / ".state")
    try:
        result = evaluate_checkpoint(
            args.checkpoint, name, options, data_root(args.data), device, current, state
        )
    except Exception as error:
        if is_ours(error):
            raise
        raise IrpipeError(attack_failure(error, name, str(args.checkpoint))) from error
    write_result(args.output, result)
    state.remove()
    print(accuracies(result))
    print_left_out(result)
    print(args.output)
