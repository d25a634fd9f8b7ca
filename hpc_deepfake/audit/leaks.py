"""Source pictures that are on two sides of the split, and names that contradict labels."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from preprocessing.names import TAMPERED, Name, parse, parse_path
from preprocessing.split import PARTS


def names(paths: Sequence[bytes]) -> list[Name | None]:
    """What each path says as a CASIA name; None if it isn't one."""
    files = (parse_path(path)[0] for path in paths)
    return [parse(os.fsdecode(file.rpartition(b".")[0].rpartition(b"/")[2])) for file in files]


def shared(parsed: Sequence[Name | None], groups: np.ndarray,
           parts: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """Rows of each later part whose source picture an earlier part knows.

    A CASIA name tells its source pictures; any other picture counts as made from the same as the
    rest of its group.

    Returns:
        For each pair of parts that there are, like ``("train", "validation")``: rows of the second
        that share a source with the first, int64, sorted.
    """
    parts_of: dict[str | int, set[int]] = defaultdict(set)
    sources = [name.sources if name else (group,)
               for name, group in zip(parsed, groups.tolist())]
    for some, part in zip(sources, parts.tolist()):
        for source in some:
            parts_of[source].add(part)
    there = np.unique(parts).tolist()
    return {(PARTS[early], PARTS[late]): np.array(
        [row for row, some in enumerate(sources) if parts[row] == late
         and any(early in parts_of[source] for source in some)], np.int64)
        for early in there for late in there if early < late}


def contradicting(parsed: Sequence[Name | None], labels: np.ndarray) -> np.ndarray:
    """Rows whose CASIA name says another label, int64."""
    return np.array([row for row, (name, label) in enumerate(zip(parsed, labels.tolist()))
                     if name and name.label != label], np.int64)


def without_source(parsed: Sequence[Name | None]) -> np.ndarray:
    """Rows whose name says tampered and names a source of which there is no authentic picture."""
    authentic = {name.sources[0] for name in parsed if name and name.label != TAMPERED}
    return np.array([row for row, name in enumerate(parsed) if name and name.label == TAMPERED
                     and not authentic.issuperset(name.sources)], np.int64)
