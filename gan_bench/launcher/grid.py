"""The runs of an experiment that several processes work on: which are free, claimed, or over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gan_bench.errors import DamagedError
from gan_bench.journal import reading
from gan_bench.journal.drift import since
from gan_bench.journal.layout import checkpoint_files, is_trained
from gan_bench.journal.schema import Status
from gan_bench.journal.scores.missing_scores import missing_scores
from gan_bench.journal.sharing.claims import (
    Claim,
    ClaimedError,
    ClaimState,
    Holder,
    Release,
    UnreadableClaimError,
    Watch,
    lost_attempts,
    newest_claim,
    releases_after,
    unreadable_line,
)
from gan_bench.journal.status import Progress
from gan_bench.journal.writing import claim_run

LOSSES = 3  # of a run without a checkpoint between them, for each time that it may be begun


class Grid:
    """The runs that are to be trained or measured, as far as this process knows.

    Args:
        waiting: The runs, in the order in which they are begun.
        begun: By run id, the newest claim when they were prepared; later ones are of this study.
        retries: How often a run is resumed after its process was killed, on whatever machine.
        here: What the numbers of runs depend on in this process, as `circumstances` returns it;
            None: any run fits.
        changed: Receives a run of another process that has recorded something, or ended.
        over: Receives the id of each run that has its result.

    Attributes:
        open: The runs that are neither over nor worked on by this process, by id.
        elsewhere: Who works on others of them, by id.
        unfit: For which machines others wait, by id.
        blocked: Why nobody can claim others, by id: their newest claims cannot be read.
        sweeps: How often the runs have been followed.
    """

    def __init__(self, waiting: Sequence[Progress], begun: Mapping[str, int], retries: int,
                 here: Mapping[str, Any] | None,
                 changed: Callable[[Progress], None], over: Callable[[str], object] = str) -> None:
        self.open = {run.spec.id: run for run in waiting}
        self.elsewhere: dict[str, Holder] = {}
        self.unfit: dict[str, str] = {}
        self.blocked: dict[str, str] = {}
        self._begun, self.retries, self._here, self._changed = begun, retries, here, changed
        self._watch, self._over, self.sweeps = Watch(), over, 0
        self._siblings: dict[int, list[Path]] = {}
        for run in waiting:
            self._siblings.setdefault(run.spec.seed, []).append(run.folder)
        self._kinds: dict[int, str] = {}  # of the machine that a seed's runs began on
        self._touched: set[str] = set()  # runs that another process has worked on
        self._read: set[str] = set()  # runs whose journals have been read to the end
        # What the journals say of runs that another process holds, and that count as RUNNING.
        self._recorded: dict[str, tuple[Status, str]] = {}

    def claim(self, number: int) -> list[tuple[Progress, Claim]]:
        """Claim up to so many runs.

        Raises:
            UserError: A claim cannot be written: the disk is full, for example. None is held then.
        """
        taken: list[tuple[Progress, Claim]] = []
        try:
            for run in list(self.open.values()):
                if len(taken) == number:
                    break
                if (claim := self._claim(run)) is not None:
                    taken.append((run, claim))
                    del self.open[run.spec.id]
        except BaseException:
            for run, claim in taken:
                self.give_back(run)
                claim.release()
            raise
        return taken

    def give_back(self, run: Progress) -> None:
        """Let a run be claimed again, by this process or another."""
        self.open[run.spec.id] = run

    def note_end(self, run: Progress) -> None:
        """Note a run that this process, or another one, has brought to its result."""
        if run.state.is_result and not run.unmeasured:
            self._over(run.spec.id)

    def is_exhausted(self, run: Progress) -> bool:
        """Whether the run failed, or was killed or lost too often, in this study.

        A run whose machine is lost is not to blame. One that is lost again and again before it has
        a checkpoint ends its whole worker each time: it takes all memory, for example.
        """
        if Release.FAILED in self._ends(run) or self.kills(run) > self.retries:
            return True
        files = checkpoint_files(run.folder)
        first = max(self._begun.get(run.spec.id, 0), files[0][0] if files else 0) + 1
        return lost_attempts(run.folder, first) > LOSSES * (self.retries + 1)

    def kills(self, run: Progress) -> int:
        """Return how often the process of a run was killed in this study."""
        return self._ends(run).count(Release.KILLED)

    def _ends(self, run: Progress) -> list[Release]:
        return releases_after(run.folder, self._begun.get(run.spec.id, 0))

    def follow(self) -> None:
        """Read what other processes have recorded; drop the runs that are over."""
        for run in list(self.open.values()):
            state = newest_claim(run.folder)
            self.blocked.pop(run.spec.id, None)
            if state is not None and state.unreadable:
                self._block(run, unreadable_line(run.folder, state))
            elif state is not None:
                self._look(run, state)
        self.sweeps += 1

    def _block(self, run: Progress, line: str) -> None:
        """Note a run whose newest claim cannot be read, whoever held it before."""
        self.blocked[run.spec.id] = line
        self.elsewhere.pop(run.spec.id, None)

    def _look(self, run: Progress, state: ClaimState) -> bool:
        """Follow a run that may be another process's; return whether it is free."""
        key, is_held = run.spec.id, not self._watch.is_lost(run.folder, state)
        if is_held and state.holder is not None:
            self.elsewhere[key] = state.holder
            self._touched.add(key)
        else:
            self.elsewhere.pop(key, None)
        is_untouched = key not in self._touched and state.attempt <= self._begun.get(key, 0)
        if is_untouched and key in self._read:
            return True
        self._read.add(key)  # once in any case: it may have ended since it was found unfinished
        if not is_untouched:
            self._touched.add(key)
        try:
            run.state, run.why = self._recorded.pop(key, (run.state, run.why))
            is_new = run.follow()
        except DamagedError as error:
            run.state, run.why = Status.FAILED, str(error)
            self._drop(run)
            return False
        if not is_held and (self._has_result(run) or self.is_exhausted(run)):
            self._drop(run)
            return False
        if is_held:  # its end may be recorded before its claim is released
            self._recorded[key] = run.state, run.why
            run.state, run.why = Status.RUNNING, ""
        elif not run.state.is_result:  # its process is dead, or it failed before: it goes on
            run.state, run.why = Status.WAITING, ""
        if is_new:
            self._changed(run)
        return not is_held

    def _drop(self, run: Progress) -> None:
        if run.is_measuring and run.state == Status.FINISHED and missing_scores(run):
            run.unmeasured = "another process could not measure it; see its log.txt"
        if run.state in (Status.RUNNING, Status.WAITING):  # it was lost too often
            run.state, run.why = Status.KILLED, "its process was lost too often, with its worker"
        self.note_end(run)
        self.open.pop(run.spec.id, None)
        self.elsewhere.pop(run.spec.id, None)
        self.unfit.pop(run.spec.id, None)
        self.blocked.pop(run.spec.id, None)
        self._changed(run)

    def _has_result(self, run: Progress) -> bool:
        if not is_trained(run.folder):
            return False
        return not (run.is_measuring and missing_scores(run))

    def _claim(self, run: Progress) -> Claim | None:
        """Claim a run; None if it is over, or another process's, or of another kind of machine."""
        state = newest_claim(run.folder)
        self.unfit.pop(run.spec.id, None)
        self.blocked.pop(run.spec.id, None)
        if state is not None and state.unreadable:
            self._block(run, unreadable_line(run.folder, state))
            return None
        if state is not None and not self._look(run, state):
            return None
        if kind := self._other_kind(run):
            self.unfit[run.spec.id] = kind
            return None
        try:
            claim = claim_run(run.folder, self._watch, kind_of(self._here))
        except UnreadableClaimError as error:
            self._block(run, str(error))
            return None
        except ClaimedError as error:
            self.elsewhere[run.spec.id] = error.holder
            self._touched.add(run.spec.id)
            return None
        try:
            is_free = self._is_still_free(run, claim, state.attempt if state else 0)
        except BaseException:
            claim.release()
            raise
        if is_free:
            return claim
        claim.release()
        return None

    def _is_still_free(self, run: Progress, claim: Claim, before: int) -> bool:
        """Whether a run that is claimed now is still to be trained here.

        Args:
            before: The attempt that was the newest one before.
        """
        is_next = claim.attempt == before + 1 or not before
        if not is_next or is_trained(run.folder):  # another process was faster, and has finished
            run.follow()
            if self._has_result(run) or self.is_exhausted(run):
                self._drop(run)
                return False
        if kind := self._other_kind(run):  # a sibling was claimed elsewhere at the same moment
            self.unfit[run.spec.id] = kind
            return False
        return True

    def _other_kind(self, run: Progress) -> str:
        """Return on which other kind of machine a run belongs; empty if it fits here."""
        if self._here is None:
            return ""
        began = _facts(run.folder)
        if began is not None and checkpoint_files(run.folder):
            return kind_of(began) if since(began, self._here) else ""
        kind = self._kinds.get(run.spec.seed) or self._kind_of_seed(run)
        return kind if kind != kind_of(self._here) else ""

    def _kind_of_seed(self, run: Progress) -> str:
        """Return the kind of machine that the seed's other runs are on.

        Pairs of one seed are compared: a difference of machines would count as one of variants.
        What has been trained decides, in this study or up to a checkpoint from which it goes on;
        else who is about to train.
        """
        claimed = ""
        for folder in self._siblings[run.spec.seed]:
            state = newest_claim(folder) if folder != run.folder else None
            if state is None:
                continue
            is_of_now = state.attempt > self._begun.get(folder.name, 0)
            has_steps = is_of_now or checkpoint_files(folder)
            if has_steps and (kind := kind_of(_facts(folder))):
                self._kinds[run.spec.seed] = kind
                return kind
            if is_of_now and not state.is_gone and state.holder is not None:
                claimed = claimed or state.holder.hardware
        return claimed or kind_of(self._here)


def _facts(folder: Path) -> Mapping[str, Any] | None:
    """Return the circumstances under which a run began; None if it has not."""
    try:
        start = reading.first(folder)
    except DamagedError:
        return None
    return None if start is None else start.get("facts")


def kind_of(facts: Mapping[str, Any] | None) -> str:
    """Return the kind of machine: device, precision and threads; empty if that is unknown."""
    if not facts or not facts.get("device_name"):
        return ""
    return f"{facts['device_name']} ({facts.get('precision')}, {facts.get('threads')} threads)"
