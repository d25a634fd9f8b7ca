"""Program for tests: probabilities that a saved model gives the rows of a data file.

    python tests/mpi/scores.py OUT.npz DATA RUN
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from hpc_deepfake import evaluate
from hpc_deepfake.data.rows import open_data
from hpc_deepfake.network import model

out, data, run = map(Path, sys.argv[1:])
rows = open_data(data, "ela")
np.savez(out, probabilities=evaluate.probabilities(
    model.load(run), rows, np.arange(rows.header.rows)))
