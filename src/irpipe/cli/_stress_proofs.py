"""What bounds certify in `irpipe stress`: the next attack and the next call need not prove it."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from irpipe.files import atomic_write

FILE_NAME = "proofs.json"
Certified = dict[tuple[int, float], bool]


@contextlib.contextmanager
def kept_proofs(path: Path, identity: dict[str, Any]) -> Iterator[Certified]:
    """Yield `AttackBatch.certified` as the file at `path` has it; keep there what joins it.

    So does a block that is interrupted. If the file cannot be written, nothing is kept, and that is
    no error. `identity` is all that decides the proofs, as JSON values; a file with another one, or
    a damaged one, counts as missing.
    """
    certified = _read(path, identity)
    n_known = len(certified)
    try:
        yield certified
    finally:
        # Without the file, proofs cost their time again. A result is worth more than that.
        with contextlib.suppress(Exception):
            known = certified.copy()  # Threads that were not interrupted may still prove.
            if len(known) > n_known:
                # Another command may have written in the meantime.
                _write(path, identity, _read(path, identity) | known)


def _read(path: Path, identity: dict[str, Any]) -> Certified:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        rows = record["certified"]
        if record["sha256"] != _sha256(identity, rows):
            return {}
        return {(index, eps): is_certified for index, eps, is_certified in rows}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}


def _write(path: Path, identity: dict[str, Any], certified: Certified) -> None:
    rows = [[index, eps, certified[index, eps]] for index, eps in sorted(certified)]
    record = {"sha256": _sha256(identity, rows), "certified": rows}
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(record) + "\n", encoding="utf-8")


def _sha256(identity: dict[str, Any], rows: list[list[Any]]) -> str:
    """SHA-256 of `identity` and of `[index, eps, is certified]` of each image and eps."""
    return hashlib.sha256(json.dumps([identity, rows], sort_keys=True).encode()).hexdigest()
