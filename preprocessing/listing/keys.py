"""What groups are made of: the keys of each picture, and the rule that gave them."""

from __future__ import annotations

from typing import NamedTuple

CASIA, FOLDER, SERIES, NAME = "CASIA's names", "folder", "numbered series", "name"
BYTES = "equal bytes"
MANY = 20  # from so many files or folders on, how they are spread says something
MOSTLY = 0.9  # share that is nearly all


class Keys(NamedTuple):
    """What groups are made of.

    Attributes:
        keys: of each item: items that share a key are in one group.
        rules: what gave each item its keys, such as ``folder``.
        notes: remarks for the user.
    """

    keys: list[tuple[str, ...]]
    rules: list[str]
    notes: list[str]
