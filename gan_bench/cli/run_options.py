"""`gan-bench run`: its options, and what it refuses before anything is prepared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from gan_bench.cli.options import (
    DATA,
    ROOT,
    AllowDrift,
    AsJson,
    CheckpointEvery,
    DataRoot,
    File,
    Keep,
    Plugins,
    Profile,
    Retries,
    Root,
    Set,
    Slots,
    Uri,
    run_command,
)
from gan_bench.config.cluster import ClusterSpec
from gan_bench.errors import UserError, worded
from gan_bench.journal.layout import Execution, Workspace

On = Annotated[str, typer.Option(
    "--on", metavar="PLACE", help="Where runs are trained: here, or by workers that an engine "
    "starts: slurm, ray (as many as slots), or ray://HOST:PORT.")]
Partition = Annotated[str | None, typer.Option(
    metavar="NAME", help="Partition of the workers. \\[default: the file's cluster.partition]")]
Account = Annotated[str | None, typer.Option(
    metavar="NAME", help="Account that is charged. \\[default: the file's cluster.account]")]
TimeLimit = Annotated[str | None, typer.Option(
    metavar="TIME", help="Time limit of a worker, such as 4:00:00. \\[default: the file's "
    "cluster.time]")]
Gpus = Annotated[str | None, typer.Option(
    metavar="N", help="GPUs of a worker: 1, or with a type a100:1. \\[default: the file's "
    "cluster.gpus]")]
Cpus = Annotated[int | None, typer.Option(
    metavar="N", help="Cores of a worker. \\[default: the file's cluster.cpus]")]
Constraint = Annotated[str | None, typer.Option(
    metavar="FEATURES", help="Features of the nodes. \\[default: the file's cluster.constraint]")]
Workers = Annotated[int | None, typer.Option(
    metavar="N", help="Workers at once, the size of the array. \\[default: the file's "
    "cluster.workers]")]
DryRun = Annotated[bool, typer.Option(
    "--dry-run", help="Print the file for sbatch, and do nothing.")]
Detach = Annotated[bool, typer.Option(
    "--detach", help="Leave when the workers are sent; the same command without it follows them.")]


def add_run_command(app: typer.Typer) -> None:
    """Add the command to the program."""
    @app.command()
    def run(
        experiment: File,
        settings: Set = [],
        plugins: Plugins = [],
        root: Root = ROOT,
        data: DataRoot = DATA,
        slots: Slots = None,
        tracking_uri: Uri = None,
        retries: Retries = 2,
        checkpoint_every: CheckpointEvery = None,
        keep_checkpoints: Keep = "last",
        allow_drift: AllowDrift = False,
        profile: Profile = False,
        on: On = "here",
        slurm_partition: Partition = None,
        slurm_account: Account = None,
        slurm_time: TimeLimit = None,
        slurm_gpus: Gpus = None,
        slurm_cpus: Cpus = None,
        slurm_constraint: Constraint = None,
        slurm_workers: Workers = None,
        dry_run: DryRun = False,
        detach: Detach = False,
        as_json: AsJson = False,
    ) -> None:
        """Train, measure and track every unfinished run, from its last checkpoint or a shorter
        run's.

        Ctrl-C lets each run write a checkpoint; the same command resumes from there, to the same
        bits. With --on slurm it sends workers to a cluster, follows and mirrors what they record,
        and cancels them at Ctrl-C.

        Exit status: 0 all finished or diverged; 1 a run failed; 2 nothing could be run; 3 all is
        trained, but MLflow lacks some of it; 75 runs are left, for another machine say; 130 and 143
        stopped, 141 as nothing reads the output.
        """
        asked = {"partition": slurm_partition, "account": slurm_account, "time": slurm_time,
                 "gpus": slurm_gpus, "cpus": slurm_cpus, "constraint": slurm_constraint,
                 "workers": slurm_workers}
        place = _Place(on, {key: value for key, value in asked.items() if value is not None},
                       dry_run, detach)
        execution = Execution(Workspace(root, data, tracking_uri), checkpoint_every, allow_drift,
                              profile, keep_checkpoints)
        place.refuse_options(slots, profile)
        if status := _run(experiment, settings, plugins, execution, slots, retries, place, as_json):
            raise typer.Exit(status)


@dataclass(frozen=True)
class _Place:
    """Where runs are trained, as the options say.

    Attributes:
        on: `here`, `slurm`, `ray` or `ray://HOST:PORT`.
        asked: Keys of `cluster` and their values.
        dry_run, detach: The options.
    """

    on: str
    asked: dict[str, Any]
    dry_run: bool
    detach: bool

    @property
    def is_ray(self) -> bool:
        """Whether an address of Ray is given."""
        return self.on == "ray" or self.on.startswith("ray://")

    def refuse_options(self, slots: int | None, profile: bool) -> None:
        """Refuse options that mean nothing there.

        Raises:
            UserError: One was given.
        """
        if self.on not in ("here", "slurm") and not self.is_ray:
            raise UserError(f"--on {self.on}: is no place; write here, slurm, ray, or "
                            f"ray://HOST:PORT")
        elsewhere = [f"--slurm-{key}" for key in self.asked]
        elsewhere += ["--dry-run"] * self.dry_run + ["--detach"] * self.detach
        if self.on == "here" and elsewhere:
            plan = "; `gan-bench plan` shows what would be run" * self.dry_run
            raise UserError(f"{elsewhere[0]}: is for workers on a cluster; give --on slurm{plan}")
        if self.is_ray and elsewhere:
            raise UserError(f"{elsewhere[0]}: is for --on slurm; --slots is the number of workers "
                            f"on Ray, which end with this command")
        if self.on == "slurm" and slots is not None:
            raise UserError(f"--slots: is of this machine, which trains nothing under --on "
                            f"{self.on}; give --slurm-workers, and --slurm-cpus for the runs of a "
                            f"worker")
        if self.on != "here" and profile:
            raise UserError(f"--profile: is for runs of this machine; leave it out under --on "
                            f"{self.on}")


def _run(experiment: Path, settings: list[str], plugins: list[Path], execution: Execution,
         slots: int | None, retries: int, place: _Place, as_json: bool) -> int:
    """Do what the command says; return the exit status."""
    from gan_bench.cli.mistakes import check_experiment
    from gan_bench.cli.running.run import print_batch_file, run_experiment, worker_array
    from gan_bench.config.experiment import load_experiment
    from gan_bench.launcher.clusters.on_ray import RayWorkers
    from gan_bench.launcher.clusters.slurm_workers import SlurmWorkers
    from gan_bench.launcher.preparation import LaunchSettings

    workspace, is_here = execution.workspace, place.on == "here"
    launch = LaunchSettings(execution, slots if is_here else 0,
                            run_command(experiment, settings, plugins), retries)
    file = check_experiment(experiment, workspace.root)
    spec = load_experiment(file, workspace.data_root, settings, plugins, root=workspace.root)
    if place.is_ray:
        home, compute = workspace.root / "runs" / spec.name, spec.runs[0].compute
        return run_experiment(spec, launch, as_json,
                              lambda say: RayWorkers(place.on, home, compute, slots, say))
    if is_here:
        return run_experiment(spec, launch, as_json)
    cluster = cluster_with(spec.cluster, place.asked)
    if place.dry_run:
        print_batch_file(spec, workspace, cluster)
        return 0
    array = worker_array(spec, workspace, cluster)
    return run_experiment(spec, launch, as_json, lambda say: SlurmWorkers(array, say),
                          place.detach)


def cluster_with(cluster: ClusterSpec, asked: dict[str, Any]) -> ClusterSpec:
    """Return what a cluster is asked for, with the options of the command line.

    Raises:
        UserError: The value of an option is invalid.
    """
    from pydantic import ValidationError

    try:
        return ClusterSpec.model_validate({**dict(cluster), **asked})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][0])
        raise UserError(f"--slurm-{key} {asked.get(key)}: {worded(first)}") from None
