"""From YAML to runs: expansion, ids, and every error at its place."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import warnings
from pathlib import Path
from typing import get_args

import pytest

from gan_bench.cli.planning.plan import plan_text
from gan_bench.components.optimizers import Schedule
from gan_bench.config.declared import Amount
from gan_bench.config.differences import variant_differences
from gan_bench.config.experiment import load_experiment
from gan_bench.config.spec import ExperimentSpec
from gan_bench.config.yaml_source import read_yaml
from gan_bench.errors import SpecError, UserError, unwritable
from gan_bench.journal.spec_file import read_spec
from gan_bench.registry import SCHEDULES

SMALL = """\
name: small
dataset: {name: digits, image_size: 16}
seeds: [3, 5]
base:
  model: mlp
  batch_size: 64
  steps: 10
"""


def load(tmp_path: Path, text: str, *overrides: str) -> ExperimentSpec:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    return load_experiment(file, tmp_path, list(overrides))


def errors(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load(tmp_path, text, *overrides)
    return [line.replace(f"{tmp_path}/", "") for line in caught.value.lines]


def test_without_variants_there_is_one_called_base(tmp_path: Path) -> None:
    spec = load(tmp_path, SMALL)
    assert [(run.variant, run.seed) for run in spec.runs] == [("base", 3), ("base", 5)]
    assert spec.declared.baseline == "base"


def test_matrix_is_a_cross_product_less_exclude_plus_include(tmp_path: Path) -> None:
    spec = load(tmp_path, SMALL + """
matrix:
  model: [mlp, {name: dcgan, width: 8}, {name: dcgan, width: 16}]
  loss: [saturating, non_saturating]
  exclude: [{model: mlp, loss: saturating}]
  include: [{model: mlp_conv, g_optimizer.lr: 0.5}]
""")
    assert spec.variants == [
        "mlp-non_saturating", "dcgan-width=8-saturating", "dcgan-width=8-non_saturating",
        "dcgan-width=16-saturating", "dcgan-width=16-non_saturating", "mlp_conv-lr=0.5"]
    last = spec.runs[-1]
    assert last.g_optimizer.args["lr"] == 0.5
    assert last.d_optimizer.args["lr"] == 2e-4


def test_variants_and_matrix_are_crossed(tmp_path: Path) -> None:
    spec = load(tmp_path, SMALL + """
variants:
  plain:
  wide: {model: {width: 256}}
matrix: {loss: [saturating, non_saturating]}
""")
    assert spec.variants == ["plain-saturating", "plain-non_saturating", "wide-saturating",
                             "wide-non_saturating"]
    assert [run.model.args["width"] for run in spec.runs[::2]] == [128, 128, 256, 256]


def test_optimizer_stands_for_both_and_a_later_layer_wins(tmp_path: Path) -> None:
    spec = load(tmp_path, SMALL + """
  optimizer: {name: sgd, lr: 0.1, momentum: 0.5}
variants:
  a: {d_optimizer: {lr: 0.2}}
  b: {optimizer: rmsprop}
""")
    a, b = spec.runs[0], spec.runs[2]
    assert (a.g_optimizer.args["lr"], a.d_optimizer.args["lr"]) == (0.1, 0.2)
    assert a.d_optimizer.args["momentum"] == 0.5
    assert (b.g_optimizer.name, b.d_optimizer.name) == ("rmsprop", "rmsprop")


def test_epochs_become_steps_of_g(tmp_path: Path) -> None:
    # 1,438 images make 22 batches of 64; with two D steps a step, an epoch is 11 steps.
    assert load(tmp_path, SMALL.replace("steps: 10", "epochs: 3")).runs[0].steps == 66
    text = SMALL.replace("steps: 10", "epochs: 3\n  d_steps: 2")
    assert load(tmp_path, text).runs[0].steps == 33


def test_a_step_that_needs_more_than_all_epochs_is_refused(tmp_path: Path) -> None:
    """One step would exceed the epochs."""
    text = SMALL.replace("steps: 10", "epochs: 2\n  d_steps: 44")
    assert load(tmp_path, text).runs[0].steps == 1
    [line] = errors(tmp_path, text.replace("d_steps: 44", "d_steps: 45"))
    assert line.endswith("base.epochs: all epochs together have 44 batches, but a step takes 45, "
                         "its d_steps: give more epochs, or lower d_steps")


def test_set_overrides_and_is_validated(tmp_path: Path) -> None:
    spec = load(tmp_path, SMALL, "base.model.width=64", "seeds=[7]", "base.steps=2_0")
    assert (spec.runs[0].model.args["width"], spec.runs[0].steps) == (64, 20)
    assert spec.seeds == [7]
    assert errors(tmp_path, SMALL, "base.steps=many") == [
        "--set base.steps=many: base.steps: must be a whole number, not 'many'"]
    assert errors(tmp_path, SMALL, "base.steps") == ["--set base.steps: write it as a.b=value"]


def test_plan_knows_the_schedules_of_the_optimizers() -> None:
    assert get_args(Schedule) == tuple(SCHEDULES)


DOTTED = SMALL + """
variants:
  a:
  a.b: {batch_size: 24}
  a.b.c: {model: mlp, batch_size: 9}
matrix: {g_optimizer.lr: [0.1, 0.2]}
"""


def test_set_reaches_names_with_dots(tmp_path: Path) -> None:
    spec = load(tmp_path, DOTTED, "matrix.g_optimizer.lr=[0.3]", "variants.a.batch_size=8",
                "variants.a.b.batch_size=16", "variants.a.b.c.model.width=32")
    assert spec.variants == ["a-lr=0.3", "a.b-lr=0.3", "a.b.c-lr=0.3"]
    runs = spec.runs[::2]
    assert [run.g_optimizer.args["lr"] for run in runs] == [0.3] * 3
    assert [run.batch_size for run in runs] == [8, 16, 9]
    assert [run.model.args["width"] for run in runs] == [128, 128, 32]


def test_set_adds_an_axis_with_a_dot_and_replaces_a_variant_with_dots(tmp_path: Path) -> None:
    axis = "matrix.d_optimizer.lr=[0.5]"
    assert load(tmp_path, SMALL, axis).variants == ["lr=0.5"]
    assert load(tmp_path, DOTTED, axis).variants[0] == "a-g_optimizer.lr=0.1-d_optimizer.lr=0.5"
    spec = load(tmp_path, DOTTED, "variants.a.b={batch_size: 32}", "matrix=null")
    assert [(run.variant, run.batch_size) for run in spec.runs[::2]] == [
        ("a", 64), ("a.b", 32), ("a.b.c", 9)]
    assert errors(tmp_path, DOTTED, "matrix.g_optimizer.lr=[fast]")[0].startswith(
        "--set matrix.g_optimizer.lr=[fast]: matrix.g_optimizer.lr.0: ")
    assert errors(tmp_path, SMALL, "matrix.loss=[saturating]", "matrix.loss.target=[1]") == [
        "--set matrix.loss.target=[1]: matrix.loss is a list; set it as a whole"]


def test_set_prefers_the_longer_of_two_names(tmp_path: Path) -> None:
    text = SMALL + "\nmatrix: {g_optimizer: [{lr: 0.1}], g_optimizer.lr: [0.2]}\n"
    [first, _] = load(tmp_path, text, "matrix.g_optimizer.lr=[0.4]").runs
    assert first.variant == "lr=0.1-lr=0.4"
    assert first.g_optimizer.args["lr"] == 0.4


def test_exponents_are_numbers(tmp_path: Path) -> None:
    spec = load(tmp_path, SMALL + "  optimizer: {name: adam, lr: 2e-3}\n")
    assert spec.runs[0].g_optimizer.args["lr"] == 0.002


def test_yaml_1_1_is_read_without_a_warning(tmp_path: Path) -> None:
    """Its numbers need a dot; ruamel would print a page of warnings about `2e-4`."""
    file = tmp_path / "old.yaml"
    file.write_text("%YAML 1.1\n---\nname: x\nmargin: 2e-4\ncount: 010\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = read_yaml(file).data
    assert data == {"name": "x", "margin": 2e-4, "count": 8}



@pytest.mark.parametrize("change", [
    "base.batch_size=32", "base.loss=saturating", "base.model.width=64", "seeds=[4]",
    "dataset.image_size=28", "base.steps=11", "base.ema=0.9", "base.order=g_first",
    "base.share_fakes=true", "base.d_loss_reduction=sum", "base.d_steps=2",
    "base.optimizer={lr: 1e-3}", "base.g_optimizer={schedule: cosine}",
    "compute.threads=2", "compute.deterministic=false",
])
def test_id_changes_with_all_that_can_change_a_weight(tmp_path: Path, change: str) -> None:
    before, after = load(tmp_path, SMALL), load(tmp_path, SMALL, change)
    assert before.runs[0].id != after.runs[0].id


@pytest.mark.parametrize("change", [
    "name=other", "question=why", "base.model=mlp", "base.model={name: mlp, width: 128}",
    "compute.device=cpu", "base.loss=non_saturating", "variants={other: {}}", "base.ema=null",
    "evaluate.samples=100", "evaluate.snapshots=true", "base.log_every=1", "base.sample_every=1",
])
def test_id_stays_with_what_cannot(tmp_path: Path, change: str) -> None:
    before, after = load(tmp_path, SMALL), load(tmp_path, SMALL, change)
    assert [run.id for run in before.runs] == [run.id for run in after.runs]


def test_id_is_the_same_today_and_tomorrow(tmp_path: Path) -> None:
    """A change of this value means that finished runs of users are no longer found."""
    assert load(tmp_path, SMALL).runs[0].id == "04ea519fe748"


def test_spec_survives_being_written_and_read(tmp_path: Path) -> None:
    run = load(tmp_path, SMALL, "base.ema=0.99", "base.penalties=[r1]",
               "base.augmentation=[flip, {name: ada, p: 0.5}]").runs[1]
    again = read_spec(run.write(tmp_path))
    assert again == run
    assert again.id == run.id


def test_a_specification_that_cannot_be_written_leaves_no_folder(tmp_path: Path) -> None:
    """A limit on the size of files fails as a full disk does, and needs no disk of its own."""
    first, second = load(tmp_path, SMALL).runs
    before = read_spec(first.write(tmp_path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        for run in (first, second):
            file = run.folder(tmp_path) / "spec.json"
            with pytest.raises(UserError, match=f"^{re.escape(str(file))}: cannot be written: "):
                run.write(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [*(tmp_path / "runs" / "small").iterdir()] == [first.folder(tmp_path)]
    assert read_spec(first.folder(tmp_path)) == before


@pytest.mark.parametrize(("number", "cure"), [
    (errno.ENOSPC, "make room"), (errno.EDQUOT, "make room"), (errno.EACCES, "make it writable"),
    (errno.EROFS, "make it writable"), (errno.EISDIR, "move it away")])
def test_a_file_that_cannot_be_written_has_the_cure_of_its_cause(number: int, cure: str) -> None:
    why = os.strerror(number)
    assert str(unwritable(Path("a/b"), OSError(number, why))) == (
        f"a/b: cannot be written: {why}; {cure}, then repeat the command")


def test_all_threads_of_a_large_machine_may_be_used(tmp_path: Path) -> None:
    assert load(tmp_path, SMALL, "compute.threads=1024").runs[0].compute.threads == 1024


@pytest.mark.parametrize(("name", "words"), [
    ("Default", "MLflow keeps an experiment of this name for itself; choose another name"),
    ("small.yaml", "a name that ends in .yaml or .yml stands for a file, as in `gan-bench report"),
    ("a.b.yml", "a name that ends in .yaml or .yml stands for a file, as in `gan-bench report"),
])
def test_names_that_no_command_can_address_are_refused(tmp_path: Path, name: str, words: str,
                                                       ) -> None:
    (line,) = errors(tmp_path, SMALL.replace("name: small", f"name: {name}"))
    assert ".yaml:1:" in line
    assert words in line
    for good in ("default", "yaml", "a.yaml.b"):
        assert load(tmp_path, SMALL.replace("name: small", f"name: {good}")).name == good


def test_every_error_of_a_file_at_once_with_its_place(tmp_path: Path) -> None:
    found = errors(tmp_path, """\
name: x
dataset: {name: digitss}
seeds: [0]
base:
  model: {name: mlp, widht: 3}
  stps: 5
  batch_size: "64"
variants:
  a: {loss: saturatin}
  b: {model: {width: 64}, g_optimizer: {lr: fast}}
evaluate: {metrics: [fidd]}
""")
    assert sorted(line.split(" ")[0] for line in found) == sorted([
        "x.yaml:2:1:", "x.yaml:5:22:", "x.yaml:6:3:", "x.yaml:7:3:", "x.yaml:9:7:",
        "x.yaml:10:41:", "x.yaml:11:12:"])
    text = "\n".join(found)
    for hint in ("did you mean 'digits'", "did you mean 'width'", "did you mean 'steps'",
                 "whole number, not '64'", "did you mean 'saturating'", "not 'fast'",
                 "did you mean 'fid'"):
        assert hint in text


@pytest.mark.parametrize(("change", "line"), [
    ("base.batch_size=2000", "2,000 is more than the 1,438 training examples"),
    ("dataset.image_size=18", "mlp_conv"),
    ("base.epochs=3", "either `steps` or `epochs`"),
    ("base.steps=null", "either `steps` or `epochs`"),
    ("matrix={loss: []}", "an axis without values"),
    ("matrix={loss: [saturating], exclude: [{loss: saturating}]}", "no run"),
    ("matrix={loss: [saturating, saturating]}", "'saturating' is on this axis twice"),
    ("matrix={}", "matrix: is empty"),
    ("matrix={nope: [1]}", "no such axis"),
    ("matrix={batch_size: [2, 3], include: [3], exclude: [{loss: x}]}", "loss: 'x' is on no axis"),
    ("matrix={include: [3]}", "is a mapping of axes to values, not 3"),
    (f"matrix={{log_every: {list(range(1, 400))}, batch_size: {list(range(2, 400))}}}",
     "158,802 variants (log_every 399 × batch_size 398) are more than 20,000"),
    ("base.optimiser=adam", "did you mean 'optimizer'"),
    ("base.modle.width=64", "--set base.modle.width=64: base.modle: unknown key"),
    ("seeds.0=5", "seeds is a list; set it as a whole"),
    ("base.steps=2020-99-99", "must be a whole number, not '2020-99-99'"),
    ("base.steps=" + "9" * 5000, "99999999999999999999 is too large a number"),
    ("base.steps=" + "[" * 1500, "the value is not valid YAML"),
    ("evaluate={metrics: [is], samples: 9}", "is needs at least 10 samples, not 9"),
    ("dataset={name: image_folder, path: 'a\\0b', image_size: 8}", "a relative path is looked up"),
    (f"dataset={{name: image_folder, path: {'a' * 5000}, image_size: 8}}", "is looked up"),
    ("variants={a: {}, b: {loss: non_saturating}}", "are the same run"),
    ("baseline=bse", "did you mean 'base'"),
    ("seeds=[1, 1]", "1 is given twice"),
    ("seeds=[]", "must have at least 1"),
    ("seeds=[-1]", "at least 0"),
    ("name=../up", "must match the pattern"),
    ("evaluate.metrics=[high_quality]", "high_quality"),
    ("base.model=3", "a model is a name"),
    ("base.ema=.nan", "finite"),
    ("nonsense=1", "unknown key"),
    ("recipe=dcgan2015", "recipe: is a key of runs: put it into `base`, into a variant, or on an "),
    ("optimizer=adam", "optimizer: is a key of runs: put it into `base`"),
    ("steps=5", "steps: is a key of runs: put it into `base`"),
    ("base.recipe=dcgan2105", "no recipe is called 'dcgan2105'; did you mean 'dcgan2015'"),
    ("compute.threads=0", "compute.threads: must be at least 1"),
    ("compute.threads=1025", "compute.threads: must be at most 1024"),
    ("compute.threads=9223372036854775807", "compute.threads: must be at most"),
])
def test_what_cannot_work_is_refused(tmp_path: Path, change: str, line: str) -> None:
    text = SMALL.replace("model: mlp", "model: dcgan") if "18" in change else SMALL
    line = line.replace("mlp_conv", "dcgan cannot make 1×18×18 images")
    assert line in "\n".join(errors(tmp_path, text, change))


POINTS = SMALL.replace("{name: digits, image_size: 16}", "gaussians").replace(
    "model: mlp", "model: mlp_dropout") + "evaluate: {metrics: [modes_covered]}\n"
R3 = SMALL.replace("model: mlp", "model: r3").replace("image_size: 16", "image_size: 32")


@pytest.mark.parametrize(("text", "line"), [
    (SMALL + "variants: {a: {model: dcgan, penalties: [r1]}}\n", "x.yaml:8:30: "
     "variants.a.penalties: r1 needs a D that judges every example alone, but the D of dcgan uses "
     "batch norm: give the model `d_norm: none`"),
    (R3 + "  penalties: [spectral_norm]\n", "x.yaml:8:3: base.penalties: spectral_norm divides "
     "weights by their norm, but some weights of the D of r3 start at 0: give the model "
     "`init: default`"),
    (SMALL + "  penalties: [{name: r1, every: 11}]\n",
     "x.yaml:8:3: base.penalties: r1 acts every 11 steps, but the run has only 10: "
     "lower its `every`, or leave it out"),
    (SMALL + "compute: {pack: 0}\n",
     "x.yaml:8:11: compute.pack: a number of runs, at least 1, or auto, not 0"),
    (SMALL + "  penalties: [spectral_norm, {name: spectral_norm, iterations: 2}]\n",
     "x.yaml:8:3: base.penalties: spectral_norm is named twice"),
    (SMALL + "matrix: {penalties: [[], [r1, r1]]}\n",
     "x.yaml:8:26: matrix.penalties.1: r1 is named twice"),
    (SMALL + "  augmentation: [flip, flip]\n",
     "x.yaml:8:3: base.augmentation: flip is named twice"),
    (SMALL + "matrix: {augmentation: [[], [flip, {name: diffaugment, transform: []}]]}\n",
     "x.yaml:8:56: matrix.augmentation.1.1.transform: augmentation 'diffaugment' has no argument "
     "'transform'; did you mean 'transforms'?"),
    (SMALL + "  augmentation: [{name: diffaugment, transforms: [color, color]}]\n",
     "x.yaml:8:3: base.augmentation: diffaugment cannot augment 1×16×16 images: color is in its "
     "transforms twice"),
    (SMALL + "  augmentation: [{name: ada, p: 1.5}]\n", "x.yaml:8:30: base.augmentation.0.p: "
     "must be a number from 0 to 1, or adaptive, not 1.5"),
    (SMALL + "  augmentation: [{name: ada, p: 0.5, kimg: 100, every: 8}]\n", "x.yaml:8:3: "
     "base.augmentation: ada cannot augment 1×16×16 images: kimg and every would move an adaptive "
     "p, but p is 0.5: leave them out"),
    (SMALL + "  augmentation: [{name: ada, ramp: 5}]\n", "x.yaml:8:3: base.augmentation: ada "
     "cannot augment 1×16×16 images: ramp has no effect on an adaptive p"),
    (SMALL + "  augmentation: [{name: ada, transforms: [blit, xflip]}]\n", "x.yaml:8:3: "
     "base.augmentation: ada cannot augment 1×16×16 images: xflip is in its transforms twice"),
    (POINTS.replace("  steps", "  augmentation: [ada]\n  steps"), "x.yaml:7:3: "
     "base.augmentation: ada cannot augment 2-vectors: it augments images"),
    (POINTS.replace("  steps", "  augmentation: [flip]\n  steps"), "x.yaml:7:3: "
     "base.augmentation: flip cannot augment 2-vectors: it augments images"),
    (SMALL + "  penalties: [weight_clip, {name: r1, gama: 1}]\n", "x.yaml:8:39: "
     "base.penalties.1.gama: penalty 'r1' has no argument 'gama'; did you mean 'gamma'?"),
    (POINTS.replace("  steps", "  condition: projection\n  steps"), "x.yaml:7:3: base.condition: "
     "projection needs labels, but this data set has none; leave it out"),
    (SMALL + "  recipe: sngan2017\n", "x.yaml:8:3: base.recipe: no recipe is called 'sngan2017'; "
     "did you mean 'sngan2018'"),
    (SMALL + "variants: {a: {recipe: dcgan}}\n", "x.yaml:8:16: variants.a.recipe: no recipe is "
     "called 'dcgan'; did you mean 'dcgan2015'?"),
    (SMALL + "matrix: {recipe: [dcgan2015, dcgan2016]}\n", "x.yaml:8:30: matrix.recipe.1: no "
     "recipe is called 'dcgan2016'; did you mean 'dcgan2015'"),
])
def test_parts_that_do_not_go_together_are_refused_in_their_place(
        tmp_path: Path, text: str, line: str) -> None:
    """And they alone: what a loss or a plug-in lacks is in test_plugins.py."""
    found = errors(tmp_path, text)
    assert len(found) == 1
    assert found[0].startswith(line), found[0]


@pytest.mark.parametrize(("text", "line"), [
    ("name: a\nname: b\n", "x.yaml:2:1: found duplicate key"),
    ("name: [a\n", "x.yaml:2:1: not valid YAML"),
    ("", "an experiment is a mapping"),
    ("- a\n", "an experiment is a mapping"),
    ("a: " + "[" * 3000, "nested too deeply"),
    ("a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{c}: &{c} [{','.join(['*' + p] * 10)}]\n" for p, c in zip("abcdef", "bcdefg", strict=True)
    ), "more than 100,000 values"),
])
def test_broken_files_are_named(tmp_path: Path, text: str, line: str) -> None:
    assert line in "\n".join(errors(tmp_path, text))


def test_all_the_errors_of_a_part_and_of_a_file_whose_data_is_missing(tmp_path: Path) -> None:
    found = errors(tmp_path, SMALL.replace("{name: digits,", "{name: image_folder, path: no,")
                   .replace("model: mlp", "model: {name: mlp, width: 0, bn_eps: x}"))
    assert len(found) == 3
    for words in ("dataset: ", "base.model.width: ", "base.model.bn_eps: "):
        assert words in "\n".join(found)


def test_include_alone_makes_only_its_entries(tmp_path: Path) -> None:
    spec = load(tmp_path, SMALL + "matrix: {include: [{loss: saturating}, {model: {width: 32}}]}")
    assert spec.variants == ["saturating", "width=32"]


def test_axes_whose_names_end_alike_are_told_apart(tmp_path: Path) -> None:
    spec = load(tmp_path, SMALL + "matrix: {g_optimizer.lr: [1e-3], d_optimizer.lr: [1e-4]}")
    assert spec.variants == ["g_optimizer.lr=0.001-d_optimizer.lr=0.0001"]


def test_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "there.yaml").write_text(SMALL)
    with pytest.raises(SpecError, match=r"no such file.*there\.yaml"):
        load_experiment(tmp_path / "their.yaml", tmp_path)


def test_differences_are_those_between_variants_only(tmp_path: Path) -> None:
    spec = load(tmp_path, SMALL + "variants: {a: {}, b: {loss: saturating, ema: 0.9}}\n")
    assert variant_differences(spec.runs) == {
        "loss": {"a": "non_saturating", "b": "saturating"}, "ema": {"a": "None", "b": "0.9"}}


def test_a_plan_tells_what_differs_and_not_what_follows_from_it(tmp_path: Path) -> None:
    spec = load(tmp_path, SMALL + """\
variants:
  plain: {}
  other: {loss: lsgan, penalties: [{name: r1, gamma: 2.0}, weight_clip], model: r3}
  third: {loss: {name: lsgan, b: 0.9}, model: {name: r3, blocks: 2}}
""")
    _, _, after = plan_text(spec, tmp_path).partition("what differs between variants\n")
    assert after.partition("\n\n")[0] == """\
                  plain           other                       third
loss              non_saturating  lsgan                       lsgan
loss.b            ·               1.0                         0.9
model             mlp             r3                          r3
model.blocks      ·               1                           2
model.init        default         fan_in                      fan_in
model.latent_dim  100             64                          64
model.width       128             32                          32
penalties         none            r1 (gamma 2.0)+weight_clip  none"""


def test_a_plan_tells_which_averages_end_within_their_ramp(tmp_path: Path) -> None:
    spec = load(tmp_path, SMALL + """\
variants:
  plain: {}
  long: {ema: 0.999, steps: 1000}
  short: {ema: 0.98, steps: 1000}
  fixed: {ema: 0.9, ema_ramp: null, steps: 1000}
""")
    lines = [line for line in plan_text(spec, tmp_path).splitlines() if line.startswith("average")]
    assert lines == [
        "average   ema 0.999: ema_ramp 0.05 lets the decay grow to 0.9862 in 1,000 steps"]


@pytest.mark.parametrize("file", sorted(Path(__file__).parents[2].glob("experiments/**/*.yaml")),
                         ids=lambda file: file.stem)
def test_shipped_experiments_are_valid_and_known_to_the_schema(file: Path, tmp_path: Path) -> None:
    spec = load_experiment(file, tmp_path)
    assert spec.declared.question
    assert spec.name == file.stem
    search = spec.declared.search
    draws = 1 if search is None else search.draws
    assert len(spec.runs) == len(spec.variants) * draws * len(spec.seeds) >= 5


def test_schema_file_is_what_the_program_prints() -> None:
    from gan_bench.cli.planning.schema import json_schema

    file = Path(__file__).parents[2] / "experiments" / "schema.json"
    assert json.loads(file.read_text()) == json_schema()


def test_schema_accepts_the_shipped_files_and_refuses_what_the_program_refuses() -> None:
    import jsonschema
    from ruamel.yaml import YAML

    from gan_bench.cli.planning.schema import json_schema

    check = jsonschema.Draft202012Validator(json_schema())
    for file in Path(__file__).parents[2].glob("experiments/**/*.yaml"):
        assert list(check.iter_errors(YAML(typ="safe").load(file))) == []
    good = YAML(typ="safe").load(SMALL)
    assert not list(check.iter_errors(good))
    for key, value in (("model", "mlpp"), ("stps", 3), ("steps", "x"), ("loss", {"name": "x"}),
                       ("model", {"name": "mlp", "widht": 3}), ("optimizer", {"rate": 1})):
        assert list(check.iter_errors({**good, "base": {**good["base"], key: value}})), key


def test_how_runs_are_compared_is_no_part_of_what_they_are(tmp_path: Path) -> None:
    bare = load(tmp_path, SMALL)
    told = load(tmp_path, SMALL + "paired: true\nmargin: {fd_classifier: 5%, d_gap: 0.25}\n")
    assert [run.id for run in told.runs] == [run.id for run in bare.runs]
    assert (bare.declared.paired, bare.declared.margin_of("fd_classifier")) == (False, None)
    declared = told.declared
    assert declared.paired
    assert declared.margin_of("fd_classifier") == Amount(0.05, relative=True)
    assert declared.margin_of("d_gap") == Amount(0.25)
    assert declared.margin_of("fid") is None
    for text, share in (("2.5%", 0.025), ("5e-05%", 5e-7)):
        read = load(tmp_path, SMALL, f"margin={text}").declared
        assert read.margin_of("fid") == Amount(share, relative=True)


@pytest.mark.parametrize(("margin", "message"), [
    ("{fd_clasifier: 5%}", "did you mean 'fd_classifier'"), ("{fid: 0}", "above 0"),
    ("{fid: -3%}", "above 0"), ("{fid: 5 percent}", "not '5 percent'"), ("{fid: true}", "above 0"),
    ("{fid: .nan}", "above 0"), ("[5%]", "not \"['5%']\""),
    ("0.5", "give 0.5 by score: {NAME: 0.5}")])
def test_a_margin_that_means_nothing_is_refused(tmp_path: Path, margin: str, message: str) -> None:
    found = errors(tmp_path, SMALL + f"margin: {margin}\n")
    assert len(found) == 1
    assert found[0].startswith("x.yaml:8:")
    assert message in found[0]


def test_curve_means_that_no_tag_holds_are_refused_before_any_run(tmp_path: Path) -> None:
    mean = "{of: train/g_grad_norm, steps: [1, 10]}"
    many = "".join(f"  {'x' * 50}{n}: {mean}\n" for n in range(60))
    (line,) = errors(tmp_path, f"{SMALL}  log_every: 5\ncurve_means:\n{many}")
    assert "of MLflow's tag of the experiment, which holds 5,000" in line
