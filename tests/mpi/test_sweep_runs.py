"""A sweep that really trains: two trials of the toy, one of which diverges."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from conftest import ROOT, run_program

pytestmark = [pytest.mark.mpi, pytest.mark.slow]
# After three steps: with batches of 18 of the 36 rows, an epoch has two.
TOY = {"PYTHONPATH": str(ROOT / "tests" / "toy"), "TOY_STEP_SECONDS": "0", "TOY_DIVERGES": "0 3"}


def test_a_sweep_runs_its_trials_and_chooses_by_validation(data_file: Path, tmp_path: Path) -> None:
    words = ["hpc_deepfake.cli", "sweep", "run", "s"]
    done = run_program(*words, "--data", data_file, "--grid", "batch-size=4,18", "--",
                       "--epochs", "1", "--device", "cpu", cwd=tmp_path, env=TOY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--- trial 001 of 2: seed 0, batch-size 4" in done.stdout
    assert "trial 001 diverged: that is its result" in done.stderr
    lines = list(csv.DictReader((tmp_path / "s" / "report.csv").read_text().splitlines()))
    assert [line["state"] for line in lines] == ["diverged", "done"]
    assert "the training diverged" in lines[0]["reason"]
    report = json.loads((tmp_path / "s" / "report.json").read_text())
    summary = json.loads((tmp_path / "s" / "trials" / "002" / "summary.json").read_text())
    assert report["best"]["trials"] == ["002"] and summary["ranks"] == 1
    for part in ("validation", "test"):
        for name in ("loss", "accuracy", "auc"):
            assert report["best"][part][name]["median"] == pytest.approx(
                summary[part][name], rel=1e-5)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "s" / "trials").rglob("*")}
    done = run_program(*words, cwd=tmp_path, env=TOY)
    assert done.returncode == 0 and "2 trials finished earlier, 0 left" in done.stdout
    assert {file: file.stat().st_mtime_ns
            for file in (tmp_path / "s" / "trials").rglob("*")} == before
