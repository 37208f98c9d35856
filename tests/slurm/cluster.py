"""A Slurm of one machine with four pretended GPUs, in a folder of its own, which ends with the context.

Settings after cluster.md 2.1. The nodes' part of Snakemake's plugin drops the variables of Slurm (slurm#164), so the
config must be where Slurm looks by itself: /etc/slurm/slurm.conf becomes a link, for as long as the cluster runs.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

PLACE = Path("/etc/slurm")
DAEMONS = ("munged", "slurmctld", "slurmd")  # in the order they start
CONFIG = """\
ClusterName=irpipe
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={run}/munge.socket,cred_expire=10
ProctrackType=proctrack/linuxproc
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
SlurmUser=root
SlurmdUser=root
SlurmctldPidFile={run}/slurmctld.pid
SlurmdPidFile={run}/slurmd.pid
SlurmctldLogFile={run}/slurmctld.log
SlurmdLogFile={run}/slurmd.log
StateSaveLocation={run}/state
SlurmdSpoolDir={run}/spool
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=20
JobRequeue=1
SchedulerParameters=sched_interval=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=64000 Gres=gpu:4 State=UNKNOWN
PartitionName=pretended Nodes={host} MaxTime=1-00:00:00 State=UP
"""


class UnavailableError(Exception):
    """This machine cannot run a Slurm of its own; says why."""


def install() -> None:
    """Install Slurm and munge with apt if they are missing; raise UnavailableError where that cannot be."""
    if os.getuid() != 0:
        raise UnavailableError("needs root: Slurm looks for its config in /etc/slurm")
    tools = [*DAEMONS, "sbatch"]
    if not all(map(shutil.which, tools)):
        if not shutil.which("apt-get"):
            raise UnavailableError("Slurm is not installed, and there is no apt-get to install it with")
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "--yes", "--no-install-recommends", "slurm-wlm", "munge"]):
            done = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True, check=False)
        if done.returncode or not all(map(shutil.which, tools)):
            raise UnavailableError(f"apt-get installs no slurm-wlm here: {done.stderr.strip()[-300:]}")
    if os.path.lexists(PLACE / "slurm.conf") or os.path.lexists(PLACE / "gres.conf"):
        raise UnavailableError(f"{PLACE} has a config: this machine is part of a cluster, or another test is running")


def _port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Cluster:
    """Runs while the context lasts; its daemons keep their files and logs in `run`."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Cluster":
        host = socket.gethostname().split(".")[0]
        self.run.chmod(0o755)
        for folder in ("state", "spool"):
            (self.run / folder).mkdir()
        for number in range(4):
            (self.run / f"gpu{number}").symlink_to("/dev/null")  # Slurm wants devices, and hands out their numbers
        (self.run / "slurm.conf").write_text(CONFIG.format(host=host, run=self.run, port=_port(), node_port=_port()))
        (self.run / "gres.conf").write_text(f"NodeName={host} Name=gpu File={self.run}/gpu[0-3]\n")
        key = self.run / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        try:
            PLACE.mkdir(exist_ok=True)
            for name in ("slurm.conf", "gres.conf"):
                (PLACE / name).symlink_to(self.run / name)
            files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
            options = [f"--{name}={self.run}/munge.{suffix}" for name, suffix in files.items()]
            self._start("munged", "--foreground", "--force", *options)
            self._start("slurmctld", "-D")
            self._start("slurmd", "-D", "-N", host)
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self, name: str, *options: str) -> None:
        with (self.run / f"{name}-says.log").open("wb") as out:
            self.daemons.append(subprocess.Popen([shutil.which(name) or name, *options], stdout=out, stderr=out))

    def _wait(self) -> None:
        """Until the node takes jobs; UnavailableError with the daemons' last words if it does not within 30 s."""
        for _ in range(60):
            state = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False).stdout
            if state.strip() == "idle":
                return
            time.sleep(0.5)
        logs = [path.read_text(errors="replace")[-1500:] for path in sorted(self.run.glob("*.log"))]
        raise UnavailableError("the node never became idle\n" + "\n".join(logs))

    def stop(self) -> None:
        """End jobs, daemons, and the links in /etc/slurm."""
        if len(self.daemons) == len(DAEMONS):
            subprocess.run(["scancel", "--user", "root"], capture_output=True, check=False, timeout=30)
            time.sleep(2)
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for name in ("slurm.conf", "gres.conf"):
            if (PLACE / name).is_symlink():
                (PLACE / name).unlink()
        print("Slurm stopped", file=sys.stderr)
