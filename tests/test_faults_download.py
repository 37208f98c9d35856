"""Downloads from a server that misbehaves: given up in time, no partial file, one line that says what to do by hand."""

import gc
import hashlib
import io
import tarfile
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import ClassVar

import pytest

from irpipe import data
from irpipe._torchvision import torchvision
from irpipe.errors import IrpipeError

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # urllib's errors hold their connections
PAGE = b"<html><title>Sign in to this network</title></html>"


class Server(BaseHTTPRequestHandler):
    """Plays `fault` with `content`; "cut" and "stall" begin well."""

    fault: ClassVar[str] = ""
    content: ClassVar[bytes] = b""
    over: ClassVar[Event] = Event()

    def do_GET(self) -> None:
        if self.fault.isdecimal():
            self.send_error(int(self.fault))
        elif self.fault == "silence":
            self.over.wait(20)
        else:
            self.send_response(200)
            content = PAGE if self.fault == "page" else self.content
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            whole = self.fault in ("page", "wrong", "")
            self.wfile.write(content if whole else content[: len(content) // 2])
            if self.fault == "stall":
                self.wfile.flush()
                self.over.wait(20)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(data, "SILENCE", 0.3)
    Server.over.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        Server.over.set()
        server.shutdown()
    gc.collect()  # while those warnings are off


def archive() -> bytes:
    """A tar that unpacks to a folder of CIFAR-10's name."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        entry = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        entry.size = 9000
        tar.addfile(entry, io.BytesIO(bytes(9000)))
    return packed.getvalue()


FAULTS = ["403", "404", "503", "page", "wrong", "cut", "silence", "stall"]
HAND = {
    "mnist": "put t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, unpacked, into",
    "cifar10": "put the folder cifar-10-batches-bin or cifar-10-batches-py into",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", HAND)
def test_failed_downloads(kind: str, fault: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = archive()
    known = hashlib.md5(content).hexdigest() if fault != "wrong" else "0" * 32
    monkeypatch.setattr(Server, "fault", fault)
    monkeypatch.setattr(Server, "content", content)
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [url, url])
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", [("train-images-idx3-ubyte.gz", known)])
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", f"{url}cifar-10-python.tar.gz")
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", known)
    begin = time.monotonic()
    with pytest.raises(IrpipeError, match=rf"\A[^\n]*; {HAND[kind]} {tmp_path}[^\n]*\Z") as caught:
        data.load({"kind": kind}, tmp_path, "test", download=True)
    assert time.monotonic() - begin < 10
    assert str(caught.value).startswith(("MNIST: ", "CIFAR-10: "))
    assert {"403": "Forbidden", "404": "Not Found", "503": "Unavailable"}.get(fault, "") in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_arrives_whole_is_checked_before_it_is_used(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive of the right checksum with the wrong files in it: kept out, as if it were not there."""
    content = archive()
    monkeypatch.setattr(Server, "fault", "")
    monkeypatch.setattr(Server, "content", content)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", f"{url}cifar-10-python.tar.gz")
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", hashlib.md5(content).hexdigest())
    with pytest.raises(IrpipeError, match=r"CIFAR-10: Dataset not found or corrupted\..*; put the folder"):
        data.load({"kind": "cifar10"}, tmp_path, "test", download=True)
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_downloaded_into(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for kind in HAND:
        with pytest.raises(IrpipeError, match=rf"{tmp_path / 'file'}.*; put "):
            data.load({"kind": kind}, tmp_path / "file", "test", download=True)
