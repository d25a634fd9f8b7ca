"""The kinds of faults: what is done to a program, and what the guides promise about it."""

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
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, SIGUSR1, Signals

import numpy as np

from hpc_deepfake.train import checkpoint
from preprocessing.store import DONE, open_header

from .disk import Disk
from .jobs import Job, catches, kill_marked
from .programs import STALL_LIMIT, Place, Preprocessing, Program, Training

BEFORE = "before"  # the moment before a program is started
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


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        act: does it; None means that there was nothing to do it to.
        groups: programs that it is for.
        events: after which it may happen; empty: all of the program.
        completes: the program runs to its end, else it is started again and resumes.
        root: needs a disk that can be filled up.
        weight: how often it is drawn.
        options: more options of the program in which it happens.
        several: needs more than one rank.
    """

    name: str
    act: Callable[[Scene], Expected | None]
    groups: tuple[str, ...] = ("preprocessing", "training", "toy")
    events: tuple[str, ...] = ()
    completes: bool = False
    root: bool = False
    weight: int = 1
    options: tuple[str, ...] = ()
    several: bool = False

    def fits(self, program: Program, root: bool) -> bool:
        return (program.group in self.groups and (root or not self.root)
                and (program.ranks > 1 or not self.several))


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
    return Expected(says=rf"rank {chosen[0]} on \S+", more=STALL_LIMIT)


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
        shutil.rmtree(target, ignore_errors=True)
        away.rename(target)

    scene.mend.append(back)
    return Expected([2], r"cannot|can't|No such file", done=True, litter=True)


def take_the_input(scene: Scene) -> Expected:
    link = scene.place.pictures if scene.program.group == "preprocessing" else scene.place.data
    original = link.readlink()
    link.unlink()
    scene.mend.append(lambda: link.symlink_to(original))
    return Expected([2], r"error.*(no |reject)", done=scene.job is not None)


def damage_checkpoint(cut: bool) -> Callable[[Scene], Expected | None]:
    def act(scene: Scene) -> Expected | None:
        paths = checkpoint.found(scene.place.run / "checkpoints")
        if not paths:
            return None
        _damage(scene, paths[0], cut)
        try:
            checkpoint.load(paths[0])
        except ValueError:
            if len(paths) > 1:
                return Expected([0], paths[0].name)
            return Expected([2], "no checkpoint .* can be read", again=True)
        return Expected([0])  # a byte that means nothing

    return act


def damage_data(cut: bool) -> Callable[[Scene], Expected | None]:
    """A copy of the data file with one byte of a validation row flipped, or cut off."""
    def act(scene: Scene) -> Expected | None:
        link = scene.place.data
        original = link.readlink()
        link.unlink()
        shutil.copyfile(original, link)
        scene.mend += [link.unlink, lambda: link.symlink_to(original)]
        if cut:
            _damage(scene, link, True)
            return Expected([2], "cut off|damaged")
        header = open_header(link)
        row = scene.random.choice(np.flatnonzero(header.array("split") == 1).tolist())
        size = header.bytes_of("ela") // header.rows
        _flip(link, header.offsets["ela"] + row * size + scene.random.randrange(size))
        scene.notes.append(f"row {row}")
        return Expected([2], rf"(?s)row.*\b{row}\b")

    return act


def damage_rows(scene: Scene) -> Expected | None:
    """Flip a byte of a row that is done: of a feature, its checksum or its status."""
    out = scene.place.out
    if not out.exists():
        return None
    header = open_header(out)
    done = np.flatnonzero(header.array("status") == DONE).tolist()
    if not done:
        return None
    row, name = scene.random.choice(done), scene.random.choice(["crc32", "ela", "raw", "status"])
    size = header.bytes_of(name) // header.rows
    _flip(out, header.offsets[name] + row * size + scene.random.randrange(size))
    scene.notes.append(f"{name} of row {row}")
    return Expected([0], "" if name == "status" else r"repaired +1 ")


def damage_file(scene: Scene) -> Expected | None:
    """Cut off the data file that is being written, or flip a byte of its signature."""
    if not scene.place.out.exists():
        return None
    if scene.random.random() < 0.7:
        _damage(scene, scene.place.out, True)
    else:
        _flip(scene.place.out, scene.random.randrange(8))
    return Expected([2], "cut off|damaged|not a(n)? HDF5", again=True)


def damage_record(scene: Scene) -> Expected | None:
    names = ["run/metrics.jsonl", "run/metrics.jsonl", "run/config.json", "run/environment.json",
             "run/model.json", "run/model.keras"] if scene.program.group != "preprocessing" \
        else ["features.h5.json", "features.h5.rejects.csv"]
    paths = [path for name in names if (path := scene.place.folder / name).exists()
             and path.stat().st_size]
    if not paths:
        return None
    path = scene.random.choice(paths)
    before = path.read_bytes()
    _damage(scene, path, scene.random.random() < 0.5)
    if path.name != "metrics.jsonl" or path.read_bytes().splitlines() == before.splitlines():
        return Expected([0])
    return Expected([0], "metrics.jsonl", excused=frozenset({"counts", "metrics"}))


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
    if codes != {2}:
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


def _damage(scene: Scene, path: Path, cut: bool) -> None:
    """Cut a file off, or flip one of its bytes."""
    size = path.stat().st_size
    place = scene.random.randrange(size)
    if cut:
        os.truncate(path, place)
    else:
        _flip(path, place, 1 << scene.random.randrange(8))
    scene.notes.append(f"{path.name} {'cut' if cut else 'flipped'} at {place}")


def _flip(path: Path, place: int, bits: int = 0x41) -> None:
    with open(path, "r+b") as file:
        file.seek(place)
        value = file.read(1)[0]
        file.seek(place)
        file.write(bytes([value ^ bits]))


_DATA, _TRAIN = ("preprocessing",), ("training", "toy")
_ANY = (BEFORE, *Preprocessing.events, *Training.events)
_HELD = ("creating", "writing", "records", "epoch")

KINDS = (
    Kind("kill -9 of a rank", kill_a_rank, weight=3),
    Kind("kill -9 of the launcher", kill_the_launcher),
    Kind("kill -9 of all", kill_all),
    Kind("SIGTERM to a rank", ask_a_rank(SIGTERM)),
    Kind("SIGUSR1 to a rank", ask_a_rank(SIGUSR1)),
    Kind("SIGTERM to all ranks", ask_all(SIGTERM)),
    Kind("SIGUSR1 to the launcher", ask_the_launcher(SIGUSR1)),
    Kind("SIGTERM to the launcher", end_the_launcher, several=True),
    Kind("SIGUSR1, then SIGTERM", ask_a_rank(SIGUSR1, SIGTERM)),
    Kind("SIGTERM twice", ask_a_rank(SIGTERM, SIGTERM)),
    Kind("SIGSTOP for ever", stop_for_ever, several=True,
         options=("--stall-warning", "5", "--stall-limit", str(STALL_LIMIT))),
    Kind("disk full", fill_the_disk, events=_ANY, root=True, weight=3),
    Kind("read-only target", make_read_only, _TRAIN, _ANY, root=True),
    Kind("read-only target", make_read_only, _DATA, (BEFORE,), root=True),
    Kind("target vanished", take_the_target),
    Kind("input vanished", take_the_input, _DATA),
    Kind("input vanished", take_the_input, _TRAIN, (BEFORE,)),
    Kind("data file flipped", damage_data(cut=False), _TRAIN, (BEFORE,)),
    Kind("data file cut", damage_data(cut=True), _TRAIN, (BEFORE,)),
    Kind("data file cut", damage_file, _DATA, (BEFORE,)),
    Kind("data file flipped", damage_rows, _DATA, (BEFORE,), completes=True, weight=2),
    Kind("checkpoint flipped", damage_checkpoint(cut=False), _TRAIN, (BEFORE,), completes=True),
    Kind("checkpoint cut", damage_checkpoint(cut=True), _TRAIN, (BEFORE,), completes=True),
    Kind("record damaged", damage_record, _TRAIN, (BEFORE,), completes=True),
    Kind("record damaged", damage_record, _DATA, (BEFORE,), completes=True),
    Kind("second job", start_another, events=_HELD, completes=True, weight=2),
    Kind("SIGSTOP for a while", stop_for_a_while, completes=True),
)
