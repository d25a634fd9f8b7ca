"""Asynchronous training: what it computes, how old its gradients are, and how it ends."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from conftest import read_lines
from worlds import Worlds

from hpc_deepfake.train import checkpoint

pytestmark = [pytest.mark.mpi, pytest.mark.slow]
TRAINED = 28  # weights, and of plain gradient descent no more


class Trained(NamedTuple):
    """A finished training: its epochs' lines, and the last checkpoint."""

    lines: list[dict]
    arrays: list[np.ndarray]

    @property
    def losses(self) -> np.ndarray:
        return np.array([[line["loss"], line["val_loss"]] for line in self.lines])

    @property
    def ages(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for line in self.lines:
            for age, count in line["staleness"].items():
                found[int(age)] = found.get(int(age), 0) + count
        return found


Run = Callable[..., dict[str, Trained]]


@pytest.fixture(scope="module")
def run(worlds: Worlds, small_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Train cases of asynchronous.py, by name."""

    def run(*words: str, ranks: int, strategy: str = "async", servers: int = 1,
            ) -> dict[str, Trained]:
        folder = tmp_path_factory.mktemp(strategy)
        answer = worlds.run(ranks, "asynchronous.py", small_file, folder, strategy, servers, *words,
                            cwd=folder)
        assert answer.code == 0, answer.output
        return {word: Trained(
            read_lines(folder / word / "metrics.jsonl"),
            checkpoint.load_newest(folder / word / "checkpoints")[0]) for word in words}

    return run


@pytest.fixture(scope="module")
def sequential(run: Run) -> dict[str, Trained]:
    return run("sgd", "adam", "accumulate", "network", "averaged", ranks=1, strategy="sequential")


def equal(one: Trained, other: Trained, rtol: float = 1e-9) -> bool:
    """Losses, and all that the checkpoint holds: weights, moments, statistics, best weights."""
    return (len(one.arrays) == len(other.arrays)
            and np.allclose(one.losses, other.losses, rtol=rtol, atol=0)
            and all(np.allclose(a, b, rtol=rtol, atol=1e-11)
                    for a, b in zip(one.arrays, other.arrays, strict=True)))


@pytest.fixture(scope="module")
def one_worker(run: Run) -> dict[str, Trained]:
    return run("sgd", "adam", "fp16", "rate", "network", ranks=2)


@pytest.mark.parametrize("word", ["sgd", "adam", "network"])
def test_one_worker_is_sequential_training(one_worker: dict[str, Trained],
                                           sequential: dict[str, Trained], word: str) -> None:
    check_bound_0(word, one_worker[word], sequential[word])


@pytest.mark.parametrize(("ranks", "servers", "word"), [
    (3, 1, "sgd"), (4, 2, "accumulate"), (4, 2, "averaged"),
    (4, 2, "network")])
def test_bound_0_is_sequential_training(run: Run, sequential: dict[str, Trained], ranks: int,
                                        servers: int, word: str) -> None:
    """With any number of workers, who then take turns, and of servers, each of which decays and
    averages its piece of the weights."""
    check_bound_0(word, run(word, ranks=ranks, servers=servers)[word], sequential[word])


def check_bound_0(word: str, trained: Trained, wanted: Trained) -> None:
    """Gradient descent in float64 within rtol 1e-9, dropout, warm-up and micro-batches included,
    and the losses of Adam in float32 within 1e-3; no gradient is old."""
    assert set(trained.ages) == {0}
    if word == "adam":
        np.testing.assert_allclose(trained.losses, wanted.losses, rtol=1e-3)
        assert len(trained.arrays) == len(wanted.arrays) > TRAINED
    else:
        assert equal(trained, wanted)


def test_mistakes_are_found(run: Run, sequential: dict[str, Trained]) -> None:
    """Gradients that are one update old, statistics that nobody averages, and a server's piece
    that lies one number beside its place: the comparison above fails for each."""
    found = run("stale", "statistics", "pieces", ranks=4, servers=2)
    assert max(found["stale"].ages) == 1
    for word, trained in found.items():
        assert not equal(trained, sequential["sgd"], rtol=1e-6), word


def test_half_precision_and_rate(one_worker: dict[str, Trained],
                                 sequential: dict[str, Trained]) -> None:
    """fp16 gradients: nearly the same losses, and not the very same. A learning rate over the
    gradient's age changes nothing where no gradient is old."""
    half = one_worker["fp16"]
    np.testing.assert_allclose(half.losses[0, 0], sequential["adam"].losses[0, 0],
                               rtol=2e-2)
    assert not np.array_equal(half.losses, sequential["adam"].losses)
    assert equal(one_worker["rate"], sequential["sgd"])


def test_staleness_is_measured_and_bounded(run: Run) -> None:
    """Two workers, one twenty times slower: every update is counted once, with its age; the bound
    holds, and without one the slow worker's gradients are older than that."""
    found = run("bounded", "free", ranks=3)
    for trained in found.values():
        assert sum(trained.ages.values()) == trained.lines[-1]["step"] == 2 * 12
        assert max(trained.ages) > 0
    assert max(found["bounded"].ages) <= 2
    assert max(found["free"].ages) > 2


@pytest.mark.parametrize(("strategy", "ranks"), [("async", 3), ("local-sgd", 2)])
def test_a_diverging_rank_ends_all(worlds: Worlds, small_file: Path, tmp_path: Path, strategy: str,
                                   ranks: int) -> None:
    """Servers too, in the same way; the step and the rank are those of the rank that had it first,
    although the others learn of it later. Nothing of it is kept."""
    answer = worlds.run(ranks, "asynchronous.py", small_file, tmp_path, strategy, 1, "diverging",
                        cwd=tmp_path)
    assert answer.code == 0, answer.output
    run = tmp_path / "diverging"
    texts = [(run / f"diverged-{rank}").read_text() for rank in range(ranks)]
    assert "Last good checkpoint: none. No model was written." in texts[0]
    (step, rank), = {re.search(r"since step (\d+), first on rank (\d)", text).groups()
                     for text in texts}
    assert 1 < int(step) <= 12
    assert strategy != "async" or rank != "0", "a server computes no gradient"
    assert not {"metrics.jsonl", "model.keras", "summary.json"} & set(os.listdir(run))
    assert not checkpoint.found(run / "checkpoints")


def test_local_sgd_that_averages_each_step_is_sync(run: Run) -> None:
    """With plain gradient descent."""
    local = run("local", ranks=4, strategy="local-sgd")["local"]
    sync = run("sgd", ranks=4, strategy="sync")["sgd"]
    assert equal(local, sync)


def test_local_sgd_alone_is_sequential(run: Run, sequential: dict[str, Trained]) -> None:
    """Micro-batches and clipping included."""
    found = run("sgd", "accumulate", ranks=1, strategy="local-sgd")
    assert all(equal(found[word], sequential[word]) for word in found)


def test_any_strategy_goes_on_with_anothers_run(worlds: Worlds, small_file: Path,
                                                tmp_path: Path) -> None:
    """A run that changes its strategy after each epoch: the next one takes up weights and best
    epoch, so the figures of the best weights stay what they were, and trains on. Where no epoch
    is left, what trained the run stays in its summary."""
    run = tmp_path / "run"

    def train(epochs: int, strategy: str, ranks: int, *more: str) -> dict:
        answer = worlds.run(ranks, "train", "--data", small_file, "--run", run, "--epochs", epochs,
                            "--batch-size", 3, "--threads", 1, "--device", "cpu", "--resume",
                            "--no-report", "--strategy", strategy, *more, cwd=tmp_path)
        assert answer.code == 0, answer.output
        return json.loads((run / "summary.json").read_text())

    before = train(1, "async", 4, "--servers", "2")
    same = train(1, "local-sgd", 2)
    assert same["strategy"] == "async" and same["ranks"] == 4 and same["epochs_before"] == 1
    assert same["steps"] == before["steps"]
    assert same["validation"] == pytest.approx(before["validation"], rel=1e-5)
    averaged = train(2, "local-sgd", 2)
    assert averaged["strategy"] == "local-sgd" and averaged["steps"] > same["steps"]
    after = train(3, "async", 3)
    assert after["strategy"] == "async" and after["steps"] > averaged["steps"]


@pytest.mark.parametrize(("what", "rank"), [("usr1", 0), ("term", 2)])
def test_a_signal_to_one_rank_stops_all_with_nothing_lost(
        worlds: Worlds, small_file: Path, tmp_path: Path, what: str, rank: int) -> None:
    """To a server or a worker: what is under way is finished and saved, and the resumed run does
    the rest: 12 updates an epoch in all."""
    run = tmp_path / "run"
    options = ("--data", small_file, "--run", run, "--strategy", "async", "--epochs", 2,
               "--batch-size", 3, "--device", "cpu", "--threads", 1, "--no-report",
               "--max-staleness", 0)
    stopped = worlds.run(3, "disturbed.py", what, rank, 3, "--", *options, cwd=tmp_path)
    assert stopped.code == 75, stopped.output
    _, meta, _ = checkpoint.load_newest(run / "checkpoints")
    state = meta["state"]
    assert 3 < state["step"] < 24
    assert state["rows_done"] == 3 * (state["step"] - 12 * (state["epoch"] - 1))
    answer = worlds.run(3, "train", *options, "--resume", cwd=tmp_path)
    assert answer.code == 0, answer.output
    lines = read_lines(run / "metrics.jsonl")
    assert [(line["step"], sum(line["staleness"].values())) for line in lines] == [
        (12, 12), (24, 12)], "of the epoch's first part too"
