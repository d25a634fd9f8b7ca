"""Compiles the operations for the table network's convolution blocks on CPUs.

    python -m hpc_deepfake.network.blocks        # env/setup.sh does it too

It needs a C++ compiler ($CXX, else g++) and takes about 10 seconds. Training on CPUs computes with
them from then on; without them, it uses TensorFlow's own operations and takes 1.1 to 1.7 times as
long.
"""

from __future__ import annotations

import os
import sys

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.options import Parser
from hpc_deepfake.core.quiet import quiet_stderr
from hpc_deepfake.network.blocks import library


def main() -> int:
    """Build the library, and load it once. Returns the exit code."""
    Parser(prog=library.COMMAND, config=False, description=__doc__).parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with quiet_stderr():  # TensorFlow's
            built = library.build()
            loaded = library.loaded()
    except InputError as error:
        print(f"{library.COMMAND}: {error}", file=sys.stderr)
        return 2
    assert loaded is not None
    print(f"{built}: built; this processor computes with {loaded.vectors}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
