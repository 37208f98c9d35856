"""What a file system lacks is found before the computation; what it can do without is done.

Network file systems may have no locks and no modes. An output may be a device, a pipe or a link.
"""

import errno
import fcntl
import os
import re
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from command_line import run

from irpipe.errors import IrpipeError
from irpipe.files import atomic_write, ensure_writable, files_below
from irpipe.results import to_frame
from irpipe.results.job_costs import read_job_costs
from irpipe.results.result import Result, write_result
from irpipe.results.verify import find_damaged
from irpipe.runtime import gpu_lock

DATA = ("data", "--dataset", "digits={kind: digits}", "--output")


def refuse(number: int) -> Any:
    """A function that fails as a system call that a file system does not have."""

    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_job_takes_the_only_gpu_where_nothing_can_be_locked(
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(gpu_lock.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(fcntl, "flock", refuse(number))
    gpu_lock.lock_gpu.cache_clear()
    assert gpu_lock.lock_gpu(("a",)) == 0
    folder = tmp_path / f"irpipe-gpus-{os.getuid()}"
    reason = f"{folder}: no file can be locked there ({os.strerror(number)})"
    assert capsys.readouterr().err == f"{reason}; this job takes the only GPU\n"
    with pytest.raises(IrpipeError) as error:
        gpu_lock.lock_gpu(("a", "b"))
    message = f"{reason}, so jobs cannot share 2 GPUs; set TMPDIR to a local disk"
    assert str(error.value) == message
    gpu_lock.lock_gpu.cache_clear()


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_files_are_written_where_modes_cannot_be_set(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "chmod", refuse(number))
    assert run(*DATA, tmp_path / "digits.json") == 0
    assert (tmp_path / "digits.json").stat().st_size > 100
    assert [path.name for path in tmp_path.iterdir()] == ["digits.json"]


def test_files_are_written_where_nothing_can_be_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", refuse(errno.EINVAL))
    assert run(*DATA, tmp_path / "digits.json") == 0


@pytest.mark.parametrize("function", ["pathlib.Path.replace", "tempfile.mkstemp", "os.fsync"])
def test_what_would_fail_at_the_end_fails_before_the_computation(
    function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file is renamed over another, no file is made, or the disk is broken."""
    path = tmp_path / "new" / "x.h5"
    ensure_writable(path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(function, refuse(errno.EIO))
    message = rf"\A{re.escape(str(path))}: cannot be written \(Input/output error\)"
    with pytest.raises(IrpipeError, match=message):
        ensure_writable(path)
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_too_long_are_found_before_the_computation(tmp_path: Path) -> None:
    with pytest.raises(IrpipeError, match=r"cannot be written \(File name too long\)"):
        ensure_writable(tmp_path / ("x" * 250))


def test_a_pipe_as_output_is_refused_and_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: os.close(os.open(pipe, os.O_RDONLY)), daemon=True)
    reader.start()
    assert run(*DATA, pipe) == 2
    message = f"irpipe data: error: {pipe}: is a device or a pipe; name a regular file\n"
    assert capsys.readouterr().err == message
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    os.close(os.open(pipe, os.O_WRONLY))
    reader.join()


@pytest.mark.skipif(os.getuid() != 0, reason="devices are made by root")
def test_a_device_as_output_is_refused_and_stays(tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("devices are not allowed here")
    (tmp_path / "link").symlink_to(device)
    for path in (device, tmp_path / "link"):
        with (
            pytest.raises(IrpipeError, match="is a device or a pipe"),
            atomic_write(path) as temporary,
        ):
            temporary.write_bytes(b"x")
    assert stat.S_ISCHR(device.stat().st_mode)


def test_a_link_as_output_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    link = tmp_path / "digits.json"
    link.symlink_to("scratch/digits.json")
    for _ in range(2):
        assert run(*DATA, link) == 0
    assert link.is_symlink()
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["digits.json"]


def linked_results(folder: Path) -> Path:
    """A folder `results` with one result, whose subfolder is a link, and which holds a loop."""
    scratch, results = folder / "scratch", folder / "results"
    results.mkdir()
    write_result(scratch / "digits" / "pgd.h5", Result({"attack": "pgd"}, {}))
    (results / "linked").symlink_to(scratch)
    (scratch / "digits" / "up").symlink_to(scratch)
    (scratch / "again").symlink_to(results)
    return results


def test_links_to_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    results = linked_results(tmp_path)
    assert list(files_below(results)) == [results / "linked" / "digits" / "pgd.h5"]
    assert find_damaged(results) == {}
    path = tmp_path / "scratch" / "digits" / "pgd.h5"
    path.write_bytes(path.read_bytes()[:-1])
    assert list(find_damaged(results)) == [results / "linked" / "digits" / "pgd.h5"]
    # Each reader of a folder meets the file.
    with pytest.raises(IrpipeError, match="cut short or damaged"):
        to_frame(results)
    (tmp_path / "scratch" / "digits" / "a.tsv").write_text("no benchmark", encoding="utf-8")
    with pytest.raises(IrpipeError, match="not a benchmark file"):
        read_job_costs(results)


def test_a_folder_that_cannot_be_listed_is_not_called_undamaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = linked_results(tmp_path)
    monkeypatch.setattr(os, "scandir", refuse(errno.EACCES))
    with pytest.raises(IrpipeError, match=r"cannot be listed \(Permission denied\)"):
        find_damaged(results)
