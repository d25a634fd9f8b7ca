"""Preprocessing that syncs and marks its rows every MiB, not every 32 MiB."""

from __future__ import annotations

from hpc_deepfake.core import mpi
from preprocessing import extract
from preprocessing.__main__ import main

extract._SYNC_BYTES = 1 << 20
mpi.run(main)
