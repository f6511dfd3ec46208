"""The figures: what is drawn is what the frames hold, and every figure can be read."""

from __future__ import annotations

import base64
import io
import itertools
import math
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image, PngImagePlugin
from scipy import stats

from gan_bench.compare.findings import findings
from gan_bench.compare.labels import labelled
from gan_bench.compare.results import Results
from gan_bench.compare.rows import final_scores
from gan_bench.compare.stats.comparison import compare
from gan_bench.config.declared import Amount, Declared
from gan_bench.errors import UserError
from gan_bench.evaluation.grid_layout import KEYWORD
from gan_bench.evaluation.sample_grid import sample_picture
from gan_bench.report.figures import (
    INK,
    Look,
    drawn_for,
    dynamics,
    files,
    heat_map,
    learning_curves,
    mosaic,
    mosaic_over_steps,
    profiles,
    render,
    save,
    seed_dots,
    style,
    styles,
)
from gan_bench.report.figures.curve_data import POINTS, thinned
from gan_bench.report.figures.mosaics import tiles
from gan_bench.report.rendering import report_figures
from gan_bench.report.samples import Pictures

SCORE = "fd_classifier"  # lower is better
LONG = "dcgan_with_a_very_long_name-saturating-lr=0.0002-width=128-x"
TRAIN = ("train/d_loss", "train/g_loss", "train/d_real", "train/d_fake")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """Nothing may put a warning on a user's screen."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def study(variants: list[str] | int = 3, seeds: int = 5, points: int = 11,
          diverged: dict[str, int] | None = None, score: str = SCORE, name: str = "example",
          every: int = 100, spread: float = 1.0, train: bool = True) -> Results:
    """Return a made-up experiment.

    Args:
        diverged: How many of a variant's seeds, the last ones, diverged after half of the steps.
    """
    rng = np.random.default_rng(7)
    names = [f"variant-{i}" for i in range(variants)] if isinstance(variants, int) else variants
    kind = pd.CategoricalDtype(names, ordered=True)
    rows, history = [], []
    steps = np.arange(points) * every
    for place, variant in enumerate(names):
        for seed in range(seeds):
            run = f"{place:06x}{seed:06x}"
            lost = seed >= seeds - (diverged or {}).get(variant, 0)
            own = steps[:(points + 1) // 2] if lost else steps
            level = 20 + 3 * place + spread * rng.normal()
            value = level + 60 * np.exp(-own / (every * points / 5)) + rng.normal(0, .5, len(own))
            columns = {f"eval/{score}": value}
            if train:
                half = rng.normal(0, .05, (4, len(own)))
                columns |= {"train/d_loss": .6 + half[0], "train/g_loss": .9 + place + half[1],
                            "train/d_real": .7 + half[2], "train/d_fake": .3 + half[3]}
            history += [pd.DataFrame({"run": run, "variant": variant, "seed": seed, "metric": m,
                                      "step": own, "seconds": own / 10, "value": v})
                        for m, v in columns.items()]
            rows.append({"run": run, "variant": variant, "seed": seed,
                         "status": "DIVERGED" if lost else "FINISHED", "why": "",
                         "step": int(own[-1]), f"score.{score}": math.nan if lost else value[-1],
                         f"protocol.{score}": "" if lost else "{}"})
    runs = pd.DataFrame(rows).set_index("run")
    runs["variant"] = runs["variant"].astype(kind)
    long = pd.concat(history, ignore_index=True)
    long["variant"] = long["variant"].astype(kind)
    long = long.astype({"run": "category", "metric": "category"})
    return Results(name, Declared(baseline=names[0]), runs, long)


def emptied(results: Results, **changes: Any) -> Results:
    """Return the same with columns of its runs changed."""
    runs = results.runs.assign(**changes)
    return Results(results.experiment, results.declared, runs, results.history)


def drawn(figure: Figure, label: str) -> list[Any]:
    """Return the lines and areas whose label begins so."""
    return [artist for axes in figure.axes for artist in (*axes.lines, *axes.collections)
            if str(artist.get_label()).startswith(label)]


def words(figure: Figure) -> str:
    found = [text.get_text() for text in figure.findobj(Text)]
    return " ".join(" ".join(found).split())


def grid(seed: int, side: int = 28, channels: int = 1) -> bytes:
    noise = torch.rand(64, channels, side, side, generator=torch.Generator().manual_seed(seed))
    return sample_picture(noise * 2 - 1)


# what every figure has in common

LOST = {"variant-1": 2}
FIGURES: dict[str, Callable[[Results], Figure]] = {
    "learning_curves": lambda results: learning_curves(results, SCORE),
    "seed_dots": lambda results: seed_dots(results, SCORE),
    "dynamics": dynamics,
    "heat_map": lambda results: heat_map(
        compare(final_scores(results.ended(), SCORE), "lower"), SCORE),
    "profiles": lambda results: profiles([results, results], SCORE),
    "mosaic": lambda results: mosaic({v: {s: grid(s) for s in (0, 1)} for v in results.variants}),
    "mosaic_over_steps": lambda results: mosaic_over_steps({0: grid(0), 100: grid(1)}),
}
CASES: dict[str, Callable[[], Results]] = {
    "usual": lambda: study(3, 5, diverged=LOST),
    "one seed": lambda: study(3, 1),
    "one variant": lambda: study(1, 5),
    "one run": lambda: study(1, 1, 1),
    "all diverged": lambda: study(2, 3, diverged={"variant-0": 3, "variant-1": 3}),
    "one variant diverged": lambda: study(2, 3, diverged={"variant-0": 3}),
    "the same scores": lambda: emptied(study(2, 3), **{f"score.{SCORE}": 2.5}),
    "no finite score": lambda: emptied(study(2, 3), **{f"score.{SCORE}": math.nan}),
    "no score": lambda: emptied(study(2, 3), **{f"score.{SCORE}": math.nan,
                                                f"protocol.{SCORE}": ""}),
    "nothing finished": lambda: emptied(study(2, 3), status="RUNNING"),
    "no history": lambda: (lambda r: Results(r.experiment, r.declared, r.runs, r.history[:0]))(
        study(2, 3)),
    "history of NaN": lambda: (lambda r: Results(
        r.experiment, r.declared, r.runs, r.history.assign(value=math.nan)))(study(2, 3)),
    "odd names": lambda: study(["_a$b$", "50%^{", "<&>\"'"], 3),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_of_everything_can_be_drawn(figure: str, case: str) -> None:
    made = FIGURES[figure](CASES[case]())
    root = ET.fromstring(render(made, "svg"))
    assert root.tag == f"{SVG}svg"
    assert len(list(root.iter(f"{SVG}text"))) >= 2  # at least a title and something to say


@pytest.mark.parametrize("figure", FIGURES)
def test_many_variants_with_long_names_fit(figure: str) -> None:
    # Panels are alike; a third of them takes a third of the time.
    many = 30 if figure in ("learning_curves", "seed_dots", "heat_map") else 11
    names = [f"{LONG[:-1]}{i:02d}" for i in range(many)]
    made = FIGURES[figure](study(names, 3, points=5))
    files.freeze_layout(made)
    made.draw_without_rendering()  # labels move to where the layout lets them be
    assert len(names[0]) >= 60
    renderer = made.canvas.get_renderer()  # type: ignore[attr-defined]
    width, height = made.bbox.width, made.bbox.height
    for text in made.findobj(Text):
        if re.search("[A-Za-z]", text.get_text()):  # ticks beyond the frame are not drawn
            box = text.get_window_extent(renderer)
            assert -1 <= box.x0 <= box.x1 <= width + 1, text
            assert -1 <= box.y0 <= box.y1 <= height + 1, text
    if figure not in ("profiles", "mosaic_over_steps"):
        assert max(made.get_size_inches()) > 9  # it has grown


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
@pytest.mark.parametrize("figure", FIGURES)
def test_equal_figures_are_equal_files(figure: str, kind: str, tmp_path: Path) -> None:
    first, again = (tmp_path / f"{name}.{kind}" for name in ("first", "again"))
    made = FIGURES[figure](study(3, diverged=LOST))
    save(made, first)
    save(FIGURES[figure](study(3, diverged=LOST)), again)
    assert first.read_bytes() == again.read_bytes()
    assert first.read_bytes()[:4] == {"svg": b"<?xm", "png": b"\x89PNG", "pdf": b"%PDF"}[kind]
    if kind == "svg":
        assert render(made, kind) == first.read_bytes()  # nor does the first rendering change it
        other = FIGURES[figure](study(["x", "y"], 4))
        assert figure == "mosaic_over_steps" or render(other, kind) != first.read_bytes()


def test_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'jpg'; the formats are svg, png, pdf"):
        save(dynamics(study()), tmp_path / "a.jpg")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("figure", FIGURES)
def test_a_page_can_give_ink_its_own_colour(figure: str) -> None:
    text = render(FIGURES[figure](study(3, diverged=LOST)), "svg").decode()
    root = ET.fromstring(text)
    styled = [element.get("style") or "" for element in root.iter(f"{SVG}text")]
    colours = set(re.findall(r"#[0-9a-f]{6}\b", re.sub(r"href=\"[^\"]*\"", "", text)))
    if figure == "heat_map":  # its cells have numbers of their own, in black or white
        assert {"#111111", "#ffffff", INK} <= {
            found for style in styled for found in re.findall("#[0-9a-f]{6}", style)}
    else:
        assert all(f"fill: {INK}" in style for style in styled)
        assert colours <= {INK, *(colour.lower() for colour in style.COLOURS)}
    assert INK in colours
    ground = root.find(f".//{SVG}g[@id='patch_1']/{SVG}path")
    assert ground is not None
    assert "fill: none" in (ground.get("style") or "")
    assert ">variant-1" in text or figure == "mosaic_over_steps"  # as text, not as paths


def test_nothing_global_is_read_or_changed() -> None:
    made = render(learning_curves(study(), SCORE), "svg")
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "text.color": "blue",
                                "svg.fonttype": "path"}):
        changed = dict(matplotlib.rcParams)
        assert render(learning_curves(study(), SCORE), "svg") == made
        assert dict(matplotlib.rcParams) == changed
    assert dict(matplotlib.rcParams) == before


# styles


def lightness(colour: str) -> float:
    """CIELAB's L*, of the grey that a colour becomes."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16)


def test_colours_differ_in_grey_and_show_on_both_grounds() -> None:
    levels = [lightness(colour) for colour in style.COLOURS]
    assert np.diff(sorted(levels)).min() > 4
    assert all(abs(a - b) > 9 for a, b in itertools.pairwise(levels))
    assert min(levels) > 33  # black is 0
    assert max(levels) < 73  # white is 100


def test_styles_go_by_place_and_do_not_repeat() -> None:
    names = [str(i) for i in range(360)]
    found = styles(names)
    assert len({repr(style) for style in found.values()}) == 360
    assert [found[name].colour for name in names[:8]] == list(style.COLOURS)
    assert len({repr((found[n].marker, found[n].line)) for n in names[:8]}) == 8
    assert style.CROSS not in style.MARKERS


def test_a_variant_has_one_colour_everywhere() -> None:
    results = study(4, diverged=LOST)
    looks = styles(results.variants)
    curves, dots = learning_curves(results, SCORE), seed_dots(results, SCORE)
    profile = profiles([results, results], SCORE)
    losses = dynamics(results)
    for place, variant in enumerate(results.variants):
        for figure, label in ((curves, f"_mean {variant}"), (dots, f"_mean {variant}"),
                              (dots, f"_seeds {variant}"), (profile, f"_profile {variant}")):
            [line] = drawn(figure, label)
            assert line.get_color() == looks[variant].colour
            assert line.get_marker() == looks[variant].marker
        means = [line.get_color() for line in losses.axes[2 * place].lines
                 if str(line.get_label()).startswith("_mean")]
        assert means == [INK, looks[variant].colour]
        legend = curves.legends[0]
        assert legend.legend_handles[place].get_color() == looks[variant].colour  # type: ignore


def test_names_are_broken_where_it_reads_well() -> None:
    assert style.wrapped("mlp-non_saturating", 12) == "mlp-non_\nsaturating"
    assert style.wrapped("x" * 25, 10) == "x" * 10 + "\n" + "x" * 10 + "\n" + "x" * 5
    assert style.wrapped("a b\nc", 10) == "a b\nc"
    for width in (5, 20, 32):
        assert max(map(len, style.wrapped(LONG, width).split("\n"))) <= width
        assert re.sub(r"\s", "", style.wrapped(LONG, width)) == LONG


def test_rows_and_legends_have_the_order_of_the_table() -> None:
    results, order = study(4), ["variant-2", "variant-0", "variant-3"]  # one is unknown there
    expected = [*order, "variant-1"]
    dots = seed_dots(results, SCORE, order)
    rows = [label.get_text().split("\n")[0] for label in dots.axes[0].get_yticklabels()]
    assert rows == expected
    for place, variant in enumerate(expected):  # the scores are those of the row's variant
        [mean] = drawn(dots, f"_mean {variant}")
        assert math.floor(mean.get_ydata()[0]) == place
        [own] = drawn(seed_dots(results, SCORE), f"_mean {variant}")
        assert own.get_xdata() == mean.get_xdata()
        assert own.get_color() == mean.get_color()
    legend = learning_curves(results, SCORE, order).legends[0]
    assert [text.get_text().split("\n")[0] for text in legend.get_texts()] == expected
    pairs = compare(final_scores(results.ended(), SCORE), "lower")
    for ticks in (heat_map(pairs, SCORE, order).axes[0].get_yticklabels(),
                  heat_map(pairs, SCORE, order).axes[0].get_xticklabels()):
        assert [tick.get_text() for tick in ticks] == expected


@pytest.mark.parametrize(("variants", "has_map"), [(2, False), (3, True)])
def test_a_report_has_a_map_of_several_pairs_and_not_of_one(variants: int, has_map: bool) -> None:
    results = study(variants)
    names = [figure.name for figure in report_figures([results], findings(results),
                                                      [Pictures({}, [], [])])]
    assert (f"{SCORE}-pairs" in names) == has_map
    assert f"{SCORE}-seeds" in names


@pytest.mark.parametrize(("variants", "most"), [(1, 4.5), (4, 6.0), (8, 9.0)])
def test_dynamics_fit_the_column_of_a_page(variants: int, most: float) -> None:
    with drawn_for(Look(width=3.25, has_titles=False)):
        figure = dynamics(study(variants))
    assert most / 2 < figure.get_size_inches()[1] <= most
    boxes = [axes.get_window_extent() for axes in figure.axes if axes.axison]
    assert min(box.height for box in boxes) / figure.dpi > 0.35


# learning curves


def test_one_measurement_is_no_curve() -> None:
    results = study(3)
    last = results.history["step"] == results.history["step"].max()
    once = Results("x", results.declared, results.runs, results.history[last])
    figure = learning_curves(once, SCORE)
    assert "was measured once in each run, at step 1,000: that is no curve" in words(figure)
    assert not drawn(figure, "_run")
    two = results.history["run"] == results.history["run"].iloc[0]
    figure = learning_curves(Results("x", results.declared, results.runs,
                                     results.history[last | two]), SCORE)
    assert "measured once" not in words(figure)
    assert len(drawn(figure, "_run")) == 15
    early = results.history["step"] == 100
    apart = results.history[(last & ~two) | (early & two)]
    assert "once in each run, between steps 100 and 1,000" in words(learning_curves(
        Results("x", results.declared, results.runs, apart), SCORE))


def long(results: Results, metric: str = f"eval/{SCORE}") -> pd.DataFrame:
    return results.history[results.history["metric"] == metric].astype({"run": str})


def test_means_are_pandas_and_bands_are_scipys() -> None:
    results = study(3, 5, diverged=LOST)
    figure = learning_curves(results, SCORE)
    lost = results.runs.index[results.runs["status"] == "DIVERGED"]
    rows = long(results)
    for variant in results.variants:
        own = rows[(rows["variant"] == variant) & ~rows["run"].isin(lost)]
        by_step = own.groupby("step")["value"]
        [line] = drawn(figure, f"_mean {variant}")
        assert list(line.get_xdata()) == list(by_step.mean().index)
        np.testing.assert_allclose(line.get_ydata(), by_step.mean(), rtol=1e-12, atol=0)
        n = by_step.count().iloc[0]
        assert n == (3 if variant == "variant-1" else 5)
        low, high = stats.t.interval(0.95, n - 1, by_step.mean(), by_step.sem())
        [band] = drawn(figure, f"_band {variant}")
        corners = band.get_paths()[0].vertices
        for step, bottom, top in zip(by_step.mean().index, low, high, strict=True):
            ends = corners[corners[:, 0] == step, 1]
            assert ends.min() == pytest.approx(bottom, rel=1e-10)
            assert ends.max() == pytest.approx(top, rel=1e-10)


def test_every_run_is_there_and_crosses_are_where_runs_diverged() -> None:
    results = study(3, 5, diverged=LOST)
    figure = learning_curves(results, SCORE)
    rows = long(results)
    assert len(drawn(figure, "_run ")) == 15
    for run, own in rows.groupby("run"):
        [line] = drawn(figure, f"_run {run}")
        np.testing.assert_array_equal(line.get_ydata(), own["value"])
    [crosses] = drawn(figure, "_diverged")
    assert crosses.get_label() == "_diverged variant-1"
    lost = results.runs.index[results.runs["status"] == "DIVERGED"]
    last = rows[rows["run"].isin(lost)].groupby("run").last()
    assert sorted(crosses.get_xdata()) == sorted(last["step"]) == [500, 500]
    assert sorted(crosses.get_ydata()) == sorted(last["value"])
    assert "(5 runs, 2 diverged)" in words(figure)
    assert "Cross: where a run diverged" in words(figure)
    whole = learning_curves(study(3, 5), SCORE)
    assert drawn(whole, "_diverged") == []
    assert "diverged" not in words(whole).replace("did not diverge", "")


def test_no_mean_where_a_run_has_no_value() -> None:
    results = study(2, 5)
    rows = results.history
    cut = rows[~((rows["seed"] < 2) & (rows["step"] > 600) & (rows["variant"] == "variant-0"))]
    figure = learning_curves(Results("x", results.declared, results.runs, cut), SCORE)
    assert max(drawn(figure, "_mean variant-0")[0].get_xdata()) == 600
    assert max(drawn(figure, "_mean variant-1")[0].get_xdata()) == 1000
    assert "variant-0: no mean at 4 of 11 steps, where 3 of 5 runs have a value" in words(figure)
    assert "variant-1: no mean" not in words(figure)
    without = rows[~((rows["seed"] == 0) & (rows["variant"] == "variant-0"))]
    figure = learning_curves(Results("x", results.declared, results.runs, without), SCORE)
    assert max(drawn(figure, "_mean variant-0")[0].get_xdata()) == 1000
    assert "variant-0: 1 of 5 runs without a value (FINISHED)" in words(figure)


def test_one_seed_has_no_band() -> None:
    figure = learning_curves(study(2, 1), SCORE)
    assert drawn(figure, "_band") == []
    assert len(drawn(figure, "_mean")) == 2
    assert "No interval: it needs two seeds or more" in words(figure)
    assert len(drawn(learning_curves(study(2, 2), SCORE), "_band")) == 2


def test_long_lines_are_thinned_and_keep_their_spikes() -> None:
    x, y = np.arange(100_000.0), np.sin(np.arange(100_000.0))
    y[77_777], y[123] = 50, -50
    few, values = thinned(x, y)
    assert 400 < len(few) <= POINTS
    assert (few[0], few[-1]) == (0, 99_999)
    assert {77_777, 123} <= set(few)
    assert (np.diff(few) > 0).all()
    np.testing.assert_array_equal(values, y[few.astype(int)])
    same = thinned(x[:POINTS], y[:POINTS])
    np.testing.assert_array_equal(same[0], x[:POINTS])
    results = study(1, 2, points=1200, train=False)
    figure = learning_curves(results, SCORE)
    [mean] = drawn(figure, "_mean")
    expected = long(results).groupby("step")["value"].mean()
    assert len(mean.get_xdata()) == POINTS
    np.testing.assert_allclose(mean.get_ydata(), expected[mean.get_xdata()], rtol=1e-12)


def test_panels_of_long_runs_stay_small() -> None:
    assert len(render(dynamics(study(4, 5, points=1000)), "svg")) < 600_000
    assert len(render(dynamics(study(7, 5, points=1000)), "svg")) < 1_000_000


@pytest.mark.parametrize(("seeds", "pixels"), [(20, False), (21, True)])
def test_very_many_seeds_are_pixels(seeds: int, pixels: bool) -> None:
    figure = learning_curves(study(2, seeds, train=False), SCORE)
    assert {bool(line.get_rasterized()) for line in drawn(figure, "_run")} == {pixels}
    assert (b"<image" in render(figure, "svg")) == pixels
    thin = drawn(dynamics(study(2, seeds)), "_run")
    assert {bool(line.get_rasterized()) for line in thin} == {pixels or len(thin) > 100}


def test_no_ink_is_pixels() -> None:
    thin = drawn(dynamics(study(2, 21)), "_run")
    assert all(line.get_rasterized() and line.get_color() != INK for line in thin)
    assert any(line.get_color() == INK for line in drawn(dynamics(study(2, 5)), "_run"))


def test_more_than_eight_variants_get_panels_and_the_baseline_in_each() -> None:
    assert len(learning_curves(study(8, 2), SCORE).axes) == 1
    figure = learning_curves(study(9, 2), SCORE)
    panels = [axes for axes in figure.axes if axes.axison]
    assert len(panels) == 9
    for axes in panels:
        [line] = [line for line in axes.lines if line.get_label() == "_baseline"]
        np.testing.assert_array_equal(line.get_ydata(),
                                      drawn(figure, "_mean variant-0")[0].get_ydata())
    assert "the mean of variant-0, the baseline" in words(figure)


def test_a_wide_range_has_a_logarithmic_axis() -> None:
    results = study(2, 3)
    axes = learning_curves(results, SCORE).axes[0]
    assert axes.get_yscale() == "linear"
    wild = results.history.assign(value=results.history["value"] * np.where(
        results.history["variant"] == "variant-1", 1000, 1))
    figure = learning_curves(Results("x", results.declared, results.runs, wild), SCORE)
    assert figure.axes[0].get_yscale() == "log"
    assert "Logarithmic axis" in words(figure)


def test_a_huge_interval_does_not_flatten_the_runs() -> None:
    results = study(1, 2)
    apart = results.history.assign(value=results.history["seed"].astype(float))  # 0 and 1
    figure = learning_curves(Results("x", results.declared, results.runs, apart), SCORE)
    assert figure.axes[0].get_ylim() == pytest.approx((-0.55, 1.55))
    [band] = drawn(figure, "_band")  # t(.975, 1) is 12.7: from -5.9 to 6.9
    assert band.get_paths()[0].vertices[:, 1].min() == pytest.approx(0.5 - 12.7062 / 2, abs=1e-4)
    assert "meets the frame" in words(figure)
    assert "meets the frame" not in words(learning_curves(study(1, 5), SCORE))


@pytest.mark.parametrize(("score", "direction"), [
    (SCORE, "lower is better"), ("classifier_score", "higher is better"),
    ("d_accuracy", "neither direction is better")])
def test_axes_say_which_way_is_better(score: str, direction: str) -> None:
    curves = learning_curves(study(2, 3, score=score), score)
    dots = seed_dots(study(2, 3, score=score), score)
    assert curves.axes[0].get_ylabel() == f"{score} ({direction})"
    assert curves.axes[0].get_xlabel() == "training step"
    assert dots.axes[0].get_xlabel() == f"{score} ({direction})"


def test_legend_hides_no_data() -> None:
    figure = learning_curves(study([LONG, "b", "c"]), SCORE)
    render(figure, "svg")
    [legend] = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= figure.axes[0].get_window_extent().x1


# seed dots


@pytest.mark.parametrize(("score", "right"), [(SCORE, True), ("classifier_score", False)])
def test_dots_are_the_scores_and_crosses_are_at_the_worse_end(score: str, right: bool) -> None:
    results = study(3, 5, diverged={"variant-1": 2, "variant-2": 5}, score=score)
    figure = seed_dots(results, score)
    [axes] = figure.axes
    finite = results.runs[f"score.{score}"].dropna()
    for variant, own in results.runs.groupby("variant", observed=True):
        values = own[f"score.{score}"].dropna()
        [dots] = drawn(figure, f"_seeds {variant}")
        np.testing.assert_array_equal(sorted(dots.get_xdata()), sorted(values))
        crosses = drawn(figure, f"_diverged {variant}")
        lost = int((own["status"] == "DIVERGED").sum())
        assert sum(len(line.get_xdata()) for line in crosses) == lost
        for line in crosses:
            points = set(zip(line.get_xdata(), line.get_ydata(), strict=True))
            assert len(points) == lost  # none hides another
            assert (min(line.get_xdata()) > finite.max()) if right else (
                max(line.get_xdata()) < finite.min())
            assert axes.get_xlim()[0] < min(line.get_xdata())
            assert max(line.get_xdata()) < axes.get_xlim()[1]
        if lost == 5:
            assert drawn(figure, f"_mean {variant}") == []
            continue
        [mean], [interval] = (drawn(figure, f"_{part} {variant}") for part in ("mean", "interval"))
        assert mean.get_xdata()[0] == pytest.approx(values.mean(), rel=1e-11)
        expected = stats.t.interval(0.95, len(values) - 1, values.mean(), values.sem())
        assert list(interval.get_xdata()) == pytest.approx(list(expected), rel=1e-10)
    assert "(5 runs, 2 diverged)" in words(figure)
    assert "variant-2: all 5 runs diverged" in words(figure)
    strip = drawn(figure, "_diverged variant-1")[0].get_xdata()
    ticks = axes.get_xticks()
    assert len(ticks) > 1
    assert (max(ticks) < min(strip)) if right else (min(ticks) > max(strip))


def test_one_seed_has_no_interval_and_says_why() -> None:
    figure = seed_dots(study(2, 1), SCORE)
    assert drawn(figure, "_interval") == []
    assert len(drawn(figure, "_mean")) == 2
    assert "variant-0, variant-1: one seed: no interval" in words(figure)


def test_what_has_no_dots_says_why() -> None:
    for case, why in {
            "all diverged": "No run has a finite fd_classifier: 6 of 6 runs diverged",
            "no score": "No run has a finite fd_classifier: 0 of 6 runs finished with one",
            "nothing finished": "0 of 6 runs finished with one"}.items():
        assert why in words(seed_dots(CASES[case](), SCORE)), case
    assert "No run has a finite kid" in words(learning_curves(study(), "kid"))
    lost = CASES["all diverged"]()
    none = Results("x", lost.declared, lost.runs, lost.history[:0])
    assert "; 6 of 6 runs diverged" in words(learning_curves(none, SCORE))
    assert "No run has recorded losses" in words(dynamics(none))
    partly = study(2, 3)
    partly.runs.loc[partly.runs["seed"] == 0, "status"] = "FAILED"
    assert "variant-0, variant-1: 1 run without a result" in words(seed_dots(partly, SCORE))


# the heat map


def texts(figure: Figure) -> dict[str, str]:
    return {str(text.get_label())[1:]: text.get_text() for text in figure.axes[0].texts}


def test_heat_map_has_each_pair_from_both_sides() -> None:
    results = study(3, 5, diverged=LOST)
    found = compare(final_scores(results.ended(), SCORE), "lower")
    figure = heat_map(found, SCORE)
    [image] = figure.axes[0].images
    values = np.ma.filled(image.get_array(), np.nan)
    names = results.variants
    for one in found:
        i, j = names.index(one.variant), names.index(one.against)
        assert values[i, j] == pytest.approx(one.improvement.value)
        assert values[j, i] == pytest.approx(1 - one.improvement.value)
        cell, turned = texts(figure)[f"{names[i]}|{names[j]}"], texts(figure)[
            f"{names[j]}|{names[i]}"]
        assert f"{one.improvement.value:.2f}" in cell
        low, high = one.improvement.low, one.improvement.high
        assert f"[{low:.2f}, {high:.2f}]" in cell
        assert f"[{1 - high:.2f}, {1 - low:.2f}]" in turned
        marks = {"better": "▲▼", "worse": "▼▲", "inconclusive": "??"}[str(one.verdict)]
        assert cell[0] + turned[0] == marks
    assert np.isnan(np.diag(values)).all()
    assert {"▼", "▲"} <= {cell[:1] for cell in texts(figure).values()}
    only = heat_map(compare(final_scores(results.ended(), SCORE), "lower", "variant-1"))
    assert only.axes[0].images[0].get_array().shape == (2, 1)  # type: ignore[union-attr]
    equal = compare({name: {seed: 1.0 + 0.01 * (seed * step % 7) for seed in range(60)}
                     for name, step in (("a", 2), ("b", 3))}, "lower", margin=Amount(10.0))
    assert {cell[:1] for cell in texts(heat_map(equal)).values()} == {"="}


def test_numbers_can_be_read_on_their_cells() -> None:
    figure = heat_map(compare(final_scores(study(6, 5, spread=6).ended(), SCORE), "lower"))
    colours = matplotlib.colormaps["cividis"]
    seen = set()
    for text in figure.axes[0].texts:
        number = re.search(r"\d\.\d\d", text.get_text())
        if number:
            ground = lightness(colours(float(number[0])))
            seen.add(text.get_color())
            assert abs(lightness(text.get_color()) - ground) > 40
    assert seen == {"#111111", "#ffffff"}


def test_heat_map_without_pairs_or_direction_says_so() -> None:
    assert "nothing to compare it with" in words(heat_map([]))
    found = compare(final_scores(study(2, 3).ended(), SCORE), None)
    assert "no direction is better" in words(heat_map(found))


# dynamics


def test_dynamics_are_means_over_seeds() -> None:
    results = study(2, 4, diverged={"variant-1": 1})
    figure = dynamics(results)
    lost = results.runs.index[results.runs["status"] == "DIVERGED"]
    for place, variant in enumerate(results.variants):
        for panel, metrics in ((0, TRAIN[:2]), (1, TRAIN[2:])):
            axes = figure.axes[2 * place + panel]
            means = [line for line in axes.lines if str(line.get_label()).startswith("_mean")]
            for line, metric in zip(means, metrics, strict=True):
                rows = long(results, metric)
                own = rows[(rows["variant"] == variant) & ~rows["run"].isin(lost)]
                np.testing.assert_allclose(
                    line.get_ydata(), own.groupby("step")["value"].mean(), rtol=1e-12)
            assert means[0].get_linestyle() != means[1].get_linestyle()
    assert len(drawn(figure, "_diverged")) == 4
    assert {axes.get_ylim() for axes in figure.axes[1::2]} == {(-0.05, 1.05)}


def test_panels_of_a_row_are_level_whatever_their_titles() -> None:
    results = study(["short", "a_long-name_that-takes_two-lines"], 2)
    with drawn_for(Look(3.25, "serif", has_titles=False)):
        figure = dynamics(results)
    figure.draw_without_rendering()
    left, right = figure.axes[0], figure.axes[2]
    titles = [axes.get_title("left") for axes in (left, right)]
    assert titles[0].count("\n") == titles[1].count("\n") > 1
    assert titles[0].startswith("\n")
    for one, other in ((left, right), (figure.axes[1], figure.axes[3])):
        places = one.get_position(), other.get_position()
        assert places[0].y0 == pytest.approx(places[1].y0, abs=1e-3)
        assert places[0].y1 == pytest.approx(places[1].y1, abs=1e-3)


def test_a_wild_loss_does_not_flatten_the_others_and_is_told() -> None:
    results = study(1, 4, points=200)
    spike = (results.history["metric"] == "train/g_loss") & (results.history["step"] == 5000) & (
        results.history["seed"] == 2)
    wild = results.history.assign(value=results.history["value"].where(~spike, 1e6))
    figure = dynamics(Results("x", results.declared, results.runs, wild))
    assert figure.axes[0].get_ylim()[1] < 3
    assert "1 of 1,600 losses lie beyond the frame, the farthest at 1e+06" in words(figure)
    assert "beyond the frame" not in words(dynamics(results))


# profiles


def test_profiles_are_shares_of_runs() -> None:
    first, second = study(2, 2, score=SCORE, name="a"), study(2, 2, score=SCORE, name="b")
    first.runs[f"score.{SCORE}"] = [0.0, 2.0, 4.0, 1.0]  # lower is better: scaled 1, .5, 0, .75
    second.runs[f"score.{SCORE}"] = [10.0, math.nan, 30.0, 20.0]  # 1, never, 0, .5
    second.runs["status"] = ["FINISHED", "DIVERGED", "FINISHED", "FINISHED"]
    figure = profiles([first, second], SCORE)
    [one], [other] = (drawn(figure, f"_profile variant-{i}") for i in (0, 1))
    assert list(one.get_xdata()) == [0, 0.5, 1]
    assert list(one.get_ydata()) == [0.75, 0.75, 0.5]
    assert list(other.get_xdata()) == [0, 0.5, 0.75, 1]
    assert list(other.get_ydata()) == [1, 0.5, 0.25, 0]
    assert one.get_drawstyle() == "steps-pre"
    assert "a, b" in words(figure)


def test_profiles_turn_with_the_direction_and_take_negative_scores() -> None:
    results = study(2, 2, score="classifier_score")
    results.runs["score.classifier_score"] = [-3.0, -1.0, -2.0, 1.0]  # scaled 0, .5, .25, 1
    figure = profiles([results], "classifier_score")
    assert list(drawn(figure, "_profile variant-0")[0].get_ydata()) == [1, 0.5, 0]
    assert list(drawn(figure, "_profile variant-1")[0].get_ydata()) == [1, 1, 0.5]


def test_profiles_say_what_they_cannot_show() -> None:
    assert "Left out, as an experiment lacks them: variant-2" in words(
        profiles([study(2), study(3)], SCORE))
    assert "No variant has runs" in words(profiles([study(["a"]), study(["b"])], SCORE))
    assert "All runs diverged" in words(profiles([CASES["all diverged"]()], SCORE))
    assert "Neither direction" in words(
        profiles([study(2, score="d_accuracy")] * 2, "d_accuracy"))


# mosaics


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (16, 3), (28, 1), (32, 3), (64, 3),
                                                (128, 3)])
def test_tiles_are_the_samples(side: int, channels: int) -> None:
    samples = torch.randint(0, 256, (64, channels, side, side),
                            generator=torch.Generator().manual_seed(1))
    found = tiles(sample_picture(samples / 127.5 - 1 + 1e-4))
    assert len(found) == 64
    expected = samples.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy()
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_tiles_of_one_colour_are_still_tiles() -> None:
    for value in (-1.0, 0.0, 1.0):
        found = tiles(sample_picture(torch.full((64, 1, 28, 28), value)))
        assert [tile.shape for tile in found] == [(28, 28, 3)] * 64


def without_record(png: bytes) -> bytes:
    """Return a grid as older versions wrote it."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        picture.info.clear()
        picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("count", [1, 2, 9, 10, 64])
@pytest.mark.parametrize("side", [1, 7, 30])
def test_a_grid_says_where_its_samples_stand(count: int, side: int) -> None:
    """Also if all pixels are as grey as the gaps, and whatever the number of samples."""
    samples = torch.full((count, 3, side, side + 2), 128 / 127.5 - 1)
    samples[-1] = 1
    found = tiles(sample_picture(samples))
    assert [tile.shape for tile in found] == [(side, side + 2, 3)] * count
    assert [int(tile.min()) for tile in found] == [128] * (count - 1) + [255]


@pytest.mark.parametrize(("side", "channels"), [(1, 1), (2, 1), (8, 1), (28, 1), (32, 3), (49, 1),
                                                (53, 3), (64, 3), (128, 3)])
def test_a_grid_without_a_record_is_cut_like_one_with_it(side: int, channels: int) -> None:
    new = grid(1, side, channels)
    old = without_record(new)
    assert KEYWORD.encode() in new
    assert KEYWORD.encode() not in old
    found = tiles(old)
    assert len(found) == 64
    for got, wanted in zip(found, tiles(new), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_a_grid_that_another_program_has_resized_is_shown_whole() -> None:
    with Image.open(io.BytesIO(grid(0))) as picture:
        record = PngImagePlugin.PngInfo()
        record.add_text(KEYWORD, picture.info[KEYWORD])
        buffer = io.BytesIO()
        picture.resize((301, 301)).save(buffer, "PNG", pnginfo=record)
    assert [tile.shape for tile in tiles(buffer.getvalue())] == [(301, 301, 3)]


def test_a_picture_of_the_size_of_a_grid_is_not_cut_for_that() -> None:
    with Image.open(io.BytesIO(grid(0))) as picture:
        pixels = np.asarray(picture.convert("RGB")).copy()
    pixels[:2, :2] = 0
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    [whole] = tiles(buffer.getvalue())
    np.testing.assert_array_equal(whole, pixels)


def test_points_are_shown_whole() -> None:
    points = sample_picture(torch.randn(100, 2, generator=torch.Generator().manual_seed(1)))
    [whole] = tiles(points)
    assert whole.shape == (512, 512, 3)
    figure = mosaic_over_steps({0: points, 10: points})
    assert len([axes for axes in figure.axes if axes.images]) == 2


def test_mosaic_has_the_first_samples_of_each_run() -> None:
    pictures = {"a": {0: grid(0), 1: grid(1)}, "b": {1: grid(2)}, "c": {0: b"no picture"}}
    figure = mosaic(pictures)
    assert [axes.get_title() for axes in figure.axes[:3]] == ["", "seed 0", "seed 1"]
    assert [axes.texts[0].get_text() for axes in figure.axes[::3]] == ["a", "b", "c"]
    cells = [axes for i, axes in enumerate(figure.axes) if i % 3]
    shown = [bool(axes.images) for axes in cells]
    assert shown == [True, True, False, True, False, False]
    assert words(figure).count("no picture") == 3
    cell = cells[3].images[0].get_array()
    for i in range(16):
        y, x = i // 4 * 29, i % 4 * 29
        np.testing.assert_array_equal(cell[y:y + 28, x:x + 28], tiles(grid(2))[i])
    assert "no pictures" in words(mosaic({"a": {}}))


def test_mosaic_over_steps_follows_each_latent() -> None:
    pictures = {step: grid(step) for step in range(0, 300, 10)}
    figure = mosaic_over_steps(pictures, "a, seed 0", latents=3)
    titles = [axes.get_title() for axes in figure.axes[1:13]]
    assert titles[0] == "0"
    assert titles[-1] == "290"
    assert len(figure.axes) == 3 * 13
    for axes, title in zip(figure.axes[27:], titles, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), tiles(grid(int(title)))[2])
    assert "no pictures" in words(mosaic_over_steps({}))


def test_pictures_keep_their_pixels_in_an_svg() -> None:
    root = ET.fromstring(render(mosaic_over_steps({0: grid(0)}, latents=2), "svg"))
    images = list(root.iter(f"{SVG}image"))
    assert len(images) == 2
    first = images[0].get("{http://www.w3.org/1999/xlink}href") or ""
    with Image.open(io.BytesIO(base64.b64decode(first.split(",")[1]))) as picture:
        got = np.asarray(picture.convert("RGB"))
    wanted = tiles(grid(0))[0]
    assert got.shape == wanted.shape
    assert any(np.array_equal(turned, wanted) for turned in (got, got[::-1]))
    assert all("pixelated" in (image.get("style") or "") for image in images)


# for a column of a paper, and where a bad variant flattens the others

COLUMN = Look(3.25, "serif", has_titles=False)


@pytest.mark.parametrize("figure", FIGURES)
def test_figures_for_a_column_have_its_width_and_can_be_read(figure: str) -> None:
    with drawn_for(COLUMN):
        drawn_figure = FIGURES[figure](CASES["usual"]())
        pdf = render(drawn_figure, "pdf")
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", pdf)
    assert box is not None
    assert float(box[1]) == pytest.approx(3.25 * 72, abs=0.5)
    assert float(box[2]) < 9 * 72
    texts = [text for text in drawn_figure.findobj(Text) if text.get_text().strip()
             and text.get_visible()]
    assert texts
    assert min(text.get_fontsize() for text in texts) >= 6
    inside = drawn_figure.get_tightbbox()  # in inches
    assert inside.x0 >= -0.03
    assert inside.x1 <= 3.25 + 0.03
    assert drawn_figure._suptitle is None  # type: ignore[attr-defined]
    assert drawn_figure.caption  # type: ignore[attr-defined]
    assert b"STIX" in pdf


def test_the_page_keeps_its_look_beside_a_papers() -> None:
    with drawn_for(COLUMN):
        narrow = learning_curves(CASES["usual"](), SCORE)
    wide = learning_curves(CASES["usual"](), SCORE)
    assert (narrow.get_figwidth(), wide.get_figwidth()) == (3.25, 8.0)
    assert "Thick: the mean" in words(wide)
    assert "Thick: the mean" not in words(narrow)
    assert any("Thick: the mean" in line for line in narrow.caption)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["seed_dots", "learning_curves"])
def test_a_bad_variant_flattens_no_others(name: str) -> None:
    """A second panel leaves it out; three variants that differ little need none."""
    usual = study(4, 5, spread=0.3)
    runs, history = usual.runs, usual.history
    bad_runs, bad = runs["variant"] == "variant-3", history["variant"] == "variant-3"
    results = Results("example", usual.declared,
                      runs.assign(**{f"score.{SCORE}": runs[f"score.{SCORE}"] + 400 * bad_runs}),
                      history.assign(value=history["value"] + 400 * bad))
    assert len(FIGURES[name](usual).axes) == 1
    figure = FIGURES[name](results)
    assert len(figure.axes) == 2
    along = "get_xlim" if name == "seed_dots" else "get_ylim"
    whole, closer = (getattr(axes, along)() for axes in figure.axes)
    assert closer[1] < 100 < whole[1]
    assert "variant-3" in " ".join(figure.caption)  # type: ignore[attr-defined]


def test_labels_stand_in_the_figures() -> None:
    usual = study(2, 3)
    declared = usual.declared.with_changes(labels={"variant-1": "DCGAN (ours)", SCORE: "FD (mine)"})
    results = labelled(Results("example", declared, usual.runs, usual.history))
    for figure in (learning_curves(results, SCORE), seed_dots(results, SCORE), dynamics(results)):
        assert "DCGAN (ours)" in words(figure)
        assert "variant-1" not in words(figure)
    assert "FD (mine) (lower is better)" in words(seed_dots(results, SCORE))
    assert SCORE not in words(seed_dots(results, SCORE))


def test_negative_numbers_have_a_true_minus() -> None:
    usual = study(2, 5)
    values = usual.runs[f"score.{SCORE}"]
    figure = seed_dots(emptied(usual, **{f"score.{SCORE}": values - 2 * values.mean()}), SCORE)
    found = " ".join(ET.fromstring(render(figure, "svg")).itertext())
    assert re.search(r"−\d", found)
    assert not re.search(r"(?<![\w;(])-\d", found)
