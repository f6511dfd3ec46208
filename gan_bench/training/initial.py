"""Networks that start from given weights (`init`): whether these fit, and their loading."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from gan_bench.components.models import Networks
from gan_bench.config.initial_weights import (
    InitWeights,
    hash_weights,
    initial_weights_file,
    tensor_shapes,
)
from gan_bench.config.spec import RunSpec
from gan_bench.errors import UserError, one_line
from gan_bench.training.step.engine import Engine


def refuse_unfit_weights(spec: RunSpec, networks: Networks, root: Path) -> None:
    """Refuse given weights that do not fit a run's networks, as far as their shapes tell.

    Args:
        networks: Those of the run; their tensors may lie on the meta device.
        root: The folder of everything that runs produce.

    Raises:
        UserError: They do not fit, are missing on this machine, or have changed since the plan.
    """
    if spec.init is None:
        return
    file = _checked_file(spec.init, root)
    given = tensor_shapes(file)
    for network in spec.init.networks:
        prefix = f"{network}."
        expected = {prefix + name: tuple(tensor.shape)
                    for name, tensor in getattr(networks, network).state_dict().items()}
        for name, shape in expected.items():
            if name not in given:
                raise UserError(f"{file}: does not fit: it holds no {name}, which is {shape} here")
            if given[name] != shape:
                raise UserError(f"{file}: does not fit: {name} is {given[name]} there, and {shape} "
                                f"here")
        unknown = [name for name in given if name.startswith(prefix) and name not in expected]
        if unknown:
            raise UserError(f"{file}: does not fit: it holds {unknown[0]}, "
                            f"{given[unknown[0]]}, which the {network} lacks here")


def load_initial_weights(spec: RunSpec, engine: Engine, root: Path) -> None:
    """Let the networks of a run that begins have the weights that its `init` names.

    Raises:
        UserError: They do not fit, are missing on this machine, or have changed since the plan.
    """
    if spec.init is None:
        return
    file = _checked_file(spec.init, root)
    try:
        tensors = load_file(file)
        engine.start_from({
            network: {name.removeprefix(f"{network}."): tensor for name, tensor in tensors.items()
                      if name.startswith(f"{network}.")} for network in spec.init.networks})
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: cannot be read: {one_line(error)}") from None
    except RuntimeError as error:  # its last line names the cause
        why = str(error).strip().splitlines()[-1].strip()
        raise UserError(f"{file}: does not fit: {why}") from None


def _checked_file(init: InitWeights, root: Path) -> Path:
    """Return the file of the weights, after checking that they are those of the plan."""
    file = initial_weights_file(init, root)
    if not file.exists():
        raise UserError(f"{file}: the weights that the run starts from are missing on this "
                        f"machine; copy them there")
    if hash_weights(file) != init.sha256:
        raise UserError(f"{file}: the weights that the run starts from have changed since it was "
                        f"planned (their sha256 differs); restore them, or repeat the command")
    return file
