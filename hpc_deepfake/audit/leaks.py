"""Source pictures shared by two parts of the split, and file names that contradict labels."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from preprocessing.names import TAMPERED, Name, like_casia, parse, parse_path
from preprocessing.split import PARTS


def names(paths: Sequence[bytes]) -> list[Name | None]:
    """Each path parsed as a CASIA name; None if it isn't one."""
    files = (parse_path(path)[0] for path in paths)
    return [parse(os.fsdecode(file.rpartition(b".")[0].rpartition(b"/")[2])) for file in files]


def not_understood(paths: Sequence[bytes], parsed: Sequence[Name | None]) -> list[int]:
    """Rows with a name like CASIA's that isn't understood, so that its source is unknown."""
    return [row for row, (path, name) in enumerate(zip(paths, parsed, strict=True))
            if name is None and like_casia(os.fsdecode(
                parse_path(path)[0].rpartition(b".")[0].rpartition(b"/")[2]))]


def shared(parsed: Sequence[Name | None], groups: np.ndarray,
           parts: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """Rows of each later part that share a source picture with an earlier part.

    A CASIA name lists its source pictures; any other picture has its group as its source.

    Returns:
        For each pair of existing parts, such as ``("train", "validation")``: rows of the second
        that share a source with the first, int64, sorted.
    """
    parts_of: dict[str | int, set[int]] = defaultdict(set)
    sources = [name.sources if name else (group,)
               for name, group in zip(parsed, groups.tolist())]
    for row_sources, part in zip(sources, parts.tolist()):
        for source in row_sources:
            parts_of[source].add(part)
    existing = np.unique(parts).tolist()
    return {(PARTS[early], PARTS[late]): np.array(
        [row for row, row_sources in enumerate(sources) if parts[row] == late
         and any(early in parts_of[source] for source in row_sources)], np.int64)
        for early in existing for late in existing if early < late}


def contradicting(parsed: Sequence[Name | None], labels: np.ndarray) -> np.ndarray:
    """Rows whose CASIA name implies the other label, int64."""
    return np.array([row for row, (name, label) in enumerate(zip(parsed, labels.tolist()))
                     if name and name.label != label], np.int64)


def without_source(parsed: Sequence[Name | None]) -> np.ndarray:
    """Rows with the name of a tampered picture whose source isn't among the authentic pictures,
    int64."""
    authentic = {name.sources[0] for name in parsed if name and name.label != TAMPERED}
    return np.array([row for row, name in enumerate(parsed) if name and name.label == TAMPERED
                     and not authentic.issuperset(name.sources)], np.int64)
