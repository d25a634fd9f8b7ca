"""What is done to a program, each with what the guides promise about it."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from signal import SIGALRM, SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals

from .disk import Disk
from .jobs import Job, catches, kill_marked
from .programs import STALL_LIMIT, Place, Program

STOPPED = 75


@dataclass(frozen=True)
class Expected:
    """What a program must do after a fault.

    Attributes:
        codes: allowed exit codes; empty: any that means a fault, so not 0, 2, 3 and 75.
        says: pattern of a message that must be there.
        done: it may also have been finished already: exit code 0, and everything is there.
        more: seconds that it is given beyond the usual.
        litter: it could not clean up.
        excused: parts of the result that were lost by what was done, as the message says.
        again: what was damaged can't be repaired, and the message says so: start from nothing.
    """

    codes: Collection[int] = ()
    says: str = ""
    done: bool = False
    more: float = 0
    litter: bool = False
    excused: frozenset[str] = frozenset()
    again: bool = False

    def allows(self, code: int) -> bool:
        return code in self.codes if self.codes else code not in (0, 2, 3, STOPPED)


@dataclass
class Scene:
    """One fault while it happens.

    Attributes:
        random: decides everything left to chance.
        job: the program; None before its start.
        start: starts another one with the same command line.
        mend: called when the program has ended.
        problems: category and text of what went wrong besides the program's end.
        notes: what exactly was done.
        stopped: process that was stopped for ever.
    """

    program: Program
    place: Place
    disk: Disk
    random: random.Random
    start: Callable[[], Job]
    job: Job | None = None
    mend: list[Callable[[], object]] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stopped: int | None = None

    def ranks(self) -> list[int]:
        """Processes of all ranks that are there."""
        assert self.job is not None
        pids = map(self.job.rank, range(self.program.ranks))
        return [pid for pid in pids if pid is not None]

    def one_rank(self) -> tuple[int, int] | None:
        """A rank and its process; None if it has ended."""
        assert self.job is not None
        rank = self.random.randrange(self.program.ranks)
        pid = self.job.rank(rank)
        self.notes.append(f"rank {rank}")
        return None if pid is None else (rank, pid)


def kill_a_rank(scene: Scene) -> Expected | None:
    if (chosen := scene.one_rank()) is None or not _send(chosen[1], SIGKILL):
        return None
    return Expected(says=rf"rank {chosen[0]} .*signal 9" if scene.program.ranks > 1 else "")


def kill_the_launcher(scene: Scene) -> Expected | None:
    assert scene.job is not None
    return Expected() if _send(scene.job.process.pid, SIGKILL) else None


def kill_all(scene: Scene) -> Expected | None:
    assert scene.job is not None
    if scene.job.code is not None:
        return None
    kill_marked(scene.job.mark)
    return Expected()


def ask_a_rank(*numbers: Signals, gap: float = 0.1) -> Callable[[Scene], Expected | None]:
    """These signals to one rank, one after another."""
    def act(scene: Scene) -> Expected | None:
        chosen = scene.one_rank()
        return None if chosen is None else _ask(scene, [chosen[1]], [chosen[1]], numbers, gap)

    return act


def ask_all(*numbers: Signals) -> Callable[[Scene], Expected | None]:
    """These signals to all ranks, as srun sends them."""
    def act(scene: Scene) -> Expected | None:
        return _ask(scene, scene.ranks(), scene.ranks(), numbers, 0.1)

    return act


def ask_the_launcher(*numbers: Signals) -> Callable[[Scene], Expected | None]:
    """These signals to mpirun, which forwards them."""
    def act(scene: Scene) -> Expected | None:
        assert scene.job is not None
        return _ask(scene, [scene.job.process.pid], scene.ranks(), numbers, 0.1)

    return act


def end_the_launcher(scene: Scene) -> Expected | None:
    """Open MPI's mpirun kills the ranks soon after it has forwarded SIGTERM."""
    assert scene.job is not None
    if not _send(scene.job.process.pid, SIGTERM):
        return None
    return Expected((1, STOPPED, 128 + SIGTERM, -SIGTERM), done=True)


def _ask(scene: Scene, targets: list[int], ranks: list[int], numbers: tuple[Signals, ...],
         gap: float) -> Expected | None:
    handled = bool(ranks) and all(catches(pid, number) for pid in ranks for number in numbers)
    if not handled:
        scene.notes.append("before its handler")
    for place, number in enumerate(numbers):
        time.sleep(gap if place else 0)
        if not all([_send(pid, number) for pid in targets]) and not place:
            return None
    if handled:
        return Expected([STOPPED], "stopped by", done=True)
    says = r"signal (10|15)|stopped by" if scene.program.ranks > 1 else ""
    deaths = {STOPPED, *(128 + number for number in numbers), *(-number for number in numbers), 1}
    return Expected(deaths, says, done=True)


def stop_for_a_while(scene: Scene) -> Expected | None:
    if (chosen := scene.one_rank()) is None or not _send(chosen[1], SIGSTOP):
        return None
    time.sleep(scene.random.uniform(1, 3))
    _send(chosen[1], SIGCONT)
    return Expected([0], done=True)


def stop_for_ever(scene: Scene) -> Expected | None:
    if (chosen := scene.one_rank()) is None or not _send(chosen[1], SIGSTOP):
        return None
    scene.stopped = chosen[1]
    return Expected(says=rf"rank {chosen[0]} on \S+|another rank", more=STALL_LIMIT,
                    done=True)


def was_after_the_end(scene: Scene) -> Expected | None:
    """Let a rank continue that was stopped while or after all ended MPI: only the launcher waits
    for it, and nothing is left to do. None if others wait, too. (SIGALRM: the limit of MPI's end.)
    """
    if scene.stopped is None or scene.ranks() != [scene.stopped]:
        return None
    assert scene.job is not None
    scene.notes.append("after the end of MPI")
    _send(scene.stopped, SIGCONT)
    scene.job.wait(10)
    return Expected([0, 128 + SIGALRM], done=True)


def fill_the_disk(scene: Scene) -> Expected:
    scene.disk.fill()
    return Expected([2], "[Nn]o space left|not enough (room|space)", done=True)


def make_read_only(scene: Scene) -> Expected | None:
    until = time.monotonic() + 2
    while not scene.disk.lock():
        if time.monotonic() > until:
            return None
        time.sleep(0.01)
    return Expected([2], "[Rr]ead-only|cannot|can't", done=True, litter=True)


def take_the_target(scene: Scene) -> Expected | None:
    """Move away what it writes to, and back again when it has ended."""
    target = scene.place.run if scene.program.group != "preprocessing" else scene.place.folder
    away = scene.place.folder.with_name("away")
    try:
        target.rename(away)
    except OSError:
        return None

    def back() -> None:
        if target.exists() and scene.job is not None and scene.job.code == 0:
            shutil.rmtree(away)  # it made its folder anew, after the move, and did everything there
        else:
            shutil.rmtree(target, ignore_errors=True)
            away.rename(target)

    scene.mend.append(back)
    return Expected([2], r"cannot|can't|No such file|no longer holds", done=True, litter=True)


def take_the_input(scene: Scene) -> Expected:
    link = scene.place.pictures if scene.program.group == "preprocessing" else scene.place.data
    original = link.readlink()
    link.unlink()
    scene.mend.append(lambda: link.symlink_to(original))
    return Expected([2], r"error.*(no |reject)", done=scene.job is not None)


def start_another(scene: Scene) -> Expected | None:
    """The same command once more, while a rank of the first job is stopped."""
    first = scene.job
    assert first is not None
    held = first.rank(scene.program.ranks - 1)
    if held is None or not _send(held, SIGSTOP):
        return None
    second = scene.start()
    second.wait(60)
    codes, said = {second.code}, second.output()
    second.kill()
    _send(held, SIGCONT)
    if codes == {0} and "nothing left to do" in said:
        scene.notes.append("the first had done everything")
    elif codes != {2}:
        kind = "hung" if codes == {None} else "wrong"
        scene.problems.append((kind, f"exit code {codes} of the second job: {said[-1500:]}"))
    elif not re.search(r"process \d+|pid \d+", said):
        scene.problems.append(("silent", f"the second job does not name the first: {said[-1500:]}"))
    return Expected([0], done=True)


def _send(pid: int, number: signal.Signals) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False
