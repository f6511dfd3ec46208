"""Reports that tests write in this process, and what they read of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gan_bench.cli.results.report import Asked, make_report
from gan_bench.errors import UserError
from gan_bench.journal.layout import Workspace
from gan_bench.report.write import Written


def report(root: Path, out: Path, *names: str, uri: str | None = None, **asked: Any) -> Written:
    asked = {"formats": "csv", **asked}
    return make_report(Asked(names or ("losses",), out=out, **asked), Workspace(root, root, uri),
                       "command", lambda line: None)


def summary(out: Path, score: str = "fd_random") -> pd.DataFrame:
    frame = pd.read_csv(out / "summary.csv", keep_default_na=False, na_values=[""])
    return frame[frame["score"] == score].set_index("variant")


def refused(*words: str) -> Any:
    return pytest.raises(UserError, match=".*".join(map(re.escape, words)))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes()
            for file in folder.rglob("*") if file.is_file()}
