"""CSV as line-based tools such as ``awk`` read it: each record ends in ``\\n`` alone."""

from __future__ import annotations

import csv
from typing import Any, TextIO


def writer(out: TextIO) -> Any:
    """``csv.writer`` (RFC 4180, but for the line end) into ``out``, which must not translate line
    ends itself: a file is opened with ``newline=""``."""
    return csv.writer(_Ended(out))


class _Ended:
    """Takes records from ``csv.writer``, which writes each in one call.

    Not ``lineterminator="\\n"``: Python before 3.13 then leaves a name with ``\\r`` unquoted, which
    no reader of CSV accepts.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, record: str) -> int:
        return self._out.write(record.removesuffix("\r\n") + "\n")
