"""What `gan-bench run` prints when the runs have ended."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
from helpers.studies import copy_of, here


def counts(printed: str, variant: str) -> set[str]:
    """Return what the table says of the number of runs of a variant: `3`, or `2 of 3`."""
    row = re.compile(rf"\b{variant} .*?\][*†]*\s+(\d+( of \d+)?)\b")
    return {found[1] for line in printed.splitlines() if (found := row.search(line))}


def test_a_dropped_seed_counts_in_the_table_as_in_the_report(studies: Path, tmp_path: Path) -> None:
    root, file = copy_of(studies, tmp_path / "root"), studies.parent / "losses.yaml"
    whole = here("run", file, "--root", root)
    fewer = here("run", file, "--root", root, "--set", "seeds=[2, 0]")
    assert (whole.returncode, fewer.returncode) == (0, 0), fewer.stderr
    done = here("report", "losses", "--root", root, "--format", "csv", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    reported = pd.read_csv(tmp_path / "summary.csv")
    assert set(reported["n"]) == {3}
    for variant in "plain", "sat":
        assert counts(whole.stdout, variant) == counts(fewer.stdout, variant) == {"3"}
    assert "4 of 4 runs are done" in fewer.stdout
    said = "results of seeds that the file does not list (1) are counted, here and in the report"
    assert said in fewer.stdout
    assert "counted" not in whole.stdout


def test_a_renamed_variant_keeps_its_runs(studies: Path, tmp_path: Path) -> None:
    root, file = copy_of(studies, tmp_path / "root"), tmp_path / "losses.yaml"
    text = (studies.parent / "losses.yaml").read_text()
    file.write_text(text.replace("{plain: {}, sat:", "{usual: {}, other:"))
    assert file.read_text() != text
    ran = here("run", file, "--root", root)
    assert "6 of 6 runs are done" in ran.stdout, ran.stderr
    for named in "losses", file:
        done = here("report", named, "--root", root, "--format", "csv", "--out", tmp_path)
        assert done.returncode == 0, done.stderr
        assert "3 runs of plain count as usual, the present name of their settings" in done.stdout
        reported = pd.read_csv(tmp_path / "summary.csv")
        assert set(reported["variant"]) == {"usual", "other"}
        assert set(reported["baseline"]) == {"usual"}
        assert set(reported["n"]) == {3}
