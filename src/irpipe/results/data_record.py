"""Records of data sets (JSON): what was read, and whether the files still have that content.

Nothing here affects a number, and nothing imports torch, because the workflow asks at each start.
"""

import ast
import functools
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from irpipe.config.kinds import kind_file
from irpipe.errors import IrpipeError
from irpipe.files import atomic_write, files_below
from irpipe.outside_code import parse_file

# Suffix, next to a record, of a file with lines `sha256 files`: copies that have been compared.
COPIES_SUFFIX = ".copies"


def write_data_record(path: Path, record: dict[str, Any]) -> None:
    """Write the record of a split: `{dataset, data, split, images, sha256, files, changed_to}`.

    `sha256` is that of images and labels, `files` comes from `files_sha256` and `changed_to` from
    `changed_to`.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_data_record(path: Path) -> dict[str, Any]:
    """Read a record. Raises IrpipeError if it is damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise IrpipeError(f"{path}: not a readable record of a data set; make it again") from error
    if not isinstance(record, dict):
        raise IrpipeError(f"{path}: not a record of a data set; make it again")
    return record


def files_sha256(options: dict[str, Any], root: Path, split: str) -> str:
    """SHA-256, in hex, of names, sizes and times of the files that a data set may read.

    Empty if there are none. `FILES` of its kind names them; without it, they are all files below
    `root`. "{path}" is the folder that the option `path` names. Names are relative to `root`, or to
    that folder, so a moved folder has the same hash.
    """
    names = _files_constant(options["kind"]).get(split, ("",))
    if names == ("{path}",):
        root = Path(options["path"]).expanduser()
        names = ("",)
    paths = [root / name for name in names]
    lines = []
    for path in paths:
        for file in [path] if path.is_file() else files_below(path, skip_unreadable=True):
            try:
                status = file.stat()
            except OSError:  # a link that leads nowhere
                continue
            name = os.fsencode(file.relative_to(root)).hex()
            lines.append(f"{name} {status.st_size} {status.st_mtime_ns}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest() if lines else ""


def _files_constant(kind: str) -> dict[str, tuple[str, ...]]:
    """`FILES` of a data set kind, read from its source; empty if it has none.

    Raises IrpipeError if it does not map splits to tuples of relative paths.
    """
    path = kind_file("datasets", kind)
    for statement in parse_file(path).body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if [getattr(target, "id", None) for target in targets] == ["FILES"]:
                return _checked_files(statement.value, path)
    return {}


def _checked_files(value: ast.expr, path: Path) -> dict[str, tuple[str, ...]]:
    """The value of `FILES` in the file at `path`. Raises IrpipeError if it is something else."""
    try:
        files: dict[str, tuple[str, ...]] = ast.literal_eval(value)
        for names in files.values():
            if not isinstance(names, tuple) or any(map(_leads_out, names)):
                raise ValueError
    except (ValueError, TypeError, AttributeError) as error:
        example = '{"train": ("bars/train",), "test": ("bars/test",)}'
        expected = f"tuples of paths below the folder of the data, such as {example}"
        raise IrpipeError(f"{path}: FILES has no plain {expected}") from error
    return files


def _leads_out(name: str) -> bool:
    """Whether a path may lie outside the folder that it is relative to."""
    return Path(name).is_absolute() or ".." in Path(name).parts


@functools.cache
def changed_to(path: Path, dataset: str, root: Path) -> str:
    """SHA-256 of the content that the data changed to, if they changed since they were recorded.

    If they did not, that of the last change before the record at `path`, which is empty if there
    was none. So the value changes once for each change of the content, and Snakemake reruns what
    depends on it. `dataset` is the data set's entry NAME={...}.

    Names, sizes and times are compared first, and the content only if they differ: data that were
    moved, copied or touched did not change. Data that are not there did not change either.

    Raises IrpipeError if the data cannot be read.
    """
    if not path.is_file():
        return ""
    record = read_data_record(path)
    name, _, text = dataset.partition("=")
    options, split = json.loads(text), record.get("split", "")
    last_change = str(record.get("changed_to", ""))
    if record.get("data") != options:
        return last_change  # another option reruns the job anyway
    sha256 = record.get("sha256")
    files = files_sha256(options, root, split)
    copies = path.with_suffix(COPIES_SUFFIX)
    known = copies.read_text(encoding="utf-8").splitlines() if copies.is_file() else []
    if files in ("", record.get("files")) or f"{sha256} {files}" in known:
        return last_change
    print(f"{name}: other {split} files; comparing their content", file=sys.stderr, flush=True)
    content = _content_sha256(dataset, split, root)
    if content != sha256:
        return content
    with atomic_write(copies) as temporary:
        lines = [*known, f"{sha256} {files}"]
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return last_change


def _content_sha256(dataset: str, split: str, root: Path) -> str:
    """SHA-256 of images and labels, computed in a process that gives its memory back.

    Raises IrpipeError if the data cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "record.json"
        command = [sys.executable, "-m", "irpipe", "data", "--dataset", dataset, "--split", split]
        command += ["--data", str(root), "--output", str(output)]
        run = subprocess.run(command, capture_output=True, check=False)
        if run.returncode:
            *_, line = run.stderr.decode(errors="replace").splitlines() or ["no message"]
            raise IrpipeError(line.removeprefix("irpipe data: error: "))
        return str(read_data_record(output)["sha256"])
