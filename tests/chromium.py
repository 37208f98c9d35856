"""A headless Chromium that opens one file and runs JavaScript in it: DevTools over two pipes."""

import itertools
import json
import os
import shutil
import signal
import subprocess
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


class Page:
    """One page of a Chromium that ends with the context.

    `errors` holds what its console complained of, and requests to the network.
    """

    def __init__(self, folder: Path, width: int, height: int) -> None:
        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if program is None:
            pytest.skip("no Chromium on this machine (apt-get install chromium)")
        # Chromium reads commands from descriptor 3 and writes answers to descriptor 4.
        commands, self.command_pipe = os.pipe()
        self.answer_pipe, answers = os.pipe()
        options = [*FLAGS, f"--user-data-dir={folder}", f"--window-size={width},{height}"]
        redirect = f'exec "$@" 3<&{commands} 4>&{answers}'
        self.process = subprocess.Popen(
            ["bash", "-c", redirect, "bash", program, *options, "about:blank"],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(commands)
        os.close(answers)
        self.width = width
        self.height = height
        self.buffer = b""
        self.ids = itertools.count(1)
        self.session = ""
        self.errors: list[str] = []

    def __enter__(self) -> "Page":
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self.session = session["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
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

    def send(self, method: str, **params: object) -> Any:
        """Call a method of the DevTools protocol and return its result."""
        message: dict[str, Any] = {"id": next(self.ids), "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.command_pipe, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next_message()
            if answer.get("id") == message["id"]:
                assert "error" not in answer, answer
                return answer["result"]

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
        while b"\0" not in self.buffer:
            part = os.read(self.answer_pipe, 2**20)
            assert part, "Chromium ended"
            self.buffer += part
        line, self.buffer = self.buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        error = _error_of(message.get("method"), message.get("params", {}))
        if error:
            self.errors.append(error)
        return message


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
