"""Standard output and error of many ranks: what a rank prints arrives in one piece."""

from __future__ import annotations

import io
import sys


class _Lines(io.TextIOWrapper):
    """Hands text on when a line is complete.

    Python writes the text of a ``print`` and its line end one by one where output is unbuffered
    (``PYTHONUNBUFFERED``, as job scripts set it): the halves of two ranks' lines would mix.
    """

    def write(self, text: str) -> int:
        count = super().write(text)
        if text.endswith("\n"):
            self.flush()
        return count


def whole_lines() -> None:
    """Have this process write whole lines, and never fail for what a file name holds.

    Streams that something else has put into place, such as a test, are left as they are.
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
