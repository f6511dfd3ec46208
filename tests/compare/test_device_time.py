"""How long a run held its device, where it was killed, resumed and measured later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gan_bench.compare.device_time import device_seconds

NIGHT = 12 * 3_600


def test_the_time_between_attempts_is_left_out(tmp_path: Path) -> None:
    """10 s and 2 s, a night, 5 s, and 3 + 1 s that repeat steps; then 2 s of measuring."""
    again = {"note": "", "drift": {}}
    values: dict[str, Any] = {"values": {"train/g_loss": 1.0}}
    begins = NIGHT + 100
    records = [(0, "start", 0, {"facts": {}}), (10, "metrics", 2, values),
               (12, "end", 2, {"status": "KILLED", "why": ""}),
               (NIGHT, "resume", 2, {**again, "void": False}), (NIGHT + 5, "metrics", 4, values),
               (begins, "resume", 2, {**again, "void": True}), (begins + 3, "metrics", 4, values),
               (begins + 4, "end", 4, {"status": "FINISHED", "why": "", "weights": "x"}),
               (9 * NIGHT, "protocol", 4, {"protocol": {}}), (9 * NIGHT + 2, "metrics", 4, values),
               (9 * NIGHT + 2, "end", 4, {"status": "FINISHED", "why": "", "weights": "x"})]
    (tmp_path / "journal.jsonl").write_text("".join(
        json.dumps({"t": 1000 * t, "kind": kind, "step": step, **more}) + "\n"
        for t, kind, step, more in records))
    assert device_seconds(tmp_path) == 12 + 5 + 4 + 2
    assert device_seconds(tmp_path / "none") == 0
