"""Folders and files as they lie on the disk, in a fixed order."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NoReturn

from hpc_deepfake.core import watchdog
from hpc_deepfake.core.errors import InputError
from preprocessing.leftout import LeftOut
from preprocessing.names import PICTURES, VIDEOS

Key = tuple[int, int]  # device and inode of a folder
Seen = set[Key]


def subfolders(folder: Path, notes: list[str]) -> list[str]:
    """Names of the folders in ``folder``, sorted, links to folders included; empty with a note if
    it can't be listed or entered."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries
                           if entry.is_dir(follow_symlinks=False)
                           or (entry.is_symlink() and os.path.isdir(entry.path)))
        os.stat(os.path.join(folder, "."))  # asks for the right to enter it
        return names
    except OSError as error:  # lost+found and the like
        notes.append(f"{folder} left out: {error.strerror}")
        return []


def count(folder: Path) -> int:
    """Number of pictures and videos below a folder, by their names, links aside."""
    total = 0
    for _, _, names in os.walk(os.fsencode(folder)):
        watchdog.advance()
        total += sum(name.lower().endswith(PICTURES + VIDEOS) for name in names)
    return total


def is_new(folder: Path | bytes, seen: Seen) -> bool:
    """Whether ``folder`` was not visited yet: a link may lead back up, or to another data set."""
    key = key_of(folder)
    new = key not in seen
    seen.add(key)
    return new


def key_of(folder: Path | bytes) -> Key:
    """What a folder is known by, whatever links lead to it."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def media(folder: Path, notes: list[str], seen: Seen, label: int | None = None,
          owners: Mapping[Key, int] | None = None, used: Collection[bytes] = ()) -> list[bytes]:
    """Pictures, masks and videos below ``folder``, relative to it, sorted by their bytes.

    Args:
        folder: the folder.
        notes: gets a remark about other files, and folders that belong to another class.
        seen: folders visited so far; each is listed once.
        label: of the class whose folder it is; None if it is none.
        owners: label of the folder of each class.
        used: other files that are read, relative to ``folder``: no remark about them.

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
        try:
            strays = _strays(current, top, label, owners or {}) if current != top else ""
            if strays:
                notes.append(f"{os.fsdecode(current)} left out: {strays}")
            if strays or not is_new(current, seen):
                folders.clear()
                continue
        except OSError as error:
            fail(error)
        folders[:] = left.entered(folders)
        watchdog.advance()
        inside = current[len(top):].lstrip(b"/")
        for name in files:
            path = inside + b"/" + name if inside else name
            if path not in used and not left.takes(os.path.join(current, name)):
                found.append(path)
    notes += [f"{folder}: {note}" for note in left.notes()]
    return sorted(found)


def _strays(folder: bytes, top: bytes, label: int | None, owners: Mapping[Key, int]) -> str:
    """Why a folder found below ``top``, that of a class, isn't of the class; empty if it is."""
    if not os.path.islink(folder):
        return "it is the folder of the other class" if owners.get(key_of(folder), label) != label \
            else ""
    where = os.path.realpath(folder)
    above, classes = _lineage(os.path.dirname(os.path.realpath(top))), _lineage(where)
    if classes[0] in above:
        return f"a link to {os.fsdecode(where)}, above {os.fsdecode(top)}"
    owner = next((owners[key] for key in classes if key in owners), label)
    return f"a link to {os.fsdecode(where)}, in the folder of the other class" \
        if owner != label else ""


def _lineage(folder: bytes) -> list[Key]:
    """Keys of a folder, given without links, and of those above it."""
    keys = [key_of(folder)]
    while folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
        keys.append(key_of(folder))
    return keys
