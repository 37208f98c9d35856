"""`irpipe check`: check a config and count its networks, tables and figures."""

import argparse

from irpipe import config
from irpipe.cli import _arguments
from irpipe.config.yaml_reader import read_yaml


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    _arguments.add_config(parser)


def run(args: argparse.Namespace) -> None:
    """Check the config; print how many networks, tables and figures it makes."""
    path = args.config or config.CONFIG_FOLDER / "config.yaml"
    checked = config.validate(read_yaml(path), str(path))
    n_networks = sum(len(config.runs(entry)) for entry in checked["networks"])
    n_tables = len(checked["tables"])
    n_figures = len(checked["figures"])
    print(f"{path}: {n_networks} networks, {n_tables} tables, {n_figures} figures; all well")
