"""Which places of a picture were drawn by a program, not photographed: text, lines, flat colours.

There the analyses of compression and of copies can't tell: DCT coefficients have so few values that
they are multiples of some step by chance, and equal letters are equal in every detail. A drawn
place is known by one level (paper, fill) that covers much of a small window beside levels far from
it. Noise and shading spread the levels of photographs, JPEG's rounding those of drawings, but less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SIDE = 16  # pixels of a window
_CONTRAST = 32  # levels between the 2nd and the 98th percentile of a window that can be told
_NEAR = 2  # levels on both sides that count as the same level
_COVERS = 0.4  # of a window, from which it is drawn
SOME = 0.3  # of the windows with contrast: fewer are edges against the sky, as photographs have
MOST = 0.5  # of the windows with contrast: from here the picture is drawn


@dataclass(frozen=True)
class Drawn:
    """Drawn places.

    Attributes:
        windows: bool (rows, columns): which windows of 16×16 pixels are drawn; none where they are
            too few to be more than edges.
        share: of the windows with contrast that look drawn.
    """

    windows: np.ndarray
    share: float

    @property
    def partly(self) -> bool:
        """Whether some of the picture is drawn."""
        return self.share >= SOME

    @property
    def mostly(self) -> bool:
        """Whether most of the picture is drawn."""
        return self.share >= MOST

    def at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Whether pixels lie in drawn windows; of those beyond the last whole window, that one.

        Args:
            rows: of the pixels, any shape.
            columns: of the pixels, the same or one that broadcasts.
        """
        if not self.windows.size:
            return np.zeros(np.broadcast_shapes(np.shape(rows), np.shape(columns)), bool)
        last = np.array(self.windows.shape) - 1
        return np.asarray(self.windows[(np.asarray(rows) // SIDE).astype(int).clip(0, last[0]),
                                       (np.asarray(columns) // SIDE).astype(int).clip(0, last[1])])

    def blocks(self, shape: tuple[int, int], step: int, grid: tuple[int, int]) -> np.ndarray:
        """Which 8×8 blocks are drawn, bool (rows, columns).

        Args:
            shape: rows and columns of the blocks analysed.
            step: every how many blocks one is.
            grid: rows and columns before the first block.
        """
        rows, columns = (start + 8 * step * np.arange(count) + 4
                         for start, count in zip(grid, shape, strict=True))
        return self.at(rows[:, None], columns)


def analyse(luma: np.ndarray) -> Drawn:
    """Find the drawn windows of a picture.

    Args:
        luma: uint8 (height, width).
    """
    rows, columns = luma.shape[0] // SIDE, luma.shape[1] // SIDE
    drawn = np.zeros((rows, columns), bool)
    contrasts = 0
    window = np.arange(columns).repeat(SIDE) * 256
    pixels = SIDE * SIDE
    for row in range(rows):
        strip = luma[row * SIDE:(row + 1) * SIDE, :columns * SIDE]
        counts = np.bincount((window + strip).ravel(), minlength=columns * 256)
        below = np.pad(counts.reshape(columns, 256).cumsum(1), ((0, 0), (_NEAR + 1, _NEAR)),
                       "edge")
        below[:, :_NEAR + 1] = 0
        inner = below[:, _NEAR + 1:_NEAR + 257]
        low, high = ((inner > part * pixels).argmax(1) for part in (0.02, 0.98))
        contrast = high - low >= _CONTRAST
        largest = (below[:, 2 * _NEAR + 1:] - below[:, :-2 * _NEAR - 1]).max(1)
        drawn[row] = contrast & (largest >= _COVERS * pixels)
        contrasts += int(contrast.sum())
    share = float(drawn.sum()) / max(contrasts, 1)
    return Drawn(drawn & (share >= SOME), share)
