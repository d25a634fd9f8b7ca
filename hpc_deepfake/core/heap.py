"""Memory that a process keeps for its next use instead of giving it back to the system."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
_KEPT = 256 << 20  # bytes that a process keeps
_LARGEST = 128 << 20, 32 << 20  # bytes of a piece of it; and the most that older libraries accept


def keep_freed() -> None:
    """Have the C library keep up to 256 MiB of freed memory for what is allocated next.

    By itself it soon gives larger arrays back to the system, and every page that it takes again
    costs a page fault: a quarter of the time of error levels at 1920×1080, and most of the time of
    ``likeness.statistics``. Does nothing where the library has no ``mallopt``.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_TRIM_THRESHOLD, _KEPT)
        any(library.mallopt(_MMAP_THRESHOLD, size) for size in _LARGEST)  # the first that it takes
