"""The top level of an experiment file, as it is written."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from gan_bench.config.cluster import DEFAULT_CLUSTER, ClusterSpec
from gan_bench.config.declared import Amount, CurveMean, Margin
from gan_bench.config.search.search import SearchSpec
from gan_bench.config.spec import Closed, ComputeSpec, Data, EvaluateSpec, Seed


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
    seeds: Annotated[list[Seed], Field(min_length=1)] | None = Field(
        None, description="every variant is trained once with each; required without `search`, "
        "whose stages have seeds of their own")
    base: dict[str, Any] = Field({}, description="what all variants share")
    variants: dict[Name, dict[str, Any] | None] = Field(
        {}, description="named overrides of `base`; crossed with `matrix` if both are given")
    matrix: dict[str, list[Any]] | None = Field(
        None, description="axes whose cross product gives the variants; also include and exclude")
    search: SearchSpec | None = Field(
        None, description="settings that are drawn at random for each variant; the best draws are "
        "confirmed under fresh seeds")
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

    @property
    def first_seeds(self) -> list[int]:
        """The seeds of the runs that are known from the file: those of the first stage."""
        return self.search.select.seeds if self.search is not None else self.seeds or []

    @property
    def compared_seeds(self) -> list[int]:
        """The seeds of the runs by which variants are compared: those of the last stage."""
        return self.search.confirm.seeds if self.search is not None else self.seeds or []
