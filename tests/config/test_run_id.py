"""A run's id: what it is made of, and what leaves it as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.runs import a_run

from gan_bench.config.run_id import LATER_DEFAULTS, identifying_settings


@pytest.mark.parametrize("key", LATER_DEFAULTS)
def test_a_key_that_is_younger_than_some_ids_has_that_default(tmp_path: Path, key: str) -> None:
    """Else a file that does not name it would make other runs than it made."""
    run = a_run(tmp_path, "base.model=dcgan", "base.ema=0.9").model_dump(mode="json")
    section, _, name = key.rpartition(".")
    below = run[section] if section else run
    below = below.get("args", below)
    assert below[name] == LATER_DEFAULTS[key]
    before = identifying_settings(run)
    below[name] = "another"
    assert identifying_settings(run) != before
    del below[name]
    assert identifying_settings(run) == before
