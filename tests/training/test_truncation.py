"""Truncated samples: latents within a limit, and styles nearer to their mean."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from gan_bench.components.models import build_networks
from gan_bench.config.spec import RunSpec
from gan_bench.errors import UserError
from gan_bench.registry import MODELS
from gan_bench.training.contract.base import run_spec
from gan_bench.training.trained import Truncation, draw, draw_between

STYLE = MODELS.parse({"name": "stylegan2", "width": 8, "latent_dim": 8, "mapping_layers": 2})


class Same(nn.Module):
    """Returns its latents."""

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return latents


def styled(classes: int = 0) -> tuple[RunSpec, Any]:
    spec = run_spec((1, 16, 16), classes, model=STYLE,
                    condition="projection" if classes else "none")
    generator: Any = build_networks(STYLE, (1, 16, 16), 0, spec.condition, classes).generator
    for parameter in generator.mapping.parameters():
        parameter.data *= 100  # styles that differ much
    generator.mapping.average.copy_(torch.linspace(-1, 1, 8))
    return spec, generator.eval()


@pytest.mark.parametrize("classes", [0, 3])
def test_psi_draws_styles_to_their_mean(classes: int) -> None:
    spec, generator = styled(classes)
    plain = draw(spec, generator, 5, 1)
    assert torch.equal(draw(spec, generator, 5, 1, Truncation(psi=1.0)), plain)
    none = draw(spec, generator, 5, 1, Truncation(psi=0.0))
    average = generator.synthesis(generator.mapping.average.expand(1, 6, -1)).detach()
    torch.testing.assert_close(none, average.expand(5, -1, -1, -1))
    distances = [float((draw(spec, generator, 5, 1, Truncation(psi=psi)) - none).norm())
                 for psi in (0.3, 0.7, 1.0)]
    assert 0 < distances[0] < distances[1] < distances[2]
    rows, _ = draw_between(spec, generator, 4, 1, Truncation(psi=0.0))
    torch.testing.assert_close(rows, average.expand(4, -1, -1, -1))


def test_latents_beyond_the_limit_are_drawn_anew() -> None:
    """The others stay, and the result is a normal distribution cut at the limit."""
    spec = run_spec()
    plain, cut = draw(spec, Same(), 3000, 1), draw(spec, Same(), 3000, 1, Truncation(0.5))
    stays = plain.abs() <= 0.5
    assert 0.3 < float(stays.float().mean()) < 0.45
    assert torch.equal(cut[stays], plain[stays])
    assert 0.499 < float(cut.abs().max()) <= 0.5
    assert float(cut.abs().mean()) == pytest.approx(0.2447, abs=0.002)  # closed form of the mean
    assert torch.equal(draw(spec, Same(), 3000, 1, Truncation(0.5)), cut)
    assert not torch.equal(draw(spec, Same(), 3000, 2, Truncation(0.5)), cut)
    assert torch.equal(draw(spec, Same(), 9, 1, Truncation(99.0)), draw(spec, Same(), 9, 1))


def test_what_cannot_be_truncated_is_told_so() -> None:
    spec = run_spec()
    with pytest.raises(UserError, match="psi draws styles w to their mean, and the G of mlp has "
                                        "no mean w: leave out psi"):
        draw(spec, Same(), 3, 0, Truncation(psi=0.5))
    with pytest.raises(UserError, match="latents of this run are uniform, within ±1"):
        draw_between(run_spec(latents="uniform"), Same(), 3, 0, Truncation(0.5))
