"""A person's own authentic photographs: which files of a folder can be used, and which belong
together."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import plural, printable
from preprocessing import origin, picture, sample, saves, similar
from preprocessing.listing import masks, sets, walk
from preprocessing.listing.groups import components
from preprocessing.listing.item import some
from preprocessing.names import VIDEOS
from preprocessing.picture import Rejected

LEAST = 128  # pixels a side: as many as the smallest usual feature has, and nothing is enlarged
_PLAIN = 4.0  # grey levels: below this spread nothing can be moved so that it shows
_TOGETHER = 4  # neighbours in the list that may give each other regions


@dataclass(frozen=True)
class Photograph:
    """A usable photograph.

    Attributes:
        path: relative to the folder.
        digest: of its bytes, hexadecimal.
        block: the same for those that may give each other regions.
        scene: name of what it shows, in the form of CASIA's ids (``abc01234``); the same for
            pictures that look the same.
    """

    path: bytes
    digest: str
    block: int = 0
    scene: str = ""


class Examined(NamedTuple):
    """A file that was looked at.

    Attributes:
        path: relative to the folder.
        digest: of its bytes, hexadecimal; empty if it can't be used.
        reason: why it can't be used; empty if it can.
        thumbnail: uint8 (32, 32, 3).
    """

    path: bytes
    digest: str
    reason: str
    thumbnail: np.ndarray


def listed(folder: Path, notes: list[str]) -> list[bytes]:
    """Pictures below a folder of authentic photographs, relative to it, sorted by their bytes.

    Args:
        folder: the folder.
        notes: gets remarks about what is left out.

    Raises:
        InputError: there is no such folder, no picture in it, or it holds folders of both classes.
    """
    if not os.path.isdir(folder):
        raise InputError(f"there is no folder of photographs '{folder}': check --from")
    authentic, tampered = sets.class_folders(walk.subfolders(folder, notes)).values()
    if authentic and tampered:
        raise InputError(f"{folder} is a data set with tampered pictures, in {tampered[0]}: name "
                         f"its authentic ones, --from {folder / authentic[0]}")
    paths = walk.media(folder, notes, set())
    top = os.fsencode(folder)
    gt = set(masks.likely({path: os.path.join(top, path) for path in paths}))
    left = {os.path.relpath(path, top) for path in gt}
    videos = [path for path in paths if path.lower().endswith(VIDEOS)]
    for what, found in (("ground-truth mask", sorted(left)), ("video", videos)):
        if found:
            notes.append(f"{plural(len(found), what)} left out: {some(found)}")
    left |= set(videos)
    usable = [path for path in paths if path not in left]
    if not usable:
        raise InputError(f"no pictures in the folder of photographs '{folder}': check --from")
    return usable


def load(path: bytes, log_as: bytes | None = None) -> tuple[np.ndarray, str]:
    """Pixels of a photograph, uint8 (H, W, 3), as stored, and the digest of its file.

    Args:
        path: of the file.
        log_as: as of ``picture.decode``.

    Raises:
        Rejected: it can't be used.
    """
    data = picture.read(path)
    if sample.is_drawn(data):
        raise Rejected("drawn by hpc-deepfake sample, not a photograph")
    if saves.says(data, origin.FORGED):
        raise Rejected("made by hpc-deepfake sample --from: name the photographs themselves")
    pixels = picture.decode(data, log_as)
    height, width = pixels.shape[:2]
    if min(height, width) < LEAST:
        raise Rejected(f"{width}×{height} pixels are too few (at least {LEAST} a side)")
    if float(cv2.meanStdDev(pixels[::4, ::4])[1].max()) < _PLAIN:
        raise Rejected("of nearly one colour, so that no change would show")
    return pixels, hashlib.sha256(data).hexdigest()


def examine(folder: Path, path: bytes) -> Examined:
    """Whether a file of the folder can be used."""
    name = os.path.join(os.fsencode(folder), path)
    try:
        pixels, digest = load(name, name)
    except Rejected as error:
        return Examined(path, "", str(error), np.empty(0, np.uint8))
    return Examined(path, digest, "", similar.thumbnail(pixels))


def order(count: int, seed: int) -> np.ndarray:
    """In which order the files of a list are looked at: neighbours, which are often pictures of one
    scene, stay together in blocks, and the blocks are shuffled. int64 (count)."""
    blocks = np.random.default_rng((seed, 1)).permutation(-(-count // _TOGETHER))
    return np.concatenate([np.arange(block * _TOGETHER, min(count, (block + 1) * _TOGETHER))
                           for block in blocks])


def block_of(position: int) -> int:
    """The block of the file at a position of the list."""
    return position // _TOGETHER


def together(found: Sequence[Examined], blocks: Sequence[int],
             most: int) -> tuple[list[Photograph], dict[bytes, str]]:
    """Usable photographs, each once, and why others aren't used.

    Those that look the same (``similar``), and so may be one picture saved twice or two of one
    scene, get the same scene and block. A block of one photograph joins the one before it.

    Args:
        found: files in the order in which they are used.
        blocks: of each.
        most: maximum number of photographs.
    """
    reasons = {each.path: each.reason for each in found if each.reason}
    first: dict[str, Examined] = {}
    rows: list[int] = []
    for row, each in enumerate(found):
        if each.reason:
            continue
        same = first.setdefault(each.digest, each)
        if same is not each:
            reasons[each.path] = f"the same file as {printable(os.fsdecode(same.path))}"
        elif len(rows) < most:
            rows.append(row)
    chosen = [found[row] for row in rows]
    keys = [(f"block {blocks[row]}",) for row in rows]
    scenes = components([(each.digest, *same) for each, same in zip(
        chosen, _alike(chosen), strict=True)])
    joined = _with_neighbours(components(
        [(*key, f"scene {scene}") for key, scene in zip(keys, scenes.tolist(), strict=True)]))
    names: dict[int, str] = {}
    photographs = [
        Photograph(each.path, each.digest, int(block), names.setdefault(
            int(scene), _name(each.digest)))
        for each, scene, block in zip(chosen, scenes, joined, strict=True)]
    return photographs, reasons


def _alike(found: Sequence[Examined]) -> list[tuple[str, ...]]:
    """Of each photograph the digests of those before it that look the same."""
    before: list[tuple[str, ...]] = [()] * len(found)
    if not found:
        return before
    small = np.stack([each.thumbnail for each in found])
    telling = np.ptp(small.reshape(len(small), -1), axis=1) >= similar.PLAIN
    for pairs in similar.near(similar.hashes(small)):
        _, median = similar.changes(small[pairs[:, 0]], small[pairs[:, 1]])
        alike = (median <= similar.SCENE) & telling[pairs].all(1)
        for first, second in pairs[alike].tolist():
            before[second] += (found[first].digest,)
    return before


def _with_neighbours(blocks: np.ndarray) -> np.ndarray:
    """Blocks, of which none has a single photograph unless there is no other."""
    joined = blocks.copy()
    for row in np.flatnonzero(np.bincount(blocks)[blocks] == 1):
        joined[row] = joined[row - 1 if row else min(1, len(blocks) - 1)]
    return joined


def _name(digest: str) -> str:
    """An id in the form of CASIA's, three letters and five digits, from a digest, so that a
    photograph has the same one in every set."""
    number = int(digest[:16], 16)
    letters = "".join(chr(ord("a") + number // 26**place % 26) for place in range(3))
    return f"{letters}{number // 26**3 % 100_000:05d}"


def digest_of(photographs: Sequence[Photograph]) -> str:
    """Digest of a list of photographs, 12 hexadecimal digits."""
    text = "\n".join(f"{each.digest} {each.block} {each.scene}" for each in photographs)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
