"""Folders and files as they lie on the disk, in a fixed order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

from hpc_deepfake.core import watchdog
from hpc_deepfake.core.errors import InputError
from preprocessing.leftout import LeftOut

Seen = set[tuple[int, int]]  # device and inode of folders


def subfolders(folder: Path, notes: list[str]) -> list[str]:
    """Names of the folders in ``folder``, sorted, links to folders included; empty with a note if
    it can't be listed."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries
                          if entry.is_dir(follow_symlinks=False)
                          or (entry.is_symlink() and os.path.isdir(entry.path)))
    except OSError as error:  # lost+found and the like
        notes.append(f"{folder} left out: {error.strerror}")
        return []


def is_new(folder: Path | bytes, seen: Seen) -> bool:
    """Whether ``folder`` was not visited yet: a link may lead back up, or to another data set."""
    status = os.stat(folder)
    key = (status.st_dev, status.st_ino)
    new = key not in seen
    seen.add(key)
    return new


def media(folder: Path, notes: list[str], seen: Seen) -> list[bytes]:
    """Pictures, masks and videos below ``folder``, relative to it, sorted by their bytes.

    Args:
        folder: the folder.
        notes: gets a remark about other files.
        seen: folders visited so far; each is listed once.

    Raises:
        InputError: a folder can't be listed.
    """
    def fail(error: OSError) -> NoReturn:
        raise InputError(f"cannot list {os.fsdecode(error.filename)}: {error.strerror}; make it "
                         "readable, or move it away")

    top = os.fsencode(folder)
    found: list[bytes] = []
    left = LeftOut()
    for current, folders, files in os.walk(top, followlinks=True, onerror=fail):
        if not is_new(current, seen):
            folders.clear()
            continue
        folders[:] = left.entered(folders)
        watchdog.advance()
        inside = current[len(top):].lstrip(b"/")
        for name in files:
            if not left.takes(os.path.join(current, name)):
                found.append(inside + b"/" + name if inside else name)
    notes += [f"{folder}: {note}" for note in left.notes()]
    return sorted(found)
