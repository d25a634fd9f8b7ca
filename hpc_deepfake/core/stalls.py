"""Which ranks hold up the others, concluded from what each of them says that it is doing.

All ranks pass the same sequence of phases (opening the data, each step, evaluating, …), so a rank
in an earlier phase than another one is behind. Progress within a phase, which may differ between
ranks, only shows that a rank is alive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

WORKS, WAITS, EITHER = range(3)
_NAMED = 4  # ranks in one message


class State(NamedTuple):
    """What a rank says of itself.

    Attributes:
        phase: number of the phase that it is in.
        progress: increases with each piece of work within the phase.
        kind: what its main thread does: ``WORKS``, ``WAITS`` for other ranks, or ``EITHER``: it is
            inside a library that computes and communicates.
        host: name of its node.
        what: the phase in words that follow "has been".
        where: line of the program; may be empty.
    """

    phase: int = -1
    progress: int = 0
    kind: int = WORKS
    host: str = "an unknown node"
    what: str = "starting"
    where: str = ""

    @property
    def place(self) -> str:
        return f" (in {self.where})" if self.where else ""


class Stall(NamedTuple):
    """Ranks that hold up the job, and what to say about them."""

    ranks: tuple[int, ...]
    text: str


class Ranks:
    """The latest state of each rank, and since when it is unchanged.

    Attributes:
        states: of each rank.
        moved: when the phase or progress of each last changed.
        heard: when each last sent its state.
        silence: seconds without a message after which a rank doesn't live; infinite where ranks
            don't send their state all the time.
    """

    def __init__(self, size: int, now: float, silence: float = float("inf")) -> None:
        """
        Args:
            size: number of ranks.
            now: present time in seconds.
            silence: see above.
        """
        self.silence = silence
        self.states = [State()] * size
        self.moved, self.heard = [now] * size, [now] * size
        self._within = [float("-inf")] * size  # last progress within a phase
        self._behind: dict[int, float] = {}  # since when a rank's phase is lower than another's

    def hear(self, rank: int, state: State, now: float) -> None:
        """Take note of a rank's state."""
        old, self.states[rank], self.heard[rank] = self.states[rank], state, now
        if (state.phase, state.progress) != (old.phase, old.progress):
            self.moved[rank] = now
            if state.phase == old.phase:
                self._within[rank] = now
        top = max(state.phase for state in self.states)
        self._behind = {rank: self._behind.get(rank, now)
                        for rank, state in enumerate(self.states) if state.phase < top}

    def skip(self, seconds: float) -> None:
        """Don't count a time during which this process itself was stopped."""
        for times in (self.moved, self.heard, self._within):
            times[:] = [time + seconds for time in times]
        self._behind = {rank: since + seconds for rank, since in self._behind.items()}

    def stall(self, now: float, seconds: float) -> Stall | None:
        """The ranks for which the job has waited for at least ``seconds``."""
        every = range(len(self.states))
        silent = [rank for rank in every if self._is_silent(rank, now, seconds)]
        if silent:
            return self._tell(silent, lambda rank: self._silent(rank, now))
        stuck = [rank for rank in every if now - self.moved[rank] >= seconds]
        late = {rank for rank in stuck if now - self._behind.get(rank, now) >= seconds}
        kinds = {kind: [rank for rank in stuck if self.states[rank].kind == kind]
                 for kind in (WORKS, WAITS, EITHER)}
        waiting = kinds[WAITS] or kinds[EITHER]
        blamed = [rank for rank in kinds[WORKS] if rank in late] or (
            kinds[WORKS] if waiting else [])
        if not blamed and not kinds[WORKS]:
            blamed = [rank for rank in kinds[EITHER] if rank in late]
        if blamed:
            return self._tell(blamed, lambda rank: self._doing(rank, now, "while others wait"))
        overtaken = [rank for rank in kinds[WORKS] if self._overtaken(rank, now, seconds)]
        if overtaken:
            return self._tell(overtaken, lambda rank: self._doing(rank, now, "without progress"))
        if len(stuck) == len(self.states) and not kinds[WORKS]:
            return Stall(tuple(every), self._list(now))
        return None

    def stall_of_root(self, now: float, seconds: float) -> Stall | None:
        """``stall`` for the last rank, which knows of rank 0 and itself only."""
        last = len(self.states) - 1
        if self.silence < float("inf"):
            held_up = self._is_silent(0, now, seconds)
        else:  # rank 0 reads no messages now, and can't judge itself
            held_up = self.states[0].kind == WORKS and all(
                now - self.moved[rank] >= seconds for rank in (0, last))
        return self._tell([0], lambda _: self._doing(0, now, "while others wait")) if held_up \
            else None

    def _is_silent(self, rank: int, now: float, seconds: float) -> bool:
        return now - self.heard[rank] >= max(seconds, self.silence)

    def _silent(self, rank: int, now: float) -> str:
        return (f"gives no sign of life for {now - self.heard[rank]:.0f} s; it was last seen "
                f"{self.states[rank].what}{self.states[rank].place}")

    def _overtaken(self, rank: int, now: float, seconds: float) -> bool:
        """Whether another rank has lately made progress in the same phase."""
        return any(now - time < seconds and state.phase == self.states[rank].phase
                   for time, state in zip(self._within, self.states, strict=True))

    def _doing(self, rank: int, now: float, how: str) -> str:
        if self._is_silent(rank, now, 0):
            return self._silent(rank, now)
        state = self.states[rank]
        return f"has been {state.what} for {now - self.moved[rank]:.0f} s {how}{state.place}"

    def _tell(self, ranks: list[int], words: Callable[[int], str]) -> Stall:
        lines = [f"rank {rank} on {self.states[rank].host} {words(rank)}"
                 for rank in ranks[:_NAMED]]
        if len(ranks) > _NAMED:
            lines.append(f"and so do {len(ranks) - _NAMED} more ranks: "
                         f"{', '.join(map(str, ranks[_NAMED:]))}")
        return Stall(tuple(ranks), "\n".join(lines))

    def _list(self, now: float) -> str:
        """All ranks wait: where they do."""
        places: dict[str, list[int]] = {}
        for rank, state in enumerate(self.states):
            places.setdefault(f"{state.what}{state.place}", []).append(rank)
        seconds = now - max(self.moved)
        return (f"no rank has got any further for {seconds:.0f} s:\n" + "\n".join(
            f"  {'rank' if len(ranks) == 1 else 'ranks'} {', '.join(map(str, ranks))}: {place}"
            for place, ranks in places.items()))
