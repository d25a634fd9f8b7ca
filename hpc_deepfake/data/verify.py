"""``hpc-deepfake verify``: check the rows of a data file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hpc_deepfake.core.errors import EXIT_USAGE
from hpc_deepfake.core.options import Parser
from hpc_deepfake.core.text import plural
from hpc_deepfake.data.inputs import MappedRows
from preprocessing.integrity import damage, damaged_columns, damaged_rows, unfinished
from preprocessing.mask import UNKNOWN
from preprocessing.names import TAMPERED
from preprocessing.store import DONE, MASK, REJECTED, Header, open_header

_BLOCK = 256  # rows whose masks are read at once


def main(argv: Sequence[str] | None = None) -> int:
    """The whole command. Returns the exit code: 0 if every row is complete and intact, else 2."""
    cli = Parser(prog="hpc-deepfake verify", config=False, description=(
        "Check every row of a data file, with its mask, against its checksum, and count the rows "
        "that are intact, damaged, pending (not computed yet) and rejected (unusable pictures). "
        "Labels and paths are checked too."),
        epilog="example:\n  hpc-deepfake verify casia2.h5\n\n"
               "exit codes: 0 every row is complete and intact; 2 rows are damaged or pending, or "
               "wrong usage")
    cli.add_argument("file", type=Path, metavar="FILE", help="data file made by preprocessing")
    options = cli.parse(argv)
    header = open_header(options.file)
    status = np.array(header.array("status"))
    done, pending = np.flatnonzero(status == DONE), unfinished(header)
    damaged, problem = damaged_rows(header, done, shown=True), damaged_columns(header)
    print(f"{options.file}: {header.rows:,} rows; {len(done) - len(damaged):,} intact, "
          f"{len(damaged):,} damaged, {len(pending):,} pending, "
          f"{(status == REJECTED).sum():,} rejected")
    if header.has_masks:
        masked, tampered = _masked(header)
        print(f"masks: {masked:,} of {plural(tampered, 'tampered row')}")
    if len(damaged):
        print("damaged rows: " + ", ".join(map(str, damaged[:10].tolist()))
              + (" …" if len(damaged) > 10 else ""))
    if problem:
        print(damage(header, problem))
    elif len(damaged) or len(pending):
        print("run the same preprocessing command again: it computes only these rows")
    return EXIT_USAGE if problem or len(damaged) or len(pending) else 0


def _masked(header: Header) -> tuple[int, int]:
    """Number of tampered rows whose mask says where they were changed, and of all that are done."""
    rows = np.flatnonzero((header.array("label") == TAMPERED) & (header.array("status") == DONE))
    masks = MappedRows(header, MASK)
    return sum(int((masks[block] != UNKNOWN).any((1, 2)).sum())
               for block in np.array_split(rows, -(-len(rows) // _BLOCK) or 1)), len(rows)
