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


# What BigGAN's code has for SAGAN and for CIFAR-10.
_UNSHARED = {"width": 64, "latent_dim": 128, "hierarchical": False, "shared_dim": None}
# What several recipes depart in.
_LATE_AVERAGE = "the average has StyleGAN2's ramp (there it begins at step {})"
_TWO_BATCHES = ("D's power iteration takes a step for real and one for generated images (there one "
                "for both in one batch)")
_ONE_STEP = ("penalties are added to the losses (there each has an Adam step of its own, with rate "
             "and β₂ lowered for it)")

RECIPES: dict[str, Recipe] = {
    "goodfellow2014": Recipe(
        "Goodfellow et al. 2014: fully connected, D with dropout, momentum SGD, k = 1.",
        {"model": {"name": "mlp_dropout", "dropout": 0.5}, "loss": "non_saturating",
         "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.5}, "batch_size": 100,
         "order": "d_first", "share_fakes": False, "d_loss_reduction": "sum", "d_steps": 1,
         "penalties": [], "augmentation": [], "ema": None},
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
         "penalties": [], "augmentation": [], "ema": None},
        {"latents": ("uniform",)}),
    "wgan2017": Recipe(
        "Arjovsky et al. 2017, algorithm 1: the critic's weights clipped to ±0.01, RMSProp 5e-5, "
        "five critic steps, batches of 64.",
        {"model": "dcgan", "loss": "wgan", "penalties": ["weight_clip"],
         "optimizer": {"name": "rmsprop", "lr": 5e-5}, "batch_size": 64, "order": "d_first",
         "share_fakes": False, "d_loss_reduction": "sum", "d_steps": 5,
         "augmentation": [], "ema": None},
        lacks=("five critic steps throughout (the published code takes 100 at each of the first "
               "25 steps and at each 500th)",)),
    "wgan_gp2017": Recipe(
        "Gulrajani et al. 2017, algorithm 1 and section 5: gradient penalty 10, five critic steps, "
        "Adam 1e-4 (0, 0.9), batches of 64, no batch norm in the critic.",
        {"model": {"name": "dcgan", "d_norm": "none"}, "loss": "wgan",
         "penalties": ["gradient_penalty"], "optimizer": _adam(1e-4, 0.0, 0.9), "batch_size": 64,
         "order": "d_first", "share_fakes": False, "d_loss_reduction": "sum", "d_steps": 5,
         "augmentation": [], "ema": None}),
    "sngan2018": Recipe(
        "Miyato et al. 2018: residual networks, spectral norm in D, hinge loss, five D steps, Adam "
        "2e-4 (0, 0.9), batches of 64, linearly falling rates.",
        {"model": "resnet", "loss": "hinge", "penalties": ["spectral_norm"],
         "optimizer": {**_adam(2e-4, 0.0, 0.9), "schedule": "linear"}, "batch_size": 64,
         "order": "d_first", "share_fakes": False, "d_loss_reduction": "sum", "d_steps": 5,
         "augmentation": [], "ema": None},
        {"model.bn_eps": ("2e-05",)},
        ("one batch size for D and G (there 128 for G)", "a bias in D's last layer (there none)")),
    "r3gan2025": Recipe(
        "Huang et al. 2024, \"The GAN is dead; long live the GAN!\": relativistic pairing with R1 "
        "and R2, D first, fresh real examples for G, Adam with β₁ 0, averaged weights.",
        {"model": "r3", "loss": "relativistic_pairing", "penalties": [
            {"name": "r1", "gamma": 1.0}, {"name": "r2", "gamma": 1.0}],
         "optimizer": _adam(2e-4, 0.0, 0.99), "batch_size": 64, "ema": 0.999, "order": "d_first",
         "share_fakes": False, "d_loss_reduction": "sum", "d_steps": 1, "augmentation": []},
        {"batch_size": ("256", "512"), "model.width": ("768",), "model.blocks": ("2",),
         "augmentation": ("ada", "flip+ada")},
        ("constant γ, rates and β₂ (there scheduled)",
         "the average has the ramp of StyleGAN2 (there its half-life rises along a cosine)",
         "tanh at G's end (there none)")),
    "sagan2018": Recipe(
        "Zhang et al. 2018, \"Self-attention generative adversarial networks\", section 4: "
        "residual networks with spectral norm in G and D and attention at half the size, hinge "
        "loss, Adam (0, 0.9), D's rate four times G's; layers as in BigGAN's PyTorch code.",
        {"model": {"name": "biggan", **_UNSHARED, "attention": "half", "init": "xavier"},
         "loss": "hinge", "penalties": [], "g_optimizer": _adam(1e-4, 0.0, 0.9),
         "d_optimizer": _adam(4e-4, 0.0, 0.9), "batch_size": 256, "order": "d_first",
         "share_fakes": False, "d_loss_reduction": "sum", "d_steps": 1, "augmentation": [],
         "ema": None},
        {"condition": ("projection",)}),
    "biggan2018": Recipe(
        "Brock et al. 2018, \"Large scale GAN training for high fidelity natural image "
        "synthesis\", section 4 and appendix C: SAGAN with wider networks, latents and a shared "
        "embedding of the label in each block, orthogonal weights, two D steps, averaged weights.",
        {"model": "biggan", "loss": "hinge", "penalties": ["orthogonal_g"],
         "g_optimizer": _adam(5e-5, 0.0, 0.999), "d_optimizer": _adam(2e-4, 0.0, 0.999),
         "batch_size": 256, "order": "d_first", "share_fakes": False, "d_loss_reduction": "sum",
         "d_steps": 2, "augmentation": [], "ema": 0.9999},
        {"condition": ("projection",), "batch_size": ("2048",)},
        (_LATE_AVERAGE.format("20,000"), _TWO_BATCHES)),
    "biggan_cifar": Recipe(
        "The CIFAR-10 script of BigGAN-PyTorch (A. Brock): no attention, no shared embedding, "
        "weights N(0, 0.02), Adam 2e-4 (0, 0.999), four D steps, batches of 50.",
        {"model": {"name": "biggan", **_UNSHARED, "attention": None, "init": "normal"},
         "loss": "hinge", "penalties": [], "optimizer": _adam(2e-4, 0.0, 0.999), "batch_size": 50,
         "order": "d_first", "share_fakes": False, "d_loss_reduction": "sum", "d_steps": 4,
         "augmentation": [], "ema": 0.9999},
        {"condition": ("projection",)},
        (_LATE_AVERAGE.format("1,000"), _TWO_BATCHES)),
    "stylegan2": Recipe(
        "Karras et al. 2020, \"Analyzing and improving the image quality of StyleGAN\", "
        "configuration F: mapping network and modulated convolutions, R1 each 16th step, path "
        "lengths each 4th, Adam 2e-3 (0, 0.99), averaged weights. For photographs from 64 pixels.",
        {"model": {"name": "stylegan2", "widest_until": 64}, "loss": "non_saturating",
         "penalties": [{"name": "r1", "gamma": 10.0, "every": 16},
                       {"name": "path_length", "weight": 2.0, "every": 4}],
         "optimizer": _adam(2e-3, 0.0, 0.99), "batch_size": 32, "order": "g_first",
         "share_fakes": False, "d_loss_reduction": "sum", "d_steps": 1, "augmentation": [],
         "ema": 0.997784},
        lacks=(_ONE_STEP, "path lengths at the latents of G's update (there at others)",
               "no mixing of styles (there in 0.9 of the batches)",
               "the average has StyleGAN2-ADA's ramp (there none)")),
    "stylegan2_ada_cifar": Recipe(
        "Karras et al. 2020, \"Training generative adversarial networks with limited data\", "
        "appendix D, and the settings `cifar` of its PyTorch code: StyleGAN2 without mixing of "
        "styles and path lengths, D without residual blocks, R1 with γ 0.01, adaptive "
        "augmentation, an average with a half-life of 500,000 images.",
        {"model": {"name": "stylegan2", "mapping_layers": 2, "widest_until": 64,
                   "d_architecture": "orig", "group": 32},
         "loss": "non_saturating", "penalties": [{"name": "r1", "gamma": 0.01, "every": 16}],
         "g_optimizer": _adam(2e-3, 0.0, 0.991992), "d_optimizer": _adam(2.5e-3, 0.0, 0.99),
         "batch_size": 64, "order": "g_first", "share_fakes": False, "d_loss_reduction": "sum",
         "d_steps": 1, "augmentation": ["ada"], "ema": 0.99991128},
        lacks=(_ONE_STEP, "D's signs at the examples of R1 do not move p (there they do)",
               "float32, without clamping, unless compute.precision is another (there half "
               "precision, clamped at 256, from 8 pixels on)")),
    "pytorch_gan_script": Recipe(
        "The script `gan.py` of PyTorch-GAN (E. Linder-Norén): G first, D on the same fakes, half "
        "the sum of D's terms, and 0.8 as batch norm's ε. With another model, give bn_eps "
        "again: `dcgan.py` is {name: dcgan_upsample, bn_eps: [1e-5, 0.8, 0.8, 0.8, 0.8, 0.8], "
        "init: normal_conv}.",
        {"model": {"name": "mlp", "bn_eps": 0.8}, "loss": "non_saturating",
         "optimizer": _adam(2e-4, 0.5, 0.999), "batch_size": 64, "order": "g_first",
         "share_fakes": True, "d_loss_reduction": "mean", "d_steps": 1,
         "penalties": [], "augmentation": [], "ema": None}),
}
