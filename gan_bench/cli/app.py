"""The command line: parse, call, print. What a command does not need, it does not import."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False,
                  help="Compare GAN variants over fixed seeds, tracked in MLflow.")

File = Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="The experiment's YAML file.")]
Root = Annotated[Path, typer.Option("--root", envvar="GAN_BENCH_ROOT",
                                    help="Folder of what runs leave behind.")]
DataRoot = Annotated[Path, typer.Option("--data", envvar="GAN_BENCH_DATA",
                                        help="Folder of the data sets.")]
Set = Annotated[list[str], typer.Option("--set", metavar="A.B=VALUE",
                                        help="Override a value of the file; may be repeated.")]
Uri = Annotated[str | None, typer.Option("--tracking-uri", envvar="MLFLOW_TRACKING_URI",
                                         help="MLflow's store. [default: mlflow.db in the root]")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON lines, for machines.")]
ImageSize = Annotated[int | None, typer.Option(min=8, max=256, help="The data set's image_size.")]
ROOT, DATA = Path("mlruns"), Path("data")
extractor = typer.Typer(no_args_is_help=True, help="The feature extractors that are trained here.")
app.add_typer(extractor, name="extractor")


@app.command()
def run(
    experiment: File,
    settings: Set = [],
    root: Root = ROOT,
    data: DataRoot = DATA,
    slots: Annotated[int | None, typer.Option(
        min=1, help="Processes at once: a run each, or on a GPU compute.pack. [default: one per "
        "core, or per GPU]")] = None,
    tracking_uri: Uri = None,
    retries: Annotated[int, typer.Option(
        min=0, help="How often a run whose process was killed is taken up again.")] = 2,
    checkpoint_every: Annotated[float | None, typer.Option(
        min=0, metavar="SECONDS", help="Time between checkpoints. [default: 30, or as much more as "
        "keeps their cost below 1 %]")] = None,
    allow_drift: Annotated[bool, typer.Option(
        "--allow-drift", help="Go on from checkpoints of another version or device; it is "
        "recorded.")] = False,
    profile: Annotated[bool, typer.Option(
        "--profile", help="Leave a table and a trace of where the time of some steps went, as "
        "artifacts of each run that begins.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train, measure and track every run that is not finished yet, from where it was.

    Ctrl-C lets each run write a checkpoint; the same command goes on from there, to the same bits.

    Exit status: 0 all finished or diverged; 1 a run failed; 2 nothing could be run; 3 all is
    trained, but MLflow has not got everything; 130 and 143 stopped.
    """
    from rich.console import Console

    from gan_bench.config.experiment import load_experiment
    from gan_bench.errors import Stopped
    from gan_bench.journal.layout import Execution
    from gan_bench.journal.schema import Status
    from gan_bench.launcher.launch import Settings, execute
    from gan_bench.launcher.reporters import JsonLines, LiveTable, PlainLines
    from gan_bench.launcher.reporters import as_json as to_json

    console = Console(width=None if sys.stdout.isatty() else 120)
    spec = load_experiment(experiment, data, settings)
    reporter = (JsonLines() if as_json else
                LiveTable(console) if console.is_terminal else PlainLines(console))
    command = " ".join(["gan-bench run", shlex.quote(str(experiment)),
                        *(f"--set {shlex.quote(s)}" for s in settings)])
    ended = execute(spec, Settings(
        Execution(root, data, checkpoint_every, allow_drift, profile),
        slots, tracking_uri, command, retries), reporter)
    runs, missing = ended.runs, ended.missing
    failed = [r for r in runs if not r.state.is_result]
    if as_json:
        print(json.dumps({"event": "end", "failed": len(failed), "not_in_mlflow": missing,
                          "runs": [to_json(r) for r in runs]}))
    else:
        # SciPy is for the end
        from gan_bench.compare.ended import RunResult
        from gan_bench.compare.rows import summarise
        from gan_bench.config.declared import Declared
        from gan_bench.report.terminal import summary_table

        if rows := summarise([RunResult.of(r) for r in runs], Declared.of(spec.declared)):
            console.print(summary_table(rows, spec.baseline))
        for r in runs:
            if r.state not in (Status.FINISHED, Status.WAITING):
                console.print(f"{r.state} {r.spec.variant} seed {r.spec.seed} ({r.spec.id}): "
                              f"{r.why}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"{len(runs) - len(failed)} of {len(runs)} runs are done. Look at them: "
                      f"{_page(root, tracking_uri)}", markup=False, highlight=False,
                      soft_wrap=True)
        console.print(f"Compare them: gan-bench report {spec.name} --open{_root(root)}"
                      f"{_store(tracking_uri, '--tracking-uri')}", markup=False, highlight=False,
                      soft_wrap=True)
    if missing:
        print(f"MLflow has not got everything: {missing}\nOnce that is mended, gan-bench sync"
              f"{_root(root)}{_store(tracking_uri)} brings the rest there.", file=sys.stderr)
    if ended.stopped:
        raise Stopped(ended.stopped)
    if failed or missing:
        raise typer.Exit(1 if failed else 3)


@app.command()
def plan(
    experiment: File,
    settings: Set = [],
    root: Root = ROOT,
    data: DataRoot = DATA,
    as_json: AsJson = False,
) -> None:
    """Show the runs, their ids and states, and what differs between variants; train nothing."""
    from gan_bench.cli import plan as plans
    from gan_bench.config.experiment import load_experiment
    from gan_bench.hardware import refuse_lacking

    spec = load_experiment(experiment, data, settings)
    compute = spec.runs[0].compute
    refuse_lacking(compute.device, compute.precision, compute.pack)
    if as_json:
        print("\n".join(json.dumps(record) for record in plans.as_json(spec, root)))
    else:
        print(plans.as_text(spec, root))


@app.command()
def power(
    experiment: File,
    difference: Annotated[str, typer.Option(
        help="What is to be found: a share of the baseline's mean, 5%, or in a score's units.")],
    score: Annotated[str | None, typer.Option(
        help="The score. [default: all of which a direction is better]")] = None,
    settings: Set = [],
    root: Root = ROOT,
    data: DataRoot = DATA,
) -> None:
    """Say how many seeds it takes to find a difference, from how much the runs so far scatter."""
    from rich.console import Console

    from gan_bench.cli.power import report
    from gan_bench.config.experiment import load_experiment

    table = report(load_experiment(experiment, data, settings), root, difference, score)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


@app.command()
def report(
    experiments: Annotated[list[str], typer.Argument(
        metavar="EXPERIMENT…", help="Names in MLflow, or YAML files.")],
    out: Annotated[Path | None, typer.Option(
        metavar="FOLDER", help="[default: reports/EXPERIMENT in the root]")] = None,
    formats: Annotated[str, typer.Option(
        "--format", metavar="A,B", help="What to write.")] = "html,csv,tex,md,parquet,figures",
    metric: Annotated[str | None, typer.Option(
        help="The score that leads. [default: the first that the experiment lists]")] = None,
    baseline: Annotated[str | None, typer.Option(
        help="The variant to compare with. [default: as the experiment declares]")] = None,
    variants: Annotated[str | None, typer.Option(
        metavar="A,B", help="These alone. [default: all]")] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    settings: Set = [],
    root: Root = ROOT,
    data: DataRoot = DATA,
    tracking_uri: Uri = None,
) -> None:
    """Write what an experiment has shown: a page, and tables and figures beside it.

    Several experiments stand in one report if they were measured alike.
    """
    from gan_bench.cli.report import Asked, make_report

    asked = Asked(experiments, settings, metric, baseline, variants, formats, out)
    again = " ".join(["gan-bench report", *map(shlex.quote, experiments), *(
        f"--{option} {shlex.quote(value)}" for option, value in (
            *(("set", one) for one in settings), ("metric", metric), ("baseline", baseline),
            ("variants", variants)) if value is not None)])
    done = make_report(asked, root, data, tracking_uri, again, _to_stderr)
    for line in done.lines:
        print(line)
    page = done.files[0]
    if show and page.suffix == ".html":
        import webbrowser

        webbrowser.open(page.resolve().as_uri())


@app.command()
def sync(
    root: Root = ROOT,
    tracking_uri: Annotated[str | None, typer.Option(
        "--to", "--tracking-uri", envvar="MLFLOW_TRACKING_URI",
        help="MLflow's store. [default: mlflow.db in the root]")] = None,
) -> None:
    """Bring every run of the root into MLflow: what a dead server has missed, or all into another.

    Exit status: 0 all is there; 2 nothing could be done; 3 something is still missing.
    """
    from gan_bench.tracking.sync import sync as bring

    done = bring(root, tracking_uri, _to_stderr)
    print(f"{done.runs} runs, {done.brought} brought up to date")
    if done.missing:
        print("\n".join(done.missing), file=sys.stderr)
        raise typer.Exit(3)


@app.command(name="list")
def list_names(
    kind: Annotated[str | None, typer.Argument(
        help="One of datasets, models, losses, penalties, optimizers, extractors, "
        "metrics, recipes.")] = None,
) -> None:
    """Show every registered name with its arguments and what it is."""
    from gan_bench import registry
    from gan_bench.cli.plan import columns
    from gan_bench.config.recipes import RECIPES
    from gan_bench.errors import UserError
    from gan_bench.registry import Registry, nearest

    kinds: dict[str, Registry[Any, Any]] = {
        "datasets": registry.DATASETS, "models": registry.MODELS, "losses": registry.LOSSES,
        "penalties": registry.PENALTIES,
        "optimizers": registry.OPTIMIZERS, "extractors": registry.EXTRACTORS,
        "metrics": registry.METRICS}
    if kind is not None and kind not in (*kinds, "recipes"):
        raise UserError(f"no kind is called {kind!r}; {nearest(kind, [*kinds, 'recipes'])}")
    if kind in (None, "recipes"):
        print("recipes", *columns([[f"  {name}", recipe.source] for name, recipe in
                                   RECIPES.items()]), "", sep="\n")
    for name in [kind] if kind in kinds else list(kinds) if kind is None else []:
        rows = []
        for entry in kinds[name]:
            arguments = ", ".join(
                field if value.is_required() else f"{field}={value.default}"
                for field, value in entry.schema.model_fields.items())
            better = entry.facts.better if isinstance(entry.facts, registry.MetricFacts) else None
            facts = f" ({better} is better)" if better else ""
            rows.append([f"  {entry.name}", entry.summary + facts, f"[{arguments}]"
                         if arguments else ""])
        print(name, *columns(rows), *(f"  plug-in {k} failed: {v}" for k, v in
                                       kinds[name].failed_plugins.items()), "", sep="\n")


@app.command()
def schema() -> None:
    """Print the JSON schema of experiment files."""
    from gan_bench.cli.schema import json_schema

    print(json.dumps(json_schema(), indent=1))


@app.command()
def sample(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or how it begins.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A .png (a grid), or a .npz (all).")],
    n: Annotated[int, typer.Option("--n", "-n", min=1, max=1_000_000,
                                   help="Number of images.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the latents.")] = 0,
    root: Root = ROOT,
) -> None:
    """Write samples of a trained generator: a picture, or arrays in a .npz.

    They are `images` or `vectors`, and of a conditional run `labels`.
    """
    from gan_bench.cli.sample import write_samples

    write_samples(root, run, out, n, seed)
    print(f"{out}: {n} samples")


@app.command()
def evaluate(
    source: Annotated[str, typer.Argument(
        metavar="SOURCE", help="A run's id or how it begins, its folder, final.safetensors or "
        "checkpoint.pt; or images of whatever origin: a folder, .zip, .tar, .npz or .npy.")],
    data_set: Annotated[str | None, typer.Option(
        help="What to measure against: a name, or {name: …, …}. [default: the run's own]")] = None,
    image_size: ImageSize = None,
    experiment: Annotated[Path | None, typer.Option(
        help="Take data set, metrics and number of samples from this file.")] = None,
    metrics: Annotated[str | None, typer.Option(
        metavar="A,B", help="Names of `gan-bench list metrics`. [default: the run's own, or the "
        "usual ones]")] = None,
    samples: Annotated[int | None, typer.Option(
        min=2, max=1_000_000, help="How many. [default: as the run says, or all images]")] = None,
    split: Annotated[str | None, typer.Option(
        help="train or test: the real images in metrics of features. [default: train]")] = None,
    resize: Annotated[bool, typer.Option(
        "--resize", help="Resample images of another size; the protocol then says so.")] = False,
    log: Annotated[bool, typer.Option(
        "--log", help="Add the scores to the run's journal and to MLflow.")] = False,
    root: Root = ROOT,
    data: DataRoot = DATA,
    tracking_uri: Uri = None,
    as_json: AsJson = False,
) -> None:
    """Measure a run, or images of any origin, against a data set; say how it was measured."""
    from gan_bench.config.experiment import load_experiment
    from gan_bench.errors import UserError
    from gan_bench.evaluation.metrics.base import asks_d

    if split not in (None, "train", "test"):
        raise UserError(f"--split is train or test, not {split!r}")
    if data_set and experiment:
        raise UserError("give --data-set or --experiment, not both")
    part = _data_set(data_set, image_size)
    names = [name.strip() for name in metrics.split(",")] if metrics is not None else None
    if names and not all(names):
        raise UserError(f"--metrics {metrics!r} has an empty name; write it as A,B")
    if experiment:
        first = load_experiment(experiment, data, []).runs[0]
        part, own = first.dataset, first.evaluate.final or first.evaluate
        names, samples = names or [n for n in own.metrics if not asks_d(n)], samples or own.samples

    from gan_bench.cli import evaluate

    wanted = evaluate.Wanted(part, names, samples, split, resize, log)  # type: ignore[arg-type]
    report, folder = evaluate.evaluate(source, wanted, root, data, _to_stderr)
    if folder and log:
        evaluate.log_scores(report, folder, root, tracking_uri)
    print(evaluate.as_json(report) if as_json else evaluate.as_text(report))


@extractor.command()
def train(
    data_set: Annotated[str, typer.Argument(metavar="DATASET", help="A name, or {name: …, …}.")],
    image_size: ImageSize = None,
    out: Annotated[Path | None, typer.Option(
        help="Keep the weights, in a folder of their own below this one.")] = None,
    root: Root = ROOT,
    data: DataRoot = DATA,
) -> None:
    """Train a data set's classifier by the recipe; compare the bits with those that ship."""
    from gan_bench.cli.extractor import retrain

    part = _data_set(data_set, image_size)
    assert part is not None
    print(retrain(part, out, root, data, _to_stderr))


@app.command()
def ui(
    root: Root = ROOT,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
    tracking_uri: Uri = None,
) -> None:
    """Open MLflow's page on the store of the root, on 127.0.0.1."""
    from gan_bench.cli.ui import page, ui_command

    argv, environment = ui_command(root, tracking_uri, port)
    print(f"{page(port)} (Ctrl-C ends it)", flush=True)
    os.execvpe(argv[0], argv, {**os.environ, **environment})


def main() -> NoReturn:
    """Run the program: a user's error is one line and status 2, never a traceback."""
    from gan_bench.errors import Stopped, UserError, is_out_of_memory

    try:
        app(standalone_mode=True)
    except UserError as error:
        print(error if "\n" in str(error) else f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stop:
        print("stopped; the same command goes on with what is not finished", file=sys.stderr)
        sys.exit(stop.status)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print("error: out of memory: ask for fewer samples, or less at once", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a full disk, say: the machine's doing, and none of the program's
        file = error.filename2 or error.filename
        print(f"error: {f'{file}: ' if file else ''}{error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)


def _data_set(text: str | None, image_size: int | None) -> Any:
    """Return the Part of DATASETS that a name or a YAML mapping stands for."""
    from gan_bench.config.yaml_source import parse
    from gan_bench.errors import UserError
    from gan_bench.registry import DATASETS, PartError

    if text is None:
        if image_size is not None:
            raise UserError("--image-size belongs to --data-set; give both")
        return None
    value = parse(text, f"data set {text!r}")
    if image_size is not None:
        value = {**(value if isinstance(value, dict) else {"name": value}),
                 "image_size": image_size}
    try:
        return DATASETS.parse(value)
    except PartError as error:
        raise UserError("; ".join(f"data set {text!r}: " + (f"{key}: " if key else "") + message
                                  for message, key in error.problems)) from None


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _root(root: Path) -> str:
    """The option that names the root, where it is not the usual one."""
    return "" if root == ROOT else f" --root {shlex.quote(str(root))}"


def _store(uri: str | None, option: str = "--to") -> str:
    """The option that names the store, where the environment does not; without its password."""
    from gan_bench.tracking.address import without_password

    if uri is None or uri == os.environ.get("MLFLOW_TRACKING_URI"):
        return ""
    return f" {option} {shlex.quote(without_password(uri))}"


def _page(root: Path, uri: str | None) -> str:
    """Where to look at runs: the page of the server itself, or the command that serves one."""
    from gan_bench.tracking.address import is_server, resolve_uri, without_password

    address = resolve_uri(root, uri)
    if is_server(address):
        return without_password(address)
    return f"gan-bench ui{_root(root)}{_store(uri, '--tracking-uri')}"


if __name__ == "__main__":
    main()
