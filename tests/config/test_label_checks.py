"""Labels in an experiment's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from gan_bench.config.experiment import load_experiment
from gan_bench.errors import SpecError

STUDY = """\
name: tiny
dataset: {name: digits, image_size: 16}
seeds: [0, 1]
base: {model: {name: mlp, width: 16}, batch_size: 32, steps: 5, log_every: 1}
variants: {plain: {}, sat: {loss: saturating}}
evaluate: {metrics: [fd_random]}
curve_means: {late_loss: {of: train/d_loss, steps: [1, 5]}}
base_line
"""


def file_with(folder: Path, labels: str) -> Path:
    file = folder / "tiny.yaml"
    file.write_text(STUDY.replace("base_line", labels))
    return file


def test_labels_are_declared_and_in_no_id(tmp_path: Path) -> None:
    plain = load_experiment(file_with(tmp_path, ""), tmp_path)
    labels = ('labels: {sat: "DCGAN (ours)", fd_random: "FD ×10", late_loss: "D\'s loss",\n'
              '  kid: KID}')
    named = load_experiment(file_with(tmp_path, labels), tmp_path)
    assert [run.id for run in named.runs] == [run.id for run in plain.runs]
    assert [run.variant for run in named.runs] == [run.variant for run in plain.runs]
    assert named.declared.label("sat") == "DCGAN (ours)"
    assert named.declared.label("late_loss") == "D's loss"
    assert named.declared.label("plain") == "plain"
    assert plain.declared.labels == {}


@pytest.mark.parametrize(("labels", "place", "message"), [
    ("labels:\n  sta: Ours", "9:3: labels.sta:", "no variant and no score is called 'sta'; did you "
                                                 "mean 'sat'?"),
    ("labels:\n  sat: Ours\n  plain: Ours", "9:3: labels.sat:", "'Ours' would stand for plain too"),
    ("labels:\n  sat: plain\n  plain: sat", "9:3: labels.sat:",
     "'plain' would stand for plain too"),
    ("labels:\n  sat: plain", "9:3: labels.sat:", "'plain' would stand for plain too"),
    ("labels:\n  sat: ''", "9:3: labels.sat:", ""),
    ("labels:\n  sat: \"two\\nlines\"", "9:3: labels.sat:", ""),
    ("labels:\n  sat: 3", "9:3: labels.sat:", "must be text"),
])
def test_wrong_labels_are_refused_at_their_place(tmp_path: Path, labels: str, place: str,
                                                 message: str) -> None:
    with pytest.raises(SpecError) as error:
        load_experiment(file_with(tmp_path, labels), tmp_path)
    assert any(f"tiny.yaml:{place}" in line and message in line for line in error.value.lines)
