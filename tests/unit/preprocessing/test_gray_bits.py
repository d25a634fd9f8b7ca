"""Gray values and bits of the error map against their formulae in plain NumPy."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from test_picture import encoded, scene

from preprocessing import ela
from preprocessing.ela import Parameters, error_level, features, features_of_pixels, resize
from preprocessing.gray_bits import grayscale, high_bits, low_bits, pixel_values, planes

EVERY = np.arange(256, dtype=np.uint8).reshape(16, 16)


def test_grayscale_is_the_luminance_of_bt_601():
    """The weights belong to red, green and blue in that order, the result is rounded."""
    random = np.random.default_rng(0)
    bgr = random.integers(0, 256, (200, 300, 3), np.uint8)
    blue, green, red = np.moveaxis(bgr.astype(float), 2, 0)
    gray = grayscale(bgr)
    assert gray.dtype == np.uint8 and gray.shape == (200, 300)
    # half a level of rounding, and the error of weights in 14 bits
    assert np.abs(gray - (0.299 * red + 0.587 * green + 0.114 * blue)).max() <= 0.52
    for value in (0, 1, 128, 255):
        assert (grayscale(np.full((2, 2, 3), value, np.uint8)) == value).all()


def test_bits_are_the_two_halves_of_every_byte():
    high, low = high_bits(EVERY), low_bits(EVERY)
    assert high.dtype == low.dtype == np.uint8
    assert np.array_equal(high, EVERY // 16) and np.array_equal(low, EVERY % 16)
    assert np.array_equal(16 * high + low, EVERY)  # nothing is lost


def test_pixel_values_spread_sixteen_levels_evenly():
    values = pixel_values(np.arange(16, dtype=np.uint8))
    assert values.dtype == np.uint8
    assert values.tolist() == [round(bits * 255 / 15) for bits in range(16)]


def test_planes_are_luminance_high_bits_and_low_bits():
    gray, high, low = planes(np.dstack([EVERY] * 3))
    assert np.array_equal(gray, EVERY)
    assert np.array_equal(high, EVERY // 16 * 17) and np.array_equal(low, EVERY % 16 * 17)


def test_the_feature_is_the_planes_of_the_error_map_each_resized():
    """In this order of channels; the bits are those of pixels, not of the resized picture."""
    data = encoded(scene(384, 256))
    feature, = features(data, ("gray_bits",), Parameters())
    assert feature.shape == (128, 128, 3) and feature.dtype == np.uint8
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    blue, green, red = np.moveaxis(error_level(bgr, Parameters()).astype(float), 2, 0)
    gray = np.rint(0.299 * red + 0.587 * green + 0.114 * blue)
    for channel, plane in enumerate((gray, gray // 16 * 17, gray % 16 * 17)):
        means = plane.reshape(128, 2, 128, 3).mean((1, 3))
        # a luminance near a half may be rounded the other way: at a multiple of 16 that moves a
        # sixth of an area's low bits by 255
        assert (np.abs(feature[..., channel] - means) <= 0.51).mean() > 0.99
    late = resize(gray.astype(np.uint8)) % 16 * 17
    assert np.abs(feature[..., 2].astype(int) - late).mean() > 20


def test_a_picture_without_errors_has_no_bits():
    feature, = features(encoded(np.full((60, 60, 3), 128, np.uint8)), ("gray_bits",), Parameters())
    assert feature.max() == 0


@pytest.mark.parametrize("names", [("ela", "gray_bits"), ("gray_bits", "raw", "ela"), ("raw",)])
def test_the_error_map_is_computed_once_and_only_if_needed(monkeypatch, names):
    calls = []

    def counted(*args):
        calls.append(args)
        return error_level(*args)

    pixels = np.ascontiguousarray(scene(200, 150))
    alone = [features_of_pixels(pixels, (name,), Parameters())[0] for name in names]
    monkeypatch.setattr(ela, "error_level", counted)
    together = features_of_pixels(pixels, names, Parameters())
    assert len(calls) == (names != ("raw",))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))
