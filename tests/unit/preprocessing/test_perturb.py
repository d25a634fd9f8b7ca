"""Perturbations: what the changed files decode to, and how they are written as options."""

from __future__ import annotations

import argparse
import io
import os

import cv2
import numpy as np
import pytest
from conftest import alone
from PIL import Image

from hpc_deepfake.core.errors import InputError
from preprocessing import perturb
from preprocessing.__main__ import main
from preprocessing.ela import features_of_pixels
from preprocessing.facts import Facts
from preprocessing.picture import Rejected, decode
from preprocessing.store import open_header

RANDOM = np.random.default_rng(5)
PICTURE = cv2.GaussianBlur(RANDOM.integers(0, 256, (96, 128, 3), np.uint8), (0, 0), 2)


def only(word: str) -> perturb.Perturbation:
    found, = perturb.parse(word)
    return found


def changed(word: str, pixels: np.ndarray = PICTURE) -> np.ndarray:
    before = pixels.copy()
    result = only(word).of_pixels(pixels)
    assert np.array_equal(pixels, before) and result.dtype == np.uint8
    return result


def test_jpeg_is_what_a_file_saved_by_another_program_decodes_to():
    """Pillow's file of that quality and 4:2:0, read as any picture is."""
    for quality in (95, 50):
        file = io.BytesIO()
        Image.fromarray(PICTURE[..., ::-1]).save(file, "JPEG", quality=quality, subsampling="4:2:0")
        assert np.array_equal(changed(f"jpeg={quality}"), decode(file.getvalue()))


def test_resize_scales_by_the_factor():
    assert np.array_equal(changed("resize=0.5"), cv2.resize(PICTURE, (64, 48),
                                                            interpolation=cv2.INTER_AREA))
    assert changed("resize=1.5").shape == (144, 192, 3)
    assert changed("resize=0.05", PICTURE[:3, :9]).shape == (1, 1, 3)


def test_blur_has_the_standard_deviation():
    """That of a point, in pixels, each way."""
    point = np.zeros((65, 65, 3), np.uint8)
    point[32, 32] = 255
    spread = changed("blur=1.5", point)[..., 0].astype(float)
    away = np.arange(65) - 32.0
    for axis in (0, 1):
        assert ((spread.sum(axis) * away**2).sum() / spread.sum())**0.5 == pytest.approx(1.5, 0.1)


def test_noise_has_the_standard_deviation_and_belongs_to_the_picture():
    """Other in each pixel and colour; the same for the same picture, and of another, another."""
    grey = np.full((200, 300, 3), 128, np.uint8)
    noise = changed("noise=6", grey).astype(float) - 128
    assert noise.mean() == pytest.approx(0, abs=0.1) and noise.std() == pytest.approx(6, abs=0.1)
    assert abs(np.corrcoef(noise.reshape(-1, 3).T)[np.triu_indices(3, 1)]).max() < 0.02
    assert np.array_equal(changed("noise=6", grey.copy()), noise + 128)
    grey[0, 0, 0] = 0
    assert (changed("noise=6", grey).astype(float) - 128 == noise).mean() < 0.2
    white = np.full((20, 30, 3), 254, np.uint8)
    assert changed("noise=6", white).max() == 255 and changed("noise=6", white).min() > 200


def test_noise_is_the_same_in_strips(monkeypatch):
    """A large picture is changed strip by strip."""
    whole = changed("noise=3")
    monkeypatch.setattr(perturb, "_STRIP", 1000)
    assert np.array_equal(changed("noise=3"), whole)


def test_crop_keeps_the_middle_of_picture_and_mask():
    assert np.array_equal(changed("crop=0.5"), PICTURE[24:72, 32:96])
    mask = RANDOM.integers(0, 2, (64, 64), np.uint8)
    assert np.array_equal(only("crop=0.5").of_mask(mask), mask[16:48, 16:48])
    for word in ("resize=0.5+jpeg=80", "blur=2", "screenshot"):
        assert np.array_equal(only(word).of_mask(mask), mask)


def test_screenshot_fills_the_screen():
    assert changed("screenshot").shape == (1080, 1440, 3)
    wide = np.full((100, 4000, 3), 7, np.uint8)
    assert changed("screenshot", wide).shape == (48, 1920, 3)


def test_steps_are_done_one_after_another():
    both = changed("crop=0.5+jpeg=60")
    assert np.array_equal(both, changed("jpeg=60", changed("crop=0.5")))
    assert not np.array_equal(both, changed("jpeg=60+crop=0.5"))


def test_a_picture_that_gets_too_large_is_rejected():
    with pytest.raises(Rejected, match="80000×8 pixels, which it has once it is scaled by 8"):
        changed("resize=8", np.zeros((1, 10_000, 3), np.uint8))


def test_facts_are_those_of_the_changed_file():
    assert only("resize=0.5+jpeg=80").facts(64, 48) == Facts(64, 48, "JPEG", 80)
    assert only("jpeg=80+resize=0.5").facts(64, 48) == Facts(64, 48, "PNG")


def test_words_are_read_and_written():
    """Levels given twice count once; those of several steps are combined."""
    def texts(word: str) -> list[str]:
        return list(map(str, perturb.parse(word)))

    assert texts("jpeg=95,90,95") == ["jpeg=95", "jpeg=90"]
    assert texts("resize=0.5,1.50+jpeg=80,60") == [
        "resize=0.5+jpeg=80", "resize=0.5+jpeg=60", "resize=1.5+jpeg=80", "resize=1.5+jpeg=60"]
    assert texts("screenshot+noise=3") == ["screenshot+noise=3"]
    assert only("screenshot+noise=3").operation == "screenshot+noise"


@pytest.mark.parametrize(("word", "message"), [
    ("jpg=90", "'jpg' is no perturbation; possible are jpeg, resize, blur, noise, "
                "crop, screenshot"),
    ("blur=1+", "'' is no perturbation"), ("jpeg", "needs JPEG qualities from 1 to 100"),
    ("jpeg=90.5", "jpeg needs JPEG"), ("jpeg=95,0", "jpeg needs JPEG"),
    ("resize=nan", "resize needs factors from 0.05 to 8, separated by commas"),
    ("crop=1.1", "crop needs shares of each side from 0.1 to 1"),
    ("noise=x", "noise needs standard deviations in levels from 0.1 to 64"),
    ("screenshot=2", "screenshot has no level"),
    ("+".join(["jpeg=1,2,3,4"] * 40), "levels of more than 1,000 combin")])
def test_impossible_words_are_refused_with_what_is_possible(word, message):
    with pytest.raises(argparse.ArgumentTypeError, match=message.replace("(", r"\(")):
        perturb.parse(word)


def test_preprocessing_perturbs_each_picture_by_one_of_them_or_not_at_all(pictures, tmp_path):
    """Each drawn about as often; the rows, and the facts stored, are those of the changed files.
    Without the option, the file is another one."""
    words = ["--perturb", "jpeg=90,60", "resize=0.5+jpeg=80"]
    out = tmp_path / "x.h5"
    options = ["--data", os.fspath(pictures), "--out", os.fspath(out), "--features", "ela"]
    assert main(alone(), [*options, *words]) == 0
    header = open_header(out)
    rows, qualities = header.array("ela"), header.array("quality")
    texts = []
    for row, name in enumerate(header.array("path").tolist()):
        pixels = decode((pictures / name.decode()).read_bytes())
        change = perturb.drawn(pixels, header.perturbations)
        changed = change.of_pixels(pixels)
        expected, = features_of_pixels(changed, ("ela",), header.parameters)
        assert np.array_equal(rows[row], expected)
        assert not change.steps or qualities[row] == change.facts(1, 1).quality
        texts.append(str(change))
    assert set(texts) == {"none", "jpeg=90", "jpeg=60", "resize=0.5+jpeg=80"}
    assert min(map(texts.count, set(texts))) > 5
    with pytest.raises(InputError, match="differs in: --perturb"):
        main(alone(), options)


def test_preprocessing_refuses_perturbations_that_masks_would_have_to_follow(pictures, tmp_path):
    options = ["--data", os.fspath(pictures), "--out", os.fspath(tmp_path / "x.h5"), "--perturb"]
    with pytest.raises(InputError, match=r"crop=0.8: masks don't follow.*train --augment crop"):
        main(alone(), [*options, "jpeg=90", "crop=0.8"])
    with pytest.raises(InputError, match="--crop takes their faces"):
        main(alone(), [*options, "jpeg=90", "--crop", "faces"])


def test_perturbations_of_a_damaged_header_are_refused():
    for stored in ("jpeg=90", [3], ["jpeg=101"], ["+".join(["jpeg=1,2,3,4"] * 40)]):
        with pytest.raises(ValueError, match="impossible perturbation"):
            perturb.of_texts(stored)
    assert list(map(str, perturb.of_texts(["jpeg=90", "screenshot"]))) == ["jpeg=90", "screenshot"]
