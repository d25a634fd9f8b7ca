"""Stopping and failing: nothing is lost, nothing hangs, everything says why. Going on, bit for bit:
test_resuming.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import read_lines, run_program
from speed import limit

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.report import summary
from hpc_deepfake.train import checkpoint, divergence

HERE = Path(__file__).parent
pytestmark = [pytest.mark.mpi, pytest.mark.slow]


TOY = {"PYTHONPATH": str(HERE.parent / "toy")}  # where the strategy isn't the point


def start(program: str, *arguments: object, ranks: int, cwd: Path,
          env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["mpirun", "-np", str(ranks), sys.executable, HERE / program, *map(str, arguments)],
        cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})


def finish(process: subprocess.Popen[str], timeout: float = 300) -> tuple[int, str]:
    try:
        out, err = process.communicate(timeout=limit(timeout))
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out + err


def newest(run: Path) -> tuple[list[np.ndarray], dict]:
    return checkpoint.load(checkpoint.found(run / "checkpoints")[0])


def options(data: Path, run: Path, *more: object) -> list[str]:
    return ["--", *map(str, ("--data", data, "--run", run, "--epochs", 2, "--batch-size", 3,
                             "--device", "cpu", "--threads", 1, *more))]


def test_a_signal_stops_all_ranks_with_a_checkpoint(data_file: Path, tmp_path: Path) -> None:
    """USR1 to mpirun reaches the ranks; a save of 5 s is waited for; exit code 75; another number
    of ranks goes on from there, after a damaged newest checkpoint was passed over."""
    run = tmp_path / "run"
    process = start("disturbed.py", "nothing", 0, 0, 5, *options(data_file, run, "--epochs", 50,
                    "--patience", 0, "--checkpoint-minutes", 0), ranks=2, cwd=tmp_path, env=TOY)
    deadline = time.monotonic() + limit(120)
    while not (run / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    code, text = finish(process)
    assert code == 75, text
    assert "stopped by SIGUSR1" in text and "--resume" in text
    assert text.count("saved") == len(checkpoint.found(run / "checkpoints")) >= 1
    _, meta = newest(run)
    step, epoch = meta["state"]["step"], meta["state"]["epoch"]

    damaged = run / "checkpoints" / f"step-{step + 100:09d}.npz"
    whole = checkpoint.found(run / "checkpoints")[0].read_bytes()
    damaged.write_bytes(whole[:-5000])
    done = run_program("hpc_deepfake.train", *options(
        data_file, run, "--resume", "--epochs", epoch + 1)[1:], ranks=3, cwd=tmp_path, env=TOY)
    assert done.returncode == 0, done.stderr
    assert f"warning: {damaged} is damaged" in done.stderr
    assert f"keeping this one as {damaged.name}.damaged" in done.stderr and not damaged.exists()
    assert f"in epoch {epoch} after step {step}" in done.stdout
    epochs = [line["epoch"] for line in read_lines(run / "metrics.jsonl")]
    assert epochs == list(range(1, epoch + 2))
    assert json.loads((run / "summary.json").read_text())["epochs"] == epoch + 1

    done = run_program("hpc_deepfake.train", *options(
        data_file, run, "--resume", "--learning-rate", 0.5)[1:], ranks=2, cwd=tmp_path, env=TOY)
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1 and "--learning-rate 0.0001" in done.stderr


@pytest.mark.parametrize(("what", "rank", "env", "steps"), [
    ("term", 0, TOY, 5), ("term", 1, TOY, 5), ("usr1", 1, {}, 6)])
def test_a_signal_to_one_rank_stops_all_after_the_same_step(
        small_file: Path, tmp_path: Path, what: str, rank: int, env: dict[str, str],
        steps: int) -> None:
    code, text = finish(start("disturbed.py", what, rank, 3, *options(
        small_file, tmp_path / "run"), ranks=2, cwd=tmp_path, env=env))
    assert code == 75, text
    # the flag, raised within step 3, travels with the reduction of step 4, which the network's
    # strategies read when step 5 is launched
    assert newest(tmp_path / "run")[1]["state"]["step"] == steps


@pytest.mark.parametrize(("what", "message", "env"), [
    ("raise", "ArithmeticError: a test's mistake", TOY), ("kill", "", {})])
def test_one_ranks_failure_ends_the_job(small_file: Path, tmp_path: Path, what: str,
                                        message: str, env: dict[str, str]) -> None:
    """Within 30 s of it, with that rank's message, once; the last checkpoint stays whole."""
    code, text = finish(start("disturbed.py", what, 1, 9, *options(
        small_file, tmp_path / "run", "--checkpoint-minutes", 0), ranks=2, cwd=tmp_path,
        env=env), timeout=120)
    assert code not in (0, 2, 75)
    if message:
        assert text.count(message) == 1 and text.count("rank 1 of 2") == 1
    assert newest(tmp_path / "run")[1]["state"]["epoch"] == 2


@pytest.mark.parametrize(("diverges", "found", "kept"), [
    ("1 8", "loss, gradients or batch statistics are not finite (NaN or infinity) since step 9, "
            "first on rank 1 on {host}.", 6),
    # a weight, in the last step of the first epoch
    ("weights 0 5", "weights or optimizer state are not finite (NaN or infinity) since step 6, "
                    "first on rank 0 on {host}.", None)])
def test_a_diverged_training_ends_with_its_own_code(data_file: Path, tmp_path: Path, diverges: str,
                                                    found: str, kept: int | None) -> None:
    """3, with one message that names step, rank and what is left; nothing that isn't finite is
    kept, and what is left of the epoch before is whole."""
    run, outcome = tmp_path / "run", tmp_path / "outcome"
    code, text = finish(start(
        "disturbed.py", "nothing", 0, 0, *options(data_file, run, "--checkpoint-minutes", 0),
        ranks=2, cwd=tmp_path, env={**TOY, "TOY_DIVERGES": diverges,
                                    "HPC_DEEPFAKE_OUTCOME_FILE": str(outcome)}))
    assert code == 3 and outcome.read_text() == "3\n", text
    assert text.count("error:") == 1 and "Traceback" not in text
    assert "error: the training diverged: " + found.format(host=os.uname().nodename) in text
    assert "(another --run) with a lower --learning-rate, such as 1e-05; --clip-norm 1 or " \
        "--warmup-steps 500 may help in addition" in text
    if kept is None:
        assert "Last good checkpoint: none. No model was written." in text
        assert not (run / "model.keras").exists() and not checkpoint.found(run / "checkpoints")
        assert not (run / "metrics.jsonl").exists()
    else:
        saved, = checkpoint.found(run / "checkpoints")
        assert f"Last good checkpoint: {saved}. {run / 'model.keras'} has the finite weights of " \
               "epoch 1." in text
        arrays, meta = checkpoint.load(saved)
        assert meta["state"]["step"] == kept
        assert all(np.isfinite(array).all() for array in arrays)
        assert np.isfinite(np.load(run / "model.keras")).all()
    assert not (run / "summary.json").exists()
    step, message = divergence.recorded(run) or (0, "")
    assert f"since step {step}, first on rank " in message
    assert f"error: {message}" in text
    with pytest.raises(InputError, match="run: the training diverged: "):
        summary.main([str(run)])


def test_interrupt_prints_one_line(data_file: Path, tmp_path: Path) -> None:
    """Ctrl-C on a run of one process: code 130, no traceback."""
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "hpc_deepfake.train", *options(
            data_file, run, "--epochs", 50, "--patience", 0)[1:]], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **TOY},
        # a test run in the background ignores Ctrl-C, and so would its children
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL))
    while not (run / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=limit(60))
    assert process.returncode == 130
    assert len(err.strip().splitlines()) == 1 and "interrupted" in err


def test_a_step_has_two_reductions_by_the_ring_that_was_asked_for(small_file: Path,
                                                                  tmp_path: Path) -> None:
    """Horovod's timeline: in each step the dense kernel and the rest, which only can be handed over
    later (test_equivalence.py). The ring is forced and recorded."""
    timeline = tmp_path / "timeline.json"
    code, text = finish(start("disturbed.py", "nothing", 0, 0, *options(
        small_file, tmp_path / "run", "--epochs", 1, "--allreduce", "ring"), ranks=2,
        cwd=tmp_path, env={"HOROVOD_TIMELINE": str(timeline)}))
    assert code == 0, text
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["variables"]["OMPI_MCA_coll_tuned_allreduce_algorithm"] == "4"
    assert environment["variables"]["HOROVOD_FUSION_THRESHOLD"] == "0"
    assert "ring" in json.loads((tmp_path / "run" / "summary.json").read_text())["allreduce"]
    written = timeline.read_text().rstrip().rstrip(",").removesuffix("]")
    events = [event for event in json.loads(written + "]") if event]
    names = {event["pid"]: event["args"].get("name", "") for event in events
             if event.get("name") == "process_name"}
    begun = [names[event["pid"]].split("/")[-1] for event in events
             if event.get("name") == "NEGOTIATE_ALLREDUCE" and event["ph"] == "B"]
    assert begun.count("dense_kernel") == begun.count("rest") == 6


def test_no_data_is_one_message(tmp_path: Path) -> None:
    """The commands of the README, without arguments and without data: code 2, one message from
    rank 0 with a line to paste, on 8 ranks."""
    for module in ("preprocessing", "hpc_deepfake.train"):
        done = run_program(module, ranks=8, cwd=tmp_path, env={"HPC_DEEPFAKE_DATA": ""})
        assert done.returncode == 2
        assert done.stderr.count("error:") == 1
        assert "\n  " in done.stderr.split("error:")[1].split("-----")[0]
