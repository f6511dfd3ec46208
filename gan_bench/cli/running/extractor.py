"""What `gan-bench extractor train` does: retrain the classifier of a data set by its recipe."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from gan_bench.components import data as datasets
from gan_bench.config.spec import data_facts
from gan_bench.errors import Say, UserError
from gan_bench.evaluation.features.classifier import ABOUT, WEIGHTS, entry_name, shipped, train_into
from gan_bench.evaluation.metrics.base import refuses_unlabelled
from gan_bench.journal.layout import Workspace
from gan_bench.registry import Part


def retrain(data_set: Part, out: Path | None, workspace: Workspace, say: Say) -> str:
    """Train the classifier of a data set; return how its bits compare with the shipped weights.

    Args:
        data_set: A part of DATASETS: labelled images.
        out: Where to keep the weights, in a folder named after data and recipe; None: nowhere.
        workspace: Holds the data sets and the cache of decoded data; no extractor is written
            there.
        say: Receives a line before each slow step.

    Raises:
        UserError: The data has no labels or is unavailable; the folder exists already, or cannot
            be written.
    """
    if reason := refuses_unlabelled(data_facts(data_set, workspace.data_root)):
        raise UserError(f"the classifier of {data_set} {reason}")
    datasets.prepare_data(data_set, workspace.data_root, workspace.cache, say)
    data = datasets.load(data_set, workspace.data_root, workspace.cache, "cpu")
    if out is not None and (out / entry_name(data)).exists():
        raise UserError(f"{out / entry_name(data)}: exists already; move it away first")
    say(f"training the classifier of {data_set}, in one thread")
    with tempfile.TemporaryDirectory() as scratch:
        folder = (out or Path(scratch)) / entry_name(data)
        train_into(folder, data)
        about = json.loads((folder / ABOUT).read_text())
        content = (folder / WEIGHTS).read_bytes()
    home = shipped(data)
    if home is None:
        verdict = "no weights ship for this data"
    elif (home / WEIGHTS).read_bytes() == content:
        verdict = "the same bits as the shipped weights"
    else:
        verdict = ("other bits than the shipped weights: another processor or version of PyTorch "
                   "sums in another order")
    where = f"{out / entry_name(data)}: " if out else ""
    return (f"{where}sha256 {about['sha256'][:12]}, test accuracy {about['accuracy']:.4f}; "
            f"{verdict}")
