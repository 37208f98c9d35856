"""GPU leases: one device for each process, given back however the process ends; four jobs at a time in the workflow."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from project import pretended

from irpipe import hardware, lease

ROOT = Path(__file__).resolve().parents[1]
JOB = """
import sys, time
from irpipe.lease import lease
device = lease(("a", "b", "c", "d")[: int(sys.argv[2])])
start = time.monotonic()
print(device, flush=True)
time.sleep(float(sys.argv[1]))
print(start, time.monotonic())
"""


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks of their own, and an environment without GPUs."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(lease.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))


def job(seconds: float, devices: int = 4) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", JOB, str(seconds), str(devices)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def at_once(spans: list[tuple[float, float]]) -> int:
    """Largest number of spans that overlap."""
    return max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)


def check(held: list[tuple[str, float, float]], jobs: int) -> None:
    """Every job held a device, no two the same at a time, and all four were in use at once."""
    assert len(held) == jobs
    for device in "0123":
        assert at_once([(start, end) for other, start, end in held if other == device]) == 1
    assert at_once([(start, end) for _, start, end in held]) == 4


def test_no_two_of_twelve_jobs_share_one_of_four_devices() -> None:
    jobs = [job(1.5) for _ in range(12)]
    printed = [made.communicate(timeout=60)[0].split() for made in jobs]
    check([(device, float(start), float(end)) for device, start, end in printed], 12)


def test_waits_for_the_only_device_and_says_so_once() -> None:
    first = job(4, devices=1)
    assert first.stdout is not None
    assert first.stdout.readline() == "0\n"
    second = job(0, devices=1)
    ended = float(first.communicate(timeout=60)[0].split()[1])
    printed, said = second.communicate(timeout=60)
    assert float(printed.split()[1]) >= ended
    assert said == "waiting for a GPU: other processes lease all 1\n"


def test_a_killed_job_gives_its_device_back() -> None:
    killed = job(60, devices=1)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "0\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert job(0, devices=1).communicate(timeout=60)[0].startswith("0\n")


def test_devices_are_known_by_uuid_whatever_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """As inside Slurm jobs, where device 0 of two jobs may be two devices: only the same one counts as taken."""
    holder = job(60, devices=1)  # holds "a"
    assert holder.stdout is not None
    holder.stdout.readline()
    visible = ["a", "e"]
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(visible))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: type("Properties", (), {"uuid": visible[i]}))
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: chosen[-1] if chosen else 0)
    try:
        assert hardware.device("auto") == torch.device("cuda", 0)  # by hand: no lease
        monkeypatch.setenv("IRPIPE_LEASE", "1")
        assert hardware.device("auto") == torch.device("cuda", 1)
        assert hardware.device("cpu") == torch.device("cpu")
        assert hardware.device("auto") == torch.device("cuda", 1)  # this process's own lease does not keep it out
        visible[:] = ["f", "a"]
        assert hardware.device("cuda") == torch.device("cuda", 0)
    finally:
        holder.kill()
        holder.communicate()
        while lease._held:
            lease._held.pop().close()


def test_says_why_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lease.missing() == "CUDA_VISIBLE_DEVICES is empty"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    seen: list[Path] = []
    monkeypatch.setattr(lease.Path, "glob", lambda folder, pattern: seen)
    assert lease.missing() == "this machine has no GPU"
    seen.append(Path("/dev/nvidia0"))
    monkeypatch.setattr(lease, "version", lambda package: "2.13.0+cpu")
    assert lease.missing() == "this torch is built for the CPU alone"
    monkeypatch.setattr(lease, "version", lambda package: "2.13.0")
    assert lease.missing() is None


def test_the_workflow_runs_four_jobs_at_a_time_and_names_the_cpu_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", pretended(tmp_path / "bin"))
    targets = [f"results/digits/small/int/seed{k}/pgd.h5" for k in range(12)]
    options = ["--snakefile", ROOT / "Snakefile", "--configfile", ROOT / "config/config.yaml", "--config", "seeds=12"]
    command = [sys.executable, "-m", "snakemake", "--cores", "8", "--resources", "gpu=4", *options, "--", *targets]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    lines = [line.split() for line in (tmp_path / "leases").read_text().splitlines()]
    check([(device, float(start), float(end)) for device, start, end in lines], 24)
    assert run.stderr.count("Computing on the CPU: CUDA_VISIBLE_DEVICES is empty") == 1
