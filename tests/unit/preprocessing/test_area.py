"""Area means have OpenCV's bits."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from preprocessing import area

RANDOM = np.random.default_rng(0)
SIZES = [(1080, 1920), (1081, 933), (1000, 1001), (3001, 997), (907, 911), (641, 6400), (128, 6500),
         (150, 6500), (257, 6500)]
PICTURES: dict[str, Callable[[int, int], np.ndarray]] = {
    "noise": lambda height, width: RANDOM.integers(0, 256, (height, width, 3), np.uint8),
    "shapes": lambda height, width: cv2.resize(
        RANDOM.integers(0, 256, (9, 9, 3), np.uint8), (width, height),
        interpolation=cv2.INTER_CUBIC),
    "errors": lambda height, width: np.where(
        RANDOM.random((height, width, 3)) < 0.1, 255, 0).astype(np.uint8),
    "white": lambda height, width: np.full((height, width, 3), 255, np.uint8),
    "stripes": lambda height, width: np.repeat(np.arange(width)[None, :, None] % 2 * 255,
                                               height, 0).repeat(3, 2).astype(np.uint8),
    "one channel": lambda height, width: RANDOM.integers(0, 256, (height, width), np.uint8)}


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("shape", SIZES)
def test_the_bits_are_those_of_opencv(shape: tuple[int, int], kind: str) -> None:
    pixels = PICTURES[kind](*shape)
    for size in (64, 128, 100):
        expected = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)
        found = area.shrink(pixels, size)
        assert found.dtype == np.uint8 and np.array_equal(found, expected), size


def test_only_means_between_two_levels_are_added_one_by_one(monkeypatch) -> None:
    """They are few, and without them the bits would be others."""
    pixels, counts = PICTURES["noise"](1080, 1920), []
    added = area._in_order

    def counted(*arguments: np.ndarray) -> np.ndarray:
        counts.append(len(arguments[-1]))
        return added(*arguments)

    assert area._adds_in_order()
    expected = area.shrink(pixels, 128)
    monkeypatch.setattr(area, "_in_order", counted)
    assert np.array_equal(area.shrink(pixels, 128), expected)
    assert 20 < counts[0] < 500
    # at random places the sums in order are near the means, and their rounding is OpenCV's
    rows, columns = area._taps(1080, 128), area._taps(1920, 128)
    places = tuple(RANDOM.integers(0, limit, 2000) for limit in (128, 128, 3))
    sums = added(pixels, rows, columns, *places)
    assert np.array_equal(np.rint(sums), expected[places])
    assert 0 < np.abs(sums - area._means(pixels, rows)[places]).max() < 2e-4


def test_halves_everywhere_are_left_to_opencv(monkeypatch) -> None:
    pixels = np.full((1081, 2048, 3), 10, np.uint8)
    pixels[:, ::2] = 11
    expected = cv2.resize(pixels, (128, 128), interpolation=cv2.INTER_AREA)
    monkeypatch.setattr(area, "_in_order", lambda *_: pytest.fail("one by one"))
    assert np.array_equal(area.shrink(pixels, 128), expected)
