"""Differences between the nodes' clocks."""

from __future__ import annotations

import time
from collections.abc import Callable

from hpc_deepfake.core.clock import answer, ask
from hpc_deepfake.doctor.place import Place
from hpc_deepfake.doctor.report import WARN, Record

_LIMIT = 2.0  # seconds


def skew(place: Place, now: Callable[[], float] = time.time) -> list[Record]:
    """Compare the clocks of all nodes with rank 0's; collective. Rank 0 has the record."""
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


def judge(ahead: dict[str, float]) -> Record:
    """The verdict; ``ahead``: seconds by which each node is ahead of rank 0's."""
    first, last = min(ahead, key=ahead.__getitem__), max(ahead, key=ahead.__getitem__)
    apart = ahead[last] - ahead[first]
    if apart < 0.01:
        return Record("clocks", "less than 0.01 s apart")
    text = f"up to {apart:.2f} s apart: {last} is ahead of {first}"
    if apart <= _LIMIT:
        return Record("clocks", text)
    return Record("clocks", text, WARN,
                  "times of files and in logs are misleading, and Kerberos tickets of file systems "
                  "may be refused. Tell the administrators; on each node, this shows the state:\n"
                  "  timedatectl status || chronyc tracking", scope="all")
