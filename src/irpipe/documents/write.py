"""Write the documents that have numbers from results: `python -m irpipe.documents.write [RESULTS]`.

Without the folder RESULTS, each page is made again from its template and its own list of numbers.
So is a page of which RESULTS has no number, such as one that was measured on another machine.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from irpipe.documents.gather import gather
from irpipe.documents.numbers import Numbers, format_list, read_list
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
    text = render(name, numbers or {}, path.parent)
    has_numbers = not text.endswith(format_list({}))
    return text if has_numbers else render(name, read_list(path), path.parent)


if __name__ == "__main__":
    main()
