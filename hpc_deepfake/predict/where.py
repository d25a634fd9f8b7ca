"""Where a network says that a picture was changed: its map, in its place on the picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.web.overlay import enlarged

if TYPE_CHECKING:
    from hpc_deepfake.network.card import Card

Box = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False, repr=False)
class Where:
    """A network's map of a picture.

    Attributes:
        levels: uint8 (S, S): the probability that a pixel was changed, times 255, as the network
            gives it, for the picture resized to S × S.
        threshold: level from which a pixel counts as changed: the model's.
        size: height and width of the picture as stored in its file.
        box: top, left, bottom and right (exclusive) of the part that the network saw, pixels of
            the picture; None: all of it.
    """

    levels: np.ndarray
    threshold: int
    size: tuple[int, int]
    box: Box | None = None

    @property
    def area(self) -> float:
        """Share of what the network saw that counts as changed, 0 to 1."""
        return float(np.mean(self.levels >= self.threshold))

    def at_own_size(self) -> np.ndarray:
        """The map at the picture's own size, uint8 (height, width); 0 where the network saw
        nothing."""
        return self.on(*self.size)

    def on(self, height: int, width: int) -> np.ndarray:
        """``at_own_size`` of the picture resized to ``height`` × ``width``."""
        if self.box is None:
            return enlarged(self.levels, height, width)
        down, across = height / self.size[0], width / self.size[1]
        top, left, bottom, right = self.box
        return placed(self.levels, (height, width), (
            round(top * down), round(left * across), round(bottom * down), round(right * across)))


def placed(levels: np.ndarray, size: tuple[int, int], box: Box) -> np.ndarray:
    """A map of a part of a picture in its place on it, uint8 ``size``, 0 elsewhere.

    Args:
        levels: uint8 (S, S).
        size: height and width of the picture.
        box: as of ``Where``; what lies outside of the picture is cut off.
    """
    top, left, bottom, right = box
    part = enlarged(levels, max(1, bottom - top), max(1, right - left))
    whole = np.zeros(size, np.uint8)
    inner = whole[max(top, 0):max(bottom, 0), max(left, 0):max(right, 0)]
    rows, columns = max(-top, 0), max(-left, 0)
    inner[:] = part[rows:rows + inner.shape[0], columns:columns + inner.shape[1]]
    return whole


def require_map(card: Card, model: Path) -> None:
    """Raise InputError if a model has no map."""
    if card.mask_threshold is None:
        raise InputError(f"the model {model} (network {card.network or 'table'}) doesn't say where "
                         "a picture was changed, so there are no masks to write: train one that "
                         "does, with --network unet, or leave out --mask-dir. --explain-dir shows "
                         "what influenced this one")


def with_map(network: Any, card: Card) -> Any:
    """A Keras model with its map as a second output, if its card says how to read one."""
    from hpc_deepfake.network import maps

    return maps.both(network) if card.mask_threshold is not None and maps.has(network) else network


def gives_map(network: Any) -> bool:
    """Whether ``with_map`` has added one."""
    return isinstance(getattr(network, "output", None), list)
