"""From an experiment file to its runs: matrix, overrides, and every error at its place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from gan_bench import registry
from gan_bench.config.annealing import annealed_keys
from gan_bench.config.checks import find_conflicts, steps_of
from gan_bench.config.cluster import DEFAULT_CLUSTER, ClusterSpec
from gan_bench.config.declared import Amount, CurveMean, Declared, Margin, comparison_tag
from gan_bench.config.differences import from_baseline
from gan_bench.config.flat import varied_settings
from gan_bench.config.grid import Variant
from gan_bench.config.initial_weights import InitWeights, resolve_init
from gan_bench.config.label_checks import label_problems
from gan_bench.config.problems import (
    Problems,
    note_variant_problems,
    validate_settings,
    variants_until_enough,
)
from gan_bench.config.renumbered import renumbered
from gan_bench.config.shipped import experiment_file
from gan_bench.config.sources import sources_of
from gan_bench.config.spec import (
    Closed,
    ComputeSpec,
    Data,
    EvaluateSpec,
    ExperimentSpec,
    ReferenceSpec,
    RunSettings,
    RunSpec,
    Seed,
    data_facts,
    final_measurement,
)
from gan_bench.config.statistics_file import read_statistics
from gan_bench.config.sweeps import sweeps_of
from gan_bench.config.yaml_source import Where, YamlSource, read_yaml
from gan_bench.data_facts import DataFacts
from gan_bench.errors import UserError, shown
from gan_bench.paths import AnyPath, as_path, normal_path
from gan_bench.registry import Plugin, nearest, read_plugin, read_plugins, use_plugins

MAX_RUNS = 100_000


def _check_margin(margin: Amount | dict[str, Amount] | None,
                  ) -> Amount | dict[str, Amount] | None:
    # 0.5 is small for an FID, but half the range of a recall.
    if isinstance(margin, Amount) and not margin.relative:
        raise ValueError(f"a margin for all scores is a percentage of the baseline's mean, "
                         f"such as '5%'; give {margin} by score: {{NAME: {margin}}}")
    return margin


# A name becomes a folder, an MLflow experiment and a file name; it never becomes a path.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=64)]
Label = Annotated[str, Field(pattern=r"^\S(.*\S)?$", max_length=80)]  # on one line


def _check_name(name: str) -> str:
    if name == "Default":
        raise ValueError("MLflow keeps an experiment of this name for itself; choose another name")
    if name.endswith((".yaml", ".yml")):
        raise ValueError("a name that ends in .yaml or .yml stands for a file, as in `gan-bench "
                         "report NAME`; leave the ending out")
    return name


class ExperimentFile(Closed):
    """The top level of an experiment file."""

    name: Annotated[Name, AfterValidator(_check_name)] = Field(
        description="names the folder and the MLflow experiment")
    question: str = Field("", description="what the study is to find out, in a sentence")
    baseline: str | None = Field(
        None, description="the variant that the others are compared with; default: the first")
    plugins: list[str] = Field(
        [], description="Python files with losses, models and other parts of your own, relative to "
        "this file")
    dataset: Data = Field(description="the real examples")
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field(
        description="every variant is trained once with each")
    base: dict[str, Any] = Field({}, description="what all variants share")
    variants: dict[Name, dict[str, Any] | None] = Field(
        {}, description="named overrides of `base`; crossed with `matrix` if both are given")
    matrix: dict[str, list[Any]] | None = Field(
        None, description="axes whose cross product gives the variants; also include and exclude")
    evaluate: EvaluateSpec = Field(
        EvaluateSpec(), description="what is measured, and when")  # type: ignore[call-arg]
    compute: ComputeSpec = Field(
        ComputeSpec(), description="how the numbers are computed")  # type: ignore[call-arg]
    cluster: ClusterSpec = Field(
        DEFAULT_CLUSTER, description="what workers ask SLURM for, under `run --on slurm`; part of "
        "no run's id")
    paired: bool = Field(
        False, description="compare variants seed by seed; useful only where runs of the same "
        "seed truly share something")
    margin: Annotated[Margin, AfterValidator(_check_margin)] = Field(
        None, description="the largest negligible difference in mean score, for the verdict "
        "*equivalent*, which needs 59 runs of each variant: a share of the baseline's mean ('5%'), "
        "or for each score a share or number")
    curve_means: dict[Name, CurveMean] = Field(
        {}, description="means of logged curves between two steps; the report compares them like "
        "scores")
    labels: dict[str, Label] = Field(
        {}, description="what tables, figures and the report call a variant or a score, by its "
        "name; part of no run's id")


def load_experiment(path: AnyPath, data_root: AnyPath, overrides: list[str] | None = None,
                    plugins: Sequence[AnyPath] = (), *, root: AnyPath = "mlruns",
                    ) -> ExperimentSpec:
    """Read, check and expand an experiment file.

    Args:
        path: The YAML file, or the name of an experiment that comes with the program.
        data_root: The folder of data sets; only an `image_folder` is read.
        overrides: `a.b=value` settings that replace what the file says.
        plugins: Plug-in files besides those that the file names. Afterwards the registries hold
            the parts of these and those, and of no other files.
        root: As in `gan_bench.journal.layout.Workspace`; only the runs that `init` names are read.

    Raises:
        SpecError: The file has errors; the message lists them all, each with its place.
        UserError: `path` or `data_root` is not a path.
    """
    source, data_root = read_yaml(experiment_file(as_path(path))), as_path(data_root)
    root = normal_path(root)
    for setting in overrides or []:
        source.override(setting)
    errors = Problems(source)
    of_file = _use_plugins(source, plugins, errors)
    try:
        file = ExperimentFile.model_validate(source.data)
    except ValidationError as error:
        errors.add_all(error, ExperimentFile, lambda where: where)
        invalid_keys = {problem["loc"][:1] for problem in error.errors()}
        if not invalid_keys & {("base",), ("variants",), ("matrix",)}:
            note_variant_problems(source.data, errors)
        raise errors.raised() from None
    try:
        data = data_facts(file.dataset, data_root)
    except UserError as error:
        errors.add(("dataset",), str(error))
        note_variant_problems(source.data, errors)
        raise errors.raised() from None
    file = _read_reference(file, errors.folder, errors)
    recipes: dict[str, str] = {}
    annealed: dict[str, dict[str, str]] = {}
    firsts, cells = [], {}
    for variant in variants_until_enough(file.base, file.variants, file.matrix, errors):
        run = _first_run(file, data, variant, errors, root)
        if run is not None:
            firsts.append(run)
            cells[run.variant] = variant.cell
            recipes |= {run.variant: variant.recipe} if variant.recipe else {}
            annealed[run.variant] = {key: source.place(variant.where(tuple(key.split("."))))
                                     for key in annealed_keys(run)}
    baseline = _check_names(file, firsts, errors)
    _check_curve_means(file, firsts, errors)
    _check_margins(file, errors)
    _check_labels(file, firsts, errors)
    if errors.lines:
        raise errors.raised()
    runs = tuple(first.with_seed(seed) for first in firsts for seed in file.seeds)
    return ExperimentSpec(
        name=file.name, runs=runs,
        declared=_declared(file, firsts, sweeps_of(cells, baseline), baseline, errors),
        recipes=recipes, annealed=annealed, plugins=of_file, cluster=file.cluster)


def _check_margins(file: ExperimentFile, errors: Problems) -> None:
    """Check that margins of single scores are for scores that there are."""
    score_names = [*registry.scores(), *file.curve_means]
    for name in file.margin if isinstance(file.margin, dict) else ():
        if name not in score_names:
            errors.add(("margin", name), f"no metric gives a score {shown(name)}; "
                                         f"{nearest(str(name), score_names)}")


def _check_labels(file: ExperimentFile, firsts: list[RunSpec], errors: Problems) -> None:
    """Check that labels are of variants and scores that there are, and tell them apart."""
    if errors.lines:  # variants may be missing
        return
    variants = [run.variant for run in firsts]
    for name, problem in label_problems(file.labels, variants,
                                        [*registry.scores(), *file.curve_means]):
        errors.add(("labels", name), problem)


def _declared(file: ExperimentFile, firsts: list[RunSpec], sweeps: dict[str, tuple[str, ...]],
              baseline: str, errors: Problems) -> Declared:
    """Return what the experiment declares of its comparison.

    Raises:
        SpecError: It takes more room than MLflow has for it.
    """
    declared = Declared(
        question=file.question.strip(), baseline=baseline, paired=file.paired, margin=file.margin,
        variants=tuple(run.variant for run in firsts), curve_means=file.curve_means,
        settings={run.variant: run.settings for run in firsts},
        differs=from_baseline(tuple(firsts), baseline), seeds=tuple(file.seeds),
        final=final_measurement(file.evaluate), labels=file.labels,
        sweeps=sweeps, varied=_varied(firsts, file.seeds))
    try:
        comparison_tag(declared)
    except ValueError as error:
        errors.add((), str(error))
        raise errors.raised() from None
    return declared


def _varied(firsts: list[RunSpec], seeds: list[int]) -> tuple[str, ...]:
    """Return the settings in which the runs differ; empty for a single run."""
    keys = varied_settings([run.model_dump(mode="json") for run in firsts])
    return tuple(sorted({*keys, "seed"})) if len(seeds) > 1 else keys


def _use_plugins(source: YamlSource, given: Sequence[AnyPath], errors: Problems,
                 ) -> tuple[Plugin, ...]:
    """Let the registries hold the parts of the file's plug-ins and of the given ones.

    Raises:
        SpecError: A plug-in of the file cannot be used; without it no name is right.
        UserError: A given one cannot be.
    """
    named = source.data.get("plugins")
    texts = named if isinstance(named, list) else []  # what is wrong with others, pydantic says
    folder = Path(source.file).parent
    paths: list[AnyPath] = []
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            continue
        try:
            read_plugin(folder / text)
        except UserError as error:
            errors.add(("plugins", index), str(error))
            continue
        paths.append(folder / text)
    if errors.lines:
        raise errors.raised()
    try:
        plugins = read_plugins([*paths, *given])
        use_plugins(plugins)
    except UserError as error:
        if not paths:
            raise
        errors.add(("plugins",), str(error))
        raise errors.raised() from None
    return plugins


def _read_reference(file: ExperimentFile, folder: Path, errors: Problems) -> ExperimentFile:
    """Return the file with the place and the hash of its statistics, after noting what is wrong."""
    evaluate, reference = file.evaluate, file.evaluate.reference
    if reference is None:
        return file
    where: Where = ("evaluate", "reference")
    if not any(registry.METRICS[name].facts.gaussian for name in evaluate.all_metrics):
        errors.add(where, "only Fréchet distances (fid, fd_…) compare with statistics, and "
                          "evaluate.metrics names none: add one, or leave out reference")
    try:
        statistics = read_statistics(normal_path(folder / reference.statistics))
    except UserError as error:
        errors.add((*where, "statistics"), str(error))
        return file
    if reference.sha256 not in ("", statistics.sha256):
        errors.add((*where, "sha256"), f"that of {statistics.file} is {statistics.sha256}")
    known = ReferenceSpec(statistics=str(statistics.file), sha256=statistics.sha256)
    return file.model_copy(update={"evaluate": evaluate.model_copy(update={"reference": known})})


def _first_run(file: ExperimentFile, data: DataFacts, variant: Variant, errors: Problems,
               root: Path) -> RunSpec | None:
    """Return the variant's run under the first seed, or None after noting what is wrong."""
    settings = validate_settings(variant, errors)
    if settings is None:
        return None
    problems = find_conflicts(settings, file.dataset, data, file.evaluate)
    for key, reason in problems:
        section, _, name = key.partition(".")
        errors.add((section, name) if name else variant.where((key,)), reason)
    init = _found_weights(settings, variant, errors, root)
    if problems or (init is None) != (settings.init is None):
        return None
    fields = {key: getattr(settings, key) for key in RunSettings.model_fields}
    return RunSpec(**{
        **fields, "init": init, "steps": steps_of(settings, data), "epochs": None,
        "experiment": file.name, "numerics": renumbered(settings, data),
        "sources": sources_of(settings, file.dataset),
        "variant": "-".join(variant.labels) or "base", "seed": file.seeds[0],
        "dataset": file.dataset, "data": data, "evaluate": file.evaluate,
        "compute": file.compute})


def _found_weights(settings: RunSettings, variant: Variant, errors: Problems, root: Path,
                   ) -> InitWeights | None:
    """Return the weights that a variant starts from; None if there are none, or none are found."""
    init = settings.init
    if init is None:
        return None
    try:
        return resolve_init(init, errors.folder, root)
    except UserError as error:
        errors.add(variant.where(("init", "file" if init.run is None else "run")), str(error))
        return None


def _check_names(file: ExperimentFile, firsts: list[RunSpec], errors: Problems) -> str:
    """Check that variants and seeds differ, and return the baseline."""
    if len(firsts) * len(file.seeds) > MAX_RUNS:
        errors.add(("seeds",), f"{len(firsts):,} variants × {len(file.seeds):,} seeds are more "
                               f"than {MAX_RUNS:,} runs")
    by_name: dict[str, RunSpec] = {}
    by_id: dict[str, RunSpec] = {}
    where: Where = ("matrix",) if file.matrix else ("variants",)
    for run in firsts:
        if run.variant in by_name:
            errors.add(where, f"two variants are called {shown(run.variant)}")
        elif run.id in by_id:
            errors.add(where, f"{by_id[run.id].variant!r} and {run.variant!r} are the same run: "
                              f"they differ only in their names, or in what is recorded")
        by_name[run.variant] = by_id[run.id] = run
    seen: set[int] = set()
    for index, seed in enumerate(file.seeds):
        if seed in seen:
            errors.add(("seeds", index), f"{seed} is given twice")
        seen.add(seed)
    if file.baseline is None:
        return firsts[0].variant if firsts else ""
    if firsts and file.baseline not in by_name and not errors.lines:
        errors.add(("baseline",), f"there is no variant {shown(file.baseline)}; "
                                  f"{nearest(file.baseline, list(by_name))}")
    return file.baseline


def _check_curve_means(file: ExperimentFile, firsts: list[RunSpec], errors: Problems) -> None:
    """Check that each mean has a unique name and that every run logs values for it."""
    for name, mean in file.curve_means.items():
        if name in registry.scores():
            errors.add(("curve_means", name), f"a metric gives a score {name!r}; choose another "
                                              f"name")
        first, last = mean.steps
        counts = {run.variant: logged_steps(run, mean) for run in firsts}
        for run in firsts:
            where: Where = ("curve_means", name, "steps")
            if missing := _never_logged(run, mean.of):
                errors.add(("curve_means", name, "of"),
                           f"{run.variant} has no {mean.of}: {missing}")
            elif last > run.steps:
                errors.add(where, f"{run.variant} has {run.steps:,} steps, fewer than {last}")
            elif not counts[run.variant]:
                every = " and ".join(map(str, _value_intervals(run, mean.of)))
                lazy = "" if every == "1" else f", and has a penalty only every {every} steps"
                errors.add(where, (
                    f"{run.variant} has no logged value from step {first} to {last}: it logs every "
                    f"{run.log_every} steps{lazy}; choose a longer range, or a smaller log_every"))
            elif counts[run.variant] != counts[firsts[0].variant]:
                errors.add(where, (
                    f"{run.variant} logs {counts[run.variant]} steps from {first} to {last}, but "
                    f"{firsts[0].variant} logs {counts[firsts[0].variant]}: give both the same "
                    f"log_every"))


def logged_steps(run: RunSpec, mean: CurveMean) -> int:
    """Return the number of a run's logged steps that go into a mean."""
    return mean.logged(run.log_every, run.steps, _value_intervals(run, mean.of))


def _value_intervals(run: RunSpec, curve: str) -> list[int]:
    """Return the intervals, in steps, at which a run has a value to log in a curve."""
    return [1] if curve != "train/d_penalty" else sorted({
        int(part.args.get("every", 1)) for part in run.penalties
        if registry.PENALTIES[part.name].facts.term})


def _never_logged(run: RunSpec, curve: str) -> str:
    """Return why a run never logs a curve; empty if it logs it."""
    if not _value_intervals(run, curve):
        return "none of its penalties is a term of D's loss"
    if curve == "train/augment_p" and not any(
            registry.AUGMENTATIONS[part.name].facts.has_p for part in run.augmentation):
        return "none of its augmentations has a p"
    if curve in ("train/d_loss_real", "train/d_loss_fake") and registry.LOSSES[
            run.loss.name].facts.one_term:
        return f"the loss {run.loss} has no separate real and fake terms"
    return ""
