"""Hostile pickles and safetensors headers: refused in one line, within seconds, with nothing run and little memory."""

import json
import pickle
import resource
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from irpipe.cli import main
from irpipe.errors import IrpipeError
from irpipe.io import DIGEST, Checkpoint, read_checkpoint, write_checkpoint
from irpipe.released import convert

CALL = b"(S'touch canary'\ntR."  # calls what stands before it
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n"
TYPE = b"cnumpy\ndtype\n"


def named(path: str) -> bytes:
    """Push the object of this name, as protocol 4 does."""
    parts = [text.encode() for text in path.split(":")]
    return b"".join(b"\x8c" + bytes([len(text)]) + text for text in parts) + b"\x93"


def array(state: bytes) -> bytes:
    """A list of one layer of one array of this state."""
    return b"\x80\x02](" + ARRAY + b"cnumpy\nndarray\n(K\0tU\1b\x87R" + state + b"b\x85e."


F4 = TYPE + b"(U\2f4K\0K\1tR(K\3U\1<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
PICKLES: dict[str, bytes] = {
    # calls
    "system": b"cos\nsystem\n" + CALL,
    "posix": b"cposix\nsystem\n" + CALL,
    "eval": b'cbuiltins\neval\n(S\'open("canary", "w")\'\ntR.',
    "python 2's eval": b'c__builtin__\neval\n(S\'open("canary", "w")\'\ntR.',
    "exec": b'cbuiltins\nexec\n(S\'open("canary", "w")\'\ntR.',
    "open": b"cio\nopen\n(S'canary'\nS'w'\ntR.",
    "popen": b"csubprocess\nPopen\n((lS'touch'\naS'canary'\natR.",
    "instance": b"(S'touch canary'\nios\nsystem\n.",
    "object": b"(cos\nsystem\nS'touch canary'\no.",
    "new object": b"\x80\x02cos\nsystem\n(S'touch canary'\nt\x81.",
    "stack": b"\x80\x04" + named("os:system") + CALL,
    "nested": b"\x80\x02]((K\1" + b"cposix\nsystem\n(S'touch canary'\ntRte.",
    "pickle in pickle": b"cpickle\nloads\n(S'cos\\nsystem\\n(S\\'touch canary\\'\\ntR.'\ntR.",
    "numpy's load": b"cnumpy\nload\n(S'canary'\ntR.",
    "numpy's memmap": b"cnumpy\nmemmap\n(S'canary'\nS'uint8'\nS'w+'\nK\0K\1tR.",
    "numpy's save": b"cnumpy\nsavetxt\n(S'canary'\n(lK\1atR.",
    "torch": b"ctorch.serialization\nload\n(S'canary'\ntR.",
    "getattr": b"cbuiltins\ngetattr\n(cnumpy\nndarray\nS'tofile'\ntR.",
    # chains of attributes
    "class": b"\x80\x04" + named("numpy:ndarray.__class__.__base__.__subclasses__") + b")R.",
    "globals": b"\x80\x04" + named("numpy:ndarray.__init__.__globals__") + b".",
    "module": b"\x80\x04" + named("numpy:os.system") + CALL,
    "our own": b"\x80\x04" + named("irpipe.released:pickle.loads") + CALL,
    "set state": b"\x80\x04" + named("numpy:dtype.__setstate__") + CALL,
    # other ways in
    "extension": b"\x80\x02\x82\x01.",
    "persistent": b"Pcanary\n.",
    "persistent, binary": b"K\1Q.",
    "state of a class": b"\x80\x02" + ARRAY + b"(K\1K\1K\1K\1K\1tb.",
    "attributes of a class": b"\x80\x02" + ARRAY + b"N}U\5valueK\1s\x86b.",
    # bombs
    "memo of 2**31": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "memo of 2**62": b"\x80\x02Np4611686018427387904\n.",
    "bytes of 2**62": b"\x80\x04\x8e\x00\x00\x00\x00\x00\x00\x00\x40.",
    "bytearray of 2**40": b"\x80\x05\x96\x00\x00\x00\x00\x00\x01\x00\x00.",
    "frame of 2**62": b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x40.",
    "number of 5000 digits": b"I" + b"9" * 5000 + b"\n.",
    "doubled list": b"\x80\x02](K\1e" + b"q\0](h\0h\0e" * 60 + b".",
    "doubled layers": b"\x80\x02](K\1e" + b"q\0](h\0h\0e" * 40 + b"q\1](h\1h\1e.",
    "doubled type": b"\x80\x02]" + b"q\0](h\0h\0e" * 60 + b"q\1](" + TYPE + b"h\1\x85Re.",
    "doubled order": b"\x80\x02]" + b"q\0](h\0h\0e" * 60 + b"q\1](" + TYPE + b"U\2f4\x85R(K\3h\1NNNNNNtbe.",
    "doubled shape": b"\x80\x02)" + b"q\0h\0h\0\x86" * 60 + b"q\1" + array(b"(K\1h\1" + F4 + b"\x89U\4\0\0\0\0t")[2:],
    "tuples hashed": b"\x80\x02)" + b"q\0h\0h\0\x86" * 60 + b"q\1}h\1K\1s.",
    "tuples in a set": b"\x80\x04)" + b"q\0h\0h\0\x86" * 60 + b"q\1\x8f(h\1\x90.",
    "deep": b"\x80\x02" + b"](" * 100_000 + b"e" * 100_000 + b".",
    "marks": b"(" * 500_000,
    # arrays
    "empty of 40 GB": b"\x80\x02](cnumpy\nndarray\n(J\0\xe4\x0b\x54K\1\x86U\2f8\x86R\x85e.",
    "array of 40 GB": array(b"(K\1J\0\xe4\x0b\x54K\1K\1K\1(t" + F4 + b"\x89U\0t"),
    "shape without values": array(b"(K\1(K\4K\4K\1K\x10t" + F4 + b"\x89U\4\0\0\0\0t"),
    "objects": array(b"(K\1(K\1t" + TYPE + b"U\1OK\0K\1\x87R\x89U\x08AAAAAAAAt"),
    "objects without their flags": array(
        b"(K\1(K\1t" + TYPE + b"U\1OK\0K\1\x87R(K\3U\1|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89U\x08AAAAAAAAt"
    ),
    "structures": array(b"(K\1(K\1t" + TYPE + b"(lU\1aU\1O\x86aK\0K\1tR\x89U\x08AAAAAAAAt"),
    "buffer": b"\x80\x02](cnumpy\nndarray\n((K\1tU\1Ot\x81\x85e.",
    "no state": b"\x80\x02](" + ARRAY + b"N)U\1b\x87R\x85e.",
}


@pytest.fixture(autouse=True)
def nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No canary, no hang, at most half a gigabyte."""
    monkeypatch.chdir(tmp_path)
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.thread_time()
    yield
    assert time.thread_time() - begin < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000
    assert not Path("canary").exists()


def refused(path: Path, message: str) -> pytest.RaisesExc[IrpipeError]:
    return pytest.raises(IrpipeError, match=rf"\A{path}: {message}[^\n]*\Z")


@pytest.mark.parametrize("name", PICKLES)
def test_hostile_pickles(name: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pkl"
    path.write_bytes(PICKLES[name])
    with refused(path, "(asks for|not a readable network|expected a list|holds numbers|has [0-9]+ convolutions)"):
        convert(path, "mnist", {"kind": "mnist"}, "small", "int")


@pytest.mark.parametrize("name", ["system", "posix", "stack", "popen", "nested"])
def test_they_would_run_where_they_are_trusted(name: str) -> None:
    done = pickle.loads(PICKLES[name])
    if name == "popen":
        done.wait()
    assert Path("canary").exists()
    Path("canary").unlink()


def test_no_command_unpickles_but_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("net.safetensors", "net.h5", "net.csv", "net.pkl"):
        path = tmp_path / name
        path.write_bytes(PICKLES["system"])
        entry = "x={kind: pgd, images: 1}"
        assert main(["evaluate", "--checkpoint", str(path), "--attack", entry, "--output", str(tmp_path / "x.h5")]) == 2
        assert main(["report", "--table", "x={kind: table, title: T}", str(path), "--output", str(tmp_path)]) == 2
        assert capsys.readouterr().err.count(str(path)) == 2


# --- safetensors -------------------------------------------------------------------------------------------------


def headed(header: object, content: bytes = b"", size: int | None = None) -> bytes:
    """A safetensors file of this header, as it is or as JSON, and of a wrong size of it if one is given."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + content


def tensor(kind: str = "F32", shape: object = (1,), ends: object = (0, 4)) -> dict[str, object]:
    return {"head": {"dtype": kind, "shape": shape, "data_offsets": ends}}


HEADERS: dict[str, bytes] = {
    "empty": b"",
    "size only": struct.pack("<Q", 0),
    "size of 2**63": headed(b"{}", size=2**63),
    "size of 2**64 - 1": headed(b"{}", size=2**64 - 1),
    "size of 90 MB": headed(b"{}", size=90_000_000),
    "no JSON": headed(b"\xff\xfe{}"),
    "a list": headed([]),
    "deep": headed(b'{"a":' * 50_000),
    "deep lists": headed(b'{"a":' + b"[" * 50_000),
    "no offsets": headed({"head": {"dtype": "F32", "shape": [1]}}, bytes(4)),
    "negative offsets": headed(tensor(ends=(-4, 0)), bytes(4)),
    "turned offsets": headed(tensor(ends=(4, 0)), bytes(4)),
    "offsets behind the end": headed(tensor(ends=(0, 4096)), bytes(4)),
    "offsets of 2**64": headed(tensor(ends=(0, 2**64)), bytes(4)),
    "overlap": headed({"a": tensor()["head"], "b": tensor()["head"]}, bytes(4)),
    "hole": headed(tensor(ends=(4, 8)), bytes(8)),
    "tail": headed(tensor(), bytes(8)),
    "shape of 2**62": headed(tensor(shape=(2**62, 4)), bytes(4)),
    "shape that overflows to 1": headed(tensor(shape=(2**32, 2**32)), bytes(4)),
    "negative shape": headed(tensor(shape=(-1,)), bytes(4)),
    "shape of a text": headed(tensor(shape="1"), bytes(4)),
    "no such type": headed(tensor("PICKLE"), bytes(4)),
    "eighths": headed(tensor("F8_E4M3", (4,)), bytes(4)),
    "halves": headed(tensor("BF16", (2,)), bytes(4)),
    "twice": headed(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},' * 2 + b'"b":1}', bytes(2)),
    "metadata of numbers": headed({"__metadata__": {"irpipe": 5}}),
    "metadata of lists": headed({"__metadata__": [1]}),
    "path as name": headed({"../../canary": tensor()["head"]}, bytes(4)),
    "our metadata, deep": save({}, {"irpipe": "[" * 100_000}),
    "our metadata, digits": save({}, {"irpipe": f'{{"a": {"9" * 5000}}}'}),
    "our metadata, no digest": save({}, {"irpipe": "{}"}),
    "our metadata, a list as digest": save({}, {"irpipe": json.dumps({DIGEST: [[]]})}),
}


@pytest.mark.parametrize("name", HEADERS)
def test_hostile_headers(name: str, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(HEADERS[name])
    with refused(path, ""):
        read_checkpoint(path)


GOOD = {"dataset": "digits", "data": {"kind": "digits"}, "model": "small", "method": "int", "run": "seed0"}


WRONG: list[dict[str, object]] = [
    *({"data": "digits"}, {"data": {}}, {"data": {"kind": ["digits"]}}, {"data": None}, {"dataset": {}}, {"run": 5}),
    *({"method": ["x"]}, {"model": {}}, {"model": "../small"}, {"model": "large"}, {"data": {"kind": "../../canary"}}),
    {"data": {"kind": "digits", "extra": 1}},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_sealed_checkpoints_that_say_something_else(
    wrong: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever writes a checkpoint can seal it, so what it says is checked, too."""
    path, entry = tmp_path / "net.safetensors", "x={kind: pgd, images: 1}"
    write_checkpoint(path, Checkpoint(GOOD | wrong, {"head": torch.zeros(10, 100)}))
    assert main(["evaluate", "--checkpoint", str(path), "--attack", entry, "--output", str(tmp_path / "x.h5")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("irpipe evaluate: error: ")
    assert said.count("\n") == 1
