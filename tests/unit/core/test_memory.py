"""Memory that is free on the node and within the job's limit, and memory that is kept."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections import namedtuple

import pytest

from hpc_deepfake.core import memory


@pytest.mark.parametrize(("free", "allowed", "available"), [
    (1000, None, 1000), (1000, 300, 300), (1000, 5000, 1000), (1000, 0, 0)])
def test_the_smaller_one_counts(monkeypatch, free, allowed, available):
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: namedtuple("M", "available")(free))
    monkeypatch.setattr(memory, "cgroup_free", lambda text: allowed)
    assert memory.available() == available


_TWO_PICTURES = """
import resource
from hpc_deepfake.core.memory import keep_freed
import cv2, numpy as np

if KEPT:
    keep_freed()
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
    faults, kept = (int(subprocess.run(
        [sys.executable, "-c", _TWO_PICTURES.replace("KEPT", str(kept))], check=True, text=True,
        capture_output=True).stdout) for kept in (False, True))
    assert faults > 1000 and kept < 100, (faults, kept)
