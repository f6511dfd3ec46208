"""A run's id: what it is made of, and what leaves it as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.runs import a_run

from gan_bench.config.renumbered import renumbered
from gan_bench.config.run_id import (
    LATER_DEFAULTS,
    id_of,
    older_id,
    settings_digest,
)
from gan_bench.config.spec import RunSpec
from gan_bench.data_facts import DataFacts
from gan_bench.journal.spec_file import read_spec, read_values

AS_BEFORE = ("base.ema=0.3", "base.ema_ramp=null", "base.ema_statistics=copied")


@pytest.mark.parametrize("key", LATER_DEFAULTS)
def test_a_key_that_is_younger_than_some_ids_has_that_default(tmp_path: Path, key: str) -> None:
    """Else a file that does not name it would make other runs than it made."""
    run = a_run(tmp_path, "base.model=dcgan", *AS_BEFORE).model_dump(mode="json")
    section, _, name = key.rpartition(".")
    below = run[section] if section else run
    below = below.get("args", below)
    assert below[name] == LATER_DEFAULTS[key]
    before, older = id_of(run), older_id(run)
    below[name] = "another"
    assert older_id(run) != older
    assert (id_of(run) == before) == (section == "evaluate")
    del below[name]
    assert (id_of(run), older_id(run)) == (before, older)


@pytest.mark.parametrize("setting", [
    "evaluate.every=2", "evaluate.samples=60", "evaluate.metrics=[d_accuracy]",
    "evaluate.final_samples=70", "evaluate.final_metrics=[]", "evaluate.latent_sets=2",
    "base.log_every=1", "base.sample_every=1", "name=other"])
def test_what_is_measured_and_recorded_leaves_the_id(tmp_path: Path, setting: str) -> None:
    run, other = a_run(tmp_path), a_run(tmp_path, setting)
    assert other != run
    assert (other.id, other.settings) == (run.id, run.settings)


def test_ids_of_before_are_those_that_gan_bench_gave(tmp_path: Path) -> None:
    """The value is of commit 732fb2c; `plan` knows runs of then by it."""
    values = a_run(tmp_path).model_dump(mode="json")
    assert older_id(values) == "5ee1a86249ee"
    assert id_of(values) == a_run(tmp_path).id != "5ee1a86249ee"


def write_older(run: RunSpec, root: Path) -> Path:
    """Write the `spec.json` of a run before NUMERICS 4, and return its folder."""
    values = run.model_dump(mode="json")
    for key in ("ema_ramp", "ema_statistics", "numerics"):
        values.pop(key, None)
    folder = root / "runs" / run.experiment / id_of(values)
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize(("settings", "stays"), [
    ([], True),
    (["base.ema=0.3"], False),
    ([*AS_BEFORE], True),
    ([*AS_BEFORE[:2]], False),
    ([AS_BEFORE[0], AS_BEFORE[2]], False),
    (["base.penalties=[r1]"], False),
    (["base.penalties=[{name: dragan, every: 2}]", "base.loss=hinge"], False),
    (["base.penalties=[r1]", "base.d_loss_reduction=sum"], True),
    (["base.penalties=[r1]", "base.loss=relativistic_pairing"], True),
    (["base.penalties=[spectral_norm, instance_noise]"], True),
    (["base.penalties=[spectral_norm]", "base.condition=concat"], False),
    (["base.penalties=[spectral_norm]", "base.condition=projection"], True),
    (["base.condition=concat"], True),
], ids=str)
def test_runs_whose_numbers_changed_have_other_ids(tmp_path: Path, settings: list[str],
                                                   stays: bool) -> None:
    """An older run with other numbers does not count as done, and is readable as what it was."""
    run = a_run(tmp_path, "evaluate.metrics=[nearest_train_mse]", "variants={plain: }", *settings)
    folder = write_older(run, tmp_path)
    assert (run.id == folder.name) == stays
    assert (settings_digest(read_values(folder)) == run.settings) == stays
    older = read_spec(folder)
    assert older.id == folder.name
    assert run.write(tmp_path) == run.folder(tmp_path)
    assert read_spec(run.folder(tmp_path)) == run
    assert read_values(run.folder(tmp_path))["variant"] == "plain"
    if older.ema is not None:
        assert (older.ema_ramp, older.ema_statistics) == (None, "copied")


def test_labels_of_vectors_have_no_planes(tmp_path: Path) -> None:
    """They are appended as a one-hot vector, which spectral norm never bounded."""
    run = a_run(tmp_path, "base.penalties=[spectral_norm]", "base.condition=concat",
                "evaluate.metrics=[nearest_train_mse]")
    points = DataFacts((2,), 8, 100, 100, "digest")
    assert (renumbered(run, run.data), renumbered(run, points)) == (4, None)


def test_the_targets_of_pairs_have_the_defaults_of_data_sets(tmp_path: Path) -> None:
    """A `train: null` of theirs is in no id, and a number is."""
    runs = [a_run(tmp_path, "dataset={name: pairs, of: {name: digits, image_size: 16"
                  f"{train}}}, input: inverted}}", "variants={}", "base.model={name: unet, "
                  "width: 8, d_width: 8, d_layers: 2}", "base.condition=concat",
                  "evaluate.metrics=[l1]", "evaluate.samples=50")
            for train in ("", ", train: null", ", train: 200")]
    assert runs[0].id == runs[1].id != runs[2].id
    values = runs[0].model_dump(mode="json")
    del values["dataset"]["args"]["of"]["train"]
    assert id_of(values) == runs[0].id
