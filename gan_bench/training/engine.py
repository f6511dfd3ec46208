"""One G+D update: losses, optimizers, weight average. Nothing here waits for the device."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gan_bench import rng
from gan_bench.components.losses import Loss
from gan_bench.components.models import build_networks, with_labels
from gan_bench.components.optimizers import build_optimizer, rate, set_rate
from gan_bench.components.penalties import Penalty, constrain
from gan_bench.config.spec import RunSpec
from gan_bench.errors import UserError, one_line
from gan_bench.registry import LOSSES, PENALTIES
from gan_bench.training.networks import average_into, frozen, grad_norm
from gan_bench.training.step_batch import StepBatch

Seen = dict[str, Tensor]


class Engine:
    """The networks of a run, their optimizers, and the step that trains them.

    Attributes:
        generator: G, in training mode.
        discriminator: D, in training mode.
        ema: The running average of G's weights, or None where the run has none.
        first_bad: int64 scalar on the device: the first step with a non-finite loss, 0 if none.

    Weights are float32 throughout, and so are losses, penalties and samples. Under `bfloat16` the
    products of G's and D's layers are computed in it, under `tf32` as CUDA has been told to.
    """

    def __init__(self, spec: RunSpec, device: str, precision: str = "float32") -> None:
        networks = build_networks(spec.model, spec.data.shape, spec.seed, spec.condition,
                                  spec.data.classes)
        self._penalties: list[Penalty] = [PENALTIES.build(part) for part in spec.penalties]
        constrain(networks.discriminator, self._penalties, spec.seed)
        self.spec = spec
        self.device = device
        self.generator, self.discriminator = networks.generator, networks.discriminator
        self._lower = precision == "bfloat16"
        # Tensor cores and AMX multiply in another layout.
        layout = torch.contiguous_format if precision == "float32" else torch.channels_last
        self._networks = {"generator": self.generator, "discriminator": self.discriminator}
        for network in self._networks.values():
            network.to(device).to(memory_format=layout)
        self.ema = copy.deepcopy(self.generator).requires_grad_(False) if spec.ema else None
        self.first_bad = torch.zeros((), dtype=torch.int64, device=device)
        self._now = self.first_bad.clone()  # the step, where the device can see it
        self._loss: Loss = LOSSES.build(spec.loss)
        self._parts = {self.generator: spec.g_optimizer, self.discriminator: spec.d_optimizer}
        self._optimizers = {
            network: build_optimizer(part, network.parameters(), captured=device != "cpu")
            for network, part in self._parts.items()}
        self._draws, self._penalty_draws = torch.Generator(device), torch.Generator(device)
        self._layer_draws = torch.Generator(device)
        self._rates: dict[nn.Module, float] = {}  # as they stand in the optimizers
        self._latent_dim = int(spec.model.args["latent_dim"])

    @property
    def measured(self) -> nn.Module:
        """The generator that is sampled and scored: the weight average where there is one."""
        return self.ema if self.ema is not None else self.generator

    @property
    def needs_real(self) -> bool:
        """Whether G's loss compares fake with real examples."""
        return self._loss.needs_real

    def step(self, step: int, batch: StepBatch, observe: bool = False) -> Seen:
        """Update D `d_steps` times and G once, in the run's order.

        Args:
            step: The number of the step, from 1; all random numbers depend on it.
            batch: What it trains on.
            observe: Whether to compute what is logged.

        Returns:
            If observed, scalars on the device: both losses and D's terms, the mean sigmoid of D's
            logits (which is a probability under the losses that are a cross-entropy) and its
            accuracy on real and fake, both about the loss's boundary, and the gradient norms of
            both networks; of the last D update, where there are several. Otherwise nothing.
            `d_penalty` is there at steps where one is due, with the factor `every` of a lazy one.
        """
        self.begin(step)
        return self.update(step, batch, observe)

    def update(self, step: int, batch: StepBatch, observe: bool) -> Seen:
        """Do what `step` does once the step has begun: all that the device does, and nothing else.

        It depends on the number of the step through `alike` alone.
        """
        seen: Seen = {}
        d_first = self.spec.order == "d_first"
        real, g_real, of_g = batch.real, batch.g_real, batch.g_labels
        n = real[0].shape[0]
        # Drawn in one fixed order, whatever the order of the updates: G's batch, then D's.
        of_d: Sequence[Tensor | None] = batch.labels or [None] * len(real)
        latents = self._latents(n, of_g)
        fake = self._make(latents) if self.spec.share_fakes else None
        losses = []
        if not d_first:
            fake, loss = self._step_generator(latents, fake, g_real, of_g, step, seen, observe)
            losses.append(loss)
        for i, (examples, labels) in enumerate(zip(real, of_d, strict=True)):
            if self.spec.share_fakes and fake is not None:
                d_fake = fake.detach()
            else:
                with torch.no_grad():
                    d_fake = self._make(self._latents(n, labels))
            losses.append(self._step_discriminator(examples, d_fake, labels, step, seen,
                                                   observe and i == len(real) - 1))
        if d_first:
            losses.append(self._step_generator(latents, fake, g_real, of_g, step, seen, observe)[1])
        if self.ema is not None and self.spec.ema is not None:
            average_into(self.ema, self.generator, self.spec.ema)
        bad = ~torch.stack(losses).isfinite().all() & (self.first_bad == 0)
        self.first_bad += bad * self._now
        return seen

    def alike(self, step: int) -> tuple[bool, ...] | None:
        """Return what is the same for all steps that do the same; None where each is another."""
        if any(penalty.noise for penalty in self._penalties):
            return None
        return tuple(step % penalty.every == 0 for penalty in self._penalties)

    @property
    def generators(self) -> tuple[torch.Generator, ...]:
        """Whom a step asks for random numbers, besides torch's own for the layers."""
        return self._draws, self._penalty_draws

    def state(self) -> dict[str, Any]:
        """Return all that a step leaves behind: networks, average, optimizers, first bad step.

        The tensors are the engine's own: the next step changes them.
        """
        return {
            **{name: network.state_dict() for name, network in self._networks.items()},
            "ema": self.ema.state_dict() if self.ema is not None else None,
            **{f"{name}_optimizer": self._optimizers[network].state_dict()
               for name, network in self._networks.items()},
            "first_bad": int(self.first_bad),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` has returned, to the bit.

        Raises:
            RuntimeError, ValueError: It is of other networks or optimizers.
        """
        try:
            self._load(state)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"not the state of an engine: {one_line(error)}") from error

    def _load(self, state: dict[str, Any]) -> None:
        for name, network in self._networks.items():
            network.load_state_dict(state[name])
            optimizer, saved = self._optimizers[network], state[f"{name}_optimizer"]
            # Where the rate lies is a matter of the device, and `begin` sets what it is.
            own = [{key: group[key] for key in ("lr", "capturable") if key in group}
                   for group in optimizer.param_groups]
            optimizer.load_state_dict({**saved, "param_groups": [
                {**group, **kept} for group, kept in
                zip(saved["param_groups"], own, strict=True)]})
        self._rates.clear()
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.first_bad.fill_(state["first_bad"])

    def begin(self, step: int) -> None:
        """Set all that depends on the number of the step: random numbers, learning rates."""
        self._now.fill_(step)
        self._draws.manual_seed(rng.derive(self.spec.seed, "latents", step))
        if self._penalties:
            self._penalty_draws.manual_seed(rng.derive(self.spec.seed, "penalties", step))
        # Layers draw from torch's global state, and only their code says which of them do.
        # `torch.manual_seed` does the same, and takes longer: it looks at every kind of device.
        seed = rng.derive(self.spec.seed, "dropout", step)
        torch.default_generator.manual_seed(seed)
        if self.device != "cpu":
            on_device = torch.cuda.default_generators[torch.cuda.current_device()]
            # A graph of another run may still read the seeds of its own.
            on_device.graphsafe_set_state(self._layer_draws)
            on_device.manual_seed(seed)
        for network, part in self._parts.items():
            now = rate(part, step, self.spec.steps)
            if self._rates.get(network) != now:
                self._rates[network] = now
                for group in self._optimizers[network].param_groups:
                    set_rate(group, now)

    def _latents(self, n: int, labels: Tensor | None) -> Tensor:
        drawn = torch.randn(n, self._latent_dim, generator=self._draws, device=self.device)
        return with_labels(drawn, labels, self.spec.data.classes)

    def _step_discriminator(self, real: Tensor, fake: Tensor, labels: Tensor | None, step: int,
                            seen: Seen, observe: bool) -> Tensor:
        def judge(examples: Tensor) -> Tensor:  # for penalties: gradients of gradients, in float32
            return self._logits(examples, labels)

        real, fake = self._shown(real, step), self._shown(fake, step)
        real_logits, fake_logits = self._judge(real, labels), self._judge(fake, labels)
        terms = self._loss.discriminator(real_logits, fake_logits)
        loss = sum(terms[1:], terms[0])
        if self.spec.d_loss_reduction == "mean":
            loss = loss / len(terms)
        due = [p.every * p.term(judge, real, fake, self._penalty_draws)
               for p in self._penalties if p.term is not None and step % p.every == 0]
        penalty = sum(due[1:], due[0]) if due else None
        total = loss if penalty is None else loss + penalty
        self._update(self.discriminator, total)
        for constraint in self._penalties:
            if constraint.after is not None:
                constraint.after(self.discriminator)
        if observe:
            seen["train/d_loss"] = loss.detach()
            if len(terms) == 2:
                seen["train/d_loss_real"], seen["train/d_loss_fake"] = (t.detach() for t in terms)
            if penalty is not None:
                seen["train/d_penalty"] = penalty.detach()
            at = self._loss.boundary
            seen["train/d_real"] = (real_logits.detach() - at).sigmoid().mean()
            seen["train/d_fake"] = (fake_logits.detach() - at).sigmoid().mean()
            seen["train/d_accuracy_real"] = (real_logits > at).float().mean()
            seen["train/d_accuracy_fake"] = (fake_logits < at).float().mean()
            seen["train/d_grad_norm"] = grad_norm(self.discriminator)
        return total.detach()

    def _step_generator(self, latents: Tensor, fake: Tensor | None, real: Tensor | None,
                        labels: Tensor | None, step: int, seen: Seen, observe: bool,
                        ) -> tuple[Tensor, Tensor]:
        with frozen(self.discriminator):
            if fake is None:
                fake = self._make(latents)
            fake_logits = self._judge(self._shown(fake, step), labels)
            real_logits = None if real is None else self._judge(self._shown(real, step), labels)
            loss = self._loss.generator(fake_logits, real_logits)
            self._update(self.generator, loss)
        if observe:
            seen["train/g_loss"] = loss.detach()
            seen["train/g_grad_norm"] = grad_norm(self.generator)
        return fake, loss.detach()

    def _make(self, latents: Tensor) -> Tensor:
        with self._lowered():
            made: Tensor = self.generator(latents)
        return made.float() if self._lower else made

    def _judge(self, examples: Tensor, labels: Tensor | None) -> Tensor:
        with self._lowered():
            logits = self._logits(examples, labels)
        return logits.float() if self._lower else logits

    def _lowered(self) -> torch.autocast:
        # Without its cache, which a captured step would read after it has been freed.
        return torch.autocast(self.device.partition(":")[0], torch.bfloat16, self._lower,
                              cache_enabled=False)

    def _logits(self, examples: Tensor, labels: Tensor | None) -> Tensor:
        logits: Tensor = (self.discriminator(examples) if labels is None else
                          self.discriminator(examples, labels))
        return logits

    def _shown(self, examples: Tensor, step: int) -> Tensor:
        """What D is shown of examples: themselves, or with noise."""
        for penalty in self._penalties:
            if penalty.noise is not None:
                done = (step - 1) / self.spec.steps
                examples = penalty.noise(examples, self._penalty_draws, done)
        return examples

    def _update(self, network: nn.Module, loss: Tensor) -> None:
        if loss.dim():
            raise UserError(f"the loss {self.spec.loss} gives a tensor of shape "
                            f"{tuple(loss.shape)}, and not a scalar: its terms are means over the "
                            f"batch")
        optimizer = self._optimizers[network]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    @torch.no_grad()
    def sample(self, latents: Tensor) -> Tensor:
        """Return what the measured generator makes of `latents` in eval mode, on the CPU.

        Nothing of the training state changes: batch norm uses its running statistics.
        """
        generator = self.measured
        was_training = generator.training
        generator.eval()
        made: Tensor = generator(latents.to(self.device)).cpu()
        generator.train(was_training)
        return made
