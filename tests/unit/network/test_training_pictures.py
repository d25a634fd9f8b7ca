"""The list of a model's training pictures: what is recognised, and damaged files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network import pictures as module
from hpc_deepfake.network.pictures import (
    COPIED,
    OF_SCENE,
    RELATIONS,
    WORDS,
    Pictures,
    beside,
    row_digest,
)
from preprocessing import similar
from preprocessing.split import TRAIN, VALIDATION

RANDOM = np.random.default_rng(3)


def drawn(count: int) -> np.ndarray:
    """Pictures with large shapes, uint8 (count, 128, 128, 3)."""
    return np.stack([cv2.resize(RANDOM.integers(0, 256, (7, 7, 3), np.uint8), (128, 128),
                                interpolation=cv2.INTER_CUBIC) for _ in range(count)])


RAW, ROWS = drawn(6), RANDOM.integers(0, 256, (6, 128, 128, 3), np.uint8)
DIGESTS = RANDOM.integers(1, 256, (6, 16), np.uint8)
PARTS = np.array([TRAIN] * 4 + [VALIDATION] * 2, np.uint8)


@pytest.fixture
def known() -> Pictures:
    return Pictures.of(ROWS, RAW, DIGESTS, PARTS)


def test_the_same_file_and_the_same_pixels_in_another_file(known: Pictures) -> None:
    assert known.seen(DIGESTS[2].tobytes(), None, None) == "trained on"
    assert known.seen(DIGESTS[5].tobytes(), None, None) == "used for validation"
    assert known.seen(b"x" * 16, row_digest(ROWS[0]), None) == "trained on"
    assert known.seen(b"x" * 16, row_digest(ROWS[0] ^ 1), None) is None
    assert known.seen(None, None, None) is None


def test_a_picture_in_both_parts_counts_as_trained_on() -> None:
    for parts in ([VALIDATION, TRAIN], [TRAIN, VALIDATION]):
        twice = Pictures.of(ROWS[:2], None, DIGESTS[[0, 0]], np.array(parts, np.uint8))
        assert twice.seen(DIGESTS[0].tobytes(), None, None) == "trained on"


def test_a_picture_saved_again_and_one_of_the_same_scene(known: Pictures) -> None:
    again = cv2.imdecode(cv2.imencode(".jpg", RAW[1], (cv2.IMWRITE_JPEG_QUALITY, 60))[1],
                         cv2.IMREAD_COLOR)
    assert again is not None and not np.array_equal(again, RAW[1])
    assert known.seen(None, None, again) == "looks like a picture trained on"
    forged = RAW[4].copy()
    forged[40:80, 40:80] = 255 - forged[40:80, 40:80]
    assert known.seen(None, None, forged) == "shows the scene of a picture used for validation"
    assert known.seen(None, None, drawn(1)[0]) is None


def test_many_pictures_at_once_get_what_each_gets_alone_by_comparing_all_with_all() -> None:
    known_raw = drawn(60)
    parts = RANDOM.integers(TRAIN, VALIDATION + 1, 60).astype(np.uint8)
    known_raw[50:] = np.clip(known_raw[:10].astype(int) + 3, 0, 255)  # near twins, in any part
    known = Pictures.of(RANDOM.integers(0, 256, (60, 32, 32, 3), np.uint8), known_raw, None, parts)
    shown = np.concatenate([known_raw, known_raw, drawn(20), np.zeros((2, 128, 128, 3), np.uint8)])
    shown[60:100, 20:70, 20:60] = 255 - shown[60:100, 20:70, 20:60]
    thumbs = np.array([similar.thumbnail(picture, 16) for picture in shown])
    rows = [known.row[7].tobytes(), *[b"x" * 16] * (len(shown) - 1)]
    expected = []
    for thumb, hashed in zip(thumbs, similar.hashes(thumbs), strict=True):
        change = np.abs(known.thumb.astype(int) - thumb).max(-1).reshape(60, -1)
        near = (similar.hashes(known.thumb) != hashed).sum(1) <= similar.DISTANCE
        found = [(way, parts[matching].min()) for way, matching in (
            (COPIED, near & (change.max(1) <= similar.COPY)),
            (OF_SCENE, near & (np.median(change, 1) <= similar.SCENE))) if matching.any()]
        expected.append(found[0][0] + WORDS[found[0][1]] if found and np.ptp(thumb) >= 16 else "")
    expected[0] = WORDS[parts[7]]
    found = known.relations([None] * len(shown), rows, thumbs)
    assert [RELATIONS[number] for number in found] == expected
    assert set(expected) == set(RELATIONS) - {WORDS[1 - parts[7]]}
    for place in (0, 1, 61, 125, 141):
        assert known.relation(None, rows[place], shown[place]) == found[place]


def test_plain_pictures_are_not_recognised() -> None:
    """A blank page has the feature and the look of any other blank page."""
    blank = np.full((1, 128, 128, 3), 255, np.uint8)
    known = Pictures.of(np.zeros_like(blank), blank, None, PARTS[:1])
    assert row_digest(blank[0]) == bytes(16)
    assert known.seen(bytes(16), bytes(16), blank[0]) is None


@pytest.mark.parametrize("raw", [RAW, None])
def test_the_file_is_read_back_and_has_the_same_bytes_again(
        tmp_path: Path, raw: np.ndarray | None) -> None:
    model = tmp_path / "model.keras"
    assert Pictures.read(model) is None
    known = Pictures.of(ROWS, raw, None, PARTS)
    known.write(model)
    first = beside(tmp_path).read_bytes()
    read = Pictures.read(model)
    assert read is not None and len(read) == 6 and len(read.thumb) == (0 if raw is None else 6)
    for name in module._KINDS:
        assert np.array_equal(getattr(read, name), getattr(known, name)), name
    assert read.seen(None, row_digest(ROWS[5]), RAW[0]) == "used for validation"
    read.write(model)
    assert beside(model) == tmp_path / "model.pictures.h5"
    assert beside(model).read_bytes() == first


@pytest.mark.parametrize("damage", ["cut", "text", "missing", "other length", "other type",
                                    "part"])
def test_a_damaged_file_is_an_input_error(tmp_path: Path, known: Pictures, damage: str) -> None:
    known.write(tmp_path / "model.keras")
    path = beside(tmp_path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-4000])
    elif damage == "part":
        replace(known, part=PARTS + 1).write(tmp_path / "model.keras")
    elif damage == "text":
        path.write_text("pictures")
    else:
        with h5py.File(path, "r+") as file:
            del file["row"]
            if damage != "missing":
                file["row"] = np.zeros((5 if damage == "other length" else 6, 16),
                                       "u1" if damage == "other length" else "u2")
    with pytest.raises(InputError, match=r"model\.pictures\.h5, the list .* can't be read "
                                         r"\(it is damaged, or another file\): copy"):
        Pictures.read(tmp_path)
