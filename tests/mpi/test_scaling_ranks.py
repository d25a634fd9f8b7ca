"""The micro-benchmark and the timeline under mpirun, and a study of real runs."""

from __future__ import annotations

import json
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import ROOT, read_lines, run_program
from speed import limit

pytestmark = [pytest.mark.mpi, pytest.mark.slow]


def test_microbench_on_two_ranks(tmp_path: Path) -> None:
    """Every measurement at a few sizes, as a table and as JSON; no other file remains."""
    done = run_program("hpc_deepfake.cli", "scaling", "microbench", "--min-size", "1024",
                       "--max-size", "65536", "--seconds", "0.01", "--json", "mb.json", ranks=2,
                       cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mb.json"]
    figures = json.loads((tmp_path / "mb.json").read_text())
    assert (figures["ranks"], figures["nodes"]) == (2, 1)
    kinds = {what: [row for row in figures["rows"] if row["what"] == what]
             for what in ("sendrecv", "allreduce", "alltoall", "files")}
    for what in ("sendrecv", "allreduce", "alltoall"):
        assert [row["size"] for row in kinds[what]] == [1024 << power for power in range(7)]
        assert all(row["latency_us"]["mean"] > 0 and row["mb_per_s"] > 0 for row in kinds[what])
        assert f"# {what.replace('sendrecv', 'send/recv')}" in done.stdout
    for row in kinds["allreduce"]:
        times = row["latency_us"]
        assert times["min"] <= times["mean"] <= times["max"]
    assert {row["way"] for row in kinds["files"]} >= {"MPI-IO", "MPI.File"}
    for row in kinds["files"]:
        assert row["write_mb_per_s"] >= row["write_open_close_mb_per_s"] > 0
        assert row["read_mb_per_s"] >= row["read_open_close_mb_per_s"] > 0


def test_microbench_on_one_rank_and_its_mistakes(tmp_path: Path) -> None:
    """On one rank it measures files only, and says so; a missing folder is one message."""
    done = run_program("hpc_deepfake.cli", "scaling", "microbench", "--max-size", "65536",
                       "--seconds", "0.01", cwd=tmp_path, timeout=60)
    assert done.returncode == 0 and "# allreduce: needs several ranks" in done.stdout
    done = run_program("hpc_deepfake.cli", "scaling", "microbench", "--what", "files", "--dir",
                       "nowhere", ranks=2, cwd=tmp_path, timeout=60)
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1 and "cannot write in nowhere" in done.stderr


def test_a_timeline_of_all_ranks_with_horovod(tmp_path: Path) -> None:
    """Random pictures on two ranks: each rank's phases in their order on one clock, Horovod's
    reductions within the steps, and where the step went in the summary."""
    done = run_program("hpc_deepfake.train", "--synthetic", "24", "--rows", "16", "--batch-size",
                       "4", "--epochs", "2", "--device", "cpu", "--threads", "1", "--run", "run",
                       "--timeline", ranks=2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "16 train + 64 validation images" in done.stdout
    assert "timeline: 4 steps on each of 2 ranks" in done.stdout
    assert not list((tmp_path / "run").glob(".timeline*"))
    events = json.loads((tmp_path / "run" / "timeline.json").read_text())["traceEvents"]
    loop = [event for event in events if event.get("cat") == "loop"]
    steps = {rank: [event for event in loop if event["pid"] == rank and event["name"] == "step"]
             for rank in (0, 1)}
    for rank in (0, 1):
        # a step is noted after the next one was launched
        own = sorted((event for event in loop if event["pid"] == rank),
                     key=lambda event: event["ts"])
        assert {"input", "step", "evaluate", "checkpoint"} == {event["name"] for event in own}
        assert [event["args"]["step"] for event in steps[rank]] == [0, 1, 2, 3]
        for before, after in pairwise(own):
            assert after["ts"] >= before["ts"] + before["dur"] - 1  # rounded
        assert all(0 <= event["args"]["waited_s"] <= event["dur"] / 1e6 for event in steps[rank])
    for one, other in zip(*steps.values(), strict=True):  # each ends when both are there
        assert max(one["ts"], other["ts"]) < min(one["ts"] + one["dur"], other["ts"] + other["dur"])
    threads = {event["tid"]: event["args"]["name"] for event in events
               if event["ph"] == "M" and event["name"] == "thread_name"}
    [kernel] = [tid for tid, name in threads.items() if name.endswith("dense_kernel")]
    begun = [event["ts"] for event in events
             if event.get("tid") == kernel and event.get("name") == "ALLREDUCE"]
    assert len(begun) == 4
    slack = limit(5000)  # microseconds: the clock on the wall is read in ms
    for at, step in zip(begun, steps[0], strict=True):
        assert step["ts"] - slack <= at <= step["ts"] + step["dur"] + slack
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["train_rows"] == 16
    assert summary["timeline"]["horovod"]["dense_kernel"]["MPI_ALLREDUCE"] > 0
    lines = read_lines(tmp_path / "run" / "metrics.jsonl")
    assert ["first_step" in line["ranks"] for line in lines] == [True, False]
    for line in lines:
        for stage in ("input", "compute", "communication"):
            times = line["ranks"][stage]
            assert 0 <= times["min"] <= times["mean"] <= times["max"]


def test_a_study_of_real_runs(small_file: Path, tmp_path: Path) -> None:
    """Planned, run as the jobs would run it, reported and predicted."""
    plan = ["scaling", "plan", "study", "--kinds", "strong", "--nodes", "2", "--global-batch", "8",
            "--data", small_file, "--job", "train_cpu", "--ranks-per-node", "1", "--scripts",
            ROOT / "jobs" / "slurm", "--lines", "--", "--epochs", "2", "--device", "cpu",
            "--threads", "1"]
    done = run_program("hpc_deepfake.cli", *plan, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    for ranks, (name, previous, job, *words) in zip((1, 2), lines, strict=True):
        assert (previous, job) == ("", "train_cpu")
        words = words[words.index("--") + 1:]
        done = run_program("hpc_deepfake.train", *words, "--data", small_file, "--run",
                           f"study/{name}", ranks=ranks, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    done = run_program("hpc_deepfake.cli", "scaling", "report", "study", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 runs are finished." in done.stdout
    assert "strong, real, sync: 2 ranks reach" in done.stdout
    done = run_program("hpc_deepfake.cli", "scaling", "predict", "study", "--max-ranks", "64",
                       cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Fitted to 1 rank; largest error on 2 ranks" in done.stdout
