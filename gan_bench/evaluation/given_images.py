"""Scores of images, or vectors, that another program generated."""

from __future__ import annotations

from pathlib import Path

import torch

from gan_bench.config.spec import data_facts
from gan_bench.data_facts import DataFacts
from gan_bench.errors import Say, UserError
from gan_bench.evaluation.external_images import read_images
from gan_bench.evaluation.measurement import (
    Measurement,
    Report,
    Side,
    Wanted,
    has_split,
    measure,
    prepare_scorer,
    refuse_metrics_of_labels,
    refuse_metrics_of_pairs,
)
from gan_bench.journal.layout import Workspace
from gan_bench.registry import METRICS

# They need no download and no discriminator.
DEFAULT_METRICS = ("fd_classifier", "kd_classifier", "precision_classifier", "recall_classifier",
                   "classifier_score", "fd_random", "nearest_train_mse", "high_quality",
                   "modes_covered")


def measure_images(path: Path, wanted: Wanted, workspace: Workspace, say: Say) -> Report:
    """Measure images that `external_images.read_images` reads, or vectors.

    Raises:
        UserError: No data set is named; the images cannot be read, or have another shape than the
            data; a metric does not apply.
    """
    if wanted.data_set is None:
        raise UserError(f"{path}: no data set to measure it against; give --dataset or "
                        f"--experiment")
    facts = data_facts(wanted.data_set, workspace.data_root)
    names = wanted.metrics or default_metrics(facts, wanted.split)
    refuse_metrics_of_labels(names, "images have no labels")
    refuse_metrics_of_pairs(names, "images in files have no inputs")
    images = read_images(path, facts.shape, wanted.samples, wanted.resize)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    scorer = prepare_scorer(Measurement(wanted.data_set, names, len(images.samples), facts.shape,
                                        wanted.split, wanted.statistics), workspace, device, say)
    how: dict[str, object] = {"generator": "given", "quantisation": images.quantisation,
                              "latents": None}
    if images.resized:
        how["resized"] = images.resized
    return measure(str(path), scorer, images.samples.to(device), how)


def default_metrics(facts: DataFacts, split: Side) -> list[str]:
    """Return the default metrics that apply to the data and, if a split is named, to any split."""
    entries = [METRICS[name] for name in DEFAULT_METRICS
               if not METRICS[name].facts.refuses(facts)]
    return [entry.name for entry in entries
            if not (entry.facts.extractor == "random" and facts.classes)
            and (split is None or has_split(entry))]
