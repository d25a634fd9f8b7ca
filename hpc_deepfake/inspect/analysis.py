"""All analyses of one picture."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from hpc_deepfake.inspect import (
    blocks,
    clones,
    double,
    drawn,
    ghosts,
    metadata,
    noise,
    tables,
    thumbnail,
)
from preprocessing.ela import Parameters, error_level
from preprocessing.picture import Rejected, decode

T = TypeVar("T")
SMALLEST = 48  # pixels: shorter side from which compression is analysed
_LEVELS = 24  # of luminance, in a sixteenth of the pixels; fewer have a drawing or a palette
LOSSY = ("AVIF", "HEIF", "WEBP", "JPEG2000")  # whose own compression covers, or looks like, JPEG's
ELA = Parameters()


@dataclass(frozen=True)
class Analysis:
    """What was found in a picture. What couldn't be analysed is None.

    Attributes:
        said: what the file says.
        pixels: uint8 (height, width, 3), blue-green-red, as stored.
        levels: its error levels, same shape and kind; None: it can't be encoded.
        quality: of its luminance table; None: not a JPEG file.
        grid: rows and columns before the first block; (0, 0) of a JPEG file.
        step: every how many blocks one was analysed.
        drawn: places that are drawn; of a picture that mostly is, neither compression nor copies
            are analysed.
        double: double compression, or an earlier one of a picture that isn't a JPEG file.
        ghosts: JPEG ghosts.
        clones: copy-move candidates; None: mostly drawn.
        noise: noise from place to place.
        thumbnail: the embedded thumbnail, or why it can't be compared; None: there is none.
        seconds: that it took.
    """

    said: metadata.Metadata
    pixels: np.ndarray
    levels: np.ndarray | None
    quality: tables.Quality | None
    grid: tuple[int, int]
    step: int
    drawn: drawn.Drawn
    double: double.Double | None
    ghosts: ghosts.Ghosts | None
    clones: clones.Clones | None
    noise: noise.Noise | None
    thumbnail: thumbnail.Comparison | str | None
    seconds: float


def analyse(data: bytes, path: bytes | None = None) -> Analysis:
    """Analyse the contents of a picture file, on as many threads as there are cores, up to 4.

    Args:
        data: contents of the file.
        path: of the file, for messages.

    Raises:
        Rejected: it can't be decoded, and why.
    """
    began = time.perf_counter()
    pixels = decode(data, path)
    said = metadata.read(data)
    luma = blocks.luminance(data, pixels)
    table = said.tables.get(0) if said.format in ("JPEG", "MPO") and luma is not None else None
    quality = None if table is None else tables.quality_of(table)
    short = min(luma.shape)
    places = drawn.analyse(luma)
    plain = said.format not in LOSSY and not places.mostly and \
        len(np.unique(luma[::4, ::4])) >= _LEVELS
    grid = (0, 0) if table is not None or short < SMALLEST else blocks.grid(luma)
    step = blocks.step_for(*luma.shape)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        def later(work: Callable[[], T]) -> Callable[[], T]:
            return pool.submit(work).result

        copies = later(lambda: None if places.mostly else clones.analyse(luma, places))
        noisy = later(lambda: noise.analyse(luma) if short >= noise.LEAST else None)
        levels = later(lambda: _levels(pixels))
        history = later(lambda: compression(luma, table, quality, grid, step, places)
                        if short >= SMALLEST and plain else (None, None))
        small = thumbnail.compare(said.thumbnail, pixels) if said.thumbnail else None
        twice, ghost = history()
        return Analysis(said, pixels, levels(), quality, grid, step, places, twice, ghost,
                        copies(), noisy(), small, time.perf_counter() - began)


def _levels(pixels: np.ndarray) -> np.ndarray | None:
    try:
        return error_level(pixels, ELA)
    except Rejected:
        return None


def compression(luma: np.ndarray, table: np.ndarray | None, quality: tables.Quality | None,
                grid: tuple[int, int], step: int, places: drawn.Drawn
                ) -> tuple[double.Double, ghosts.Ghosts]:
    """Double compression and ghosts, outside drawn places; the arguments are those of ``Analysis``,
    and the table of a JPEG file."""
    other = [(offset + blocks.SIDE // 2) % blocks.SIDE for offset in grid]
    values = blocks.coefficients(luma, step, *grid)
    shifted = blocks.coefficients(luma, step, *other)
    drawings, shifted_drawings = (
        places.blocks((part.shape[0], part.shape[2]), step, (down, across))
        for part, (down, across) in ((values, grid), (shifted, other)))
    history = double.analyse(
        values, shifted, np.ones((8, 8), int) if table is None else table,
        blocks.clipped(luma, step, *grid) | drawings,
        blocks.clipped(luma, step, *other) | shifted_drawings, places.partly)
    return history, ghosts.analyse(
        values, history.quality if quality is None else quality.quality, drawings)
