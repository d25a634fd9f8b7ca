"""Duplicates: hashes against a plain count, and copies of sample pictures."""

from __future__ import annotations

import os
import tracemalloc

import cv2
import numpy as np
import pytest

from hpc_deepfake.audit import duplicates
from preprocessing import ela, similar


def test_near_pairs_equal_those_of_a_plain_count():
    random = np.random.default_rng(7)
    bits = random.random((2500, 64)) < 0.5
    bits[1::5] = bits[0::5] ^ (random.random((500, 64)) < 0.12)  # some near DISTANCE bits away
    pairs = np.concatenate(list(similar.near(bits)))
    expected = [(first, second) for first in range(2500) for second in
                first + 1 + np.flatnonzero((bits[first + 1:] != bits[first]).sum(1)
                                           <= similar.DISTANCE)]
    assert 200 < len(expected) < 500 and sorted(map(tuple, pairs.tolist())) == expected
    of_two_sets = np.concatenate(list(similar.near(bits[1::5], bits[0::5])))
    assert sorted(map(tuple, of_two_sets.tolist())) == [
        (second // 5, first // 5) for first, second in expected
        if (first % 5, second % 5) == (0, 1)]



def test_comparing_all_with_all_needs_no_memory_for_it():
    bits = np.random.default_rng(1).random((6000, 64)) < 0.5
    tracemalloc.start()
    sum(map(len, similar.near(bits[:1200], bits)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20  # distances of all would be 7 million


def test_too_many_similar_pictures_are_reported(monkeypatch):
    monkeypatch.setattr(duplicates, "MOST", 100)
    plain = np.full((60, 32, 32, 3), 7, np.uint8)
    pairs = duplicates.alike(plain, np.ones(60, bool), np.arange(60))
    assert len(pairs.copies) == 100 and not pairs.complete
    pairs = duplicates.alike(plain, np.ones(60, bool), np.zeros(60))
    assert not len(pairs.copies) and pairs.complete, "of the same group, part and label"


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_a_picture_saved_again_is_a_copy_and_a_forgery_is_not(pictures, quality):
    """On sample pictures: all copies are detected, and no forgery is taken for a copy."""
    files = [os.fsencode(path) for path in sorted(pictures.rglob("*.jpg"))]
    small = np.stack([cv2.resize(ela.features_of_file(file, ("raw",), ela.Parameters())[0],
                                 (32, 32), interpolation=cv2.INTER_AREA) for file in files])
    again = []
    for file in files:
        pixels = cv2.imdecode(cv2.imencode(".jpg", cv2.imread(os.fsdecode(file)),
                                           (cv2.IMWRITE_JPEG_QUALITY, quality))[1], 1)
        again.append(cv2.resize(ela.resize(pixels)[..., ::-1], (32, 32),
                                interpolation=cv2.INTER_AREA))
    count = len(files)
    pairs = duplicates.alike(np.concatenate([small, np.stack(again)]), np.ones(2 * count, bool),
                             np.arange(2 * count))
    assert set(map(tuple, pairs.copies.tolist())) == {(row, row + count) for row in range(count)}
    assert len(pairs.scenes) > count / 2, "a forgery shows the scene of its target"
