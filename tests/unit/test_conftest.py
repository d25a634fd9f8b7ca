"""What tests share doesn't harm the tests after it."""

from __future__ import annotations

import subprocess
import sys

from conftest import alone
from speed import limit


def test_mpirun_works_from_a_process_that_started_mpi() -> None:
    """With the environment that a child really gets, not the one that ``os.environ`` shows."""
    assert alone().size == 1
    done = subprocess.run(["mpirun", "-np", "2", sys.executable, "-c",
                           "import sys; from mpi4py import MPI; "
                           "sys.stdout.write(f'{MPI.COMM_WORLD.size}\\n')"],  # in one piece
                          text=True, capture_output=True, timeout=limit(60),
                          stdin=subprocess.DEVNULL)
    assert done.stdout.split() == ["2", "2"], (done.returncode, done.stderr)
