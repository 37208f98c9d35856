"""Each process has a GPU of its own, and gives it back however it ends."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from warm_python import programs
from workflow_copy import path_with_fake_irpipe

from irpipe.errors import IrpipeError
from irpipe.runtime import device, gpu_lock

ROOT = Path(__file__).resolve().parents[2]
# Prints the index of its GPU, then when it locked it and when it is about to end.
JOB = """
import sys, time
from irpipe.runtime.gpu_lock import lock_gpu
index = lock_gpu(("a", "b", "c", "d")[: int(sys.argv[2])])
start = time.monotonic()
print(index, flush=True)
time.sleep(float(sys.argv[1]))
print(start, time.monotonic())
"""
Use = tuple[str, float, float]  # a GPU, from when, until when


@pytest.fixture(autouse=True)
def no_gpus_and_new_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(gpu_lock.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))


def start_job(seconds: float, n_gpus: int = 4) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", JOB, str(seconds), str(n_gpus)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def start_holder(seconds: float) -> subprocess.Popen[str]:
    """Start a job that holds GPU "a", and wait until it does."""
    holder = start_job(seconds, n_gpus=1)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "0\n"
    return holder


def parse_use(words: list[str]) -> Use:
    gpu, start, end = words
    return gpu, float(start), float(end)


def max_overlap(spans: list[tuple[float, float]]) -> int:
    """Largest number of spans that overlap."""
    return max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)


def check_uses(uses: list[Use], n_jobs: int) -> None:
    """Check that no two jobs shared a GPU at any time, and that all four were in use at once."""
    assert len(uses) == n_jobs
    for gpu in "0123":
        assert max_overlap([(start, end) for other, start, end in uses if other == gpu]) == 1
    assert max_overlap([(start, end) for _, start, end in uses]) == 4


def test_no_two_of_twelve_jobs_share_one_of_four_gpus() -> None:
    jobs = [start_job(1.5) for _ in range(12)]
    check_uses([parse_use(job.communicate(timeout=60)[0].split()) for job in jobs], 12)


def test_a_job_waits_for_the_only_gpu_and_says_so_once() -> None:
    first = start_holder(4)
    second = start_job(0, n_gpus=1)
    first_end = float(first.communicate(timeout=60)[0].split()[1])
    output, message = second.communicate(timeout=60)
    assert float(output.split()[1]) >= first_end
    assert message == "waiting for a GPU: other processes hold all 1\n"


def test_jobs_spread_over_gpus_before_they_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRPIPE_JOBS_PER_GPU", "2")
    jobs: list[subprocess.Popen[str]] = []
    for expected in ("0\n", "1\n", "0\n", "1\n"):
        job = start_job(60, n_gpus=2)
        assert job.stdout is not None
        assert job.stdout.readline() == expected
        jobs.append(job)
    fifth = start_job(0, n_gpus=2)
    assert fifth.stderr is not None
    assert fifth.stderr.readline() == "waiting for a GPU: other processes hold all 2\n"
    jobs[1].kill()
    assert fifth.communicate(timeout=60)[0].startswith("1\n")
    for job in jobs:
        job.kill()
        job.communicate()


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "²"])
def test_a_wrong_number_of_jobs_per_gpu_is_an_error(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IRPIPE_JOBS_PER_GPU", text)
    gpu_lock.lock_gpu.cache_clear()
    message = f"IRPIPE_JOBS_PER_GPU: '{text}', but it is a number of jobs, at least 1"
    with pytest.raises(IrpipeError, match=f"^{re.escape(message)}$"):
        gpu_lock.lock_gpu(("a",))


def test_a_killed_job_gives_its_gpu_back() -> None:
    holder = start_holder(60)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert start_job(0, n_gpus=1).communicate(timeout=60)[0].startswith("0\n")


def test_the_lock_file_stays(tmp_path: Path) -> None:
    """If a job removed it, the next two could lock files of one name and both have the GPU."""
    holder = start_holder(0)
    holder.communicate(timeout=60)
    (lock,) = tmp_path.glob("irpipe-gpus-*/*")
    assert lock.name == "a"


def test_gpus_are_known_by_uuid_whatever_their_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside Slurm jobs, GPU 0 of two jobs may be two GPUs: only the same one counts as taken."""
    holder = start_holder(60)
    visible = ["a", "e"]
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(visible))
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda i: type("Properties", (), {"uuid": visible[i]})
    )
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: chosen[-1] if chosen else 0)
    try:
        # By hand, no GPU is locked.
        assert device.select_device("auto") == torch.device("cuda", 0)
        monkeypatch.setenv("IRPIPE_LOCK_GPU", "1")
        assert device.select_device("auto") == torch.device("cuda", 1)
        assert device.select_device("cpu") == torch.device("cpu")
        # The process's own lock does not keep it out.
        assert device.select_device("auto") == torch.device("cuda", 1)
        visible[:] = ["f", "a"]
        assert device.select_device("cuda") == torch.device("cuda", 0)
    finally:
        holder.kill()
        holder.communicate()
        while gpu_lock._held_locks:
            gpu_lock._held_locks.pop().release()


def test_it_says_why_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_lock.why_no_gpu() == "CUDA_VISIBLE_DEVICES is empty"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    device_files: list[Path] = []
    monkeypatch.setattr(gpu_lock.Path, "glob", lambda folder, pattern: device_files)
    assert gpu_lock.why_no_gpu() == "this machine has no GPU"
    device_files.append(Path("/dev/nvidia0"))
    monkeypatch.setattr(gpu_lock, "version", lambda package: "2.13.0+cpu")
    assert gpu_lock.why_no_gpu() == "this torch is built for the CPU alone"
    monkeypatch.setattr(gpu_lock, "version", lambda package: "2.13.0")
    assert gpu_lock.why_no_gpu() is None


def test_the_workflow_runs_four_jobs_at_a_time_and_names_the_cpu_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", path_with_fake_irpipe(tmp_path / "bin"))
    targets = [f"results/quick_digits/small/int/seed{k}/pgd.h5" for k in range(12)]
    command = [str(programs() / "python"), "-m", "snakemake", "--cores", "8"]
    command += ["--resources", "gpu=4"]
    command += ["--snakefile", str(ROOT / "Snakefile")]
    command += ["--configfile", str(ROOT / "config/config.yaml"), "--config", "seeds=12"]
    command += ["--", *targets]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    lines = (tmp_path / "gpu_uses").read_text(encoding="utf-8").splitlines()
    check_uses([parse_use(line.split()) for line in lines], 24)
    assert run.stderr.count("Computing on the CPU: CUDA_VISIBLE_DEVICES is empty") == 1
