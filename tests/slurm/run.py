"""The workflow on a real Slurm of this machine: `make test-slurm`.

A cut quickstart runs with workflow/profiles/slurm. One running training is preempted: Slurm
requeues it and it resumes. Another one is killed: Snakemake submits it again, with twice the
memory. Networks and tables must have the bytes of a local run. Where no Slurm can be installed,
the script says why and ends without an error.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cluster import Cluster, UnavailableError, install

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
PROFILES = ROOT / "workflow/profiles"
# Seconds in which the workflow must end after it was disturbed.
END_SECONDS = 900.0
START = time.monotonic()
# One thread per job. With more threads torch adds up in another order, and the local run has
# fewer of them than the cluster.
COMMAND = [
    *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")),
    *("--configfile", str(FOLDER / "config.yaml"), "--set-threads", "train=1", "evaluate=1"),
]
SLURM_OPTIONS = [
    *("--workflow-profile", str(PROFILES / "slurm")),
    *("--default-resources", "slurm_partition=pretended"),
]
LOCAL_OPTIONS = [
    *("--workflow-profile", str(PROFILES / "default")),
    *("--cores", "2", "--resources", "gpu=2"),
]
Workflow = subprocess.Popen[bytes]


def output(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def print_with_time(text: str) -> None:
    """Print a text after the seconds since the start."""
    print(f"{time.monotonic() - START:5.0f} s  {text}", flush=True)


def queue() -> list[dict[str, str]]:
    """All jobs that Slurm knows. `comment` has the rule and its wildcards."""
    lines = output("squeue", "--noheader", "--states=all", "--format=%i|%m|%k").splitlines()
    return [dict(zip(("id", "memory", "comment"), line.split("|"), strict=True)) for line in lines]


def trainings(method: str) -> list[dict[str, str]]:
    """All submissions of a method's training, the first one first."""
    jobs = [job for job in queue() if re.search(rf"rule_train_.*_{method}_", job["comment"])]
    return sorted(jobs, key=lambda job: int(job["id"]))


def logged_steps(folder: Path, method: str) -> list[int]:
    """The steps that the log of a method's training has reported."""
    log = folder / f"results/logs/digits/small/{method}/seed0/train.log"
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    return [int(count) for count in re.findall(r"seed0: (\d+)/\d+", text)]


def wait_until(event: str, has_happened: Callable[[], bool], workflow: Workflow) -> None:
    """Wait for an event and print it. Raises RuntimeError if the workflow ends before."""
    while not has_happened():
        if workflow.poll() is not None:
            raise RuntimeError(f"the workflow ended before {event}")
        time.sleep(0.2)
    print_with_time(event)


def kill_training(job: str) -> None:
    """Send SIGKILL to the training process of a job, as the kernel does without memory."""
    pids = [int(line.split()[0]) for line in output("scontrol", "listpids", job).splitlines()[1:]]
    for pid in pids:
        # A process may have ended since it was listed; a training has not.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if pid > 0 and b"irpipe\0train\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


def disturb(folder: Path, workflow: Workflow) -> None:
    """Preempt the training of `adv` and kill that of `int`; wait until both are back."""
    wait_until("adv trains", lambda: bool(logged_steps(folder, "adv")), workflow)
    adv_job = trainings("adv")[0]["id"]
    description = output("scontrol", "show", "job", adv_job)
    assert re.search("TresPerJob=gres.gpu:1\n", description), "the job asks for no GPU"
    subprocess.run(["scontrol", "requeue", adv_job], check=True)
    wait_until("int trains", lambda: bool(logged_steps(folder, "int")), workflow)
    kill_training(trainings("int")[0]["id"])

    def is_requeued() -> bool:
        return "Restarts=1" in output("scontrol", "show", "job", adv_job)

    wait_until("adv was requeued", is_requeued, workflow)
    wait_until("int was submitted again", lambda: len(trainings("int")) == 2, workflow)
    memory = [job["memory"] for job in trainings("int")]
    assert memory == ["8000M", "16000M"], memory


def count_equal_files(local: Path, remote: Path) -> int:
    """Number of tables, networks and results. Raises RuntimeError if a file differs."""
    patterns = ("table_*", "*.safetensors", "*.h5")
    names = [path.relative_to(local) for pattern in patterns for path in local.rglob(pattern)]
    different = [
        str(name) for name in names if (local / name).read_bytes() != (remote / name).read_bytes()
    ]
    if different:
        raise RuntimeError(f"not the bytes of the local run: {', '.join(different)}")
    return len(names)


def run_on_slurm(remote: Path, log: Path) -> None:
    """Run the workflow on Slurm and disturb it. Raises an error if it ends with one."""
    with log.open("wb") as file:
        workflow = subprocess.Popen(
            [*COMMAND, *SLURM_OPTIONS], cwd=remote, stdout=file, stderr=file
        )
        try:
            disturb(remote, workflow)
            if code := workflow.wait(END_SECONDS):
                raise RuntimeError(f"the workflow on Slurm ended with code {code}")
        except BaseException:
            # Snakemake cancels its jobs then.
            workflow.send_signal(signal.SIGINT)
            workflow.wait(60)
            raise
    print_with_time("the workflow on Slurm has ended")
    # Three trainings, one of them twice, and a group of evaluations.
    n_jobs = len(queue())
    assert n_jobs == 5, f"expected 5 jobs; found {n_jobs}"
    assert logged_steps(remote, "adv")[0] > 1, "the requeued training began anew"


def compare_with_local_run(folder: Path) -> None:
    """Run the workflow on Slurm and locally, and compare the outputs."""
    remote = folder / "remote"
    local = folder / "local"
    remote.mkdir()
    local.mkdir()
    run_on_slurm(remote, folder / "workflow.log")
    with (folder / "local.log").open("wb") as log:
        command = [*COMMAND, *LOCAL_OPTIONS]
        subprocess.run(command, cwd=local, stdout=log, stderr=log, check=True)
    n_files = count_equal_files(local, remote)
    print_with_time(f"equal bytes in {n_files} tables, networks and results of a local run")


def main() -> int:
    """Exit code: 0 if all is well or Slurm is unavailable, 1 (and the logs) if not."""
    # SIGTERM becomes an exception, so that the cluster is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="irpipe-slurm-") as name:
        folder = Path(name)
        try:
            install()
            with Cluster(folder):
                print_with_time("Slurm runs")
                compare_with_local_run(folder)
        except UnavailableError as reason:
            print(f"test-slurm: skipped: {reason}")
        except (AssertionError, RuntimeError, OSError, subprocess.SubprocessError) as error:
            for log in (*folder.glob("*.log"), *folder.rglob("slurm_logs/**/*.log")):
                text = log.read_text(encoding="utf-8", errors="replace")
                print(f"--- {log.name}", text[-6000:], sep="\n")
            print(f"test-slurm: failed: {error}")
            return 1
        else:
            print("test-slurm: passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
