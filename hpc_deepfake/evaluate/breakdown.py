"""Metrics of subsets of the pictures: by file format, by kind of tampering, by group size."""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import Any

import numpy as np

from hpc_deepfake import metrics
from hpc_deepfake.evaluate.material import Material
from preprocessing.names import TAMPERED, parse, parse_path

FEW = 30  # pictures of a class; figures of fewer are mostly chance
# D: region from another picture, S: from the same one; then three letters for the operation, whose
# meaning CASIA's authors didn't document
_KIND = re.compile(r"(?:Tp|Sp)_([DS])_([A-Za-z]{3})_", re.IGNORECASE)
_SAME_FORMAT = {".jpeg": ".jpg", ".tiff": ".tif"}
_ORIGINS = {"D": "from another picture", "S": "from the same picture"}
_SIZES = ((1, 1), (2, 9), (10, 99), (100, None))

Figures = dict[str, Any]


def all_of(material: Material, threshold: float,
           lower: float | None = None) -> dict[str, dict[str, Figures]]:
    """Figures of each subset, under ``format``, ``origin``, ``operation`` and ``group size``.

    A kind of tampering is compared with all authentic pictures.

    Args:
        material: labels and probabilities of all pictures.
        threshold: lowest probability at which a picture is predicted tampered.
        lower: as in ``metrics.evaluate``.

    Returns:
        For each breakdown that names or groups allow, the figures of each subset: those of
        ``metrics.evaluate``, ``tampered`` (number of tampered pictures) and ``few`` (whether a
        class has so few pictures that the figures are mostly chance).
    """
    p, y = material.probabilities, material.labels

    def figures(chosen: np.ndarray) -> Figures:
        tampered = int(np.count_nonzero(y[chosen]))
        classes = tampered, int(np.count_nonzero(chosen)) - tampered
        return {**metrics.evaluate(p[chosen], y[chosen], threshold, lower), "tampered": tampered,
                "few": min(count for count in classes if count) < FEW}

    def parts(names: np.ndarray, against: np.ndarray | None = None) -> dict[str, Figures]:
        return {name: figures(names == name if against is None else (names == name) | against)
                for name, _ in Counter(names[names != ""].tolist()).most_common()}

    kinds = [_kind(path) if label == TAMPERED else ("", "")
             for path, label in zip(material.paths, y.tolist(), strict=True)]
    authentic = y != TAMPERED
    breakdowns = {
        "format": parts(np.array([_format(path) for path in material.paths])),
        "origin": parts(np.array([_ORIGINS.get(origin, "") for origin, _ in kinds]), authentic),
        "operation": parts(np.array([operation for _, operation in kinds]), authentic)}
    sizes = {(f"{low} pictures or more" if high is None else f"{low} to {high} pictures"
              if high > low else "alone"): (material.group_sizes >= low)
             & (material.group_sizes <= (high or np.inf)) for low, high in _SIZES}
    breakdowns["group size"] = {name: figures(rows) for name, rows in sizes.items() if rows.any()}
    return {title: subsets for title, subsets in breakdowns.items() if subsets}


def _format(path: bytes) -> str:
    """The file's extension, in one spelling for each format."""
    extension = os.path.splitext(os.fsdecode(parse_path(path)[0]))[1].lower()
    return _SAME_FORMAT.get(extension, extension)


def _kind(path: bytes) -> tuple[str, str]:
    """Origin of a tampered picture's region and operation, by its CASIA name; empty if unknown."""
    stem = os.path.splitext(os.fsdecode(path).rpartition("/")[2])[0]
    match = _KIND.search(stem) if parse(stem) else None
    return (match[1].upper(), match[2]) if match else ("", "")
