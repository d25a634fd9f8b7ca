"""Pictures and maps for the page: turned upright, reduced where they are large, as JPEG."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

MOST = 16_000_000  # pixels of a picture on the page
MOST_OF_MAP = 4_000_000  # of maps other than error levels
_QUALITY, _MAP_QUALITY = 90, 80


@dataclass(frozen=True)
class View:
    """How a picture is shown.

    Attributes:
        width: of the picture as stored, pixels.
        height: of the picture as stored, pixels.
        orientation: 1 to 8 (Exif), how its pixels are turned to be shown.
    """

    width: int
    height: int
    orientation: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture as shown, at full size."""
        return (self.width, self.height) if self.orientation < 5 else (self.height, self.width)

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height on the page."""
        scale = min(1.0, (MOST / (self.width * self.height)) ** 0.5)
        width, height = (max(1, round(side * scale)) for side in self.size)
        return width, height

    def picture(self, pixels: np.ndarray) -> bytes:
        """The picture, or its error levels, as JPEG of the size ``shown``."""
        return jpeg(_fit(turn(pixels, self.orientation), self.shown), _QUALITY)

    def map(self, values: np.ndarray, most: int = MOST_OF_MAP) -> bytes:
        """A map as large as the picture, or of its blocks, as JPEG.

        Args:
            values: uint8 (rows, columns) or with 3 channels.
            most: pixels; a larger one is reduced.
        """
        scale = min(1.0, (most / (values.shape[0] * values.shape[1])) ** 0.5)
        size = tuple(max(1, round(side * scale)) for side in values.shape[1::-1])
        return jpeg(turn(_fit(values, (size[0], size[1])), self.orientation), _MAP_QUALITY)

    def points(self, points: np.ndarray) -> np.ndarray:
        """Points x, y (n, 2) of the stored picture in the one shown at full size."""
        x, y = points[:, 0], points[:, 1]
        right, bottom = self.width - 1 - x, self.height - 1 - y
        turned = {2: (right, y), 3: (right, bottom), 4: (x, bottom), 5: (y, x), 6: (bottom, x),
                  7: (bottom, right), 8: (y, right)}.get(self.orientation, (x, y))
        return np.stack(turned, axis=1)


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels turned upright as the Exif orientation says (CIPA DC-008, tag 274)."""
    turns = {2: lambda: pixels[:, ::-1], 3: lambda: pixels[::-1, ::-1], 4: lambda: pixels[::-1],
             5: lambda: pixels.swapaxes(0, 1), 6: lambda: np.rot90(pixels, -1),
             7: lambda: pixels[::-1, ::-1].swapaxes(0, 1), 8: lambda: np.rot90(pixels)}
    return np.ascontiguousarray(turns[orientation]()) if orientation in turns else pixels


def jpeg(pixels: np.ndarray, quality: int) -> bytes:
    """Pixels, uint8 with 1 or 3 channels (blue-green-red), as a JPEG file."""
    done, data = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, quality,
                                               cv2.IMWRITE_JPEG_OPTIMIZE, 0))
    if not done:
        raise ValueError("a map can't be encoded")
    return bytes(data)


def reduced(pixels: np.ndarray, side: int) -> np.ndarray:
    """Pixels reduced to a longer side of at most ``side``."""
    scale = min(1.0, side / max(pixels.shape[:2]))
    size = tuple(max(1, round(length * scale)) for length in pixels.shape[1::-1])
    return _fit(pixels, (size[0], size[1]))


def grey(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values from ``low`` (black) to ``high`` (white) as uint8."""
    span = max(high - low, 1e-9)
    return np.rint((np.asarray(values, np.float32) - low) * (255 / span)).clip(0, 255).astype(
        np.uint8)


def _fit(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if pixels.shape[1::-1] == size:
        return pixels
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
