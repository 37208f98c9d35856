"""The workflow on a real Slurm of this machine: `make test-slurm`.

A cut quickstart goes through workflow/profiles/slurm. One running training is preempted (requeued by Slurm, then
resumed), another is killed (sent again by Snakemake, with twice the memory). Networks and tables are to be those of a
local run, byte for byte. Where no Slurm can be installed, it says why and ends without an error.
"""

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

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LIMIT = 300.0  # seconds for the workflow to end after the disturbance
START = time.monotonic()
# one thread each: torch adds up in another order with more, and a local run has fewer to give than the cluster
COMMAND = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--configfile"]
COMMAND += [str(HERE / "config.yaml"), "--set-threads", "train=1", "evaluate=1"]
SLURM = ["--workflow-profile", str(ROOT / "workflow/profiles/slurm")]
SLURM += ["--default-resources", "slurm_partition=pretended"]  # as docs/slurm.md has it
LOCAL = ["--workflow-profile", str(ROOT / "workflow/profiles/default"), "--cores", "2", "--resources", "gpu=2"]


def output(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def queue() -> list[dict[str, str]]:
    """Slurm's jobs, by rule and wildcards in `comment`."""
    lines = output("squeue", "--noheader", "--states=all", "--format=%i|%m|%k").splitlines()
    return [dict(zip(("id", "memory", "comment"), line.split("|"), strict=True)) for line in lines]


def trainings(method: str) -> list[dict[str, str]]:
    """All submissions of a method's training, the first one first."""
    found = [job for job in queue() if re.search(rf"rule_train_.*_{method}_", job["comment"])]
    return sorted(found, key=lambda job: int(job["id"]))


def steps(folder: Path, method: str) -> list[int]:
    """Steps that the log of a method's training tells of so far."""
    log = folder / f"results/logs/digits/small/{method}/seed0/train.log"
    text = log.read_text() if log.exists() else ""
    return [int(count) for count in re.findall(r"seed0: (\d+)/\d+", text)]


def until(what: str, condition: Callable[[], bool], workflow: subprocess.Popen[bytes]) -> None:
    """Wait for a condition; RuntimeError if the workflow ends before."""
    while not condition():
        if workflow.poll() is not None:
            raise RuntimeError(f"the workflow ended before {what}")
        time.sleep(0.2)
    say(what)


def say(what: str) -> None:
    """Print with the seconds since the start."""
    print(f"{time.monotonic() - START:5.0f} s  {what}", flush=True)


def kill(job: str) -> None:
    """SIGKILL to the training process itself, as the kernel does when memory is short."""
    for line in output("scontrol", "listpids", job).splitlines()[1:]:
        pid = int(line.split()[0])
        if pid > 0 and b"irpipe\0train\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)


def disturb(folder: Path, workflow: subprocess.Popen[bytes]) -> None:
    """Preempt the training of `adv` and kill that of `int`, both under way; see both come back."""
    until("adv trains", lambda: bool(steps(folder, "adv")), workflow)
    first = trainings("adv")[0]["id"]
    assert re.search("TresPerJob=gres.gpu:1\n", output("scontrol", "show", "job", first)), "asks for no GPU"
    subprocess.run(["scontrol", "requeue", first], check=True)
    until("int trains", lambda: bool(steps(folder, "int")), workflow)
    kill(trainings("int")[0]["id"])
    until("adv was requeued", lambda: "Restarts=1" in output("scontrol", "show", "job", first), workflow)
    until("int was sent again", lambda: len(trainings("int")) == 2, workflow)
    memory = [job["memory"] for job in trainings("int")]
    assert memory == ["8000M", "16000M"], memory


def compare(one: Path, other: Path) -> int:
    """Number of tables, networks and results, which must be the same bytes in both folders."""
    names = [path.relative_to(one) for kind in ("table_*", "*.safetensors", "*.h5") for path in one.rglob(kind)]
    different = [str(name) for name in names if (one / name).read_bytes() != (other / name).read_bytes()]
    if different:
        raise RuntimeError(f"not the bytes of the local run: {', '.join(different)}")
    return len(names)


def compute(run: Path) -> None:
    """The workflow on Slurm, disturbed, then locally; RuntimeError or AssertionError if anything is wrong."""
    remote, local = run / "remote", run / "local"
    for folder in (remote, local):
        folder.mkdir()
    with (run / "workflow.log").open("wb") as log:
        workflow = subprocess.Popen([*COMMAND, *SLURM], cwd=remote, stdout=log, stderr=log)
        try:
            disturb(remote, workflow)
            if code := workflow.wait(LIMIT):
                raise RuntimeError(f"the workflow on Slurm ended with code {code}")
        except BaseException:
            workflow.send_signal(signal.SIGINT)  # it cancels its jobs
            workflow.wait(60)
            raise
    say("the workflow on Slurm is done")
    submitted = len(queue())
    assert submitted == 5, f"three trainings, one of them twice, and a group of evaluations; found {submitted} jobs"
    assert steps(remote, "adv")[0] > 1, "the requeued training began anew"
    with (run / "local.log").open("wb") as log:
        subprocess.run([*COMMAND, *LOCAL], cwd=local, stdout=log, stderr=log, check=True)
    say(f"equal bytes in {compare(local, remote)} tables, networks and results of a local run")


def main() -> int:
    """Exit code: 0 if all is well or there can be no Slurm here, 1 with the logs if not."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped then, too
    with tempfile.TemporaryDirectory(prefix="irpipe-slurm-") as folder:
        run = Path(folder)
        try:
            install()
            with Cluster(run):
                say("Slurm runs")
                compute(run)
        except UnavailableError as reason:
            print(f"test-slurm: skipped: {reason}")
        except (AssertionError, RuntimeError, OSError, subprocess.SubprocessError) as error:
            for log in (*run.glob("*.log"), *run.rglob("slurm_logs/**/*.log")):
                print(f"--- {log.name}", log.read_text(errors="replace")[-6000:], sep="\n")
            print(f"test-slurm: failed: {error}")
            return 1
        else:
            print("test-slurm: passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
