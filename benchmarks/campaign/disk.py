"""A small disk in memory that can be filled up and made read-only; needs root."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

_SIZE = 2 << 30


class Disk:
    """A tmpfs, or without root just a folder.

    Attributes:
        path: where it is mounted.
        real: whether it can be filled up and made read-only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.real = os.path.ismount(path) or _mount("-t", "tmpfs", "-o", f"size={_SIZE}", "faults",
                                                    str(path))
        self.mend()

    def fill(self) -> None:
        """Leave no free page."""
        state = os.statvfs(self.path)
        used = max(state.f_blocks - state.f_bfree, 1) * state.f_frsize  # size 0: no limit
        while not self._remount(f"size={used}"):  # somebody has written meanwhile
            used += state.f_frsize

    def lock(self) -> bool:
        """Make it read-only; False if a file is open for writing."""
        return self._remount("ro")

    def mend(self) -> None:
        """Give it room again, and make it writable."""
        if self.real and not self._remount(f"rw,size={_SIZE}"):
            raise RuntimeError(f"{self.path} can't be made larger and writable again")

    def close(self) -> None:
        if self.real:
            subprocess.run(["umount", "--lazy", self.path], check=True)
        with suppress(OSError):
            self.path.rmdir()

    def _remount(self, options: str) -> bool:
        return _mount("-o", f"remount,{options}", "faults", str(self.path))


def _mount(*arguments: str) -> bool:
    try:
        return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0
    except OSError:
        return False
