"""Traces of double JPEG compression in the histograms of DCT coefficients.

A coefficient that was rounded to multiples of a first step, and then to those of the file's own
step, fills the bins of its histogram unevenly, with a period that reveals the first step (A. C.
Popescu and H. Farid, "Statistical Tools for Digital Forensics", Information Hiding 2004). Blocks
without these traces in a picture that has them were changed after the first compression (Z. Lin et
al., "Fast, automatic and fine-grained tampered JPEG image detection via DCT coefficient analysis",
Pattern Recognition 42, 2009). The mixture of both kinds of blocks, and the histogram of single
compression from blocks on a shifted grid, are those of T. Bianchi and A. Piva, "Image Forgery
Localization via Block-Grained Analysis of JPEG Artifacts", IEEE Transactions on Information
Forensics and Security 7, 2012 (their aligned case).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erf

import cv2
import numpy as np

from hpc_deepfake.inspect import tables

# vertical and horizontal frequency, in the order of the zigzag (T.81 figure A.6)
FREQUENCIES = ((0, 1), (1, 0), (2, 0), (1, 1), (0, 2), (0, 3), (1, 2), (2, 1), (3, 0))
REACH = 1024  # largest coefficient
LARGEST_STEP = 60  # of the first compression
# standard deviation of a coefficient after rounding pixels to whole levels: between two
# compressions, with a conversion of colours; after one
_SIGMA, _SIGMA_ONCE = 0.5, 0.3
FOUND = 0.012  # gain, in nats for each coefficient, that counts
FOUND_ALONE = 0.1  # the same for a picture that isn't a JPEG file, or is partly drawn
_FOUND_ODD = 0.3  # and of one whose first steps are no table of the IJG: smooth drawings reach 0.13
LOCAL = 0.15  # from here the traces are clear enough to say where they are
_RANGE = 2  # between a first step and their median, as a factor
_LACKS = 0.3  # probability below which a block lacks the traces
ENOUGH = 25  # gain, in nats, over all coefficients of a frequency
_SHARES = np.linspace(0.05, 1, 20)
_BINS = 120  # histogram bins on each side of zero


@dataclass(frozen=True)
class Frequency:
    """What the coefficients of one frequency show.

    Attributes:
        place: vertical and horizontal frequency.
        step: the file's own quantisation step.
        first: the first compression's most likely step.
        share: of the blocks that were compressed twice, in the most likely mixture.
        gain: of that mixture's log-likelihood over single compression, nats for each coefficient
            other than 0.
        counts: int (2·bins + 1), the histogram around 0.
        single: float, expected after a single compression, same shape.
        double: float, expected after both.
    """

    place: tuple[int, int]
    step: int
    first: int
    share: float
    gain: float
    counts: np.ndarray
    single: np.ndarray
    double: np.ndarray


@dataclass(frozen=True)
class Double:
    """What the histograms show.

    Attributes:
        frequencies: one for each of ``FREQUENCIES``.
        gain: median of their gains.
        found: whether there was an earlier compression with other steps.
        share: of the blocks that have its traces, median over the frequencies that show it.
        quality: of the IJG's table that fits the first steps best; None if none fits.
        likely: float32 (rows, columns) of blocks: probability, from 0 to 1, that a block has the
            traces; None where nothing was found, or too little.
        without: bool, same shape: the largest area without traces, in a picture that has them;
            None if there is none of some size.
    """

    frequencies: list[Frequency]
    gain: float
    found: bool
    share: float
    quality: int | None
    likely: np.ndarray | None
    without: np.ndarray | None


def analyse(values: np.ndarray, shifted: np.ndarray, table: np.ndarray,
            clipped: np.ndarray | None = None, shifted_clipped: np.ndarray | None = None,
            drawn: bool = False) -> Double:
    """Look for an earlier compression on the same grid.

    Args:
        values: DCT coefficients on the grid, from ``blocks.coefficients``.
        shifted: those on a grid shifted by half a block.
        table: int (8, 8): the file's quantisation steps for luminance; all 1 for a picture that is
            not a JPEG file.
        clipped: bool (rows, columns): blocks of ``values`` that are left out (clipped, drawn).
        shifted_clipped: those of ``shifted`` that are.
        drawn: some of the picture is, so that faint traces don't count.
    """
    use, use_shifted = (np.True_ if dropped is None else ~dropped
                        for dropped in (clipped, shifted_clipped))
    places = [(down, across) for down, across in FREQUENCIES]
    results = [frequency(values[:, down, :, across][use].ravel(),
                         shifted[:, down, :, across][use_shifted].ravel(),
                         int(table[down, across]), (down, across)) for down, across in places]
    gain = float(np.median([result.gain for result in results]))
    counted = int(np.median([result.counts.sum() - result.counts[len(result.counts) // 2]
                             for result in results]))
    clear = [result for result in results if result.gain >= FOUND]
    quality = _quality(clear)
    least = FOUND if table.max() > 1 and not drawn else FOUND_ALONE
    if table.max() == 1 and quality is None:
        least = _FOUND_ODD
    found = gain >= least and gain * counted >= ENOUGH and _agree(clear)
    if not found:
        return Double(results, gain, False, 0.0, None, None, None)
    share = float(np.median([result.share for result in clear]))
    if gain < LOCAL:
        return Double(results, gain, True, share, quality, None, None)
    likely = _likely(values, clear, share)
    if clipped is not None:
        likely[clipped] = 0.5
    return Double(results, gain, True, share, quality, likely, _without(likely))


def _likely(values: np.ndarray, clear: list[Frequency], share: float) -> np.ndarray:
    odds = np.zeros((values.shape[0], values.shape[2]), np.float32)
    for result in clear:
        down, across = result.place
        bins = len(result.counts) // 2
        ratio = np.log(_conditional(result.double, bins) / _conditional(result.single, bins))
        ratio[bins] = 0
        place = np.rint(values[:, down, :, across] / result.step).astype(int).clip(-bins, bins)
        odds += ratio[place + bins].clip(-4, 4).astype(np.float32)
    prior = np.log(min(max(share, 0.1), 0.9) / (1 - min(max(share, 0.1), 0.9)))
    return np.asarray(1 / (1 + np.exp(-(cv2.blur(odds, (3, 3)) + prior).clip(-30, 30))), np.float32)


def _without(likely: np.ndarray) -> np.ndarray | None:
    mask = cv2.medianBlur((likely < _LACKS).astype(np.uint8), 5)
    count, labels, areas, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return None
    largest = 1 + int(areas[1:, cv2.CC_STAT_AREA].argmax())
    area = np.asarray(labels == largest)
    return area if area.sum() >= 24 and 0.01 <= area.mean() <= 0.7 else None


def _agree(clear: list[Frequency]) -> bool:
    """Whether at least two thirds of the first steps are near each other, as those of low
    frequencies are in every table; what only looks like steps is of all sizes."""
    steps = np.array([result.first for result in clear])
    middle = np.median(steps)
    return bool(((steps >= middle / _RANGE) & (steps <= middle * _RANGE)).mean() >= 2 / 3)


def _quality(clear: list[Frequency]) -> int | None:
    """The quality whose steps are the first ones, of at least two thirds of the frequencies."""
    fits = {quality: sum(tables.ijg(quality)[result.place] == result.first for result in clear)
            for quality in range(1, 100)}
    best = max(fits, key=lambda quality: fits[quality])
    return best if fits[best] * 3 >= 2 * max(len(clear), 5) else None


def frequency(values: np.ndarray, shifted: np.ndarray, step: int, place: tuple[int, int]
              ) -> Frequency:
    """Analyse one frequency.

    Args:
        values: its coefficients on the file's grid, float (n).
        shifted: its coefficients on a shifted grid, float (m).
        step: the file's own quantisation step.
        place: vertical and horizontal frequency.
    """
    bins = int(min(_BINS, REACH // step))
    counts = _histogram(np.rint(values / step), bins)
    fine: np.ndarray = _histogram(np.rint(shifted), REACH).astype(float)
    smooth: np.ndarray = np.convolve(fine + fine[::-1], np.ones(3) / 3, "same")  # and symmetric
    if not fine.any():  # no blocks
        nothing = np.zeros(2 * bins + 1)
        return Frequency(place, step, 1, 0.0, 0.0, counts, nothing, nothing)
    single = _expected(smooth, 1, step, bins)
    scale = counts.sum()
    weight = counts.astype(float)
    weight[bins] = 0  # zeros say little, and are the least like those of the shifted grid
    best = Frequency(place, step, 1, 0.0, 0.0, counts, single * scale, single * scale)
    outside = max(float(weight.sum()), 1.0)
    base = _conditional(single, bins)
    for first in range(2, LARGEST_STEP + 1):
        if step % first == 0:  # no trace
            continue
        expected = _expected(smooth, first, step, bins)
        other = _conditional(expected, bins)
        likelihood = np.log(_SHARES[:, None] * other / base + 1 - _SHARES[:, None]) @ weight
        at = int(likelihood.argmax())
        if likelihood[at] / outside > best.gain:
            best = Frequency(place, step, first, float(_SHARES[at]),
                             float(likelihood[at]) / outside, counts, best.single,
                             expected * scale)
    return best


def _histogram(values: np.ndarray, bins: int) -> np.ndarray:
    whole = values.astype(np.int32)
    whole = whole[np.abs(whole) <= bins] + bins
    return np.bincount(whole, minlength=2 * bins + 1)


def _expected(fine: np.ndarray, first: int, step: int, bins: int) -> np.ndarray:
    """Probability of each bin after compression with the steps ``first`` and ``step``.

    Args:
        fine: histogram of coefficients before both, with bins of width 1 from -REACH to REACH.
        first: the first step; 1: there was no first compression.
        step: the second step.
        bins: on each side of 0.
    """
    # what is rounded to each multiple of the first step, also within a bin of the histogram
    most = REACH // first
    total = np.interp((np.arange(-most, most + 2) - 0.5) * first,
                      np.arange(-REACH, REACH + 2) - 0.5, np.concatenate(([0], np.cumsum(fine))))
    mass = np.zeros(2 * REACH + 1)
    mass[REACH - most * first:REACH + most * first + 1:first] = np.diff(total)
    edges = (np.arange(-bins, bins + 2) - 0.5) * step
    # below an edge: all that is more than 3 levels below it, and a part of what is nearer
    near = np.floor(edges).astype(int)[:, None] + np.arange(-2, 4)
    inside = (near + REACH).clip(0, 2 * REACH)
    part = _normal((edges[:, None] - near) / (_SIGMA if first > 1 else _SIGMA_ONCE))
    total = np.cumsum(mass)
    below = total[(inside[:, 0] - 1).clip(0)] + (mass[inside] * part).sum(1)
    expected = np.diff(below).clip(0) + 1e-9 * total[-1]
    return np.asarray(expected / expected.sum())


_PLACES = np.linspace(-5, 5, 2001)
_BELOW = np.array([0.5 * (1 + erf(place / 2**0.5)) for place in _PLACES])


def _normal(values: np.ndarray) -> np.ndarray:
    """Distribution function of the normal distribution."""
    return np.interp(values, _PLACES, _BELOW)


def _conditional(expected: np.ndarray, bins: int) -> np.ndarray:
    """Probabilities given that the coefficient is not 0."""
    values = expected.copy()
    values[bins] = 0
    values = values / values.sum()
    return np.maximum(values, 1e-7)
