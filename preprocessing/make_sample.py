"""``hpc-deepfake sample``: sample data or forgeries of own photographs in CASIA's layout, on one or
more ranks."""

from __future__ import annotations

if __name__ == "__main__":  # before other packages are imported
    from hpc_deepfake.core.surroundings import settle

    settle()

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpc_deepfake.core import mpi
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import write_text
from hpc_deepfake.core.options import Parser, at_least, default_data, seed
from hpc_deepfake.core.progress import Progress
from hpc_deepfake.core.streams import work_matters
from preprocessing.catalogue import SAMPLE_MARK
from preprocessing.forging import command as forging
from preprocessing.forging.plan import KINDS
from preprocessing.sample import generate

if TYPE_CHECKING:
    from mpi4py.MPI import Comm


_COUNT = 1000  # pictures, unless another number is given


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake sample", description=(
        "Generate sample pictures, half of them tampered with, with the folders and file names of "
        "CASIA 2. They serve to try everything without a data set; results on them say nothing "
        "about real forgeries. With --from, make forgeries of your own photographs instead, and "
        "authentic pictures that were saved in the same way. Beside both lie masks of what was "
        "changed."),
        epilog="examples:\n  hpc-deepfake sample --out data/sample --count 1000\n"
               "  mpirun -np 8 hpc-deepfake sample --out /scratch/sample --count 100000\n"
               "  mpirun -np 8 hpc-deepfake sample --from photographs --out data/own\n"
               "  hpc-deepfake sample --from photographs --out data/own --count 400 "
               "--kinds splice,removal --qualities 85-95\n\n"
               "exit codes: 0 done; 2 wrong usage, unusable photographs, or a folder that can't be "
               "written to")
    cli.add_argument("--out", type=Path, metavar="DIR",
                     help="folder (default: sample in $HPC_DEEPFAKE_DATA or data)")
    cli.add_argument("--count", type=at_least(2), metavar="N",
                     help=f"number of pictures (default: {_COUNT:,}; with --from, two for each "
                          "usable photograph)")
    cli.add_argument("--seed", type=seed(), default=0, help="seed of the pictures")
    own = cli.add_argument_group("forgeries of own photographs")
    own.add_argument("--from", type=Path, metavar="FOLDER", dest="photographs",
                     help="folder of authentic photographs, with all folders below; those that "
                          "can't be used are named and left out")
    own.add_argument("--kinds", type=forging.kinds, metavar="KIND,…",
                     help=f"kinds of forgeries, in turn: {', '.join(KINDS)} (default: all)")
    own.add_argument("--qualities", type=forging.qualities, metavar="LOW-HIGH",
                     help="JPEG quality of the last save, of both classes (default: "
                          f"{'-'.join(map(str, forging.QUALITIES))})")
    return cli


def main(comm: Comm, argv: Sequence[str] | None = None) -> int:
    """The whole job. Collective. Returns the exit code."""
    work_matters()
    options = parser().parse(argv)
    if options.photographs:
        if not options.out:
            raise InputError("with --from, name the folder of the new pictures with --out",
                             everywhere=True)
        return forging.run(comm, options)
    unused = [name for name in ("kinds", "qualities") if getattr(options, name)]
    if unused:
        raise InputError(f"--{unused[0]} is for forgeries of own photographs: name their folder "
                         "with --from", everywhere=True)
    count = options.count or _COUNT
    out = options.out or default_data() / "sample"
    mark = f"Generated sample data: {count} pictures, seed {options.seed}.\n"

    def prepare() -> None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            file = out / SAMPLE_MARK
            if not file.exists() and any(out.iterdir()):
                raise InputError(f"{out} contains other files: choose another --out")
            if file.exists() and file.read_text(encoding="utf-8") != mark:
                raise InputError(f"{out} contains other sample data ("
                                 f"{file.read_text(encoding='utf-8').strip()}): choose another "
                                 "--out, or delete the folder")
            write_text(file, mark)
        except OSError as error:
            raise InputError(f"cannot write to {out}: {error.strerror}; choose another --out"
                             ) from None

    mpi.on_root(comm, prepare)
    start = time.perf_counter()
    progress = Progress(comm, count, "pictures")
    drawn = generate(out, count, options.seed, comm.rank, comm.size, progress.advance)
    progress.close()
    drawn = comm.allreduce(drawn)
    if comm.rank == 0:
        rate = drawn / (time.perf_counter() - start)
        print(f"{count:,} sample pictures in {out}, " + (
            f"{drawn:,} generated now at {rate:,.0f} pictures/s" if drawn
            else "all of them from an earlier run"), flush=True)
    return 0


if __name__ == "__main__":
    mpi.run(main)
