"""Runs on a mesh: their checkpoints fit everybody, they stop as all others (how they fail:
test_failing_ranks.py), and their messages travel while ranks compute."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import read_lines
from worlds import Worlds

from hpc_deepfake.strategies.mesh.schedule import bubble
from hpc_deepfake.train import checkpoint

pytestmark = [pytest.mark.mpi, pytest.mark.slow]


def options(data: Path, run: Path, *more: object) -> list[object]:
    return ["--data", data, "--run", run, "--device", "cpu", "--threads", 1, "--batch-size", 4,
            "--micro-batches", 3, "--no-report", *more]


def newest(run: Path) -> tuple[list[np.ndarray], dict]:
    return checkpoint.load(checkpoint.found(run / "checkpoints")[0])


def test_any_strategy_goes_on_from_any_other(worlds: Worlds, small_file: Path,
                                             tmp_path: Path) -> None:
    """A tensor mesh, a pipeline, one rank alone: an epoch each, weights and Adam's moments taken
    over, equal three epochs of one rank alone. The best model is an ordinary ``.keras``."""
    exact = ("--dropout", 0, "--sync-bn", "--precision", "float64", "--patience", 0)
    parts = tmp_path / "parts"
    for epoch, (ranks, mesh) in enumerate(
            [(2, ["--mesh", "tensor=2"]), (1, []), (3, ["--mesh", "pipeline=3"])], start=1):
        answer = worlds.run(ranks, "train", *options(
            small_file, parts, *exact, "--epochs", epoch, *mesh, *["--resume"] * (epoch > 1)),
            cwd=tmp_path)
        assert answer.code == 0, answer.output
    assert worlds.run(1, "train", *options(small_file, tmp_path / "whole", *exact, "--epochs", 3),
                      cwd=tmp_path).code == 0
    (got, got_meta), (wanted, wanted_meta) = newest(parts), newest(tmp_path / "whole")
    assert [one.shape for one in got] == [one.shape for one in wanted]
    # weights, moments, best weights and what they said of the validation part
    assert len(got) == 16 + 24 + 16 + 1
    assert got_meta["state"]["best_epoch"] == wanted_meta["state"]["best_epoch"]
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)
    from hpc_deepfake.network import model

    best = got[40:]
    saved = model.load(parts)
    found = [v.numpy() for name in ("conv1", "bn1", "conv2", "bn2", "dense1", "dense2")
             for v in saved.get_layer(name).trainable_weights]
    assert all(np.array_equal(one, other) for one, other in zip(found, best[:12], strict=True))
    assert json.loads((parts / "summary.json").read_text())["strategy"] == "mesh"


def test_messages_travel_while_ranks_compute(worlds: Worlds, data_file: Path,
                                             tmp_path: Path) -> None:
    """In the trace of a pipeline: activations arrive at the second stage while the first computes
    the next micro-batch. And the figures of a mesh are in the metrics."""
    trace = tmp_path / "trace.json"
    answer = worlds.run(2, "train", *options(
        data_file, tmp_path / "run", "--mesh", "pipeline=2", "--epochs", 2, "--trace", trace,
        "--schedule", "gpipe"), cwd=tmp_path)
    assert answer.code == 0, answer.output
    assert "mesh on pipeline=2: 2 ranks" in answer.output and "global batch 12" in answer.output
    events = json.loads(trace.read_text())["traceEvents"]
    work = [(event["ts"], event["ts"] + event["dur"]) for event in events
            if event["pid"] == 0 and event["name"] == "forward"]
    began = {event["id"]: event["ts"] for event in events if event["ph"] == "b"}
    arrived = [event["ts"] for event in events
               if event["ph"] == "e" and event["pid"] == 1 and "receive" in event["name"]]
    assert len(arrived) == len(work) > 10
    assert any(begin < moment < end for moment in arrived for begin, end in work)
    flights = [(began[event["id"]], event["ts"]) for event in events
               if event["ph"] == "e" and event["pid"] == 0 and "send" in event["name"]]
    assert any(sent < begin and end < gone for sent, gone in flights for begin, end in work)
    first, second = read_lines(tmp_path / "run" / "metrics.jsonl")
    activations = 9 * 4 * 4 * 63 * 63 * 32  # of 36 rows, and as many gradients
    for line in (first, second):
        assert line["bytes"]["point_to_point"] == 2 * activations
        assert line["bytes"]["allreduce"] == line["bytes"]["tensor"] == 0
    waited, formula, steps = (second["pipeline"][name]
                              for name in ("waited_s", "formula_s", "step_s"))
    print(f"bubble: {waited / steps:.2f} measured, {formula / steps:.2f} by the formula")
    assert 0 < waited < steps
    assert formula == pytest.approx(bubble(2, 3) * steps)


def test_a_signal_to_one_rank_stops_all(worlds: Worlds, small_file: Path, tmp_path: Path) -> None:
    """After the same step, with a checkpoint."""
    answer = worlds.run(2, "disturbed.py", "term", 1, 2, "--", *options(
        small_file, tmp_path / "run", "--strategy", "mesh", "--mesh", "pipeline=2",
        "--micro-batches", 2, "--batch-size", 3), cwd=tmp_path)
    assert answer.code == 75, answer.output[-2000:]
    assert "stopped by" in answer.output
    assert newest(tmp_path / "run")[1]["state"]["step"] == 4
