"""Compiles the operations for the table network's convolution blocks on CPUs.

    python -m hpc_deepfake.network.blocks        # env/setup.sh does it too

It needs a C++ compiler ($CXX, else g++) and takes about 10 seconds. Training on CPUs computes with
them from then on; without them, it uses TensorFlow's own operations and takes 1.1 to 1.5 times as
long. Build them again on processors of another kind and for another TensorFlow.
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
        with quiet_stderr():
            import tensorflow  # noqa: F401 # what it says while it starts
        built = library.build()
        loaded = library.loaded()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted: nothing was changed", file=sys.stderr)
        return 130
    assert loaded is not None, library.missing()
    print(f"{built}: built; this processor computes with {loaded.vectors}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
