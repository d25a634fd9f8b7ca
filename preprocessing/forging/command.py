"""``hpc-deepfake sample --from FOLDER``: forgeries of own photographs, on one or more ranks."""

from __future__ import annotations

import csv
import io
import os
import time
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes

from hpc_deepfake.core import mpi, watchdog
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import write_text
from hpc_deepfake.core.progress import Progress
from hpc_deepfake.core.text import plural
from preprocessing.forging import photographs as own
from preprocessing.forging.edits import SPLICE
from preprocessing.forging.make import FOLDERS, write
from preprocessing.forging.photographs import Photograph
from preprocessing.forging.plan import KINDS, Picture, plan
from preprocessing.leftout import LeftOut
from preprocessing.origin import FORGED, FORGED_MARK

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

VERSION = 1  # increase it when the pictures change: older sets are then others
QUALITIES = 90, 96  # of the last save, as editors propose
_LIST = "pictures.csv"
_COLUMNS = ("path", "label", "mask", "group", "kind", "photograph", "donor", "first_quality",
            "donor_quality", "last_quality", "angle", "scale", "mirrored", "feather",
            "colour_match")


def kinds(text: str) -> tuple[str, ...]:
    """Argument type: kinds of forgeries, separated by commas.

    Raises:
        ArgumentTypeError: there is no such kind, or one is given twice.
    """
    names = [name.strip() for name in text.split(",")]
    wrong = [name for name in names if name not in KINDS or names.count(name) > 1]
    if wrong:
        raise ArgumentTypeError(f"'{wrong[0]}' is no kind, or is given twice: give some of "
                                f"{', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind in names)


def qualities(text: str) -> tuple[int, int]:
    """Argument type: a range of JPEG qualities, ``LOW-HIGH``, or one.

    Raises:
        ArgumentTypeError: it is none.
    """
    low, dash, high = text.partition("-")
    try:
        ends = int(low), int(high if dash else low)
    except ValueError:
        ends = 0, 0
    if not 1 <= ends[0] <= ends[1] <= 100:
        raise ArgumentTypeError(f"'{text}' is no range of JPEG qualities from 1 to 100, such as "
                                "90-96")
    return ends


def run(comm: Comm, options: Namespace) -> int:
    """The whole job. Collective. Returns the exit code.

    Args:
        comm: all ranks.
        options: ``photographs``, ``out``, ``count`` (None: two for each photograph), ``seed``,
            ``kinds``, ``qualities``.
    """
    folder, out = options.photographs, options.out
    chosen, (low, high) = options.kinds or KINDS, options.qualities or QUALITIES
    paths = mpi.on_root(comm, partial(_listed, folder, out))
    usable = _usable(comm, folder, paths, options.count, options.seed, SPLICE in chosen)
    count = options.count or 2 * len(usable)
    what = (f"{count} pictures, seed {options.seed}, {', '.join(chosen)}, qualities {low} to "
            f"{high}, of photographs {own.digest_of(usable)}")
    comment = f"{FORGED}{VERSION}, {what}"
    pictures = plan(usable, count, options.seed, chosen, (low, high))
    mpi.on_root(comm, partial(_prepare, out, f"Forgeries of own photographs, made by hpc-deepfake "
                              f"sample --from: {what} (version {VERSION}).\n", pictures, usable))
    start = time.perf_counter()
    mpi.meet(comm, "making forgeries")
    progress = Progress(comm, count, "pictures")
    share = pictures[count * comm.rank // comm.size:count * (comm.rank + 1) // comm.size]
    made = mpi.together(comm, lambda: write(out, folder, usable, share, options.seed, comment,
                                            progress.advance))
    progress.close()
    made = comm.allreduce(made)
    if comm.rank == 0:
        rate = made / (time.perf_counter() - start)
        print(f"{count:,} pictures ({count - count // 2:,} authentic + {count // 2:,} forged, with "
              f"masks) of {plural(min(len(usable), -(-count // 2)), 'photograph')} in {out}, "
              + (f"{made:,} made now at {rate:,.0f} pictures/s" if made
                 else "all of them from an earlier run"), flush=True)
    return 0


def _listed(folder: Path, out: Path) -> list[bytes]:
    inside, top = os.path.realpath(out), os.path.realpath(folder)
    if os.path.commonpath([inside, top]) == top:
        raise InputError(f"--out {out} is in --from {folder}, so that forgeries would be taken for "
                         "photographs: choose another --out")
    notes: list[str] = []
    paths = own.listed(folder, notes)
    for note in notes:
        print(f"note: {note}", flush=True)
    return paths


def _usable(comm: Comm, folder: Path, paths: Sequence[bytes], count: int | None, seed: int,
            splices: bool) -> list[Photograph]:
    """The photographs that are used, the same on all ranks, which share the reading; as many as
    ``count`` pictures need. Collective."""
    most = -(-count // 2) if count else len(paths)
    order = own.order(len(paths), seed).tolist()
    found: list[own.Examined] = []
    photographs: list[Photograph] = []
    reasons: dict[bytes, str] = {}
    mpi.meet(comm, "looking at the photographs")
    while len(found) < len(order) and len(photographs) < most:
        chunk = order[len(found):len(found) + most - len(photographs)]
        progress = Progress(comm, len(chunk), "photographs")
        mine = []
        for position in chunk[comm.rank::comm.size]:
            mine.append(own.examine(folder, paths[position]))
            progress.advance()
        progress.close()
        gathered = mpi.gather(comm, mine)
        found += [gathered[place % comm.size][place // comm.size] for place in range(len(chunk))]
        photographs, reasons = own.together(found, [own.block_of(place) for place in order], most)
    if comm.rank == 0:
        left = LeftOut()
        left.named = list(reasons.items())
        for note in left.notes():
            print(f"note: {note}", flush=True)
    least = 2 if splices else 1
    if len(photographs) < least:
        raise InputError(f"{plural(len(photographs), 'usable photograph')} in {folder}, and "
                         + ("a splice needs 2: add others, or leave out splices with --kinds "
                            "copy-move,removal" if photographs else f"at least {least} "
                            f"{'is' if least == 1 else 'are'} needed: add some, or name another "
                            "folder with --from"), everywhere=True)
    return photographs


def _prepare(out: Path, mark: str, pictures: Sequence[Picture],
             photographs: Sequence[Photograph]) -> None:
    """Make the folders, and write down what the set is and what each picture is made of."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = out / FORGED_MARK
        if not file.exists() and any(out.iterdir()):
            raise InputError(f"{out} contains other files: choose another --out")
        before = file.read_text(encoding="utf-8") if file.exists() else mark
        if before != mark:
            raise InputError(f"{out} contains another set ({before.strip().rstrip('.')}): choose "
                             "another --out, or delete the folder")
        for name in {*FOLDERS, *(os.path.dirname(picture.path) for picture in pictures)}:
            (out / name).mkdir(parents=True, exist_ok=True)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot write to {out}: {getattr(error, 'strerror', error)}; choose "
                         "another --out") from None
    watchdog.advance()
    write_text(out / FORGED_MARK, mark)
    write_text(out / _LIST, _table(pictures, photographs))


def _table(pictures: Sequence[Picture], photographs: Sequence[Photograph]) -> str:
    """What each picture is made of, as CSV that ``--manifest`` reads too."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(_COLUMNS)
    for picture in pictures:
        photograph, edit = photographs[picture.photograph], picture.edit
        lines.writerow((
            picture.path, int(edit is not None), picture.mask or "", f"block {photograph.block}",
            edit.kind if edit else "authentic", quote_from_bytes(photograph.path),
            quote_from_bytes(photographs[picture.donor].path) if edit else "",
            picture.first or "", (picture.donor_first or "") if edit else "", picture.last,
            *((f"{edit.angle:.1f}", f"{edit.scale:.2f}", int(edit.mirrored), f"{edit.feather:.2f}",
               f"{edit.match:.2f}") if edit else ("",) * 5)))
    return text.getvalue()
