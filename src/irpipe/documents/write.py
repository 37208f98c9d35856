"""Write the documents that have numbers from results: `python -m irpipe.documents.write [RESULTS]`.

Without the folder RESULTS, each page is made again from its template and its own list of numbers.
With it, the page keeps what RESULTS lacks, such as numbers from another machine.

- A number of released networks is replaced if RESULTS has all files that it came from.
- Networks from scratch are others after each training, so their numbers are replaced together, by
  data set, model and run. Of these, RESULTS must have all networks and attacks of a page.
- A measurement replaces its table.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from irpipe.documents.figures import VERDICT, verdict_figure
from irpipe.documents.gather import gather
from irpipe.documents.numbers import Name, Number, Numbers, read_list, short_sha256
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
        with tempfile.TemporaryDirectory() as drawn:
            numbers = gather(args.results, Path(drawn)) if args.results else None
            paths = {name: folder / f"{name}.md" for name in PAGES}
            texts = {path: _text(name, path, numbers) for name, path in paths.items()}
            _copy_shown(Path(drawn), texts, folder / "figures")
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
    verdicts = [key for key in numbers if key[0] == "claim"]
    if name == VERDICT[1] and any(merged.get(key) is numbers[key] for key in verdicts):
        merged.pop(VERDICT, None)
        merged |= verdict_figure(merged, path.parent / "figures")
    return render(name, merged, path.parent)


def _copy_shown(drawn: Path, texts: Mapping[Path, str], folder: Path) -> None:
    """Copy the figures whose SHA-256 a page's list has from `drawn` into `folder`."""
    for figure in drawn.glob("*.png"):
        if any(short_sha256(figure) in text for text in texts.values()):
            shutil.copy(figure, folder)


def _merge(old: Numbers, new: Numbers) -> dict[Name, Number]:
    """The numbers of `new`, and those of `old` that go with nothing in it, in the order of `old`.

    The figure of the verdicts goes with no part: it is drawn from the numbers of all of them.
    """
    files, new_files = _released_files(old), _released_files(new)
    taken = {
        name: number
        for name, number in new.items()
        if files.get(_row(name), set()) <= new_files[_row(name)]
    }
    parts = {part for name, number in taken.items() for part in _parts(name, number)}
    kept = {name for name, number in old.items() if not parts & _parts(name, number)}
    merged = {name: old[name] if name in kept else taken.get(name) for name in old}
    return {name: number for name, number in merged.items() if number} | taken


def _released_files(numbers: Numbers) -> dict[Name, set[str]]:
    """Per row, the files of released networks that its numbers come from."""
    files: dict[Name, set[str]] = {}
    for name, number in numbers.items():
        paths = {source.path for source in number.sources if _is_released(source.path)}
        files.setdefault(_row(name), set()).update(paths)
    return files


def _row(name: Name) -> Name:
    """The name that numbers share which are judged together: a verdict, or flags of masking."""
    return name[:-1] if name[0] in ("claim", "masking") else name


def _parts(name: Name, number: Number) -> set[str]:
    """What a number stays or goes with.

    It is the first word of a measurement's table, since tables of one program, such as
    `portability` and `portability_flips`, begin with one word; else the row itself for files of
    released networks, and data set, model and run for files of others.
    """
    if name[0] in ("measured", "machine"):
        return {name[1].partition("_")[0]}
    if name == VERDICT:
        return set()
    row = "; ".join(_row(name))
    paths = [source.path for source in number.sources]
    return {row if _is_released(path) else _networks(path) for path in paths}


def _is_released(path: str) -> bool:
    return Path(path).parent.name == "released"


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
