"""Files of statistics: which layouts are read, and what is refused in one line."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.runs import DIGITS, write_experiment

from gan_bench.config import shipped
from gan_bench.config.experiment import load_experiment
from gan_bench.config.statistics_file import read_statistics
from gan_bench.errors import SpecError, UserError

MU, SIGMA = np.arange(3.0), np.diag([1.0, 2.0, 0.0]) + 0.25
FRECHET = DIGITS.replace("metrics: [d_accuracy", "reference: {statistics: 'stats/real.npz'}, "
                         "metrics: [fd_random, d_accuracy")


@pytest.mark.parametrize("more", [{}, {"feats": np.zeros((5, 3))}])
@pytest.mark.parametrize("kind", [np.float64, np.float32])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_layouts(tmp_path: Path, save: Any, kind: Any, more: dict[str, Any]) -> None:
    file = tmp_path / "stats.npz"
    save(file, mu=MU.astype(kind), sigma=SIGMA.astype(kind), **more)
    read = read_statistics(file)
    assert (read.mean.dtype, read.spread.dtype) == (np.float64, np.float64)
    assert np.array_equal(read.mean, MU)
    assert np.array_equal(read.spread, SIGMA)
    assert read.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert read.name == f"statistics {read.sha256[:12]}"


def written(file: Path, **arrays: Any) -> None:
    np.savez(file, **{"mu": MU, "sigma": SIGMA, **arrays})


CASES: list[tuple[Any, str]] = [
    (lambda file: None, "cannot be read: No such file or directory; give a file of statistics"),
    (lambda file: file.mkdir(), "cannot be read: Is a directory"),
    (lambda file: file.write_bytes(pickle.dumps({"mu": MU, "sigma": SIGMA})),
     r"is not a file of statistics: it is no \.npz; expected .* of a pickle that you trust, save"),
    (lambda file: file.write_text("mu: 3"), r"is not a file of statistics: it is no \.npz"),
    (lambda file: file.open("wb").write(b"PK\x03\x04 torn"), "is not a file of statistics: "),
    (lambda file: np.save(file.open("wb"), SIGMA), "it is a single array; expected a .npz"),
    (lambda file: np.savez(file, mean=MU, sigma=SIGMA), "it has no mu, but mean, sigma; expected"),
    (lambda file: np.savez(file, a=MU), "it has no mu and no sigma, but a"),
    (lambda file: written(file, mu=np.array([{}], object)), "is not a file of statistics: "),
    (lambda file: written(file, mu=MU[:2]), r"mu has the shape \(2,\) and sigma \(3, 3\); exp"),
    (lambda file: written(file, sigma=SIGMA[0]), r"and sigma \(3,\); expected"),
    (lambda file: written(file, mu=np.float64(3)), r"mu has the shape \(\)"),
    (lambda file: written(file, mu=np.arange(3)), "mu holds int64, not floats"),
    (lambda file: written(file, mu=MU / 0.0), "mu is not finite"),
    (lambda file: written(file, sigma=SIGMA * np.nan), "sigma is not finite"),
    (lambda file: written(file, sigma=np.tril(SIGMA)), "sigma is not symmetric"),
    (lambda file: written(file, sigma=-SIGMA), "sigma has no positive variances"),
    (lambda file: written(file, sigma=0 * SIGMA), "sigma has no positive variances"),
]


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
@pytest.mark.parametrize(("write", "words"), CASES)
def test_other_files_are_refused_in_a_line_of_their_place(tmp_path: Path, write: Any, words: str,
                                                          ) -> None:
    (tmp_path / "stats").mkdir()
    file = tmp_path / "stats" / "real.npz"
    write(file)
    with pytest.raises(UserError, match=words) as alone:
        read_statistics(file)
    assert str(alone.value).startswith(f"{file}: ")
    assert "\n" not in str(alone.value)
    with pytest.raises(SpecError, match=words) as why:
        load_experiment(write_experiment(tmp_path, FRECHET), tmp_path)
    (line,) = why.value.lines
    assert line.startswith(f"{tmp_path / 'tiny.yaml'}:13:")
    assert f": evaluate.reference.statistics: {file}: " in line


def test_its_path_is_relative_to_the_file_of_an_experiment_that_is_run_by_name(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(shipped, "HOME", tmp_path / "home")
    for folder in ("here", "home"):
        (tmp_path / folder / "stats").mkdir(parents=True)
        written(tmp_path / folder / "stats" / "real.npz")
    write_experiment(tmp_path / "home", FRECHET)
    reference = load_experiment("tiny", tmp_path).runs[0].evaluate.reference
    assert reference is not None
    assert reference.statistics == str(tmp_path / "home" / "stats" / "real.npz")


def test_what_a_specification_says_of_its_statistics(tmp_path: Path) -> None:
    (tmp_path / "stats").mkdir()
    file = tmp_path / "stats" / "real.npz"
    written(file)
    yaml = write_experiment(tmp_path, FRECHET)
    plain = load_experiment(yaml, tmp_path, ["evaluate.reference=null"])
    spec = load_experiment(yaml, tmp_path)
    reference = spec.runs[0].evaluate.reference
    assert reference is not None
    assert reference.statistics == str(file)
    assert reference.sha256 == read_statistics(file).sha256
    assert plain.runs[0].evaluate.reference is None
    same = load_experiment(yaml, tmp_path, [f"evaluate.reference.sha256={reference.sha256}"])
    assert same.runs == spec.runs
    for settings, words in (
            (["evaluate.metrics=[d_accuracy]"], "only Fréchet distances .* evaluate.metrics names"),
            (["evaluate.reference.sha256=" + "f" * 64], f"that of .* is {reference.sha256}"),
            (["evaluate.reference.sha256=abc"], "evaluate.reference.sha256: "),
            (["evaluate.reference.mean=3"], "evaluate.reference.mean: ")):
        with pytest.raises(SpecError, match=words) as why:
            load_experiment(yaml, tmp_path, settings)
        assert len(why.value.lines) == 1
