"""A real SLURM for tests: a controller and two nodes on this machine, from Debian's packages.

    apt-get install slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge

No systemd, no cgroups, no accounting. The partition `urgent` preempts jobs of `batch`, which are
requeued after a grace of ten seconds.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

NODES = ("n1", "n2")
FOLDERS = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
PROGRAMS = ("munged", "slurmctld", "slurmd", "slurmstepd", "sbatch", "squeue", "scontrol")
PATIENCE = 60.0  # seconds
GRACE, KILL_WAIT = 10, 5  # seconds before a preempted job is killed, and between TERM and KILL
# The life of a credential of a step in seconds; a requeued job waits as long, by default 120.
CREDENTIAL = 5

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire={credential}
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait={kill_wait}
SlurmdTimeout=10
SlurmctldTimeout=10
MessageTimeout=5
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2
{nodes}
PartitionName=batch Nodes=n[1-2] Default=YES PriorityTier=1 GraceTime={grace} State=UP
PartitionName=urgent Nodes=n[1-2] PriorityTier=10 PreemptMode=OFF State=UP
"""


class SlurmCluster:
    """A controller and two nodes of one core each.

    Args:
        grace: Seconds of a preempted job before it is ended.
        kill_wait: Seconds between SIGTERM and SIGKILL.
        apart: Whether the processes of a node see those of no other node, as on another machine.

    Attributes:
        folder: Of its configuration, state and logs.
        environment: For the programs that talk to it, and for what they start.
    """

    def __init__(self, grace: int = GRACE, kill_wait: int = KILL_WAIT, *, apart: bool = False,
                 ) -> None:
        lacking = [name for name in PROGRAMS if shutil.which(name, path=FOLDERS) is None]
        if lacking:
            pytest.skip(f"SLURM's {', '.join(lacking)} not installed: apt-get install slurmctld "
                        f"slurmd slurm-client slurm-wlm-basic-plugins munge")
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.environment = {**os.environ, "PATH": FOLDERS,
                            "SLURM_CONF": str(self.folder / "slurm.conf")}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._apart, self._lost = apart, dict[str, subprocess.Popen[bytes]]()
        try:
            self._configure(grace, kill_wait)
            self._start_munge()
            self.start_controller()
            for node in NODES:
                self.start_node(node)
            self.wait_for(lambda: self.states() == dict.fromkeys(NODES, "idle"))
        except BaseException:
            self.remove()
            raise

    def call(self, *words: str, check: bool = True) -> str:
        """Run a client of SLURM, and return what it prints."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True,
                              check=False, timeout=PATIENCE)
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def states(self) -> dict[str, str]:
        """Return the state of each node."""
        lines = self.call("sinfo", "-h", "-N", "-o", "%N %t", check=False).split("\n")
        return dict(line.split() for line in lines if line)

    def jobs(self) -> dict[str, tuple[str, str]]:
        """Return the state of each job and the node that it is on, by `<job>` or `<array>_<index>`.
        """
        lines = self.call("squeue", "-h", "-r", "-o", "%i|%T|%N", check=False).split("\n")
        fields = [line.split("|") for line in lines if line]
        return {job: (state, node) for job, state, node in fields}

    def running(self) -> dict[str, str]:
        """Return the node of each running job."""
        return {job: node for job, (state, node) in self.jobs().items() if state == "RUNNING"}

    def submit(self, script: str, *options: str) -> str:
        """Send the text of a batch job, and return its number."""
        file = self.folder / f"job-{time.monotonic_ns()}.sh"
        file.write_text(f"#!/bin/bash\n{script}\n")
        return self.call("sbatch", "--parsable", f"--output={self.folder}/job-%j.out", *options,
                         str(file)).strip()

    def preempt(self, node: str, seconds: float = 1) -> str:
        """Let a job of the urgent partition drive away what a node works on; return its number."""
        return self.submit(f"sleep {seconds}", "--partition=urgent", f"--nodelist={node}")

    def release(self) -> None:
        """Let requeued jobs wait no longer for their time to begin."""
        for job, (state, _) in self.jobs().items():
            if state == "PENDING":
                self.call("scontrol", "update", f"JobId={job}", "StartTime=now", check=False)

    def heal(self) -> None:
        """Do what an administrator does: nodes that SLURM has drained, and jobs that it holds."""
        for node, state in self.states().items():
            if state.startswith(("drain", "drng")):
                self.call("scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)
        held = self.call("squeue", "-h", "-r", "-t", "PENDING", "-o", "%i|%r", check=False)
        for job, _, reason in (line.partition("|") for line in held.splitlines()):
            if "held" in reason.lower():
                self.call("scontrol", "release", job, check=False)

    def start_controller(self) -> None:
        """Start the controller; again after `stop_controller`, where it remembers its jobs."""
        self._start("slurmctld", "slurmctld", "-D")
        self.wait_for(lambda: "is UP" in self.call("scontrol", "ping", check=False))

    def stop_controller(self) -> None:
        """Kill the controller."""
        self._kill("slurmctld")

    def start_node(self, node: str) -> None:
        """Start the daemon of a node; again after `lose_node`."""
        words = ["slurmd", "-D", "-N", node]
        if self._apart:  # the first process of a namespace outlives the daemon, and buries orphans
            shell = f"{' '.join(words)} & while :; do sleep 1; done"
            words = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", shell]
        self._start(node, *words)

    def lose_node(self, node: str) -> None:
        """Kill the daemon of a node; what it has started goes on running."""
        if not self._apart:
            self._kill(node)
            return
        self._lost[node] = self._daemons.pop(node)
        for process in self.left_behind(node):
            with suppress(psutil.NoSuchProcess):
                if process.name().startswith("slurmd"):
                    process.kill()

    def left_behind(self, node: str) -> list[psutil.Process]:
        """Return the processes of a node that was lost, of a cluster whose nodes are apart."""
        return psutil.Process(self._lost[node].pid).children(recursive=True)

    def wait_for(self, condition: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + patience
        while not condition():
            for name, daemon in self._daemons.items():
                assert daemon.poll() is None, f"{name} has ended\n{self.logs()}"
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.1)

    def logs(self) -> str:
        """Return the last lines of the daemons' logs, and the states of nodes and jobs."""
        ends = [f"{file.name}: …{file.read_text(errors='replace')[-1500:]}"
                for file in sorted(self.folder.glob("*.log"))]
        return "\n".join((*ends, str(self.states()), str(self.jobs())))

    def processes(self) -> list[psutil.Process]:
        """Return all processes of the cluster, those of its jobs included."""
        mine = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                has_configuration = (process.environ().get("SLURM_CONF")
                                     == self.environment["SLURM_CONF"])
                if process.pid != os.getpid() and (has_configuration or self._is_step(process)):
                    mine.append(process)
        return mine

    def remove(self) -> None:
        """End all processes of the cluster, and remove its files."""
        while left := self.processes():  # a process may start another one meanwhile
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            for daemon in (*self._daemons.values(), *self._lost.values()):
                daemon.wait()
            psutil.wait_procs(left, timeout=1)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_step(self, process: psutil.Process) -> bool:
        """Whether a process minds a step of this cluster; its title overwrites its environment."""
        files = Path(f"/proc/{process.pid}/fd")
        return process.name().startswith("slurmstepd") and any(
            os.readlink(file).startswith(f"{self.folder}/") for file in files.iterdir())

    def _configure(self, grace: int, kill_wait: int) -> None:
        with _free_ports(3) as ports:
            controller, *of_nodes = ports
        nodes = "\n".join(f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} "
                          f"CPUs=1" for node, port in zip(NODES, of_nodes, strict=True))
        (self.folder / "state").mkdir()
        for node in NODES:
            (self.folder / f"spool-{node}").mkdir()
        (self.folder / "slurm.conf").write_text(CONFIGURATION.format(
            folder=self.folder, host=socket.gethostname().partition(".")[0], user=getpass.getuser(),
            controller=controller, nodes=nodes, credential=CREDENTIAL, kill_wait=kill_wait,
            grace=grace))

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        self._start("munged", "munged", "--foreground", "--force", f"--key-file={key}",
                    f"--socket={self.folder}/munge.socket", f"--log-file={self.folder}/munged.log",
                    f"--pid-file={self.folder}/munged.pid", f"--seed-file={self.folder}/munge.seed")
        self.wait_for((self.folder / "munge.socket").exists)

    def _start(self, name: str, *words: str) -> None:
        with (self.folder / f"{name}-output.log").open("ab") as output:
            self._daemons[name] = subprocess.Popen(
                words, env=self.environment, stdout=output, stderr=output, start_new_session=True)

    def _kill(self, name: str) -> None:
        daemon = self._daemons.pop(name)
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()


@contextmanager
def _free_ports(count: int) -> Iterator[list[int]]:
    """Return ports that no other process listens on while they are held."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        yield [free.getsockname()[1] for free in sockets]
    finally:
        for free in sockets:
            free.close()


@pytest.fixture
def slurm_cluster() -> Iterator[SlurmCluster]:
    """A cluster without jobs; the test is skipped where SLURM is not installed."""
    cluster = SlurmCluster()
    try:
        yield cluster
    finally:
        cluster.remove()
