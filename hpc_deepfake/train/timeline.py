"""One trace of a run: the phases of the loop on every rank, and Horovod's own timeline.

The file has the Trace Event Format, which https://ui.perfetto.dev and chrome://tracing open: a
process per rank, with a thread for the phases of the loop and, on rank 0, one for each tensor that
Horovod reduces.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_deepfake.core import json_data, mpi, perfetto
from hpc_deepfake.core.json_data import finite
from hpc_deepfake.core.text import plural

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

PHASES = ("input", "step", "evaluate", "checkpoint")
MOST = 100_000  # maximum number of recorded phases per rank
_FIRST_TENSOR = 100  # thread number of Horovod's first tensor
_WAIT = 5.0  # seconds for Horovod's thread to write its file


class Timeline:
    """Records the phases of this rank; ``write`` merges all ranks."""

    def __init__(self, comm: Comm, path: Path) -> None:
        """Collective: compares the clocks of the ranks."""
        self._comm, self._path = comm, path
        self._horovod = path.with_name(f".{path.name}.horovod")
        self._phases: list[tuple[str, float, float, dict[str, Any]]] = []
        self._left_out = 0
        self._ahead = clocks(comm)
        self._epoch = time.time() - time.perf_counter()  # wall-clock time of perf_counter's 0
        self._hvd: Any = None

    @staticmethod
    def prepare() -> None:
        """Call before Horovod starts, so that it can record."""
        os.environ["HOROVOD_TIMELINE"] = "DYNAMIC"

    def follow_horovod(self) -> None:
        """Start Horovod's own recording, if Horovod is running."""
        import horovod.tensorflow as hvd

        if not hvd.is_initialized():  # such as in a mesh that is only a pipeline
            return
        self._hvd = hvd
        if self._comm.rank == 0:
            self._horovod.unlink(missing_ok=True)
            hvd.start_timeline(os.fspath(self._horovod.absolute()))

    def add(self, phase: str, begin: float, end: float, **facts: Any) -> None:
        """Record a phase.

        Args:
            phase: one of ``PHASES``.
            begin: reading of ``time.perf_counter``.
            end: likewise.
            facts: shown with the phase in the trace.
        """
        if len(self._phases) < MOST:
            self._phases.append((phase, begin, end, facts))
        else:
            self._left_out += 1

    def write(self) -> dict[str, Any] | None:
        """Write the trace; collective. On rank 0, returns its ``summary``; elsewhere None."""
        gathered = self._comm.gather((self._phases, self._ahead, self._left_out))
        if gathered is None:
            return None
        begin = min((start - ahead for phases, ahead, _ in gathered for _, start, *_ in phases),
                    default=0.0)
        events: list[perfetto.Event] = []
        for rank, (phases, ahead, _) in enumerate(gathered):
            events += [perfetto.named("process_name", f"rank {rank}", rank),
                       perfetto.named("thread_name", "training loop", rank, 0)]
            events += [perfetto.span(name, rank, start - ahead - begin, end - ahead - begin,
                                     "loop", **facts) for name, start, end, facts in phases]
        if self._hvd is not None:
            self._hvd.stop_timeline()
            events += horovod_events(_finished(self._horovod), begin + self._epoch)
            self._horovod.unlink(missing_ok=True)
        first = min((event["ts"] for event in events if "ts" in event), default=0.0)
        for event in events:  # Horovod's begin before the first phase
            if "ts" in event:
                event["ts"] = round(event["ts"] - first, 1)
        left_out = sum(count for *_, count in gathered)
        perfetto.write(self._path, events, ranks=len(gathered), left_out=left_out)
        return summary(events, left_out)


def clocks(comm: Comm) -> float:
    """Seconds by which this rank's ``perf_counter`` is ahead of rank 0's; collective."""
    from hpc_deepfake.core.clock import answer, ask

    ahead: list[float] | None = None
    mpi.wait(comm.Ibarrier())
    if comm.rank:
        answer(comm, time.perf_counter)
    else:
        ahead = [0.0, *(ask(comm, rank, time.perf_counter) for rank in range(1, comm.size))]
    return comm.scatter(ahead)


def horovod_events(text: str, begin: float) -> list[perfetto.Event]:
    """Horovod's trace as threads of rank 0.

    Args:
        text: content of Horovod's file, which may be cut off.
        begin: wall-clock time, in seconds, that becomes 0.
    """
    raw: list[Any] = []
    with suppress(ValueError):
        raw = json_data.parse(text.rstrip().removesuffix("]").rstrip().rstrip(",") + "]")
    raw = [event for event in json_data.items(raw) if _is_event(event)]
    # the first process only gives the time that the file counts from
    starts = (finite(event.get("args", {}).get("start_time_since_epoch_in_micros"))
              for event in raw)
    start = next((time for time in starts if time is not None), begin * 1e6)
    events = []
    for event in raw:
        tensor = event["pid"]
        if event["ph"] == "M":
            if event["name"] == "process_name" and "name" in event.get("args", {}):
                events.append(perfetto.named("thread_name", f"Horovod: {event['args']['name']}", 0,
                                             _FIRST_TENSOR + tensor))
        else:
            if event["ph"] == "X" and str(event.get("name", "")).isdecimal():
                event = {**event, "name": f"rank {event['name']} is ready"}
            events.append({**event, "cat": "horovod", "pid": 0, "tid": _FIRST_TENSOR + tensor,
                           "ts": round(event["ts"] + start - begin * 1e6, 1)})
    return events


def _is_event(value: object) -> bool:
    """Whether it is an event with what its phase needs, of the right types."""
    event = json_data.dictionary(value)
    named = isinstance(event.get("name"), str)
    if type(event.get("pid")) is not int or not isinstance(event.get("args", {}), dict):
        return False
    if event.get("ph") == "M":
        return named
    return (isinstance(event.get("ph"), str) and finite(event.get("ts")) is not None
            and (named or event["ph"] == "E"))


def summary(events: list[perfetto.Event], left_out: int = 0) -> dict[str, Any]:
    """Where the time went.

    Args:
        events: of the trace.
        left_out: number of phases that were not recorded.

    Returns:
        ``ranks`` and ``steps`` (of each rank); ``seconds`` of each phase, the mean over the ranks,
        and within steps of waiting for other ranks; ``horovod``: seconds of its activities since
        the first phase, by tensor; ``left_out``.
    """
    ranks = {event["pid"] for event in events if event.get("cat") == "loop"}
    first = min((event["ts"] for event in events if event.get("cat") == "loop"), default=0.0)
    seconds = dict.fromkeys((*PHASES, "waiting within steps"), 0.0)
    steps = 0
    tensors: dict[int, str] = {}  # names, by thread
    horovod: dict[str, dict[str, float]] = {}
    begun: dict[int, list[tuple[str, float]]] = {}  # by thread, name and time
    for event in events:
        thread = event.get("tid", -1)
        if event.get("cat") == "loop":
            seconds[event["name"]] = seconds.get(event["name"], 0.0) + event["dur"] / 1e6
            seconds["waiting within steps"] += event["args"].get("waited_s", 0.0)
            steps += event["name"] == "step"
        elif event["ph"] == "M" and event["name"] == "thread_name":
            if thread >= _FIRST_TENSOR:
                tensors[thread] = event["args"]["name"].removeprefix("Horovod: ")
        elif event["ph"] == "B":
            begun.setdefault(thread, []).append((event["name"], event["ts"]))
        elif event["ph"] == "E" and begun.get(thread):
            name, began = begun[thread].pop()
            if began < first:  # the broadcast of the initial weights
                continue
            activities = horovod.setdefault(tensors.get(thread, "?"), {})
            activities[name] = activities.get(name, 0.0) + (event["ts"] - began) / 1e6
    count = max(len(ranks), 1)
    return {"ranks": len(ranks), "steps": round(steps / count),
            "seconds": {name: value / count for name, value in seconds.items()},
            "horovod": horovod, "left_out": left_out}


def text(summary: dict[str, Any]) -> str:
    """The summary as lines to print."""
    steps = max(summary["steps"], 1)
    lines = [f"timeline: {plural(summary['steps'], 'step')} on each of "
             f"{plural(summary['ranks'], 'rank')}, mean per rank:"]
    lines += [f"  {name:<22} {seconds:>9.2f} s {seconds / steps * 1e3:>9.1f} ms per step"
              for name, seconds in summary["seconds"].items() if seconds]
    for tensor, activities in summary["horovod"].items():
        lines += [f"  Horovod, {tensor}: " + ", ".join(
            f"{name.lower().replace('_', ' ')} {seconds / steps * 1e3:.1f} ms"
            for name, seconds in activities.items()) + " per step"]
    return "\n".join(lines)


def _finished(path: Path) -> str:
    """Content of Horovod's file, once Horovod's thread has closed the list."""
    until = time.monotonic() + _WAIT
    while True:
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        if text.rstrip().endswith("]") or time.monotonic() > until:
            return text
        time.sleep(0.05)
