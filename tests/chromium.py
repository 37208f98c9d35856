"""A headless Chromium that opens one file and answers in JavaScript, without any package: DevTools over two pipes."""

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

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--remote-debugging-pipe"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"]


class Page:
    """One page of a Chromium that ends with the context; `errors` holds all that its console complained of."""

    def __init__(self, folder: Path, width: int, height: int) -> None:
        program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if program is None:
            pytest.skip("no Chromium on this machine (apt-get install chromium)")
        asked, self.out = os.pipe()
        self.answers, answered = os.pipe()
        options = [*FLAGS, f"--user-data-dir={folder}", f"--window-size={width},{height}"]
        shell = ["bash", "-c", f'exec "$@" 3<&{asked} 4>&{answered}', "bash", program, *options, "about:blank"]
        silent = subprocess.DEVNULL
        self.process = subprocess.Popen(
            shell, pass_fds=(asked, answered), stdout=silent, stderr=silent, start_new_session=True
        )
        os.close(asked)
        os.close(answered)
        self.width, self.height = width, height
        self.buffer, self.numbers, self.session = b"", itertools.count(1), ""
        self.errors: list[str] = []

    def __enter__(self) -> "Page":
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)  # with the processes that it started
        self.process.wait()
        os.close(self.out)
        os.close(self.answers)

    def send(self, method: str, **params: object) -> Any:
        """Call a method of the DevTools protocol and return its result."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        os.write(self.out, json.dumps(message | ({"sessionId": self.session} if self.session else {})).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, path: Path) -> None:
        """Open a file at the page's size, as a phone would where that is narrow, and wait until it is there."""
        phone = self.width < 600
        size = {"width": self.width, "height": self.height, "deviceScaleFactor": 1, "mobile": phone}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        self.send("Page.navigate", url=path.as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def run(self, script: str) -> Any:
        """Value of a JavaScript expression in the page (a promise is waited for)."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            part = os.read(self.answers, 2**20)
            assert part, "Chromium ended"
            self.buffer += part
        line, self.buffer = self.buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"]))
        if message.get("method") == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(str(params["args"]))
        if message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(str(params["entry"]))
        if message.get("method") == "Network.requestWillBeSent" and params["request"]["url"].startswith("http"):
            self.errors.append(f"asks the network for {params['request']['url']}")
        return message
