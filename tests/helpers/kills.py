"""Kill commands other than `run` at random moments, repeat them, compare with undisturbed ones.

    PYTHONPATH=tests python -m helpers.kills --kills 200    what `make faults` runs beside the rest

Real commands in processes of their own, real SIGKILL. A third of the kills waits until the command
begins to write.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.warm import OUTPUT, Job, Warm, kill, kill_started

SOON = 0.05  # seconds after the command begins to write: half of them at once


@dataclass(frozen=True)
class Part:
    """A command, and how to see what it leaves.

    Attributes:
        name: Of the part.
        fill: Fills a new folder with what the command finds.
        job: The command in such a folder.
        left: What the command leaves there that must be equal.
        sign: What appears below the folder when the command begins to write; a pattern.
        starts: Whether the command starts processes, which are killed with it or alone.
    """

    name: str
    fill: Callable[[Path], None]
    job: Callable[[Path], Job]
    left: Callable[[Path], dict[str, Any]]
    sign: str
    starts: bool = False


@dataclass
class Figures:
    """What the kills of a part did.

    Attributes:
        kills: How often a command was killed.
        writing: How many of these after it had begun to write.
        early: How often a command ended before it could be killed.
        differences: In what the repeated commands differ from the undisturbed one.
    """

    kills: int = 0
    writing: int = 0
    early: int = 0
    differences: list[str] = field(default_factory=list)


def storm(part: Part, kills: int, draws: random.Random, warm: Warm, folder: Path) -> Figures:
    """Kill the command so many times, each time in a new folder, and repeat it there.

    The moments are spread over the duration of the undisturbed command.
    """
    figures = Figures()
    place = _filled(part, folder / f"{part.name}-undisturbed")
    begin = time.monotonic()
    trouble = _run(part, place, warm)
    duration = time.monotonic() - begin
    assert not trouble, trouble
    expected = part.left(place)
    shares = [(number + draws.random()) / kills for number in range(kills)]
    draws.shuffle(shares)
    while shares:
        place = _filled(part, folder / f"{part.name}-{figures.kills}-{figures.early}")
        aimed = len(shares) % 3 == 0
        delay = max(0, draws.uniform(-SOON, SOON)) if aimed else shares[-1] * duration
        if not _kill(part, place, warm, delay, aimed, draws):
            figures.early += 1
            assert figures.early < 10 + 2 * kills, f"{part.name} is never killed"
            duration *= 0.9  # the machine is less busy than it was
            shutil.rmtree(place)
            continue
        shares.pop()
        figures.kills += 1
        figures.writing += any(place.glob(part.sign))
        found = [trouble] if (trouble := _run(part, place, warm)) else []
        found += differences(expected, part.left(place))
        figures.differences += [f"{place.name}: {line}" for line in found]
        if not found:
            shutil.rmtree(place)
    return figures


def differences(expected: dict[str, Any], left: dict[str, Any], where: str = "") -> list[str]:
    """Return in what two commands' leavings differ, a line each."""
    lines = []
    for key in sorted(expected.keys() | left.keys()):
        before, after = expected.get(key), left.get(key)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            lines += differences(before, after, f"{where}{key}: ")
        elif isinstance(before, list) and isinstance(after, list):
            lines += [f"{where}{key}: lacks {item!r:.300}" for item in before if item not in after]
            lines += [f"{where}{key}: adds {item!r:.300}" for item in after if item not in before]
            if len(before) != len(after) or not lines:
                lines.append(f"{where}{key}: {len(after)} items, and {len(before)} undisturbed")
        else:
            lines.append(f"{where}{key}: {after!r:.300}, and {before!r:.300} undisturbed")
    return lines


def _filled(part: Part, place: Path) -> Path:
    place.mkdir()
    part.fill(place)
    return place


def _run(part: Part, place: Path, warm: Warm) -> str:
    """Run the command to its end; return what is wrong with that."""
    status = warm.wait(warm.start(part.job(place)))
    text = (place / OUTPUT).read_text()
    return f"status {status}: {text}" if status or "Traceback" in text else ""


def _kill(part: Part, place: Path, warm: Warm, delay: float, aimed: bool, draws: random.Random,
          ) -> bool:
    """Start the command and kill it; return whether it, or what it had started, still ran."""
    if aimed:
        present = set(place.glob(part.sign))
    pid = warm.start(part.job(place))
    begin = time.monotonic()
    while aimed and time.monotonic() - begin < 60 and set(place.glob(part.sign)) <= present:
        if warm.has_ended(pid):
            break
        time.sleep(0.001)
    time.sleep(delay)
    alone = part.starts and draws.random() < 0.3 and kill_started(place)
    if not alone:
        kill(pid, place)
    return warm.wait(pid) != 0 or alone


def main() -> None:
    """Run the kills of every part, and print what they did; status 1 if anything differs."""
    from helpers.kill_parts import all_parts

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="in all; an equal share of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", default="", help="names, separated by commas; all by default")
    parser.add_argument("--folder", type=Path, help="an empty folder to work in, which is kept")
    options = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        with closing(Warm()) as warm, all_parts(folder) as parts:
            asked = [part for part in parts
                     if not options.parts or part.name in options.parts.split(",")]
            for part in asked:
                begin = time.monotonic()
                figures = storm(part, max(1, options.kills // len(asked)),
                                random.Random(options.seed), warm, folder)
                print(f"{part.name}: {figures.kills} kills ({figures.writing} after it began to "
                      f"write), {figures.early} that came too late, {len(figures.differences)} "
                      f"differences, {time.monotonic() - begin:.0f} s", flush=True)
                for difference in figures.differences:
                    print(f"  {difference}", flush=True)
                bad += len(figures.differences)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
