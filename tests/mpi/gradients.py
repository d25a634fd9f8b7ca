"""The comparison of a strategy's first gradients with those of sequential training, and the sizes
of the network that tests train."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

# Width and height of the pictures. What ranks compute together doesn't depend on it; the time that
# sixteen times fewer pixels take does. A dense kernel of 2304 × 128 still is most of the weights,
# and the poolings still drop a row.
SMALL, FULL = 32, 128
PLACES = range(12)  # of the network's weights
_DENSE = PLACES[8:]  # behind the poolings

Arrays = Mapping[str, np.ndarray]


def gradient_error(got: Arrays, wanted: Arrays, name: str, reference: str = "",
                   places: Iterable[int] = PLACES) -> float:
    """Norm of the difference over the norm, of the arrays ``name/place`` together."""
    off = size = 0.0
    for place in places:
        want = wanted[f"{reference or name}/{place}"].astype(np.float64)
        off += np.linalg.norm(got[f"{name}/{place}"] - want) ** 2
        size += np.linalg.norm(want) ** 2
    return (off / size) ** 0.5


def check_float32(got: Arrays, wanted: Arrays, name: str, reference: str = "") -> None:
    """The dense layers', 99.7% of the weights, together within 1e-5, each tensor within 5e-4.

    The sums of the first convolution and of the last bias nearly cancel. And where oneDNN adds up
    one row in another order than three, two neighbours that were nearly equal may change places
    before max pooling: the gradient takes the other's way, 1e-4 of the second kernel's then.
    """
    assert gradient_error(got, wanted, name, reference, _DENSE) <= 1e-5
    for place in PLACES:
        assert gradient_error(got, wanted, name, reference, [place]) <= 5e-4, place
