"""Garbage collections around the import of TensorFlow."""

from __future__ import annotations

import gc

import pytest

from hpc_deepfake.core import surroundings
from hpc_deepfake.network import device


@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize("collecting", [True, False])
def test_collections_pause(monkeypatch, settled, collecting):
    """They continue as they were. A program of the project leaves out what it imported; one that
    uses the library has its own objects there, which may become garbage."""
    monkeypatch.setattr(surroundings, "settled", settled)
    frozen = gc.get_freeze_count()
    if not collecting:
        gc.disable()
    try:
        with device._uncollected():
            assert not gc.isenabled()
        assert gc.isenabled() == collecting
        assert (gc.get_freeze_count() > frozen) == settled
    finally:
        gc.enable()
        gc.unfreeze()
