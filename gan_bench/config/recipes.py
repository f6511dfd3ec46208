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


def _over_burn_in(first: float, last: float) -> dict[str, Any]:
    """Return a number that R3GAN changes along half a cosine in its first 20 million images."""
    return {"points": [[0, first], [20_000_000, last]], "unit": "images", "shape": "cosine"}


# Conventions that few papers depart from. (`fake_labels` is `independent` in BigGAN and StyleGAN2,
# but without labels the key is refused, and a recipe does not set `condition`.)
_USUAL: dict[str, Any] = {"accumulate": 1, "one_pass": False, "ema_ramp": 0.05, "ema_start": 1}
# What BigGAN's code has for SAGAN and for CIFAR-10, and for its own step.
_UNSHARED = {"width": 64, "latent_dim": 128, "hierarchical": False, "shared_dim": None}
_BIGGAN_STEP = {**_USUAL, "one_pass": True, "ema_ramp": None}
_LATE = "the first step of a lazy penalty is the k-th (there the first)"

RECIPES: dict[str, Recipe] = {
    "goodfellow2014": Recipe(
        "Goodfellow et al. 2014: fully connected, D with dropout, momentum SGD, k = 1.",
        {"model": {"name": "mlp_dropout", "dropout": 0.5}, "loss": "non_saturating",
         "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.5}, "batch_size": 100,
         "order": "d_first", "share_fakes": False, "d_loss_reduction": "sum", "d_steps": 1,
         "penalties": [], "augmentation": [], **_USUAL, "ema": None},
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
         "penalties": [], "augmentation": [], **_USUAL, "ema": None},
        {"latents": ("uniform",)}),
    "wgan2017": Recipe(
        "Arjovsky et al. 2017, algorithm 1: the critic's weights clipped to ±0.01, RMSProp 5e-5, "
        "five critic steps, batches of 64.",
        {"model": "dcgan", "loss": "wgan", "penalties": ["weight_clip"],
         "optimizer": {"name": "rmsprop", "lr": 5e-5}, "batch_size": 64, "order": "d_first",
         "share_fakes": False, "d_loss_reduction": "sum", "d_steps": 5,
         "augmentation": [], **_USUAL, "ema": None},
        lacks=("five critic steps throughout (the published code takes 100 at each of the first "
               "25 steps and at each 500th)",)),
    "wgan_gp2017": Recipe(
        "Gulrajani et al. 2017, algorithm 1 and section 5: gradient penalty 10, five critic steps, "
        "Adam 1e-4 (0, 0.9), batches of 64, no batch norm in the critic.",
        {"model": {"name": "dcgan", "d_norm": "none"}, "loss": "wgan",
         "penalties": ["gradient_penalty"], "optimizer": _adam(1e-4, 0.0, 0.9), "batch_size": 64,
         "order": "d_first", "share_fakes": False, "d_loss_reduction": "sum", "d_steps": 5,
         "augmentation": [], **_USUAL, "ema": None}),
    "pix2pix2017": Recipe(
        "Isola et al. 2017, sections 3 and 6: U-Net and PatchGAN of 70 pixels, L1 with weight 100, "
        "Adam 2e-4 (0.5, 0.999), D's loss halved; batches of 4, as for its photos of shoes. It "
        "needs pairs, and `condition: concat`.",
        {"model": "unet", "loss": "non_saturating", "penalties": [{"name": "l1", "weight": 100.0}],
         "optimizer": _adam(2e-4, 0.5, 0.999), "batch_size": 4, "order": "d_first",
         "share_fakes": True, "d_loss_reduction": "mean", "d_steps": 1, "augmentation": [],
         **_USUAL, "ema": None},
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
         "augmentation": [], **_USUAL, "ema": None},
        {"model.bn_eps": ("2e-05",)},
        ("one batch size for D and G (there 128 for G)", "a bias in D's last layer (there none)")),
    "r3gan2025": Recipe(
        "Huang et al. 2024, \"The GAN is dead; long live the GAN!\", with the settings of its code "
        "for CIFAR-10: relativistic pairing with R1 and R2, D first, fresh real examples for G, "
        "Adam with β₁ 0, augmentation, averaged weights; γ, rate, β₂, p and the half-life of the "
        "average change in the first 20 million images.",
        {"model": "r3", "loss": "relativistic_pairing",
         "penalties": [{"name": "r1", "gamma": _over_burn_in(0.05, 0.005)},
                       {"name": "r2", "gamma": _over_burn_in(0.05, 0.005)}],
         "augmentation": [{"name": "ada", "transforms": ["blit", "geometry", "color", "cutout"],
                           "p": _over_burn_in(0.0, 0.55)}],
         "optimizer": {"name": "adam", "lr": _over_burn_in(2e-4, 5e-5),
                       "betas": [0.0, _over_burn_in(0.9, 0.99)]},
         "batch_size": 64, "order": "d_first", "share_fakes": False, "d_loss_reduction": "sum",
         "d_steps": 1, **_USUAL, "ema": {"half_life": _over_burn_in(0, 5_000_000)},
         "ema_ramp": None},
        {"batch_size": ("512",), "model.width": ("768",), "model.blocks": ("2",)},
        ("color transforms with probability p (there half of it)", "tanh at G's end (there none)")),
    "sagan2018": Recipe(
        "Zhang et al. 2018, \"Self-attention generative adversarial networks\", section 4: "
        "residual networks with spectral norm in G and D and attention at half the size, hinge "
        "loss, Adam (0, 0.9), D's rate four times G's; layers as in BigGAN's PyTorch code.",
        {"model": {"name": "biggan", **_UNSHARED, "attention": "half", "init": "xavier"},
         "loss": "hinge", "penalties": [], "g_optimizer": _adam(1e-4, 0.0, 0.9),
         "d_optimizer": _adam(4e-4, 0.0, 0.9), "batch_size": 256, "order": "d_first",
         "share_fakes": False, "d_loss_reduction": "sum", "d_steps": 1, "augmentation": [],
         **_USUAL, "ema": None},
        {"condition": ("projection",)}),
    "biggan2018": Recipe(
        "Brock et al. 2018, \"Large scale GAN training for high fidelity natural image "
        "synthesis\", section 4 and appendix C: SAGAN with wider networks, latents and a shared "
        "embedding of the label in each block, orthogonal weights, two D steps, averaged weights.",
        {"model": "biggan", "loss": "hinge", "penalties": ["orthogonal_g"],
         "g_optimizer": _adam(5e-5, 0.0, 0.999), "d_optimizer": _adam(2e-4, 0.0, 0.999),
         "batch_size": 2048, "order": "d_first", "share_fakes": False, "d_loss_reduction": "sum",
         "d_steps": 2, "augmentation": [], "ema": 0.9999, **_BIGGAN_STEP, "ema_start": 20_000,
         "accumulate": 8},
        {"condition": ("projection",)},
        ("the fakes' labels are the reals' unless fake_labels is independent (there it is)",)),
    "biggan_cifar": Recipe(
        "The CIFAR-10 script of BigGAN-PyTorch (A. Brock): no attention, no shared embedding, "
        "weights N(0, 0.02), Adam 2e-4 (0, 0.999), four D steps, batches of 50.",
        {"model": {"name": "biggan", **_UNSHARED, "attention": None, "init": "normal"},
         "loss": "hinge", "penalties": [], "optimizer": _adam(2e-4, 0.0, 0.999), "batch_size": 50,
         "order": "d_first", "share_fakes": False, "d_loss_reduction": "sum", "d_steps": 4,
         "augmentation": [], "ema": 0.9999, **_BIGGAN_STEP, "ema_start": 1_000},
        {"condition": ("projection",), "ema_statistics": ("averaged",)},
        ("the fakes' labels are the reals' unless fake_labels is independent (there it is)",)),
    "stylegan2": Recipe(
        "Karras et al. 2020, \"Analyzing and improving the image quality of StyleGAN\", "
        "configuration F: mapping network and modulated convolutions, R1 each 16th step, path "
        "lengths each 4th, Adam 2e-3 (0, 0.99), averaged weights. For photographs from 64 pixels.",
        {"model": {"name": "stylegan2", "widest_until": 64}, "loss": "non_saturating",
         "penalties": [{"name": "r1", "gamma": 10.0, "every": 16, "own_step": True},
                       {"name": "path_length", "weight": 2.0, "every": 4, "own_step": True}],
         "optimizer": _adam(2e-3, 0.0, 0.99), "batch_size": 32, "order": "g_first",
         "share_fakes": False, "d_loss_reduction": "sum", "d_steps": 1, "augmentation": [],
         **_USUAL, "ema": {"half_life": 10_000}, "ema_ramp": None},
        lacks=("no mixing of styles (there in 0.9 of the batches)", _LATE)),
    "stylegan2_ada_cifar": Recipe(
        "Karras et al. 2020, \"Training generative adversarial networks with limited data\", "
        "appendix D, and the settings `cifar` of its PyTorch code: StyleGAN2 without mixing of "
        "styles and path lengths, D without residual blocks, R1 with γ 0.01, adaptive "
        "augmentation, an average with a half-life of 500,000 images.",
        {"model": {"name": "stylegan2", "mapping_layers": 2, "widest_until": 64,
                   "d_architecture": "orig", "group": 32},
         "loss": "non_saturating", "penalties": [
            {"name": "r1", "gamma": 0.01, "every": 16, "own_step": True}],
         # G's as if it had path lengths each fourth step, and D's before the same correction.
         "g_optimizer": _adam(2e-3, 0.0, 0.991992), "d_optimizer": _adam(2.5e-3, 0.0, 0.99),
         "batch_size": 64, "order": "g_first", "share_fakes": False, "d_loss_reduction": "sum",
         "d_steps": 1, "augmentation": ["ada"], **_USUAL,
         "ema": {"half_life": 500_000}},
        lacks=(_LATE, "D's signs at the examples of R1 do not move p (there they do)",
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
         "penalties": [], "augmentation": [], **_USUAL, "ema": None}),
}
