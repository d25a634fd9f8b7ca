"""Pictures that several threads decode at once: memory, and whose remark is whose."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from preprocessing.picture import MAX_PIXELS, decode
from preprocessing.pixels import taken


def test_threads_have_no_more_pixels_than_the_largest_picture() -> None:
    inside, most, lock = 0, 0, threading.Lock()

    def hold(size: tuple[int, int]) -> None:
        nonlocal inside, most
        pixels = size[0] * size[1] or MAX_PIXELS  # 0 × 0: unknown
        with taken(*size):
            with lock:
                inside += pixels
                most = max(most, inside)
            threading.Event().wait(0.002)
            with lock:
                inside -= pixels

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, [(5_000, 8_000), (0, 0), (10_000, 12_000), (100, 100)] * 6))
    assert MAX_PIXELS <= most <= MAX_PIXELS


def test_a_remark_of_the_decoder_goes_to_its_own_picture(
        caplog: pytest.LogCaptureFixture) -> None:
    """Whatever other threads decode meanwhile."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    good = cv2.imencode(".jpg", noise)[1].tobytes()
    bad = good[:-2000] + bytes(1000) + good[-1000:]  # zeros among the coefficients
    with caplog.at_level(logging.WARNING):
        decode(bad, b"alone")
        expected, = (record.getMessage().partition(": ")[2] for record in caplog.records)
        caplog.clear()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda number: decode(bad if number % 3 == 0 else good,
                                                f"{number}".encode()), range(30)))
    assert sorted(record.getMessage() for record in caplog.records) == sorted(
        f"{number}: {expected}" for number in range(0, 30, 3))
