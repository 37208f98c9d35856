"""Python with its libraries imported, for tests that start many processes.

The programs `python` and `irpipe` of `programs()` do what theirs do. But a server that has
imported the libraries, and nothing of irpipe, forks for each of them. So a test changes, kills
and signals them like any process, except by SIGSTOP. The processes of a session share the server.

As a script, `python warm_python.py FOLDER` is the server. It ends with the last of its clients.
"""

import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

LIBRARIES = [
    "h5py",
    "jinja2",
    "matplotlib.figure",
    "pandas",
    "pyarrow.parquet",
    "pydantic",
    "safetensors.torch",
    "scipy.stats",
    "snakemake.cli",
    "torch.fx.experimental.symbolic_shapes",
]
SESSION = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
# The path of a socket has at most 107 bytes.
TEMPORARY = tempfile.gettempdir()
FOLDER = Path(TEMPORARY if len(os.fsencode(TEMPORARY)) < 50 else "/tmp") / f"warm-python-{SESSION}"
# It needs nothing but the standard library, so it starts in a few milliseconds.
CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([{script!r} + sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
server.sendall(request)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, _: server.send(bytes([number])))
code = int(server.recv(8))
if code < 0:
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@functools.cache
def programs() -> Path:
    """The folder with `python` and `irpipe`. They work until this process ends."""
    _connect().detach()  # stays open until the kernel closes it, for which the server waits
    return FOLDER


def _connect() -> socket.socket:
    """Connect to the server. The first process of the session starts it."""
    connection = socket.socket(socket.AF_UNIX)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            connection.connect(str(FOLDER / "socket"))
            return connection
        with contextlib.suppress(FileExistsError):
            FOLDER.mkdir()
            _write_programs()
            environment = {key: os.environ[key] for key in os.environ.keys() - {"PYTHONPATH"}}
            command = [sys.executable, __file__, str(FOLDER)]
            os.posix_spawn(sys.executable, command, environment, setsid=True)
        time.sleep(0.05)
    raise TimeoutError(f"{FOLDER}: its server does not answer; remove the folder")


def _write_programs() -> None:
    irpipe = str(Path(sys.executable).parent / "irpipe")
    for name, script in (("python", []), ("irpipe", [irpipe])):
        path = FOLDER / name
        text = CLIENT.format(python=sys.executable, address=str(FOLDER / "socket"), script=script)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)


def serve(folder: Path) -> None:
    """Fork for each connection, until the last one has ended."""
    for library in LIBRARIES:
        importlib.import_module(library)
    assert not any("irpipe" in name for name in sys.modules)
    gc.freeze()  # else a collection in a forked process would copy all objects
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen(64)
        listener.settimeout(60)
        while True:
            connection = accept(listener)
            if connection is None and not has_children():
                shutil.rmtree(folder)
                return
            if connection is not None:
                listener.settimeout(1)
                if os.fork() == 0:
                    break
                connection.close()
    handle(connection)


def accept(listener: socket.socket) -> socket.socket | None:
    """The next connection, if it comes in time."""
    try:
        return listener.accept()[0]
    except TimeoutError:
        return None


def has_children() -> bool:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def handle(connection: socket.socket) -> None:
    """Fork for a client. Pass its signals on, and its end; send it the exit code."""
    header, streams, _, _ = socket.recv_fds(connection, 8, 3)
    if not header:
        return  # the client of a process of the session, which only waits
    with connection.makefile("rb") as file:
        request = json.loads(file.read(int.from_bytes(header, "big")))
    command = os.fork()
    if command == 0:
        os.setpgid(0, 0)
        connection.close()
        run(*request, streams)
        return
    with contextlib.suppress(OSError):
        os.setpgid(command, command)  # whichever of both comes first
    for stream in streams:
        os.close(stream)
    end = os.pidfd_open(command)
    while end not in (ready := select.select([connection, end], [], [])[0]):
        number = connection.recv(1) if ready else b""
        if number:
            os.kill(command, number[0])
        else:
            os.killpg(command, signal.SIGKILL)
            break
    code = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
    with contextlib.suppress(OSError):
        connection.sendall(str(code).encode())


def run(arguments: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> None:
    """Do in this process what Python does with these arguments."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # Those of the server know of its own streams whether they are files.
    stream: Any = functools.partial(open, encoding="utf-8", closefd=False)
    sys.stdin, sys.stdout = stream(0), stream(1, "w")
    sys.stderr = stream(2, "w", 1, errors="backslashreplace")
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if "OMP_NUM_THREADS" in environment:
        torch: Any = importlib.import_module("torch")
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    sys.path[0:1] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    form, *rest = arguments
    if form == "-m":
        sys.path.insert(0, folder)
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif form == "-c":
        sys.path.insert(0, "")
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.path.insert(0, str(Path(form).parent))
        sys.argv = arguments
        runpy.run_path(form, run_name="__main__")


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
