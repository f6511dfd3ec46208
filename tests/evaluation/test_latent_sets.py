"""The final measurement on further sets of latents: it tells more, and changes nothing else."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers.journals import repeatable
from helpers.runs import a_run

from gan_bench import rng
from gan_bench.components import data as datasets
from gan_bench.components.models import build_networks
from gan_bench.config.spec import RunSpec
from gan_bench.errors import SpecError
from gan_bench.evaluation.evaluator import Evaluator, generate, latents
from gan_bench.evaluation.scorer import Scorer
from gan_bench.journal import reading
from gan_bench.journal.layout import Workspace
from gan_bench.journal.status import progress_of
from gan_bench.registry import METRICS
from gan_bench.report.study import load_results
from gan_bench.tracking.mirror import Mirror
from gan_bench.tracking.store.client import open_store
from gan_bench.training import run
from gan_bench.training.trained import load_generator

ONE, THREE = "evaluate.latent_sets=1", "evaluate.latent_sets=3"
FINAL = ("evaluate.final_samples=60", "evaluate.final_metrics=[nearest_train_mse]")
SCORES = ["d_accuracy_fake", "d_accuracy_real", "nearest_train_mse"]


@pytest.fixture(autouse=True)
def _no_tracking_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def trained(root: Path, *overrides: str) -> RunSpec:
    root.mkdir(exist_ok=True)
    spec = a_run(root, *overrides)
    run.datasets.prepare_data(spec.dataset, root, Workspace(root).cache)
    assert run.run_one(spec, root, root).status == "FINISHED"
    return spec


def test_sets_leave_the_id_and_their_number_is_checked(tmp_path: Path) -> None:
    plain = a_run(tmp_path)
    assert a_run(tmp_path, ONE).id == a_run(tmp_path, THREE).id == plain.id
    for wrong in ("0", "101", "1.5"):
        with pytest.raises(SpecError, match=r"evaluate\.latent_sets"):
            a_run(tmp_path, f"evaluate.latent_sets={wrong}")


def test_sets_differ_from_each_other_and_the_first_is_what_it_was(tmp_path: Path) -> None:
    spec = a_run(tmp_path, THREE)
    sets = [latents(spec, 50, None, k) for k in range(3)]
    before = torch.randn(50, sets[0].shape[1], generator=rng.generator(spec.seed, "evaluation"))
    assert torch.equal(sets[0], before)
    assert torch.equal(latents(spec, 50, None), before)
    other = latents(spec.with_seed(1), 50, None, 1)
    for i, one in enumerate(sets):
        for two in [*sets[i + 1:], other]:
            assert abs(torch.corrcoef(torch.stack([one.flatten(), two.flatten()]))[0, 1]) < 0.1
    assert torch.equal(latents(spec, 50, None, 2), sets[2])


def test_nothing_else_of_a_run_changes(tmp_path: Path) -> None:
    one, three = (trained(tmp_path / name, sets) for name, sets in (("one", ONE), ("three", THREE)))
    folders = one.folder(tmp_path / "one"), three.folder(tmp_path / "three")
    books = [repeatable(reading.read_records(folder)[0]) for folder in folders]
    digests = [book[-1].pop("recording") for book in books]
    assert digests == [book[0]["facts"].pop("recording") for book in books]
    assert digests == [one.recording, three.recording]
    assert len(set(digests)) == 2
    extra = [record for record in books[1] if any(name.startswith("again/")
                                                  for name in record.get("values", {}))]
    assert [record for record in books[1] if record not in extra] == books[0]
    assert [(record["step"], sorted(record["values"])) for record in extra] == [
        (6, sorted(f"again/{k}/{name}" for k in (1, 2) for name in SCORES))]
    assert folders[0].joinpath("final.safetensors").read_bytes() == folders[1].joinpath(
        "final.safetensors").read_bytes()
    scores = [progress_of(spec, tmp_path / name).scores
              for spec, name in ((one, "one"), (three, "three"))]
    assert scores[0] == scores[1]
    assert sorted(scores[0]) == SCORES


@pytest.mark.parametrize("final", [(), FINAL], ids=["one plan", "two plans"])
def test_each_is_the_final_measurement_on_its_latents(tmp_path: Path, final: tuple[str, ...],
                                                      ) -> None:
    spec = trained(tmp_path, THREE, *final)
    folder = spec.folder(tmp_path)
    values = {name: value for record in reading.read_records(folder)[0]
              for name, value in record.get("values", {}).items()}
    again = {name: value for name, value in values.items() if name.startswith("again/")}
    count = 60 if final else 50
    _, generator = load_generator(folder)
    data = datasets.load(spec.dataset, tmp_path, Workspace(tmp_path).cache, "cpu")
    scorer = Scorer([METRICS["nearest_train_mse"]], count, spec.dataset, data,
                    Workspace(tmp_path).cache)
    with torch.no_grad():
        expected = [scorer(generate(generator, latents(spec, count, None, k), "cpu"))[
            "nearest_train_mse"] for k in range(3)]
    assert len(set(expected)) == 3
    main = "final/nearest_train_mse" if final else "eval/nearest_train_mse"
    assert [values[main], *(again[f"again/{k}/nearest_train_mse"] for k in (1, 2))] == expected
    assert len(again) == (2 if final else 2 * len(SCORES))


def test_measuring_again_leaves_all_as_it_was(tmp_path: Path) -> None:
    spec = a_run(tmp_path, THREE, "base.model={name: dcgan, width: 8}")
    run.datasets.prepare_data(spec.dataset, tmp_path, Workspace(tmp_path).cache)
    data = datasets.load(spec.dataset, tmp_path, Workspace(tmp_path).cache, "cpu")
    evaluator = Evaluator(spec, data, Workspace(tmp_path).cache, "cpu")
    nets = build_networks(spec.model, spec.data.shape, spec.seed)
    before = {name: value.clone() for net in (nets.generator, nets.discriminator)
              for name, value in net.state_dict(prefix=f"{id(net)}.").items()}
    state = torch.get_rng_state()
    first = evaluator(nets.generator, nets.discriminator)
    scores = evaluator.again(nets.generator, nets.discriminator)
    assert evaluator(nets.generator, nets.discriminator) == first
    assert evaluator.again(nets.generator, nets.discriminator) == scores
    assert torch.equal(torch.get_rng_state(), state)
    assert nets.generator.training
    assert nets.discriminator.training
    for net in (nets.generator, nets.discriminator):
        for name, value in net.state_dict(prefix=f"{id(net)}.").items():
            assert torch.equal(value, before[name])


def test_a_resumed_run_measures_the_same(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", THREE)
    parts = tmp_path / "parts"
    parts.mkdir()
    spec = a_run(parts, THREE)
    run.datasets.prepare_data(spec.dataset, parts, Workspace(parts).cache)
    asked = iter([False, False, False, True])
    outcome = run.run_one(spec, parts, parts, stop=lambda: next(asked))
    assert (outcome.status, progress_of(spec, parts).state) == ("KILLED", "WAITING")
    assert run.run_one(spec, parts, parts).status == "FINISHED"
    books = [repeatable(reading.read_records(one.folder(root))[0])
             for one, root in ((whole, tmp_path / "whole"), (spec, parts))]
    assert books[0] == books[1]
    assert sum("again/1/nearest_train_mse" in r.get("values", {}) for r in books[1]) == 1


def test_mlflow_has_them_and_they_are_no_scores(tmp_path: Path) -> None:
    spec = trained(tmp_path, THREE)
    Mirror(open_store(Workspace(tmp_path))).sync(spec.folder(tmp_path))
    found = load_results("tiny", root=tmp_path)
    names = pd.Index(found.history["metric"].unique())
    assert sorted(names[names.str.startswith("again/")]) == sorted(
        f"again/{k}/{name}" for k in (1, 2) for name in SCORES)
    assert sorted(found.scores) == SCORES
    last = found.history[found.history["metric"] == "eval/nearest_train_mse"]["value"].iloc[-1]
    assert found.runs["score.nearest_train_mse"].iloc[0] == last
    assert not [column for column in found.runs if "again" in column]
