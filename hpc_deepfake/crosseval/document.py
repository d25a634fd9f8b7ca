"""The report of a matrix: ``crosseval.html``, ``.md``, ``.csv`` and ``.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpc_deepfake.core.text import number, percent
from hpc_deepfake.crosseval import tables
from hpc_deepfake.crosseval.datasets import DataSet
from hpc_deepfake.crosseval.matrix import FEW, FIGURES, Matrix, Result, Row, mean_over
from hpc_deepfake.metrics.spread import spread
from hpc_deepfake.web.report import Report, Section

_COLUMNS = (
    "model", "trained_on", "network", "feature", "seed", "tested_on", "part", "own", "tampered",
    "authentic", "shared", "threshold",
    *(f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high")), "majority",
    "auc_with_shared", "unlike", "container_auc", "plain_ela_pixel_auc")


def answer(matrix: Matrix) -> list[str]:
    """The most important figures in sentences."""
    return [sentence for row in matrix.rows if (sentence := _sentence(row, matrix))]


def _sentence(row: Row, matrix: Matrix) -> str:
    cells = [cell for cell in row.cells.values() if not cell.results[0].few
             or cell.results[0].own]
    own = row.cells.get(row.data.name)
    elsewhere = [f"{spread(cell.figure('auc'), '.3f')} on {cell.results[0].data.described}"
                 for cell in cells if not cell.results[0].own and cell.figure("auc") is not None]
    if own is None or own.figure("auc") is None:
        return ""
    start = f"{row.given}, trained on {row.data.name}" if row.given else \
        f"Trained on {tables.name(row, matrix)}"
    words = (f"{start}: ROC-AUC {spread(own.figure('auc'), '.3f')} on "
             f"{own.results[0].data.described}"
             + (f", {', '.join(elsewhere)}" if elsewhere else ""))
    false = mean_over(cells, "false_positive_rate", lambda result: not result.own)
    kept = mean_over(cells, "false_positive_rate", lambda result: result.own)
    return words + ("." if false is None or kept is None else
                    f"; {percent(kept)} of its own authentic pictures are called tampered, and "
                    f"{percent(false)} of the others', in the mean of the data sets.")


def report(matrix: Matrix, command: str) -> Report:
    """The report.

    Args:
        matrix: the figures.
        command: that writes it again.
    """
    container, pixels = tables.shortcuts(matrix), tables.pixels(matrix)
    sections = [
        Section("Matrix", tables.matrices(matrix), tables.maps(matrix), drawn=True),
        Section("Container alone", [container] if container else [], captions=False),
        Section("Each cell", [tables.cells(matrix)], captions=False),
        Section("Where", [pixels] if pixels else [], captions=False),
        Section("Shared pictures", [tables.overlaps(matrix)], captions=False),
        Section("Data sets and models", [tables.datasets(matrix), tables.models(matrix)])]
    return Report("Trained here, tested there", "crosseval", answer(matrix), matrix.notes,
                  sections, command)


def write(matrix: Matrix, out: Path, command: str) -> list[Path]:
    """Write all four files and return their paths.

    Raises:
        InputError: they can't be written.
    """
    lines = [_line(result) for result in matrix.results]
    everything = {
        "command": command, "notes": matrix.notes, "missing": matrix.missing,
        "shared_taken_out": matrix.taken_out, "container_within": matrix.within,
        "data": [{"name": data.name, "file": str(data.path), "digest": data.digest,
                  "part": data.part, "rows": len(data.tested), "trained": data.trained}
                 for data in matrix.data],
        "cells": [line | {"shared_by_way": result.overlap.counts, "pixels": result.pixels,
                          "threshold_chosen": result.card.threshold_chosen}
                  for line, result in zip(lines, matrix.results, strict=True)]}
    return report(matrix, command).write(out, _COLUMNS, lines, everything)


def _line(result: Result) -> dict[str, Any]:
    """The columns of a model on a data set."""
    own = result.model
    line: dict[str, Any] = {
        "model": own.name, "trained_on": own.data.name, "network": own.network,
        "feature": own.feature, "seed": own.seed, "tested_on": result.data.name,
        "part": result.data.part, "own": result.own, "tampered": result.tampered,
        "authentic": result.authentic, "shared": int((result.overlap.ways > 0).sum()),
        "threshold": result.card.threshold, "majority": result.majority,
        "auc_with_shared": result.with_shared, "unlike": result.unlike,
        "container_auc": result.container, "plain_ela_pixel_auc": result.errors}
    for name in FIGURES:
        line[name] = result.figures[name]
        interval = result.intervals[name]
        line[f"{name}_low"], line[f"{name}_high"] = interval or (None, None)
    return line


def lines(matrix: Matrix) -> list[str]:
    """The matrix of ROC-AUC as lines for a terminal."""
    head = ["ROC-AUC", *(data.name for data in matrix.data)]
    rows = [[tables.name(row, matrix), *(
        number(None if (cell := row.cells.get(data.name)) is None or
               (auc := cell.figure("auc")) is None else auc.median)
        + _mark(row, data) for data in matrix.data)] for row in matrix.rows]
    widths = [max(len(line[place]) for line in [head, *rows]) for place in range(len(head))]
    texts = ["  ".join([f"{line[0]:<{widths[0]}}", *(
        f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))]).rstrip()
        for line in [[head[0], *(f"{cell} " for cell in head[1:])], *rows]]
    few = any(_mark(row, data) == "?" for row in matrix.rows for data in matrix.data)
    return [*texts, f"(* its own data set{f'; ? fewer than {FEW} pictures of a class' * few})"]


def _mark(row: Row, data: DataSet) -> str:
    if data is row.data:
        return "*"
    cell = row.cells.get(data.name)
    few = cell is not None and cell.results[0].few and cell.figure("auc") is not None
    return "?" if few else " "
