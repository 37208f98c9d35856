"""Files that describe themselves: checkpoints (safetensors) and results (HDF5).

Every file is written beside its place, flushed, read back and only then renamed, so a reader never sees half a file
and a failed write leaves the old one. All carry a SHA-256 that every reader checks: checkpoints and training logs of
their content, results of their bytes, because damaged HDF5 can crash the library that opens it.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from irpipe.errors import IrpipeError

if TYPE_CHECKING:
    import torch

DIGEST = "content_sha256"
SEAL = b"irpipe result, sha256 of what follows this block: "  # opens the HDF5 user block, with 64 hex digits
BLOCK = 512  # bytes of the user block
LOG_KEYS = ("dataset", "model", "method", "run", "device", "code")


def writable(path: Path) -> None:
    """Raise IrpipeError if no file can be written at `path`; for asking before a long computation. Makes nothing."""
    if path.is_dir():
        raise IrpipeError(f"{path}: is a folder; name a file in it")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise IrpipeError(f"{path}: cannot be written, {folder} is no folder that may be written to")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; rename it over `path` if the block ends well, else remove it.

    Raises IrpipeError if nothing can be written there, for want of space, permission or anything else.
    """
    try:
        with _beside(path) as beside:
            yield beside
    except OSError as error:
        raise IrpipeError(f"{path}: cannot be written ({error.strerror or error}); nothing was changed") from error


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    writable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(descriptor)
    beside = Path(name)
    try:
        yield beside
        with beside.open("rb+") as handle:
            os.fsync(handle.fileno())
        beside.chmod(0o666 & ~_umask())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def digest(attrs: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over attributes (canonical JSON) and arrays (name, type, shape, bytes), in hex."""
    total = hashlib.sha256(json.dumps(attrs, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype.str} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def _read(path: Path, what: str, reader: Callable[[Path], Any]) -> Any:
    """Call `reader(path)`; a missing, truncated or foreign file becomes one line."""
    if not path.is_file():
        raise IrpipeError(f"{path}: no such file; expected an {what}")
    try:
        return reader(path)
    except (OSError, LookupError, ValueError, RuntimeError, TypeError, csv.Error) as error:  # from any of the libraries
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise IrpipeError(f"{path}: not a readable {what} ({reason}); make it again") from error


# --- results -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """One evaluation of one network: per-image arrays and what they come from.

    `attrs` are JSON values (dataset, model, method, run, attack, spec, hashes, versions ...); `arrays` have the image
    axis first where they have one. `sha256`: that of the file it was read from, without the first `BLOCK` bytes.
    """

    attrs: dict[str, Any]
    arrays: dict[str, np.ndarray]
    sha256: str = ""


def write_result(path: Path, result: Result) -> None:
    """Write a result as HDF5, atomically, and verify it by reading it back."""
    import h5py

    memory = io.BytesIO()  # a disk that is full under HDF5 can crash the process at its end
    with h5py.File(memory, "w", userblock_size=BLOCK) as file:
        for key, value in result.attrs.items():
            file.attrs[key] = json.dumps(value, sort_keys=True)
        for name, array in result.arrays.items():
            file.create_dataset(name, data=array, track_times=False)
    content = memory.getbuffer()[BLOCK:]
    with replacing(path) as beside:
        with beside.open("wb") as raw:
            raw.write(_sealed(hashlib.sha256(content).hexdigest()))
            raw.write(content)
        back = read_result(beside)
        if digest(back.attrs, back.arrays) != digest(result.attrs, result.arrays):
            raise OSError("reads back differently from what was written")


def _sealed(total: str) -> bytes:
    """The user block of a result whose other bytes have this SHA-256."""
    return (SEAL + total.encode()).ljust(BLOCK, b"\0")


def read_result(path: Path) -> Result:
    """Read and verify a result file.

    Raises IrpipeError if the file is missing, truncated, not ours, or its bytes do not match their SHA-256.
    """
    result: Result = _read(path, "irpipe result (HDF5)", _load_result)
    return result


def _load_result(path: Path) -> Result:
    import h5py

    with path.open("rb") as raw:
        block = raw.read(BLOCK)
        if not block.startswith(SEAL):
            raise IrpipeError(f"{path}: not a readable irpipe result (HDF5 with a SHA-256 in its user block)")
        total = hashlib.file_digest(raw, "sha256").hexdigest()
        if block != _sealed(total):
            raise IrpipeError(f"{path}: cut short or damaged, its content does not match its SHA-256; make it again")
        with h5py.File(raw, "r") as file:  # not the path, where another file may be by now
            attrs = {key: json.loads(value) for key, value in file.attrs.items()}
            return Result(attrs, {name: np.asarray(data) for name, data in file.items()}, total)


def write_log(path: Path, about: Mapping[str, str], lines: Sequence[Mapping[str, float]]) -> None:
    """Write a training log as CSV, a line an epoch.

    In every line stand `about` (data set, model, method ...) and the SHA-256 of the log without it.
    """
    with replacing(path) as beside:
        beside.write_bytes(_log_bytes([{**about, **line} for line in lines]))


def _log_bytes(lines: Sequence[Mapping[str, object]]) -> bytes:
    """Lines as CSV, each with the SHA-256 of the CSV without it."""
    total = hashlib.sha256(_csv_bytes(lines)).hexdigest()
    return _csv_bytes([{**line, DIGEST: total} for line in lines])


def _csv_bytes(lines: Sequence[Mapping[str, object]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, lines[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue().encode()


def read_log(path: Path) -> Result:
    """Read and verify a training log as a result of "attack" `training`, with one array a numeric column, `[epochs]`.

    Raises IrpipeError if the file is missing, cut short, not ours, or does not match its SHA-256.
    """
    result: Result = _read(path, "irpipe training log (CSV)", _load_log)
    return result


def _load_log(path: Path) -> Result:
    content = path.read_bytes()
    lines = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    if not lines:
        raise ValueError("no line of an epoch")
    for line in lines:
        line.pop(DIGEST, None)
    if _log_bytes(lines) != content:
        raise IrpipeError(f"{path}: cut short or damaged, its content does not match its SHA-256; make it again")
    about = {key: lines[0][key] for key in LOG_KEYS}
    columns = {key: np.array([float(line[key]) for line in lines]) for key in lines[0] if key not in about}
    return Result(about | {"attack": "training", "kind": f"training of {about['method']}"}, columns)


# --- checkpoints ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checkpoint:
    """A network's weights (name -> float32 tensor, PyTorch layout) and what they come from.

    `metadata` are JSON values and always name dataset, model, method and run.
    """

    metadata: dict[str, Any]
    tensors: dict[str, "torch.Tensor"]

    def identity(self, where: Path) -> dict[str, Any]:
        """The metadata of a network; raises IrpipeError naming `where` if they do not say which it is."""
        about, names = self.metadata, ("dataset", "model", "method", "run")
        lacking = [key for key in names if not isinstance(about.get(key), str)]
        if not isinstance(about.get("data"), dict) or not isinstance(about["data"].get("kind"), str):
            lacking.append("data")
        if lacking:
            raise IrpipeError(f"{where}: holds no network (its metadata lack {', '.join(lacking)})")
        return about

    @property
    def sha256(self) -> str:
        """SHA-256 over metadata and weights: the network's identity in results."""
        return digest(self.metadata, {name: tensor.numpy() for name, tensor in self.tensors.items()})


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint as safetensors, atomically, and verify it by reading it back."""
    from safetensors.torch import save

    # one key only: safetensors writes several in no fixed order, and equal networks shall be equal bytes
    header = json.dumps(checkpoint.metadata | {DIGEST: checkpoint.sha256}, sort_keys=True)
    tensors = {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}  # channels-last ones are not
    with replacing(path) as beside:
        beside.write_bytes(save(tensors, {"irpipe": header}))
        read_checkpoint(beside)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises IrpipeError if the file is missing, truncated, not ours, or its content does not match its digest.
    """
    checkpoint: Checkpoint = _read(path, "irpipe checkpoint (safetensors)", _load_checkpoint)
    return checkpoint


def _load_checkpoint(path: Path) -> Checkpoint:
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = path.read_bytes()  # at once: safe_open opens a path twice, and another file may come between
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__") or {}
    if "irpipe" not in header:
        raise IrpipeError(f"{path}: a safetensors file, but not an irpipe checkpoint (no irpipe metadata)")
    metadata = json.loads(header["irpipe"])
    if not isinstance(metadata, dict):
        raise IrpipeError(
            f"{path}: a safetensors file, but not an irpipe checkpoint (its irpipe metadata is no mapping)"
        )
    stored = metadata.pop(DIGEST, None)
    checkpoint = Checkpoint(metadata, tensors)
    if stored != checkpoint.sha256:
        raise IrpipeError(f"{path}: content does not match its SHA-256; make it again")
    return checkpoint
