"""Hostile pickles and safetensors headers are refused in one line and run nothing.

They take seconds at most, and little memory.
"""

import json
import pickle
import re
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
from irpipe.files import CONTENT_SHA256_KEY
from irpipe.networks.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from irpipe.networks.released import read_released

CALL = b"(S'touch canary'\ntR."  # Calls what comes before it.
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n"
TYPE = b"cnumpy\ndtype\n"


def named(path: str) -> bytes:
    """Push the object called `module:name`, as protocol 4 of pickle does."""
    module_and_name = [text.encode() for text in path.split(":")]
    texts = [b"\x8c" + bytes([len(text)]) + text for text in module_and_name]
    return b"".join(texts) + b"\x93"


def array(state: bytes) -> bytes:
    """Return a list of one layer, which is one array with this state."""
    return b"\x80\x02](" + ARRAY + b"cnumpy\nndarray\n(K\0tU\1b\x87R" + state + b"b\x85e."


F4 = TYPE + b"(U\2f4K\0K\1tR(K\3U\1<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
PICKLES: dict[str, bytes] = {
    # Calls.
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
    # Chains of attributes.
    "class": b"\x80\x04" + named("numpy:ndarray.__class__.__base__.__subclasses__") + b")R.",
    "globals": b"\x80\x04" + named("numpy:ndarray.__init__.__globals__") + b".",
    "module": b"\x80\x04" + named("numpy:os.system") + CALL,
    "irpipe's": b"\x80\x04" + named("irpipe.networks.released:pickle.loads") + CALL,
    "set state": b"\x80\x04" + named("numpy:dtype.__setstate__") + CALL,
    # Other ways in.
    "extension": b"\x80\x02\x82\x01.",
    "persistent": b"Pcanary\n.",
    "persistent, binary": b"K\1Q.",
    "state of a class": b"\x80\x02" + ARRAY + b"(K\1K\1K\1K\1K\1tb.",
    "attributes of a class": b"\x80\x02" + ARRAY + b"N}U\5valueK\1s\x86b.",
    # Bombs.
    "memo of 2**31": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "memo of 2**62": b"\x80\x02Np4611686018427387904\n.",
    "bytes of 2**62": b"\x80\x04\x8e\x00\x00\x00\x00\x00\x00\x00\x40.",
    "bytearray of 2**40": b"\x80\x05\x96\x00\x00\x00\x00\x00\x01\x00\x00.",
    "frame of 2**62": b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x40.",
    "number of 5000 digits": b"I" + b"9" * 5000 + b"\n.",
    "doubled list": b"\x80\x02](K\1e" + b"q\0](h\0h\0e" * 60 + b".",
    "doubled layers": b"\x80\x02](K\1e" + b"q\0](h\0h\0e" * 40 + b"q\1](h\1h\1e.",
    "doubled type": b"\x80\x02]" + b"q\0](h\0h\0e" * 60 + b"q\1](" + TYPE + b"h\1\x85Re.",
    "doubled order": b"\x80\x02]"
    + b"q\0](h\0h\0e" * 60
    + b"q\1]("
    + TYPE
    + b"U\2f4\x85R(K\3h\1NNNNNNtbe.",
    "doubled shape": b"\x80\x02)"
    + b"q\0h\0h\0\x86" * 60
    + b"q\1"
    + array(b"(K\1h\1" + F4 + b"\x89U\4\0\0\0\0t")[2:],
    "tuples hashed": b"\x80\x02)" + b"q\0h\0h\0\x86" * 60 + b"q\1}h\1K\1s.",
    "tuples in a set": b"\x80\x04)" + b"q\0h\0h\0\x86" * 60 + b"q\1\x8f(h\1\x90.",
    "deep": b"\x80\x02" + b"](" * 100_000 + b"e" * 100_000 + b".",
    "marks": b"(" * 500_000,
    # Arrays.
    "empty of 40 GB": b"\x80\x02](cnumpy\nndarray\n(J\0\xe4\x0b\x54K\1\x86U\2f8\x86R\x85e.",
    "array of 40 GB": array(b"(K\1J\0\xe4\x0b\x54K\1K\1K\1(t" + F4 + b"\x89U\0t"),
    "shape without values": array(b"(K\1(K\4K\4K\1K\x10t" + F4 + b"\x89U\4\0\0\0\0t"),
    "objects": array(b"(K\1(K\1t" + TYPE + b"U\1OK\0K\1\x87R\x89U\x08AAAAAAAAt"),
    "objects without their flags": array(
        b"(K\1(K\1t"
        + TYPE
        + b"U\1OK\0K\1\x87R(K\3U\1|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89U\x08AAAAAAAAt"
    ),
    "structures": array(b"(K\1(K\1t" + TYPE + b"(lU\1aU\1O\x86aK\0K\1tR\x89U\x08AAAAAAAAt"),
    "buffer": b"\x80\x02](cnumpy\nndarray\n((K\1tU\1Ot\x81\x85e.",
    "no state": b"\x80\x02](" + ARRAY + b"N)U\1b\x87R\x85e.",
}


@pytest.fixture(autouse=True)
def nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Assert that no canary appears, and that a test takes 5 s and half a gigabyte at most."""
    monkeypatch.chdir(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.thread_time()
    yield
    assert time.thread_time() - begin < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000
    assert not Path("canary").exists()


def refused(path: Path, message: str) -> pytest.RaisesExc[IrpipeError]:
    """Expect one line that begins with the path and a match of `message`."""
    return pytest.raises(IrpipeError, match=rf"\A{re.escape(str(path))}: {message}[^\n]*\Z")


def evaluate(checkpoint: Path) -> int:
    """Return the exit code of `irpipe evaluate`."""
    attack = ["--attack", "x={kind: pgd, images: 1}"]
    output = ["--output", str(checkpoint.with_name("x.h5"))]
    return main(["evaluate", "--checkpoint", str(checkpoint), *attack, *output])


def report(result: Path) -> int:
    """Return the exit code of `irpipe report`."""
    table = ["--table", "x={kind: accuracy_table, title: T}"]
    return main(["report", *table, str(result), "--output", str(result.parent)])


@pytest.mark.parametrize("name", PICKLES)
def test_hostile_pickles_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pkl"
    path.write_bytes(PICKLES[name])
    messages = (
        "asks for",
        "not a readable network",
        "expected a list",
        "holds numbers",
        "has [0-9]+ convolutions",
    )
    with refused(path, f"({'|'.join(messages)})"):
        read_released(path, "mnist", {"kind": "mnist"}, "small", "int")


@pytest.mark.parametrize("name", ["system", "posix", "stack", "popen", "nested"])
def test_pickle_itself_would_run_them(name: str) -> None:
    returned = pickle.loads(PICKLES[name])
    if name == "popen":
        returned.wait()
    assert Path("canary").exists()
    Path("canary").unlink()


def test_no_command_but_import_unpickles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("net.safetensors", "net.h5", "net.csv", "net.pkl"):
        path = tmp_path / name
        path.write_bytes(PICKLES["system"])
        assert evaluate(path) == 2
        assert report(path) == 2
        assert capsys.readouterr().err.count(str(path)) == 2


# --- safetensors ---


def safetensors(header: object, content: bytes = b"", size: int | None = None) -> bytes:
    """Return a safetensors file with this header, which is bytes or becomes JSON.

    `size` is the size that the file says the header has; None means the correct one.
    """
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + content


def tensor(kind: str = "F32", shape: object = (1,), ends: object = (0, 4)) -> dict[str, object]:
    """Return a header with one tensor."""
    return {"head": {"dtype": kind, "shape": shape, "data_offsets": ends}}


HEADERS: dict[str, bytes] = {
    "empty": b"",
    "size only": struct.pack("<Q", 0),
    "size of 2**63": safetensors(b"{}", size=2**63),
    "size of 2**64 - 1": safetensors(b"{}", size=2**64 - 1),
    "size of 90 MB": safetensors(b"{}", size=90_000_000),
    "no JSON": safetensors(b"\xff\xfe{}"),
    "a list": safetensors([]),
    "deep": safetensors(b'{"a":' * 50_000),
    "deep lists": safetensors(b'{"a":' + b"[" * 50_000),
    "no offsets": safetensors({"head": {"dtype": "F32", "shape": [1]}}, bytes(4)),
    "negative offsets": safetensors(tensor(ends=(-4, 0)), bytes(4)),
    "reversed offsets": safetensors(tensor(ends=(4, 0)), bytes(4)),
    "offsets after the end": safetensors(tensor(ends=(0, 4096)), bytes(4)),
    "offsets of 2**64": safetensors(tensor(ends=(0, 2**64)), bytes(4)),
    "overlap": safetensors({"a": tensor()["head"], "b": tensor()["head"]}, bytes(4)),
    "hole": safetensors(tensor(ends=(4, 8)), bytes(8)),
    "tail": safetensors(tensor(), bytes(8)),
    "shape of 2**62": safetensors(tensor(shape=(2**62, 4)), bytes(4)),
    "shape that overflows to 1": safetensors(tensor(shape=(2**32, 2**32)), bytes(4)),
    "negative shape": safetensors(tensor(shape=(-1,)), bytes(4)),
    "shape of a text": safetensors(tensor(shape="1"), bytes(4)),
    "no such type": safetensors(tensor("PICKLE"), bytes(4)),
    "eighths": safetensors(tensor("F8_E4M3", (4,)), bytes(4)),
    "halves": safetensors(tensor("BF16", (2,)), bytes(4)),
    "twice": safetensors(
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},' * 2 + b'"b":1}', bytes(2)
    ),
    "metadata of numbers": safetensors({"__metadata__": {"irpipe": 5}}),
    "metadata of lists": safetensors({"__metadata__": [1]}),
    "path as name": safetensors({"../../canary": tensor()["head"]}, bytes(4)),
    "irpipe metadata, deep": save({}, {"irpipe": "[" * 100_000}),
    "irpipe metadata, digits": save({}, {"irpipe": f'{{"a": {"9" * 5000}}}'}),
    "irpipe metadata, no digest": save({}, {"irpipe": "{}"}),
    "irpipe metadata, a list as digest": save(
        {}, {"irpipe": json.dumps({CONTENT_SHA256_KEY: [[]]})}
    ),
}


@pytest.mark.parametrize("name", HEADERS)
def test_hostile_headers_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(HEADERS[name])
    with refused(path, ""):
        read_checkpoint(path)


VALID_METADATA = {
    "dataset": "digits",
    "data": {"kind": "digits"},
    "model": "small",
    "method": "int",
    "run": "seed0",
}
WRONG_METADATA: list[dict[str, object]] = [
    {"data": "digits"},
    {"data": {}},
    {"data": {"kind": ["digits"]}},
    {"data": None},
    {"dataset": {}},
    {"run": 5},
    {"method": ["x"]},
    {"model": {}},
    {"model": "../small"},
    {"model": "large"},
    {"data": {"kind": "../../canary"}},
    {"data": {"kind": "digits", "extra": 1}},
]


@pytest.mark.parametrize("wrong", WRONG_METADATA)
def test_wrong_metadata_are_refused_although_the_checksum_is_correct(
    wrong: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Anyone who writes a checkpoint can give it a correct SHA-256."""
    path = tmp_path / "net.safetensors"
    checkpoint = Checkpoint(VALID_METADATA | wrong, {"head": torch.zeros(10, 100)})
    write_checkpoint(path, checkpoint)
    assert evaluate(path) == 2
    error = capsys.readouterr().err
    assert error.startswith("irpipe evaluate: error: ")
    assert error.count("\n") == 1
