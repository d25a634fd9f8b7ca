"""The pictures that a model was trained on, as digests and thumbnails: ``model.pictures.h5``.

With it a program can say that a picture was trained on, also under another name, saved again, or
as part of another data set: the model's answer about such a picture proves nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.files import whole
from hpc_deepfake.network import ensemble
from preprocessing import hamming, hdf5, similar
from preprocessing.facts import DIGEST
from preprocessing.similar import COPY, PLAIN, SCENE
from preprocessing.split import TRAIN, VALIDATION
from preprocessing.store import allocate

SUFFIX = ".pictures.h5"
THUMB = 16  # side of the thumbnails, pixels
MOST_THUMBNAILS = 100_000  # with more pictures there are none, since each has 768 bytes
_PAIRS = 1 << 15  # pairs of thumbnails that are compared at once
_KINDS: dict[str, tuple[int, ...]] = {  # all uint8
    "digest": (DIGEST,), "row": (DIGEST,), "part": (), "hash": (8,), "thumb": (THUMB, THUMB, 3)}

SAME, COPIED, OF_SCENE = "", "looks like a picture ", "shows the scene of a picture "
_WAYS = (SAME, COPIED, OF_SCENE)
WORDS = {TRAIN: "trained on", VALIDATION: "used for validation"}
# What a training has to do with a picture, by ``Pictures.relation``; 0: nothing that is known
RELATIONS = ("", *(way + words for words in WORDS.values() for way in _WAYS))


@dataclass(frozen=True)
class Pictures:
    """The pictures of the training and the validation part, n in the order of the data file.

    Attributes:
        digest: of the picture file, as ``facts.digest``, uint8 (n, 16); zeros: unknown.
        row: ``row_digest`` of the feature that the model reads, uint8 (n, 16).
        part: ``split.TRAIN`` or ``split.VALIDATION``, uint8 (n).
        hash: difference hash, packed, uint8 (n, 8); (0, 8) without thumbnails.
        thumb: thumbnails of the feature ``raw``, uint8 (n, 16, 16, 3); (0, 16, 16, 3) where the
            data file doesn't have it, or there are more than ``MOST_THUMBNAILS``.
    """

    digest: np.ndarray
    row: np.ndarray
    part: np.ndarray
    hash: np.ndarray
    thumb: np.ndarray

    def __len__(self) -> int:
        return len(self.part)

    @classmethod
    def of(cls, rows: np.ndarray, raw: np.ndarray | None, digest: np.ndarray | None,
           part: np.ndarray) -> Pictures:
        """From rows of a data file.

        Args:
            rows: of the model's feature, uint8 (n, S, S, 3).
            raw: of the feature ``raw``, likewise; None: no thumbnails.
            digest: uint8 (n, 16); None: unknown.
            part: uint8 (n).
        """
        count = len(rows)
        row = np.frombuffer(b"".join(map(row_digest, rows)), np.uint8).reshape(count, DIGEST)
        thumb = np.zeros((0, THUMB, THUMB, 3), np.uint8) if raw is None else \
            np.array([similar.thumbnail(pixels, THUMB) for pixels in raw], np.uint8).reshape(
                count, THUMB, THUMB, 3)
        return cls(np.zeros_like(row) if digest is None else digest, row, part,
                   np.packbits(similar.hashes(thumb), axis=1), thumb)

    @classmethod
    def read(cls, model: Path) -> Pictures | None:
        """Those of a model file, a run directory or all members of an ensemble; None without the
        file, as of older models.

        Raises:
            InputError: it is damaged.
        """
        if members := ensemble.members(model):
            return cls._of_all([cls.read(member) for member in members])
        path = beside(model)
        if not path.is_file():
            return None
        try:
            found = hdf5.read(path).datasets
            columns = {name: _column(path, found[name], shape) for name, shape in _KINDS.items()}
            lengths = {name: len(column) for name, column in columns.items()}
            count, thumbs = lengths["part"], lengths["thumb"]
            if [lengths[name] for name in _KINDS] != [count] * 3 + [thumbs] * 2 \
                    or thumbs not in (0, count):
                raise ValueError(f"lengths {lengths}")
            if not np.isin(columns["part"], list(WORDS)).all():
                raise ValueError("impossible parts")
            return cls(**columns)
        except (OSError, ValueError, KeyError) as error:
            why = reason(error) if isinstance(error, OSError) and error.errno else \
                "it is damaged, or another file"
            raise InputError(f"{path}, the list of the model's training pictures, can't be read "
                             f"({why}): copy it again from the training's run directory, "
                             "or move it away to do without") from None

    @classmethod
    def _of_all(cls, parts: Sequence[Pictures | None]) -> Pictures | None:
        """Each picture once, as one of the training part if it is that for a model; None: one of
        the models doesn't say."""
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        joined = {field.name: np.concatenate([getattr(part, field.name) for part in known])
                  for field in fields(cls)}
        order = np.argsort(joined["part"], kind="stable")
        _, first = np.unique(np.hstack([joined["digest"], joined["row"]])[order], axis=0,
                             return_index=True)
        chosen = np.sort(order[first])
        thumbs = all(len(part.thumb) == len(part) for part in known)
        return cls(**{name: column[chosen] if thumbs or len(column) == len(joined["part"])
                      else column[:0] for name, column in joined.items()})

    def write(self, model: Path) -> None:
        """Write the file beside a model file whole; the same bytes for the same pictures."""
        # in memory first: the system says more plainly than HDF5 why a file can't be written
        with h5py.File(SUFFIX, "w", driver="core", backing_store=False) as file:
            for field in fields(self):
                column = getattr(self, field.name)
                if column.size:
                    allocate(file, field.name, column.shape, column.dtype)[...] = column
                else:  # HDF5 has no place for nothing
                    file.create_dataset(field.name, data=column, track_times=False)
            file.flush()
            content = file.id.get_file_image()
        with whole(beside(model)) as temporary:
            temporary.write_bytes(content)

    def relation(self, digest: bytes | None, row: bytes | None, raw: np.ndarray | None) -> int:
        """What this model's training has to do with a picture.

        Args:
            digest: ``facts.digest`` of its file; None: unknown.
            row: ``row_digest`` of its feature; None: unknown.
            raw: its feature ``raw``, uint8 (S, S, 3), to find copies that were saved again and
                pictures of the same scene; None: neither is looked for.

        Returns:
            An index into ``RELATIONS``.
        """
        thumbs = None if raw is None else similar.thumbnail(raw, THUMB)[None]
        return int(self.relations([digest], [row], thumbs)[0])

    def relations(self, digests: Sequence[bytes | None], rows: Sequence[bytes | None],
                  thumbs: np.ndarray | None) -> np.ndarray:
        """``relation`` of n pictures at once, uint8 (n).

        Args:
            digests: of their files, n.
            rows: of their features, n.
            thumbs: ``similar.thumbnail`` of their features ``raw``, uint8 (n, 16, 16, 3); None as
                in ``relation``.
        """
        found = np.zeros(len(rows), np.uint8)
        for place, keys in enumerate(zip(digests, rows, strict=True)):
            for known, key in zip((self._by_digest, self._by_row), keys, strict=True):
                if key is not None and key in known:
                    found[place] = _relation(known[key], SAME)
                    break
        if thumbs is not None and len(self.thumb):
            rest = np.flatnonzero(found == 0)
            found[rest] = self._alike(thumbs[rest])
        return found

    def seen(self, digest: bytes | None, row: bytes | None,
             raw: np.ndarray | None) -> str | None:
        """``relation`` as words, such as ``trained on``, ``used for validation``, ``looks like a
        picture trained on`` or ``shows the scene of a picture used for validation``; None: nothing
        that is known."""
        return RELATIONS[self.relation(digest, row, raw)] or None

    def _alike(self, thumbs: np.ndarray) -> np.ndarray:
        """``relation`` of n pictures by their looks."""
        found = np.zeros(len(thumbs), np.uint8)
        textured = np.flatnonzero(np.ptp(thumbs, axis=(1, 2, 3)) >= PLAIN)
        small = thumbs[textured]
        kinds = [(way, part) for way in (COPIED, OF_SCENE) for part in sorted(WORDS)]  # first wins
        best = np.full(len(small), len(kinds))
        bits = np.packbits(similar.hashes(small), axis=1).view(np.uint64)[:, 0]
        for pairs in hamming.near(bits, self._hashes, similar.DISTANCE):
            for start in range(0, len(pairs), _PAIRS):
                own, other = pairs[start:start + _PAIRS].T
                largest, median = similar.changes(self.thumb[other], small[own])
                for number, (way, part) in enumerate(kinds):
                    limited = largest <= COPY if way == COPIED else median <= SCENE
                    matching = own[limited & (self.part[other] == part)]
                    best[matching] = np.minimum(best[matching], number)
        codes = np.array([*(_relation(part, way) for way, part in kinds), 0], np.uint8)
        found[textured] = codes[best]
        return found

    @cached_property
    def _hashes(self) -> np.ndarray:
        return np.ascontiguousarray(self.hash).view(np.uint64)[:, 0]

    @cached_property
    def _by_digest(self) -> Mapping[bytes, int]:
        return self._parts(self.digest)

    @cached_property
    def _by_row(self) -> Mapping[bytes, int]:
        return self._parts(self.row)

    def _parts(self, digests: np.ndarray) -> Mapping[bytes, int]:
        """Part by digest; the training part where both have it, and without unknown digests."""
        known: dict[bytes, int] = {}
        for digest, part in zip(digests, self.part.tolist(), strict=True):
            key = digest.tobytes()
            known[key] = min(part, known.get(key, part))
        known.pop(bytes(DIGEST), None)
        return known


def beside(model: Path) -> Path:
    """The file beside a model file, or in a run directory."""
    file = model / "model.keras" if model.is_dir() else model
    return file.with_name(file.stem + SUFFIX)


def row_digest(row: np.ndarray) -> bytes:
    """16 bytes of the SHA-256 of a feature row, uint8 (S, S, 3); zeros for a row of one value,
    which pictures of any content have."""
    if row.min() == row.max():
        return bytes(DIGEST)
    return hashlib.sha256(np.ascontiguousarray(row).data).digest()[:DIGEST]


def _relation(part: int, way: str) -> int:
    return RELATIONS.index(way + WORDS[part])


def _column(path: Path, dataset: hdf5.Dataset, shape: tuple[int, ...]) -> np.ndarray:
    """A column of bytes, read into memory."""
    if dataset.kind != np.uint8 or dataset.shape[1:] != shape or len(dataset.shape) == 0:
        raise ValueError(f"a column of {dataset.kind} {dataset.shape}")
    count = int(np.prod(dataset.shape, dtype=object))
    if not count:
        return np.zeros(dataset.shape, np.uint8)
    if dataset.offset is None or dataset.offset + count > os.stat(path).st_size:
        raise ValueError("it is cut off")
    return np.fromfile(path, np.uint8, count, offset=dataset.offset).reshape(dataset.shape)
