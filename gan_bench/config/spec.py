"""The specification of a run and of an experiment, and the id that identifies a run.

Frozen, closed models: an unknown key is an error. No torch here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
)

from gan_bench import registry
from gan_bench.atomic import replacing
from gan_bench.config.cluster import DEFAULT_CLUSTER, ClusterSpec
from gan_bench.config.declared import Declared, FinalMeasurement
from gan_bench.config.ema_decay import Averaging, EmaForm, HalfLife
from gan_bench.config.initial_weights import InitSpec, InitWeights
from gan_bench.config.run_id import (
    digest_of,
    identifying_settings,
    lineage_of,
    recording_digest,
)
from gan_bench.config.score_definition import definition_of
from gan_bench.config.search.search import CONFIRM, SearchSpec
from gan_bench.config.statistics_file import statistics_name
from gan_bench.data_facts import DataFacts
from gan_bench.errors import UserError, shown, unwritable
from gan_bench.paths import AnyPath, as_path
from gan_bench.registry import Part, Plugin

Model = Annotated[Part, BeforeValidator(registry.MODELS.parse), WithJsonSchema({"kind": "MODELS"})]
Loss = Annotated[Part, BeforeValidator(registry.LOSSES.parse), WithJsonSchema({"kind": "LOSSES"})]
Penalty = Annotated[Part, BeforeValidator(registry.PENALTIES.parse),
                    WithJsonSchema({"kind": "PENALTIES"})]
Augmentation = Annotated[Part, BeforeValidator(registry.AUGMENTATIONS.parse),
                         WithJsonSchema({"kind": "AUGMENTATIONS"})]
Optimizer = Annotated[Part, BeforeValidator(registry.OPTIMIZERS.parse),
                      WithJsonSchema({"kind": "OPTIMIZERS"})]
Data = Annotated[Part, BeforeValidator(registry.DATASETS.parse),
                 WithJsonSchema({"kind": "DATASETS"})]
Positive = Annotated[int, Field(ge=1)]
MAX_THREADS = 1024  # as many as the largest machines have cores
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Closed(BaseModel):
    """A frozen model that refuses unknown keys and does not convert strings to numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ReferenceSpec(Closed):
    """What Fréchet distances compare with, in place of the data set's real examples."""

    statistics: str = Field(
        description="a .npz with mu and sigma of real features, as pytorch-fid and clean-fid write "
        "it; relative to the experiment's file")
    sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = Field(
        "", description="of the file, which is refused if it is another; default: not checked")


class EvaluateSpec(Closed):
    """How often a run is measured, on how many samples, and by which metrics."""

    every: Positive | None = Field(
        None, description="number of G steps between measurements; null: only at the end")
    samples: Annotated[int, Field(ge=2)] = Field(
        2000, description="number of generated samples per measurement")
    metrics: list[str] = Field(
        ["d_accuracy", "nearest_train_mse"], description="names of `gan-bench list metrics`")
    final_samples: Annotated[int, Field(ge=2)] | None = Field(
        None, description="generated samples after the last step; null: as many as `samples`")
    final_metrics: list[str] | None = Field(
        None, description="metrics after the last step; null: the same as `metrics`")
    latent_sets: Annotated[int, Field(ge=1, le=100)] = Field(
        1, description="number of sets of latents for the measurement after the last step; the "
        "first set gives the score, and the others separate sampling noise from that of seeds")
    reference: ReferenceSpec | None = Field(
        None, description="what Fréchet distances (fid, fd_*) compare with; null: the data set")

    snapshots: bool = Field(
        False, description="keep the networks of every measurement, so that curves of other "
        "metrics can be measured later; `gan-bench plan` says how much disk that takes")

    @field_validator("metrics", "final_metrics")
    @classmethod
    def _check_metrics(cls, names: list[str] | None) -> list[str] | None:
        for name in names or []:
            registry.METRICS[name]
        if len(set(names or [])) < len(names or []):
            raise ValueError("a metric is named twice")
        return names

    @property
    def final(self) -> EvaluateSpec | None:
        """The measurement after the last step; None if it is the same as during training."""
        samples = self.final_samples or self.samples
        metrics = self.metrics if self.final_metrics is None else self.final_metrics
        if (samples, metrics) == (self.samples, self.metrics):
            return None
        return self.model_copy(update={"samples": samples, "metrics": metrics,
                                       "final_samples": None, "final_metrics": None})

    @property
    def all_metrics(self) -> list[str]:
        """The names of the metrics during training and after it."""
        return list(dict.fromkeys([*self.metrics, *(self.final_metrics or [])]))


def _check_pack(value: object) -> object:
    """Refuse a wrong `pack` in one line, where the union of types would give two errors."""
    if value != "auto" and (type(value) is not int or value < 1):
        raise ValueError(f"a number of runs, at least 1, or auto, not {shown(value)}")
    return value


class ComputeSpec(Closed):
    """How the numbers are computed: device, threads, precision."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: cuda where there is one")
    threads: Annotated[int, Field(ge=1, le=MAX_THREADS)] = Field(
        1, description="CPU threads of a run; part of its id, because its numbers depend on them")
    deterministic: bool = Field(
        True, description="only algorithms that give the same bits every time")
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = Field(
        "float32", description="number format of the products in training; weights stay "
        "float32; auto: bfloat16 where the hardware multiplies it faster")
    graphs: bool = Field(
        True, description="launch a step on a GPU as one CUDA graph: faster, with the same numbers")
    pack: Annotated[Positive | Literal["auto"], BeforeValidator(_check_pack)] = Field(
        "auto", description="number of runs that share a GPU and a process without changing each "
        "other's numbers; auto: 8, or as many as fit. On the CPU each run has a separate process")


class RunSettings(Closed):
    """The keys of a run that `base`, `variants` and `matrix` may set."""

    model: Model = Field(description="both networks, G and D")
    loss: Loss = Field("non_saturating", validate_default=True,
                       description="what D and G minimise")
    condition: Literal["none", "concat", "projection"] = Field(
        "none", description="how D receives the labels, or the inputs of pairs; G receives them "
        "with its latents; none: neither")
    penalties: list[Penalty] = Field(
        [], description="what regularises D, or G: names of `gan-bench list penalties`")
    augmentation: list[Augmentation] = Field(
        [], description="what is done to images before D sees them, in this order: names of "
        "`gan-bench list augmentations`")
    g_optimizer: Optimizer = Field("adam", validate_default=True, description="of G alone")
    d_optimizer: Optimizer = Field("adam", validate_default=True, description="of D alone")
    batch_size: Annotated[int, Field(ge=2)] = Field(
        64, description="real examples, and generated ones, in an update")
    steps: Positive | None = Field(
        None, description="number of steps, each of `d_steps` updates of D and `g_steps` of G; or "
        "give `epochs`")
    epochs: Positive | None = Field(
        None, description="passes of D over the training set, last partial batches dropped")
    order: Literal["d_first", "g_first"] = Field(
        "d_first", description="whose update comes first within a step")
    share_fakes: bool = Field(
        False, description="true: D's step uses the fake batch of G's step; false: a new one")
    d_loss_reduction: Literal["mean", "sum"] = Field(
        "mean", description="sum: D minimises its real term, its fake term and the penalties, with "
        "weights as published; mean: that sum divided by the number of terms, 2 or 1")
    d_steps: Positive = Field(1, description="D updates per step")
    g_steps: Positive = Field(1, description="G updates per step")
    accumulate: Positive = Field(
        1, description="parts of a batch whose gradients are averaged, one after the other, for "
        "less memory; batch norm and what compares examples see a part alone")
    one_pass: bool = Field(
        False, description="true: D judges the fake and real examples of its update in one pass, "
        "fakes first, as BigGAN's does; false: in two")
    fake_labels: Literal["beside", "independent"] = Field(
        "beside", description="labels of fakes: those of the real examples in the same step, or "
        "drawn from the data set independently of them")
    joint_weight: Annotated[float, Field(ge=0)] = Field(
        0.0, description="joint phase of symmetric-KL training: this many times G's gradient on a "
        "second batch of fakes is added to that on the first; 0: none")
    latents: Literal["normal", "uniform"] = Field(
        "normal", description="distribution of latents: N(0, 1), or uniform in -1..1")
    ema: Annotated[float | HalfLife | None, EmaForm()] = Field(
        None, description="G's weight average, which replaces G in measurements: its decay at each "
        "step, or `{half_life: IMAGES}`; null: no average")
    ema_ramp: Annotated[float, Field(gt=0)] | None = Field(
        0.05, description="the average's half-life is at most this share of the steps, or images, "
        "done (StyleGAN2's rule), so that the random initial weights are forgotten in a run of any "
        "length; null: no ramp")
    ema_start: Positive = Field(
        1, description="the first step that averages; before, the average is a copy of G")
    ema_statistics: Literal["copied", "averaged", "estimated"] = Field(
        "estimated", description="the average's batch-norm statistics: those of G, their average "
        "(and that of BigGAN's vectors of spectral norm), or estimated from 16 batches of its own "
        "before each measurement")
    init: InitSpec | None = Field(
        None, description="given weights that the networks start from, instead of random ones: "
        "`{run: ID}` or `{file: x.safetensors}`; their hash is part of a run's id")
    log_every: Positive = Field(
        50, description="number of steps between logged losses and gradient norms")
    sample_every: Positive | None = Field(
        None, description="number of steps between sample grids; null: only at the end")

    @property
    def images_per_step(self) -> int:
        """The number of real examples that D is given in a step."""
        return self.batch_size * self.d_steps

    @property
    def averaging(self) -> Averaging | None:
        """The rule of the average in a run of known length; None without an average."""
        if self.ema is None:
            return None
        return Averaging(self.ema, self.ema_ramp, self.ema_start, self.steps or 1,
                         self.images_per_step)

    @field_validator("penalties", "augmentation")
    @classmethod
    def _check_names(cls, parts: list[Part]) -> list[Part]:
        names = [part.name for part in parts]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"{twice} is named twice")
        return parts


class RunSpec(RunSettings):
    """A complete run: it states every setting that can change a weight or a score.

    Attributes:
        experiment: The name of the study.
        variant: The name of its settings, without the seed and without what is drawn.
        draw: Which draw of a search it is of: the first with these settings. None without a search.
        stage: Of a search, `select` or `confirm`; empty without one.
        seed: All random numbers of the run derive from it.
        dataset: Which data set, with its arguments.
        data: The facts of the data set.
        steps: The number of steps; epochs have been turned into steps.
        epochs: None.
        init: The weights that it starts from, which have been found.
        numerics: As `renumbered` says: what tells the run's id from that of a run with the same
            settings and other numbers.
        sources: The hash of the code behind each third-party part, by `kind.name`; built-in parts
            are absent.
        evaluate: What is measured, and when.
        compute: How the numbers are computed.
    """

    experiment: str
    variant: str
    draw: Annotated[int, Field(ge=0)] | None = None
    stage: Literal["", "select", "confirm"] = ""
    seed: Seed
    dataset: Data
    data: DataFacts
    steps: Positive
    epochs: None = None
    init: InitWeights | None = None
    numerics: int | None = None
    sources: dict[str, str] = {}
    evaluate: EvaluateSpec
    compute: ComputeSpec

    @cached_property
    def id(self) -> str:
        """The first 12 hex digits of the sha256 of all settings that can change the weights.

        It leaves out names; what is measured and recorded, which may change later; the device,
        because `auto` may choose another one later (the journal records it); and the facts that
        follow from the data set's digest.
        """
        return digest_of({**self._settings, "seed": self.seed})

    @property
    def settings(self) -> str:
        """The digest of all settings that can change the weights, without the seed: 12 hex digits.
        """
        return digest_of(self._settings)

    @property
    def lineage(self) -> str:
        """What it has in common with runs that differ in nothing but the number of steps."""
        return lineage_of(self._settings, self.seed)

    @cached_property
    def recording(self) -> str:
        """What stands for all that is measured and recorded of the run: 12 hex digits."""
        names = self.evaluate.all_metrics
        return recording_digest(self.model_dump(mode="json"), _codes(names),
                                _definitions(names, self.evaluate.reference))

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return identifying_settings(self.model_dump(mode="json"))

    @property
    def condition_kind(self) -> Literal["nothing", "class", "image"]:
        """What G is given besides its latents."""
        return condition_kind(self, self.data)

    @property
    def condition_size(self) -> int:
        """The number of values that follow the latents in G's input."""
        sizes = {"nothing": 0, "class": self.data.classes, "image": math.prod(self.data.input)}
        return sizes[self.condition_kind]

    @property
    def place(self) -> str:
        """Its variant, and of a search its draw, as lines of text name it: `r1 draw 7`."""
        return self.variant if self.draw is None else f"{self.variant} draw {self.draw}"

    @property
    def label(self) -> str:
        """How lines of text name the run: `r1 draw 7 seed 0`."""
        return f"{self.place} seed {self.seed}"

    def confirmed(self, seed: int) -> RunSpec:
        """Return the same draw of a search in its second stage, under a seed of that stage."""
        copy = self.with_seed(seed)
        copy.__dict__["stage"] = CONFIRM
        return copy

    def with_seed(self, seed: int) -> RunSpec:
        """Return the same settings under another seed; `seed` has been checked."""
        copy = self.model_copy(update={"seed": seed})
        copy.__dict__.pop("id", None)
        copy.__dict__["_settings"] = self._settings
        copy.__dict__["recording"] = self.recording  # no seed in it
        return copy

    def folder(self, root: AnyPath) -> Path:
        """Return the folder of the run's files: `<root>/runs/<experiment>/<id>`."""
        return as_path(root) / "runs" / self.experiment / self.id

    def write(self, root: AnyPath) -> Path:
        """Create the run's folder, write `spec.json` there, and return the folder.

        Raises:
            UserError: The folder is a link, or cannot be written; an empty folder is removed.
        """
        folder = self.folder(root)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if folder.is_symlink():
                raise UserError(f"{folder}: is a link; remove it: a run's files stay in the root")
            with replacing(folder / "spec.json") as temporary:
                temporary.write_text(self.model_dump_json(indent=1) + "\n")
        except OSError as error:
            with suppress(OSError):  # it has files of the run
                folder.rmdir()
            raise unwritable(folder / "spec.json", error) from error
        return folder


class ExperimentSpec(Closed):
    """A study: a question, and the runs that answer it, ordered by variant, then seed.

    Attributes:
        name: Names the folder and the MLflow experiment.
        declared: What the experiment declares of the comparison of its runs.
        plugins: The plug-in files that its parts may come from.
        runs: One for each variant and seed; of a search, those of the first stage, one for each
            variant, each of its different draws and each seed.
        recipes: By variant, the recipe that it is based on; other variants are absent.
        annealed: By variant, where the file sets its `annealed_keys`: `file:line:column` by key.
        cluster: What its workers ask a scheduler for.
    """

    name: str
    declared: Declared
    runs: tuple[RunSpec, ...]
    plugins: tuple[Plugin, ...] = ()
    recipes: dict[str, str] = {}
    annealed: dict[str, dict[str, str]] = {}
    cluster: ClusterSpec = DEFAULT_CLUSTER

    @property
    def search(self) -> SearchSpec | None:
        """The search whose draws the runs are; None if there is none."""
        return self.declared.search

    def with_runs(self, runs: Sequence[RunSpec]) -> ExperimentSpec:
        """Return the same experiment with other runs: those of the second stage of a search too."""
        return self.model_copy(update={"runs": tuple(runs)})

    @property
    def variants(self) -> list[str]:
        """The names of the variants, in the file's order."""
        return list(dict.fromkeys(run.variant for run in self.runs))

    @property
    def seeds(self) -> list[int]:
        """The seeds, in the file's order."""
        return list(dict.fromkeys(run.seed for run in self.runs))


def condition_kind(settings: RunSettings, data: DataFacts) -> Literal["nothing", "class", "image"]:
    """Return what G is given besides its latents."""
    if settings.condition == "none":
        return "nothing"
    return "image" if data.input else "class"


def final_measurement(evaluate: EvaluateSpec) -> FinalMeasurement:
    """Return what is measured after the last step."""
    return measurement_of(evaluate.final or evaluate)


def measurement_of(plan: EvaluateSpec) -> FinalMeasurement:
    """Return what is measured by the metrics of a plan, on its number of samples."""
    entries = [registry.METRICS[name] for name in plan.metrics]
    sha256 = plan.reference.sha256 if plan.reference else ""
    return FinalMeasurement(
        samples=plan.samples,
        scores=tuple(score for entry in entries for score in registry.scores_of(entry)),
        references={score: statistics_name(sha256) for entry in entries
                    if sha256 and entry.facts.gaussian for score in registry.scores_of(entry)},
        codes=_codes(plan.metrics), definitions=_definitions(plan.metrics, plan.reference))


def _codes(metrics: Sequence[str]) -> dict[str, str]:
    """Return the hash of the code behind each score of third-party metrics and extractors."""
    entries = [registry.METRICS[name] for name in metrics]
    return {score: code for entry in entries if (code := registry.code_of(entry))
            for score in registry.scores_of(entry)}


def _definitions(metrics: Sequence[str], reference: ReferenceSpec | None) -> dict[str, str]:
    """Return the digest of the definition of each score."""
    entries = [registry.METRICS[name] for name in metrics]
    has_statistics = reference is not None and bool(reference.sha256)
    return {score: definition_of(entry, score, has_statistics) for entry in entries
            for score in registry.scores_of(entry)}


def data_facts(dataset: Part, data_root: Path) -> DataFacts:
    """Return the facts of a data set, read from its registration or from its folder's listing.

    Raises:
        UserError: A folder or archive does not exist, or is empty.
    """
    return registry.DATASETS[dataset.name].facts.describe(data_root, **dataset.args)


def describe_shape(shape: tuple[int, ...]) -> str:
    """Return `1×28×28 images` or `2-vectors`."""
    return "×".join(map(str, shape)) + " images" if len(shape) == 3 else f"{shape[0]}-vectors"
