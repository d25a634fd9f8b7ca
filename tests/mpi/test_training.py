"""Stopping, going on, and failing: nothing is lost, nothing hangs, everything says why."""

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
from worlds import Worlds

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network import model
from hpc_deepfake.network.pictures import Pictures
from hpc_deepfake.report import summary
from hpc_deepfake.train import checkpoint, divergence
from preprocessing.store import open_header

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


@pytest.mark.parametrize(("strategy", "ranks", "more"), [
    ("sequential", 1, ("--optimizer", "lamb", "--rate-schedule", "cosine", "--ema", "0.8")),
    ("sync", 2, ("--rate-schedule", "plateau", "--rate-epochs", "1", "--class-weight", "balanced",
                 "--label-smoothing", "0.1", "--learning-rate", "0.01")),
    ("sync", 4, ()),
    ("local-sgd", 2, ("--optimizer", "sgd", "--momentum", "0.9", "--nesterov", "--ema", "0.8")),
    ("async", 2, ("--optimizer", "adamw", "--rate-schedule", "step", "--rate-epochs", "1", "--ema",
                  "0.8")),
    ("hybrid", 4, ("--shard-group", "2")), ("mesh", 2, ("--mesh", "tensor=2", "--ema", "0.8"))])
def test_a_resumed_run_is_the_undisturbed_one_bit_for_bit(
        worlds: Worlds, small_file: Path, tmp_path: Path, strategy: str, ranks: int,
        more: tuple[str, ...]) -> None:
    """Weights, optimizer and averages, best weights, early stopping, learning rate and metrics,
    stopped in mid-epoch by a signal to one rank, and stopped again at an epoch's end. (Async with
    one worker: with more, chance decides who is first.)"""
    answer = worlds.run(ranks, "resumed.py", small_file, tmp_path, strategy, *more, cwd=tmp_path)
    assert answer.code == 0, answer.output
    (whole, whole_meta), (parts, parts_meta) = newest(tmp_path / "whole"), \
        newest(tmp_path / "parts")
    assert len(whole) == len(parts) > 16
    for one, other in zip(whole, parts, strict=True):
        assert one.dtype == other.dtype and np.array_equal(one, other)
    for meta in (whole_meta, parts_meta):
        for timing in ("seconds", "rates", "wall", "wall_rates"):
            meta["state"].pop(timing)
    assert whole_meta == parts_meta
    lines = [read_lines(tmp_path / name / "metrics.jsonl")
             for name in ("whole", "parts")]
    assert len(lines[0]) == len(lines[1]) == 3
    for one, other in zip(*lines, strict=True):
        for timing in ("seconds", "ranks", "images_per_s", "wall_s", "wall_images_per_s", "server",
                       "pipeline"):
            one.pop(timing, None), other.pop(timing, None)
        assert one == other
    _check_curves(tmp_path / "parts", lines[1], strategy,
                  more[more.index("--rate-schedule") + 1] if "--rate-schedule" in more else "")
    for name in ("model.json", "model.pictures.h5"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    card = model.read_card(tmp_path / "parts")
    assert card.validation is not None and card.validation["epoch"] == min(
        lines[0], key=lambda line: line["val_loss"])["epoch"]
    assert card.trained_on is not None and card.trained_on["likeness"]["pictures"] \
        == card.trained_on["train"] > 0
    _check_list(tmp_path / "parts", small_file)


def _check_curves(run: Path, lines: list[dict], strategy: str, schedule: str) -> None:
    """The event files of three processes have each point once, and those of the metrics."""
    from hpc_deepfake.train import events

    points: dict[str, dict[tuple[str, int], float]] = {}
    for part in ("train", "validation"):
        read = [event for file in events.found(run / "tensorboard" / part)
                for event in events.read(file)]
        assert [bool(event.session_log.status) for event in read if not event.summary.value] == [
            False, False, True, False, True], "file versions, and what a resumed run drops"
        values = [(value.tag, event.step) for event in read for value in event.summary.value]
        assert len(values) == len(set(values))
        points[part] = {(value.tag, event.step): value.simple_value
                        for event in read for value in event.summary.value}
    for line in lines:
        step = line["step"]
        assert points["train"]["epoch/loss", step] == pytest.approx(line["loss"])
        assert points["train"]["seconds/compute", step] > 0
        assert points["validation"]["epoch/auc", step] == pytest.approx(line["val_auc"])
        assert {("roc", step), ("precision_recall", step)} <= points["validation"].keys()
        assert (("pictures", step) in points["validation"]) == line["best"]
    steps = [step for tag, step in points["train"] if tag == "step/loss"]
    last = lines[-1]["step"]
    assert steps == sorted(steps) and steps[-1] == last
    if strategy not in ("async", "local-sgd"):  # which report several steps at once
        assert steps == list(range(1, last + 1))
        for line, before in zip(lines, [0, *(line["step"] for line in lines)], strict=False):
            rows = np.array([points["train"]["step/accuracy", step]
                             for step in range(before + 1, line["step"] + 1)])
            assert rows.min() <= line["accuracy"] <= rows.max()
    rates = [points["train"]["step/learning_rate", step] for step in steps]
    if schedule == "cosine":
        done = (last - 1) * 3 / (3 * 36)
        assert rates[-1] == pytest.approx(1e-4 * (1 + np.cos(np.pi * done)) / 2)
    elif schedule == "step":
        assert rates[-1] == pytest.approx(1e-4 * 0.1**2)
    elif schedule == "plateau":
        factors = [line["rate_factor"] for line in lines]
        assert rates[-1] == pytest.approx(0.01 * factors[-1])
        assert factors[:2] == [1, 1] and factors[2] == (1 if lines[1]["best"] else 0.1)
    else:
        assert rates[-1] == pytest.approx(1e-4 / (1 + 1e-6 * (last - 1))) and rates[0] < rates[-1]


def _check_list(run: Path, data_file: Path) -> None:
    """The list of training pictures has those of the data file, whatever the number of ranks."""
    listed, header = Pictures.read(run), open_header(data_file)
    assert listed is not None
    rows = np.flatnonzero(np.array(header.array("split")) < 2)
    assert np.array_equal(listed.digest, header.array("digest")[rows])
    assert np.array_equal(listed.part, header.array("split")[rows])
    ela, raw = header.array("ela"), header.array("raw")
    expected = Pictures.of(ela[rows], raw[rows], None, listed.part)
    assert np.array_equal(listed.row, expected.row)
    assert np.array_equal(listed.thumb, expected.thumb)
    assert np.array_equal(listed.hash, expected.hash)


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


@pytest.mark.parametrize(("what", "rank", "env"), [
    ("term", 0, TOY), ("term", 1, TOY), ("usr1", 1, {})])
def test_a_signal_to_one_rank_stops_all_after_the_same_step(
        small_file: Path, tmp_path: Path, what: str, rank: int, env: dict[str, str]) -> None:
    code, text = finish(start("disturbed.py", what, rank, 3, *options(
        small_file, tmp_path / "run"), ranks=2, cwd=tmp_path, env=env))
    assert code == 75, text
    # the flag, raised within step 3, travels with the reduction of step 4
    assert newest(tmp_path / "run")[1]["state"]["step"] == 5


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
