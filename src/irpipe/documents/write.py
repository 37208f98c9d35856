"""Write the documents that have numbers from results: `python -m irpipe.documents.write [RESULTS]`.

Without the folder RESULTS, each page is made again from its template and its own list of numbers.
With it, the page keeps what RESULTS lacks, such as numbers from another machine: measurements by
their tables, and numbers of networks by data set, model and run. Of these, RESULTS must have all
networks and attacks of a page at once.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from irpipe.documents.figures import VERDICT, verdict_figure
from irpipe.documents.gather import gather
from irpipe.documents.numbers import Name, Number, Numbers, read_list
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
        return render(name, read_list(path), path.parent)
    merged = _merge(read_list(path), numbers) if path.exists() else dict(numbers)
    if name == VERDICT[1] and any(key[0] == "claim" for key in numbers):
        merged.pop(VERDICT, None)
        merged |= verdict_figure(merged, path.parent / "figures")
    return render(name, merged, path.parent)


def _merge(old: Numbers, new: Numbers) -> dict[Name, Number]:
    """The numbers of `new`, and those of `old` that go with nothing in it, in the order of `old`.

    The figure of the verdicts goes with no part: it is drawn from the numbers of all of them.
    """
    parts = {part for name, number in new.items() for part in _parts(name, number)}
    kept = {name for name, number in old.items() if not parts & _parts(name, number)}
    merged = {name: old[name] if name in kept else new.get(name) for name in old}
    return {name: number for name, number in merged.items() if number} | dict(new)


def _parts(name: Name, number: Number) -> set[str]:
    """What a number stays or goes with: the first word of its table, or networks of its files.

    Tables of one program, such as `portability` and `portability_flips`, begin with one word.
    Networks are a data set, a model and a run.
    """
    if name[0] in ("measured", "machine"):
        return {name[1].partition("_")[0]}
    if name == VERDICT:
        return set()
    return {_networks(source.path) for source in number.sources}


def _networks(path: str) -> str:
    """Data set, model and run of a file, from its path. Raises IrpipeError if it has none."""
    match Path(path).parts:
        case (*_, dataset, model, _, run, _):
            return f"{dataset}/{model}/{run}"
    raise IrpipeError(
        f"{path}: is no DATASET/MODEL/METHOD/RUN/FILE below RESULTS; name the folder of results"
    )


if __name__ == "__main__":
    main()
