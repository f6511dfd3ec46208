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

from helpers.browser import Browser, experiment_page, gan_bench_ui  # noqa: E402

EXPERIMENT = "dcgan_vs_mlp"
VARIANTS = ["mlp-saturating", "mlp-non_saturating", "dcgan-saturating", "dcgan-non_saturating"]
COLOURS = {"mlp": "#de7921", "dcgan": "#077a9d"}
SEED, STEP = 1, 1000

# Not for a picture: the Assistant's panel and button, and the tools over each Plotly chart.
TIDY = """
localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');
localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false');
addEventListener('DOMContentLoaded', () => document.head.insertAdjacentHTML('beforeend',
  '<style>[data-assistant-ui], .modebar { display: none !important }</style>'));
"""


def remember(page: str, state: dict[str, Any], colours: dict[str, str] | None = None) -> str:
    """Return JavaScript that arranges the page, in MLflow's own memory of a user's arrangements.

    Args:
        page: The experiment's address.
        state: What differs from a fresh page.
        colours: Of runs, by MLflow's id.
    """
    number = page.split("/experiments/")[1].split("/")[0]
    key = f'MLflowLocalStorage-1.1-ExperimentPage-["{number}"]-ReactComponentState'
    items = {key: state, "experimentRunColors": colours or {}}
    return TIDY + "\n".join(
        f"localStorage.setItem({json.dumps(name)}, {json.dumps(json.dumps(item))});"
        for name, item in items.items())


def runs_of_seed(root: Path) -> dict[str, Path]:
    """Return the folders of one seed's runs by variant."""
    specs = {file.parent: json.loads(file.read_text())
             for file in root.glob(f"runs/{EXPERIMENT}/*/spec.json")}
    return {spec["variant"]: folder for folder, spec in specs.items() if spec["seed"] == SEED}


def runs_table(page: str, out: Path) -> None:
    """Draw the table of all runs, the best first."""
    metrics = ["eval/fd_classifier", "eval/classifier_score", "eval/nearest_train_mse"]
    columns = {"attributes.`Run Name`": 225, **{f"metrics.`{metric}`": 155 for metric in metrics},
               "params.`model`": 70, "params.`loss`": 120, "params.`seed`": 60}
    state = {
        "selectedColumns": list(columns), "columnOrder": list(columns), "columnWidths": columns,
        "orderByKey": f"metrics.`{metrics[0]}`", "orderByAsc": True,
    }
    with Browser((1500, 960), remember(page, state)) as browser:
        browser.open(page)
        browser.wait("document.body.innerText.includes('20 matching runs')", 60)
        time.sleep(3)
        browser.screenshot(out)


def mlflow_id(folder: Path) -> str:
    """Return MLflow's own id of a run, which has been brought into one store."""
    (cursor,) = json.loads((folder / "mirror.json").read_text()).values()
    return str(cursor["mlflow_run_id"])


def charts(root: Path, page: str, out: Path) -> None:
    """Draw the losses, distances and last samples of both networks under the same loss."""
    folders = runs_of_seed(root)
    # MLflow draws a run's colour by lot, and two may be alike.
    colours = {mlflow_id(folders[f"{model}-non_saturating"]): colour
               for model, colour in COLOURS.items()}
    line = {"type": "LINE", "runsCountToCompare": 10, "metricSectionId": "losses",
            "deleted": False, "isGenerated": False, "lineSmoothness": 0, "xAxisKey": "step",
            "xAxisScaleType": "linear", "scaleType": "linear", "range": {}, "yAxisKey": "metric",
            "selectedXAxisMetricKey": "", "yAxisExpressions": [], "ignoreOutliers": False,
            "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True}
    state = {
        "searchFilter": f"params.seed = '{SEED}' and params.loss = 'non_saturating'",
        "runListHidden": True,  # the legends name them, and the pictures need the room
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
            for name, columns, height in (("losses", 3, 320), ("samples", 1, 590))],
        "isAccordionReordered": True,  # else the other metrics' sections come first
    }
    with Browser((1500, 1305), remember(page, state, colours)) as browser:
        browser.open(f"{page}&compareRunsMode=CHART")
        browser.wait("document.querySelectorAll('img[src*=get-artifact]').length", 60,
                     until=lambda count: count >= len(colours))
        time.sleep(3)
        browser.screenshot(out)


def samples(root: Path, out: Path) -> None:
    """Put the last samples of one seed's runs side by side."""
    matplotlib.rcParams["font.size"] = 13
    folders = runs_of_seed(root)
    figure = Figure(figsize=(15, 4.15), dpi=100, layout="constrained")
    for axes, variant in zip(figure.subplots(1, len(VARIANTS)), VARIANTS, strict=True):
        last = max(folders[variant].glob("samples/samples-*.png"))
        axes.imshow(Image.open(last), cmap="gray", interpolation="nearest")
        axes.set_title(variant)
        axes.axis("off")
    figure.savefig(out)


def main(root: Path) -> None:
    samples(root, HERE / "samples.png")
    with gan_bench_ui(root) as address:
        page = experiment_page(address, EXPERIMENT)
        runs_table(page, HERE / "mlflow-runs.png")
        charts(root, page, HERE / "mlflow-charts.png")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
