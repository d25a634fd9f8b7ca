"""What ``--tensorboard`` writes, read back; and what a resumed run drops."""

from __future__ import annotations

import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hpc_deepfake.core.errors import InputError, OutputError
from hpc_deepfake.metrics import evaluate
from hpc_deepfake.strategies.base import Done
from hpc_deepfake.train.loop import State
from hpc_deepfake.train.tensorboard import Board, check

pytestmark = pytest.mark.slow  # TensorFlow starts
LABELS = np.array([0, 1] * 6)
PROBABILITIES = np.linspace(0.05, 0.95, 12)
TRAIN = {"step/loss", "step/accuracy", "step/learning_rate"}


def board(folder: Path, state: State | None = None) -> Board:
    """A board of 12 validation rows, whose pictures have the brightness of their row."""
    from hpc_deepfake.network.schedule import Schedule

    pictures = np.broadcast_to(np.arange(12, dtype=np.uint8)[:, None, None, None] * 20,
                               (12, 128, 128, 3))
    data = SimpleNamespace(rows=lambda part: np.arange(12), labels=LABELS, feature="raw",
                           header=SimpleNamespace(features=("raw",)),
                           batch=lambda rows: (pictures[rows], LABELS[rows]))
    return Board(folder, state or State(), Schedule(1e-3, 0.5), {"batch_size": 4, "run": "a|b"},
                 data, 0)


def write(shown: Board, steps: range, epochs: dict[int, int]) -> None:
    """Write steps, and epochs (by the step at which each ends)."""
    for step in steps:
        shown.steps(step, Done(1, 4, 2.0 * step, 1.0))
        if step in epochs:
            figures = {f"val_{name}": value
                       for name, value in evaluate(PROBABILITIES, LABELS).items()}
            shown.epoch({"step": step, "epoch": epochs[step], "loss": 0.5, "accuracy": 0.75,
                         "images_per_s": 9.0, "wall_images_per_s": 8.0, "best": True,
                         "seconds": {"compute": 3.0}, **figures}, PROBABILITIES, LABELS)
    shown.close()


def values(folder: Path) -> list[tuple[int, Any]]:
    """All values of a folder with their steps, in order; TensorFlow checks the checksums."""
    import tensorflow as tf

    from hpc_deepfake.train import events

    checked = tf.data.TFRecordDataset([str(file) for file in events.found(folder)])
    read = [tf.compat.v1.Event.FromString(record) for record in checked.as_numpy_iterator()]
    assert read == [event for file in events.found(folder) for event in events.read(file)]
    return [(event.step, value) for event in read for value in event.summary.value]


def places(folder: Path) -> list[tuple[str, int]]:
    return [(value.tag, step) for step, value in values(folder)]


def test_curves_pictures_and_options(tmp_path: Path) -> None:
    import tensorflow as tf

    write(board(tmp_path), range(1, 4), {3: 1})
    train = {(value.tag, step): value for step, value in values(tmp_path / "train")}
    assert train["step/loss", 2].simple_value == 1.0, "the mean over the rows"
    assert train["step/learning_rate", 3].simple_value == pytest.approx(1e-3 / (1 + 0.5 * 2))
    assert train["epoch/accuracy", 3].simple_value == 0.75
    assert train["seconds/compute", 3].simple_value == 3.0
    options = train["options", 0]
    assert options.metadata.plugin_data.plugin_name == "text"
    assert b"| `batch-size` | 4 |\n| `run` | a\\|b |" in options.tensor.string_val[0]

    found = {value.tag: value for _, value in values(tmp_path / "validation")}
    expected = evaluate(PROBABILITIES, LABELS)
    assert found["epoch/auc"].simple_value == pytest.approx(expected["auc"])
    curve = found["precision_recall"]
    assert curve.metadata.plugin_data.plugin_name == "pr_curves"
    assert curve.metadata.plugin_data.content == b"\x10\x7f", "field 2, 127 thresholds"
    table = tf.make_ndarray(curve.tensor)
    for place in (0, 40, 63, 126):  # true positives, false, true negatives, false
        at = evaluate(PROBABILITIES, LABELS, place / 126)
        assert table[:4, place].tolist() == [at["tp"], at["fp"], at["tn"], at["fn"]]
        assert table[4:, place] == pytest.approx([at["precision"] or 0, at["recall"]])
    sheet = tf.io.decode_png(found["pictures"].image.encoded_image_string).numpy()
    assert sheet.shape == (found["pictures"].image.height, found["pictures"].image.width, 3)
    shown = {int(level) for level in np.unique(sheet[100::148, 60::132].reshape(-1, 3)[:, 0])}
    assert len(shown & set(range(0, 240, 20))) == 8, "four pictures of each class"
    assert ((sheet[..., 0] > 200) & (sheet[..., 1] < 100)).any(), "a wrong prediction, in red"
    assert tf.io.decode_png(found["roc"].image.encoded_image_string).shape[2] == 3


@pytest.mark.parametrize(("state", "steps", "epochs"), [
    (State(epoch=2, rows_done=4, step=4), 4, 1), (State(epoch=3, rows_done=0, step=6), 6, 2),
    (State(epoch=2, rows_done=12, step=6), 6, 1),  # after the last row, before validation
    (State(), 0, 0)])
def test_resumed_run_continues_the_curves(tmp_path: Path, state: State, steps: int,
                                          epochs: int) -> None:
    """An interrupted run wrote more than its checkpoint has: each point is there once."""
    write(board(tmp_path), range(1, 9), {3: 1, 6: 2})
    resumed = board(tmp_path, state)
    train, validation = places(tmp_path / "train"), places(tmp_path / "validation")
    assert {step for tag, step in train if tag in TRAIN} == set(range(1, steps + 1))
    for found, tag in ((train, "epoch/loss"), (validation, "epoch/auc"), (validation, "roc")):
        assert [step for name, step in found if name == tag] == [3, 6][:epochs]
    write(resumed, range(steps + 1, 10), {step: step // 3 for step in (3, 6, 9)[epochs:]})
    for part in ("train", "validation"):
        assert len(places(tmp_path / part)) == len(set(places(tmp_path / part)))
    whole = board(tmp_path / "whole")
    write(whole, range(1, 10), {3: 1, 6: 2, 9: 3})
    for part in ("train", "validation"):
        assert {place for place in places(tmp_path / part) if place[0] != "options"} >= {
            place for place in places(tmp_path / "whole" / part)
            if place[0] != "options" and place[1] > steps}


def test_steps_that_no_rank_has_reported_yet_are_no_point(tmp_path: Path) -> None:
    shown = board(tmp_path)
    shown.steps(3, Done())
    shown.close()
    assert places(tmp_path / "train") == [("options", 0)]


def test_numbers_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    shown = board(tmp_path)
    line = {"step": 1, "epoch": 1, "loss": np.nan, "accuracy": 0.5, "images_per_s": 1.0,
            "wall_images_per_s": 1.0, "seconds": {}, "best": False,
            **{f"val_{name}": None for name in evaluate(PROBABILITIES, LABELS)}}
    shown.epoch(line, np.full(12, np.nan), LABELS)
    shown.close()
    assert ("epoch/accuracy", 1) in places(tmp_path / "train")
    assert ("epoch/loss", 1) not in places(tmp_path / "train")
    assert not places(tmp_path / "validation")


def test_damaged_event_is_dropped_with_what_follows(tmp_path: Path) -> None:
    from hpc_deepfake.train import events

    write(board(tmp_path), range(1, 4), {})
    file, = events.found(tmp_path / "train")
    whole = file.read_bytes()
    at = whole.rindex(b"step/loss") - 4
    file.write_bytes(whole[:at] + b"\xff" * 8 + whole[at + 8:])
    resumed = board(tmp_path, State(step=3, epoch=1, rows_done=12))
    resumed.close()
    assert places(tmp_path / "train").count(("step/loss", 2)) == 1
    assert ("step/loss", 3) not in places(tmp_path / "train")


def test_half_an_event_at_the_end_is_dropped(tmp_path: Path) -> None:
    """A killed run was writing it."""
    from hpc_deepfake.train import events

    write(board(tmp_path), range(1, 4), {})
    file, = events.found(tmp_path / "train")
    whole = file.read_bytes()
    for size in (5, 11, 40):
        file.write_bytes(whole + struct.pack("<Q", 1 << 40)[:size] + bytes(size - min(size, 8)))
        assert len(list(events.read(file))) == 5
        events.keep(file, lambda event: True)
        assert file.read_bytes() == whole


def test_full_disk_is_a_message(tmp_path: Path) -> None:
    import tensorflow as tf

    shown = board(tmp_path)
    shown._train._writer = tf.io.TFRecordWriter("/dev/full")
    shown.steps(1, Done(1, 4, 2.0, 1.0))
    with pytest.raises(OutputError, match="No space left on device; make room"):
        shown.flush()


def test_curves_of_another_run_are_not_continued(tmp_path: Path) -> None:
    write(board(tmp_path), range(1, 3), {})
    with pytest.raises(InputError, match="holds the curves of another run"):
        check(tmp_path, resume=False)
    check(tmp_path, resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        check(tmp_path / "file", resume=False)


@pytest.mark.parametrize(("scale", "warmup"), [(None, 0), (None, 5), (4.0, 0), (4.0, 5)])
def test_learning_rate_shown_is_that_of_the_optimizer(scale: float | None, warmup: int) -> None:
    import tensorflow as tf

    from hpc_deepfake.network.schedule import Schedule

    schedule = Schedule(1e-3, 0.01, scale, warmup)
    for step in (0, 1, 4, 5, 100):
        assert schedule.number(step) == pytest.approx(
            float(schedule.at(tf.constant(step, tf.int64))), rel=1e-12)
