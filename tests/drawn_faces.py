"""Drawn heads, which the face detector takes for faces: photographs would need their consent."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

BACKGROUND = (120, 150, 90)


def picture(*heads: tuple[int, int, int], height: int = 160, width: int = 192) -> np.ndarray:
    """uint8 (height, width, 3), blue-green-red, with heads at (left, top, width of the face)."""
    pixels = np.full((height, width, 3), BACKGROUND, np.uint8)
    for left, top, side in heads:
        _draw(pixels, left, top, side)
    return pixels


def film(path: Path, frames: Iterable[np.ndarray]) -> None:
    """Write an AVI of Motion JPEG, 25 frames per second."""
    writer = None
    for frame in frames:
        if writer is None:
            writer = cv2.VideoWriter(os.fspath(path), cv2.VideoWriter_fourcc(*"MJPG"), 25,
                                     frame.shape[1::-1])
        writer.write(frame)
    assert writer is not None
    writer.release()


def _draw(pixels: np.ndarray, left: int, top: int, side: int) -> None:
    def oval(x: float, y: float, width: float, height: float, colour: tuple[int, int, int],
             of: tuple[int, int] = (0, 360), line: float = -1.0) -> None:
        cv2.ellipse(pixels, (round(left + (0.5 + x) * side), round(top + (0.75 + y) * side)),
                    (max(1, round(width * side)), max(1, round(height * side))), 0, *of, colour,
                    max(1, round(line * side)) if line > 0 else -1, cv2.LINE_AA)

    skin, hair, shade = (150, 180, 230), (30, 40, 60), (120, 145, 195)
    oval(0, -0.13, 0.56, 0.66, hair)
    oval(0, 0.6, 0.25, 0.35, (120, 150, 200))
    oval(0, 0, 0.5, 0.65, skin)
    oval(0.24, 0.05, 0.22, 0.45, (140, 170, 218))
    for x in (-0.21, 0.21):
        oval(x, -0.1, 0.12, 0.06, (245, 245, 245))
        oval(x, -0.1, 0.055, 0.055, (50, 60, 70))
        oval(x, -0.1, 0.025, 0.025, (10, 10, 10))
        oval(x, -0.18, 0.145, 0.065, hair, (200, 340), 0.04)
    oval(0, 0.15, 0.075, 0.04, shade)
    oval(0, 0.34, 0.17, 0.06, (90, 90, 190))
