"""Each process has a GPU of its own, and gives it back however it ends."""

import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from warm_python import programs
from workflow_copy import path_with_fake_irpipe

from irpipe.errors import IrpipeError
from irpipe.runtime import device, gpu_lock

ROOT = Path(__file__).resolve().parents[2]
# Prints the index of its GPU, then holds the GPU until its standard input is closed.
JOB = """
import sys
from irpipe.runtime.gpu_lock import lock_gpu
print(lock_gpu(("a", "b", "c", "d")[: int(sys.argv[1])]), flush=True)
sys.stdin.read()
"""
Job = subprocess.Popen[str]


@pytest.fixture(autouse=True)
def no_gpus_and_new_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(gpu_lock.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))


def start_job(n_gpus: int = 4) -> Job:
    command = [sys.executable, "-c", JOB, str(n_gpus)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def end(job: Job) -> tuple[str, str]:
    """Let a job end; return what it printed since it was last read, and on standard error."""
    printed = job.communicate(timeout=60)
    assert job.returncode == 0, printed
    return printed


def start_holder() -> Job:
    """Start a job that holds GPU "a", and wait until it does."""
    holder = start_job(n_gpus=1)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "0\n"
    return holder


def next_holder(waiting: list[Job]) -> tuple[str, Job]:
    """The next of these jobs that has a GPU, and the GPU. The job is removed from the list."""
    ready, _, _ = select.select([job.stdout for job in waiting], [], [], 60)
    assert ready, "no job has a GPU after a minute"
    job = next(job for job in waiting if job.stdout in ready)
    waiting.remove(job)
    assert job.stdout is not None
    return job.stdout.readline(), job


def test_no_two_of_twelve_jobs_share_one_of_four_gpus() -> None:
    """Four hold a GPU at once, and when one of them ends, another one gets its GPU."""
    waiting = [start_job() for _ in range(12)]
    holding: dict[str, Job] = {}
    while waiting:
        if len(holding) == 4:
            end(holding.pop(next(iter(holding))))
        gpu, job = next_holder(waiting)
        assert gpu not in holding
        holding[gpu] = job
    assert sorted(holding) == ["0\n", "1\n", "2\n", "3\n"]
    for job in holding.values():
        end(job)


def test_a_job_waits_for_the_only_gpu_and_says_so_once() -> None:
    first, second = start_holder(), start_job(n_gpus=1)
    assert second.stderr is not None
    assert second.stderr.readline() == "waiting for a GPU: other processes hold all 1\n"
    time.sleep(2 * gpu_lock.POLL_SECONDS)
    assert select.select([second.stdout, second.stderr], [], [], 0)[0] == []
    end(first)
    assert end(second) == ("0\n", "")


def test_jobs_spread_over_gpus_before_they_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRPIPE_JOBS_PER_GPU", "2")
    jobs: list[Job] = []
    for expected in ("0\n", "1\n", "0\n", "1\n"):
        jobs.append(start_job(n_gpus=2))
        assert jobs[-1].stdout is not None
        assert jobs[-1].stdout.readline() == expected
    fifth = start_job(n_gpus=2)
    assert fifth.stderr is not None
    assert fifth.stderr.readline() == "waiting for a GPU: other processes hold all 2\n"
    end(jobs.pop(1))
    assert end(fifth) == ("1\n", "")
    assert [end(job) for job in jobs] == [("", "")] * 3


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
    holder = start_holder()
    holder.kill()
    holder.communicate()
    assert end(start_job(n_gpus=1)) == ("0\n", "")


def test_the_lock_file_stays(tmp_path: Path) -> None:
    """If a job removed it, the next two could lock files of one name and both have the GPU."""
    end(start_holder())
    (lock,) = tmp_path.glob("irpipe-gpus-*/*")
    assert lock.name == "a"


def test_gpus_are_known_by_uuid_whatever_their_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside Slurm jobs, GPU 0 of two jobs may be two GPUs: only the same one counts as taken."""
    holder = start_holder()
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
        gpu_lock.lock_gpu.cache_clear()


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


def max_overlap(spans: list[tuple[float, float]]) -> int:
    """Largest number of spans that overlap."""
    return max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)


def test_the_workflow_runs_four_jobs_at_a_time_and_names_the_cpu_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", path_with_fake_irpipe(tmp_path / "bin"))
    monkeypatch.setenv("FAKE_GPUS_AT_ONCE", "4")
    targets = [f"results/quick_digits/small/int/seed{k}/pgd.h5" for k in range(12)]
    command = [str(programs() / "python"), "-m", "snakemake", "--cores", "8"]
    command += ["--resources", "gpu=4"]
    command += ["--snakefile", str(ROOT / "Snakefile")]
    command += ["--configfile", str(ROOT / "config/config.yaml"), "--config", "seeds=12"]
    command += ["--", *targets]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    lines = (tmp_path / "gpu_uses").read_text(encoding="utf-8").splitlines()
    uses = [(gpu, float(start), float(end)) for gpu, start, end in map(str.split, lines)]
    assert len(uses) == 24
    for gpu in "0123":
        assert max_overlap([(start, end) for other, start, end in uses if other == gpu]) == 1
    assert max_overlap([(start, end) for _, start, end in uses]) == 4
    assert run.stderr.count("Computing on the CPU: CUDA_VISIBLE_DEVICES is empty") == 1
