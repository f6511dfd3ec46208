"""What defines a score, by its protocol and by the registry alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gan_bench.components import data as datasets
from gan_bench.config.score_definition import OF_MEASUREMENT, definition_digest, definition_of
from gan_bench.config.spec import EvaluateSpec, ReferenceSpec, measurement_of
from gan_bench.evaluation.scorer import Scorer
from gan_bench.registry import DATASETS, METRICS, scores_of

DOWNLOADED = ("inception", "dinov2")


@pytest.mark.parametrize("dataset", [
    {"name": "digits", "image_size": 8}, {"name": "gaussians", "kind": "ring", "samples": 500}])
def test_the_registry_says_what_protocols_will_say(dataset: dict[str, object], tmp_path: Path,
                                                   ) -> None:
    part = DATASETS.parse(dataset)
    datasets.prepare_data(part, tmp_path, tmp_path)
    data = datasets.load(part, tmp_path, tmp_path, "cpu")
    entries = [entry for entry in METRICS if entry.facts.refuses(data.facts) is None
               and not entry.facts.extractor.startswith(DOWNLOADED)]
    assert len(entries) > 5
    how = {"generator": "ema", "quantisation": "x", "latents": "y", "ema_statistics": "copied"}
    protocols = json.loads(json.dumps(
        Scorer(entries, 6000, part, data, tmp_path).protocol(**how)))
    plan = EvaluateSpec(metrics=[entry.name for entry in entries])
    assert measurement_of(plan).definitions == {
        name: definition_digest(protocol) for name, protocol in protocols.items()}


def test_given_statistics_stand_for_the_split_of_frechet_distances_alone() -> None:
    plan = EvaluateSpec(metrics=["fd_random", "kd_random"])
    given = plan.model_copy(update={"reference": ReferenceSpec(statistics="x", sha256="ab" * 32)})
    without, with_statistics = (measurement_of(each).definitions for each in (plan, given))
    protocol = {"extractor": "random", "split": None, "weights": "w", "data": "statistics ab"}
    assert with_statistics["fd_random"] == definition_digest(protocol) != without["fd_random"]
    assert with_statistics["kd_random"] == without["kd_random"]


@pytest.mark.parametrize("key", sorted(OF_MEASUREMENT))
def test_a_single_measurement_is_no_part_of_the_definition(key: str) -> None:
    protocol = {"extractor": "random", "sizes": (1, 2)}
    assert definition_digest({**protocol, key: "new"}) == definition_digest(protocol)


def test_what_changes_the_score_is_part_of_it() -> None:
    protocol = {"extractor": "random", "sizes": (1, 2), "split": None}
    digest = definition_digest(protocol)
    assert digest == definition_digest({"sizes": [1, 2], "extractor": "random"})
    for key, value in (("sizes", (1, 3)), ("extractor", "x"), ("split", "test"), ("ratio", "y")):
        assert definition_digest({**protocol, key: value}) != digest


def test_each_score_of_a_metric_has_its_definition() -> None:
    entry = METRICS["memorisation"]
    ratio, authpct = (definition_of(entry, score, False) for score in scores_of(entry))
    assert ratio != authpct
