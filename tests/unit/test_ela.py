"""Error level analysis against a plain reference in Pillow and NumPy."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageChops, ImageEnhance
from test_picture import SIZES, encoded, scene

from preprocessing.ela import (
    FEATURES,
    Parameters,
    error_level,
    features,
    features_of_file,
    recompress,
    resize,
)


def notebook(image: Image.Image, quality: int = 90) -> np.ndarray:
    """Error level analysis as it is usually written, without the resize; red-green-blue."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    again = Image.open(buffer)
    difference = ImageChops.difference(image, again)
    largest = max(high for _, high in difference.getextrema()) or 1
    return np.asarray(ImageEnhance.Brightness(difference).enhance(255 / largest))


@pytest.mark.parametrize("size", SIZES)
def test_recompressed_pixels_are_pillow_s(size):
    """OpenCV's encoder, then its decoder: Pillow's default 4:2:0, bit for bit."""
    pixels = scene(*size, seed=1)
    for quality in (10, 50, 75, 90, 95, 100):
        data = encoded(pixels, quality=quality, subsampling="4:2:0")
        wanted = np.asarray(Image.open(io.BytesIO(data)))
        got = recompress(np.ascontiguousarray(pixels[..., ::-1]), quality)[..., ::-1]
        assert np.array_equal(got, wanted), quality


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("quality", [70, 90])
def test_error_level_is_the_notebook_s_within_one_level(size, quality):
    image = Image.open(io.BytesIO(encoded(scene(*size, seed=2), quality=95)))
    bgr = np.ascontiguousarray(np.asarray(image)[..., ::-1])
    got = error_level(bgr, Parameters(quality=quality))[..., ::-1].astype(int)
    wanted = notebook(image, quality).astype(int)
    assert np.abs(got - wanted).max() <= 1
    assert got.max() in (0, 255)
    difference = np.abs(bgr[..., ::-1].astype(int)
                        - recompress(bgr, quality)[..., ::-1].astype(int))
    assert np.abs(got - difference * 255 / max(difference.max(), 1)).max() <= 0.5


def test_a_flat_picture_has_no_errors():
    data = encoded(np.full((60, 60, 3), 128, np.uint8))
    ela, raw = features(data, ("ela", "raw"), Parameters())
    assert ela.max() == 0
    assert (raw == 128).all()


def test_features_are_red_green_blue_in_the_order_asked_for():
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[..., 0] = 200
    raw, ela = features(encoded(pixels, "PNG"), ("raw", "ela"), Parameters())
    assert raw[64, 64].tolist() == [200, 0, 0]
    assert ela.shape == (128, 128, 3)


def test_ela_is_the_resized_error_level(tmp_path):
    data = encoded(scene(384, 256))
    (tmp_path / "x.jpg").write_bytes(data)
    ela, = features_of_file(tmp_path / "x.jpg", ("ela",), Parameters())
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    exact = Image.fromarray(error_level(bgr, Parameters())[..., ::-1]).resize(
        (128, 128), Image.Resampling.BOX)
    assert np.abs(ela.astype(int) - np.asarray(exact).astype(int)).max() <= 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (127, 129), (128, 128), (129, 127),
                                   (128, 1), (1000, 100), (100, 1000), (2000, 2), (256, 256)])
def test_resize_keeps_a_flat_picture_flat_and_the_mean(shape):
    assert (resize(np.full((*shape, 3), 77, np.uint8)) == 77).all()
    ramp = np.linspace(0, 255, shape[0] * shape[1]).reshape(shape).astype(np.uint8)
    got = resize(np.repeat(ramp[..., None], 3, 2))
    assert got.shape == (128, 128, 3) and got.dtype == np.uint8
    assert got.mean() == pytest.approx(ramp.mean(), abs=1.5)


def test_shrinking_uses_every_pixel():
    """One bright line among a thousand must be seen, whichever way the other side goes."""
    for shape in ((1024, 1024), (1024, 64)):
        for row in (1, 500, 1022):
            pixels = np.zeros((*shape, 3), np.uint8)
            pixels[row] = 255
            assert resize(pixels).max() > 0


def test_quality_and_size_are_parameters():
    data = encoded(scene(100, 100))
    small, = features(data, ("ela",), Parameters(size=32))
    assert small.shape == (32, 32, 3)
    other, = features(data, ("ela",), Parameters(quality=50))
    assert not np.array_equal(other, features(data, ("ela",), Parameters())[0])
    assert Parameters().as_dict() == {"quality": 90, "subsampling": "4:2:0", "size": 128}
    assert set(FEATURES) == {"ela", "raw"}
