"""The start of TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from speed import limit

pytestmark = pytest.mark.slow  # TensorFlow starts, and traces graphs
PROGRAM = """
import os, sys
from hpc_deepfake.network import device
print(device.start("cpu", threads=2).kind, os.environ["TF_ENABLE_ONEDNN_OPTS"])
print("matplotlib.pyplot" in sys.modules)
import matplotlib.pyplot
"""


def test_it_is_quiet_and_does_not_load_matplotlib() -> None:
    """oneDNN is on by default; matplotlib is not loaded, and can still be imported afterwards."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True,
                          timeout=limit(120), env=environ)
    assert (done.stdout.split(), done.stderr) == (["CPU", "1", "False"], "")
