"""A real Slurm of one node on this machine, from Debian's packages slurm-wlm and munge: started for a test, gone after it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel")
CONF = Path("/etc/slurm/slurm.conf")
"""Where srun looks: the executor plugin strips SLURM_CONF from the environment of its job steps."""
MEMORY_MB = 12000
SETTINGS = """
ClusterName=pmqbench
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0
KillWait=5
OverTimeLimit=0
ReturnToService=2
MinJobAge=600
# Without cgroups Slurm looks once a second how much a job uses, and kills one that uses more than it asked for.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/completed.txt
GresTypes=gpu
NodeName=here NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} Gres=gpu:1 State=UNKNOWN
PartitionName=all Nodes=here Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def missing() -> str | None:
    """Why no Slurm can be started here, if so."""
    if os.geteuid() != 0:
        return "only root can start munged and slurmd"
    if absent := [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]:
        return f"{', '.join(absent)}: not installed (Debian: slurm-wlm, munge)"
    if CONF.exists() or CONF.is_symlink():
        return f"{CONF} is there: this machine has a Slurm of its own, or a killed test left it"
    return None


@dataclass(frozen=True)
class Slurm:
    """A running Slurm; all its files are in `folder`."""

    folder: Path

    @classmethod
    def start(cls, cores: int) -> Slurm:
        """Starts the daemons and waits for the node."""
        folder = Path(tempfile.mkdtemp(prefix="pmqbench-slurm-", dir="/run"))
        folder.chmod(0o755)  # munged's socket must be within everyone's reach
        for part in ("state", "spool"):
            (folder / part).mkdir()
        (folder / "slurm.conf").write_text(SETTINGS.format(folder=folder, cores=cores, memory=MEMORY_MB, ports=free_ports()))
        (folder / "gres.conf").write_text("NodeName=here Name=gpu File=/dev/null\n")
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        slurm = cls(folder)
        try:
            CONF.parent.mkdir(exist_ok=True)
            CONF.symlink_to(folder / "slurm.conf")
            paths = {"socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log", "seed-file": "munged.seed"}
            munge = [f"--{option}={folder / name}" for option, name in paths.items()]
            slurm.run("munged", f"--key-file={key}", *munge)
            slurm.run("slurmctld", "-c", "-f", str(folder / "slurm.conf"))
            slurm.run("slurmd", "-N", "here", "-f", str(folder / "slurm.conf"))
            slurm.wait_for(lambda: "idle" in slurm.run("sinfo", "-h", "-o", "%T"), 60)
        except BaseException:
            slurm.stop()
            raise
        return slurm

    def run(self, *command: str) -> str:
        """Output of a Slurm command; its errors where it fails."""
        environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}{self.logs()}"
        return done.stdout

    def wait_for(self, condition, seconds: float) -> None:
        """Waits until a condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds} s: {self.logs()}"
            time.sleep(0.3)

    def logs(self) -> str:
        """The end of what the daemons say."""
        found = sorted(self.folder.glob("*.log"))
        return "\n".join(f"{path.name}:\n{path.read_text(errors='replace')[-1500:]}" for path in found)

    def queued(self) -> list[str]:
        """Ids of jobs that wait or run."""
        return self.run("squeue", "-h", "-o", "%i").split()

    def jobs(self) -> list[Mapping[str, str]]:
        """What Slurm noted of each job that has ended, in that order: JobId, JobState, TimeLimit, StartTime, ..."""
        path = self.folder / "completed.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines]

    def stop(self) -> None:
        """Cancels all jobs, ends the daemons by their pid files, and leaves nothing behind."""
        if (self.folder / "slurmctld.pid").exists() and (jobs := self.queued()):
            self.run("scancel", *jobs)
            self.wait_for(lambda: not self.queued(), 120)
        for daemon in ("slurmd", "slurmctld", "munged"):
            end(self.folder / f"{daemon}.pid")
        if CONF.is_symlink() and CONF.readlink() == self.folder / "slurm.conf":
            CONF.unlink()
        shutil.rmtree(self.folder)


def free_ports() -> list[int]:
    """Two ports that nothing listens at."""
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in (one, other)]


def end(pid_file: Path) -> None:
    """Ends the daemon of a pid file and waits until it is gone."""
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text())
    for _ in range(100):
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
