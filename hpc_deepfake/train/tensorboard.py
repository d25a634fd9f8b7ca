"""What ``--tensorboard`` shows of a run: curves, pictures and its options."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.json_data import finite
from hpc_deepfake.core.text import number, percent
from hpc_deepfake.data.inputs import PositionedRows
from hpc_deepfake.metrics import auc, curves
from hpc_deepfake.train import events
from preprocessing.catalogue import LABELS

if TYPE_CHECKING:
    from hpc_deepfake.data.rows import DataFile
    from hpc_deepfake.network.schedule import Schedule
    from hpc_deepfake.network.settings import Course
    from hpc_deepfake.strategies.base import Done
    from hpc_deepfake.train.loop import State

PARTS = ("train", "validation")  # folders, which TensorBoard shows as curves of one diagram
_STEP = "step/"  # tags of what each step says; all others are of an epoch
_OPTIONS = "options"  # tag of the text
_FLUSH = 10.0  # seconds until new points reach the disk
_EACH = 4  # pictures of each class
_FIGURES = ("loss", "accuracy", "balanced_accuracy", "precision", "recall", "f1", "auc")


class Board:
    """Writes the event files of a run, on rank 0."""

    def __init__(self, folder: Path, state: State, schedule: Schedule, options: Mapping[str, Any],
                 data: DataFile, seed: int) -> None:
        """
        Args:
            folder: where to write; what an interrupted run wrote there after ``state`` is dropped.
            state: where the run begins.
            schedule: of the learning rate.
            options: of the run, to be shown.
            data: the data file.
            seed: chooses the pictures to show.

        Raises:
            OutputError: the folder can't be written to.
        """
        self._schedule, self._data = schedule, data
        earlier = [file for part in PARTS for file in events.found(folder / part)]
        for file in earlier:
            events.keep(file, lambda event: _before(event, state))
        begin = state.step + 1 if earlier else 0
        self._train, self._validation = (events.EventFile(folder / part, begin) for part in PARTS)
        self._train.add(state.step, events.text(_OPTIONS, _table(options)))
        self._chosen = _choose(data, seed)
        self._flushed = time.monotonic()

    def begin(self, course: Course) -> None:
        """Learn where the run is, before each round of steps, for the learning rate."""
        self._schedule.begin(course)

    def steps(self, step: int, done: Done) -> None:
        """Add what steps say: one, or the steps since the ranks last met.

        Args:
            step: number of steps so far.
            done: these steps, over all ranks.
        """
        if done.rows:
            values = {"loss": done.loss / done.rows, "accuracy": done.right / done.rows,
                      "learning_rate": self._schedule.number(step - 1)}
            self._train.add(step, *(events.number(_STEP + name, value)
                                    for name, value in values.items()))
        if time.monotonic() - self._flushed > _FLUSH:
            self.flush()

    def epoch(self, line: Mapping[str, Any], probabilities: np.ndarray,
              labels: np.ndarray) -> None:
        """Add what an epoch says.

        Args:
            line: of ``metrics.jsonl``.
            probabilities: of the validation rows, float (n).
            labels: of the validation rows, 0 or 1 (n).
        """
        step, epoch = line["step"], line["epoch"]
        train = {"epoch/loss": line["loss"], "epoch/accuracy": line["accuracy"],
                 "epoch/number": epoch, "speed/images_per_s": line["images_per_s"],
                 "speed/wall_images_per_s": line["wall_images_per_s"],
                 **{f"seconds/{stage}": value for stage, value in line["seconds"].items()}}
        self._add(self._train, step, train)
        self._add(self._validation, step,
                  {f"epoch/{name}": line[f"val_{name}"] for name in _FIGURES})
        if np.isfinite(probabilities).all():
            title = f"epoch {epoch}"
            self._validation.add(
                step, events.precision_recall("precision_recall", probabilities, labels),
                events.image("roc", _roc(title, probabilities, labels)))
            if line["best"]:
                sheet = self._sheet(f"{title}, the best so far", probabilities, labels)
                self._validation.add(step, events.image("pictures", sheet))
        self.flush()

    def flush(self) -> None:
        """Write to the disk."""
        self._flushed = time.monotonic()
        self._train.flush()
        self._validation.flush()

    def close(self) -> None:
        """Write to the disk and close the files."""
        self._train.close()
        self._validation.close()

    @staticmethod
    def _add(file: events.EventFile, step: int, values: Mapping[str, object]) -> None:
        """Add the values that are finite."""
        numbers = {tag: finite(value) for tag, value in values.items()}
        file.add(step, *(events.number(tag, value) for tag, value in numbers.items()
                         if value is not None))

    def _sheet(self, title: str, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The chosen pictures with their probabilities, uint8 (height, width, 3)."""
        rows = self._data.rows("validation")[self._chosen]
        tiles = [self._data.batch(rows)[0]]
        if "raw" in self._data.header.features and self._data.feature != "raw":
            tiles.insert(0, np.asarray(PositionedRows(self._data.header, "raw")[rows]))
        pairs = np.concatenate(tiles, axis=2)  # side by side
        height, width = pairs.shape[1:3]
        columns, line = 2, 16
        sheet = Image.new("RGB", (columns * (width + 4), line + (height + line + 4)
                                  * -(-len(rows) // columns)), "white")
        draw = ImageDraw.Draw(sheet)
        draw.text((2, 1), f"{title}: class, probability of tampered", "black", _font())
        for place, (pair, which) in enumerate(zip(pairs, self._chosen)):
            left = place % columns * (width + 4)
            top = line + place // columns * (height + line + 4)
            probability, label = float(probabilities[which]), int(labels[which])
            right = (probability >= 0.5) == bool(label)
            draw.text((left + 2, top + 1), f"{LABELS[label]} {percent(probability)}",
                      "black" if right else "red", _font())
            sheet.paste(Image.fromarray(pair), (left, top + line))
        return np.asarray(sheet)


def check(folder: Path, resume: bool) -> None:
    """Raise InputError if another run's curves are in the folder, or it can't be one."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--tensorboard {folder} is a file: name a folder")
    if not resume and any(events.found(folder / part) for part in PARTS):
        raise InputError(f"--tensorboard {folder} holds the curves of another run: name another "
                         "folder, such as one for each run")


def _before(event: Any, state: State) -> bool:
    """Whether an event is of what a resumed run doesn't do again."""
    if event.step != state.step or not event.summary.value:
        return bool(event.step <= state.step)
    tag = event.summary.value[0].tag
    if tag == _OPTIONS or not state.step:
        return False
    # within an epoch, be it after its last row, the epoch's own figures come again
    return bool(tag.startswith(_STEP)) or not state.rows_done


def _table(options: Mapping[str, Any]) -> str:
    """Options as a table in Markdown."""
    rows = [f"| `{name.replace('_', '-')}` | {str(value).replace('|', chr(92) + '|')} |"
            for name, value in sorted(options.items()) if value is not None]
    return "\n".join(["| option | value |", "|---|---|", *rows])


def _choose(data: DataFile, seed: int) -> np.ndarray:
    """Positions of pictures of both classes among the validation rows, sorted by class."""
    labels = data.labels[data.rows("validation")]
    order = np.random.default_rng(seed).permutation(len(labels))
    return np.concatenate([order[labels[order] == label][:_EACH] for label in (0, 1)])


def _roc(title: str, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The ROC curve as a picture, uint8 (height, width, 3)."""
    size, left, top = 300, 34, 24
    picture = Image.new("RGB", (size + left + 10, size + top + 34), "white")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left, top, left + size, top + size), outline="black")
    draw.line((left, top + size, left + size, top), "lightgray")
    false, true, _ = curves.roc(probabilities, labels)
    points = np.stack([left + false * size, top + (1 - true) * size], axis=1)
    if np.isfinite(points).all():
        draw.line([(float(x), float(y)) for x, y in points], "royalblue", 2)
    draw.text((left, 4), f"{title}: true over false positive rate, AUC "
              f"{number(auc(probabilities, labels))}", "black", _font())
    draw.text((left + size / 2 - 60, top + size + 16), "false positive rate", "black", _font())
    for value in (0, 0.5, 1):
        draw.text((left + value * (size - 12), top + size + 2), f"{value:g}", "black", _font())
        draw.text((8, top + (1 - value) * (size - 12)), f"{value:g}", "black", _font())
    return np.asarray(picture)


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(12)
