"""The extractors and the cache, on real digits, and on Inception weights made here."""

from __future__ import annotations

import hashlib
import http.server
import json
import shutil
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.images import save_pngs
from safetensors.torch import save_file
from threadpoolctl import threadpool_info, threadpool_limits
from torch import Tensor, nn
from torch.nn import functional

from gan_bench.components import data as datasets
from gan_bench.components.data import Dataset
from gan_bench.data_facts import gate_over
from gan_bench.errors import UserError
from gan_bench.evaluation.features import classifier as recipe
from gan_bench.evaluation.features import inception as inception_module
from gan_bench.evaluation.features.base import Extractor, hash_of
from gan_bench.evaluation.features.cache import publish, reference_features
from gan_bench.evaluation.features.classifier import augment, build_classifier, classifier
from gan_bench.evaluation.features.dinov2 import VARIABLE as DINOV2
from gan_bench.evaluation.features.dinov2 import dinov2
from gan_bench.evaluation.features.gaussian import Gaussian, fit_gaussian
from gan_bench.evaluation.features.inception import SHA256_VARIABLE, VARIABLE, inception
from gan_bench.evaluation.features.random_weights import random
from gan_bench.registry import DATASETS


def silent(line: str) -> None:
    pass


def must_not_say(line: str) -> None:
    raise AssertionError(f"nothing was to be done, and {line!r} was said")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    part = DATASETS.parse({"name": "digits", "image_size": 8})
    cache = tmp_path_factory.mktemp("data")
    datasets.prepare_data(part, cache, cache)
    return datasets.load(part, cache, cache, "cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def unshipped(digits: Dataset) -> Dataset:
    """Data that no weights ship for, by its fingerprint."""
    return replace(digits, fingerprint="of other data")


@pytest.fixture(scope="module")
def trained(unshipped: Dataset, cache: Path) -> Extractor:
    return classifier(unshipped, cache, "cpu", silent)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "MIN_STEPS", 5)
    monkeypatch.setattr(recipe, "EPOCHS", 1)


def test_the_classifier_passes_its_gate_and_no_miracle(digits: Dataset, trained: Extractor) -> None:
    reached = recipe.accuracy(trained.network, digits.test)
    assert digits.facts.gate <= reached < 1


def test_features_are_512_finite_and_alive(digits: Dataset, trained: Extractor) -> None:
    found = trained(digits.test.images)
    assert found.values.shape == (len(digits.test.images), 512)
    assert found.logits is not None
    assert found.logits.shape == (len(digits.test.images), 10)
    assert found.values.dtype == found.logits.dtype == np.float64
    assert (found.values.std(axis=0) > 0).mean() > 0.9
    assert found.extractor == f"classifier-{trained.weights}"
    other = replace(trained, batch_size=7)(digits.test.images)
    np.testing.assert_allclose(found.values, other.values, atol=1e-5)


def test_a_second_use_reads_what_the_first_has_trained(
    unshipped: Dataset, cache: Path, trained: Extractor
) -> None:
    again = classifier(unshipped, cache, "cpu", must_not_say)
    assert again.weights == trained.weights
    for one, two in zip(trained.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.usefixtures("quick")
def test_training_repeats_whatever_the_threads_and_the_random_state(digits: Dataset) -> None:
    threads = torch.get_num_threads()
    found = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            torch.manual_seed(number)
            before = torch.random.get_rng_state()
            found.append(recipe.train_classifier(digits))
            assert torch.equal(torch.random.get_rng_state(), before)
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)
    for one, two in zip(found[0].parameters(), found[1].parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.usefixtures("quick")
def test_a_classifier_under_its_gate_is_refused(unshipped: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"reaches a test accuracy of 0\.\d+, and its features"):
        classifier(unshipped, tmp_path, "cpu", silent)
    easy = replace(unshipped, facts=replace(unshipped.facts, gate=0.0))
    assert classifier(easy, tmp_path, "cpu", must_not_say).name == "classifier"


@pytest.mark.parametrize(("counts", "test", "gate"), [
    ((500, 500), 1000, 0.707), ((950, 50), 1000, 0.975), ((1,) * 10, 5000, 0.316),
    ((1,) * 1000, 50_000, 0.032), ((1, 1), 20, 0.835), ((1, 1, 1), 6, 0.911), ((1, 1), 2, 1.0),
    ((99, 1), 100, 1.0)])
def test_the_gate_is_over_the_share_of_the_largest_class(counts: tuple[int, ...], test: int,
                                                         gate: float) -> None:
    shares = [count / sum(counts) for count in counts]
    assert gate_over(shares, test) == gate
    assert max(shares) + 0.001 < gate <= 1


@pytest.mark.parametrize("counts", [(300, 300), (570, 30), (200, 200, 200)])
def test_a_classifier_of_noise_is_refused_whatever_the_classes(
    tmp_path: Path, counts: tuple[int, ...]
) -> None:
    """On labels that no image shows, it names the largest class at best."""
    draws = np.random.default_rng(5)
    for split, share in (("train", 1.0), ("test", 0.4)):
        for label, count in enumerate(counts):
            images = draws.integers(0, 256, (int(count * share), 1, 8, 8), dtype=np.uint8)
            save_pngs(tmp_path / "noise" / split / f"c{label}", images)
    part = DATASETS.parse({"name": "image_folder", "path": "noise", "image_size": 8, "channels": 1})
    datasets.prepare_data(part, tmp_path, tmp_path)
    data = datasets.load(part, tmp_path, tmp_path, "cpu")
    largest = max(counts) / sum(counts)
    with pytest.raises(UserError, match=rf"trusted from 0\.\d+ \(the most frequent class alone has "
                                        rf"{largest:.3f}\); leave out") as refused:
        classifier(data, tmp_path, "cpu", silent)
    reached = float(str(refused.value).partition("accuracy of ")[2][:5])
    assert largest - 0.1 < reached < data.facts.gate


def test_two_classes_that_differ_pass_the_gate_and_one_class_cannot_be_judged(
    tmp_path: Path
) -> None:
    draws = np.random.default_rng(6)
    for split, count in (("train", 200), ("test", 60)):
        for label, level in enumerate((60, 120)):
            images = draws.integers(level, level + 100, (count, 1, 8, 8)).astype(np.uint8)
            save_pngs(tmp_path / "levels" / split / f"c{label}", images)
    part = DATASETS.parse({"name": "image_folder", "path": "levels", "image_size": 8,
                           "channels": 1})
    datasets.prepare_data(part, tmp_path, tmp_path)
    data = datasets.load(part, tmp_path, tmp_path, "cpu")
    assert data.facts.gate == 0.707
    assert classifier(data, tmp_path, "cpu", silent).name == "classifier"
    single = replace(data, test=replace(data.test, labels=torch.zeros_like(data.test.labels)))
    with pytest.raises(UserError, match="cannot be judged, because all held-out images are of the"):
        classifier(single, tmp_path, "cpu", silent)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("damage", ["truncated weights", "other weights", "no accuracy"])
def test_a_damaged_classifier_is_named(unshipped: Dataset, tmp_path: Path, damage: str) -> None:
    easy = replace(unshipped, facts=replace(unshipped.facts, gate=0.0))
    classifier(easy, tmp_path, "cpu", silent)
    [folder] = (tmp_path / "extractors").iterdir()
    if damage == "no accuracy":
        (folder / recipe.ABOUT).write_text("{}")
    elif damage == "other weights":
        other = recipe.build_classifier(1, 8, 10).state_dict()
        save_file({name: tensor.contiguous() for name, tensor in other.items()},
                  folder / recipe.WEIGHTS)
    else:
        weights = folder / recipe.WEIGHTS
        weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=rf"{folder.name}: this part of the cache is damaged"):
        classifier(easy, tmp_path, "cpu", silent)


@pytest.mark.parametrize("dataset", [
    {"name": name, "image_size": side} for name, sides in (("digits", (8, 16, 28, 32)),
                                                           ("mnist", (28, 32))) for side in sides])
def test_weights_ship_for_digits_and_mnist_and_pass_the_gate(
    dataset: dict[str, object], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    root = request.getfixturevalue("mnist_root") if dataset["name"] == "mnist" else tmp_path
    part = DATASETS.parse(dataset)
    datasets.prepare_data(part, root, tmp_path / "cache")
    data = datasets.load(part, root, tmp_path / "cache", "cpu")
    home = recipe.shipped(data)
    assert home is not None
    assert (home / recipe.WEIGHTS).stat().st_size < 3e6
    extractor = classifier(data, tmp_path, "cpu", must_not_say)
    content = (home / recipe.WEIGHTS).read_bytes()
    assert extractor.weights == hashlib.sha256(content).hexdigest()[:12]
    reached = recipe.accuracy(extractor.network, data.test)
    about = json.loads((home / recipe.ABOUT).read_text())
    assert reached == pytest.approx(about["accuracy"], abs=0.005)
    assert data.facts.gate <= reached < 1
    assert not (tmp_path / "extractors").exists()


def test_shipped_weights_are_for_their_own_data_and_recipe(
    digits: Dataset, unshipped: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert recipe.shipped(digits) is not None
    assert recipe.shipped(unshipped) is None
    monkeypatch.setattr(recipe, "RECIPE", "2")
    assert recipe.shipped(digits) is None


def test_the_recipe_makes_what_ships(digits: Dataset, trained: Extractor, tmp_path: Path) -> None:
    """The same bits on the processor that made them; elsewhere, the same judgement."""
    ships = classifier(digits, tmp_path, "cpu", must_not_say)
    ours, theirs = trained(digits.test.images).logits, ships(digits.test.images).logits
    assert ours is not None
    assert theirs is not None
    assert (ours.argmax(1) == theirs.argmax(1)).mean() > 0.97


def test_damaged_weights_that_ship_are_named(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(recipe.SHIPPED, tmp_path / "weights")
    monkeypatch.setattr(recipe, "SHIPPED", tmp_path / "weights")
    weights = tmp_path / "weights" / recipe.entry_name(digits) / recipe.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"which ship with gan-bench, are damaged .*install gan-b"):
        classifier(digits, tmp_path, "cpu", silent)
    weights.unlink()
    with pytest.raises(UserError, match="which ship with gan-bench, are damaged"):
        classifier(digits, tmp_path, "cpu", silent)


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 15), (1, 28), (3, 64), (3, 100)])
def test_random_weights_are_fixed_and_keep_the_scale(
    digits: Dataset, tmp_path: Path, channels: int, side: int
) -> None:
    data = replace(digits, facts=replace(digits.facts, shape=(channels, side, side)))
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    one, two = (random(data, tmp_path, "cpu", must_not_say) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one.weights == two.weights
    draws = torch.Generator().manual_seed(0)
    patches = torch.randint(256, (20, channels, 4, 4), generator=draws, dtype=torch.uint8)
    images = functional.interpolate(patches, (side, side))  # finer noise would average out
    found = one(images)
    assert found.values.shape == (20, 512)
    assert found.logits is None
    np.testing.assert_array_equal(found.values, two(images).values)
    assert 0.1 < found.values.std() < 2
    assert (found.values.std(axis=0) > 0).mean() > 0.9
    with torch.no_grad():
        next(one.network.parameters()).flatten()[0] += 1e-6
    assert hash_of(one.network) != one.weights


def test_random_features_without_logits_are_cached_too(digits: Dataset, tmp_path: Path) -> None:
    extractor = random(digits, tmp_path, "cpu", silent)
    first = reference_features(extractor, digits.test.images, "a/test", tmp_path, silent)
    again = reference_features(extractor, digits.test.images, "a/test", tmp_path, must_not_say)
    assert first.logits is again.logits is None
    np.testing.assert_array_equal(again.values, extractor(digits.test.images).values)


HUBCONF = """\
import torch

def dinov2_vitl14():
    torch.manual_seed(7)
    class Backbone(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = torch.nn.Conv2d(3, 8, 14, stride=14)
        def forward(self, images):
            assert images.shape[1:] == (3, 224, 224)
            return self.patches(images).mean(dim=(2, 3))
    return Backbone()
"""


def test_dinov2_from_a_local_clone(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in of the repository's layout: the way there and the scaling, not DINOv2 itself."""
    monkeypatch.setenv(DINOV2, str(tmp_path))
    with pytest.raises(UserError, match=r"GAN_BENCH_DINOV2=.*: the folder holds no hubconf\.py"):
        dinov2(digits, tmp_path, "cpu", silent)
    (tmp_path / "hubconf.py").write_text(HUBCONF)
    before = torch.random.get_rng_state()
    extractor = dinov2(digits, tmp_path, "cpu", silent)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert extractor.weights == hash_of(extractor.network)
    levels = torch.tensor([0, 100, 255], dtype=torch.uint8)
    found = extractor(levels[:, None, None, None].expand(3, 1, 8, 8)).values
    assert extractor(torch.zeros(1, 3, 30, 30, dtype=torch.uint8)).logits is None
    patches = extractor.network.backbone.patches  # type: ignore[union-attr]
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    for row, level in zip(found, levels, strict=True):
        plain = ((level / 255 - mean) / deviation)[None, :, None, None].expand(1, 3, 14, 14)
        expected = patches(plain).flatten().detach().numpy()  # type: ignore[operator]
        np.testing.assert_allclose(row, expected, atol=1e-4)


def test_dinov2_out_of_reach_is_named(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DINOV2, raising=False)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    with pytest.raises(UserError, match=r"dinov2 is unavailable \(.*\); put a clone of"):
        dinov2(digits, tmp_path, "cpu", silent)


@pytest.mark.parametrize("side", [8, 9, 15, 28, 32, 63, 64, 100, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_network_takes_any_size_and_pools_as_adaptive_pooling(side: int, channels: int) -> None:
    network = build_classifier(channels, side, 5).eval()
    images = torch.randint(256, (2, channels, side, side), dtype=torch.uint8)
    with torch.no_grad():
        values, logits = network(images)
        layers = network.features
        convolved = layers[:-2](images.float() / 127.5 - 1)  # type: ignore[index, operator]
    assert values.shape == (2, 512)
    assert logits.shape == (2, 5)
    expected = functional.adaptive_avg_pool2d(convolved, 2).flatten(1)
    torch.testing.assert_close(values, expected)


def test_augmentation_shifts_blurs_and_adds_noise_to_some() -> None:
    points = torch.zeros(600, 1, 28, 28, dtype=torch.uint8)
    points[:, :, 14, 10] = 255
    found = augment(points, torch.Generator().manual_seed(1))
    again = augment(points, torch.Generator().manual_seed(1))
    assert torch.equal(found, again)
    peaks = {divmod(int(i), 28) for i in found.flatten(1).argmax(1)}
    near = {(y, x) for y in range(12, 17) for x in range(8, 13)}
    assert near <= peaks  # every shift by up to 2 pixels occurs
    corner = found[:, 0, 0, 0]  # far from the point: noise alone
    assert 0.4 < float((corner == 0).float().mean()) < 0.6
    assert 10 < float(corner.std()) < recipe.NOISE
    top = found.flatten(1).amax(1)[corner == 0]
    assert 0.4 < float((top == 255).float().mean()) < 0.6  # not blurred
    assert 63 < float(top.min()) < 127  # blurred most: a quarter of it is left


def test_the_reference_is_computed_once_and_mapped(
    digits: Dataset, cache: Path, trained: Extractor
) -> None:
    said: list[str] = []
    first = reference_features(trained, digits.test.images, "a/test", cache, said.append)
    assert len(said) == 1
    again = reference_features(trained, digits.test.images, "a/test", cache, must_not_say)
    assert isinstance(again.values, np.memmap)
    direct = trained(digits.test.images)
    for found in (first, again):
        np.testing.assert_array_equal(found.values, direct.values)
        np.testing.assert_array_equal(found.logits, direct.logits)
        np.testing.assert_array_equal(found.gaussian.factor, direct.gaussian.factor)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of arrays that are read-only
        mine = torch.as_tensor(again.values)  # as a third party's metric may begin
    assert again.values.flags.writeable  # torch warns once in a process
    mine[:] = 0
    again = reference_features(trained, digits.test.images, "a/test", cache, must_not_say)
    np.testing.assert_array_equal(again.values, direct.values)
    reference_features(trained, digits.test.images, "b/test", cache, said.append)
    reference_features(replace(trained, weights="0"), digits.test.images, "a/test", cache,
                       said.append)
    assert len(said) == 3  # other data and other weights are other features


@pytest.mark.parametrize(("name", "what"), [
    ("values.npy", "bit"), ("logits.npy", "bit"), ("mean.npy", "bit"), ("factor.npy", "bit"),
    ("values.npy", "empty"), ("logits.npy", "missing"), ("checksums.json", "empty"),
    ("checksums.json", "[]"), ("checksums.json", "{}"), ("checksums.json", "missing"),
])
def test_a_damaged_reference_is_named(digits: Dataset, tmp_path: Path, trained: Extractor,
                                      name: str, what: str) -> None:
    reference_features(trained, digits.test.images, "a/test", tmp_path, silent)
    [folder] = (tmp_path / "features").iterdir()
    file = folder / name
    if what == "bit":  # a single one, in the last number
        content = bytearray(file.read_bytes())
        content[-8] ^= 1
        file.write_bytes(content)
    elif what == "missing":
        file.unlink()
    else:
        file.write_text("" if what == "empty" else what)
    reason = rf"the content of {name} has changed" if what == "bit" else ".+"
    with pytest.raises(UserError, match=rf"{folder.name}: .* is damaged \({reason}\); delete the "
                                        r"folder"):
        reference_features(trained, digits.test.images, "a/test", tmp_path, must_not_say)
    shutil.rmtree(folder)
    reference_features(trained, digits.test.images, "a/test", tmp_path, silent)


def test_publishing_is_whole_or_not_at_all(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(tmp_path / "entry", fail)
    assert list(tmp_path.iterdir()) == []

    publish(tmp_path / "entry", lambda folder: (folder / "a").touch())
    publish(tmp_path / "entry", lambda folder: (folder / "b").touch())  # too late
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == [
        "entry", "entry/a"]

    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/entry: cannot be written"):
        publish(tmp_path / "file" / "entry", silent)  # type: ignore[arg-type]


def test_features_that_are_not_finite_are_an_error() -> None:
    class Broken(nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return images.flatten(1) / 0, images.flatten(1)

    extractor = Extractor("broken", "0", Broken().eval(), "cpu", 10)
    with pytest.raises(FloatingPointError, match="broken-0 gives features that are not finite"):
        extractor(torch.ones(3, 1, 8, 8, dtype=torch.uint8))
    extractor.network.train()
    with pytest.raises(AssertionError):
        extractor(torch.zeros(3, 1, 8, 8, dtype=torch.uint8))


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the published layout and of random content, scaled so that activations survive."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Random(FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, *_: object, **__: object) -> None:
            pass

    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save({}, path)
    network = Random("random", ["2048"], feature_extractor_weights_path=str(path))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
    torch.save(network.state_dict(), path)
    return path


@pytest.mark.long
def test_inception_is_torch_fidelitys(
    inception_weights: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Scores of 20 real and 20 other images through the whole path, beside calculate_metrics."""
    from torch_fidelity import calculate_metrics

    from gan_bench.evaluation.metrics.frechet import frechet_distance
    from gan_bench.evaluation.metrics.inception_score import inception_score
    from gan_bench.evaluation.metrics.kernel import kernel_distance
    from gan_bench.evaluation.metrics.precision_recall import precision, recall

    monkeypatch.setenv(VARIABLE, str(inception_weights))
    said: list[str] = []
    digest = hashlib.sha256(inception_weights.read_bytes()).hexdigest()
    for wrong in (None, "", digest[:7], "0" * 8):  # of another content, and not said to be meant
        if wrong is not None:
            monkeypatch.setenv(SHA256_VARIABLE, wrong)
        with pytest.raises(UserError, match=rf"starts with {digest[:8]} and not with .*"
                                            rf"other weights, set {SHA256_VARIABLE}={digest[:8]}"):
            inception(digits, tmp_path, "cpu", silent)
    monkeypatch.setenv(SHA256_VARIABLE, digest[:8])
    extractor = inception(digits, tmp_path, "cpu", said.append)
    assert extractor.weights == digest[:12]
    assert "not the published Inception" in said[0]
    real, fake = digits.test.images[:20], digits.test.images[20:40].flip(3)
    real_features, fake_features = extractor(real), extractor(fake)
    assert real_features.values.shape == (20, 2048)

    @dataclass
    class Images(torch.utils.data.Dataset[torch.Tensor]):
        images: torch.Tensor

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, index: int) -> torch.Tensor:
            return self.images[index].expand(3, -1, -1)

    theirs = calculate_metrics(
        input1=Images(fake), input2=Images(real), isc=True, fid=True, kid=True, prc=True,
        kid_subsets=1, kid_subset_size=20, prc_neighborhood=3, cuda=False, cache=False,
        feature_extractor_weights_path=str(inception_weights), verbose=False,
        save_cpu_ram=True, batch_size=50, feature_extractor="inception-v3-compat")
    # Theirs takes the roots of some 2000 eigenvalues that are 0 but for rounding.
    assert frechet_distance(real_features, fake_features) == pytest.approx(
        theirs["frechet_inception_distance"], rel=1e-3)
    # Random weights have no opinion: the score is 1 and a few millionths, and these are compared.
    assert inception_score(None, fake_features) - 1 == pytest.approx(
        theirs["inception_score_mean"] - 1, rel=1e-3)
    assert theirs["inception_score_mean"] > 1
    # Theirs subtracts kernel values of about 1 in float32; the tests of metrics give it float64.
    assert kernel_distance(real_features, fake_features) == pytest.approx(
        theirs["kernel_inception_distance_mean"], abs=1e-6)
    assert theirs["kernel_inception_distance_mean"] > 1e-5
    # Counts of 20, and theirs are float32.
    assert round(20 * theirs["precision"]) == 20 * precision(real_features, fake_features)
    assert round(20 * theirs["recall"]) == 20 * recall(real_features, fake_features)
    assert 0 < theirs["precision"] < 1  # a test of 0 or of 1 would prove little
    assert 0 < theirs["recall"] < 1


@pytest.mark.parametrize("content", ["truncated", "a pickle that runs code", "other tensors"])
def test_a_wrong_file_of_inception_weights_is_named(
    content: str, digits: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, ran = tmp_path / "weights.pth", tmp_path / "ran"
    if content == "a pickle that runs code":
        torch.save(Touch(ran), path)
    else:
        torch.save({"fc.weight": torch.zeros(3)}, path)
    if content == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    monkeypatch.setenv(VARIABLE, str(path))
    with pytest.raises(UserError, match=r"weights\.pth: its sha256 starts with"):
        inception(digits, tmp_path, "cpu", silent)
    monkeypatch.setenv(SHA256_VARIABLE, hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(UserError, match=r"weights\.pth: not a file of weights"):
        inception(digits, tmp_path, "cpu", silent)
    assert not ran.exists()


@dataclass
class Touch:
    """Unpickled, makes a file."""

    path: Path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_missing_file_of_inception_weights_is_named(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none.pth"))
    with pytest.raises(UserError, match=r"GAN_BENCH_INCEPTION=.*none\.pth: no such file"):
        inception(digits, tmp_path, "cpu", silent)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder served on the loopback in the place of the release page; an empty hub folder."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        monkeypatch.delenv(VARIABLE, raising=False)
        monkeypatch.setattr(inception_module, "URL",
                            f"http://127.0.0.1:{httpd.server_port}/weights.pth")
        monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
        yield folder
        httpd.shutdown()


def test_the_download(server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "hub" / "checkpoints" / "weights.pth"
    with pytest.raises(UserError, match=r"are not at .* and downloading http.* failed .*404"):
        inception_module.weights_file(silent)
    (server / "weights.pth").write_bytes(b"not what was published")
    with pytest.raises(UserError, match=r"failed \(invalid hash value"):
        inception_module.weights_file(silent)
    assert not target.exists()
    digest = hashlib.sha256(b"not what was published").hexdigest()
    monkeypatch.setattr(inception_module, "SHA256_START", digest[:8])
    said: list[str] = []
    assert inception_module.weights_file(said.append) == target
    assert said == [f"downloading {inception_module.URL}"]
    assert inception_module.weights_file(must_not_say) == target


@pytest.mark.usefixtures("server")
def test_a_damaged_download_is_named(digits: Dataset, tmp_path: Path) -> None:
    target = tmp_path / "hub" / "checkpoints" / "weights.pth"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"half")
    with pytest.raises(UserError, match=r"weights\.pth: its sha256 starts with .* delete it"):
        inception(digits, tmp_path, "cpu", silent)


def test_reference_features_are_made_in_one_thread(digits: Dataset, tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever command fills the cache, whatever threads it takes: sums depend on their number."""
    seen: list[int] = []

    def threads() -> list[int]:
        return [torch.get_num_threads(),
                *(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")]

    class Watching(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, None]:
            seen.extend(threads())
            return images.flatten(1).float(), None

    def fit(values: np.ndarray) -> Gaussian:
        fitted.append(threads())
        return fit_gaussian(values)

    fitted: list[list[int]] = []
    monkeypatch.setattr("gan_bench.evaluation.features.base.fit_gaussian", fit)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with threadpool_limits(2, user_api="blas"):
            outside = threads()
            extractor = Extractor("watching", "0", Watching().eval(), "cpu", 250)
            reference_features(extractor, digits.test.images, "a/test", tmp_path, silent)
            assert threads() == outside == [2] * len(outside)
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}
    assert len(seen) >= len(outside) >= 2
    assert fitted == [[1] * len(outside)]
