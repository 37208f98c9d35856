"""`irpipe data`: read a split of a data set, fetching it if allowed, and record its hash."""

import argparse

from irpipe import code_hash
from irpipe.cli import _arguments
from irpipe.cli._torch import import_torch
from irpipe.results.data_record import files_sha256, write_data_record


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    _arguments.add_config(parser)
    _arguments.add_code(parser)
    _arguments.add_entries(parser, "dataset")
    _arguments.add_data(parser)
    parser.add_argument("--split", choices=["train", "test"], default="test")
    parser.add_argument("--download", action="store_true", help="fetch what is missing")
    text = "store this hash of a changed content in the record (the workflow sets it)"
    parser.add_argument("--changed-to", default="", metavar="HASH", help=text)
    _arguments.add_output(parser, "FILE.json")


def run(args: argparse.Namespace) -> None:
    """Read the split and write its record as JSON."""
    name, options = _arguments.read_entry("datasets", args.dataset, args.config)
    _arguments.require_code(code_hash.of_data(options["kind"]), args.code)
    _arguments.require_output(args.output, "records", ".json")
    import_torch()
    from irpipe.datasets import data_root, load

    root = data_root(args.data)
    # Before the files are read: a change in the meantime is then noticed.
    files = files_sha256(options, root, args.split)
    images = load(options, root, args.split, args.download)
    record = {
        "dataset": name,
        "data": options,
        "split": args.split,
        "images": len(images),
        "sha256": images.sha256(),
        "files": files or files_sha256(options, root, args.split),  # downloaded just now
        "changed_to": args.changed_to,
    }
    write_data_record(args.output, record)
    print(f"{name}: {len(images)} {args.split} images in {root}\n{args.output}")
