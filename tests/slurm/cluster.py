"""A Slurm of one machine with four pretended GPUs, which ends with its context (S.8).

Snakemake's plugin drops Slurm's variables on the nodes (slurm#164). So the config must be where
Slurm looks by itself: /etc/slurm/slurm.conf is a link for as long as the cluster runs.
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

SYSTEM_FOLDER = Path("/etc/slurm")
CONFIG_FILES = ("slurm.conf", "gres.conf")
# In the order in which they start.
DAEMONS = ("munged", "slurmctld", "slurmd")
START_SECONDS = 30.0
SLURM_CONF = """\
ClusterName=irpipe
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
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
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=20
JobRequeue=1
MinJobAge=86400
SchedulerParameters=sched_interval=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=64000 Gres=gpu:4 State=UNKNOWN
PartitionName=pretended Nodes={host} MaxTime=1-00:00:00 State=UP
"""


class UnavailableError(Exception):
    """This machine cannot run a Slurm of its own, for the reason in the message."""


def install() -> None:
    """Install Slurm and munge with apt if they are missing.

    Raises UnavailableError if this machine cannot have them.
    """
    if os.getuid() != 0:
        raise UnavailableError("needs root: Slurm looks for its config in /etc/slurm")
    programs = [*DAEMONS, "sbatch"]
    if not all(map(shutil.which, programs)):
        if not shutil.which("apt-get"):
            raise UnavailableError("Slurm is not installed, and no apt-get is there to install it")
        _apt_get("update")
        error = _apt_get("install", "--yes", "--no-install-recommends", "slurm-wlm", "munge")
        if error or not all(map(shutil.which, programs)):
            raise UnavailableError(f"apt-get installs no slurm-wlm here: {error[-300:]}")
    if any(os.path.lexists(SYSTEM_FOLDER / name) for name in CONFIG_FILES):
        raise UnavailableError(
            f"{SYSTEM_FOLDER} has a config: "
            "this machine is part of a cluster, or another test is running"
        )


def _apt_get(*arguments: str) -> str:
    """Run apt-get; return what it complains of if it fails, else an empty string."""
    done = subprocess.run(
        ["apt-get", *arguments],
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip() or "no reason" if done.returncode else ""


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Cluster:
    """A Slurm that runs while the context lasts. Its files and logs are in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Cluster":
        host = socket.gethostname().split(".")[0]
        self._write_files(host)
        try:
            SYSTEM_FOLDER.mkdir(exist_ok=True)
            for name in CONFIG_FILES:
                (SYSTEM_FOLDER / name).symlink_to(self.folder / name)
            suffixes = {
                "socket": "socket",
                "key-file": "key",
                "pid-file": "pid",
                "log-file": "log",
                "seed-file": "seed",
            }
            options = [f"--{key}={self.folder}/munge.{end}" for key, end in suffixes.items()]
            self._start("munged", "--foreground", "--force", *options)
            self._start("slurmctld", "-D")
            self._start("slurmd", "-D", "-N", host)
            self._wait_for_node()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _write_files(self, host: str) -> None:
        """Write configs, the key of munge and the devices of the GPUs."""
        folder = self.folder
        folder.chmod(0o755)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        for i in range(4):
            # Slurm asks for devices, but only hands out their numbers.
            (folder / f"gpu{i}").symlink_to("/dev/null")
        ports = {"port": _free_port(), "node_port": _free_port()}
        config = SLURM_CONF.format(host=host, folder=folder, **ports)
        (folder / "slurm.conf").write_text(config, encoding="utf-8")
        gpus = f"NodeName={host} Name=gpu File={folder}/gpu[0-3]\n"
        (folder / "gres.conf").write_text(gpus, encoding="utf-8")
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)

    def _start(self, name: str, *options: str) -> None:
        program = shutil.which(name) or name
        with (self.folder / f"{name}-says.log").open("wb") as out:
            self.daemons.append(subprocess.Popen([program, *options], stdout=out, stderr=out))

    def _wait_for_node(self) -> None:
        """Wait until the node takes jobs.

        Raises UnavailableError, with the ends of the daemons' logs, if it does not in time.
        """
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            command = ["sinfo", "-h", "-o", "%T"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.stdout.strip() == "idle":
                return
            time.sleep(0.5)
        paths = sorted(self.folder.glob("*.log"))
        logs = [path.read_text(encoding="utf-8", errors="replace")[-1500:] for path in paths]
        raise UnavailableError("the node never became idle\n" + "\n".join(logs))

    def stop(self) -> None:
        """End jobs and daemons, and remove the links in /etc/slurm."""
        if len(self.daemons) == len(DAEMONS):
            command = ["scancel", "--user", "root"]
            subprocess.run(command, capture_output=True, check=False, timeout=30)
            time.sleep(2)
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for name in CONFIG_FILES:
            if (SYSTEM_FOLDER / name).is_symlink():
                (SYSTEM_FOLDER / name).unlink()
        print("Slurm stopped", file=sys.stderr)
