"""What a run is: the specification, its checks, and the id that stands for all of it.

Frozen, closed models: an unknown key is an error. No torch here.
"""

from __future__ import annotations

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
from gan_bench.config.declared import Declared
from gan_bench.config.run_id import digest_of, identifying_settings
from gan_bench.data_facts import DataFacts
from gan_bench.errors import UserError, shown
from gan_bench.registry import Part

Model = Annotated[Part, BeforeValidator(registry.MODELS.parse), WithJsonSchema({"kind": "MODELS"})]
Loss = Annotated[Part, BeforeValidator(registry.LOSSES.parse), WithJsonSchema({"kind": "LOSSES"})]
Penalty = Annotated[Part, BeforeValidator(registry.PENALTIES.parse),
                    WithJsonSchema({"kind": "PENALTIES"})]
Optimizer = Annotated[Part, BeforeValidator(registry.OPTIMIZERS.parse),
                      WithJsonSchema({"kind": "OPTIMIZERS"})]
Data = Annotated[Part, BeforeValidator(registry.DATASETS.parse),
                 WithJsonSchema({"kind": "DATASETS"})]
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Closed(BaseModel):
    """A frozen model that takes no unknown key and turns no string into a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class EvaluateSpec(Closed):
    """How often a run is measured, on how many samples, and by which metrics."""

    every: Positive | None = Field(
        None, description="measure every so many G steps; null: at the end only")
    samples: Annotated[int, Field(ge=2)] = Field(
        2000, description="number of generated samples per measurement")
    metrics: list[str] = Field(
        ["d_accuracy", "nearest_train_mse"], description="names of `gan-bench list metrics`")
    final_samples: Annotated[int, Field(ge=2)] | None = Field(
        None, description="generated samples after the last step; null: as many as `samples`")
    final_metrics: list[str] | None = Field(
        None, description="metrics after the last step; null: the same as `metrics`")
    latent_sets: Annotated[int, Field(ge=1, le=100)] = Field(
        1, description="on how many sets of latents the measurement after the last step is made; "
        "the score is that of the first, and the others tell sampling noise from that of seeds")

    @field_validator("metrics", "final_metrics")
    @classmethod
    def _known(cls, names: list[str] | None) -> list[str] | None:
        for name in names or []:
            registry.METRICS[name]
        if len(set(names or [])) < len(names or []):
            raise ValueError("a metric is named twice")
        return names

    @property
    def final(self) -> EvaluateSpec | None:
        """The measurement after the last step, if it is another than those during training."""
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


def _pack(given: object) -> object:
    """Refuse in one line what is neither of the two that `pack` may be."""
    if given != "auto" and (type(given) is not int or given < 1):
        raise ValueError(f"a number of runs, at least 1, or auto, not {shown(given)}")
    return given


class ComputeSpec(Closed):
    """What the numbers are computed with."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: cuda where there is one")
    threads: Positive = Field(
        1, description="CPU threads of a run; its numbers depend on it, so it is part of the id")
    deterministic: bool = Field(
        True, description="only algorithms that give the same bits every time")
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = Field(
        "float32", description="what products are computed in while training, where weights "
        "stay float32; auto: bfloat16 where the hardware multiplies it faster")
    graphs: bool = Field(
        True, description="launch a step on a GPU as one CUDA graph: the same numbers, sooner")
    pack: Annotated[Positive | Literal["auto"], BeforeValidator(_pack)] = Field(
        "auto", description="runs that share a GPU and a process, each as if alone; auto: 8, or as "
        "many as have room. On the CPU each run has a process of its own")


class RunSettings(Closed):
    """The keys of a run that `base`, `variants` and `matrix` may set."""

    model: Model
    loss: Loss = Field("non_saturating", validate_default=True)
    condition: Literal["none", "concat", "projection"] = Field(
        "none", description="how D is told the labels, if it is; G gets them with its latents")
    penalties: list[Penalty] = Field(
        [], description="what keeps D in bounds: names of `gan-bench list penalties`")
    g_optimizer: Optimizer = Field("adam", validate_default=True)
    d_optimizer: Optimizer = Field("adam", validate_default=True)
    batch_size: Annotated[int, Field(ge=2)] = 64
    steps: Positive | None = Field(
        None, description="number of steps, each of `d_steps` updates of D and `g_steps` of G; or "
        "give `epochs`")
    epochs: Positive | None = Field(
        None, description="passes of D over the training set, last partial batches dropped")
    order: Literal["d_first", "g_first"] = Field(
        "d_first", description="whose update comes first within a step")
    share_fakes: bool = Field(
        False, description="whether D's step uses the G step's fake batch, or a fresh one")
    d_loss_reduction: Literal["mean", "sum"] = Field(
        "mean", description="mean or sum of D's real and fake term")
    d_steps: Positive = Field(1, description="D updates per step")
    g_steps: Positive = Field(1, description="G updates per step")
    joint_weight: Annotated[float, Field(ge=0)] = Field(
        0.0, description="joint phase of symmetric-KL training: so many times G's gradient on a "
        "second batch of fakes is added to that on the first; 0: none")
    latents: Literal["normal", "uniform"] = Field(
        "normal", description="what latents are drawn from: N(0, 1), or uniform in -1..1")
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="decay of G's weight average, which is then what is measured; null: none")
    log_every: Positive = 50
    sample_every: Positive | None = Field(
        None, description="save a sample grid every so many steps; null: at the end only")

    @field_validator("penalties")
    @classmethod
    def _once(cls, penalties: list[Part]) -> list[Part]:
        names = [penalty.name for penalty in penalties]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"{twice} is named twice")
        return penalties


class RunSpec(RunSettings):
    """One run, complete: nothing that can change a number is left to a default elsewhere.

    Attributes:
        experiment: The name of the study.
        variant: The name of all but the seed.
        seed: What all random numbers of the run derive from.
        dataset: Which data set, with its arguments.
        data: What is known of it.
        steps: The number of steps; epochs have been turned into steps.
        epochs: None.
        evaluate: What is measured, and when.
        compute: What the numbers are computed with.
    """

    experiment: str
    variant: str
    seed: Seed
    dataset: Data
    data: DataFacts
    steps: Positive
    epochs: None = None
    evaluate: EvaluateSpec
    compute: ComputeSpec

    @cached_property
    def id(self) -> str:
        """sha256 of the canonical JSON of all that can change a number: 12 hex digits.

        Names are left out, for they change none; so is the device, which `auto` may choose anew
        (it is recorded in the journal), and the facts that follow from the digest.
        """
        return digest_of({**self._settings, "seed": self.seed})

    @property
    def settings(self) -> str:
        """What stands for all that can change a number, but the seed: 12 hex digits."""
        return digest_of(self._settings)

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return identifying_settings(self.model_dump(mode="json"))

    def with_seed(self, seed: int) -> RunSpec:
        """Return the same variant under another seed; `seed` has been checked."""
        copy = self.model_copy(update={"seed": seed})
        copy.__dict__.pop("id", None)
        copy.__dict__["_settings"] = self._settings
        return copy

    def folder(self, root: Path) -> Path:
        """Return where the run leaves what it makes: `<root>/runs/<experiment>/<id>`."""
        return root / "runs" / self.experiment / self.id

    def write(self, root: Path) -> Path:
        """Make the run's folder, write `spec.json` there, and return the folder."""
        folder = self.folder(root)
        folder.mkdir(parents=True, exist_ok=True)
        if folder.is_symlink():
            raise UserError(f"{folder}: is a link; remove it: what a run makes stays in the root")
        with replacing(folder / "spec.json") as temporary:
            temporary.write_text(self.model_dump_json(indent=1) + "\n")
        return folder


class ExperimentSpec(Closed):
    """A study: a question, and the runs that answer it, ordered by variant, then seed.

    Attributes:
        name: Names the folder and the MLflow experiment.
        declared: What a comparison of the runs must know besides them.
        runs: One for each variant and seed.
        recipes: By variant, the recipe that it is based on, if it is on one.
    """

    name: str
    declared: Declared
    runs: tuple[RunSpec, ...]
    recipes: dict[str, str] = {}

    @property
    def variants(self) -> list[str]:
        """The names of the variants, in the file's order."""
        return list(dict.fromkeys(run.variant for run in self.runs))

    @property
    def seeds(self) -> list[int]:
        """The seeds, in the file's order."""
        return list(dict.fromkeys(run.seed for run in self.runs))


def data_facts(dataset: Part, data_root: Path) -> DataFacts:
    """Return the facts of a data set, read from its registration or from its folder's listing.

    Raises:
        UserError: A folder or archive is not there, or is empty.
    """
    return registry.DATASETS[dataset.name].facts.describe(data_root, **dataset.args)


def describe_shape(shape: tuple[int, ...]) -> str:
    """Return `1×28×28 images` or `2-vectors`."""
    return "×".join(map(str, shape)) + " images" if len(shape) == 3 else f"{shape[0]}-vectors"
