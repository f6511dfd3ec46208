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
from gan_bench.components.models import build_networks, with_labels
from gan_bench.components.optimizers import build_optimizer, load_optimizer, rate, set_rate
from gan_bench.components.penalties import Penalty, constrain
from gan_bench.config.spec import RunSpec
from gan_bench.errors import UserError, one_line
from gan_bench.registry import LOSSES, PENALTIES
from gan_bench.training.step.augmenting import Augmenting
from gan_bench.training.step.g_penalties import GPenalties
from gan_bench.training.step.networks import (
    frozen,
    grad_norm,
    logit_metrics,
    samples_of,
    seed_layers,
)
from gan_bench.training.step.plateau import plateaus_of
from gan_bench.training.step.step_batch import StepBatch
from gan_bench.training.step.weight_average import WeightAverage

StepMetrics = dict[str, Tensor]


class Engine:
    """The networks of a run, their optimizers, and the step that trains them.

    Attributes:
        generator, discriminator: G and D, in training mode.
        first_bad: int64 scalar on the device: the first step with a non-finite loss, 0 if none.

    Weights, losses, penalties and samples are always float32. With `bfloat16`, the layers of G and
    D compute their products in bfloat16; with `tf32`, CUDA's global settings decide.

    Args:
        train_labels: Of the training examples; a conditional run with an average needs them.
    """

    def __init__(self, spec: RunSpec, device: str, precision: str = "float32",
                 train_labels: Tensor | None = None) -> None:
        networks = build_networks(spec.model, spec.data.shape, spec.seed, spec.condition,
                                  spec.data.classes)
        self._penalties: list[Penalty] = [PENALTIES.build(part) for part in spec.penalties]
        constrain(networks.discriminator, self._penalties, spec.seed)
        self.spec = spec
        self.device = device
        self.generator, self.discriminator = networks.generator, networks.discriminator
        self._is_bfloat16 = precision == "bfloat16"
        # Tensor cores and AMX need another memory layout.
        layout = torch.contiguous_format if precision == "float32" else torch.channels_last
        self._networks = {"generator": self.generator, "discriminator": self.discriminator}
        for network in self._networks.values():
            network.to(device).to(memory_format=layout)
        self._average = (WeightAverage(spec, self.generator, device, train_labels)
                         if spec.ema is not None else None)
        self.first_bad = torch.zeros((), dtype=torch.int64, device=device)
        self._step_number = self.first_bad.clone()  # on the device
        self._loss: Loss = LOSSES.build(spec.loss)
        self._parts = {self.generator: spec.g_optimizer, self.discriminator: spec.d_optimizer}
        self._optimizers = {
            network: build_optimizer(part, network.parameters(), captured=device != "cpu")
            for network, part in self._parts.items()}
        self._draws, self._penalty_draws = torch.Generator(device), torch.Generator(device)
        self._layer_draws = torch.Generator(device)
        self._rates: dict[nn.Module, float] = {}  # as set in the optimizers
        self._plateaus = plateaus_of(self._parts, {self.generator: spec.g_steps,
                                                   self.discriminator: spec.d_steps}, device)
        self._augmenting = Augmenting(spec, device)
        self._g_penalties = GPenalties(spec, self._penalties, device)
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
            `g_loss` is that of the
            first fakes, also where a joint phase adds `joint_weight` times that of others.
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
        real, of_g = batch.real, batch.of_g(self.spec.g_steps)
        n = real[0].shape[0]
        # Latents are drawn in an order that does not depend on who is updated first: G's first
        # batch, D's batches, G's further batches. So D's fakes do not depend on `g_steps`.
        of_d: Sequence[Tensor | None] = batch.labels or [None] * len(real)
        latents = [self._latents(n, of_g[0][1])]
        d_latents = [] if self.spec.share_fakes else [self._latents(n, labels) for labels in of_d]
        latents += [self._latents(n, labels) for _, labels in of_g[1:]]
        if self.spec.joint_weight:
            latents += [self._latents(n, labels) for _, labels in of_g]
        fake = self._forward_g(latents[0]) if self.spec.share_fakes else None
        losses: list[Tensor] = []
        if not d_first:
            fake, losses = self._train_generator(latents, fake, batch, step, metrics, observe)
        for i, (examples, labels) in enumerate(zip(real, of_d, strict=True)):
            if self.spec.share_fakes and fake is not None:
                d_fake = fake.detach()
            else:
                with torch.no_grad():
                    d_fake = self._forward_g(d_latents[i])
            losses.append(self._step_discriminator(examples, d_fake, labels, step, metrics,
                                                   observe and i == len(real) - 1))
        if d_first:
            losses += self._train_generator(latents, fake, batch, step, metrics, observe)[1]
        if self._average is not None:
            self._average.follow(self.generator)
        if observe:
            metrics |= self._augmenting.metrics()
        self._augmenting.end_step(self._step_number)
        bad = ~torch.stack(losses).isfinite().all() & (self.first_bad == 0)
        self.first_bad += bad * self._step_number
        return metrics

    def graph_key(self, step: int) -> tuple[bool, ...] | None:
        """Return a key: steps with the same key run the same kernels.

        None if each step runs on its own, as with a penalty that adds noise.
        """
        if any(penalty.noise for penalty in self._penalties):
            return None
        return tuple(step % penalty.every == 0 for penalty in self._penalties)

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
            **{f"{name}_optimizer": self._optimizers[network].state_dict()
               for name, network in self._networks.items()},
            **{f"{name}_plateau": self._plateaus[network].state()
               for name, network in self._networks.items() if network in self._plateaus},
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
            load_optimizer(self._optimizers[network], state[f"{name}_optimizer"])
            if network in self._plateaus:
                self._plateaus[network].load(state[f"{name}_plateau"])
        self._rates.clear()
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
        """Set the random seeds, the learning rates and the average's decay of a step."""
        self._step_number.fill_(step)
        if self._average is not None:
            self._average.begin(step)
        self._draws.manual_seed(rng.derive(self.spec.seed, "latents", step))
        if self._penalties:
            self._penalty_draws.manual_seed(rng.derive(self.spec.seed, "penalties", step))
        self._augmenting.begin(step)
        self._g_penalties.begin(step)
        seed_layers(rng.derive(self.spec.seed, "dropout", step), self._layer_draws)
        for network, part in self._parts.items():
            plateau = self._plateaus.get(network)
            new_rate = rate(part, step, self.spec.steps, plateau.cuts(step) if plateau else 0)
            if self._rates.get(network) != new_rate:
                self._rates[network] = new_rate
                for group in self._optimizers[network].param_groups:
                    set_rate(group, new_rate)

    def _latents(self, n: int, labels: Tensor | None) -> Tensor:
        latents = draw_latents(self.spec.latents, n, self._latent_dim, self._draws)
        return with_labels(latents, labels, self.spec.data.classes)

    def _step_discriminator(self, real: Tensor, fake: Tensor, labels: Tensor | None, step: int,
                            metrics: StepMetrics, observe: bool) -> Tensor:
        def d_logits(examples: Tensor) -> Tensor:  # float32, for the gradients of penalties
            return self._logits(self._augmenting.seen_by_d(examples), labels)

        real, fake = self._add_noise(real, step), self._add_noise(fake, step)
        real_logits, fake_logits = self._forward_d(real, labels), self._forward_d(fake, labels)
        self._augmenting.note(real_logits, self._loss.boundary)
        terms = self._loss.discriminator(real_logits, fake_logits)
        # Penalties are divided as the terms are, so that their weights are the published ones.
        divisor = len(terms) if self.spec.d_loss_reduction == "mean" else 1
        loss = sum(terms[1:], terms[0]) / divisor
        due = [p.every * p.term(d_logits, real, fake, self._penalty_draws)
               for p in self._penalties if p.term is not None and step % p.every == 0]
        due += [p.every * p.weights_term(self.discriminator) for p in self._penalties
                if p.weights_term is not None and step % p.every == 0]
        penalty = sum(due[1:], due[0]) / divisor if due else None
        total = loss if penalty is None else loss + penalty
        self._update(self.discriminator, total)
        for constraint in self._penalties:
            if constraint.after is not None:
                constraint.after(self.discriminator)
        if observe:
            metrics["train/d_loss"] = loss.detach()
            if len(terms) == 2:
                metrics["train/d_loss_real"] = terms[0].detach()
                metrics["train/d_loss_fake"] = terms[1].detach()
            if penalty is not None:
                metrics["train/d_penalty"] = penalty.detach()
            metrics |= logit_metrics(real_logits.detach(), fake_logits.detach(),
                                     self._loss.boundary)
            metrics["train/d_grad_norm"] = grad_norm(self.discriminator)
        return total.detach()

    def _train_generator(self, latents: list[Tensor], fake: Tensor | None, batch: StepBatch,
                         step: int, metrics: StepMetrics, observe: bool,
                         ) -> tuple[Tensor | None, list[Tensor]]:
        """Update G `g_steps` times; return the fakes of the last update, and all losses.

        Args:
            latents: One batch for each update, then one for each joint phase if there are any.
            fake: G's output for the first batch, if D has seen it.
        """
        count, losses = self.spec.g_steps, []
        for i, (real, labels) in enumerate(batch.of_g(count)):
            second = latents[count + i] if self.spec.joint_weight else None
            fake, loss = self._step_generator(latents[i], None if i else fake, second, real, labels,
                                              step, metrics, observe and i == count - 1)
            losses.append(loss)
        return fake, losses

    def _step_generator(self, latents: Tensor, fake: Tensor | None, second: Tensor | None,
                        real: Tensor | None, labels: Tensor | None, step: int,
                        metrics: StepMetrics, observe: bool) -> tuple[Tensor, Tensor]:
        with frozen(self.discriminator):
            if fake is None:
                fake = self._forward_g(latents)
            fake_logits = self._forward_d(self._add_noise(fake, step), labels)
            real_logits = None
            if real is not None:
                real_logits = self._forward_d(self._add_noise(real, step), labels)
            total = loss = self._loss.generator(fake_logits, real_logits)
            if second is not None:
                more_fakes = self._add_noise(self._forward_g(second), step)
                joint = self._loss.generator(self._forward_d(more_fakes, labels), real_logits)
                total = loss + self.spec.joint_weight * joint
            penalty = self._g_penalties.due(step, self.generator, latents)
            if penalty is not None:
                total = total + penalty
            self._update(self.generator, total)
        if observe:
            metrics["train/g_loss"] = loss.detach()
            if penalty is not None:
                metrics["train/g_penalty"] = penalty.detach()
            metrics["train/g_grad_norm"] = grad_norm(self.generator)
        return fake, total.detach()

    def _forward_g(self, latents: Tensor) -> Tensor:
        with self._autocast():
            samples: Tensor = self.generator(latents)
        return samples.float() if self._is_bfloat16 else samples

    def _forward_d(self, examples: Tensor, labels: Tensor | None) -> Tensor:
        examples = self._augmenting.seen_by_d(examples)
        with self._autocast():
            logits = self._logits(examples, labels)
        return logits.float() if self._is_bfloat16 else logits

    def _autocast(self) -> torch.autocast:
        # Without autocast's cache: a captured step would read it after it is freed.
        return torch.autocast(self.device.partition(":")[0], torch.bfloat16, self._is_bfloat16,
                              cache_enabled=False)

    def _logits(self, examples: Tensor, labels: Tensor | None) -> Tensor:
        logits: Tensor = (self.discriminator(examples) if labels is None else
                          self.discriminator(examples, labels))
        return logits

    def _add_noise(self, examples: Tensor, step: int) -> Tensor:
        """Return the examples with the noise of the penalties, if any; augmentation follows."""
        for penalty in self._penalties:
            if penalty.noise is not None:
                progress = (step - 1) / self.spec.steps
                examples = penalty.noise(examples, self._penalty_draws, progress)
        return examples

    def _update(self, network: nn.Module, loss: Tensor) -> None:
        if loss.dim():
            raise UserError(f"the loss {self.spec.loss} gives a tensor of shape "
                            f"{tuple(loss.shape)}, not a scalar: its terms must be means over "
                            f"the batch")
        if network in self._plateaus:
            self._plateaus[network].add(loss)
        optimizer = self._optimizers[network]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def sample(self, latents: Tensor) -> Tensor:
        """Return the measured generator's samples from `latents`, in eval mode, on the CPU."""
        return samples_of(self.measured, latents.to(self.device))
