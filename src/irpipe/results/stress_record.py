"""What `irpipe stress` notes next to its results: how each attack ended, and how long it took."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from irpipe.files import atomic_write, read_or_explain

RECORD_NAME = "stress.json"


@dataclass(frozen=True)
class Attempt:
    """One attack of `irpipe stress`: how it ended.

    `seconds` is the wall time of a finished attack; None means not known. `reason` says why an
    attack failed or was left out.
    """

    attack: str
    kind: str
    state: Literal["finished", "failed", "left out"]
    seconds: float | None = None
    reason: str = ""


def write_attempts(folder: Path, attempts: Sequence[Attempt]) -> None:
    """Write the attempts of a folder of `irpipe stress`, atomically."""
    content = json.dumps([asdict(attempt) for attempt in attempts], indent=1)
    with atomic_write(folder / RECORD_NAME) as temporary:
        temporary.write_text(f"{content}\n", encoding="utf-8")


def read_attempts(folder: Path) -> list[Attempt]:
    """The attempts of a folder of `irpipe stress`; none if it has no record.

    Raises IrpipeError if the record is damaged.
    """
    path = folder / RECORD_NAME
    if not path.exists():
        return []
    attempts: list[Attempt] = read_or_explain(path, "record of irpipe stress", _load)
    return attempts


def _load(path: Path) -> list[Attempt]:
    return TypeAdapter(list[Attempt]).validate_json(path.read_bytes())
