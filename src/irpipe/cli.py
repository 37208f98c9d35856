"""The command line: one subcommand for each arrow of the workflow, usable by hand in the same form.

Bad input ends in one line on standard error and exit code 2; nothing is written then.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import irpipe
from irpipe import commands
from irpipe.errors import IrpipeError

ENTRY = "a name from the configs, or NAME={kind: ..., ...} to give the entry here"
STRESS = ["pgd", "strong", "autoattack", "square", "aai_topk", "aai_centre", "aai_two_class", "aai_target"]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _named(made: argparse.ArgumentParser, *names: str) -> None:
    for name in names:
        made.add_argument(f"--{name}", required=True, metavar="NAME", help=ENTRY)


def _data(made: argparse.ArgumentParser) -> None:
    text = "folder of the data sets (else IRPIPE_DATA, else data)"
    made.add_argument("--data", type=Path, metavar="FOLDER", help=text)


def _device(made: argparse.ArgumentParser) -> None:
    made.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")


def _model(made: argparse.ArgumentParser) -> None:
    made.add_argument("--model", required=True, choices=["small", "pool", "wresnet"])


def _output(made: argparse.ArgumentParser, shown: str, text: str | None = None) -> None:
    made.add_argument("--output", type=Path, required=True, metavar=shown, help=text)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="irpipe", description=irpipe.__doc__)
    parser.add_argument("--version", action="version", version=irpipe.__version__)
    sub = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for name, (text, add) in COMMANDS.items():
        made = sub.add_parser(name, help=text, description=text)
        made.set_defaults(call=getattr(commands, f"{name}_command"))
        made.add_argument("--config", type=Path, help="look names up in this config instead of those in config/")
        if name not in ("check", "stress", "verify"):
            made.add_argument("--code", help="refuse to run unless the code has this hash (the workflow sets it)")
        add(made)
    return parser


def _add_verify(made: argparse.ArgumentParser) -> None:
    made.add_argument("folder", type=Path, nargs="?", default=Path("results"), metavar="FOLDER")
    made.add_argument("--remove", action="store_true", help="remove them, so that the workflow makes them again")


def _add_data(made: argparse.ArgumentParser) -> None:
    _named(made, "dataset")
    _data(made)
    made.add_argument("--split", choices=["train", "test"], default="test")
    made.add_argument("--download", action="store_true", help="fetch what is missing")
    _output(made, "FILE.json")


def _add_import(made: argparse.ArgumentParser) -> None:
    made.add_argument("network", type=Path, metavar="NET.pkl")
    _named(made, "dataset")
    _model(made)
    made.add_argument("--method", required=True, metavar="NAME", help="the method that trained it")
    _output(made, "NET.safetensors")


def _add_train(made: argparse.ArgumentParser) -> None:
    _named(made, "dataset", "method", "recipe")
    _model(made)
    made.add_argument("--run", type=int, default=0, metavar="K", help="K-th network of its kind: the recipe's seed + K")
    _data(made)
    _device(made)
    text = "where interrupted trainings wait (else beside the output)"
    made.add_argument("--state", type=Path, metavar="FOLDER", help=text)
    _output(made, "NET.safetensors", "its log goes to NET.csv")


def _add_evaluate(made: argparse.ArgumentParser) -> None:
    made.add_argument("--checkpoint", type=Path, required=True, metavar="NET.safetensors")
    _named(made, "attack")
    _data(made)
    _device(made)
    _output(made, "RESULT.h5")


def _add_stress(made: argparse.ArgumentParser) -> None:
    text = "NET.safetensors of irpipe, NET.pt2 of torch.export, or module:function; the last two run their maker's code"
    made.add_argument("--checkpoint", required=True, metavar="NETWORK", help=text)
    made.add_argument("--dataset", metavar="NAME", help=f"of its images; {ENTRY}")
    text = "attacks (default: %(default)s), from config/stress.yaml unless --config; or NAME={kind: ..., ...}"
    made.add_argument("--attacks", nargs="+", default=STRESS, metavar="NAME", help=text)
    made.add_argument("--images", type=int, metavar="N", help="test images (else as the attacks say)")
    made.add_argument("--name", help="of the network in reports (else of its file or function)")
    _data(made)
    _device(made)
    _output(made, "FOLDER", "gets a result file for each attack")


def _add_report(made: argparse.ArgumentParser) -> None:
    which = made.add_mutually_exclusive_group(required=True)
    which.add_argument("--table", metavar="NAME", help=ENTRY)
    which.add_argument("--figure", metavar="NAME", help=ENTRY)
    text = "results (.h5), training logs (.csv), a folder of Snakemake's benchmarks"
    made.add_argument("results", nargs="+", type=Path, metavar="RESULT", help=text)
    _output(made, "FOLDER")


Add = Callable[[argparse.ArgumentParser], None]
COMMANDS: dict[str, tuple[str, Add]] = {
    "check": ("Check a config: every name, kind, key and number.", lambda made: None),
    "verify": (
        "Find outputs that were damaged: networks, logs, results, data records, tables, figures.",
        _add_verify,
    ),
    "data": ("Check that a data set is complete, or fetch it; record its hash.", _add_data),
    "import": ("Turn a released network (.pkl) into a checkpoint.", _add_import),
    "train": ("Train a network from scratch by a named recipe; resumes where it was interrupted.", _add_train),
    "evaluate": ("Attack a network; print accuracy per radius and step count.", _add_evaluate),
    "stress": (
        "Put a network, also one that is not ours, under strong attacks; look for masked gradients.",
        _add_stress,
    ),
    "report": ("Make a table or a figure from results and training logs.", _add_report),
}


def _failed(error: MemoryError | RuntimeError) -> str:
    """What a machine lacks or has lost, if that is the error, and what to do."""
    said = (str(error).splitlines() or [""])[0]
    if isinstance(error, MemoryError) or re.search("(out of|not enough|allocate) memory", said):
        return "out of memory; use a machine with more or, for attacks, a smaller batch"
    if "CUDA error" in said and "assert" not in said:
        return f"the GPU failed ({said}); run it again, training goes on from its last state, or use --device cpu"
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code: 0, or 2 for bad input."""
    # torch's threads would spin while they wait: three times slower when jobs share cores, no faster when they do not
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    options = _parser().parse_args(arguments)
    try:
        options.call(options)
    except IrpipeError as error:
        print(f"irpipe {options.command}: error: {error}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        failed = _failed(error)
        if not failed:
            raise
        print(f"irpipe {options.command}: error: {failed}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"irpipe {options.command}: interrupted", file=sys.stderr)
        return 130
    return 0
