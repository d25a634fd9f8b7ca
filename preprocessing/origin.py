"""Where pictures are from: the data sets that they belong to, and whether this project has drawn
them, or made them of photographs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from preprocessing.catalogue import SAMPLE_MARK, locate
from preprocessing.listing.sets import CLASSES, DEPTH
from preprocessing.sample import is_drawn
from preprocessing.saves import says

FORGED_MARK = "FORGERIES.txt"  # marks a folder of forgeries that this project has made
FORGED = "hpc_deepfake forgery "  # beginning of the comment of their files
_LOOKED_AT = 8  # files
_HEAD = 1 << 12  # bytes of a file, in which the mark is
_CLASSES = {name.encode() for names in CLASSES.values() for name in names}


def data_sets(paths: Sequence[bytes], labels: Sequence[int], rest: str) -> list[dict[str, Any]]:
    """The data sets of pictures by the folders above those of the classes, with the numbers of
    ``pictures``, ``authentic`` and ``tampered`` of each ``name``, sorted.

    Args:
        paths: as in the catalogue.
        labels: of the same pictures.
        rest: name of the data set at the root, or where no folder is named like a class.
    """
    homes = [_home(path).decode("utf-8", "backslashreplace") or rest for path in paths]
    tampered = Counter(home for home, label in zip(homes, labels, strict=True) if label)
    return [{"name": name, "pictures": count, "authentic": count - tampered[name],
             "tampered": tampered[name]} for name, count in sorted(Counter(homes).items())]


def drawn(roots: dict[str, Path], paths: Sequence[bytes]) -> bool | None:
    """Whether pictures are sample pictures that this project has drawn, by the mark in the folder
    of their data set, or in some of the files, which may have been copied; None: the folders are
    gone.

    Args:
        roots: of the catalogue.
        paths: as in the catalogue.
    """
    return _marked(roots, paths, SAMPLE_MARK, is_drawn)


def forged(roots: dict[str, Path], paths: Sequence[bytes]) -> bool | None:
    """As ``drawn``: whether pictures were made by ``hpc-deepfake sample --from``."""
    return _marked(roots, paths, FORGED_MARK, lambda data: says(data, FORGED))


def _marked(roots: dict[str, Path], paths: Sequence[bytes], mark: str,
            marked: Callable[[bytes], bool]) -> bool | None:
    inside = {b"/".join(folders[:depth]) for folders in {tuple(path.split(b"/")[:-1])
                                                         for path in paths}
              for depth in range(1, min(len(folders), DEPTH + 1) + 1)}
    places = {place for root in roots.values() if os.path.isdir(root)
              for place in (root, root.parent, *(root / os.fsdecode(name) for name in inside))}
    if not places:
        return None
    return any(os.path.exists(place / mark) for place in places) or any(
        marked(_head(roots, path)) for path in paths[::-(-len(paths) // _LOOKED_AT) or 1])


def _head(roots: dict[str, Path], path: bytes) -> bytes:
    """The first bytes of a file; none of a frame of a video, or of one that is gone."""
    try:
        with open(os.open(locate(roots, path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC),
                  "rb") as file:
            return file.read(_HEAD)
    except (OSError, KeyError, ValueError):
        return b""


def _home(path: bytes) -> bytes:
    """The folder of a picture's data set, relative to the root; empty for the root itself, or where
    no folder is named like a class."""
    folders = path.split(b"/")[:-1]
    place = next((place for place, name in enumerate(folders) if name.lower() in _CLASSES), 0)
    return b"/".join(folders[:place])
