"""The kinds of faults: what is done, to which programs, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from signal import SIGTERM, SIGUSR1

from . import acts, damage
from .acts import Expected, Scene
from .programs import STALL_LIMIT, Preprocessing, Program, Training

BEFORE = "before"  # the moment before a program is started


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


_DATA, _TRAIN = ("preprocessing",), ("training", "toy")
_ANY = (BEFORE, *Preprocessing.events, *Training.events)
_HELD = ("creating", "writing", "records", "epoch")

KINDS = (
    Kind("kill -9 of a rank", acts.kill_a_rank, weight=3),
    Kind("kill -9 of the launcher", acts.kill_the_launcher),
    Kind("kill -9 of all", acts.kill_all),
    Kind("SIGTERM to a rank", acts.ask_a_rank(SIGTERM)),
    Kind("SIGUSR1 to a rank", acts.ask_a_rank(SIGUSR1)),
    Kind("SIGTERM to all ranks", acts.ask_all(SIGTERM)),
    Kind("SIGUSR1 to the launcher", acts.ask_the_launcher(SIGUSR1)),
    Kind("SIGTERM to the launcher", acts.end_the_launcher, several=True),
    Kind("SIGUSR1, then SIGTERM", acts.ask_a_rank(SIGUSR1, SIGTERM)),
    Kind("SIGTERM twice", acts.ask_a_rank(SIGTERM, SIGTERM)),
    # while training starts, and before the options are read, another limit holds, of minutes
    Kind("SIGSTOP for ever", acts.stop_for_ever, events=(
        "writing", "ending", "epoch", "model", "saving", "epoch 2"), several=True,
         options=("--stall-warning", "5", "--stall-limit", str(STALL_LIMIT))),
    Kind("disk full", acts.fill_the_disk, events=_ANY, root=True, weight=3),
    Kind("read-only target", acts.make_read_only, _TRAIN, _ANY, root=True),
    Kind("read-only target", acts.make_read_only, _DATA, (BEFORE,), root=True),
    Kind("target vanished", acts.take_the_target),
    Kind("input vanished", acts.take_the_input, _DATA),
    Kind("input vanished", acts.take_the_input, _TRAIN, (BEFORE,)),
    Kind("data file flipped", damage.data_file(cut=False), _TRAIN, (BEFORE,)),
    Kind("data file cut", damage.data_file(cut=True), _TRAIN, (BEFORE,)),
    Kind("data file cut", damage.unfinished_file, _DATA, (BEFORE,)),
    Kind("data file flipped", damage.finished_rows, _DATA, (BEFORE,), completes=True, weight=2),
    Kind("checkpoint flipped", damage.newest_checkpoint(cut=False), _TRAIN, (BEFORE,),
         completes=True),
    Kind("checkpoint cut", damage.newest_checkpoint(cut=True), _TRAIN, (BEFORE,),
         completes=True),
    Kind("record damaged", damage.record, _TRAIN, (BEFORE,), completes=True),
    Kind("record damaged", damage.record, _DATA, (BEFORE,), completes=True),
    Kind("second job", acts.start_another, events=_HELD, completes=True, weight=2),
    Kind("SIGSTOP for a while", acts.stop_for_a_while, completes=True),
)
