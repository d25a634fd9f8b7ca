"""A run that is stopped and goes on is the undisturbed one, bit for bit, with every strategy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import read_lines
from worlds import Worlds

from hpc_deepfake.network import model
from hpc_deepfake.network.pictures import Pictures
from hpc_deepfake.train import checkpoint
from preprocessing.store import open_header

pytestmark = [pytest.mark.mpi, pytest.mark.slow]


def newest(run: Path) -> tuple[list[np.ndarray], dict]:
    return checkpoint.load(checkpoint.found(run / "checkpoints")[0])


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
