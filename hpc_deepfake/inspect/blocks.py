"""DCT coefficients of a picture's luminance on a grid of 8×8 blocks, as JPEG computes them (ITU-T
T.81, A.3.3)."""

from __future__ import annotations

import cv2
import numpy as np

SIDE = 8
MOST = 1 << 16  # blocks analysed; of larger pictures a regular selection


def _basis() -> np.ndarray:
    frequency, place = np.mgrid[:SIDE, :SIDE]
    basis = np.cos((2 * place + 1) * frequency * np.pi / (2 * SIDE)) / 2
    basis[0] /= np.sqrt(2)
    return basis.astype(np.float32)


_BASIS = _basis()


def luminance(data: bytes, pixels: np.ndarray) -> np.ndarray:
    """Luminance of a picture, uint8 (height, width).

    Of a JPEG file it is the stored component, without a conversion of colours in between, so that
    its DCT gives the quantised coefficients again, but for rounding to whole levels.

    Args:
        data: contents of the file.
        pixels: decoded, uint8 (height, width, 3), blue-green-red.
    """
    if data.startswith(b"\xff\xd8"):
        try:
            stored = cv2.imdecode(np.frombuffer(data, np.uint8),
                                  cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
        except cv2.error:
            stored = None
        if stored is not None and stored.shape == pixels.shape[:2]:
            return np.asarray(stored)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)


def step_for(height: int, width: int) -> int:
    """Every how many blocks, down and across, one is analysed: 1 up to ``MOST`` blocks."""
    blocks, step = (height // SIDE) * (width // SIDE), 1
    while blocks > MOST * step * step:
        step += 1
    return step


def coefficients(luma: np.ndarray, step: int = 1, down: int = 0, across: int = 0) -> np.ndarray:
    """DCT coefficients of the blocks.

    Args:
        luma: uint8 (height, width); both at least 8 more than the offsets.
        step: take every ``step``-th block, down and across.
        down: rows above the first block.
        across: columns left of the first block.

    Returns:
        float32 (rows of blocks, 8 vertical frequencies, columns of blocks, 8 horizontal ones).
    """
    luma = luma[down:, across:]
    rows, columns = luma.shape[0] // SIDE, luma.shape[1] // SIDE
    blocks = luma[:rows * SIDE, :columns * SIDE].reshape(rows, SIDE, columns, SIDE)
    values = blocks[::step, :, ::step].astype(np.float32)
    values -= 128
    rows, _, columns, _ = values.shape
    values = np.matmul(_BASIS, values.reshape(rows, SIDE, columns * SIDE))
    return (values.reshape(-1, SIDE) @ _BASIS.T).reshape(rows, SIDE, columns, SIDE)


def clipped(luma: np.ndarray, step: int = 1, down: int = 0, across: int = 0) -> np.ndarray:
    """Which blocks have black or white pixels, bool (rows, columns): there the coefficients are no
    longer those of the file. The arguments are those of ``coefficients``."""
    luma = luma[down:, across:]
    rows, columns = luma.shape[0] // SIDE, luma.shape[1] // SIDE
    parts = luma[:rows * SIDE, :columns * SIDE].reshape(rows, SIDE, columns, SIDE)
    parts = parts[::step, :, ::step]
    return np.asarray((parts.min((1, 3)) == 0) | (parts.max((1, 3)) == 255))


def grid(luma: np.ndarray) -> tuple[int, int]:
    """Rows and columns before the first whole block of an earlier JPEG compression: where steps
    between neighbouring pixels are largest (Z. Fan and R. L. de Queiroz, "Identification of Bitmap
    Compression History", IEEE Transactions on Image Processing 12, 2003). Of a picture without
    blocks any numbers from 0 to 7.

    Args:
        luma: uint8 (height, width), both at least 32.
    """
    part = luma[:4096, :4096].astype(np.int16)
    offsets = []
    for axis in (0, 1):
        step = np.abs(np.diff(part, axis=axis)).mean(1 - axis)
        excess = step[1:-1] - (step[:-2] + step[2:]) / 2
        # excess[i] is of the step between the pixels i + 1 and i + 2
        sums = [float(np.median(excess[(offset - 2) % SIDE::SIDE])) for offset in range(SIDE)]
        offsets.append(int(np.argmax(sums)))
    return offsets[0], offsets[1]
