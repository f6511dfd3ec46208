"""The final table on terminals of several widths: whole numbers, whole names, no lost verdict."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from gan_bench.compare.ended import RunResult
from gan_bench.compare.labels import labelled_runs
from gan_bench.compare.rows import summarise
from gan_bench.config.declared import Declared
from gan_bench.journal.schema import Status
from gan_bench.report.terminal import refused_notes, summary_table

VARIANTS = ("dcgan-saturating", "dcgan-non_saturating", "mlp-saturating", "mlp-non_saturating")
BASE = Declared(baseline="dcgan-saturating")
WIDTHS = [40, 62, 80, 100, 150]


def a_study(variants: tuple[str, ...] = VARIANTS) -> list[RunResult]:
    runs = []
    for i, variant in enumerate(variants):
        for seed in range(5):
            scores = {"fd_classifier": 41.2 + 11.3 * i + seed * 0.71,
                      "precision_classifier": 0.91 - 0.1 * i + seed * 0.004}
            protocols = {name: {"extractor": "classifier"} for name in scores}
            runs.append(RunResult(variant, seed, Status.FINISHED, scores, protocols))
    runs.append(RunResult(variants[-1], 5, Status.DIVERGED, {}))
    return runs


def printed(runs: list[RunResult], width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(summary_table(summarise(runs, BASE), BASE.baseline))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", WIDTHS)
def test_every_number_and_name_is_whole_at_every_width(width: int) -> None:
    lines = printed(a_study(), width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "…" not in text
    for variant in VARIANTS:
        assert len(re.findall(rf"(?m)(^|\s){variant}(\s|$)", text)) >= 2  # under either score
    assert text.count("worse") == 6
    means = re.findall(r"[\d.]+ \[[\d.]+, [\d.]+\]", text)
    wide = re.findall(r"[\d.]+ \[[\d.]+, [\d.]+\]", "\n".join(printed(a_study(), 400)))
    assert set(means) == set(wide)
    assert len(set(wide)) == 8


@pytest.mark.parametrize(("width", "interval", "difference", "p"), [
    (40, False, False, False), (62, False, True, True), (80, True, True, True),
    (150, True, True, True)])
def test_what_there_is_no_room_for_is_left_out_in_order(
        width: int, interval: bool, difference: bool, p: bool) -> None:
    text = "\n".join(printed(a_study(), width))
    assert bool(re.search(r"\+11\.30 \[", text)) == interval
    assert ("+11.30" in text) == difference
    assert bool(re.search(r"(?m) p$", text)) == p
    assert ("5 of 6" in text) == p


def test_numbers_have_the_digits_of_their_standard_error_and_a_true_minus() -> None:
    declared = BASE.with_changes(baseline="mlp-saturating")
    table = summary_table(summarise(a_study(), declared), declared.baseline)
    for encoding, minus in (("utf-8", "−"), ("ascii", "-")):
        out = io.TextIOWrapper(io.BytesIO(), encoding, "replace")
        Console(file=out, width=150).print(table)
        out.seek(0)
        text = out.read()
        assert "42.62 [41.23, 44.01]" in text  # the standard error is 0.50
        assert f"{minus}22.60 [{minus}24.24, {minus}20.96]" in text
        assert "0.9180 [0.9101, 0.9259]" in text  # and here 0.0028
        assert ("-22" in text, "−22" in text) == (minus == "-", minus == "−")


def test_labels_stand_in_place_of_names() -> None:
    declared = BASE.with_changes(labels={"mlp-saturating": "MLP (ours)", "fd_classifier": "FD"})
    runs, declared = labelled_runs(a_study(), declared)
    out = io.StringIO()
    Console(file=out, width=150).print(
        summary_table(summarise(runs, declared), declared.baseline, declared.labels))
    text = out.getvalue()
    assert "FD ↓" in text
    assert "precision_classifier ↑" in text
    assert text.count("MLP (ours)") >= 2
    assert "mlp-saturating" not in text


def test_long_names_stand_on_lines_of_their_own() -> None:
    names = ("dcgan-saturating", "matrix-wgan_gp2017-gradient_penalty-lr=0.0002-betas=[0.0, 0.9]")
    lines = printed(a_study(names), 80)
    assert f"  {names[1]}" in lines
    assert max(map(len, lines)) <= 80
    beside = printed(a_study(names), 200)
    assert f"  {names[1]}" not in beside
    assert any(names[1] in line and "worse" in line for line in beside)


def test_why_a_variant_is_not_compared_stands_below_the_table() -> None:
    runs = [RunResult(variant, seed, Status.FINISHED, {"fd_classifier": 1.0 + seed},
                      {"fd_classifier": {"generated": 100 if variant == "other" else 200}})
            for variant in (BASE.baseline, "other") for seed in range(3)]
    rows = summarise(runs, BASE)
    (note,) = refused_notes(rows)
    assert note.startswith("other is not compared by fd_classifier: not measured alike: generated")
    for width in (62, 150):
        text = " ".join(" ".join(printed(runs, width)).split())
        assert note in text
        assert text.count("not compared") == 2
    assert refused_notes(summarise(a_study(), BASE)) == []
