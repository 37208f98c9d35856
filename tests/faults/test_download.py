"""A download from a server that misbehaves ends in time, and leaves no partial file.

One line says what to do by hand.
"""

import gc
import hashlib
import io
import re
import tarfile
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import ClassVar

import pytest

from irpipe import datasets
from irpipe.datasets import _downloads
from irpipe.datasets._torchvision import torchvision
from irpipe.errors import IrpipeError

# The errors of urllib hold their connections, which are then never closed.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
PAGE = b"<html><title>Sign in to this network</title></html>"


class FaultyServer(BaseHTTPRequestHandler):
    """Serves `content` with `fault`. The faults "cut" and "stall" begin well."""

    fault: ClassVar[str] = ""
    content: ClassVar[bytes] = b""
    is_over: ClassVar[Event] = Event()

    def do_GET(self) -> None:
        if self.fault.isdecimal():
            self.send_error(int(self.fault))
        elif self.fault == "silence":
            self.is_over.wait(20)
        else:
            self.send_content()

    def send_content(self) -> None:
        content = PAGE if self.fault == "page" else self.content
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.fault in ("cut", "stall"):
            content = content[: len(content) // 2]
        self.wfile.write(content)
        if self.fault == "stall":
            self.wfile.flush()
            self.is_over.wait(20)

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    FaultyServer.is_over.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), FaultyServer) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        FaultyServer.is_over.set()
        server.shutdown()
    gc.collect()  # While the warnings of `pytestmark` are off.


def archive() -> bytes:
    """Return a tar file that unpacks to a folder with the name of CIFAR-10's."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        entry = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        entry.size = 9000
        tar.addfile(entry, io.BytesIO(bytes(9000)))
    return packed.getvalue()


FAULTS = ["403", "404", "503", "page", "wrong checksum", "cut", "silence", "stall"]
REASONS = {"403": "Forbidden", "404": "Not Found", "503": "Unavailable"}
REMEDIES = {
    "mnist": "put t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, unpacked, into",
    "cifar10": "put the folder cifar-10-batches-bin or cifar-10-batches-py into",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", REMEDIES)
def test_a_failed_download_says_what_to_do_and_leaves_no_file(
    kind: str, fault: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = archive()
    if fault in ("silence", "stall"):  # Any other server has all the time that it needs.
        monkeypatch.setattr(_downloads, "SOCKET_TIMEOUT", 0.3)
    md5 = "0" * 32 if fault == "wrong checksum" else hashlib.md5(content).hexdigest()
    monkeypatch.setattr(FaultyServer, "fault", fault)
    monkeypatch.setattr(FaultyServer, "content", content)
    mnist, cifar10 = torchvision.datasets.MNIST, torchvision.datasets.CIFAR10
    monkeypatch.setattr(mnist, "mirrors", [url, url])
    monkeypatch.setattr(mnist, "resources", [("train-images-idx3-ubyte.gz", md5)])
    monkeypatch.setattr(cifar10, "url", f"{url}cifar-10-python.tar.gz")
    monkeypatch.setattr(cifar10, "tgz_md5", md5)
    begin = time.monotonic()
    message = rf"\A[^\n]*; {REMEDIES[kind]} {re.escape(str(tmp_path))}[^\n]*\Z"
    with pytest.raises(IrpipeError, match=message) as caught:
        datasets.load({"kind": kind}, tmp_path, "test", download=True)
    assert time.monotonic() - begin < 10
    assert str(caught.value).startswith(("MNIST: ", "CIFAR-10: "))
    assert REASONS.get(fault, "") in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_complete_download_with_the_wrong_files_in_it_is_refused(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive's checksum is correct, but its files are not CIFAR-10's, so none is kept."""
    content = archive()
    monkeypatch.setattr(FaultyServer, "fault", "")
    monkeypatch.setattr(FaultyServer, "content", content)
    cifar10 = torchvision.datasets.CIFAR10
    monkeypatch.setattr(cifar10, "url", f"{url}cifar-10-python.tar.gz")
    monkeypatch.setattr(cifar10, "tgz_md5", hashlib.md5(content).hexdigest())
    message = r"CIFAR-10: Dataset not found or corrupted\..*; put the folder"
    with pytest.raises(IrpipeError, match=message):
        datasets.load({"kind": "cifar10"}, tmp_path, "test", download=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", REMEDIES)
def test_a_download_into_a_file_in_place_of_a_folder_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("", encoding="utf-8")
    with pytest.raises(IrpipeError, match=rf"{re.escape(str(path))}.*; put "):
        datasets.load({"kind": kind}, path, "test", download=True)
