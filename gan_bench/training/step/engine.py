"""One G+D update: losses, penalties, optimizers, weight average.

`update` never waits for the device. `begin` waits once in each period of a plateau; `state`, `load`
and `sample` may wait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gan_bench import rng
from gan_bench.components.latents import draw_latents
from gan_bench.components.losses import Loss
from gan_bench.components.models import build_networks, with_condition
from gan_bench.components.penalties import Penalty, constrain
from gan_bench.config.spec import RunSpec
from gan_bench.errors import one_line
from gan_bench.registry import LOSSES, PENALTIES
from gan_bench.training.step.augmenting import Augmenting
from gan_bench.training.step.changing import ChangingNumbers
from gan_bench.training.step.d_update import DiscriminatorUpdates
from gan_bench.training.step.g_penalties import GPenalties
from gan_bench.training.step.g_update import GeneratorUpdates
from gan_bench.training.step.networks import StepMetrics, samples_of, seed_layers
from gan_bench.training.step.optimizing import Optimizing
from gan_bench.training.step.passes import Passes
from gan_bench.training.step.step_batch import Judged, StepBatch
from gan_bench.training.step.weight_average import WeightAverage


class Engine:
    """The networks of a run, their optimizers, and the step that trains them.

    Attributes:
        generator, discriminator: G and D, in training mode.
        first_bad: int64 scalar on the device: the first step with a non-finite loss, 0 if none.

    Weights, losses, penalties and samples are always float32. With `bfloat16`, the layers of G and
    D compute their products in bfloat16; with `tf32`, CUDA's global settings decide.

    Args:
        conditions: Of the training examples (`conditions_of`); a conditional run with an average
            needs them.
    """

    def __init__(self, spec: RunSpec, device: str, precision: str = "float32",
                 conditions: Tensor | None = None) -> None:
        networks = build_networks(spec.model, spec.data.shape, spec.seed, spec.condition,
                                  spec.data.classes, spec.data.input)
        self._changing = ChangingNumbers(spec, device)
        self._penalties: list[Penalty] = [PENALTIES.build(part, follow=self._changing.follow)
                                          for part in spec.penalties]
        constrain(networks.discriminator, self._penalties, spec.seed)
        self.spec = spec
        self.device = device
        self.generator, self.discriminator = networks.generator, networks.discriminator
        # Tensor cores and AMX need another memory layout.
        layout = torch.contiguous_format if precision == "float32" else torch.channels_last
        self._networks = {"generator": self.generator, "discriminator": self.discriminator}
        for network in self._networks.values():
            network.to(device).to(memory_format=layout)
        self._average = (WeightAverage(spec, self.generator, device, conditions)
                         if spec.ema is not None else None)
        self.first_bad = torch.zeros((), dtype=torch.int64, device=device)
        self._step_number = self.first_bad.clone()  # on the device
        self._loss: Loss = LOSSES.build(spec.loss)
        self._draws, self._penalty_draws = torch.Generator(device), torch.Generator(device)
        self._layer_draws = torch.Generator(device)
        self._augmenting = Augmenting(spec, device, self._changing)
        self._g_penalties = GPenalties(spec, self._penalties, device)
        self._optimizing = Optimizing(spec, self._networks, self._penalties, device)
        self._passes = Passes(spec, self.generator, self.discriminator, self._penalties,
                              self._augmenting, self._penalty_draws, precision == "bfloat16")
        self._d_updates = DiscriminatorUpdates(
            spec, self.discriminator, self._loss, self._penalties, self._passes, self._augmenting,
            self._optimizing, self._penalty_draws)
        self._g_updates = GeneratorUpdates(
            spec, self.generator, self.discriminator, self._loss, self._g_penalties, self._passes,
            self._optimizing)
        self._latent_dim = int(spec.model.args["latent_dim"])

    @property
    def ema(self) -> nn.Module | None:
        """The running average of G's weights; None if the run has none."""
        return self._average.network if self._average is not None else None

    @property
    def measured(self) -> nn.Module:
        """The generator that is sampled and scored: the weight average if there is one."""
        average = self.ema
        return self.generator if average is None else average  # a module with __len__ 0 is false

    @property
    def needs_real(self) -> bool:
        """Whether G's loss compares fake with real examples."""
        return self._loss.needs_real

    def step(self, step: int, batch: StepBatch, observe: bool = False) -> StepMetrics:
        """Update D `d_steps` times and G `g_steps` times, in the run's order.

        Args:
            step: The number of the step, from 1; all random numbers depend on it.
            batch: The training examples of the step.
            observe: Whether to compute the logged metrics.

        Returns:
            The metrics, as scalars on the device; empty if not observed. They are both losses,
            D's terms, the gradient norms of both networks, and for real and fake examples D's
            accuracy and the mean sigmoid of its logits (a probability if the loss is a
            cross-entropy), both relative to the loss's boundary, of the augmented examples if
            there is augmentation, whose p is `augment_p`. With several updates of a
            network, its metrics are those of the last. `d_penalty` exists only at the steps of a
            penalty: one with `every` = k is added each k-th step, times k. D minimises `d_loss` +
            `d_penalty`; both are divided by the number of terms in D's loss where
            `d_loss_reduction` is `mean`. `g_penalty` is likewise what penalties add to G's loss.
            `g_loss` is that of the first fakes, also where a joint phase adds that of others. A
            penalty with a step of its own is in `d_penalty` or `g_penalty`, not in gradient norms.
        """
        self.begin(step)
        return self.update(step, batch, observe)

    def update(self, step: int, batch: StepBatch, observe: bool) -> StepMetrics:
        """Do the part of `step` that runs on the device, after `begin`.

        It depends on the number of the step only through `graph_key`.
        """
        metrics: StepMetrics = {}
        d_first = self.spec.order == "d_first"
        batch = self._augmenting.of_data(batch)
        of_g, n = batch.of_g(self.spec.g_steps), len(batch.real[0])
        # Latents are drawn in an order that does not depend on who is updated first: G's first
        # batch, D's batches, G's further batches. So D's fakes do not depend on `g_steps`.
        latents = [self._latents(n, of_g[0][1])]
        d_latents = ([] if self.spec.share_fakes else
                     [self._latents(n, labels) for _, _, labels in batch.of_d()])
        latents += [self._latents(n, labels) for _, labels in of_g[1:]]
        if self.spec.joint_weight:
            latents += [self._latents(n, labels) for _, labels in of_g]
        own_latents = None
        if self._g_penalties.has_own_step(step):
            own_labels = of_g[0][1] if batch.own_labels is None else batch.own_labels
            own_latents = self._latents(n, own_labels)
        fake = self._passes.forward_g(latents[0]) if self.spec.share_fakes else None
        losses: list[Tensor] = []
        if not d_first:
            fake, losses = self._update_g(latents, own_latents, fake, batch, step, metrics, observe)
        losses += self._update_d(d_latents, fake, batch, step, metrics, observe)
        if d_first:
            losses += self._update_g(latents, own_latents, fake, batch, step, metrics, observe)[1]
        if self._average is not None:
            self._average.follow(self.generator)
        if observe:
            metrics |= self._augmenting.metrics()
        self._augmenting.end_step(self._step_number)
        bad = ~torch.stack(losses).isfinite().all() & (self.first_bad == 0)
        self.first_bad += bad * self._step_number
        return metrics

    def _update_d(self, latents: Sequence[Tensor], shared: Tensor | None, batch: StepBatch,
                  step: int, metrics: StepMetrics, observe: bool) -> list[Tensor]:
        """Do all that happens to D in a step, and return its losses.

        Args:
            latents: A batch for each update.
            shared: The fakes of G's step, if D shares them.
        """
        losses: list[Tensor] = []
        for i, (real, labels, fake_labels) in enumerate(batch.of_d()):
            fake = shared.detach() if shared is not None else self._fakes(latents[i])
            judged = Judged(real, fake, labels, fake_labels)
            losses.append(self._d_updates.update(judged, step, metrics,
                                                 observe and i == len(batch.real) - 1))
        return losses + self._d_updates.regularise(judged, step, metrics, observe)

    def _update_g(self, latents: list[Tensor], own_latents: Tensor | None, fake: Tensor | None,
                  batch: StepBatch, step: int, metrics: StepMetrics, observe: bool,
                  ) -> tuple[Tensor | None, list[Tensor]]:
        """Do all that happens to G in a step; return the fakes that D shares, and its losses."""
        fake, losses = self._g_updates.update(latents, fake, batch, step, metrics, observe)
        if own_latents is not None:
            losses.append(self._g_updates.regularise(own_latents, step, metrics, observe))
        return fake, losses

    @torch.no_grad()
    def _fakes(self, latents: Tensor) -> Tensor:
        """Return fakes for D, made in parts as those of G's own updates are."""
        parts = [self._passes.forward_g(part) for part in latents.chunk(self.spec.accumulate)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def graph_key(self, step: int) -> tuple[float, ...] | None:
        """Return a key: steps with the same key run the same kernels.

        None if each step runs on its own, as with a penalty that adds noise, or while betas change.
        """
        betas = self._optimizing.graph_key(step)
        if betas is None or any(penalty.noise for penalty in self._penalties):
            return None
        copies = self._average is not None and self._average.copies_at(step)
        return (*(step % penalty.every == 0 for penalty in self._penalties), *betas, copies)

    @property
    def generators(self) -> tuple[torch.Generator, ...]:
        """The generators of a step's random numbers, besides torch's global one for the layers."""
        return (self._draws, self._penalty_draws, *self._augmenting.generators,
                *self._g_penalties.generators)

    def state(self) -> dict[str, Any]:
        """Return the state after a step: networks, average, optimizers, plateaus, first bad step.

        The tensors are not copies: the next step changes them.
        """
        return {
            **{name: network.state_dict() for name, network in self._networks.items()},
            "ema": self.ema.state_dict() if self.ema is not None else None,
            **self._optimizing.state(),
            "first_bad": int(self.first_bad),
            **self._augmenting.state(),
            **self._g_penalties.state(),
        }

    def start_from(self, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Give networks other weights than random ones, before the first step.

        Args:
            weights: By network, `generator` or `discriminator`, its state.

        Raises:
            RuntimeError: They do not fit.
        """
        for name, state in weights.items():
            self._networks[name].load_state_dict(state)
        if self._average is not None:  # it begins as a copy of G
            self._average.load(self.generator.state_dict())

    def load(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned, so that training continues to the bit.

        Raises:
            RuntimeError, ValueError: The state belongs to other networks or optimizers.
        """
        try:
            self._load(state)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"not the state of an engine: {one_line(error)}") from error

    def _load(self, state: dict[str, Any]) -> None:
        for name, network in self._networks.items():
            network.load_state_dict(state[name])
        self._optimizing.load(state)
        if self._average is not None:
            self._average.load(state["ema"])
        self._augmenting.load(state)
        self._g_penalties.load(state)
        self.first_bad.fill_(state["first_bad"])

    def measured_state(self) -> dict[str, Tensor]:
        """Return the weights of D and of the generator that is measured, `<network>.<name>` each.
        """
        measured = "generator" if self.ema is None else "ema"
        networks = {measured: self.measured, "discriminator": self.discriminator}
        return {f"{network}.{name}": tensor for network, module in networks.items()
                for name, tensor in module.state_dict().items()}

    def load_measured(self, weights: Mapping[str, Tensor]) -> None:
        """Restore the networks of `measured_state`; further ones in it are left out.

        Raises:
            RuntimeError: They are the weights of other networks.
        """
        def of(network: str) -> dict[str, Tensor]:
            prefix = f"{network}."
            return {name.removeprefix(prefix): tensor for name, tensor in weights.items()
                    if name.startswith(prefix)}

        self.discriminator.load_state_dict(of("discriminator"))
        if self._average is None:
            self.generator.load_state_dict(of("generator"))
        else:
            self._average.load_measured(of("ema"))

    def begin(self, step: int) -> None:
        """Set the random seeds, the numbers that change and the average's decay of a step."""
        self._step_number.fill_(step)
        self._changing.begin(step)
        if self._average is not None:
            self._average.begin(step)
        self._draws.manual_seed(rng.derive(self.spec.seed, "latents", step))
        if self._penalties:
            self._penalty_draws.manual_seed(rng.derive(self.spec.seed, "penalties", step))
        self._augmenting.begin(step)
        self._g_penalties.begin(step)
        seed_layers(rng.derive(self.spec.seed, "dropout", step), self._layer_draws)
        self._optimizing.begin(step)

    def _latents(self, n: int, labels: Tensor | None) -> Tensor:
        latents = draw_latents(self.spec.latents, n, self._latent_dim, self._draws)
        return with_condition(latents, labels, self.spec.data.classes)

    def sample(self, latents: Tensor) -> Tensor:
        """Return the measured generator's samples from `latents`, in eval mode, on the CPU."""
        return samples_of(self.measured, latents.to(self.device))
