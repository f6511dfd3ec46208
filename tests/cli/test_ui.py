"""What a user sees: `gan-bench ui` over real runs, in a real browser."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from helpers.browser import Browser, experiment_page, gan_bench_ui
from helpers.runs import write_experiment
from helpers.studies import here
from PIL import Image

from gan_bench import load_results
from gan_bench.journal import reading

pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on the PATH")

CARDS = """[...document.querySelectorAll('[data-testid=experiment-view-compare-runs-card]')]"""
RUN_LINKS = """[...document.querySelectorAll('a[href*="/runs/"]')].map(a => a.innerText)"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a real run of two variants, one seed each."""
    folder = tmp_path_factory.mktemp("ui")
    done = here("run", write_experiment(folder), "--root", folder / "root", "--set", "seeds=[0]",
                "--set", "question=Which one?")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "root"


@pytest.fixture(scope="module")
def page(root: Path) -> Iterator[str]:
    """The address of the experiment's runs on a served page."""
    with gan_bench_ui(root) as address:
        yield experiment_page(address, "tiny")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # So tall that every card is in view: MLflow draws no other.
    with Browser((1500, 3600)) as browser:
        yield browser


@pytest.fixture(scope="module")
def charts(page: str, browser: Browser) -> Browser:
    """The browser with the experiment's charts, which take long to load."""
    browser.open(page + "&compareRunsMode=CHART")
    browser.wait(f"{CARDS}.length")
    return browser


def folders(root: Path) -> dict[str, Path]:
    """The runs' folders by variant."""
    return {json.loads(file.read_text())["variant"]: file.parent
            for file in root.glob("runs/tiny/*/spec.json")}


def test_the_runs_page_lists_each_run_once_and_no_other(page: str, browser: Browser) -> None:
    browser.open(page)
    names = browser.wait(RUN_LINKS, until=lambda names: len(names) >= 3)
    assert sorted(names) == ["s0 · plain", "s0 · saturating", "study"]
    assert "3 matching runs" in browser.text()


def test_a_run_page_shows_the_note_and_the_params_and_the_tags(root: Path, page: str,
                                                               browser: Browser) -> None:
    browser.open(page)
    link = """[...document.querySelectorAll('a[href*="/runs/"]')]
              .find(a => a.innerText == 's0 · saturating')"""
    browser.wait(f"!!{link}")
    browser.js(f"{link}.click()")
    browser.wait("document.body.innerText.includes('About this run')")
    text = " ".join(browser.wait("document.body.innerText", until=lambda t: "Tags" in t).split())
    run_id = folders(root)["saturating"].name
    _, note = text.split("Description ")
    note, params = note.split("Parameters (")
    params, about = params.split("About this run ")
    about, tags = about.split("Tags ")
    for words in ("saturating, seed 0: mlp with the saturating loss on digits, 6 steps of batch "
                  "size 32.", "Question: Which one?", f"Run id {run_id}.",
                  "Differs from the baseline: loss saturating for non_saturating"):
        assert words in note
    assert " loss saturating " in f" {params}"
    assert "seed" not in params  # the study has one
    for words in (f"run_id : {run_id} variant : saturating seed : 0 settings : ",
                  " status : FINISHED ", "device : cpu "):
        assert words in tags
    assert "Status Finished" in about
    assert "plain" not in tags


def test_a_chart_is_drawn_for_every_metric_and_a_line_for_every_run(root: Path,
                                                                    charts: Browser) -> None:
    records, _ = reading.read_records(folders(root)["plain"])
    metrics = {key for record in records if record["kind"] in ("metrics", "system")
               for key in record["values"]}
    assert "train/g_loss" in metrics
    titles = charts.wait(f"{CARDS}.map(card => card.querySelector('h4').title)",
                         until=lambda titles: len(titles) > len(metrics))
    assert sorted(titles) == sorted(metrics | {"samples"})
    card = f"{CARDS}.find(card => card.querySelector('h4').title == 'train/g_loss')"
    lines = charts.wait(
        f"[...{card}.querySelectorAll('.scatterlayer path.js-line')].map(p => p.getAttribute('d'))",
        until=lambda lines: len(lines) >= 2)
    # Logged at steps 2, 4 and 6, hence three points; nearly straight, they may be joined into two.
    assert all(line.count("L") in (1, 2) and "NaN" not in line for line in lines)
    assert len(set(lines)) == 2
    legend = charts.js(f"{card}.innerText")
    for name in ("s0 · plain", "s0 · saturating"):
        assert f"{name} (train/g_loss)" in legend


def test_the_grid_shows_every_runs_samples_at_the_sliders_step(root: Path,
                                                               charts: Browser) -> None:
    # Their address is that of an artifact, or since MLflow 3.18 of what the page has fetched.
    pictures = """Promise.all([...document.querySelectorAll('img')]
        .filter(i => i.naturalWidth > 0 && /get-artifact|^blob:/.test(i.src))
        .map(async i => {
            const content = await (await fetch(i.src)).arrayBuffer();
            const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', content));
            const hex = [...digest].map(byte => byte.toString(16).padStart(2, '0')).join('');
            return [hex, i.naturalWidth, i.naturalHeight];
        }))"""
    size = Image.open(folders(root)["plain"] / "samples" / "samples-0000006.png").size
    at_begin, at_end = (
        {hashlib.sha256(file.read_bytes()).hexdigest()
         for file in (root / "artifacts").rglob(f"samples+step+{step}+*")} for step in (0, 6))
    assert at_begin
    assert not at_begin & at_end

    first = charts.wait(pictures, until=lambda seen: len(seen) == 2)
    assert {digest for digest, *_ in first} <= at_begin
    assert [tuple(shown) for _, *shown in first] == [size, size]

    slider = "document.querySelector('[role=slider]')"
    assert charts.wait(f"{slider} && ['min', 'max'].map(x => {slider}.getAttribute('aria-value' + "
                       "x))") == ["0", "6"]
    for _ in range(20):  # the page may draw the slider anew and miss a key
        charts.js(f"{slider}?.focus()")
        charts.press("ArrowRight", 39)
        with suppress(TimeoutError):
            charts.wait(f"{slider}?.getAttribute('aria-valuenow') == '6'", seconds=1)
            break
    last = charts.wait(pictures, until=lambda seen: [
        digest in at_end for digest, *_ in seen] == [True, True])
    assert last[0] != last[1]
    assert [tuple(shown) for _, *shown in last] == [size, size]


@pytest.fixture(scope="module")
def prepared(studies: Path) -> Iterator[str]:
    """The prepared address of a study of two variants, three seeds each."""
    with gan_bench_ui(studies) as address:
        yield experiment_page(address, "losses") + "&viewStateShareKey=gan-bench"


def means(root: Path, score: str) -> dict[str, float]:
    """Return each variant's mean of a score."""
    runs = load_results("losses", root=root).runs
    return dict(runs.groupby("variant", observed=True)[f"score.{score}"].mean())


def test_a_fresh_browser_opens_the_study_as_groups_the_best_first(studies: Path, prepared: str,
                                                                  ) -> None:
    by_variant = means(studies, "fd_random")
    best, worst = sorted(by_variant, key=lambda variant: by_variant[variant])
    with Browser((2400, 900)) as fresh:  # the grid draws no column that is out of view
        fresh.open(prepared)
        text = fresh.wait("document.body.innerText", until=lambda text: all(
            words in text for words in ("Group by: variant", best, worst, "study",
                                        "eval/fd_random", "eval/classes_covered",
                                        "eval/d_accuracy_real")))
        assert text.index("eval/fd_random\n") < text.index("eval/classes_covered\n")
        rows = fresh.wait("[...document.querySelectorAll('.ag-center-cols-container [role=row]')]"
                          ".map(row => row.innerText)", until=lambda rows: len(rows) >= 3)
        assert f"{by_variant[best]:.3f}"[:5] in rows[0]
        assert f"{by_variant[worst]:.3f}"[:5] in rows[1]
        names = fresh.js("[...document.querySelectorAll('.ag-pinned-left-cols-container [role=row],"
                         " .ag-center-cols-container [role=row]')].map(row => row.innerText)")
        assert "Error loading shared view state" not in fresh.text(), names


def test_a_fresh_browser_draws_mean_and_range_of_each_variant(prepared: str) -> None:
    with Browser((1440, 900)) as fresh:
        fresh.open(prepared + "&compareRunsMode=CHART")
        card = f"{CARDS}.find(card => card.querySelector('h4').title == 'eval/fd_random')"
        fresh.wait(f"{CARDS}.length && !!{card}")
        lines = fresh.wait(f"{card}.querySelectorAll('.scatterlayer path.js-line').length",
                           until=lambda count: count >= 2)
        fills = fresh.js(f"[...{card}.querySelectorAll('.scatterlayer path.js-fill')]"
                         ".filter(path => path.getAttribute('d')).length")
        assert (lines >= 2, fills >= 2) == (True, True)
        legend = fresh.js(f"{card}.innerText")
        assert "plain" in legend
        assert "sat" in legend
        first = fresh.js(f"{CARDS}[0].querySelector('h4').title")
        assert first == "eval/fd_random"


def test_the_study_run_has_a_table_and_a_note(prepared: str, browser: Browser) -> None:
    browser.open(prepared)
    link = """[...document.querySelectorAll('a[href*="/runs/"]')]
              .find(a => a.innerText == 'study')"""
    browser.wait(f"!!{link}")
    browser.js(f"{link}.click()")
    text = browser.wait("document.body.innerText",
                        until=lambda text: "verdict.fd_random.sat" in text)
    assert "Which loss?" in text
    assert "gan-bench report losses --root " in text
