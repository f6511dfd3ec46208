"""Runs that start from given weights: which, where they lie, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import left
from helpers.runs import DIGITS, write_experiment
from safetensors.torch import load_file, save_file

from gan_bench.config.differences import variant_differences
from gan_bench.config.experiment import load_experiment
from gan_bench.config.spec import ExperimentSpec, RunSpec
from gan_bench.errors import SpecError, UserError
from gan_bench.journal import reading
from gan_bench.journal.layout import WEIGHTS
from gan_bench.journal.spec_file import read_spec
from gan_bench.training.run import prepare, run_one

ONE = ("seeds=[0]", "variants={plain: null}")


def study(folder: Path, *overrides: str) -> ExperimentSpec:
    """Return the experiment of one run, in a folder that is its root too."""
    return load_experiment(write_experiment(folder), folder, [*ONE, *overrides], root=folder)


def trained(folder: Path, *overrides: str) -> RunSpec:
    """Return a run that is finished."""
    experiment = study(folder, *overrides)
    prepare(experiment, folder, folder, lambda line: None)
    assert run_one(experiment.runs[0], folder, folder).status == "FINISHED"
    return experiment.runs[0]


def grid(spec: RunSpec, root: Path, step: int) -> bytes:
    return (spec.folder(root) / f"samples/samples-{step:07d}.png").read_bytes()


def d_losses(spec: RunSpec, root: Path) -> list[float]:
    return [record["values"]["train/d_loss"]
            for record in reading.read_records(spec.folder(root))[0]
            if "train/d_loss" in record.get("values", {})]


@pytest.mark.parametrize("average", [(), ("base.ema=0.9", "base.ema_statistics=copied")],
                         ids=["raw", "average"])
def test_it_begins_where_the_weights_are(tmp_path: Path, average: tuple[str, ...]) -> None:
    first = trained(tmp_path)
    second = trained(tmp_path, f"base.init.run='{first.id[:6]}'", *average)
    assert grid(second, tmp_path, 0) == grid(first, tmp_path, first.steps)
    assert grid(second, tmp_path, second.steps) != grid(second, tmp_path, 0)
    assert read_spec(second.folder(tmp_path)) == second
    assert second.init is not None
    assert (second.init.run, str(second.init)) == (first.id, f"run {first.id}")


def test_only_the_networks_that_are_named_start_from_them(tmp_path: Path) -> None:
    first = trained(tmp_path)
    alone = {network: trained(tmp_path, f"base.init={{run: '{first.id}', networks: [{network}]}}")
             for network in ("generator", "discriminator")}
    both = trained(tmp_path, f"base.init={{run: '{first.id}'}}")
    begun = {name: grid(spec, tmp_path, 0) for name, spec in alone.items()}
    assert begun["generator"] == grid(first, tmp_path, first.steps)
    assert begun["discriminator"] == grid(first, tmp_path, 0)
    losses = [d_losses(spec, tmp_path)[0] for spec in (first, both, *alone.values())]
    assert len(set(losses)) == 4
    assert len({spec.id for spec in (first, both, *alone.values())}) == 4


def test_the_id_holds_the_weights_and_not_where_they_lie(tmp_path: Path) -> None:
    first = trained(tmp_path)
    source = first.folder(tmp_path) / WEIGHTS
    shutil.copy(source, tmp_path / "a.safetensors")
    (tmp_path / "below").mkdir()
    shutil.copy(source, tmp_path / "below/b.safetensors")
    inits = [f"{{run: '{first.id}'}}", "{file: a.safetensors}", "{file: below/b.safetensors}",
             f"{{file: {source}, networks: [discriminator, generator]}}"]
    ids = {study(tmp_path, f"base.init={init}").runs[0].id for init in inits}
    assert len(ids) == 1
    tensors = load_file(source)
    name = next(iter(tensors))
    save_file({**tensors, name: tensors[name] + 1}, tmp_path / "a.safetensors")
    other = study(tmp_path, "base.init={file: a.safetensors}").runs[0]
    assert other.id not in ids
    plain = study(tmp_path).runs[0]
    assert plain.id == first.id
    assert plain.id not in ids


def test_variants_differ_by_it(tmp_path: Path) -> None:
    first = trained(tmp_path)
    runs = study(tmp_path, f"variants={{plain: null, warm: {{init: {{run: '{first.id}', "
                           f"networks: [generator]}}}}}}").runs
    assert variant_differences(runs)["init"] == {
        "plain": "None", "warm": f"run {first.id} (generator)"}


@pytest.mark.parametrize(("init", "place", "words"), [
    ("{run: 'ab'}", "init.run", "no run's id begins with 'ab' under "),
    ("{run: ''}", "init.run", "a run's id, or its first characters, in quotes"),
    ("{run: 123456}", "init.run", "in quotes: 12 digits from 0 to 9 and a to f, not 123456"),
    ("{run: '../x'}", "init.run", "12 digits from 0 to 9 and a to f"),
    ("{file: none.safetensors}", "init.file", "none.safetensors: cannot be read: No such file"),
    ("{file: tiny.yaml}", "init.file", "tiny.yaml: is no .safetensors file, or is damaged"),
    ("{file: cut.safetensors}", "init.file", "is no .safetensors file, or is damaged"),
    ("{file: .}", "init.file", ": is no file"),
    ("{file: pipe}", "init.file", "pipe: is no file"),
    ("{file: " + "x" * 5000 + "}", "init.file", "x: cannot be read: File name too long"),
    ("{file: g.safetensors}", "init.file", "holds no tensor discriminator.…; leave discriminator"),
    ("{}", "init", "give either `run` or `file`"),
    ("{run: 'ab', file: x}", "init", "give either `run` or `file`"),
    ("{run: 'ab', networks: []}", "init", "name generator, discriminator, or both once"),
    ("{run: 'ab', network: [generator]}", "init.network", "did you mean 'networks'?"),
    ("17", "init", "must be keys with values"),
])
def test_what_cannot_be_found_is_one_line_with_its_place(
        tmp_path: Path, init: str, place: str, words: str) -> None:
    save_file({"generator.w": torch.zeros(2)}, tmp_path / "g.safetensors")
    content = (tmp_path / "g.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:20])
    os.mkfifo(tmp_path / "pipe")
    text = DIGITS.replace("  steps: 6", f"  steps: 6\n  init: {init}")
    file = write_experiment(tmp_path, text)
    with pytest.raises(SpecError) as error:
        load_experiment(file, tmp_path, root=tmp_path)
    assert len(error.value.lines) == 1, error.value.lines
    line = error.value.lines[0]
    assert line.startswith(f"{file}:8:"), line
    assert f": base.{place}: " in line, line
    assert words in line


def test_an_unfinished_run_and_an_ambiguous_id(tmp_path: Path) -> None:
    for name in ("abc0", "abc1"):
        (tmp_path / "runs/tiny" / name).mkdir(parents=True)
    with pytest.raises(SpecError, match=r"the run abc0 has no final\.safetensors, as it is not f"):
        study(tmp_path, "base.init.run='abc0'")
    with pytest.raises(SpecError, match="the ids of 2 runs begin with 'abc': abc0, abc1; give mor"):
        study(tmp_path, "base.init.run='abc'")


def test_weights_that_do_not_fit_are_refused_before_training(tmp_path: Path) -> None:
    first = trained(tmp_path)
    tensors = load_file(first.folder(tmp_path) / WEIGHTS)
    name = next(name for name in tensors if name.startswith("discriminator."))
    lacking = {key: tensor for key, tensor in tensors.items() if key != name}
    files = {"lacking": lacking, "more": {**tensors, "generator.more": torch.zeros(3)}}
    for key, content in files.items():
        save_file(content, tmp_path / f"{key}.safetensors")
    wide = "base.model.width=24"
    cases = {
        (f"base.init.run='{first.id}'", wide): r"\(16, 100\) there, and \(24, 100\) here",
        ("base.init.file=lacking.safetensors",): f"it holds no {name}, which is ",
        ("base.init.file=more.safetensors",): r"it holds generator.more, \(3,\), which the gene",
    }
    for overrides, words in cases.items():
        experiment = study(tmp_path, *overrides)
        with pytest.raises(UserError, match=f"^variant plain: .*: does not fit: .*{words}") as why:
            prepare(experiment, tmp_path, tmp_path, lambda line: None)
        assert "\n" not in str(why.value)
        assert not experiment.runs[0].folder(tmp_path).exists()


def test_missing_or_changed_weights_on_a_worker(tmp_path: Path) -> None:
    first = trained(tmp_path)
    file = tmp_path / "a.safetensors"
    shutil.copy(first.folder(tmp_path) / WEIGHTS, file)
    experiment = study(tmp_path, "base.init.file=a.safetensors")
    (spec,) = experiment.runs
    content = file.read_bytes()
    file.unlink()
    for act in (lambda: prepare(experiment, tmp_path, tmp_path, lambda line: None),
                lambda: run_one(spec, tmp_path, tmp_path)):
        with pytest.raises(UserError, match=r"a\.safetensors: the weights that the run starts from "
                                            "are missing on this machine"):
            act()
    file.write_bytes(content[:-1] + b"x")
    with pytest.raises(UserError, match=r"a\.safetensors: .* have changed since it was planned"):
        run_one(spec, tmp_path, tmp_path)
    file.write_bytes(content)
    assert run_one(spec, tmp_path, tmp_path).status == "FINISHED"


def test_a_resumed_run_and_a_continued_one_need_them_no_more(tmp_path: Path) -> None:
    first = trained(tmp_path)
    shutil.copy(first.folder(tmp_path) / WEIGHTS, tmp_path / "a.safetensors")
    init = "base.init.file=a.safetensors"
    whole = trained(tmp_path, init, "base.steps=9")
    expected = left(whole.folder(tmp_path))
    shutil.rmtree(whole.folder(tmp_path))
    longer = study(tmp_path, init, "base.steps=9")
    trained(tmp_path, init)
    (tmp_path / "a.safetensors").unlink()
    assert run_one(longer.runs[0], tmp_path, tmp_path).status == "FINISHED"
    assert left(whole.folder(tmp_path)) == expected
    records = reading.read_records(whole.folder(tmp_path))[0]
    assert [record["step"] for record in records if record["kind"] == "resume"] == [6]


def test_spec_files_of_before_are_read(tmp_path: Path) -> None:
    spec = trained(tmp_path)
    file = spec.folder(tmp_path) / "spec.json"
    values = json.loads(file.read_text())
    assert values.pop("init") is None
    file.write_text(json.dumps(values))
    assert read_spec(spec.folder(tmp_path)) == spec
