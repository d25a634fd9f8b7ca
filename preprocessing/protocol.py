"""The mixed protocol: authentic pictures of one CASIA set against tampered ones of the other."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from preprocessing.names import AUTHENTIC, TAMPERED, parse

_ID = re.compile(r"[a-z]{3}_?(\d{4,5})")  # ani_00001, cha00063


def warning(paths: Iterable[bytes], labels: Sequence[int]) -> str | None:
    """What to know about figures on such data; None where the classes are of the same set.

    CASIA 1 has ids of four digits, CASIA 2 of five: a class belongs to the set that most of its
    pictures with CASIA names come from. Both sets in one folder are no mixed protocol.

    Args:
        paths: of the pictures, as in the catalogue or percent-encoded. labels: 0 or 1 of each.
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
            f"CASIA {tampered}'s, so figures on these data mislead: always giving the larger "
            f"class is right in {majority:.1%}, and the sets differ in file format and "
            "compression, which tells the classes apart without any tampering "
            "(docs/data.md, CASIA's traps)")


def warn(paths: Iterable[bytes], labels: Sequence[int]) -> None:
    """Print ``warning`` if there is one."""
    text = warning(paths, labels)
    if text is not None:
        print(text, flush=True)


def casia_set(stem: str) -> int | None:
    """1 or 2: the CASIA set that a file name without its ending belongs to; None if to none."""
    return None if parse(stem) is None else len(_ID.search(stem)[1]) - 3
