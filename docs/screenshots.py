"""Make the pictures of the README from a root in which the demonstration has been run.

    python docs/screenshots.py ROOT

It needs Debian's `chromium` and writes mlflow-runs.png, mlflow-charts.png and samples.png beside
itself.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from browser import Browser, experiment_page, gan_bench_ui  # noqa: E402

EXPERIMENT = "dcgan_vs_mlp"
VARIANTS = ["mlp-saturating", "mlp-non_saturating", "dcgan-saturating", "dcgan-non_saturating"]
SEED, STEP = 1, 1000

# Not for a picture: the Assistant's panel and button, and the tools over each Plotly chart.
TIDY = """
localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');
localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false');
addEventListener('DOMContentLoaded', () => document.head.insertAdjacentHTML('beforeend',
  '<style>[data-assistant-ui], .modebar { display: none !important }</style>'));
"""


def remember(page: str, state: dict[str, Any]) -> str:
    """Return JavaScript that arranges the page, as MLflow remembers what its user has arranged."""
    number = page.split("/experiments/")[1].split("/")[0]
    key = f'MLflowLocalStorage-1.1-ExperimentPage-["{number}"]-ReactComponentState'
    return f"{TIDY}localStorage.setItem({json.dumps(key)}, {json.dumps(json.dumps(state))});"


def runs_table(page: str, out: Path) -> None:
    """Draw the table of all runs, the best first."""
    metrics = ["eval/fd_classifier", "eval/classifier_score", "eval/nearest_train_mse"]
    state = {
        "selectedColumns": [*(f"metrics.`{metric}`" for metric in metrics), "params.`model`",
                            "params.`loss`", "params.`seed`"],
        "columnWidths": {"run_name": 260},
        "orderByKey": f"metrics.`{metrics[0]}`", "orderByAsc": True,
    }
    with Browser((1500, 960), remember(page, state)) as browser:
        browser.open(page)
        browser.wait("document.body.innerText.includes('20 matching runs')", 60)
        time.sleep(3)
        browser.screenshot(out)


def charts(page: str, out: Path) -> None:
    """Draw the losses and distance of one seed's runs, and their last samples."""
    line = {"type": "LINE", "runsCountToCompare": 10, "metricSectionId": "losses",
            "deleted": False, "isGenerated": False, "lineSmoothness": 0, "xAxisKey": "step",
            "xAxisScaleType": "linear", "scaleType": "linear", "range": {}, "yAxisKey": "metric",
            "selectedXAxisMetricKey": "", "yAxisExpressions": [], "ignoreOutliers": False,
            "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True}
    state = {
        "searchFilter": f"params.seed = '{SEED}'",
        "columnWidths": {"run_name": 260},
        "compareRunCharts": [
            *({**line, "uuid": key, "metricKey": key, "displayName": key}
              for key in ("train/d_loss", "train/g_loss", "eval/fd_classifier")),
            {"uuid": "samples", "type": "IMAGE", "runsCountToCompare": 10, "deleted": False,
             "metricSectionId": "samples", "isGenerated": False, "imageKeys": ["samples"],
             "step": STEP, "showRunParams": False},
        ],
        "compareRunSections": [
            {"uuid": name, "name": name, "display": True, "isReordered": False, "deleted": False,
             "isGenerated": False, "columns": columns, "cardHeight": height}
            for name, columns, height in (("losses", 3, 340), ("samples", 1, 420))],
        "isAccordionReordered": True,  # else the other metrics' sections come first
    }
    with Browser((1500, 1200), remember(page, state)) as browser:
        browser.open(f"{page}&compareRunsMode=CHART")
        browser.wait("document.querySelectorAll('img[src*=get-artifact]').length", 60,
                     until=lambda count: count >= len(VARIANTS))
        time.sleep(3)
        browser.screenshot(out)


def samples(root: Path, out: Path) -> None:
    """Put the last samples of one seed's runs side by side."""
    matplotlib.rcParams["font.size"] = 13
    pictures = {}
    for file in root.glob(f"runs/{EXPERIMENT}/*/spec.json"):
        spec = json.loads(file.read_text())
        if spec["seed"] == SEED:
            last = max(file.parent.glob("samples/samples-*.png"))
            pictures[spec["variant"]] = Image.open(last)
    figure = Figure(figsize=(15, 4.1), dpi=100, layout="constrained")
    for axes, variant in zip(figure.subplots(1, len(VARIANTS)), VARIANTS, strict=True):
        axes.imshow(pictures[variant], cmap="gray", interpolation="nearest")
        axes.set_title(variant)
        axes.axis("off")
    figure.savefig(out)


def main(root: Path) -> None:
    samples(root, HERE / "samples.png")
    with gan_bench_ui(root) as address:
        page = experiment_page(address, EXPERIMENT)
        runs_table(page, HERE / "mlflow-runs.png")
        charts(page, HERE / "mlflow-charts.png")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
