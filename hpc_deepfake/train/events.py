"""TensorBoard's event files: protocol buffers, ``Event``, in the records of TFRecord."""

from __future__ import annotations

import errno
import os
import platform
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow as tf

from hpc_deepfake.core import files, holder

_NAME = "events.out.tfevents."
THRESHOLDS = 127  # of a precision-recall curve; its description holds the number in one byte

_Event, _Summary = tf.compat.v1.Event, tf.compat.v1.Summary
_Metadata = tf.compat.v1.SummaryMetadata
_TENSOR = 2  # DATA_CLASS_TENSOR


class EventFile:
    """Adds an event file to a folder; nothing reaches the disk before ``flush``."""

    def __init__(self, folder: Path, begin: int) -> None:
        """
        Args:
            folder: of event files of one curve, made as needed.
            begin: first step that is written; whoever shows later ones is told to drop them.
        """
        # read in the order of their names
        self._path = folder / (f"{_NAME}{time.time():017.6f}.{platform.node()}.{os.getpid()}")
        with _writing(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = tf.io.TFRecordWriter(os.fspath(self._path))
        self._write(_Event(file_version="brain.Event:2", wall_time=time.time()))
        if begin:
            start = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
            self._write(_Event(session_log=start, step=begin, wall_time=time.time()))

    def add(self, step: int, *values: Any) -> None:
        """Add values that ``number``, ``text``, ``image`` or ``precision_recall`` made."""
        self._write(_Event(summary=_Summary(value=values), step=step, wall_time=time.time()))

    def flush(self) -> None:
        """Write to the disk."""
        holder.verify(self._path)
        with _writing(self._path):
            self._writer.flush()

    def close(self) -> None:
        """Write to the disk and close the file."""
        with _writing(self._path):
            self._writer.close()

    def _write(self, event: Any) -> None:
        with _writing(self._path):
            self._writer.write(event.SerializeToString())


def number(tag: str, value: float) -> Any:
    """A point of a curve."""
    return _Summary.Value(tag=tag, simple_value=value)


def text(tag: str, markdown: str) -> Any:
    """A text."""
    return _Summary.Value(tag=tag, metadata=_metadata("text"),
                          tensor=tf.make_tensor_proto(markdown.encode(), tf.string))


def image(tag: str, pixels: np.ndarray) -> Any:
    """A picture, uint8 (height, width, 3), red-green-blue."""
    height, width = pixels.shape[:2]
    _, encoded = cv2.imencode(".png", pixels[..., ::-1])
    return _Summary.Value(tag=tag, image=_Summary.Image(
        height=height, width=width, colorspace=3, encoded_image_string=encoded.tobytes()))


def precision_recall(tag: str, probabilities: np.ndarray, labels: np.ndarray) -> Any:
    """A precision-recall curve at ``THRESHOLDS`` thresholds from 0 to 1.

    Args:
        tag: its name.
        probabilities: of tampered, float (n).
        labels: 0 authentic, 1 tampered (n).
    """
    predicted = probabilities >= np.linspace(0, 1, THRESHOLDS)[:, None]
    tampered = np.asarray(labels, bool)
    right, wrong = (predicted & tampered).sum(1), (predicted & ~tampered).sum(1)
    positives, negatives = tampered.sum(), (~tampered).sum()
    table = np.stack([right, wrong, negatives - wrong, positives - right,
                      right / np.maximum(right + wrong, 1), right / np.maximum(positives, 1)])
    # the message PrCurvePluginData, whose field 2 is the number of thresholds
    described = _metadata("pr_curves", bytes([0x10, THRESHOLDS]))
    return _Summary.Value(tag=tag, metadata=described,
                          tensor=tf.make_tensor_proto(table, tf.float32))


def _metadata(plugin: str, content: bytes = b"") -> Any:
    return _Metadata(plugin_data=_Metadata.PluginData(plugin_name=plugin, content=content),
                     data_class=_TENSOR)


def found(folder: Path) -> list[Path]:
    """Event files of a folder in order; none if there is no folder."""
    return sorted(folder.glob(f"{_NAME}*"))


def read(path: Path) -> Iterator[Any]:
    """The events of a file, up to an incomplete or damaged one."""
    return (event for event, _ in _records(path.read_bytes()))


def keep(path: Path, wanted: Callable[[Any], bool]) -> None:
    """Drop the other events of a file, and all from an incomplete or damaged one on.

    Raises:
        OutputError: the file can't be read or written.
    """
    with files.writing(path):
        before = path.read_bytes()
        after = b"".join(record for event, record in _records(before) if wanted(event))
        if after != before:
            with files.whole(path) as temporary:
                temporary.write_bytes(after)


def _records(content: bytes) -> Iterator[tuple[Any, bytes]]:
    """Each event with its record: length, checksum, event, checksum."""
    at = 0
    while at + 12 <= len(content):
        end = at + 12 + struct.unpack_from("<Q", content, at)[0] + 4
        if end > len(content):
            return
        try:
            event = _Event.FromString(content[at + 12:end - 4])
        except Exception:  # DecodeError, which has no public base class
            return
        yield event, content[at:end]
        at = end


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """As ``files.writing``, also for errors of TensorFlow."""
    with files.writing(path):
        try:
            yield
        except tf.errors.OpError as error:
            number = _NUMBERS.get(type(error), errno.EIO)
            raise OSError(number, os.strerror(number)) from error


_NUMBERS = {tf.errors.ResourceExhaustedError: errno.ENOSPC, tf.errors.NotFoundError: errno.ENOENT,
            tf.errors.PermissionDeniedError: errno.EACCES}
