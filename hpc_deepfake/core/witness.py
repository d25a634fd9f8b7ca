"""A program beside a rank that shows what the rank wrote before it died or while it hangs.

    python witness.py DESCRIPTOR NAME SECONDS

The rank writes to the file of DESCRIPTOR. It sends a few bytes on standard input when all is well;
if the input ends without any, the rank has died. See ``quiet.py``.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys

_BYTES, _LINES = 1 << 16, 40  # shown at most
_C_FRAME = re.compile(rb"\[\S+:\d+\] \[ ?\d+\] ")  # of Open MPI's trace; Python's says more
# TensorFlow's notes, of which one speaks of "round-off errors"
_NOTE = re.compile(rb"[IW]\d{4} |WARNING: All log messages")
# A rank that the launcher killed, since another one failed, has nothing to tell
_REASON = re.compile(rb"fatal|abort|terminate called|check failed|error|exception|signal",
                     re.IGNORECASE)


def main(hidden: int, name: str, seconds: float) -> None:
    if not select.select([0], [], [], seconds)[0]:
        lines = last_lines(hidden)
        if lines:
            show(f"{name} has been starting its libraries for {seconds:.0f} s. Their last "
                 "messages:", lines)
    if os.read(0, 1):
        return
    lines = last_lines(hidden)
    if any(_REASON.search(line) for line in lines if not _NOTE.match(line)):
        show(f"{name} ended while it started its libraries. Their last messages:", lines,
             os.environ.get("HPC_DEEPFAKE_ERROR_FILE"))


def last_lines(hidden: int) -> list[bytes]:
    start = max(0, os.fstat(hidden).st_size - _BYTES)
    lines = os.pread(hidden, _BYTES, start).splitlines(keepends=True)
    return [line for line in lines if line.strip() and not _C_FRAME.match(line)][-_LINES:]


def show(title: str, lines: list[bytes], file: str | None = None) -> None:
    """Print; and write to a file that the job script named, unless another rank was first."""
    text = title.encode() + b"\n" + b"".join(b"  " + line for line in lines)
    with contextlib.suppress(OSError):
        os.write(2, text if text.endswith(b"\n") else text + b"\n")
        if file:
            with open(file, "xb") as target:
                target.write(text)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
