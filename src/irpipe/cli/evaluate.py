"""`irpipe evaluate`: attack one network, write the result, print its accuracies."""

import argparse
from pathlib import Path
from typing import Any

from irpipe import code_hash, config
from irpipe.cli import _arguments
from irpipe.cli._accuracies import accuracies, print_left_out
from irpipe.cli._failures import (
    explained,
    has_code_of_others,
    require_maps,
    require_packages,
)
from irpipe.cli._torch import import_torch
from irpipe.errors import IrpipeError, NotApplicableError
from irpipe.networks.checkpoint import read_checkpoint
from irpipe.results.result import write_result

# Of networks that are no checkpoints of irpipe, next to FILE.py:function and module:function.
FOREIGN_SUFFIXES = (".pt", ".pt2", ".pth")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    _arguments.add_config(parser)
    _arguments.add_code(parser)
    text = "NET.safetensors of irpipe or, with --external, ./NET.pt2 or ./FILE.py:function"
    parser.add_argument("--checkpoint", required=True, metavar="NETWORK", help=text)
    text = (
        "what a network from elsewhere is called: model and method; --dataset says what its images "
        "are. It is a file beside the config, and can run any code"
    )
    parser.add_argument("--external", metavar="MODEL/METHOD", help=text)
    parser.add_argument("--dataset", metavar="NAME", help=f"with --external: {_arguments.ENTRY}")
    _arguments.add_entries(parser, "attack")
    _arguments.add_data(parser)
    _arguments.add_device(parser)
    text = "folder of what interrupted evaluations have done (default: .state next to the output)"
    parser.add_argument("--state", type=Path, metavar="FOLDER", help=text)
    _arguments.add_output(parser, "RESULT.h5")


def _names_and_data(args: argparse.Namespace) -> tuple[dict[str, str], dict[str, Any]]:
    """The names of an external network, none for another, and the entry of its data set."""
    if not args.external:
        path = Path(args.checkpoint)
        if path.suffix in FOREIGN_SUFFIXES or (":" in path.name and not path.exists()):
            raise IrpipeError(
                f"--checkpoint {path}: no NET.safetensors; for a network from elsewhere, say "
                "--external MODEL/METHOD and --dataset, or use irpipe stress"
            )
        if args.dataset:
            raise IrpipeError(f"--dataset: {path} says itself what its images are; leave it out")
        metadata = read_checkpoint(path).identity(path)
        return {}, config.resolve_named("datasets", metadata["data"], f"{path}: data")
    if not args.dataset:
        raise IrpipeError("--external: needs --dataset, which says what the images are")
    dataset, data = _arguments.read_entry("datasets", args.dataset, args.config)
    model, slash, method = args.external.partition("/")
    if not slash:
        raise IrpipeError(f"--external {args.external}: expected MODEL/METHOD, such as mine/adv")
    for name in (model, method):
        config.check_name(name, "--external")
    names = {"dataset": dataset, "model": model, "method": method, "run": "external"}
    return names, data


def run(args: argparse.Namespace) -> None:
    """Attack the network and write the result."""
    name, options = _arguments.read_entry("attacks", args.attack, args.config)
    _arguments.require_output(args.output, "results", ".h5")
    require_packages(options["kind"])
    import_torch()
    names, data = _names_and_data(args)
    current = code_hash.of_evaluation(data["kind"], options["kind"])
    _arguments.require_code(current, args.code)
    from irpipe.datasets import data_root, load
    from irpipe.evaluation import evaluate_network
    from irpipe.evaluation.state import EvaluationState
    from irpipe.networks.load import load_for_attack
    from irpipe.networks.load_external import load_under_names
    from irpipe.runtime.device import select_device

    device = select_device(args.device)
    state = EvaluationState(args.state or args.output.parent / ".state")
    if names:
        network = load_under_names(args.checkpoint, names, data, device)
    else:
        network = load_for_attack(Path(args.checkpoint), device)
    try:
        require_maps(network.network, options)
    except NotApplicableError as error:
        raise IrpipeError(f"{name} on {args.checkpoint}: {error}") from error
    test = load(data, data_root(args.data), "test")
    is_external = has_code_of_others(network.metadata, options["kind"])
    with explained(name, str(args.checkpoint), is_external=is_external):
        result = evaluate_network(network, name, options, test, device, current, state=state)
    write_result(args.output, result)
    state.remove()
    print(accuracies(result))
    print_left_out(result)
    print(args.output)
