"""Write the documents that have numbers from results: `python -m irpipe.documents.write [RESULTS]`.

Without the folder RESULTS, each page is made again from its template and its own list of numbers.
With it, the page keeps those measurements that RESULTS lacks, such as those of another machine, and
all numbers of networks if RESULTS has none.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from irpipe.documents.gather import gather
from irpipe.documents.numbers import Name, Numbers, read_list
from irpipe.documents.pages import PAGES, render
from irpipe.errors import IrpipeError
from irpipe.files import atomic_write


def main(arguments: Sequence[str] | None = None) -> None:
    """Write all pages; print the path of each."""
    parser = argparse.ArgumentParser(
        prog="python -m irpipe.documents.write",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", nargs="?", type=Path, metavar="RESULTS")
    parser.add_argument("--output", type=Path, default=Path("docs"), metavar="FOLDER")
    args = parser.parse_args(arguments)
    folder: Path = args.output
    try:
        numbers = gather(args.results, folder / "figures") if args.results else None
        paths = {name: folder / f"{name}.md" for name in PAGES}
        texts = {path: _text(name, path, numbers) for name, path in paths.items()}
        for path, text in texts.items():
            with atomic_write(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
            print(path)
    except IrpipeError as error:
        sys.exit(f"python -m irpipe.documents.write: error: {error}")


def _text(name: str, path: Path, numbers: Numbers | None) -> str:
    """The page of the template `name`, which lies at `path`."""
    if numbers is None:
        numbers = read_list(path)
    elif path.exists():
        parts = {_part(key) for key in numbers}
        own = read_list(path).items()
        numbers = {key: value for key, value in own if _part(key) not in parts} | dict(numbers)
    return render(name, numbers, path.parent)


def _part(name: Name) -> str:
    """What a number stays or goes with: "" for all of networks, or the first word of its table.

    Tables of one program, such as `portability` and `portability_flips`, begin with one word.
    """
    return name[1].partition("_")[0] if name[0] in ("measured", "machine") else ""


if __name__ == "__main__":
    main()
