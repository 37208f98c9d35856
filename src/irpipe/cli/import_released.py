"""`irpipe import`: turn a released pickle into a checkpoint."""

import argparse
from pathlib import Path

from irpipe import code_hash, config
from irpipe.cli import _arguments
from irpipe.cli._torch import import_torch
from irpipe.networks.checkpoint import write_checkpoint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    _arguments.add_config(parser)
    _arguments.add_code(parser)
    parser.add_argument("network", type=Path, metavar="NET.pkl")
    _arguments.add_entries(parser, "dataset")
    _arguments.add_model(parser)
    text = "name of the method that trained it"
    parser.add_argument("--method", required=True, metavar="NAME", help=text)
    _arguments.add_output(parser, "NET.safetensors")


def run(args: argparse.Namespace) -> None:
    """Read the pickle and write the checkpoint."""
    name, options = _arguments.read_entry("datasets", args.dataset, args.config)
    config.check_name(args.method, "--method")
    _arguments.require_code(code_hash.of_import(options["kind"]), args.code)
    _arguments.require_output(args.output, "networks", ".safetensors")
    import_torch()
    from irpipe.networks.released import read_released

    checkpoint = read_released(args.network, name, options, args.model, args.method)
    write_checkpoint(args.output, checkpoint)
    print(args.output)
