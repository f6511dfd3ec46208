"""What every test of a component starts from."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Draw the same weights and examples whichever tests were run before."""
    torch.manual_seed(0)
