"""A matrix from training to report, its programs under mpirun: the same on any number of ranks."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run_program

pytestmark = [pytest.mark.mpi, pytest.mark.slow]
TOY = {"PYTHONPATH": str(ROOT / "tests" / "toy")}


def test_a_matrix_on_two_ranks_and_its_model_on_one(data_file: Path, tmp_path: Path) -> None:
    words = ["hpc_deepfake.cli", "crosseval", "--test", "again.h5", "--part", "all"]
    shutil.copy(data_file, tmp_path / "again.h5")
    done = run_program(*words, "--train", f"sample={data_file}", "--epochs", "2", "--threads", "1",
                       "--device", "cpu", "--out", "all", cwd=tmp_path, env=TOY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--- 1 of 2: sample-ela-r1; 0 finished earlier" in done.stdout
    assert "sync on 2 ranks" in done.stdout
    own, again = csv.DictReader((tmp_path / "all" / "crosseval.csv").read_text().splitlines())
    summary = json.loads((tmp_path / "all" / "sample-ela-r1" / "summary.json").read_text())
    assert (own["part"], float(own["auc"])) == ("test", pytest.approx(summary["test"]["auc"]))
    # the same file under another name: only the test part is left
    counts = [{key: line[key] for key in ("tampered", "authentic", "auc")}
              for line in (own, again)]
    assert counts[0] == counts[1] and int(again["shared"]) > 0 == int(own["shared"])

    done = run_program(*words, "--models", "all/sample-ela-r1", "--ranks", "1", "--out", "one",
                       cwd=tmp_path, env=TOY)
    assert done.returncode == 0, done.stdout + done.stderr
    two, one = (np.load(tmp_path / out / "scores" / "sample-ela-r1" / "again.npz")
                for out in ("all", "one"))
    assert np.array_equal(two["probabilities"], one["probabilities"])
