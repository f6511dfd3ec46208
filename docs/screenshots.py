"""Make the pictures of the documentation from a root in which the demonstration has been run.

    gan-bench run dcgan_vs_mlp --root ROOT
    python docs/screenshots.py ROOT

It needs Debian's `chromium`. It writes the demonstration's report into results/dcgan_vs_mlp beside
itself, the pictures of its page and of MLflow's, each as a new browser shows it with nothing
prepared, and pictures.json: the numbers that were shown when they were made. A test fails once the
numbers are others.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RECORD = HERE / "pictures.json"
EXPERIMENT = "dcgan_vs_mlp"
NUMBERS = HERE / "results" / EXPERIMENT / "summary.csv"
KEPT = ("report.html", "summary.csv", "pairs.csv", "table.md")
SHOWN = ("score", "variant", "n", "mean", "mean_low", "mean_high", "difference", "verdict")
SIZE = (1440, 900)  # of a laptop's window


def digest(summary: Path) -> str:
    """Return what stands for the numbers of a report: those of its table, to four digits."""
    rows = []
    with summary.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows.append([_rounded(row[column]) for column in SHOWN])
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _rounded(text: str) -> str:
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text


def write_report(root: Path) -> Path:
    """Write the demonstration's report in the root, and keep its numbers here; return its page."""
    subprocess.run([sys.executable, "-m", "gan_bench", "report", EXPERIMENT, "--root", str(root)],
                   check=True, stdout=subprocess.DEVNULL)
    folder = root / "reports" / EXPERIMENT
    NUMBERS.parent.mkdir(exist_ok=True)
    for name in KEPT:
        shutil.copy(folder / name, NUMBERS.parent / name)
    return folder / "report.html"


def shoot(root: Path, page: Path) -> list[str]:
    """Take the pictures, each in a new browser; return their names."""
    from helpers.browser import Browser, gan_bench_ui

    from gan_bench.journal.layout import Workspace
    from gan_bench.tracking.pages.experiment_page import page_path, pages_of
    from gan_bench.tracking.store.address import resolve_uri

    with Browser(SIZE) as browser:
        browser.open(page.resolve().as_uri())
        time.sleep(2)
        browser.screenshot(HERE / "report.png")
    (shown,) = [page for page in pages_of(resolve_uri(Workspace(root)))
                if page.experiment == EXPERIMENT]
    with gan_bench_ui(root) as address:
        for name, as_charts in ("mlflow-runs.png", False), ("mlflow-charts.png", True):
            path = page_path(shown.experiment_id, is_prepared=shown.is_prepared,
                             as_charts=as_charts)
            with Browser(SIZE) as browser:
                browser.open(address + path)
                ready = ("document.querySelectorAll('.js-plotly-plot').length" if as_charts else
                         "document.body.innerText.includes('mlp-non_saturating')")
                browser.wait(ready, 120)
                time.sleep(5)
                browser.screenshot(HERE / name)
    return ["report.png", "mlflow-runs.png", "mlflow-charts.png"]


def circumstances(root: Path) -> str:
    """Return on what the runs were made, and when."""
    journal = min(root.glob(f"runs/{EXPERIMENT}/*/journal.jsonl"))
    with journal.open(encoding="utf-8") as file:
        start = json.loads(file.readline())
    facts, day = start["facts"], datetime.datetime.fromtimestamp(start["t"] / 1000, datetime.UTC)
    return (f"{facts['device_name']}, {facts['device']}, torch {facts['versions']['torch']}, "
            f"{day:%Y-%m-%d}")


def main(root: Path) -> None:
    """Make the pictures, and record of which numbers they are."""
    pictures = shoot(root, write_report(root))
    RECORD.write_text(json.dumps({
        "pictures": pictures, "numbers": str(NUMBERS.relative_to(HERE)), "digest": digest(NUMBERS),
        "made": datetime.date.today().isoformat(),
        "runs": circumstances(root),
        "command": "python docs/screenshots.py ROOT"}, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.path.insert(0, str(HERE.parent / "tests"))
    main(Path(sys.argv[1]))
