"""Fixed residual filters: Fridrich & Kodovský 2012, "Rich models for steganalysis of digital
images" (IEEE TIFS), doi 10.1109/TIFS.2012.2190402, section II."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from hpc_deepfake.network.zoo.layers import LAST, Shape

TRUNCATION = 2  # T of the paper, in steps of quantisation
GREY = (1, 2, 1)  # quarters of red, green, blue: JPEG 2000's luma (ISO/IEC 15444-1, RCT)
_EAST, _NORTH_EAST = (0, 1), (-1, 1)  # (down, right)


def filters() -> np.ndarray:
    """The 30 linear filters: whole numbers, float64 (5, 5, 30).

    Of each kind the filters of all directions: 8 of first, 4 of second and 8 of third order (the
    second order is the same both ways), SQUARE 3 × 3 with 4 EDGE 3 × 3, SQUARE 5 × 5 with 4 EDGE
    5 × 5, where EDGE is the half of SQUARE on one side of a line through the centre.
    """
    second = np.convolve([1, -1], [1, -1])
    # SQUARE 3 × 3 is less the product of two second derivatives (Kodovský's "KB")
    square3 = np.pad(-np.outer(second, second), 1)
    # SQUARE 5 × 5 ("KV") by its upper left quarter
    quarter = np.array([[-1, 2, -2], [2, -6, 8], [-2, 8, -12]])
    square5 = np.pad(quarter, (0, 2), mode="reflect")
    found = [turned for order, ways in (([-1, 1], 4), ([1, -2, 1], 2), ([1, -3, 3, -1], 4))
             for step in (_EAST, _NORTH_EAST)
             for turned in _turns(_line(order, step), ways)]
    for square in (square3, square5):
        upper = np.where(np.arange(5)[:, None] <= 2, square, 0)
        found += [square, *_turns(upper, 4)]
    return np.stack(found, -1)


def srm(shape: Shape) -> keras.Model:
    """A small CNN on truncated residuals of the picture's grey values.

    The 30 filters are weights that are never trained. A residual is divided by its filter's centre
    (the paper's quantisation step q = c) and truncated at ±2 (its T). Decided here, as the paper
    has no network: residuals aren't rounded, which only its co-occurrences need; grey values are
    (R + 2 G + B) / 4, so that the filters are whole numbers, exact in bfloat16 too; four
    convolutions with normalisation and average pooling, as is usual in steganalysis, and the mean
    over all places.
    """
    kernel = np.einsum("yxf,c->yxcf", filters(), GREY)
    steps = sum(GREY) * np.abs(filters()[2, 2]) * TRUNCATION
    blocks: list[keras.Layer] = []
    for number, channels in enumerate((16, 32, 64, 64), 1):
        blocks += [layers.Conv2D(channels, 3, padding="same", activation="relu",
                                 name=f"conv{number}", **LAST),
                   layers.BatchNormalization(name=f"bn{number}"),
                   layers.AveragePooling2D(2, name=f"pool{number}", **LAST)]
    residuals = layers.Conv2D(kernel.shape[-1], 5, use_bias=False, trainable=False,
                              name="residuals", **LAST)
    model = keras.Sequential([
        keras.Input(shape, name="picture"),
        residuals,
        layers.Rescaling((1 / steps).tolist(), name="rescaling"),
        layers.Activation("hard_tanh", name="truncation"),  # at ±1, which is ±T
        *blocks,
        layers.GlobalAveragePooling2D(name="mean", **LAST),
        layers.Dropout(0.5, name="dropout"),
        layers.Dense(2, activation="softmax", name="dense")], name="srm")
    residuals.set_weights([kernel])
    return model


def _line(coefficients: list[int], step: tuple[int, int]) -> np.ndarray:
    """(5, 5): the coefficients in a line, the first one of the largest in the centre; ``step``
    leads from each to the next."""
    place = np.zeros((5, 5))
    start = max(range(len(coefficients)), key=lambda i: (abs(coefficients[i]), -i))
    for i, value in enumerate(coefficients):
        place[2 + (i - start) * step[0], 2 + (i - start) * step[1]] = value
    return place


def _turns(kernel: np.ndarray, ways: int) -> list[np.ndarray]:
    """The kernel turned by 0, 90, … degrees, ``ways`` times."""
    return [np.rot90(kernel, turn) for turn in range(ways)]
