"""The section `cluster` of an experiment: closed, checked with its place, and in no run's id."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.runs import DIGITS, write_experiment

from gan_bench.config.cluster import ClusterSpec, seconds_of
from gan_bench.config.experiment import load_experiment
from gan_bench.config.spec import ExperimentSpec
from gan_bench.errors import SpecError


def load(folder: Path, section: str) -> ExperimentSpec:
    return load_experiment(write_experiment(folder, f"{DIGITS}cluster: {{{section}}}\n"), folder)


@pytest.mark.parametrize(("text", "seconds"), [
    ("90", 5400), ("90:30", 5430), ("4:00:00", 14400), ("2-12", 216_000), ("1-0:30", 88_200),
    ("1-0:0:5", 86_405), ("0:30", 30)])
def test_a_time_limit_is_read_as_slurm_reads_it(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds
    assert ClusterSpec.model_validate({"time": text}).time == text


def test_a_section_is_read_as_it_is_written_and_changes_no_id(tmp_path: Path) -> None:
    cluster = load(tmp_path, "partition: gpu, time: 4:00:00, gpus: 1, cpus: 4, workers: 20, "
                             "options: ['--exclude=n17'], setup: [module load cuda]").cluster
    assert cluster == ClusterSpec(
        partition="gpu", account=None, time="4:00:00", gpus="1", cpus=4, constraint=None,
        workers=20, options=["--exclude=n17"], setup=["module load cuda"])
    assert load(tmp_path, "time: 90, gpus: a100:2").cluster.time == "90"
    without = load_experiment(write_experiment(tmp_path), tmp_path)
    assert without.cluster == ClusterSpec.model_validate({})
    assert [run.id for run in load(tmp_path, "workers: 3").runs] == [run.id for run in without.runs]


@pytest.mark.parametrize(("section", "key", "says"), [
    ("time: soon", "time", "a time limit is minutes, hours:minutes:seconds or days-hours, such as"),
    ("time: 0", "time", "a time limit is"),
    ("time: 1:2:3:4", "time", "a time limit is"),
    ("time: -5", "time", "a time limit is"),
    ("gpus: -1", "gpus", "a number of GPUs, or a type and a number such as a100:1, not -1"),
    ("gpus: many", "gpus", "a number of GPUs"),
    ("workers: 0", "workers", "1"),
    ("partition: 'gpu --wrap=x'", "partition", "pattern"),
    ("partition: \"gpu\\nrm\"", "partition", "pattern"),
    ("options: [\"--x\\nrm\"]", "options.0", "pattern"),
    ("options: ['rm']", "options.0", "pattern"),
    ("setup: [\"a\\nb\"]", "setup.0", "pattern"),
    ("gpu: 1", "gpu", "gpus"),
])
def test_what_is_wrong_is_said_at_its_place(tmp_path: Path, section: str, key: str, says: str,
                                            ) -> None:
    with pytest.raises(SpecError) as caught:
        load(tmp_path, section)
    line, = str(caught.value).splitlines()
    place, _, problem = line.partition(f": cluster.{key}: ")
    assert place.startswith(f"{tmp_path / 'tiny.yaml'}:{DIGITS.count(chr(10)) + 1}:"), line
    assert says in problem
