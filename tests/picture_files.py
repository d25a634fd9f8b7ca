"""Picture files for tests of what reads files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image


def picture(seed: int, width: int = 96, height: int = 64) -> np.ndarray:
    """A picture that depends on the seed, in muted colours, uint8 (height, width, 3)."""
    rough = np.random.default_rng(seed).integers(70, 190, (6, 8, 3), np.uint8)
    return cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)


def save(path: Path, pixels: np.ndarray, **options: Any) -> None:
    """Write a picture; ``options`` are those of Pillow's ``save``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
