"""One trace of a run: the loop's phases on every rank and Horovod's own timeline, for Perfetto.

The file has the Trace Event Format that https://ui.perfetto.dev and chrome://tracing open: a
process for each rank, with a thread for the loop's phases and, of rank 0, one for each tensor that
Horovod reduces.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_deepfake.core import mpi, perfetto

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

PHASES = ("input", "step", "evaluate", "checkpoint")
MOST = 100_000  # phases of each rank that are kept
_FIRST_TENSOR = 100  # thread number of Horovod's first tensor
_WAIT = 5.0  # seconds for Horovod's thread to write its file


class Timeline:
    """Notes what this rank does; ``write`` puts all ranks together."""

    def __init__(self, comm: Comm, path: Path) -> None:
        """Collective. The clocks of the ranks are compared now."""
        self._comm, self._path = comm, path
        self._horovod = path.with_name(f".{path.name}.horovod")
        self._phases: list[tuple[str, float, float, dict[str, Any]]] = []
        self._left_out = 0
        self._ahead = clocks(comm)
        self._epoch = time.time() - time.perf_counter()  # of rank 0's clock
        self._hvd = None

    @staticmethod
    def prepare() -> None:
        """Before Horovod starts: it shall be able to record."""
        os.environ["HOROVOD_TIMELINE"] = "DYNAMIC"

    def follow_horovod(self) -> None:
        """Have Horovod record too, if it runs."""
        import horovod.tensorflow as hvd

        if not hvd.is_initialized():  # a pipeline whose messages all go from neighbour to neighbour
            return
        self._hvd = hvd
        if self._comm.rank == 0:
            self._horovod.unlink(missing_ok=True)
            hvd.start_timeline(os.fspath(self._horovod.absolute()))

    def add(self, phase: str, begin: float, end: float, **facts: Any) -> None:
        """A phase between two readings of ``time.perf_counter``."""
        if len(self._phases) < MOST:
            self._phases.append((phase, begin, end, facts))
        else:
            self._left_out += 1

    def write(self) -> dict[str, Any] | None:
        """The trace, whole; collective. On rank 0 where the time went (``summary``)."""
        found = self._comm.gather((self._phases, self._ahead, self._left_out))
        if found is None:
            return None
        begin = min((start - ahead for phases, ahead, _ in found for _, start, *_ in phases),
                    default=0.0)
        events: list[dict[str, Any]] = []
        for rank, (phases, ahead, _) in enumerate(found):
            events += [perfetto.named("process_name", f"rank {rank}", rank),
                       perfetto.named("thread_name", "training loop", rank, 0)]
            events += [perfetto.span(name, rank, start - ahead - begin, end - ahead - begin,
                                     "loop", **facts) for name, start, end, facts in phases]
        if self._hvd is not None:
            self._hvd.stop_timeline()
            events += horovod_events(_finished(self._horovod), begin + self._epoch)
            self._horovod.unlink(missing_ok=True)
        first = min((event["ts"] for event in events if "ts" in event), default=0.0)
        for event in events:  # Horovod begins earlier
            if "ts" in event:
                event["ts"] = round(event["ts"] - first, 1)
        left_out = sum(count for *_, count in found)
        perfetto.write(self._path, events, ranks=len(found), left_out=left_out)
        return summary(events, left_out)


def clocks(comm: Comm) -> float:
    """Seconds by which this rank's ``perf_counter`` is ahead of rank 0's; collective."""
    from hpc_deepfake.core.clock import answer, ask

    ahead = None
    mpi.wait(comm.Ibarrier())
    if comm.rank:
        answer(comm, time.perf_counter)
    else:
        ahead = [0.0, *(ask(comm, rank, time.perf_counter) for rank in range(1, comm.size))]
    return comm.scatter(ahead)


def horovod_events(text: str, begin: float) -> list[dict[str, Any]]:
    """Horovod's trace as threads of rank 0, with times from ``begin`` (seconds of the clock on the
    wall). The file may be cut off."""
    raw: list[Any] = []
    with suppress(ValueError):
        raw = json.loads(text.rstrip().removesuffix("]").rstrip().rstrip(",") + "]")
    raw = [one for one in raw if isinstance(one, dict) and "pid" in one]
    # the first process only says when the file's time began
    start = next((one["args"]["start_time_since_epoch_in_micros"] for one in raw
                  if "start_time_since_epoch_in_micros" in one.get("args", {})), begin * 1e6)
    events = []
    for one in raw:
        tensor = one["pid"]
        if one["ph"] == "M":
            if one["name"] == "process_name" and "name" in one["args"]:
                events.append(perfetto.named("thread_name", f"Horovod: {one['args']['name']}", 0,
                                    _FIRST_TENSOR + tensor))
        else:
            if one["ph"] == "X" and str(one.get("name", "")).isdecimal():
                one = {**one, "name": f"rank {one['name']} is ready"}
            events.append({**one, "cat": "horovod", "pid": 0, "tid": _FIRST_TENSOR + tensor,
                           "ts": round(one["ts"] + start - begin * 1e6, 1)})
    return events


def summary(events: list[dict[str, Any]], left_out: int = 0) -> dict[str, Any]:
    """Where the time went.

    Returns:
        ``seconds``: of each phase, the mean over the ranks, and the steps' waiting for other
        ranks within them; ``steps``: of a rank; ``horovod``: seconds of its activities since the
        first phase, by tensor; ``left_out``: phases that were too many to be kept.
    """
    ranks = {event["pid"] for event in events if event.get("cat") == "loop"}
    first = min((event["ts"] for event in events if event.get("cat") == "loop"), default=0.0)
    seconds = dict.fromkeys((*PHASES, "waiting within steps"), 0.0)
    steps = 0
    threads: dict[int, str] = {}
    horovod: dict[str, dict[str, float]] = {}
    open_: dict[int, list[tuple[str, float]]] = {}
    for event in events:
        thread = event.get("tid")
        if event.get("cat") == "loop":
            seconds[event["name"]] = seconds.get(event["name"], 0.0) + event["dur"] / 1e6
            seconds["waiting within steps"] += event["args"].get("waited_s", 0.0)
            steps += event["name"] == "step"
        elif event["ph"] == "M" and event["name"] == "thread_name":
            if event["tid"] >= _FIRST_TENSOR:
                threads[event["tid"]] = event["args"]["name"].removeprefix("Horovod: ")
        elif event["ph"] == "B":
            open_.setdefault(thread, []).append((event["name"], event["ts"]))
        elif event["ph"] == "E" and open_.get(thread):
            name, began = open_[thread].pop()
            if began < first:  # weights are given out
                continue
            of = horovod.setdefault(threads.get(thread, "?"), {})
            of[name] = of.get(name, 0.0) + (event["ts"] - began) / 1e6
    count = max(len(ranks), 1)
    return {"ranks": len(ranks), "steps": round(steps / count),
            "seconds": {name: value / count for name, value in seconds.items()},
            "horovod": horovod, "left_out": left_out}


def text(found: dict[str, Any]) -> str:
    """The summary as lines for a person."""
    steps = max(found["steps"], 1)
    lines = [f"timeline: {found['steps']} steps of each of {found['ranks']} ranks, a mean rank:"]
    lines += [f"  {name:<22} {seconds:>9.2f} s {seconds / steps * 1e3:>9.1f} ms a step"
              for name, seconds in found["seconds"].items() if seconds]
    for tensor, kinds in found["horovod"].items():
        lines += [f"  Horovod, {tensor}: " + ", ".join(
            f"{name.lower().replace('_', ' ')} {seconds / steps * 1e3:.1f} ms"
            for name, seconds in kinds.items()) + " a step"]
    return "\n".join(lines)


def _finished(path: Path) -> str:
    """What Horovod's own thread has written, once it has closed the list."""
    until = time.monotonic() + _WAIT
    while True:
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        if text.rstrip().endswith("]") or time.monotonic() > until:
            return text
        time.sleep(0.05)
