"""The styles of StyleGAN2: how latents and labels become w, and its truncation."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from gan_bench.components.layers import EqualisedLinear, OwnWeights, unit_moment

SPEED = 0.01  # the learning-rate multiplier of the mapping networks
KEPT = 0.995  # of the mean w at each step


class StyleMapping(OwnWeights):
    """The mapping network: latents and labels to styles w.

    Args:
        latent_dim: The length of the latents; 0 if labels alone are mapped.
        classes: The number of classes; 0 if there are no labels.
        w_dim: The length of w.
        layers: The number of layers.
        averaged: Whether it keeps the mean of w, `average`, over the training's batches.
    """

    average: Tensor | None

    def __init__(self, latent_dim: int, classes: int, w_dim: int, layers: int,
                 averaged: bool) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.embedding = EqualisedLinear(classes, w_dim) if classes else None
        first = latent_dim + (w_dim if classes else 0)
        self.layers = nn.Sequential(*(
            EqualisedLinear(before, after, SPEED, active=True)
            for before, after in pairwise([first, *[w_dim] * layers])))
        self.register_buffer("average", torch.empty(w_dim) if averaged else None)

    def draw(self) -> None:
        """Set the mean of w to 0."""
        if self.average is not None:
            nn.init.zeros_(self.average)

    def forward(self, latents: Tensor, track: bool = True) -> Tensor:
        """Return w (N, w_dim).

        Args:
            latents: (N, latent_dim + classes), the label as a one-hot vector.
            track: Whether the mean of w follows, if in training mode.
        """
        parts = [unit_moment(latents[:, :self.latent_dim])] if self.latent_dim else []
        if self.embedding is not None:
            parts.append(unit_moment(self.embedding(latents[:, self.latent_dim:])))
        w: Tensor = self.layers(torch.cat(parts, 1))
        if track and self.training and self.average is not None:
            self.average.lerp_(w.detach().mean(0), 1 - KEPT)
        return w


def truncated(ws: Tensor, average: Tensor, psi: float, first: int | None = None) -> Tensor:
    """Return styles that lie nearer to their mean: average + psi · (w − average).

    Karras et al. 2019, "A style-based generator architecture", appendix B.

    Args:
        ws: (N, layers, w_dim).
        average: (w_dim,), as `StyleMapping` keeps it.
        psi: 0 is the mean, 1 changes nothing.
        first: How many layers it is for; None: all.
    """
    if psi == 1:
        return ws
    near = torch.lerp(average, ws[:, :first], psi)
    return near if first is None else torch.cat([near, ws[:, first:]], 1)
