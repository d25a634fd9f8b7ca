"""Ensembles and initial weights in whole trainings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from speed import limit
from worlds import Worlds

from hpc_deepfake.metrics import temperature
from hpc_deepfake.network import model
from hpc_deepfake.report import summary, write
from hpc_deepfake.train import predictions

pytestmark = [pytest.mark.mpi, pytest.mark.slow]
TOY = {"PYTHONPATH": str(ROOT / "tests" / "toy"), "TOY_STEP_SECONDS": "0.03"}


def options(data: Path, run: Path, *more: object) -> list[object]:
    return ["--data", data, "--run", run, "--epochs", 1, "--batch-size", 9, "--device", "cpu",
            "--threads", 1, "--no-report", *more]


def test_members_are_the_trainings_with_their_seeds(worlds: Worlds, small_file: Path,
                                                    tmp_path: Path) -> None:
    """Bit for bit, one after the other in one process as well as alone. A third training starts
    from one of them and leaves some layers as they are."""
    def run(name: str, *more: object) -> tuple[int, str]:
        answer = worlds.run(1, "train", *options(small_file, tmp_path / name, *more), cwd=tmp_path)
        return answer.code, answer.output

    code, output = run("both", "--seeds", 2, "--seed", 3)
    assert code == 0, output
    assert "--- member 2 of 2: seed 4" in output and "ensemble of 2 members" in output
    assert run("alone", "--seed", 4)[0] == 0
    for name in ("model.json", "predictions.csv"):
        assert (tmp_path / "both" / "seed-4" / name).read_bytes() == \
            (tmp_path / "alone" / name).read_bytes()
    parts = [predictions.read(tmp_path / "both" / name)["test"].probabilities
             for name in ("seed-3", "seed-4", ".")]
    cards = [model.read_card(tmp_path / "both" / name) for name in ("seed-3", "seed-4")]
    assert [card.weights[0] for card in cards] == [*model.read_card(tmp_path / "both").weights]
    assert parts[2] == pytest.approx(np.mean([
        temperature.apply(part, card.temperature)
        for part, card in zip(parts, cards, strict=False)], 0))

    code, output = run("tuned", "--init", "alone", "--freeze", "conv*,bn*")
    assert code == 0, output
    assert "initial weights: 6 of 6 layers from alone" in output
    assert "frozen: 4 layers (conv1, bn1, conv2, bn2)" in output
    alone, tuned = (model.load(tmp_path / name) for name in ("alone", "tuned"))
    for layer in alone.layers:
        same = all(map(np.array_equal, layer.get_weights(),
                       tuned.get_layer(layer.name).get_weights()))
        assert same is not layer.name.startswith("dense"), layer.name
    card = model.read_card(tmp_path / "tuned")
    assert card.init["source"] == "alone" and card.init["seen"] == 0
    assert json.loads((tmp_path / "tuned" / "summary.json").read_text())["init"] == card.init


def test_a_stopped_ensemble_continues_with_the_member_that_was_stopped(
        small_file: Path, tmp_path: Path) -> None:
    """A finished member is not trained again, and the others are those of an undisturbed one."""
    command = [sys.executable, "-m", "hpc_deepfake.train", *map(str, options(
        small_file, Path("runs"), "--seeds", 3, "--epochs", 3, "--batch-size", 4,
        "--checkpoint-minutes", 0))]

    def started(*more: str, cwd: Path) -> subprocess.Popen[str]:
        cwd.mkdir(exist_ok=True)
        return subprocess.Popen([*command, *more], cwd=cwd, env={**os.environ, **TOY}, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    whole = started(cwd=tmp_path / "whole")
    process = started(cwd=tmp_path / "parts")
    metrics, until = tmp_path / "parts" / "runs" / "seed-1" / "metrics.jsonl", time.monotonic() + \
        limit(60)
    while not metrics.exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=limit(60))
    assert process.returncode == 75, output
    assert "--run runs --resume" in output and "seed-1/" not in output.split("To resume:")[1]
    first = tmp_path / "parts" / "runs" / "seed-0" / "summary.json"
    stamp = first.stat().st_mtime_ns
    process = started("--resume", cwd=tmp_path / "parts")
    output, _ = process.communicate(timeout=limit(60))
    assert process.returncode == 0, output
    assert "seed 0, runs/seed-0, finished before" in output and first.stat().st_mtime_ns == stamp
    assert "resuming runs/seed-1" in output and "no checkpoint in runs/seed-2" in output
    assert whole.wait(limit(60)) == 0
    whole.stdout.close()
    for name in ("predictions.csv", "seed-1/predictions.csv", "seed-2/predictions.csv"):
        assert (tmp_path / "parts" / "runs" / name).read_bytes() == \
            (tmp_path / "whole" / "runs" / name).read_bytes()
    listed = json.loads((tmp_path / "parts" / "runs" / "ensemble.json").read_text())
    assert listed["members"] == ["seed-0", "seed-1", "seed-2"]
    write(first.parent.parent, tmp_path / "page.html", model=False)
    page = (tmp_path / "page.html").read_text()
    assert "mean of the members" in page and "Learning curves" not in page
    assert "runs: ela, sync ×3" in summary.table([summary._read(first.parent.parent)])
