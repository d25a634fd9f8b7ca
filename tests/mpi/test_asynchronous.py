"""Asynchronous training: what it computes, how old its gradients are, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from hpc_deepfake import checkpoint
from hpc_deepfake.strategies.sequential import Sequential

PROGRAM = Path(__file__).with_name("asynchronous.py")
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
def run(data_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Train cases of asynchronous.py, by name."""

    def run(*words: str, ranks: int, strategy: str = "async", servers: int = 1,
            ) -> dict[str, Trained]:
        folder = tmp_path_factory.mktemp(strategy)
        done = subprocess.run(
            ["mpirun", "-np", str(ranks), sys.executable, PROGRAM, data_file, folder, strategy,
             str(servers), *words], capture_output=True, text=True, timeout=600, env=os.environ)
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
        return {word: Trained(
            [json.loads(line) for line in (folder / word / "metrics.jsonl").open()],
            checkpoint.load_newest(folder / word / "checkpoints")[0]) for word in words}

    return run


@pytest.fixture(scope="module")
def sequential(run: Run) -> dict[str, Trained]:
    return run("sgd", "adam", "accumulate", "fp16", ranks=1, strategy="sequential")


def equal(one: Trained, other: Trained, rtol: float = 1e-9) -> bool:
    """Losses, and all that the checkpoint holds: weights, moments, statistics, best weights."""
    return (len(one.arrays) == len(other.arrays)
            and np.allclose(one.losses, other.losses, rtol=rtol, atol=0)
            and all(np.allclose(a, b, rtol=rtol, atol=1e-11)
                    for a, b in zip(one.arrays, other.arrays, strict=True)))


@pytest.mark.parametrize(("ranks", "servers"), [(2, 1), (3, 1), (3, 2), (4, 2)])
def test_bound_0_is_sequential_training(run: Run, sequential: dict[str, Trained], ranks: int,
                                        servers: int) -> None:
    """With any number of workers, who then take turns, and of servers: gradient descent in float64
    within rtol 1e-9, dropout, warm-up, ragged batches and micro-batches included, and the losses
    of Adam in float32 within 1e-3."""
    found = run("sgd", "accumulate", "adam", ranks=ranks, servers=servers)
    for word in ("sgd", "accumulate"):
        assert equal(found[word], sequential[word])
    np.testing.assert_allclose(found["adam"].losses, sequential["adam"].losses, rtol=1e-3)
    assert len(found["adam"].arrays) == len(sequential["adam"].arrays) > TRAINED
    assert found["sgd"].ages == {0: 2 * 12}


def test_mistakes_are_found(run: Run, sequential: dict[str, Trained]) -> None:
    """Gradients that are one update old, statistics that nobody averages, and a server's piece
    that lies one number beside its place: the comparison above fails for each."""
    found = run("stale", "statistics", "pieces", ranks=4, servers=2)
    assert max(found["stale"].ages) == 1
    for word, trained in found.items():
        assert not equal(trained, sequential["sgd"], rtol=1e-6), word


def test_half_precision_and_rate(run: Run, sequential: dict[str, Trained]) -> None:
    """fp16 gradients: nearly the same losses, and not the very same. A learning rate over the
    gradient's age changes nothing where no gradient is old."""
    found = run("fp16", "rate", ranks=2)
    np.testing.assert_allclose(found["fp16"].losses[0, 0], sequential["adam"].losses[0, 0],
                               rtol=2e-2)
    assert not np.array_equal(found["fp16"].losses, sequential["adam"].losses)
    assert equal(found["rate"], sequential["sgd"])


def test_staleness_is_measured_and_bounded(run: Run) -> None:
    """Two workers, one twenty times slower: every update is counted once, with its age; the bound
    holds, and without one the slow worker's gradients are older than that."""
    found = run("bounded", "free", ranks=3)
    for trained in found.values():
        assert sum(trained.ages.values()) == trained.lines[-1]["step"] == 2 * 12
        assert max(trained.ages) > 0
    assert max(found["bounded"].ages) <= 2
    assert max(found["free"].ages) > 2


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_local_sgd_that_averages_each_step_is_sync(run: Run, ranks: int) -> None:
    """With plain gradient descent, unequal shares and ranks without rows among them."""
    local = run("local", ranks=ranks, strategy="local-sgd")["local"]
    sync = run("sgd", ranks=ranks, strategy="sync")["sgd"]
    assert equal(local, sync)


def test_local_sgd_alone_is_sequential(run: Run, sequential: dict[str, Trained]) -> None:
    assert equal(run("sgd", ranks=1, strategy="local-sgd")["sgd"], sequential["sgd"])


def test_checkpoints_are_sequentials() -> None:
    """As many arrays in the same order: one strategy's run can go on with another's."""
    assert Sequential.state.__qualname__ == "Strategy.state"
