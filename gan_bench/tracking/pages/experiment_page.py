"""How MLflow's page of an experiment opens: its description, and a prepared view of its runs.

MLflow (3.17) keeps the arrangement of an experiment's page, which a user may share, as JSON in a
tag of the experiment. An address that names the tag's key opens the page so, in any browser. A page
without that address opens with a table of names alone, and charts of the ten newest runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from gan_bench.config.declared import TAG_LIMIT, Declared
from gan_bench.journal.scores.score_names import DURING, FINAL
from gan_bench.registry import METRICS, Better, scores_of
from gan_bench.tracking.runs.hidden import rows_of
from gan_bench.tracking.runs.tags import ABOUT, NOTE
from gan_bench.tracking.store.client import write_shared

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY = "gan-bench"  # in the address
VIEW = f"mlflow.sharedViewState.{KEY}"
WRITTEN = "mlflow.gan_bench.note"  # the tag of an experiment: hashes of what the program wrote
PAGES = ("select e.name, e.experiment_id, v.value is not null from experiments e "
         f"join experiment_tags a on a.experiment_id = e.experiment_id and a.key = '{ABOUT}' "
         f"left join experiment_tags v on v.experiment_id = e.experiment_id and v.key = '{VIEW}' "
         "where e.lifecycle_stage = 'active' order by coalesce((select max(r.start_time) from runs "
         "r where r.experiment_id = e.experiment_id), 0) desc")
VARIANT = "variant"  # the tag of a run by which the page groups
COLUMNS = 8  # scores in the table
LOSSES = ("train/g_loss", "train/d_loss")
# A chart of MLflow's page, as it is by default.
LINE = {"type": "LINE", "runsCountToCompare": 10, "deleted": False, "isGenerated": True,
        "lineSmoothness": 0, "xAxisScaleType": "linear", "scaleType": "linear", "range": {},
        "xAxisKey": "step", "selectedXAxisMetricKey": "", "yAxisKey": "metric",
        "yAxisExpressions": [], "ignoreOutliers": False, "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True}
BAR = {"type": "BAR", "runsCountToCompare": 10, "deleted": False, "isGenerated": True}
# In two columns titles and legends are whole beside the list of runs, in a window of 1440 pixels.
SECTION = {"display": True, "isReordered": False, "deleted": False, "isGenerated": True,
           "columns": 2, "cardHeight": 320}
RUN_NAME = "attributes.`Run Name`"


def page_path(experiment_id: str, *, is_prepared: bool, as_charts: bool = False) -> str:
    """Return the address of an experiment's runs on a server of MLflow, after its host.

    Args:
        experiment_id: MLflow's.
        is_prepared: Whether the experiment has a prepared view.
        as_charts: Whether the page opens with charts, and not with a table.
    """
    query = {"workflowType": "machine_learning"}  # MLflow's page for training runs
    if is_prepared:
        query["viewStateShareKey"] = KEY
    if as_charts:
        query["compareRunsMode"] = "CHART"
    return f"/#/experiments/{experiment_id}/runs?{urlencode(query)}"


@dataclass(frozen=True)
class Page:
    """The page of an experiment of the program.

    Attributes:
        experiment: Its name.
        experiment_id: MLflow's.
        is_prepared: Whether it has a prepared view.
    """

    experiment: str
    experiment_id: str
    is_prepared: bool


def pages_of(uri: str) -> list[Page]:
    """Return the pages of a database's experiments, the one of the latest run first.

    Raises:
        Exception: Whatever the database driver raises.
    """
    return [Page(str(name), str(number), bool(is_prepared))
            for name, number, is_prepared in rows_of(uri, PAGES)]


def view_of(declared: Declared, evaluate: Mapping[str, Any]) -> str:
    """Return the prepared view: a group per variant, its mean scores, the leading score in order.

    Args:
        declared: What the experiment declares.
        evaluate: The plain values of a run's `evaluate`.
    """
    better = {name: entry.facts.better for entry in METRICS for name in scores_of(entry)}
    is_final = (evaluate.get("final_samples") or evaluate.get("samples"),
                evaluate.get("final_metrics") or evaluate.get("metrics")) != (
                evaluate.get("samples"), evaluate.get("metrics"))
    scores = sorted(declared.final.scores if declared.final else (),
                    key=lambda score: better.get(score) is None)  # stable
    prefix = FINAL if is_final else DURING
    view: dict[str, Any] = {
        "groupBy": {"aggregateFunction": "average",
                    "groupByKeys": [{"mode": "tag", "groupByData": VARIANT}]},
        "groupsExpanded": {**{f"tag.{VARIANT}.{name}": False for name in declared.variants},
                           f"tag.{VARIANT}": True},  # what has no variant: the study run
        "useGroupedValuesInCharts": True,
        "runsHiddenMode": "SHOW_ALL",
        **_table([prefix + score for score in scores[:COLUMNS]], declared.variants),
        **_order(prefix, scores, better),
    }
    is_single = is_final or not evaluate.get("every")
    charts = [_chart(prefix + score, is_single) for score in scores]
    charts += [_chart(loss) for loss in LOSSES]
    short = {**view, "groupsExpanded": {}}  # collapsed groups are the first to do without
    fewer = ({**short, **_arrangement(charts[:count])} for count in range(len(charts), 0, -1))
    narrow = ({**short, **_table([prefix + score for score in scores[:count]], declared.variants)}
              for count in range(COLUMNS, -1, -1))
    for each in ({**view, **_arrangement(charts)}, *fewer, *narrow):
        text = json.dumps(each, separators=(",", ":"))
        if len(text) <= TAG_LIMIT:
            break
    return text


def write_description(client: MlflowClient, experiment_id: str, text: str, root: str, *,
                      only_first: bool = False) -> None:
    """Write the description of an experiment, unless it is the user's or that of another root.

    Args:
        client: Of the store.
        experiment_id: MLflow's.
        text: Markdown.
        root: The id of the root, which stands for its owner.
        only_first: Whether a description that is there stays.
    """
    tags = client.get_experiment(experiment_id).tags
    shown, hashes = tags.get(NOTE, ""), tags.get(WRITTEN, "").split()
    if shown == text or (shown and (only_first or _hash(root + shown) not in hashes)):
        return
    # Both hashes: a process that is killed between the two calls leaves the earlier text.
    written = " ".join(_hash(root + each) for each in (text, shown) if each)
    write_shared(lambda: client.set_experiment_tag(experiment_id, WRITTEN, written))
    write_shared(lambda: client.set_experiment_tag(experiment_id, NOTE, text))


def description(declared: Declared, verdicts: Sequence[str] = (), report: str = "") -> str:
    """Return the Markdown that describes an experiment; empty parts are omitted.

    Args:
        declared: What the experiment declares.
        verdicts: Sentences on the leading score, the first of which names it.
        report: Where the report is, in a sentence.
    """
    title, *sentences = verdicts or ("",)
    parts = [
        declared.question,  # without marks: the list of experiments shows the text as it is
        f"By {title}:" if title else "",
        "\n".join(f"- {sentence}" for sentence in sentences),
        report,
        f"To repeat it:\n\n```\n{declared.command}\n```" if declared.command else "",
    ]
    text = "\n\n".join(part for part in parts if part)
    return text if len(text) <= TAG_LIMIT else text[:TAG_LIMIT - 1] + "…"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _table(metrics: Sequence[str], variants: Sequence[str]) -> dict[str, Any]:
    """Return the columns of the table, the leading score first, wide enough for the variants."""
    columns = [RUN_NAME, *_columns(metrics)]
    widest = min(150 + 8 * max(map(len, variants), default=0), 340)
    return {"selectedColumns": columns[1:], "columnOrder": columns,
            "columnWidths": {RUN_NAME: widest, **dict.fromkeys(columns[1:], 150)}}


def _columns(metrics: Sequence[str]) -> list[str]:
    return [f"metrics.`{metric}`" for metric in metrics]


def _order(prefix: str, scores: Sequence[str], better: Mapping[str, Better]) -> dict[str, Any]:
    """Return how the page orders the groups: by the leading score, the best first."""
    if not scores or better.get(scores[0]) is None:
        return {}
    (column,) = _columns([prefix + scores[0]])
    return {"orderByKey": column, "orderByAsc": better[scores[0]] == "lower"}


def _chart(metric: str, is_single: bool = False) -> dict[str, Any]:
    """Return a chart; of bars if a run has a single value of the metric."""
    section, _, title = metric.rpartition("/")
    return {**(BAR if is_single else LINE), "uuid": metric, "metricKey": metric,
            "displayName": title, "metricSectionId": section}


def _arrangement(charts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the charts and their sections, before which MLflow puts no other."""
    names = dict.fromkeys(chart["metricSectionId"] for chart in charts)
    return {"compareRunCharts": charts, "isAccordionReordered": True,
            "compareRunSections": [{"uuid": name, "name": name, **SECTION} for name in names]}
