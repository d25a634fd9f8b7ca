"""Files in folders that are no pictures or videos that can be read: what to say about them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from itertools import islice

from hpc_deepfake.core.text import plural, printable
from preprocessing import kinds

_LINES = 20  # reasons that are shown with files; the files of the others are counted
_EACH = 3  # files that are named with a reason
_THUMBNAILS = (b"@eaDir", b"__MACOSX")  # folders that a NAS or macOS fills with copies and notes


class LeftOut:
    """Files that are left out.

    Attributes:
        named: path and reason of each that the user may miss.
        beside: number of all others, such as metadata, by kind.
        remarks: on files that are not left out.
    """

    def __init__(self) -> None:
        self.named: list[tuple[bytes, str]] = []
        self.beside = Counter[str]()
        self.remarks: list[str] = []

    def entered(self, folders: list[bytes]) -> list[bytes]:
        """Those of the names of folders that are looked into, sorted; hidden ones and those of
        thumbnails aren't."""
        entered = sorted(name for name in folders
                         if not name.startswith(b".") and name not in _THUMBNAILS)
        if len(entered) < len(folders):
            self.beside["hidden"] += len(folders) - len(entered)
        return entered

    def takes(self, path: bytes) -> bool:
        """Whether the file isn't to be decoded; it is then kept here."""
        kind = kinds.of_file(path)
        if kind.sort == kinds.BESIDE:
            self.beside[kind.text] += 1
        elif kind.sort == kinds.OTHER:
            self.named.append((path, kind.text))
        return kind.sort in (kinds.BESIDE, kinds.OTHER)

    def notes(self) -> Iterator[str]:
        """What to say: a note on those that may be missed, of several lines, and one on the others.
        """
        if self.named:
            by_reason: dict[str, list[bytes]] = {}
            for path, reason in sorted(self.named):
                by_reason.setdefault(reason, []).append(path)
            lines = [f"{plural(len(self.named), 'file')} left out:"]
            lines += [f"  {_some(paths)}: {reason}"
                      for reason, paths in islice(by_reason.items(), _LINES)]
            more = Counter(os.path.splitext(path)[1].lower() for paths in islice(
                by_reason.values(), _LINES, None) for path in paths)
            if more:
                lines.append(f"  and {more.total():,} more: " + _counts(Counter(
                    {printable(os.fsdecode(ending)) or "without ending": count
                     for ending, count in more.items()})))
            yield "\n".join(lines)
        yield from self.remarks
        if self.beside:
            yield f"beside the pictures left out: {_counts(self.beside)}"


def _some(paths: list[bytes]) -> str:
    more = f" and {len(paths) - _EACH:,} more" if len(paths) > _EACH else ""
    return ", ".join(printable(os.fsdecode(path)) for path in paths[:_EACH]) + more


def _counts(counts: Counter[str]) -> str:
    """Such as ``12 .xmp, 3 hidden``."""
    shown = [f"{count:,} {name}" for name, count in counts.most_common(5)]
    return ", ".join(shown) + " …" * (len(counts) > 5)
