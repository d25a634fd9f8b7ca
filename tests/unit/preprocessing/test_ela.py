"""Error level analysis against a plain reference in Pillow and NumPy."""

from __future__ import annotations

import argparse
import io
import json

import cv2
import numpy as np
import pytest
from conftest import run_program
from PIL import Image, ImageChops, ImageEnhance
from test_picture import SIZES, encoded, scene

from hpc_deepfake.network.model import Card, read_card, save
from preprocessing.ela import (
    FEATURES,
    Parameters,
    at_once,
    channels,
    computable,
    error_level,
    feature,
    features,
    features_of_file,
    features_of_pixels,
    recompress,
    resize,
)
from preprocessing.picture import decode
from preprocessing.store import open_header


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
        expected = np.asarray(Image.open(io.BytesIO(data)))
        actual = recompress(np.ascontiguousarray(pixels[..., ::-1]), quality)[..., ::-1]
        assert np.array_equal(actual, expected), quality


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("quality", [70, 90])
def test_error_level_is_the_notebook_s_within_one_level(size, quality):
    image = Image.open(io.BytesIO(encoded(scene(*size, seed=2), quality=95)))
    bgr = np.ascontiguousarray(np.asarray(image)[..., ::-1])
    actual = error_level(bgr, Parameters(quality=quality))[..., ::-1].astype(int)
    expected = notebook(image, quality).astype(int)
    assert np.abs(actual - expected).max() <= 1
    assert actual.max() in (0, 255)
    difference = np.abs(bgr[..., ::-1].astype(int)
                        - recompress(bgr, quality)[..., ::-1].astype(int))
    assert np.abs(actual - difference * 255 / max(difference.max(), 1)).max() <= 0.5


def test_a_flat_picture_has_no_errors():
    data = encoded(np.full((60, 60, 3), 128, np.uint8))
    ela, raw = features(data, ("ela", "raw"), Parameters())
    assert ela.max() == 0
    assert (raw == 128).all()


def test_features_are_red_green_blue_in_the_given_order():
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
    actual = resize(np.repeat(ramp[..., None], 3, 2))
    assert actual.shape == (128, 128, 3) and actual.dtype == np.uint8
    assert actual.mean() == pytest.approx(ramp.mean(), abs=1.5)


def test_shrinking_uses_every_pixel():
    """One bright line among a thousand must be visible, whether the other side shrinks or grows."""
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
    assert set(FEATURES) == {"ela", "raw", "gray_bits"}


def test_features_of_a_file_are_those_of_its_pixels():
    data = encoded(scene(150, 100))
    names = tuple(FEATURES)
    for one, other in zip(features(data, names, Parameters()),
                          features_of_pixels(decode(data), names, Parameters()), strict=True):
        assert np.array_equal(one, other)


def test_reencoding_comes_before_every_feature():
    """Decode, save as JPEG at that quality with 4:2:0, decode, then as usual; all with Pillow."""
    picture = Image.fromarray(scene(150, 100))
    saved = encoded(picture, quality=80, subsampling="4:2:0")
    names = tuple(FEATURES)
    actual = features(encoded(picture, "PNG"), names, Parameters(reencode=80))
    for one, expected in zip(actual, features(saved, names, Parameters()), strict=True):
        assert np.array_equal(one, expected)
    assert not np.array_equal(actual[0], features(encoded(picture, "PNG"), names, Parameters())[0])


def test_reencoding_hides_the_format_of_a_file():
    """The same pixels as TIFF, PNG and BMP give the same features; JPEG of another quality or
    subsampling, whose pixels differ, leaves traces, as documented."""
    picture = Image.fromarray(scene(150, 100))
    parameters = Parameters(reencode=90)
    files = [encoded(picture, kind) for kind in ("TIFF", "PNG", "BMP")]
    first, *others = [features(data, ("ela",), parameters)[0] for data in files]
    assert all(np.array_equal(first, one) for one in others)
    low = encoded(picture, quality=30)
    assert not np.array_equal(first, features(low, ("ela",), parameters)[0])


@pytest.mark.slow
def test_what_reencoding_leaves_of_the_container(pictures):
    """The same pictures as JPEG of quality 75 and as TIFF: how well the mean error level alone
    tells them apart. Hardly at all, where the quality is that of the files; at a higher one as
    before. docs/ela.md shows what ``-s`` prints."""
    files = []
    for path in sorted(pictures.glob("*/*.jpg")):
        image = Image.open(path).convert("RGB")
        files.append((encoded(image, quality=75), encoded(image, "TIFF")))

    def separation(quality: int, reencode: int | None) -> float:
        parameters = Parameters(quality, reencode=reencode)
        jpeg, tif = np.array([[features(data, ("ela",), parameters)[0].mean() for data in pair]
                              for pair in files]).T
        area = (jpeg[:, None] < tif).mean() + (jpeg[:, None] == tif).mean() / 2
        print(f"--quality {quality}  --reencode {reencode or 'not given':<9}  "
              f"AUC {max(area, 1 - area):.2f}")
        return max(area, 1 - area)

    left = {reencode: separation(90, reencode) for reencode in (None, 95, 90, 75, 50)}
    assert left[None] > 0.65 and left[95] > 0.6
    assert left[75] < 0.55 and left[90] < 0.6
    assert separation(75, None) > 0.99 and separation(75, 90) > 0.8  # ELA's quality is the files'


def test_without_reencoding_the_parameter_is_not_stored():
    """Files and models older than the option keep their meaning, and new ones have equal bytes."""
    old = {"quality": 90, "subsampling": "4:2:0", "size": 128}
    assert Parameters(**old) == Parameters() and Parameters().reencode is None
    assert Parameters().as_dict() == old
    new = Parameters(reencode=95)
    assert new.as_dict() == {**old, "reencode": 95}
    assert Parameters(**new.as_dict()) == new


def test_the_card_of_a_model_has_the_quality_of_reencoding(tmp_path):
    """``predict`` computes features with the parameters of the card."""
    class Saved:
        def save(self, path):
            path.touch()

        def get_weights(self):
            return []

    for parameters in (Parameters(), Parameters(85, reencode=70)):
        save(Saved(), Card("ela", parameters), tmp_path / "model.keras")
        card = json.loads((tmp_path / "model.json").read_text())
        assert card["parameters"] == parameters.as_dict()
        assert read_card(tmp_path).parameters == parameters


def test_the_options_that_make_other_parameters():
    made = Parameters(size=64, reencode=75)
    assert Parameters(80).options(made) == "--quality 80 --size 128 without --reencode"
    assert made.options(Parameters()) == "--size 64 --reencode 75"
    assert Parameters().options(Parameters()) == ""


@pytest.mark.parametrize(("size", "rows"), [(16, 64), (128, 64), (129, 63), (256, 16), (1024, 1),
                                            (4096, 1)])
def test_as_many_rows_as_take_the_memory_of_64_usual_ones(size, rows):
    assert at_once(64, size) == rows


@pytest.mark.slow
def test_the_data_file_has_the_quality_of_reencoding(pictures, tmp_path):
    """The option affects the rows, is stored, and a file made without it is not resumed."""
    def program(*options: str) -> str:
        done = run_program("preprocessing", "--data", pictures, "--out", "r.h5",
                           "--features", "ela", "gray_bits", *options, cwd=tmp_path)
        return f"{done.returncode} {done.stderr}{done.stdout}"

    assert "note: --reencode" not in program("--reencode", "75")
    header = open_header(tmp_path / "r.h5")
    assert header.parameters == Parameters(reencode=75)
    path = header.array("path")[40].decode()
    for name, expected in zip(header.features, features_of_file(
            pictures / path, header.features, Parameters(reencode=75)), strict=True):
        assert np.array_equal(header.array(name)[40], expected)
    assert ("2 error: r.h5 differs in: ELA parameters (--reencode 75 in the file, without "
            "--reencode now)") in program()
    assert "2 error: --reencode 101: JPEG quality is at most 100" in program("--reencode", "101")
    assert "note: --reencode 90 is also ELA's quality" in program("--reencode", "90")


def test_stacked_features_are_their_parts_side_by_side():
    pixels = scene(97, 64, seed=4)
    ela, raw, both = features_of_pixels(pixels, ("ela", "raw", "ela+raw"), Parameters(size=32))
    assert np.array_equal(both, np.concatenate([ela, raw], 2))
    assert (channels("ela"), channels("ela+raw")) == (3, 6)
    assert feature("raw + ela") == "ela+raw" and feature("own") == "own"
    assert computable("ela+raw") and not computable("ela+own") and not computable("own")
    for wrong in ("ela+ela", "ela+", "", "../x", "ela+a/b"):
        with pytest.raises(argparse.ArgumentTypeError, match="is no feature"):
            feature(wrong)
