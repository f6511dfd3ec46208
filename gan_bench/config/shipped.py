"""The experiments that come with the program, by name."""

from __future__ import annotations

from pathlib import Path

import gan_bench

# In the repository a link to `experiments/`, in a wheel its files.
HOME = Path(gan_bench.__file__).parent / "experiments"


def shipped_experiments() -> dict[str, Path]:
    """Return the file of each, by its name: `loss_zoo`, `seeds/gan_script`."""
    files = sorted([*HOME.glob("*.yaml"), *HOME.glob("*/*.yaml")])
    return {str(file.relative_to(HOME).with_suffix("")): file for file in files}


def is_experiment(source: str) -> bool:
    """Whether a text names an experiment's file, or a shipped experiment and nothing that exists.
    """
    return source.endswith((".yaml", ".yml")) or (
        source in shipped_experiments() and not Path(source).exists())


def experiment_file(path: Path) -> Path:
    """Return the file that a path names: an existing one, or that of a shipped experiment."""
    if path.suffix or path.is_absolute() or path.exists():
        return path
    return shipped_experiments().get(str(path), path)
