"""From an experiment file to its runs: matrix, overrides, and every error at its place."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from gan_bench import registry
from gan_bench.config.annealing import annealed_keys
from gan_bench.config.declared import Declared, comparison_tag
from gan_bench.config.differences import from_baseline
from gan_bench.config.experiment_checks import (
    check_curve_means,
    check_labels,
    check_margins,
    check_names,
    check_seeds,
    check_select_score,
)
from gan_bench.config.experiment_file import ExperimentFile
from gan_bench.config.flat import varied_settings
from gan_bench.config.grid import Variant
from gan_bench.config.problems import Problems, note_variant_problems, variants_until_enough
from gan_bench.config.search.first_runs import (
    declared_search,
    different,
    draw_settings,
    first_run,
)
from gan_bench.config.shipped import experiment_file
from gan_bench.config.spec import (
    ExperimentSpec,
    ReferenceSpec,
    RunSpec,
    data_facts,
    final_measurement,
)
from gan_bench.config.statistics_file import read_statistics
from gan_bench.config.sweeps import sweeps_of
from gan_bench.config.yaml_source import Where, YamlSource, read_yaml
from gan_bench.data_facts import DataFacts
from gan_bench.errors import UserError, count
from gan_bench.paths import AnyPath, as_path, normal_path
from gan_bench.registry import Plugin, read_plugin, read_plugins, use_plugins


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
    check_seeds(source.data, errors)
    file, data = _read_file(source, data_root, errors)
    file = _read_reference(file, errors.folder, errors)
    variants: list[Variant] = []
    firsts: list[RunSpec] = []
    for variant in variants_until_enough(file.base, file.variants, file.matrix, errors):
        run = first_run(file, data, variant, errors, root)
        if run is not None:
            variants.append(variant)
            firsts.append(run)
    baseline = check_names(file, firsts, errors)
    check_margins(file, errors)
    check_labels(file, firsts, errors)
    check_select_score(file, errors)
    settings = draw_settings(file, data, variants, firsts, errors, root)
    check_curve_means(file, [*firsts, *settings], errors)
    if errors.lines:
        raise errors.raised()
    cells = {run.variant: each.cell for run, each in zip(firsts, variants, strict=True)}
    declared = _declared(file, firsts, settings, sweeps_of(cells, baseline), baseline)
    if file.search is not None:
        declared = declared_search(declared, file.search, settings, firsts, variants)
    _refuse_too_long(declared, errors)
    return ExperimentSpec(
        name=file.name, declared=declared, plugins=of_file, cluster=file.cluster,
        runs=tuple(first.with_seed(seed) for first in different(settings)
                   for seed in file.first_seeds),
        recipes={run.variant: each.recipe
                 for run, each in zip(firsts, variants, strict=True) if each.recipe},
        annealed={run.variant: {key: source.place(each.where(tuple(key.split("."))))
                                for key in annealed_keys(run)}
                  for run, each in zip(firsts, variants, strict=True)})


def _read_file(source: YamlSource, data_root: Path, errors: Problems,
               ) -> tuple[ExperimentFile, DataFacts]:
    """Return the top level of a file, and the facts of its data set.

    Raises:
        SpecError: Either is invalid; what is wrong with the variants is said with it.
    """
    try:
        file = ExperimentFile.model_validate(source.data)
    except ValidationError as error:
        errors.add_all(error, ExperimentFile, lambda where: where)
        invalid_keys = {problem["loc"][:1] for problem in error.errors()}
        if not invalid_keys & {("base",), ("variants",), ("matrix",)}:
            note_variant_problems(source.data, errors)
        raise errors.raised() from None
    try:
        return file, data_facts(file.dataset, data_root)
    except UserError as error:
        errors.add(("dataset",), str(error))
        note_variant_problems(source.data, errors)
        raise errors.raised() from None


def _refuse_too_long(declared: Declared, errors: Problems) -> None:
    """Refuse what takes more room than MLflow has for it.

    Raises:
        SpecError: It does.
    """
    try:
        comparison_tag(declared)
        return
    except ValueError as error:
        why = str(error)
    with suppress(ValueError):
        comparison_tag(declared.with_changes(shared={}))
        draws = max(map(len, declared.draws.values()))
        kinds = sum(map(len, map(set, declared.draws.values())))
        errors.add(("search", "draws"), (
            f"{draws:,} draws have only {count(kinds, 'setting')} in all: which draws are the same "
            f"does not fit into MLflow's tag of the experiment; take fewer draws, or let the space "
            f"have more values"))
        raise errors.raised()
    errors.add((), why)
    raise errors.raised()


def _declared(file: ExperimentFile, firsts: list[RunSpec], settings: list[RunSpec],
              sweeps: dict[str, tuple[str, ...]], baseline: str) -> Declared:
    """Return what the experiment declares of its comparison.

    Args:
        firsts: The first run of each variant, as the file describes it.
        settings: A run of each settings that are trained.
    """
    return Declared(
        question=file.question.strip(), baseline=baseline, paired=file.paired, margin=file.margin,
        variants=tuple(run.variant for run in firsts), curve_means=file.curve_means,
        settings={run.variant: run.settings for run in firsts},
        differs=from_baseline(tuple(firsts), baseline), seeds=tuple(file.compared_seeds),
        final=final_measurement(file.evaluate), labels=file.labels,
        sweeps=sweeps, varied=_varied(settings, [*file.first_seeds, *file.compared_seeds]))


def _varied(settings: list[RunSpec], seeds: list[int]) -> tuple[str, ...]:
    """Return the settings in which the runs differ; empty for a single run."""
    keys = varied_settings([run.model_dump(mode="json") for run in settings])
    return tuple(sorted({*keys, "seed"})) if len({*seeds}) > 1 else keys


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
