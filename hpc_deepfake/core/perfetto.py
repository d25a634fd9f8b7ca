"""Traces in the Trace Event Format, for https://ui.perfetto.dev and chrome://tracing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hpc_deepfake.core.files import write_text

Event = dict[str, Any]


def span(name: str, process: int, begin: float, end: float, category: str = "",
         **details: Any) -> Event:
    """An event from ``begin`` to ``end``, in seconds, on thread 0 of ``process``; the viewer shows
    ``details`` when it is selected."""
    event = {"name": name, "ph": "X", "pid": process, "tid": 0, "ts": round(begin * 1e6, 1),
             "dur": round((end - begin) * 1e6, 1), "args": details}
    return {**event, "cat": category} if category else event


def named(kind: str, name: str, process: int, thread: int | None = None) -> Event:
    """A metadata event that names a process or a thread; ``kind`` is ``process_name`` or
    ``thread_name``."""
    event = {"name": kind, "ph": "M", "pid": process, "args": {"name": name}}
    return event if thread is None else {**event, "tid": thread}


def write(path: Path, events: Iterable[Event], **facts: Any) -> None:
    """Write the trace file whole; ``facts`` about the trace go into its ``otherData``."""
    write_text(path, json.dumps({"traceEvents": list(events), "displayTimeUnit": "ms",
                                 "otherData": facts}))
