"""How many pixels several threads have in memory at once: as many as one largest picture has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from preprocessing.picture import MAX_PIXELS

_turn = Condition()
_taken = 0  # pixels


@contextmanager
def taken(width: int, height: int) -> Iterator[None]:
    """Within it a picture of this size may be decoded, beside those of other threads: before, its
    thread waits until all of them have ``MAX_PIXELS`` together at most. No thread may be within it
    twice. A picture of unknown size, 0 × 0, counts as a largest one."""
    global _taken
    own = min(width * height or MAX_PIXELS, MAX_PIXELS)
    with _turn:
        _turn.wait_for(lambda: _taken + own <= MAX_PIXELS)
        _taken += own
    try:
        yield
    finally:
        with _turn:
            _taken -= own
            _turn.notify_all()
