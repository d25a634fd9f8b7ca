"""Making the pictures of a set of forgeries."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import whole
from preprocessing import saves
from preprocessing.forging.edits import edit
from preprocessing.forging.photographs import Photograph, load
from preprocessing.forging.plan import Picture
from preprocessing.picture import Rejected

_EDIT = 1  # random stream
FOLDERS = "Au", "Tp", "Gt"


def make(picture: Picture, seed: int, photograph: Callable[[int], np.ndarray]
         ) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels of a picture before its last save, uint8 (H, W, 3), and of a forged one which of them
    were changed, bool (H, W). A pure function of its arguments.

    Args:
        picture: of the plan.
        seed: of the set.
        photograph: pixels of a photograph by its number, uint8 (H, W, 3); not to be changed.
    """
    host = saves.saved(photograph(picture.photograph), picture.first)
    if picture.edit is None:
        return host, None
    donor = host if picture.donor == picture.photograph \
        else saves.saved(photograph(picture.donor), picture.donor_first)
    return edit(host, donor, picture.edit, np.random.default_rng((seed, picture.index, _EDIT)))


def write(out: Path, folder: Path, photographs: Sequence[Photograph], pictures: Sequence[Picture],
          seed: int, comment: str, progress: Callable[[int], None] | None = None) -> int:
    """Write pictures and masks, except those that are there, and return the number of pictures
    written.

    Args:
        out: folder of the set.
        folder: of the photographs.
        photographs: of the whole set.
        pictures: those to be written: a rank's share.
        seed: of the set.
        comment: of its files.
        progress: called with 1 after each picture written.

    Raises:
        InputError: a photograph can't be read any more, or has changed.
    """
    @lru_cache(maxsize=2)
    def pixels_of(number: int) -> np.ndarray:
        photograph = photographs[number]
        try:
            pixels, digest = load(os.path.join(os.fsencode(folder), photograph.path))
        except Rejected as error:
            raise InputError(f"{os.fsdecode(photograph.path)} in {folder} can't be used any more: "
                             f"{error}; choose another --out") from None
        if digest != photograph.digest:
            raise InputError(f"{os.fsdecode(photograph.path)} in {folder} has changed meanwhile: "
                             "choose another --out")
        return pixels

    written = 0
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # one core per rank
    try:
        for picture in pictures:
            files = [out / name for name in (picture.mask, picture.path) if name]
            if all(saves.is_of(file, comment) for file in files):
                continue
            pixels, changed = make(picture, seed, pixels_of)
            contents = [] if changed is None else [saves.mask(changed, comment)]
            for file, data in zip(files, [*contents, saves.encode(pixels, picture.last, comment)],
                                  strict=True):
                with whole(file) as temporary:
                    temporary.write_bytes(data)
            written += 1
            if progress:
                progress(1)
    finally:
        cv2.setNumThreads(threads)
    return written
