"""Ranks of ``async`` and of a mesh that die or stall: the job ends, and says who it was. And what
is no mesh is refused before any rank computes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import run_program
from speed import limit

from hpc_deepfake.train import checkpoint

PROGRAM = Path(__file__).with_name("disturbed.py")
HOST = os.uname().nodename
# no less than compiling the first step takes; more where other tests run beside
STALLS = "--stall-warning", max(3, limit(1.5)), "--stall-limit", max(8, limit(4))
pytestmark = [pytest.mark.mpi, pytest.mark.slow]


def disturbed(what: str, rank: int, at: int, ranks: int, run: Path,
              *options: object) -> tuple[int, str]:
    """Exit code and output of a training in which something goes wrong (disturbed.py)."""
    done = subprocess.run(
        ["mpirun", "-np", str(ranks), sys.executable, PROGRAM, what, str(rank), str(at), "--",
         "--run", run, "--batch-size", "3", "--device", "cpu", "--threads", "1", "--no-report",
         *map(str, options)], cwd=run.parent, capture_output=True, text=True,
        timeout=limit(300), stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout + done.stderr


def asynchronous(data: Path) -> list[object]:
    """One server and two workers, who take turns: else one that is slow to start may find no work
    left."""
    return ["--data", data, "--strategy", "async", "--epochs", 2, "--max-staleness", 0]


def mesh(data: Path, shape: str) -> list[object]:
    return ["--data", data, "--strategy", "mesh", "--mesh", shape, "--epochs", 9,
            "--micro-batches", 2]


@pytest.mark.parametrize(("what", "rank", "words"), [("raise", 0, "rank 0 of 3"), ("kill", 1, "")])
def test_any_ranks_death_ends_async(small_file: Path, tmp_path: Path, what: str, rank: int,
                                    words: str) -> None:
    """A server's as a worker's, in the second epoch; the first one's checkpoint stays whole."""
    at = 15 if rank == 0 else 8
    code, text = disturbed(what, rank, at, 3, tmp_path / "run", *asynchronous(small_file),
                           "--checkpoint-minutes", 0)
    assert code not in (0, 2, 75)
    assert words in text and ("a test's mistake" in text) == (what == "raise")
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints")[1]["state"]["epoch"] == 2


@pytest.mark.parametrize(("what", "rank", "words"), [
    ("sleep", 1, f"rank 1 on {HOST} has been training (epoch 1"),
    ("freeze", 0, f"rank 0 on {HOST} gives no sign of life")])
def test_a_stalled_rank_of_async_is_named_and_the_job_ended(
        small_file: Path, tmp_path: Path, what: str, rank: int, words: str) -> None:
    """A worker whose gradient the server waits for, and a server that is stopped."""
    code, text = disturbed(what, rank, 2, 3, tmp_path / "run", *asynchronous(small_file), *STALLS)
    assert code not in (0, 2, 75)
    assert words in text
    assert "ending the job" in text


def test_a_rank_of_a_mesh_that_dies_ends_the_job(small_file: Path, tmp_path: Path) -> None:
    code, _ = disturbed("kill", 1, 2, 2, tmp_path / "run", *mesh(small_file, "pipeline=2"), *STALLS)
    assert code not in (0, 2, 75)


@pytest.mark.parametrize(("ranks", "shape", "rank"), [
    (2, "pipeline=2", 0), (4, "data=2,tensor=2", 3)])
def test_a_rank_of_a_mesh_that_sleeps_within_a_step_is_named(
        small_file: Path, tmp_path: Path, ranks: int, shape: str, rank: int) -> None:
    """Also where the others wait within TensorFlow, and the job is ended."""
    code, text = disturbed("sleep", rank, 2, ranks, tmp_path / "run", *mesh(small_file, shape),
                           *STALLS)
    assert code not in (0, 2, 75)
    assert f"rank {rank} on {HOST} has been training (epoch 1" in text
    last, = (line for line in text.splitlines() if line.endswith("ending the job"))
    assert last.startswith(f"rank {rank} on ")


@pytest.mark.parametrize(("ranks", "wrong", "message"), [
    (2, ("--mesh", "tensor=3"), "tensor=3 needs 1 · 3 · 1 = 3 ranks, but there are 2"),
    (1, ("--strategy", "mesh"), "say how the ranks share the work"),
    (2, ("--mesh", "pipeline=2", "--compression", "fp16"), "does not support --compression"),
    (2, ("--mesh", "data=2", "--strategy", "sync"), "does not support --mesh")])
def test_a_wrong_mesh_is_one_message(small_file: Path, tmp_path: Path, ranks: int,
                                     wrong: tuple[str, ...], message: str) -> None:
    """Before TensorFlow starts; code 2."""
    done = run_program("hpc_deepfake.train", "--data", small_file, "--run", tmp_path / "run",
                       "--device", "cpu", "--micro-batches", "3", *wrong, ranks=ranks, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1 and message in done.stderr
    assert not (tmp_path / "run").exists()
