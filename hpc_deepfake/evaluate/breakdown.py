"""Figures of parts of the pictures: by file format, by kind of tampering, by group."""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import Any

import numpy as np

from hpc_deepfake import metrics
from hpc_deepfake.evaluate.material import Material
from preprocessing.names import TAMPERED, parse, parse_path

FEW = 30  # pictures of a class: below, chance decides
# D: from another picture, S: from the same one; then what was done, in letters whose meaning
# CASIA's authors didn't write down
_KIND = re.compile(r"(?:Tp|Sp)_([DS])_([A-Za-z]{3})_")
_SAME_FORMAT = {".jpeg": ".jpg", ".tiff": ".tif"}
_ORIGINS = {"D": "from another picture", "S": "from the same picture"}
_SIZES = ((1, 1), (2, 9), (10, 99), (100, None))

Figures = dict[str, Any]


def all_of(material: Material, threshold: float) -> dict[str, dict[str, Figures]]:
    """Figures (``metrics.evaluate``) of each part, under ``format``, ``origin``, ``operation`` and
    ``group size``; the last three only where the names or groups tell.

    A kind of tampering is set against all authentic pictures: ``tampered`` counts its own.
    ``few`` says that a class has so few pictures that the figures are mostly chance.
    """
    p, y = material.probabilities, material.labels

    def figures(chosen: np.ndarray) -> Figures:
        found = metrics.evaluate(p[chosen], y[chosen], threshold)
        tampered = found["tp"] + found["fn"]
        authentic = found["rows"] - tampered
        # of the classes that are there at all
        return {**found, "tampered": tampered,
                "few": min(count for count in (tampered, authentic) if count) < FEW}

    def parts(names: np.ndarray, against: np.ndarray | None = None) -> dict[str, Figures]:
        return {name: figures(names == name if against is None else (names == name) | against)
                for name, _ in Counter(names[names != ""].tolist()).most_common()}

    kinds = [_kind(path) if label == TAMPERED else ("", "")
             for path, label in zip(material.paths, y.tolist(), strict=True)]
    authentic = y != TAMPERED
    found = {"format": parts(np.array([_format(path) for path in material.paths])),
             "origin": parts(np.array([_ORIGINS.get(kind, "") for kind, _ in kinds]), authentic),
             "operation": parts(np.array([what for _, what in kinds]), authentic)}
    sizes = {(f"{low} pictures or more" if high is None else f"{low} to {high} pictures"
              if high > low else "alone"): (material.group_sizes >= low)
             & (material.group_sizes <= (high or np.inf)) for low, high in _SIZES}
    found["group size"] = {name: figures(rows) for name, rows in sizes.items() if rows.any()}
    return {title: some for title, some in found.items() if some}


def _format(path: bytes) -> str:
    """The file's ending, one for each format."""
    ending = os.path.splitext(os.fsdecode(parse_path(path)[0]))[1].lower()
    return _SAME_FORMAT.get(ending, ending)


def _kind(path: bytes) -> tuple[str, str]:
    """Where a tampered picture's region comes from and what was done, by its CASIA name."""
    stem = os.path.splitext(os.fsdecode(path).rpartition("/")[2])[0]
    match = _KIND.match(stem) if parse(stem) else None
    return (match[1], match[2]) if match else ("", "")
