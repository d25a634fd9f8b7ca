"""The trace of all ranks, from their phases and Horovod's own file."""

from __future__ import annotations

import json

import pytest
from conftest import alone

from hpc_deepfake.train import timeline
from hpc_deepfake.train.timeline import Timeline, horovod_events, summary, text

HOROVOD = """[
{"name": "process_name", "ph": "M", "pid": 0, "args": {"start_time_since_epoch_in_micros":5000000}},
{"name": "process_name", "ph": "M", "pid": 1, "args": {"name": "dense_kernel"}},
{"ph": "B", "name": "NEGOTIATE_BROADCAST", "ts": 10, "pid": 1},{"ph": "E", "ts": 20, "pid": 1},
{"ph": "B", "name": "NEGOTIATE_ALLREDUCE", "ts": 1000100, "pid": 1},
{"ph": "X", "name": "1", "ts": 1000150, "pid": 1, "dur": 0},{"ph": "E", "ts": 1000200, "pid": 1},
{"ph": "B", "name": "ALLREDUCE", "ts": 1000300, "pid": 1},
{"ph": "B", "name": "MPI_ALLREDUCE", "ts": 1000400, "pid": 1},{"ph": "E", "ts": 1000600, "pid": 1},
{"ph": "E", "ts": 1000800, "pid": 1, "args": {"dtype": "float32"}},
"""
LOOP = [{"name": "step", "cat": "loop", "ph": "X", "pid": rank, "tid": 0, "ts": 0.0,
         "dur": 4000.0, "args": {"waited_s": 0.001 * rank}} for rank in (0, 1)]


@pytest.mark.parametrize("end", ["", "]", "\n]\n"])
def test_horovods_file_becomes_threads_of_rank_0(end):
    """With or without the last bracket, and on the clock of the other events."""
    events = horovod_events(HOROVOD + end, 6.0)
    [thread] = [event for event in events if event["ph"] == "M"]
    assert (thread["pid"], thread["tid"], thread["args"]["name"]) == (0, 101,
                                                                      "Horovod: dense_kernel")
    begun = {event["name"]: event["ts"] for event in events if event["ph"] == "B"}
    assert begun["NEGOTIATE_ALLREDUCE"] == pytest.approx(100)  # began at 5 s, 1.0001 s into it
    assert any(event.get("name") == "rank 1 is ready" for event in events)
    assert {event["pid"] for event in events} == {0}


@pytest.mark.parametrize("bad", ["", "[", "not json", '{"a": 1}', "[1, 2]"])
def test_a_damaged_file_of_horovod_gives_no_events(bad):
    assert horovod_events(bad, 0.0) == []


def test_the_summary_adds_up():
    """Seconds are the mean over the ranks; Horovod's work before the first phase is left out."""
    result = summary([*LOOP, *horovod_events(HOROVOD, 6.0)])
    assert (result["ranks"], result["steps"]) == (2, 1)
    assert result["seconds"]["step"] == pytest.approx(0.004)
    assert result["seconds"]["waiting within steps"] == pytest.approx(0.0005)
    assert result["horovod"] == {"dense_kernel": {
        "NEGOTIATE_ALLREDUCE": pytest.approx(1e-4), "MPI_ALLREDUCE": pytest.approx(2e-4),
        "ALLREDUCE": pytest.approx(5e-4)}}
    assert "step                        0.00 s       4.0 ms per step" in text(result)


def test_a_trace_of_one_rank(tmp_path, monkeypatch):
    """In microseconds from the first phase, with a limit on the number of phases."""
    monkeypatch.setattr(timeline, "MOST", 2)
    line = Timeline(alone(), tmp_path / "trace.json")
    line.add("input", 10.0, 10.5)
    line.add("step", 10.5, 12.0, step=0, waited_s=0.25)
    line.add("step", 12.0, 13.0)
    assert line.write()["left_out"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json"]
    trace = json.loads((tmp_path / "trace.json").read_text())
    phases = [(event["name"], event["ts"], event["dur"]) for event in trace["traceEvents"]
              if event["ph"] == "X"]
    assert phases == [("input", 0.0, 500000.0), ("step", 500000.0, 1500000.0)]
    assert trace["otherData"] == {"ranks": 1, "left_out": 1}
