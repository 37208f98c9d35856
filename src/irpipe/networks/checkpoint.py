"""Checkpoints (safetensors): a network's weights and where they come from, with a SHA-256."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irpipe.errors import IrpipeError
from irpipe.files import CONTENT_SHA256_KEY, atomic_write, content_sha256, read_or_explain

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Checkpoint:
    """A network's weights and where they come from. docs/result_format.md lists the contents.

    `metadata` are JSON values; those of a network name dataset, model, method and run.
    `tensors` are by parameter name and in PyTorch's layout; those of a network are float32.
    """

    metadata: dict[str, Any]
    tensors: dict[str, "torch.Tensor"]

    def identity(self, location: Path) -> dict[str, Any]:
        """The metadata. Raises IrpipeError, which names `location`, if they name no network."""
        names = ("dataset", "model", "method", "run")
        missing = [name for name in names if not isinstance(self.metadata.get(name), str)]
        data = self.metadata.get("data")
        if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
            missing.append("data")
        if missing:
            raise IrpipeError(
                f"{location}: holds no network (its metadata lack {', '.join(missing)})"
            )
        return self.metadata

    @property
    def sha256(self) -> str:
        """SHA-256 over metadata and weights: the network's identity in results."""
        arrays = {name: tensor.numpy() for name, tensor in self.tensors.items()}
        return content_sha256(self.metadata, arrays)


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint as safetensors, atomically, and verify it by reading it back."""
    import torch
    from safetensors.torch import save

    # There is one key only, because safetensors writes several in no fixed order, and equal
    # networks must be equal bytes.
    metadata = checkpoint.metadata | {CONTENT_SHA256_KEY: checkpoint.sha256}
    header = {"irpipe": json.dumps(metadata, sort_keys=True)}
    # Channels-last tensors are not contiguous, and a layer that is used twice has two names.
    tensors = {
        name: tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in checkpoint.tensors.items()
    }
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(tensors, header))
        read_checkpoint(temporary)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises IrpipeError if the file is missing, cut short, not a checkpoint of irpipe, or does not
    match its SHA-256.
    """
    expected = "irpipe checkpoint (safetensors)"
    checkpoint: Checkpoint = read_or_explain(path, expected, _load_checkpoint)
    return checkpoint


def _load_checkpoint(path: Path) -> Checkpoint:
    from safetensors import SafetensorError
    from safetensors.torch import load

    # The bytes are read once: safe_open opens the path twice, and it may name another file then.
    content = path.read_bytes()
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    header_bytes = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + header_bytes]).get("__metadata__") or {}
    not_ours = f"{path}: a safetensors file, but not an irpipe checkpoint"
    if "irpipe" not in header:
        raise IrpipeError(
            f"{not_ours} (no irpipe metadata); for weights of your own network, name a function "
            "FILE.py:function that loads them"
        )
    metadata = json.loads(header["irpipe"])
    if not isinstance(metadata, dict):
        raise IrpipeError(f"{not_ours} (its irpipe metadata is no mapping)")
    sha256 = metadata.pop(CONTENT_SHA256_KEY, None)
    checkpoint = Checkpoint(metadata, tensors)
    if sha256 != checkpoint.sha256:
        raise IrpipeError(f"{path}: content does not match its SHA-256; make it again")
    return checkpoint
