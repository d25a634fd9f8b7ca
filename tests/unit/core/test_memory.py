"""Memory that is free on the node and within the job's limit."""

from __future__ import annotations

from collections import namedtuple

import pytest

from hpc_deepfake.core import memory


@pytest.mark.parametrize(("free", "allowed", "available"), [
    (1000, None, 1000), (1000, 300, 300), (1000, 5000, 1000), (1000, 0, 0)])
def test_the_smaller_one_counts(monkeypatch, free, allowed, available):
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: namedtuple("M", "available")(free))
    monkeypatch.setattr(memory, "cgroup_free", lambda text: allowed)
    assert memory.available() == available
