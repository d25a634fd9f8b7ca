"""The mixed protocol: authentic pictures of one CASIA set and tampered pictures of the other."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable

from hpc_deepfake.core.log import log
from hpc_deepfake.core.text import percent
from preprocessing.names import AUTHENTIC, TAMPERED, parse

_ID = re.compile(r"[a-z]{3}_?(\d{4,5})", re.IGNORECASE)  # ani_00001, cha00063


def warning(paths: Iterable[bytes], labels: Iterable[int]) -> str | None:
    """A warning about results on such data; None where both classes are of the same set.

    CASIA 1 has ids of four digits, CASIA 2 of five: a class belongs to the set that most of its
    pictures with CASIA names come from. Both sets in both classes are not the mixed protocol.

    Args:
        paths: of the pictures, as in the catalogue or percent-encoded.
        labels: 0 authentic, 1 tampered, of each picture.
    """
    labels = [int(label) for label in labels]
    sets = {AUTHENTIC: Counter[int](), TAMPERED: Counter[int]()}
    for path, label in zip(paths, labels, strict=True):
        which = casia_set(os.path.splitext(os.fsdecode(path).rpartition("/")[2])[0])
        if which is not None:
            sets[label][which] += 1
    if not all(sets.values()):
        return None
    authentic, tampered = (sets[label].most_common(1)[0][0] for label in (AUTHENTIC, TAMPERED))
    if authentic == tampered:
        return None
    majority = max(Counter(labels).values()) / len(labels)
    return (f"warning: the authentic pictures are CASIA {authentic}'s, the tampered ones "
            f"CASIA {tampered}'s, so results on these data are misleading: always predicting the "
            f"larger class is correct for {percent(majority)}, and the sets differ in file format "
            "and compression, which gives the classes away without any tampering "
            "(docs/data.md, CASIA's traps)")


def warn(paths: Iterable[bytes], labels: Iterable[int]) -> None:
    """Log ``warning`` if there is one."""
    text = warning(paths, labels)
    if text is not None:
        log.warning(text)


def casia_set(stem: str) -> int | None:
    """The CASIA set, 1 or 2, of a file name without its extension; None for other names."""
    match = None if parse(stem) is None else _ID.search(stem)
    return None if match is None else len(match[1]) - 3
