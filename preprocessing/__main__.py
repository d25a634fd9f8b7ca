"""``mpirun -np N python -m preprocessing``: features of pictures into one shared HDF5 file."""

from __future__ import annotations

if __name__ == "__main__":  # before other packages are imported
    from hpc_deepfake.core.surroundings import settle

    settle()

import os
import platform
import shlex
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import numpy as np

from hpc_deepfake.core import csv_lines, holder, json_data, mpi, watchdog
from hpc_deepfake.core.errors import EXIT_USAGE, InputError
from hpc_deepfake.core.files import whole, write_json
from hpc_deepfake.core.log import log
from hpc_deepfake.core.options import (
    Parser,
    add_stall_limits,
    at_least,
    between,
    default_data,
    seed,
)
from hpc_deepfake.core.stop import EXIT_STOPPED, StopFlag
from hpc_deepfake.core.streams import work_matters
from hpc_deepfake.core.text import plural
from preprocessing import ela, extract, protocol, split, store, unreadable, video
from preprocessing.catalogue import LABELS, Catalogue, scan, scan_pair
from preprocessing.integrity import damage, damaged_columns
from preprocessing.names import FRAMES

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

_EXAMPLES = """examples:
  mpirun -np 8 python -m preprocessing --data /scratch/CASIA2 --out casia2.h5
  mpirun -np 8 python -m preprocessing --data CASIA2 --split 70/10/20 --seed 7
  mpirun -np 8 python -m preprocessing --authentic CASIA1 --tampered CASIA2 --out mixed.h5

If it is stopped, run the same command again: it resumes where it stopped. On SIGTERM or SIGUSR1 the
ranks stop after their current block.

exit codes: 0 done; 2 wrong usage or input, or too many rejected pictures; 75 stopped by a signal"""


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="python -m preprocessing", epilog=_EXAMPLES, description=(
        "Compute error level analysis (ELA) features of every picture of CASIA 1, CASIA 2 or a "
        "pair of folders such as real/ and fake/, on all ranks, into one shared HDF5 file, the "
        "data file that training reads."))
    cli.add_argument("--data", type=Path, metavar="DIR",
                     help="folder with one or more data sets (default: $HPC_DEEPFAKE_DATA or data)")
    cli.add_argument("--authentic", type=Path, metavar="DIR",
                     help="folder of authentic pictures; use it with --tampered instead of --data")
    cli.add_argument("--tampered", type=Path, metavar="DIR",
                     help="folder of tampered pictures; use it with --authentic")
    cli.add_argument("--out", type=Path, metavar="FILE",
                     help="data file to write (default: features.h5 in the data folder)")
    cli.add_argument("--features", nargs="+", choices=sorted(ela.FEATURES), metavar="NAME",
                     default=["ela", "raw"], help="features to compute, one or more of "
                          f"{', '.join(sorted(ela.FEATURES))}")
    cli.add_argument("--quality", type=at_least(1), default=90, metavar="Q",
                     help="JPEG quality of error level analysis, 1 to 100")
    cli.add_argument("--reencode", type=at_least(1), metavar="Q",
                     help="first encode every picture as JPEG of this quality, in memory, so that "
                          "file formats do not give the classes away")
    cli.add_argument("--frames-per-video", type=at_least(1), metavar="N",
                     help=f"use N evenly spaced frames of each video (default: {FRAMES})")
    cli.add_argument("--frame-rate", type=between(0.001, video.MAX_RATE), metavar="R",
                     help="use R frames per second of each video instead")
    cli.add_argument("--split", default="80/20", metavar="P/P[/P]",
                     help="percentages of train/validation or train/validation/test")
    cli.add_argument("--split-by", choices=("group", "image"), default="group",
                     help="group: pictures of the same source stay in the same part; image: split "
                          "picture by picture, which gives results that are too good")
    cli.add_argument("--seed", type=seed(), default=0, help="seed of the split")
    cli.add_argument("--max-rejects", default="1%", metavar="N",
                     help="maximum number of rejected (unusable) pictures, or a percentage")
    cli.add_argument("--writer", choices=("auto", "hdf5", "mpi-io"), default="auto",
                     help="write through parallel HDF5 or MPI-IO; the file is the same (auto: "
                          "parallel HDF5 if h5py supports it)")
    add_stall_limits(cli)
    return cli


def before_mpi(argv: Sequence[str] | None = None) -> None:
    """Set what the watchdog reads when it starts."""
    options = parser().parse(argv)
    watchdog.limits(options.stall_warning, options.stall_limit)


@holder.releases
def main(comm: Comm, argv: Sequence[str] | None = None) -> int:
    """The whole job. Collective. Returns the exit code."""
    work_matters()
    stop = StopFlag()
    options = parser().parse(argv)
    watchdog.limits(options.stall_warning, options.stall_limit)
    watchdog.enter("listing the pictures")
    catalogues: list[Catalogue] = []  # one on rank 0, which keeps it to itself

    def prepare() -> tuple[store.Header, float]:
        catalogue, header, seconds = _prepare(comm.size, options)
        catalogues.append(catalogue)
        return header, seconds

    header, list_seconds = mpi.on_root(comm, prepare)
    catalogue = catalogues[0] if catalogues else None
    result = extract.run(comm, header, catalogue, options.writer, stop)
    watchdog.enter("writing the reports")
    return mpi.on_root(comm, lambda: _finish(comm.size, options, catalogues[0], header, result,
                                             list_seconds))


def _prepare(ranks: int, options: Namespace) -> tuple[Catalogue, store.Header, float]:
    """List the pictures, split them, and create or open the file. Returns also the seconds."""
    start = time.perf_counter()
    for option in ("quality", "reencode"):
        if (getattr(options, option) or 0) > 100:
            raise InputError(f"--{option} {getattr(options, option)}: JPEG quality is at most 100")
    _check_place(options)
    fractions = split.parse_fractions(options.split)
    allowed_rejects(options.max_rejects, 0)
    if options.frames_per_video and options.frame_rate:
        raise InputError("give either --frames-per-video or --frame-rate, not both")
    if (options.frames_per_video or 0) > video.MAX_SAMPLED:
        raise InputError(f"--frames-per-video {options.frames_per_video}: give at most "
                         f"{video.MAX_SAMPLED:,}")
    moments = partial(video.moments, count=options.frames_per_video or FRAMES,
                      rate=options.frame_rate)
    if (options.authentic is None) != (options.tampered is None):
        raise InputError("--authentic and --tampered go together: give both")
    if options.authentic is not None:
        if options.data is not None:
            raise InputError("give either --data, or --authentic and --tampered")
        catalogue = scan_pair(options.authentic, options.tampered, moments)
    else:
        catalogue = scan(options.data or default_data(), moments)
    for note in catalogue.notes:
        log.info(f"note: {note}")
    protocol.warn(catalogue.paths, catalogue.labels)
    features = tuple(sorted(set(options.features)))
    if options.reencode == options.quality:
        log.warning(f"note: --reencode {options.reencode} is also ELA's quality (--quality): a "
                    "second compression of the same quality changes hardly anything, so that ELA "
                    "shows little; change one of them")
    parameters = ela.Parameters(options.quality, reencode=options.reencode)
    recipe = store.Recipe(features, parameters, options.split, options.split_by, options.seed,
                          catalogue.digest(), len(catalogue), catalogue.sample)
    out = output(options)
    _hold(out)
    if out.exists():
        if not os.access(out, os.W_OK):
            raise InputError(f"cannot write {out}: Permission denied; "
                             "choose another place with --out")
        header = store.open_header(out)
        unreadable.require_unused(out)
        store.check_same(header, recipe)
        if problem := damaged_columns(header):
            raise InputError(damage(header, problem))
        log.info(f"resuming {out}")
    else:
        parts = split.by_group(catalogue.labels, catalogue.groups, fractions, options.seed) \
            if options.split_by == "group" \
            else split.by_image(catalogue.labels, fractions, options.seed)
        _check_parts(catalogue.labels, parts, len(fractions))
        store.create(out, catalogue, parts, recipe)
        header = store.open_header(out)
    counts = " + ".join(f"{(catalogue.labels == label).sum():,} {name}"
                        for label, name in enumerate(LABELS))
    groups = int(catalogue.groups.max()) + 1
    print(f"{len(catalogue):,} images ({counts}) in {groups:,} groups of common source; "
          f"{', '.join(features)} on {plural(ranks, 'rank')} → {out}", flush=True)
    return catalogue, header, time.perf_counter() - start


def _hold(out: Path) -> None:
    """Hold the data file for this job.

    Raises:
        InputError: another job holds it, or its folder can't be written to.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}; "
                         "choose another place with --out") from None
    holder.hold(out, "preprocessing", "--out")


def _check_place(options: Namespace) -> None:
    """Raise InputError where the folder of pictures and the data file are mixed up."""
    out, data = output(options), options.data
    if out.is_dir():
        pictures = "" if data or options.authentic else \
            f", and the folder of pictures with --data, like --data {shlex.quote(str(out))}"
        raise InputError(f"--out {out} is a folder: name the data file to write, like "
                         f"--out {shlex.quote(str(out / 'features.h5'))}{pictures}")
    if data is not None and data.is_file():
        raise InputError(f"--data {data} is a file: name the folder of pictures with --data, and "
                         "the data file to write with --out")


def output(options: Namespace) -> Path:
    """Path of the data file.

    Raises:
        InputError: ``--authentic`` and ``--tampered`` without ``--out``.
    """
    if options.out is not None:
        return options.out
    if options.authentic is not None:
        raise InputError("name the data file with --out FILE.h5")
    return (options.data or default_data()) / "features.h5"


def allowed_rejects(text: str, rows: int) -> int:
    """The number of pictures that ``"5"`` or ``"1%"`` of ``rows`` means.

    Raises:
        InputError: it is neither.
    """
    try:
        allowed = float(text.removesuffix("%"))
        if not 0 <= allowed < float("inf") or (text.endswith("%") and allowed > 100):
            raise ValueError
    except ValueError:
        raise InputError(f"--max-rejects {text}: give a number like 5, or a percentage up to "
                         "100%, like 1%") from None
    return int(allowed * rows / 100) if text.endswith("%") else int(allowed)


def _check_parts(labels: np.ndarray, parts: np.ndarray, count: int) -> None:
    for part in range(count):
        for label, name in enumerate(LABELS):
            if not ((parts == part) & (labels == label)).any():
                log.warning(f"note: no {name} pictures in the {split.PARTS[part]} part")


def _finish(ranks: int, options: Namespace, catalogue: Catalogue, header: store.Header,
            result: extract.Result, list_seconds: float) -> int:
    """Write the reports, print the table. Returns the exit code."""
    rejects = sorted(reject for tally in result.tallies for reject in tally.rejects)
    with_reasons = [(unquote(header.array("path")[row].decode(), errors="backslashreplace"),
                     reason) for row, reason in rejects]
    _write_csv(Path(f"{header.path}.rejects.csv"), with_reasons)
    images = sum(tally.images for tally in result.tallies)
    report = Path(f"{header.path}.json")
    if images or not _is_json(report):  # else that of the last run that computed pictures stays
        write_json(report, {
            "made_by": versions(), "host": platform.node(),
            "hosts": sorted({tally.host for tally in result.tallies}), "ranks": ranks,
            "writer": result.writer, "roots": {name: str(path) for name, path
                                               in catalogue.roots.items()},
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "images": images,
            "seconds": {"list": list_seconds, "wall": result.wall,
                        "by_rank": [tally.seconds for tally in result.tallies]},
            "notes": catalogue.notes, "rejected": len(rejects)})
    print(_table(result, images, len(rejects), list_seconds))
    if rejects:
        for reason, count in Counter(reason for _, reason in with_reasons).most_common(3):
            print(f"  {count} × {reason}")
        print(f"rejected pictures are listed in {header.path}.rejects.csv")
    left = sum(tally.left for tally in result.tallies)
    if left:
        print(f"stopped by a signal; {plural(left, 'image')} left: run the same command again to "
              "resume", flush=True)
        return EXIT_STOPPED
    allowed = allowed_rejects(options.max_rejects, header.rows)
    if len(rejects) > allowed:
        mpi.report(f"error: {plural(len(rejects), 'picture')} rejected, more than --max-rejects "
                   f"{options.max_rejects} allows ({allowed}). All others are done: repair or "
                   f"remove the pictures listed in {header.path}.rejects.csv and run the same "
                   "command again, or raise --max-rejects")
        return EXIT_USAGE
    return 0


def _is_json(path: Path) -> bool:
    try:
        json_data.read(path)
    except (OSError, ValueError):
        return False
    return True


def _table(result: extract.Result, images: int, rejected: int, list_seconds: float) -> str:
    """The results and times of a run as lines to read."""
    if not images + rejected:
        return f"nothing left to do: all {result.resumed:,} images are done, checksums correct"
    busy = [tally.busy for tally in result.tallies]
    mean = sum(busy) / len(busy)
    read = sum(tally.read_bytes for tally in result.tallies) / 1e6
    written = sum(tally.written_bytes for tally in result.tallies) / 1e6
    wall = result.wall
    lines = [f"images      {images:>10,}   {images / wall:,.0f} images/s on "
             f"{plural(len(busy), 'rank')}, {result.writer}",
             f"rejected    {rejected:>10,}"]
    if result.resumed:
        lines.append(f"done before {result.resumed:>10,}   checksums correct")
    if result.damaged:
        lines.append(f"repaired    {result.damaged:>10,}   rows had a wrong checksum")
    lines += [f"read        {read:>7,.0f} MB   {read / wall:,.1f} MB/s",
              f"written     {written:>7,.0f} MB   {written / wall:,.1f} MB/s",
              f"wall clock  {wall:>8.2f} s   imbalance {max(busy) / max(mean, 1e-9):.2f} "
              "(slowest rank over mean)",
              f"  list      {list_seconds:>8.2f} s   rank 0"]
    for stage in extract.STAGES:
        seconds = [tally.seconds[stage] for tally in result.tallies]
        lines.append(f"  {stage:<9} {max(seconds):>8.2f} s   slowest rank; "
                     f"mean {sum(seconds) / len(seconds):.2f} s")
    return "\n".join(lines)


def versions() -> dict[str, str]:
    """Versions of the software that made the file."""
    import cv2
    import h5py
    import mpi4py
    import PIL
    from mpi4py import MPI

    return {"python": platform.python_version(), "numpy": np.__version__,
            "opencv": cv2.__version__, "pillow": PIL.__version__, "h5py": h5py.__version__,
            "hdf5": h5py.version.hdf5_version, "mpi4py": mpi4py.__version__,
            "mpi": MPI.Get_library_version().split("\n")[0].strip("\0 ")}


def _write_csv(path: Path, rows: list[tuple[str, str]]) -> None:
    with whole(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv_lines.writer(file)
        writer.writerow(("path", "reason"))
        writer.writerows(rows)


if __name__ == "__main__":
    mpi.run(main, before_mpi)
