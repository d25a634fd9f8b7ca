"""Standard output and error of many ranks: each line arrives in one piece."""

from __future__ import annotations

import io
import sys


class _Lines(io.TextIOWrapper):
    """A text stream that is flushed at the end of each line, with one write for the whole line.

    With ``PYTHONUNBUFFERED``, which job scripts set, Python writes the text of a ``print`` and its
    line end separately, so that lines of two ranks would mix. (Open MPI's mpirun forwards pieces of
    4 KiB, and may still cut a line within a longer burst of output.)
    """

    def write(self, text: str) -> int:
        count = super().write(text)
        if text.endswith("\n"):
            self.flush()
        return count


def whole_lines() -> None:
    """Make this process write whole lines, with escapes for characters that can't be encoded.

    A stream that other code has replaced, such as a test, stays in place and only gets the escapes.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, _Lines):
            continue
        if stream is not getattr(sys, f"__{name}__") or not isinstance(stream, io.TextIOWrapper):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
            continue
        stream.flush()
        raw = io.FileIO(stream.fileno(), "w", closefd=False)
        setattr(sys, name, _Lines(io.BufferedWriter(raw, 1 << 16), encoding=stream.encoding,
                                  errors="backslashreplace"))
