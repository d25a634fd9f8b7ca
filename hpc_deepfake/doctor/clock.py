"""How far the nodes' clocks are apart."""

from __future__ import annotations

import time
from collections.abc import Callable

from hpc_deepfake.doctor.place import Place
from hpc_deepfake.doctor.report import WARN, Record

_TAG = 11
_ROUNDS = 8
_LIMIT = 2.0  # seconds


def skew(place: Place, now: Callable[[], float] = time.time) -> list[Record]:
    """Clocks of all nodes against rank 0's; collective. The record is rank 0's."""
    place.meet()
    comm = place.comm
    others = place.leaders[1:]
    if comm.rank in others:
        answer(comm, now)
    if comm.rank or not others:
        return []
    ahead = {place.hosts[0]: 0.0}
    for leader in others:
        ahead[place.hosts[leader]] = ask(comm, leader, now)
    return [judge(ahead)]


def answer(comm, now: Callable[[], float]) -> None:
    """Rank 0's questions."""
    for _ in range(_ROUNDS):
        comm.recv(source=0, tag=_TAG)
        comm.send(now(), 0, _TAG)


def ask(comm, rank: int, now: Callable[[], float]) -> float:
    """Seconds by which the clock of ``rank``, which answers, is ahead of rank 0's: those of the
    quickest exchange."""
    return min(_exchange(comm, rank, now) for _ in range(_ROUNDS))[1]


def _exchange(comm, rank: int, now: Callable[[], float]) -> tuple[float, float]:
    """Seconds the exchange took, and by how much that rank's clock is ahead of this one's."""
    sent = now()
    comm.send(None, rank, _TAG)
    theirs = comm.recv(source=rank, tag=_TAG)
    back = now()
    return back - sent, theirs - (sent + back) / 2


def judge(ahead: dict[str, float]) -> Record:
    """``ahead``: seconds by node."""
    first, last = min(ahead, key=ahead.get), max(ahead, key=ahead.get)
    apart = ahead[last] - ahead[first]
    if apart < 0.01:
        return Record("clocks", "less than 0.01 s apart")
    text = f"{apart:.2f} s apart at most: {last} is ahead of {first}"
    if apart <= _LIMIT:
        return Record("clocks", text)
    return Record("clocks", text, WARN,
                  "times of files and in logs mislead, and tickets of file systems (Kerberos) may "
                  "be refused. Tell the administrators; on each node this shows its state:\n"
                  "  timedatectl status || chronyc tracking", scope="all")
