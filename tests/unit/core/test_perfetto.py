"""Traces for Perfetto."""

from __future__ import annotations

import json
from pathlib import Path

from hpc_deepfake.core import perfetto


def test_a_span_has_microseconds() -> None:
    event = perfetto.span("step 3", 2, 1.5, 1.75, "compute", rows=32)
    assert event == {"name": "step 3", "ph": "X", "pid": 2, "tid": 0, "ts": 1_500_000.0,
                     "dur": 250_000.0, "cat": "compute", "args": {"rows": 32}}
    assert "cat" not in perfetto.span("step 3", 2, 1.5, 1.75)


def test_names_of_processes_and_threads() -> None:
    assert perfetto.named("process_name", "rank 1", 1) == {
        "name": "process_name", "ph": "M", "pid": 1, "args": {"name": "rank 1"}}
    assert perfetto.named("thread_name", "link", 1, 4)["tid"] == 4


def test_the_file_is_a_json_object_of_the_trace_event_format(tmp_path: Path) -> None:
    """``traceEvents`` is the only required key; the others are shown by the viewer."""
    events = [perfetto.named("process_name", "rank 0", 0), perfetto.span("a", 0, 0.0, 1e-6)]
    perfetto.write(tmp_path / "trace.json", iter(events), run="first", ranks=2)
    assert json.loads((tmp_path / "trace.json").read_text()) == {
        "traceEvents": events, "displayTimeUnit": "ms", "otherData": {"run": "first", "ranks": 2}}
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json"]
