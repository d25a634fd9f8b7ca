"""Predictions as output: a table, CSV, or JSON lines."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO
from urllib.parse import quote_from_bytes

from hpc_deepfake.core import csv_lines
from hpc_deepfake.core.text import percent, printable

if TYPE_CHECKING:
    from hpc_deepfake.network.card import Card
    from hpc_deepfake.predict.where import Where

FORMATS = ("table", "csv", "json")
_VERDICT = 15  # width of the column


@dataclass(frozen=True)
class Row:
    """One line of output: a picture, a frame of a video (``path#seconds``) or a whole video.

    Attributes:
        path: as named by the user.
        probability: of tampered; None if the file couldn't be read.
        verdict: ``authentic``, ``tampered``, ``undecided``, ``unlike training``, or
            ``not read: …``.
        kind: ``picture``, ``frame`` or ``video``.
        seconds: a frame's time in its video.
        unlike: reasons why it is unlike the model's training pictures.
        notes: what else the model knows of it, such as that it is one of them.
        changed_area: share of it that the model calls changed, of a video the mean of its frames';
            None: the model doesn't say where.
        where: its map; None: the model has none, or it was left behind on the rank that wrote it.
    """

    path: bytes
    probability: float | None
    verdict: str
    kind: str = "picture"
    seconds: float | None = None
    unlike: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    changed_area: float | None = None
    where: Where | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The path as text, whatever its bytes; those that aren't UTF-8 as ``\\udcff``."""
        text = os.fsdecode(self.path).encode(errors="backslashreplace").decode()
        return text if self.seconds is None else f"{text}#{self.seconds:.2f}"


def remarks(row: Row, card: Card) -> list[str]:
    """What must be said beside a verdict, as lines of a picture that shows it."""
    from hpc_deepfake.network import decision  # imported late: --help stays fast

    return [*(f"{row.kind}: {reason}" for reason in (*row.unlike, *row.notes)),
            *(f"model: {caveat}" for caveat in decision.caveats(card))]


def _is_utf8(name: bytes) -> bool:
    try:
        return bool(name.decode())
    except UnicodeDecodeError:
        return False


def writer(form: str, out: TextIO, caveats: Sequence[str] = (), *,
           mask_threshold: int | None = None, area: bool = False) -> Callable[[Row], None]:
    """A function that writes a row to ``out`` in one of ``FORMATS``; the header is written now.

    Args:
        form: see above.
        out: usually standard output.
        caveats: what must be said beside every verdict of the model.
        mask_threshold: level from which a pixel of the model's maps counts as changed: CSV and JSON
            say the changed area then. None: the model has no maps.
        area: whether the table says it too.
    """
    columns = {"table": area, "csv": mask_threshold is not None}
    return _json(out, caveats, mask_threshold) if form == "json" else \
        {"table": _table, "csv": _csv}[form](out, caveats, columns[form])


def _table(out: TextIO, caveats: Sequence[str], area: bool) -> Callable[[Row], None]:
    for caveat in caveats:
        print(f"model: {caveat}", file=out)
    print(f"tampered  {'changed  ' * area}{'verdict':<{_VERDICT}}  picture", file=out)
    indent = " " * (8 + 9 * area)

    def write(row: Row) -> None:
        # of a picture that is unlike the training pictures the numbers mean nothing
        probability, changed = (None, None) if row.unlike else (row.probability, row.changed_area)
        print(f"{percent(probability):>8}  {f'{percent(changed):>7}  ' * area}"
              f"{row.verdict:<{_VERDICT}}  {printable(row.name)}", file=out)
        for line in (*row.unlike, *row.notes) if row.kind != "frame" else ():
            print(f"{indent}  {'':<{_VERDICT}}  - {line}", file=out)

    return write


def _csv(out: TextIO, caveats: Sequence[str], area: bool) -> Callable[[Row], None]:
    lines = csv_lines.writer(out)
    lines.writerow(("path", "probability", "verdict", "notes", *["changed_area"] * area))

    def write(row: Row) -> None:
        changed = "" if row.changed_area is None else f"{row.changed_area:.6f}"
        lines.writerow((row.name, "" if row.probability is None else f"{row.probability:.6f}",
                        row.verdict, "; ".join((*row.unlike, *row.notes, *caveats)),
                        *[changed] * area))

    return write


def _json(out: TextIO, caveats: Sequence[str], mask_threshold: int | None
          ) -> Callable[[Row], None]:
    def write(row: Row) -> None:
        line = {"path": row.name, "probability": row.probability, "verdict": row.verdict,
                "unlike": row.unlike, "notes": row.notes, "caveats": caveats}
        if mask_threshold is not None:
            line |= {"changed_area": row.changed_area, "mask_threshold": mask_threshold}
        if not _is_utf8(row.path):
            line["encoded"] = quote_from_bytes(row.path)
        print(json.dumps(line), file=out)

    return write
