"""The checks of models and optimizers."""

from __future__ import annotations

import copy
import io
from typing import Any

import torch
from torch import nn

from gan_bench.components.models import Networks
from gan_bench.config.checks import why_no_rate
from gan_bench.config.spec import RunSpec
from gan_bench.errors import explained
from gan_bench.registry import Entry, Part
from gan_bench.training.contract.base import (
    BATCH,
    Checks,
    advance,
    bits,
    build_for,
    engine_of,
    fixed_seed,
    g_inputs,
    image_shapes,
    logits_of,
    not_finite,
    run_spec,
)
from gan_bench.training.step.engine import Engine

CLASSES = 3


def check_model(checks: Checks, entry: Entry[Any, Any], part: Part) -> None:
    """Check a model on the first usual shape of data that it takes."""
    if not checks.check("has the argument latent_dim, the number of its latents", lambda: (
            None if "latent_dim" in part.args else "add latent_dim: int = 64 to its parameters")):
        return
    shape = _first_shape(checks, entry, part)
    if shape is None:
        return
    check_networks(checks, entry, part, shape)


def _first_shape(checks: Checks, entry: Entry[Any, Any], part: Part) -> tuple[int, ...] | None:
    """Return the first shape whose networks can be built; note those that cannot."""
    built: list[tuple[int, ...]] = []
    failed: dict[tuple[int, ...], str] = {}
    for shape in image_shapes():
        if entry.facts.refuses(shape, **part.args) is not None:
            continue
        try:
            networks = build_for(part, shape)
            if not (problem := shapes_problem(networks, part, shape)):
                built.append(shape)
        except Exception as error:  # of the user's code
            problem = explained(error)
        if problem:
            failed[shape] = problem
    checks.check("makes data of some usual shape", lambda: (
        None if built else next(iter(failed.values()), "it refuses all")))
    if built and failed:
        shapes = ", ".join("×".join(map(str, shape)) for shape in failed)
        first = next(iter(failed.values()))
        checks.note(f"cannot make {shapes}", f"{first}; ModelFacts(refuses=…) can say so in a plan")
    return built[0] if built else None


def check_networks(checks: Checks, entry: Entry[Any, Any], part: Part, shape: tuple[int, ...],
                   ) -> None:
    """Check a model on data of this shape."""
    networks = build_for(part, shape)
    checks.check("draws the same weights for the same seed", lambda: _weights_problem(
        networks, build_for(part, shape)))
    if entry.facts.bounded:
        checks.check("G's images stay in -1..1", lambda: _range_problem(networks, part, shape))
    if entry.facts.styles:
        checks.check("G's images are those of its styles", lambda: _styles_problem(networks, part))
    checks.check("every parameter receives a gradient", lambda: _gradient_problem(
        networks, part, shape))
    checks.check("repeats itself in eval mode", lambda: _repeat_problem(
        networks, part, shape, training=False))
    checks.check("noise layers repeat under the same seed", lambda: _repeat_problem(
        networks, part, shape, training=True))
    checks.check("D says rightly whether it judges examples together", lambda: _mixing_problem(
        networks, part, shape, bool(entry.facts.mixes(**part.args))))
    if checks.check("trains with finite losses", lambda: _training_problem(
            engine_of(run_spec(shape, model=part, ema=0.9)))):
        checks.check("resumes from a checkpoint to the bit", lambda: resume_problem(
            run_spec(shape, model=part, ema=0.9)))
    if entry.facts.takes == "image":  # and so it is conditional already
        return
    way = "projection" if entry.facts.labelled else "concat"
    try:
        conditional = run_spec(shape, CLASSES, model=part, condition=way)
        problem = _training_problem(engine_of(conditional))
    except Exception as error:  # of the user's code
        problem = explained(error)
    if problem:
        checks.note(f"condition: {way} does not work", problem)
    else:
        checks.check("resumes to the bit, conditional", lambda: resume_problem(conditional))


def _styles_problem(networks: Networks, part: Part) -> str | None:
    g: Any = networks.generator.eval()
    latents = g_inputs(part, ())
    try:
        with torch.no_grad():
            styles = g.styles(latents)
            if styles.dim() != 3 or len(styles) != len(latents):
                return (f"its styles have the shape {tuple(styles.shape)}: make (N, layers, "
                        f"w_dim)")
            if not torch.equal(g.synthesis(styles), g(latents)):
                return "G(latents) differs from synthesis(styles(latents))"
    finally:
        g.train()
    return None


def shapes_problem(networks: Networks, part: Part, shape: tuple[int, ...]) -> str:
    """Return what is wrong with the shapes of what the networks make; empty if nothing is."""
    with torch.no_grad(), fixed_seed(0):
        made = networks.generator(g_inputs(part, shape))
        if not isinstance(made, torch.Tensor) or made.shape != (BATCH, *shape):
            return (f"G makes {_shape_of(made)} of {BATCH} latents: make "
                    f"{(BATCH, *shape)}, the data's shape")
        logits = logits_of(networks, part, made)
    is_tensor = isinstance(logits, torch.Tensor)
    is_map = is_tensor and logits.dim() == 4 and logits.shape[:2] == (BATCH, 1)
    if not is_tensor or (logits.shape != (BATCH,) and not is_map):
        return (f"D makes {_shape_of(logits)} of {BATCH} examples: make ({BATCH},), a logit each; "
                f"nn.Flatten(0) at its end does that; or maps of logits, ({BATCH}, 1, H, W)")
    if not made.isfinite().all() or not logits.isfinite().all():
        return "what it makes is not finite before any training"
    return ""


def _range_problem(networks: Networks, part: Part, shape: tuple[int, ...]) -> str | None:
    with torch.no_grad(), fixed_seed(0):
        largest = networks.generator(10 * g_inputs(part, shape)).abs().max()
    if len(shape) < 3 or largest <= 1:
        return None
    return "they leave it: end G with nn.Tanh(), or state ModelFacts(bounded=False)"


def _shape_of(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, torch.Tensor) else type(value).__name__


def _weights_problem(first: Networks, second: Networks) -> str | None:
    for name in ("generator", "discriminator"):
        again = getattr(second, name).state_dict()
        for key, value in getattr(first, name).state_dict().items():
            if not bool(value.isfinite().all()):
                return f"{key} of the {name} is not finite"
            if not torch.equal(value, again[key]):
                return f"{key} of the {name} differs: draw weights from torch alone"
    return None


def _gradient_problem(networks: Networks, part: Part, shape: tuple[int, ...]) -> str | None:
    networks.generator.train()
    networks.discriminator.train()
    with fixed_seed(0):
        logits = logits_of(networks, part, networks.generator(g_inputs(part, shape)))
        logits.sum().backward()  # type: ignore[no-untyped-call]
    for name, network in (("G", networks.generator), ("D", networks.discriminator)):
        for key, parameter in network.named_parameters():
            gradient, parameter.grad = parameter.grad, None
            if parameter.requires_grad and gradient is None:
                return f"{key} of {name} receives none: it is not used, or a step cuts the gradient"
    return None


def _repeat_problem(networks: Networks, part: Part, shape: tuple[int, ...], training: bool,
                    ) -> str | None:
    networks.generator.train(training)
    networks.discriminator.train(training)
    before = [copy.deepcopy(network.state_dict()) for network in
              (networks.generator, networks.discriminator)]
    outputs = []
    for _ in range(2):
        if training:  # a power iteration goes on, and a checkpoint has it
            networks.generator.load_state_dict(before[0])
            networks.discriminator.load_state_dict(before[1])
        with torch.no_grad(), fixed_seed(3):
            made = networks.generator(g_inputs(part, shape))
            outputs.append((made, logits_of(networks, part, made)))
    for name, first, second in (("G", outputs[0][0], outputs[1][0]),
                                ("D", outputs[0][1], outputs[1][1])):
        if not torch.equal(first, second):
            return (f"{name} gives other values for the same input: draw noise from torch, and let "
                    f"no state change")
    return None


def _mixing_problem(networks: Networks, part: Part, shape: tuple[int, ...], is_said: bool,
                    ) -> str | None:
    """Compare D's logits of a batch with those of its first half alone, in double precision."""
    discriminator = networks.discriminator.train()
    for layer in discriminator.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd):
            layer.eval()
    before = {key: value.clone() for key, value in discriminator.state_dict().items()}
    draws = torch.Generator().manual_seed(1)
    try:
        with torch.no_grad():
            discriminator.double()
            for parameter in discriminator.parameters():  # blocks may begin as nothing
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=draws))
            x = torch.rand((6, *shape), generator=draws).double() * 2 - 1
            state = copy.deepcopy(discriminator.state_dict())

            def judged(examples: torch.Tensor) -> torch.Tensor:
                discriminator.load_state_dict(state)  # a power iteration goes on
                return logits_of(networks, part, examples)

            logits = judged(x)
            if not torch.equal(logits, judged(x)):
                return None  # it draws noise, which hides the rest
            largest = logits.abs().max().item()
            difference = (judged(x[:3]) - logits[:3]).abs().max().item()
    finally:
        discriminator.float().load_state_dict(before)
    mixes = difference > 1e-10 * largest + 1e-12
    if mixes and not is_said:
        return ("D judges an example by the others of its batch, as batch norm does, where "
                "gradient penalties are wrong: state ModelFacts(mixes=lambda **arguments: True)")
    if is_said and not mixes:
        return "mixes is stated, but D judges every example alone: leave it out"
    return None


def _training_problem(engine: Engine) -> str | None:
    before = bits(engine)
    problem = not_finite(engine, advance(engine, range(1, 3)))
    moved = {name.split(".")[1] for (name, a), (_, b) in zip(before, bits(engine), strict=False)
             if a != b}
    if not problem and not {"generator", "discriminator"} <= moved:
        return "training changes no weights of G or of D"
    return problem


def resume_problem(spec: RunSpec) -> str | None:
    """Return why a run that is saved, loaded and continued differs from one that was not."""
    whole, killed, resumed = (engine_of(spec) for _ in range(3))
    for engine in (whole, killed):
        advance(engine, range(1, 3))
    file = io.BytesIO()
    torch.save(killed.state(), file)
    file.seek(0)
    resumed.load(torch.load(file, weights_only=True))
    first, second = (advance(engine, range(3, 5)) for engine in (whole, resumed))
    if bits(whole) == bits(resumed) and first == second:
        return None
    names = [name for (name, a), (_, b) in zip(bits(whole), bits(resumed), strict=True) if a != b]
    return (f"{names[0].lstrip('.') if names else 'a loss'} differs: keep what a layer remembers "
            f"in a buffer (register_buffer), and draw noise from torch")


def check_optimizer(checks: Checks, entry: Entry[Any, Any], part: Part) -> None:
    """Check an optimizer on a small network."""
    if not checks.check("has a learning rate and a schedule", lambda: why_no_rate(part)):
        return
    spec = run_spec(g_optimizer=part, d_optimizer=part)
    if checks.check("trains with finite losses", lambda: _training_problem(engine_of(spec))):
        checks.check("resumes from a checkpoint to the bit", lambda: resume_problem(spec))
