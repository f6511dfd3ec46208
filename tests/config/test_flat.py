"""Settings as flat text, and which of them differ."""

from __future__ import annotations

from pathlib import Path

from helpers.runs import write_experiment

from gan_bench.config.experiment import load_experiment
from gan_bench.config.flat import flat_settings, varied_settings

SPEC = {"experiment": "e", "variant": "v", "seed": 1, "log_every": 5, "evaluate": {"samples": 9},
        "loss": {"name": "lsgan", "args": {"target": 0.9}}, "ema": None,
        "penalties": [{"name": "r1", "args": {"gamma": 10}}], "compute": {"device": "cpu"}}


def test_settings_are_flat_text_without_names_and_records() -> None:
    assert flat_settings(SPEC) == {
        "seed": "1", "loss": "lsgan", "loss.target": "0.9", "ema": "null", "penalties": "r1",
        "penalties.r1.gamma": "10", "compute.device": "cpu"}
    assert flat_settings({"penalties": []}) == {"penalties": "none"}


def test_what_one_run_lacks_differs_too() -> None:
    other = {**SPEC, "seed": 2, "loss": {"name": "hinge", "args": {}}, "variant": "w"}
    assert varied_settings([SPEC, other]) == ("loss", "loss.target", "seed")
    assert varied_settings([SPEC, {**SPEC, "variant": "w"}]) == varied_settings([SPEC]) == ()


def test_an_experiment_declares_in_what_its_runs_differ(tmp_path: Path) -> None:
    file = write_experiment(tmp_path)
    assert load_experiment(file, tmp_path).declared.varied == ("loss", "seed")
    lone = load_experiment(file, tmp_path, ["seeds=[0]"])
    assert lone.declared.varied == ("loss",)
