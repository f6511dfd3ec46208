"""The contracts of parts: every built-in part keeps its own; each fault of a user's is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_bench.registry import REGISTRIES, Entry, read_plugin, use_plugins
from gan_bench.training.contract import check_entry

# The others need a download, or are trained first.
HERE = {"dataset": ["digits", "gaussians"], "extractor": ["random"]}
SMALL = {"width": 4, "latent_dim": 20, "mapping_layers": 2}
BUILT_IN = [pytest.param(registry.kind, entry, id=f"{registry.kind}-{entry.name}")
            for registry in REGISTRIES for entry in registry
            if entry.name in HERE.get(registry.kind, [entry.name])]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As runs have it: with more, sums may be added up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    use_plugins(())


@pytest.mark.parametrize(("kind", "entry"), BUILT_IN)
def test_a_built_in_part_keeps_its_contract(tmp_path: Path, kind: str, entry: Entry[Any, Any],
                                            ) -> None:
    given = {key: value for key, value in SMALL.items()
             if kind == "model" and key in entry.schema.model_fields}
    if kind == "model" and entry.facts.takes == "image":
        given = {"width": 4, "d_width": 4}  # it has no latents
    found = check_entry(kind, entry, tmp_path, **given)
    problems = [(result.what, result.problem) for result in found if not result.is_note]
    assert len(problems) >= 3
    if entry.name == "jeffreys":  # f* grows as exp(t), which its docstring says
        assert [what for what, problem in problems if problem] == ["is finite at logits of ±100"]
    else:
        assert [problem for _, problem in problems if problem] == []


HEAD = """\
import random
import numpy as np
import torch
from torch import nn
from torch.nn.functional import softplus
from gan_bench.components.augmentations.base import Augmentation, Probability
from gan_bench.components.data import Arrays, ArraySplit
from gan_bench.components.losses import Loss
from gan_bench.components.penalties import Penalty
from gan_bench.data_facts import DataFacts
from gan_bench.evaluation.features.base import Extractor
from gan_bench.registry import *
from gan_bench.registry import AugmentationFacts, DatasetFacts, LossFacts, MetricFacts, PenaltyFacts


class Count(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * (1 + 0.01 * self.calls)


class Noise(nn.Module):
    def forward(self, x):
        return x + SOURCE * self.training


def flat(latents, *layers, d=()):
    g = nn.Sequential(nn.Linear(latents, 64), *layers, nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))
    return g, nn.Sequential(nn.Flatten(), *d, nn.Linear(64, 1), nn.Flatten(0))


"""
MODEL = "@MODELS.register('mine')\ndef mine(shape, *, latent_dim: int = 4):\n    return {}\n"
STYLED = MODEL.replace("'mine'", "'mine', ModelFacts(styles=True)")
LOSS = "@LOSSES.register('mine'{})\ndef mine():\n    return Loss({}, {})\n"
FAIR = "lambda r, f: (softplus(-r).mean(), softplus(f).mean())"
G = "lambda f, r: softplus(-f).mean()"
METRIC = ("@METRICS.register('mine', MetricFacts(better=None, extractor='random', reference='train'"
          ", refuses=lambda data: None))\ndef mine(real, fake):\n    return {}\n")
PENALTY = "@PENALTIES.register('mine', PenaltyFacts(on_examples=True, term=True))\ndef mine():\n" \
          "    return Penalty(lambda d, real, fake, draws: {})\n"
G_PENALTY = ("@PENALTIES.register('mine', PenaltyFacts(on_examples=False, term=False, g_term={}))\n"
             "def mine():\n    return Penalty(g_term=lambda g, z, draws, memory: {})\n")
WEIGHTS_PENALTY = PENALTY.replace("on_examples=True", "on_examples=False").replace(
    "lambda d, real, fake, draws:", "weights_term=lambda d:")
FADING = ("@PENALTIES.register('mine', PenaltyFacts(on_examples=False, term=False))\n"
          "def mine():\n    return Penalty(noise=lambda examples, draws, done: examples * "
          "min(1.0, 1.5 - done))\n")
AUGMENTATION = ("@AUGMENTATIONS.register('mine')\ndef mine():\n"
                "    return Augmentation(lambda x, draws, p: {})\n")
BATCHED = "x * torch.rand((len(x), 1, 1, 1), generator=draws)"
OPTIMIZER = ("@OPTIMIZERS.register('mine')\ndef mine(parameters, *, {}):\n"
             "    return torch.optim.SGD(parameters, lr=lr)\n")
RATE = "lr: float = 0.1, schedule: str = 'constant'"
EXTRACTOR = ("class Net(nn.Module):\n    def forward(self, x):\n        return {}, None\n\n\n"
             "@EXTRACTORS.register('mine')\ndef mine(data, cache, device, say):\n"
             "    return Extractor('mine', '0' * 12, Net().eval(), device, 8)\n")
DATA = ("@DATASETS.register('mine', DatasetFacts(describe=lambda root: DataFacts((2,), 0, 50, 20, "
        "'mine')))\ndef mine(root, say):\n    def split(n):\n"
        "        return ArraySplit({}, None)\n    return Arrays(split(50), split(20))\n")
GOOD = {
    "model": MODEL.format("flat(latent_dim)"), "loss": LOSS.format("", FAIR, G),
    "metric": METRIC.format("float(((real.values.mean(0) - fake.values.mean(0)) ** 2).sum())"),
    "penalty": PENALTY.format("d(fake).square().mean()"), "optimizer": OPTIMIZER.format(RATE),
    "augmentation": AUGMENTATION.format(BATCHED),
    "extractor": EXTRACTOR.format("x.float().flatten(1)"),
    "dataset": DATA.format("np.zeros((n, 2), np.float32)"),
}
FAULTY = [
    ("model", MODEL.format("flat(latent_dim)[0]"), "makes data of some usual shape",
     "return (generator, discriminator)"),
    ("model", MODEL.replace("latent_dim: int", "latents: int").format("flat(latents)"),
     "has the argument latent_dim", "add latent_dim: int = 64"),
    ("model", MODEL.format("flat(latent_dim, Count())"), "repeats itself in eval mode",
     "G gives other values"),
    ("model", MODEL.format("flat(latent_dim, Noise())").replace("SOURCE", "0"),
     "noise layers repeat under the same seed", "G gives other values"),
    ("model", MODEL.format("flat(latent_dim, d=[nn.BatchNorm1d(64)])"),
     "D says rightly", "state ModelFacts(mixes="),
    ("model", MODEL.format("(lambda g, d: (nn.Sequential(g, nn.ReLU(), Extra()), d))"
                           "(*flat(latent_dim))"),
     "every parameter receives a gradient", "2.unused of G receives none"),
    ("model", STYLED.format("flat(latent_dim)"), "G's images are those of its styles",
     "has no attribute 'styles'"),
    ("model", MODEL.format("flat(latent_dim, Memory())"), "resumes from a checkpoint to the bit",
     "keep what a layer remembers in a buffer"),
    ("loss", LOSS.format("", "lambda r, f: (-r.sigmoid().log().mean(), f.exp().mean())", G),
     "is finite at logits", "not finite at real +100, fake +100"),
    ("loss", LOSS.format("", "lambda r, f: (softplus(-r), softplus(f))", G), "terms are scalars",
     "take the mean"),
    ("loss", LOSS.format("", "lambda r, f: softplus(-r).mean()", G), "terms are scalars",
     "must be a tuple"),
    ("loss", LOSS.format("", FAIR, "lambda f, r: softplus(-f.detach()).mean() + 0 * f.mean()"),
     "a gradient reaches", "G's loss does not depend on the fake logits"),
    ("loss", LOSS.format(", LossFacts(one_term=True)", FAIR, G), "its facts are true",
     "LossFacts says one_term=True, and the Loss has False"),
    ("loss", LOSS.format("", FAIR, "lambda f, r: softplus(-f).mean() * (1 + torch.rand(()))"),
     "repeats itself", "global random state"),
    ("metric", METRIC.format("float('nan')"), "gives finite scores", "mine is not finite"),
    ("metric", METRIC.format("{'other': 1.0}"), "gives finite scores", "other names"),
    ("metric", METRIC.format("float(np.random.rand())"), "gives finite scores",
     "global random state"),
    ("metric", METRIC.format("float(id(real) % 9973)"), "repeats itself", "other scores"),
    ("penalty", PENALTY.format("d(fake)"), "finite scalar", "no scalar"),
    ("penalty", PENALTY.format("torch.ones((), requires_grad=True) * 1"), "finite scalar",
     "no gradient reaches D"),
    ("penalty", PENALTY.format("d(fake + torch.rand_like(fake)).mean()"), "finite scalar",
     "use `draws`"),
    ("penalty", G_PENALTY.format("False", "g(z).mean()"), "its facts are true",
     "PenaltyFacts says g_term=False"),
    ("penalty", G_PENALTY.format("True", "g(z)"), "its term of G's loss", "no scalar"),
    ("penalty", G_PENALTY.format("True", "g(z).mean() / 0"), "its term of G's loss",
     "not finite"),
    ("penalty", G_PENALTY.format("True", "g(z).mean().detach().requires_grad_() * 1"),
     "its term of G's loss", "no gradient reaches G's parameters"),
    ("penalty", G_PENALTY.format("True", "g(z + torch.rand_like(z)).mean()"),
     "its term of G's loss", "use `draws`"),
    ("penalty", WEIGHTS_PENALTY.format("torch.ones((), requires_grad=True) * 1"),
     "its term of D's weights", "no gradient reaches D's parameters"),
    ("penalty", WEIGHTS_PENALTY.format("next(d.parameters()).mean() * torch.rand(())"),
     "its term of D's weights", "global random state"),
    ("penalty", FADING, "its noise is that of a run with more steps", "whole_run=True"),
    ("augmentation", AUGMENTATION.format("x[:, :, 1:]"), "keeps the shape", "another shape"),
    ("augmentation", AUGMENTATION.format("x * torch.rand(())"), "keeps the shape", "use `draws`"),
    ("augmentation", AUGMENTATION.format("x.mul_(0.5)"), "keeps the shape", "make new ones"),
    ("augmentation", AUGMENTATION.format("x.round()"), "by itself", "no gradient reaches"),
    ("augmentation", AUGMENTATION.format("x.detach()"), "by itself", "no gradient reaches"),
    ("augmentation", AUGMENTATION.format("x + x.mean()"), "by itself", "others of its batch"),
    ("augmentation", AUGMENTATION.format(BATCHED + ", probability=Probability(0.5)"), "facts",
     "says has_p=False"),
    ("optimizer", OPTIMIZER.format("lr: float = 0.1"), "has a learning rate and a schedule",
     "no argument schedule"),
    ("extractor", EXTRACTOR.format("x.float().mean()[None]"), "gives finite features",
     "make (40, "),
    ("extractor", EXTRACTOR.format("torch.rand(len(x), 3)"), "repeats itself",
     "global random state"),
    ("dataset", DATA.format("np.zeros((n, 3), np.float32)"), "is as described",
     "make float32 (50, 2)"),
    ("dataset", DATA.format("np.random.rand(n, 2).astype(np.float32)"), "repeats itself",
     "differ the second time"),
]
MORE = """

class Extra(nn.Module):
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x


class Memory(nn.Module):
    def __init__(self):
        super().__init__()
        self.mean = 0.0

    def forward(self, x):
        if self.training and torch.is_grad_enabled():
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean()
        return x + self.mean * self.training * torch.is_grad_enabled()
"""


def problems_of(folder: Path, kind: str, code: str) -> dict[str, str]:
    """What the checks of the part in a file say is wrong."""
    file = folder / "mine.py"
    source = "torch.rand_like(x)" if "SOURCE" not in code else "random.random()"
    file.write_text(HEAD.replace("SOURCE", "random.random()" if "Noise" in code else source)
                    + MORE + "\n\n" + code)
    use_plugins([read_plugin(file)])
    registry = next(registry for registry in REGISTRIES if registry.kind == kind)
    found = check_entry(kind, registry["mine"], folder)
    assert len(found) >= 1
    return {result.what: result.problem for result in found
            if result.problem and not result.is_note}


@pytest.mark.parametrize("kind", GOOD)
def test_a_part_of_a_user_keeps_its_contract(tmp_path: Path, kind: str) -> None:
    assert problems_of(tmp_path, kind, GOOD[kind]) == {}


@pytest.mark.parametrize(("kind", "code", "what", "problem"), FAULTY)
def test_a_fault_is_found_and_named(tmp_path: Path, kind: str, code: str, what: str, problem: str,
                                    ) -> None:
    found = problems_of(tmp_path, kind, code)
    named = [text for name, text in found.items() if what in name]
    assert len(named) == 1, found
    assert problem in named[0]
