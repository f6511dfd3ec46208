"""SLURM starts workers: an array of them as a file for sbatch, sent, looked for and cancelled.

What the workers do is `gan-bench work`; which runs there are, the root says. So a file can be sent
by hand, twice or not at all. Nothing here needs SLURM's accounting.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gan_bench.atomic import replacing
from gan_bench.config.cluster import ClusterSpec, seconds_of
from gan_bench.errors import UserError, one_line, unwritable

PATIENCE = 60.0  # seconds until a client of SLURM has answered
WARNING = 120  # seconds before the time limit in which a worker writes checkpoints
FOLDER, FILE = "slurm", "workers.sbatch"  # in the experiment's folder
# States of squeue of a job that is ending and will not work again.
ENDING = frozenset(("COMPLETING", "COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL",
                    "PREEMPTED", "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY", "STOPPED"))
# Why a job waits until somebody releases it. A node may have "held" in its name.
HELD = re.compile(r"\((JobHeld\w*|JobHoldMaxRequeue|.*requeued (in held state|held))\)",
                  re.IGNORECASE)
UNREACHABLE = re.compile(r"contact slurm controller|Socket timed out|Connection refused|"
                         r"Connection timed out|backup controller|fetch remote configs|"
                         r"fetch config", re.IGNORECASE)


class SchedulerDown(UserError):
    """The scheduler does not answer; it may answer later."""


@dataclass(frozen=True)
class WorkerArray:
    """Workers of an experiment, as a file for sbatch asks for them.

    Attributes:
        experiment: Its name.
        root: The folder of everything that runs produce, which every node sees under this path.
        data_root: The folder of the data sets; likewise.
        cluster: What the experiment and the user ask for.
        workers: How many.
        threads: Those of a run.
        uses_gpu: Whether a worker needs a GPU if `cluster` does not say how many.
        pack: How many runs share a GPU; None: each machine's memory says it.
    """

    experiment: str
    root: Path
    data_root: Path
    cluster: ClusterSpec
    workers: int
    threads: int = 1
    uses_gpu: bool = False
    pack: int | None = None

    @property
    def name(self) -> str:
        """The name of its jobs: the experiment's, and what stands for the root."""
        return job_name(self.experiment, self.root)

    @property
    def folder(self) -> Path:
        """The folder of its file and of the workers' output."""
        return self.root / "runs" / self.experiment / FOLDER

    @property
    def gpus(self) -> str:
        """The GPUs of a worker, as --gres says them; empty for none."""
        default = "1" if self.uses_gpu else "0"
        gpus = default if self.cluster.gpus is None else self.cluster.gpus
        return "" if int(gpus.rpartition(":")[2]) == 0 else gpus

    @property
    def cpus(self) -> int:
        """The cores of a worker."""
        return self.cluster.cpus or (max(4, self.threads) if self.gpus else self.threads)

    @property
    def slots(self) -> int:
        """How many runs a worker trains at once; with GPUs whose memory decides, at least."""
        if self.gpus:
            return int(self.gpus.rpartition(":")[2]) * (self.pack or 1)
        return max(1, self.cpus // self.threads)

    def options(self) -> list[str]:
        """Return the options of sbatch."""
        cluster, limit = self.cluster, self.cluster.time
        warning = min(WARNING, seconds_of(limit) // 4) if limit else WARNING
        output = str(self.folder).replace("%", "%%") + "/%A_%a.log"
        asked = {"partition": cluster.partition, "account": cluster.account, "time": limit,
                 "constraint": cluster.constraint, "gres": f"gpu:{self.gpus}" * bool(self.gpus)}
        return [f"--job-name={self.name}", f"--array=0-{self.workers - 1}", "--ntasks=1",
                f"--cpus-per-task={self.cpus}",
                *(f"--{name}={value}" for name, value in asked.items() if value),
                "--requeue", "--open-mode=append", f"--signal=USR1@{warning}",
                f"--output={shlex.quote(output)}", *cluster.options]

    def command(self) -> str:
        """Return the command of a worker."""
        slots = [] if self.gpus else ["--slots", str(self.slots)]
        words = [*worker_program(), "work", self.experiment, "--root", str(self.root),
                 "--data-root", str(self.data_root), *slots]
        return f"srun --cpus-per-task={self.cpus} {shlex.join(words)}"

    def text(self) -> str:
        """Return the file, which a person can read and send."""
        lines = [
            "#!/bin/bash",
            f"# Workers of the experiment {self.experiment}. Each trains runs that no other worker "
            f"trains, until none is left.",
            "# Send it with sbatch, again for more workers. It trains what `gan-bench run` has "
            "prepared.",
            *(f"#SBATCH {option}" for option in self.options()), "",
            *self.cluster.setup, f"exec {self.command()}"]
        return "\n".join(lines) + "\n"

    def write(self) -> Path:
        """Write the file beside the workers' output, and return it.

        Raises:
            UserError: It cannot be written.
        """
        file = self.folder / FILE
        try:
            self.folder.mkdir(parents=True, exist_ok=True)  # SLURM makes no folders
            with replacing(file) as temporary:
                temporary.write_text(self.text())
        except OSError as error:
            raise unwritable(file, error) from None
        return file


@dataclass(frozen=True)
class Job:
    """A worker that SLURM has queued or started.

    Attributes:
        id: `<job>` or `<array>_<index>`.
        state: As squeue names it: PENDING, RUNNING, ….
        where: Its nodes, or in parentheses why it waits.
    """

    id: str
    state: str
    where: str

    @property
    def is_alive(self) -> bool:
        """Whether it works or will do so; one that is held waits for somebody who releases it."""
        return self.state not in ENDING and not HELD.fullmatch(self.where)


def worker_program() -> list[str]:
    """Return the words that start this program on another machine of the same file system."""
    script = Path(sys.executable).parent / "gan-bench"
    return [str(script)] if script.exists() else [sys.executable, "-m", "gan_bench"]


def job_name(experiment: str, root: Path) -> str:
    """Return the name of the jobs of an experiment in a root."""
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:6]
    return f"gan-bench.{experiment}.{digest}"


def workers_needed(cluster: ClusterSpec, runs: int, slots: int, limit: int | None) -> int:
    """Return how many workers to send for so many runs that nobody has finished.

    Args:
        slots: The runs that a worker trains at once.
        limit: The cluster's MaxArraySize; None if it is unknown.
    """
    busy = -(-runs // max(1, slots))
    return max(0, min(cluster.workers, busy, *([] if limit is None else [limit])))


def submit(array: WorkerArray) -> str:
    """Write the file of an array, send it, and return the number of the job.

    Raises:
        UserError: SLURM is missing, does not answer, or refuses the job.
    """
    file = array.write()
    answer = _call("sbatch", "--parsable", str(file), cluster=array.cluster)
    return answer.strip().partition(";")[0]


def check_array(array: WorkerArray) -> None:
    """Ask SLURM whether it would take an array; nothing is sent.

    Raises:
        UserError: SLURM is missing, does not answer, or would refuse the job.
    """
    _call("sbatch", "--test-only", text=array.text(), cluster=array.cluster)


def jobs_of(experiment: str, root: Path) -> list[Job]:
    """Return the user's workers of an experiment that are queued, running or ending.

    Raises:
        UserError: SLURM is missing or does not answer.
    """
    answer = _call("squeue", "--me", "--noheader", "--array", "--format=%i|%T|%R",
                   f"--name={job_name(experiment, root)}")
    return [Job(*line.split("|", 2)) for line in answer.split("\n") if line.count("|") >= 2]


def max_array_size() -> int | None:
    """Return the cluster's MaxArraySize; None if it does not say one.

    Raises:
        UserError: SLURM is missing or does not answer.
    """
    found = re.search(r"(?m)^MaxArraySize\s*=\s*(\d+)", _call("scontrol", "show", "config"))
    return int(found[1]) if found else None


def cancel(jobs: Sequence[Job]) -> None:
    """Let SLURM end workers: each writes its checkpoints first, and none is requeued.

    Raises:
        UserError: SLURM is missing or does not answer.
    """
    if jobs:
        _call("scancel", *(job.id for job in jobs))


def log_end(array: WorkerArray) -> str:
    """Return the newest worker's output file and its last line; empty if there is none.

    What SLURM adds says only that the worker has ended.
    """
    files = sorted(array.folder.glob("*.log"), key=lambda file: file.stat().st_mtime)
    for file in reversed(files):
        lines = [line for line in file.read_text(errors="replace").splitlines()
                 if line.strip() and not line.startswith(("srun: ", "slurmstepd"))]
        if lines:
            return f"{file}: {lines[-1].strip():.300}"
    return ""


def _call(name: str, *words: str, text: str = "", cluster: ClusterSpec | None = None) -> str:
    """Run a client of SLURM, and return what it prints.

    Args:
        text: What it reads.
        cluster: What it asks for, if it asks for a job.

    Raises:
        SchedulerDown: The scheduler does not answer.
        UserError: The client is missing, or refuses.
    """
    if shutil.which(name) is None:
        raise UserError(f"{name}: there is no such command: run this where SLURM's commands are, "
                        f"on a login node, or print the file with --dry-run and send it there")
    # A job that is sent from within another one would take over what that one asked for.
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith("SLURM_") or key == "SLURM_CONF"}
    try:
        done = subprocess.run([name, *words], capture_output=True, text=True, check=False,
                              timeout=PATIENCE, input=text, env=environment)
    except subprocess.TimeoutExpired:
        raise SchedulerDown(f"{name}: SLURM has not answered for {PATIENCE:g} s; repeat the "
                            f"command later") from None
    except OSError as error:
        raise UserError(f"{name}: cannot be started: {one_line(error)}") from None
    if done.returncode == 0:
        return done.stdout
    # The last line says what came of it, those before it why: "sbatch: error: …".
    lines = [re.sub(rf"^{name}: (error|fatal): ", "", line.strip())
             for line in done.stderr.splitlines() if line.strip()]
    reason = "; ".join(dict.fromkeys(lines)) or f"status {done.returncode}"
    if UNREACHABLE.search(reason):
        raise SchedulerDown(f"{name}: the scheduler does not answer: {reason}; repeat the command "
                            f"when it is back: `scontrol ping` says whether it is")
    cure = "" if cluster is None else _cure(reason, cluster)
    raise UserError(f"{name}: {reason}{cure}")


def _cure(reason: str, cluster: ClusterSpec) -> str:
    """Return what a user can do about a job that SLURM refuses."""
    lower = reason.lower()
    for word, key, help_with in (("partition", "partition", "`sinfo -s` lists partitions"),
                                 ("account", "account", "`sacctmgr show assoc` lists accounts"),
                                 ("feature", "constraint", "`sinfo -o '%N %f'` lists features"),
                                 ("time", "time", "`sinfo -o '%P %l'` lists limits")):
        if word in lower:
            value = getattr(cluster, key)
            said = "is not set" if value is None else f"is {value}"
            return f"; cluster.{key} (--slurm-{key}) {said}: {help_with}"
    return "; correct the `cluster` section, or the --slurm-… options: --dry-run prints the file"
