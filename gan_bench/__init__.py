"""Compare GAN variants over fixed seeds, with honest statistics, tracked in MLflow.

From Python: read an experiment, train one of its runs in this process, read the tracked results.

    import gan_bench

    spec = gan_bench.load_experiment("experiments/dcgan_vs_mlp.yaml", data_root="data")
    gan_bench.prepare(spec, root="mlruns", data_root="data", say=print)
    outcome = gan_bench.run_one(spec.runs[0], root="mlruns", data_root="data")
    results = gan_bench.load_results("dcgan_vs_mlp")  # two frames of pandas, from MLflow
    results.table()  # every variant under every score; a notebook shows `results` itself so
    results.plot()  # the leading score as a figure; plot("fid", "curves") for others
    results.samples()  # of every variant and seed

`gan_bench.figures` holds all figures of a report, each a function of results, and `save`.

Names are imported at their first use, so that `import gan_bench` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan_bench.compare.results import Results
    from gan_bench.config.experiment import load_experiment
    from gan_bench.config.spec import ExperimentSpec, RunSpec
    from gan_bench.errors import SpecError, UserError
    from gan_bench.journal.status import Outcome
    from gan_bench.registry import (
        AUGMENTATIONS,
        DATASETS,
        LOSSES,
        METRICS,
        MODELS,
        OPTIMIZERS,
        PENALTIES,
        Part,
    )
    from gan_bench.report import figures
    from gan_bench.report.study import load_results
    from gan_bench.training.run import prepare, run_one
    from gan_bench.training.trained import draw, load_generator

    __version__: str

_HOMES = {
    "Results": "compare.results", "load_results": "report.study", "figures": "report.figures",
    "SpecError": "errors", "UserError": "errors",
    "load_experiment": "config.experiment",
    "Outcome": "journal.status",
    "AUGMENTATIONS": "registry", "DATASETS": "registry", "LOSSES": "registry",
    "METRICS": "registry", "MODELS": "registry", "OPTIMIZERS": "registry",
    "PENALTIES": "registry", "Part": "registry",
    "prepare": "training.run", "run_one": "training.run",
    "draw": "training.trained", "load_generator": "training.trained",
    "ExperimentSpec": "config.spec", "RunSpec": "config.spec",
}

__all__ = [
    "AUGMENTATIONS", "DATASETS", "LOSSES", "METRICS", "MODELS", "OPTIMIZERS", "PENALTIES",
    "ExperimentSpec", "Outcome", "Part",
    "Results", "RunSpec", "SpecError", "UserError", "draw", "figures", "load_experiment",
    "load_generator", "load_results", "prepare", "run_one",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _HOMES:
        raise AttributeError(f"module 'gan_bench' has no attribute {name!r}")
    home = importlib.import_module(f"gan_bench.{_HOMES[name]}")
    return home if _HOMES[name].endswith(f".{name}") else getattr(home, name)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("gan_bench")
    except PackageNotFoundError:  # the folder is on the path, and not installed
        return "unknown"
