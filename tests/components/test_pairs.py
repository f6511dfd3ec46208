"""Pairs of any image data set: the inputs by hand-worked examples, and the data as a whole."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.runs import write_experiment
from numpy.typing import NDArray
from PIL import Image

from gan_bench.components.data import Dataset, load, prepare_data
from gan_bench.components.data.arrays import Arrays, ArraySplit
from gan_bench.components.data.decoded import _check
from gan_bench.components.data.pair_inputs import INPUTS, make_inputs, parse_input
from gan_bench.config.experiment import load_experiment
from gan_bench.data_facts import DataFacts
from gan_bench.errors import SpecError, UserError
from gan_bench.evaluation.features.classifier import shipped
from gan_bench.registry import DATASETS, Part, targets_of

Images = NDArray[np.uint8]


def made(name: str, images: Images, **arguments: object) -> Images:
    return make_inputs(images, parse_input({"name": name, **arguments}), seed=3)


def pictures(channels: int = 1, side: int = 16, count: int = 3) -> Images:
    draws = np.random.default_rng(0)
    return draws.integers(0, 256, (count, channels, side, side), dtype=np.uint8)


def half_white(level: int = 255) -> Images:
    image = np.zeros((1, 1, 8, 8), np.uint8)
    image[..., 4:] = level
    return image


def pairs(of: object = "digits", given: object = "inverted") -> Part:
    return DATASETS.parse({"name": "pairs", "of": of, "input": given})


def prepared(part: Part, folder: Path) -> Dataset:
    prepare_data(part, folder, folder / "cache")
    return load(part, folder, folder / "cache", "cpu")


def test_a_negative_is_its_own_inverse() -> None:
    images = pictures(3)
    assert (made("inverted", images).astype(int) + images == 255).all()
    assert (made("inverted", made("inverted", images)) == images).all()


def test_edges_are_where_the_brightness_steps_and_nowhere_else() -> None:
    expected = np.zeros((8, 8), np.uint8)
    expected[:, 3:5] = 255  # both sides of the step, at the borders too
    assert (made("edges", half_white())[0, 0] == expected).all()
    assert not made("edges", np.full((2, 3, 8, 8), 200, np.uint8)).any()


@pytest.mark.parametrize("threshold", [0.25, 0.75])
def test_a_threshold_is_a_share_of_the_whole_range(threshold: float) -> None:
    below, above = int(255 * threshold), int(255 * threshold) + 1
    assert not made("edges", half_white(below), threshold=threshold).any()
    assert made("edges", half_white(above), threshold=threshold).any()


def test_edges_of_colour_are_those_of_its_brightness() -> None:
    image = np.zeros((1, 3, 8, 8), np.uint8)
    image[0, 1, :, 4:] = 255  # green: 0.587 of white
    assert made("edges", image, threshold=0.58).any()
    assert not made("edges", image, threshold=0.59).any()


def test_low_resolution_is_pillows_bilinear_down_and_up() -> None:
    image = pictures()[:1]
    small = Image.fromarray(image[0, 0]).resize((4, 4), Image.Resampling.BILINEAR)
    large = small.resize((16, 16), Image.Resampling.BILINEAR)
    assert (made("low_resolution", image, factor=4)[0, 0] == np.asarray(large)).all()


def test_a_blur_has_its_width_and_keeps_what_is_even() -> None:
    dot = np.zeros((1, 1, 33, 33), np.uint8)
    dot[0, 0, 16, 16] = 255
    blurred = made("blur", dot, sigma=2.0)[0, 0].astype(float)
    assert (blurred == blurred.T).all()
    assert blurred[16, 16] == pytest.approx(255 / (2 * np.pi * 4), abs=0.6)
    assert blurred[16, 18] / blurred[16, 16] == pytest.approx(np.exp(-0.5), abs=0.06)
    even = np.full((1, 3, 8, 8), 77, np.uint8)
    assert (made("blur", even, sigma=3.0) == 77).all()


def test_a_mask_hides_the_centre_and_nothing_else() -> None:
    images = pictures(3, 28)
    hidden = made("mask", images, share=0.5)
    assert (hidden[:, :, 7:21, 7:21] == 128).all()
    frame = np.ones((28, 28), bool)
    frame[7:21, 7:21] = False
    assert (hidden[:, :, frame] == images[:, :, frame]).all()


def test_grey_is_the_brightness_of_itu_601() -> None:
    image = np.zeros((1, 3, 8, 8), np.uint8)
    image[0] = np.array([200, 100, 50])[:, None, None]
    assert (made("grey", image) == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)).all()
    assert made("grey", image).shape == (1, 1, 8, 8)


def test_noise_has_its_deviation_and_is_the_same_each_time() -> None:
    images = np.full((600, 1, 16, 16), 128, np.uint8)
    first, second = (made("noise", images, std=0.1) for _ in range(2))
    assert (first == second).all()
    assert 0.099 < (first - 128.0).std() / 255 < 0.101
    assert not (first[0] == first[599]).all()  # more than one chunk
    other = make_inputs(images, parse_input({"name": "noise", "std": 0.1}), seed=4)
    assert not (first == other).all()


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_is_uint8_of_its_shape_and_leaves_the_targets_alone(name: str) -> None:
    images = pictures(3)
    before = images.copy()
    inputs = made(name, images)
    assert inputs.dtype == np.uint8
    assert inputs.shape == (3, 1 if name in ("edges", "grey") else 3, 16, 16)
    assert (images == before).all()
    assert (inputs != images).any()


def test_pairs_of_digits_are_the_digits_with_their_inputs(tmp_path: Path) -> None:
    part = pairs({"name": "digits", "image_size": 16}, {"name": "edges", "threshold": 0.5})
    data, digits = prepared(part, tmp_path), prepared(DATASETS.parse(
        {"name": "digits", "image_size": 16}), tmp_path)
    for split, of_digits in ((data.train, digits.train), (data.test, digits.test)):
        assert torch.equal(split.images, of_digits.images)
        assert split.labels is not None
        assert of_digits.labels is not None
        assert torch.equal(split.labels, of_digits.labels)
        assert split.inputs is not None
        expected = made("edges", split.images.numpy(), threshold=0.5)
        assert (split.inputs.numpy() == expected).all()
    assert digits.train.inputs is None
    assert data.facts.input == (1, 16, 16)
    assert data.fingerprint != digits.fingerprint
    assert data.examples == digits.examples  # so both share a classifier
    assert shipped(data) is not None


def test_pairs_of_a_folder_of_images(tmp_path: Path) -> None:
    for i, image in enumerate(pictures(3, 24, count=12)):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"{i}.png")
    data = prepared(pairs({"name": "image_folder", "path": ".", "image_size": 16}, "grey"),
                    tmp_path)
    assert (data.train.images.shape, data.facts.input) == ((11, 3, 16, 16), (1, 16, 16))
    assert data.test.inputs is not None
    assert data.test.inputs.shape == (1, 1, 16, 16)


def test_the_noise_of_the_two_splits_differs(tmp_path: Path) -> None:
    data = prepared(pairs(given={"name": "noise", "std": 0.9}), tmp_path)
    assert data.train.inputs is not None
    assert data.test.inputs is not None
    assert not torch.equal(data.train.inputs[0] > 0, data.test.inputs[0] > 0)


EXPERIMENT = """\
name: tiny
dataset: {{name: pairs, of: {of}, input: {input}}}
seeds: [0]
base: {{model: mlp, steps: 4, batch_size: 4}}
"""


def planned(folder: Path, of: str = "digits", given: str = "inverted") -> Any:
    text = EXPERIMENT.format(of=of, input=given)
    return load_experiment(write_experiment(folder, text), folder).runs[0]


@pytest.mark.parametrize(("of", "given", "message"), [
    ("digitz", "inverted", "tiny.yaml:2:.*dataset.of: no dataset is called 'digitz'; did you mean"),
    ("{name: digits, imagesize: 8}", "inverted", "tiny.yaml:2:.*dataset.of: .*image_size"),
    ("{name: pairs, of: digits, input: blur}", "inverted", "tiny.yaml:2:.*data set of images"),
    ("gaussians", "inverted", "tiny.yaml:2:.*gaussians holds vectors"),
    ("digits", "edge", "tiny.yaml:2:.*dataset.input: no input is called 'edge'; did you mean "
                       "'edges'"),
    ("digits", "{name: edges, treshold: 0.3}", "tiny.yaml:2:.*dataset.input: .*threshold"),
    ("digits", "{name: edges, threshold: 3}", "tiny.yaml:2:.*threshold: must be less than 1"),
    ("digits", "[edges]", "tiny.yaml:2:.*a name, or a mapping"),
    ("digits", "grey", "tiny.yaml:2:.*grey already"),
    ("digits", "{name: low_resolution, factor: 9}", "tiny.yaml:2:.*more than the 8 pixels"),
])
def test_a_mistake_is_refused_where_it_stands(tmp_path: Path, of: str, given: str,
                                              message: str) -> None:
    with pytest.raises(SpecError, match=message):
        planned(tmp_path, of, given)


def test_the_id_depends_on_the_input_and_not_on_where_a_folder_lies(tmp_path: Path) -> None:
    assert planned(tmp_path).id != planned(tmp_path, given="mask").id
    assert planned(tmp_path, given="mask").id == planned(
        tmp_path, given="{name: mask, share: 0.5}").id
    ids = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        for i, image in enumerate(pictures(3, 16, count=10)):
            Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / name / f"{i}.png")
        ids.append(planned(tmp_path, f"{{name: image_folder, path: {name}, image_size: 8}}").id)
    assert ids[0] == ids[1]


def test_an_announced_input_that_is_not_decoded_is_refused(tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    from gan_bench.components.data import pairs as module

    monkeypatch.setattr(module, "make_inputs", lambda images, given, seed: images[:, :, :4])
    with pytest.raises(UserError, match="an input of shape"):
        prepared(pairs(), tmp_path)


def test_targets_are_known_without_the_data() -> None:
    assert targets_of(pairs()) == DATASETS.parse("digits")
    assert targets_of(DATASETS.parse("digits")) is None


def test_parts_of_the_targets_share_what_is_decoded(tmp_path: Path) -> None:
    few, whole = (prepared(pairs({"name": "digits", "image_size": 16, **train}), tmp_path)
                  for train in ({"train": 200}, {}))
    assert (len(few.train.images), len(whole.train.images)) == (200, 1438)
    assert torch.equal(few.whole.images, whole.train.images)
    assert len([*(tmp_path / "cache" / "data").iterdir()]) == 1


@pytest.mark.parametrize(("given", "shown", "is_refused"), [
    (1, 1, False), (1, 3, False), (3, 3, False), (3, 1, True)])
def test_inputs_have_the_channels_of_the_targets_or_are_grey(given: int, shown: int,
                                                             is_refused: bool) -> None:
    """Else nothing could show an input beside its target, or copy it in its place."""
    split = ArraySplit(pictures(shown), None, pictures(given))
    facts = DataFacts((shown, 16, 16), 0, 3, 3, "", input=(given, 16, 16))
    with nullcontext() if not is_refused else pytest.raises(UserError, match="inputs have 3 chan"):
        _check(pairs(), Arrays(split, split), facts)
