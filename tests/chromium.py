"""A headless Chromium that opens files and runs JavaScript in them: DevTools over two pipes."""

import itertools
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--remote-debugging-pipe",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]
# A narrower page is shown as on a phone, in pixels.
PHONE_BELOW = 600


class Chromium:
    """A browser, which ends with the context. Its pages share nothing."""

    def __init__(self, folder: Path) -> None:
        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if program is None:
            pytest.skip("no Chromium on this machine (apt-get install chromium)")
        # Chromium reads commands from descriptor 3 and writes answers to descriptor 4.
        commands, self.command_pipe = os.pipe()
        self.answer_pipe, answers = os.pipe()
        redirect = f'exec "$@" 3<&{commands} 4>&{answers}'
        options = [*FLAGS, f"--user-data-dir={folder}", "about:blank"]
        self.process = subprocess.Popen(
            ["bash", "-c", redirect, "bash", program, *options],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(commands)
        os.close(answers)
        self.buffer = b""
        self.ids = itertools.count(1)

    def __enter__(self) -> "Chromium":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The group holds the processes that Chromium started.
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.command_pipe)
        os.close(self.answer_pipe)

    def start(self, method: str, params: dict[str, object], session: str = "") -> int:
        """Call a method of the DevTools protocol; return the id of its answer."""
        message = {"id": next(self.ids), "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self.command_pipe, json.dumps(message).encode() + b"\0")
        return message["id"]

    def send(self, method: str, **params: object) -> Any:
        """Call a method of the browser and return its result."""
        return result_of(self.start(method, params), self.next_message)

    def next_message(self) -> dict[str, Any]:
        """The next answer or event."""
        while b"\0" not in self.buffer:
            part = os.read(self.answer_pipe, 2**20)
            assert part, "Chromium ended"
            self.buffer += part
        line, self.buffer = self.buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    @contextmanager
    def page(self, width: int, height: int) -> Iterator["Page"]:
        """A page of this size in pixels."""
        profile = self.send("Target.createBrowserContext")
        target = self.send("Target.createTarget", url="about:blank", **profile)["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, width, height)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.send(f"{domain}.enable")
        try:
            yield page
        finally:
            self.send("Target.disposeBrowserContext", **profile)


@dataclass
class Page:
    """A page. `errors` holds what its console complained of, and requests to the network."""

    chromium: Chromium
    session: str
    width: int
    height: int
    errors: list[str] = field(default_factory=list)

    def send(self, method: str, **params: object) -> Any:
        """Call a method of the page and return its result."""
        return result_of(self.chromium.start(method, params, self.session), self._next_message)

    def open(self, path: Path) -> None:
        """Open a file at the page's size and wait until it is loaded."""
        size = {"width": self.width, "height": self.height, "deviceScaleFactor": 1}
        is_phone = self.width < PHONE_BELOW
        self.send("Emulation.setDeviceMetricsOverride", **size, mobile=is_phone)
        self.send("Page.navigate", url=path.as_uri())
        while self._next_message().get("method") != "Page.loadEventFired":
            pass

    def run(self, script: str) -> Any:
        """Value of a JavaScript expression in the page; of a promise, once it is settled."""
        answer = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def _next_message(self) -> dict[str, Any]:
        """The next answer or event; an event that tells of an error is noted."""
        message = self.chromium.next_message()
        error = _error_of(message.get("method"), message.get("params", {}))
        if error and message.get("sessionId") == self.session:
            self.errors.append(error)
        return message


def result_of(number: int, next_message: Callable[[], dict[str, Any]]) -> Any:
    """The result in the answer with this id. Messages before it are passed over."""
    while True:
        answer = next_message()
        if answer.get("id") == number:
            assert "error" not in answer, answer
            return answer["result"]


def _error_of(event: str | None, params: dict[str, Any]) -> str:
    """What an event complains of, or an empty string."""
    if event == "Runtime.exceptionThrown":
        return str(params["exceptionDetails"])
    if event == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
        return str(params["args"])
    if event == "Log.entryAdded" and params["entry"]["level"] == "error":
        return str(params["entry"])
    if event == "Network.requestWillBeSent" and params["request"]["url"].startswith("http"):
        return f"asks the network for {params['request']['url']}"
    return ""
