"""Makes the network one for pictures of 32 × 32: imported before the modules that take its size.

It has the same layers, poolings that drop a row among them, and a dense kernel of 2304 × 128 that
still is most of its weights. What ranks compute together doesn't depend on the size; the time that
sixteen times fewer pixels take does.
"""

import sys

from preprocessing import ela

SIZE = 32

if ela.SIZE != SIZE:
    assert "hpc_deepfake.network.shapes" not in sys.modules
    for function in (ela.Parameters.__init__, ela.resize):
        function.__defaults__ = tuple(SIZE if value == ela.SIZE else value
                                      for value in function.__defaults__)
    ela.SIZE = SIZE
