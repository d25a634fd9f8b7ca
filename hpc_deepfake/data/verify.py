"""``hpc-deepfake verify``: is a data file whole?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hpc_deepfake.core.errors import EXIT_USAGE
from hpc_deepfake.core.options import Parser
from preprocessing.store import DONE, PENDING, REJECTED, damaged_rows, open_header


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 whole, 2 not."""
    cli = Parser(prog="hpc-deepfake verify", description=(
        "Check every row of a data file against its checksum."),
        epilog="example:\n  hpc-deepfake verify casia2.h5")
    cli.add_argument("file", type=Path, metavar="FILE", help="data file")
    options = cli.parse(argv)
    header = open_header(options.file)
    status = np.array(header.array("status"))
    done = np.flatnonzero(status == DONE)
    damaged = damaged_rows(header, done)
    print(f"{options.file}: {header.rows:,} rows; {len(done) - len(damaged):,} right, "
          f"{len(damaged):,} damaged, {(status == PENDING).sum():,} pending, "
          f"{(status == REJECTED).sum():,} rejected")
    if len(damaged):
        print("damaged rows: " + ", ".join(map(str, damaged[:10].tolist()))
              + (" …" if len(damaged) > 10 else ""))
    if len(damaged) or (status == PENDING).any():
        print("run the same preprocessing command again: it does just these rows")
        return EXIT_USAGE
    return 0
