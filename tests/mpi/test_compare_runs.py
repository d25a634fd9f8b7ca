"""A comparison whose trainings run under mpirun: stopped by a signal, continued, nothing done
twice."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, run_program, start_program
from speed import limit

pytestmark = [pytest.mark.mpi, pytest.mark.slow]
TOY = {"PYTHONPATH": str(ROOT / "tests" / "toy")}
EPOCHS = 50  # of which some are left when the signal has come, on a slow machine too
NAMES = ["sequential-ela-r1", "sync-ela-r1", "sync-raw-r1"]


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + limit(seconds)
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_comparison_is_stopped_and_resumed(data_file: Path, tmp_path: Path) -> None:
    """SIGTERM to the comparison while ranks train under mpirun: they save a checkpoint, and it
    prints how to resume. The same command then resumes it, and leaves the run that was finished
    before untouched."""
    words = ["hpc_deepfake.cli", "compare", "--data", data_file, "--out", "all", "--methods",
             "sequential,sync", "--features", "ela,raw", "--epochs", str(EPOCHS), "--batch-size",
             "12", "--threads", "1", "--", "--device", "cpu"]
    process = start_program(*words, cwd=tmp_path, env={**TOY, "TOY_STEP_SECONDS": "0.05"})
    runs = [tmp_path / "all" / name for name in NAMES]
    wait_for(lambda: (runs[1] / "metrics.jsonl").exists())
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=limit(120))
    assert process.returncode == 75, out + err
    assert "stopped by SIGTERM during sync-ela-r1; run the same command again to resume:" in out
    assert "stopped by SIGUSR1 in epoch " in out  # the signal that the ranks received
    assert (runs[0] / "summary.json").exists() and not runs[2].exists()
    assert not (runs[1] / "summary.json").exists()
    finished = {file: file.stat().st_mtime_ns for file in runs[0].rglob("*")}

    done = run_program(*words, cwd=tmp_path, env={**TOY, "TOY_STEP_SECONDS": "0"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"--- 2 of 3: {NAMES[1]} (resumed); 1 finished earlier" in done.stdout
    assert "resuming all/sync-ela-r1 in epoch " in done.stdout
    assert NAMES[0] not in done.stdout.partition("--- 3 of 3")[0]
    assert {file: file.stat().st_mtime_ns for file in runs[0].rglob("*")} == finished

    lines = list(csv.DictReader((tmp_path / "all" / "compare.csv").read_text().splitlines()))
    assert [line["run"] for line in lines] == NAMES
    assert [(line["state"], line["epochs"], line["unlike"]) for line in lines] \
        == [("done", str(EPOCHS), "")] * 3
    for run, line in zip(runs, lines, strict=True):
        summary = json.loads((run / "summary.json").read_text())
        assert float(line["accuracy"]) == summary["test"]["accuracy"]
        assert float(line["auc"]) == pytest.approx(summary["test"]["auc"])
        epochs = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
        assert [epoch["epoch"] for epoch in epochs] == [*range(1, EPOCHS + 1)]
        assert float(line["seconds"]) == pytest.approx(
            sum(epoch["wall_s"] for epoch in epochs))
    assert [line["threads"] for line in lines] == ["2", "2", "2"]
    assert (tmp_path / "all" / "compare.html").stat().st_size > 10_000

    before = (tmp_path / "all" / "compare.md").read_text()
    done = run_program(*words, cwd=tmp_path)  # only the report is left to write
    assert done.returncode == 0 and "---" not in done.stdout
    assert (tmp_path / "all" / "compare.md").read_text() == before


def test_a_training_that_fails_ends_the_comparison_with_its_code(data_file: Path,
                                                                tmp_path: Path) -> None:
    done = run_program(
        "hpc_deepfake.cli", "compare", "--data", data_file, "--out", "all", "--methods", "sync",
        "--features", "ela", "--", "--device", "gpu", cwd=tmp_path,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 2, done.stdout + done.stderr
    assert "error: --device gpu: " in done.stderr
    assert "error: sync-ela-r1 failed with exit code 2" in done.stderr
    assert not (tmp_path / "all" / "compare.html").exists()
