"""Folders of small pictures for the tests of listing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np


def scene(seed: int, shift: int = 0) -> np.ndarray:
    """A smooth picture, uint8 (24, 32, 3): another one for each seed, the same one moved for each
    shift."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    return np.roll(cv2.resize(coarse, (32, 24), interpolation=cv2.INTER_LINEAR), shift, 1)


def mask(number: int = 0) -> np.ndarray:
    """Black with a white box, uint8 (24, 32, 3)."""
    pixels = np.zeros((24, 32, 3), np.uint8)
    pixels[4:14, 3 + number % 8:15] = 255
    return pixels


def fill(top: Path, files: Mapping[str, object]) -> Path:
    """Write files below a folder, by their paths: pixels as pictures, texts, bytes; empty files for
    None. Returns the folder."""
    for path, content in files.items():
        place = top / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, np.ndarray):
            assert cv2.imwrite(os.fspath(place), content)
        elif isinstance(content, bytes):
            place.write_bytes(content)
        else:
            place.write_text("" if content is None else str(content), encoding="utf-8")
    return top
