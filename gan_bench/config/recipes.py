"""Recipes: the settings of a paper, or of a widely copied code, under one name.

`recipe: wgan_gp2017` in `base`, in a variant or on an axis stands for the keys listed here. They
come before the other keys of the same place, which may override them. All recipes set the same
keys, so a recipe that overrides another one replaces all its settings. A recipe does not set the
data set, the image size, the steps and the seeds.

Where a recipe departs from its paper, it says so: `paper` holds what the paper has for a key, and
`lacks` what no key can say. `gan-bench plan` compares each run with both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """Settings under a name.

    Attributes:
        source: Where the settings come from.
        settings: Keys of a run, as in `base`.
        paper: What the paper has for a key where the recipe has something else: key, or part and
            argument (`model.width`) → the values in the paper, as text.
        lacks: In what else it departs, for no key can express it, each as a phrase.
    """

    source: str
    settings: Mapping[str, Any]
    paper: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()


def _adam(lr: float, beta1: float, beta2: float) -> dict[str, Any]:
    return {"name": "adam", "lr": lr, "betas": [beta1, beta2]}


RECIPES: dict[str, Recipe] = {
    "goodfellow2014": Recipe(
        "Goodfellow et al. 2014: fully connected, D with dropout, momentum SGD, k = 1.",
        {"model": {"name": "mlp_dropout", "dropout": 0.5}, "loss": "non_saturating",
         "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.5}, "batch_size": 100,
         "order": "d_first", "share_fakes": False, "d_loss_reduction": "sum", "d_steps": 1,
         "penalties": [], "ema": None},
        {"latents": ("uniform",)},
        ("leaky ReLU and tanh (there maxout in D, ReLU and sigmoid in G)",
         "no dropout on D's input (there 0.2)",
         "constant rate and momentum (there they change from epoch to epoch)")),
    "dcgan2015": Recipe(
        "Radford et al. 2015, section 4: DCGAN, Adam 2e-4 with β₁ 0.5, batches of 128, weights "
        "N(0, 0.02).",
        {"model": "dcgan", "loss": "non_saturating", "optimizer": _adam(2e-4, 0.5, 0.999),
         "batch_size": 128, "order": "d_first", "share_fakes": False, "d_loss_reduction": "sum",
         "d_steps": 1,
         "penalties": [], "ema": None},
        {"latents": ("uniform",)}),
    "wgan2017": Recipe(
        "Arjovsky et al. 2017, algorithm 1: the critic's weights clipped to ±0.01, RMSProp 5e-5, "
        "five critic steps, batches of 64.",
        {"model": "dcgan", "loss": "wgan", "penalties": ["weight_clip"],
         "optimizer": {"name": "rmsprop", "lr": 5e-5}, "batch_size": 64, "order": "d_first",
         "share_fakes": False, "d_loss_reduction": "sum", "d_steps": 5,
         "ema": None},
        lacks=("five critic steps throughout (the published code takes 100 at each of the first "
               "25 steps and at each 500th)",)),
    "wgan_gp2017": Recipe(
        "Gulrajani et al. 2017, algorithm 1 and section 5: gradient penalty 10, five critic steps, "
        "Adam 1e-4 (0, 0.9), batches of 64, no batch norm in the critic.",
        {"model": {"name": "dcgan", "d_norm": "none"}, "loss": "wgan",
         "penalties": ["gradient_penalty"], "optimizer": _adam(1e-4, 0.0, 0.9), "batch_size": 64,
         "order": "d_first", "share_fakes": False, "d_loss_reduction": "sum", "d_steps": 5,
         "ema": None}),
    "pix2pix2017": Recipe(
        "Isola et al. 2017, sections 3 and 6: U-Net and PatchGAN of 70 pixels, L1 with weight 100, "
        "Adam 2e-4 (0.5, 0.999), D's loss halved; batches of 4, as for its photos of shoes. It "
        "needs pairs, and `condition: concat`.",
        {"model": "unet", "loss": "non_saturating", "penalties": [{"name": "l1", "weight": 100.0}],
         "optimizer": _adam(2e-4, 0.5, 0.999), "batch_size": 4, "order": "d_first",
         "share_fakes": True, "d_loss_reduction": "mean", "d_steps": 1, "ema": None},
        lacks=("running statistics and no dropout in measurements (there those of the image, and "
               "dropout)",
               "no random crops and mirror images",
               "constant rates (there they fall in the second half of the run)")),
    "sngan2018": Recipe(
        "Miyato et al. 2018: residual networks, spectral norm in D, hinge loss, five D steps, Adam "
        "2e-4 (0, 0.9), batches of 64, linearly falling rates.",
        {"model": "resnet", "loss": "hinge", "penalties": ["spectral_norm"],
         "optimizer": {**_adam(2e-4, 0.0, 0.9), "schedule": "linear"}, "batch_size": 64,
         "order": "d_first", "share_fakes": False, "d_loss_reduction": "sum", "d_steps": 5,
         "ema": None},
        {"model.bn_eps": ("2e-05",)},
        ("one batch size for D and G (there 128 for G)", "a bias in D's last layer (there none)")),
    "r3gan2025": Recipe(
        "Huang et al. 2024, \"The GAN is dead; long live the GAN!\": relativistic pairing with R1 "
        "and R2, D first, fresh real examples for G, Adam with β₁ 0, averaged weights.",
        {"model": "r3", "loss": "relativistic_pairing", "penalties": [
            {"name": "r1", "gamma": 1.0}, {"name": "r2", "gamma": 1.0}],
         "optimizer": _adam(2e-4, 0.0, 0.99), "batch_size": 64, "ema": 0.999, "order": "d_first",
         "share_fakes": False, "d_loss_reduction": "sum", "d_steps": 1},
        {"batch_size": ("256", "512"), "model.width": ("768",), "model.blocks": ("2",),
         "augmentation": ("ada", "flip+ada")},
        ("constant γ, rates and β₂ (there scheduled)",
         "the average has the ramp of StyleGAN2 (there its half-life rises along a cosine)",
         "tanh at G's end (there none)")),
    "pytorch_gan_script": Recipe(
        "The script `gan.py` of PyTorch-GAN (E. Linder-Norén): G first, D on the same fakes, half "
        "the sum of D's terms, and 0.8 as batch norm's ε. With another model, give bn_eps "
        "again: `dcgan.py` is {name: dcgan_upsample, bn_eps: [1e-5, 0.8, 0.8, 0.8, 0.8, 0.8], "
        "init: normal_conv}.",
        {"model": {"name": "mlp", "bn_eps": 0.8}, "loss": "non_saturating",
         "optimizer": _adam(2e-4, 0.5, 0.999), "batch_size": 64, "order": "g_first",
         "share_fakes": True, "d_loss_reduction": "mean", "d_steps": 1,
         "penalties": [], "ema": None}),
}
