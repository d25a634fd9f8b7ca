"""Memory that a program keeps for its next use."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

_TWO_PICTURES = """
import resource
from hpc_deepfake.core.surroundings import settle
import cv2, numpy as np

if PROGRAM:
    settle()
data = cv2.imencode(".jpg", np.zeros((1080, 1920, 3), np.uint8))[1]
for number in range(20):
    if number == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    pictures = [cv2.imdecode(data, cv2.IMREAD_COLOR) for _ in range(2)]
    del pictures
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library")
def test_freed_pictures_are_used_again_without_page_faults():
    faults, kept = (int(subprocess.check_output(
        [sys.executable, "-c", _TWO_PICTURES.replace("PROGRAM", program)]))
        for program in ("False", "True"))
    assert faults > 1000 and kept < 100, (faults, kept)
