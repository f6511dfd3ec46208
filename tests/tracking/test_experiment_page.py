"""The prepared view and the description of an experiment, without a browser."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gan_bench.config.declared import TAG_LIMIT, Declared, FinalMeasurement
from gan_bench.journal.layout import Workspace
from gan_bench.tracking.pages.experiment_page import (
    KEY,
    NOTE,
    WRITTEN,
    description,
    page_path,
    view_of,
    write_description,
)
from gan_bench.tracking.store.client import Store, open_store

SCORES = ("d_accuracy", "fd_classifier", "classifier_score")
DECLARED = Declared(variants=("a", "b"), final=FinalMeasurement(scores=SCORES, samples=100))
DURING: dict[str, Any] = {"every": 10, "samples": 100, "metrics": ["fd_classifier"],
                          "final_samples": None, "final_metrics": None}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("page")
    return open_store(Workspace(root, tracking_uri=f"sqlite:///{root / 'mlflow.db'}"))


def test_a_view_has_a_group_per_variant_and_the_leading_score_in_order() -> None:
    view = json.loads(view_of(DECLARED, DURING))
    assert view["groupBy"] == {"aggregateFunction": "average", "groupByKeys": [
        {"mode": "tag", "groupByData": "variant"}]}
    columns = [f"metrics.`eval/{score}`"
               for score in ("fd_classifier", "classifier_score", "d_accuracy")]
    assert view["selectedColumns"] == columns  # what decides nothing is last
    assert view["columnOrder"] == ["attributes.`Run Name`", *columns] == [*view["columnWidths"]]
    assert (view["orderByKey"], view["orderByAsc"]) == (columns[0], True)
    charts = view["compareRunCharts"]
    assert [chart["metricKey"] for chart in charts] == [
        "eval/fd_classifier", "eval/classifier_score", "eval/d_accuracy", "train/g_loss",
        "train/d_loss"]
    assert {chart["type"] for chart in charts} == {"LINE"}
    sections = [section["uuid"] for section in view["compareRunSections"]]
    assert sections == ["eval", "train"]
    assert {chart["metricSectionId"] for chart in charts} == {*sections}


def test_what_is_measured_after_training_alone_is_drawn_as_bars() -> None:
    final = json.loads(view_of(DECLARED, {**DURING, "final_samples": 500}))
    assert (final["orderByKey"], final["compareRunCharts"][0]["type"]) == (
        "metrics.`final/fd_classifier`", "BAR")
    single = json.loads(view_of(DECLARED, {**DURING, "every": None}))
    assert (single["orderByKey"], single["compareRunCharts"][0]["type"]) == (
        "metrics.`eval/fd_classifier`", "BAR")


def test_higher_is_better_first_and_no_direction_orders_nothing() -> None:
    def view(*scores: str) -> Any:
        final = FinalMeasurement(scores=scores, samples=100)
        return json.loads(view_of(Declared(final=final), DURING))

    assert view("classifier_score")["orderByAsc"] is False
    assert "orderByKey" not in view("d_accuracy")
    assert json.loads(view_of(Declared(), {}))["selectedColumns"] == []


@pytest.mark.parametrize("variants", [2, 60, 1000])
def test_a_view_of_many_scores_and_variants_fits(variants: int) -> None:
    final = FinalMeasurement(scores=tuple(f"score_{i}" for i in range(40)), samples=100)
    names = tuple(f"variant-{i}" for i in range(variants))
    text = view_of(Declared(variants=names, final=final), DURING)
    assert len(text) <= TAG_LIMIT
    assert json.loads(text)["groupBy"]


def test_the_address_names_the_view() -> None:
    assert page_path("7", is_prepared=True, as_charts=True) == (
        f"/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey={KEY}"
        f"&compareRunsMode=CHART")
    assert page_path("7", is_prepared=False) == (
        "/#/experiments/7/runs?workflowType=machine_learning")


def test_a_description_has_question_verdicts_report_and_command() -> None:
    declared = Declared(question="Which?", command="gan-bench run x.yaml")
    assert description(declared, ["fd (lower is better)", "a is better than b: p = 0.01"],
                       "The report: there.") == (
        "Which?\n\nBy fd (lower is better):\n\n- a is better than b: p = 0.01\n\n"
        "The report: there.\n\nTo repeat it:\n\n```\ngan-bench run x.yaml\n```")
    assert description(Declared()) == ""
    assert len(description(Declared(question="w" * 9000))) == TAG_LIMIT


def test_a_description_of_the_user_stays(store: Store) -> None:
    client = store.client
    number = client.create_experiment("described")

    def shown() -> str:
        return str(client.get_experiment(number).tags[NOTE])

    write_description(client, number, "first", "root", only_first=True)
    write_description(client, number, "not this", "root", only_first=True)
    assert shown() == "first"
    write_description(client, number, "second", "root")
    assert shown() == "second"
    client.set_experiment_tag(number, NOTE, "mine")
    write_description(client, number, "third", "root")
    assert shown() == "mine"
    client.set_experiment_tag(number, NOTE, "second")
    write_description(client, number, "of another root", "other")
    assert shown() == "second"
    client.set_experiment_tag(number, NOTE, "")
    write_description(client, number, "third", "root")
    assert shown() == "third"


def test_a_kill_between_the_two_tags_is_no_edit_of_the_user(store: Store) -> None:
    client = store.client
    number = client.create_experiment("killed")
    write_description(client, number, "first", "root")
    write_description(client, number, "second", "root")
    client.set_experiment_tag(number, NOTE, "first")  # as if it was killed before the text
    assert len(client.get_experiment(number).tags[WRITTEN].split()) == 2
    write_description(client, number, "second", "root")
    assert client.get_experiment(number).tags[NOTE] == "second"
