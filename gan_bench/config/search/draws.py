"""The random numbers behind the draws of a search.

A drawn value depends on (the search's seed, the key, the draw's index) alone. So more draws keep
the earlier ones, another key leaves the values of the rest, and variants share the draws of the
keys that they share. (The idea comes from `seed_hash` in facebookresearch/DomainBed.)
"""

from __future__ import annotations

from gan_bench.rng import derive

BITS = 63  # of `derive`
DIGITS = 4  # significant ones of a drawn real number


def uniform_share(seed: int, key: str, draw: int) -> float:
    """Return a number in [0, 1), uniform: the 53 leading bits of the draw's own number.

    Args:
        seed: The search's.
        key: The dotted key, as the file writes it.
        draw: The index of the draw.
    """
    return (_number(seed, key, draw) >> (BITS - 53)) / 2.0**53


def uniform_index(seed: int, key: str, draw: int, count: int) -> int:
    """Return one of the integers 0 .. count − 1, each as likely as another (to 2⁻⁶³ · count)."""
    return (_number(seed, key, draw) * count) >> BITS


def four_digits(value: float) -> float:
    """Return a number with four significant digits, so that tables and ids do not depend on the
    last bits of a processor's logarithm."""
    return float(f"{value:.{DIGITS}g}")


def _number(seed: int, key: str, draw: int) -> int:
    return derive(seed, f"search/{key}", draw)
