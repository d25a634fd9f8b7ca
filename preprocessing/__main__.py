"""``mpirun -np N python -m preprocessing``: pictures → features in one shared HDF5 file."""

from __future__ import annotations

import csv
import json
import os
import platform
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import numpy as np

from hpc_deepfake.core import mpi
from hpc_deepfake.core.errors import EXIT_USAGE, InputError
from hpc_deepfake.core.options import Parser, at_least, between, default_data
from hpc_deepfake.core.stop import EXIT_STOPPED, StopFlag
from preprocessing import ela, extract, protocol, split, store, video
from preprocessing.catalogue import LABELS, Catalogue, scan, scan_pair

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

_EXAMPLES = """examples:
  mpirun -np 8 python -m preprocessing --data /scratch/CASIA2 --out casia2.h5
  mpirun -np 8 python -m preprocessing --data CASIA2 --split 70/10/20 --seed 7
  mpirun -np 8 python -m preprocessing --authentic CASIA1 --tampered CASIA2 --out mixed.h5

Stopped in the middle? The same command goes on where it was. SIGTERM or SIGUSR1 to the ranks:
they stop after the block at hand.
exit codes: 0 done; 2 wrong usage or input, or too many rejected pictures; 75 stopped by a signal"""


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="python -m preprocessing", epilog=_EXAMPLES, description=(
        "Compute error level analysis features of every picture of CASIA 1, CASIA 2 or a pair of "
        "real/ and fake/ folders, on all ranks, into one shared HDF5 file."))
    cli.add_argument("--data", type=Path, metavar="DIR",
                     help="folder of one or more data sets (default: $HPC_DEEPFAKE_DATA or data)")
    cli.add_argument("--authentic", type=Path, metavar="DIR",
                     help="authentic pictures, with --tampered instead of --data")
    cli.add_argument("--tampered", type=Path, metavar="DIR",
                     help="tampered pictures, with --authentic")
    cli.add_argument("--out", type=Path, metavar="FILE",
                     help="the HDF5 file (default: features.h5 in the data folder)")
    cli.add_argument("--features", nargs="+", choices=sorted(ela.FEATURES), metavar="NAME",
                     default=["ela", "raw"], help=f"of {', '.join(sorted(ela.FEATURES))}")
    cli.add_argument("--quality", type=at_least(1), default=90, metavar="Q",
                     help="JPEG quality of error level analysis, 1 to 100")
    cli.add_argument("--reencode", type=at_least(1), metavar="Q",
                     help="first make every picture a JPEG of this quality, in memory, so that "
                          "file formats don't tell the classes apart")
    cli.add_argument("--frames-per-video", type=at_least(1), metavar="N",
                     help=f"take N evenly spread frames of each video (default: {video.FRAMES})")
    cli.add_argument("--frame-rate", type=between(0.001, video.MAX_RATE), metavar="R",
                     help="take R frames a second of each video instead")
    cli.add_argument("--split", default="80/20", metavar="P/P[/P]",
                     help="percentages for train/validation or train/validation/test")
    cli.add_argument("--split-by", choices=("group", "image"), default="group",
                     help="keep pictures of the same source on one side, or not")
    cli.add_argument("--seed", type=at_least(0), default=0, help="of the split")
    cli.add_argument("--max-rejects", default="1%", metavar="N",
                     help="how many unusable pictures are all right, as a number or percentage")
    cli.add_argument("--writer", choices=("auto", "hdf5", "mpi-io"), default="auto",
                     help="parallel HDF5 or MPI-IO; the file is the same")
    return cli


def main(comm: Comm, argv: Sequence[str] | None = None) -> int:
    """The whole job; collective. Returns the exit code."""
    stop = StopFlag()
    options = parser().parse(argv)
    catalogue: Catalogue | None = None  # stays on rank 0

    def prepare() -> tuple[store.Header, float]:
        nonlocal catalogue
        catalogue, header, listed = _prepare(comm.size, options)
        return header, listed

    header, listed = mpi.on_root(comm, prepare)
    result = extract.run(comm, header, catalogue, options.writer, stop)
    if comm.rank:
        return comm.bcast(None)
    code = _finish(comm.size, options, catalogue, header, result, listed)
    return comm.bcast(code)


def _prepare(ranks: int, options: Namespace) -> tuple[Catalogue, store.Header, float]:
    """List the pictures, split them, and make or open the file."""
    start = time.perf_counter()
    for option in ("quality", "reencode"):
        if (getattr(options, option) or 0) > 100:
            raise InputError(f"--{option} {getattr(options, option)}: JPEG qualities end at 100")
    fractions = split.parse_fractions(options.split)
    allowed_rejects(options.max_rejects, 0)
    if options.frames_per_video and options.frame_rate:
        raise InputError("give either --frames-per-video or --frame-rate")
    if (options.frames_per_video or 0) > video.MAX_SAMPLED:
        raise InputError(f"--frames-per-video {options.frames_per_video}: at most "
                         f"{video.MAX_SAMPLED:,}")
    moments = partial(video.moments, count=options.frames_per_video or video.FRAMES,
                      rate=options.frame_rate)
    if (options.authentic is None) != (options.tampered is None):
        raise InputError("--authentic and --tampered go together")
    if options.authentic is not None:
        if options.data is not None:
            raise InputError("give either --data or --authentic and --tampered")
        catalogue = scan_pair(options.authentic, options.tampered, moments)
    else:
        catalogue = scan(options.data or default_data(), moments)
    for note in catalogue.notes:
        print(f"note: {note}", flush=True)
    protocol.warn(catalogue.paths, catalogue.labels)
    features = tuple(sorted(set(options.features)))
    if options.reencode == options.quality:
        print(f"note: --reencode {options.reencode} is ELA's own quality (--quality): to compress "
              "in the same way twice shows hardly anything; choose another for one", flush=True)
    parameters = ela.Parameters(options.quality, reencode=options.reencode)
    recipe = store.Recipe(features, parameters, options.split, options.split_by, options.seed,
                          catalogue.digest(), len(catalogue))
    out = output(options)
    if out.is_dir():
        raise InputError(f"--out {out} is a folder: name a file, like {out / 'features.h5'}")
    if out.exists():
        if not os.access(out, os.W_OK):
            raise InputError(f"cannot write {out}: Permission denied; "
                             "choose another place with --out")
        header = store.open_header(out)
        store.check_same(header, recipe)
        print(f"going on with {out}", flush=True)
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
          f"{', '.join(features)} on {ranks} rank{'s' * (ranks > 1)} → {out}", flush=True)
    return catalogue, header, time.perf_counter() - start


def output(options: Namespace) -> Path:
    """Where the file goes."""
    if options.out is not None:
        return options.out
    if options.authentic is not None:
        raise InputError("name the data file with --out FILE.h5")
    return (options.data or default_data()) / "features.h5"


def allowed_rejects(text: str, rows: int) -> int:
    """``"5"`` or ``"1%"`` as a number of pictures."""
    try:
        allowed = float(text.removesuffix("%"))
        if not 0 <= allowed < float("inf"):
            raise ValueError
    except ValueError:
        raise InputError(f"--max-rejects {text}: give a number like 5, or a percentage like 1%"
                         ) from None
    return int(allowed * rows / 100) if text.endswith("%") else int(allowed)


def _check_parts(labels: np.ndarray, parts: np.ndarray, count: int) -> None:
    for part in range(count):
        for label, name in enumerate(LABELS):
            if not ((parts == part) & (labels == label)).any():
                print(f"note: no {name} pictures in the {split.PARTS[part]} part", flush=True)


def _finish(ranks: int, options: Namespace, catalogue: Catalogue, header: store.Header,
            result: extract.Result, listed: float) -> int:
    rejects = sorted(reject for tally in result.tallies for reject in tally.rejects)
    with_reasons = [(unquote(header.array("path")[row].decode(), errors="backslashreplace"),
                     reason) for row, reason in rejects]
    _write_csv(Path(f"{header.path}.rejects.csv"), with_reasons)
    images = sum(tally.images for tally in result.tallies)
    if images:  # else the last run that did something stands
        _write_json(Path(f"{header.path}.json"), {
            "made_by": versions(), "host": platform.node(), "ranks": ranks,
            "writer": result.writer, "roots": {name: str(path) for name, path
                                               in catalogue.roots.items()},
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "images": images,
            "seconds": {"list": listed, "wall": result.wall,
                        "by_rank": [tally.seconds for tally in result.tallies]},
            "notes": catalogue.notes, "rejected": len(rejects)})
    print(_table(result, images, len(rejects), listed))
    if rejects:
        for reason, count in Counter(reason for _, reason in with_reasons).most_common(3):
            print(f"  {count} × {reason}")
        print(f"rejected pictures are listed in {header.path}.rejects.csv")
    left = sum(tally.left for tally in result.tallies)
    if left:
        print(f"stopped by a signal; {left:,} images are left: the same command goes on",
              flush=True)
        return EXIT_STOPPED
    allowed = allowed_rejects(options.max_rejects, header.rows)
    if len(rejects) > allowed:
        mpi.report(f"error: {len(rejects)} pictures rejected, more than --max-rejects "
                   f"{options.max_rejects} allows ({allowed}). The others are done: mend them and "
                   "run the same command again, or raise --max-rejects")
        return EXIT_USAGE
    return 0


def _table(result: extract.Result, images: int, rejected: int, listed: float) -> str:
    if not images + rejected:
        return f"nothing left to do: all {result.resumed:,} images are done, checksums right"
    busy = [tally.busy for tally in result.tallies]
    mean = sum(busy) / len(busy)
    read = sum(tally.read_bytes for tally in result.tallies) / 1e6
    written = sum(tally.written_bytes for tally in result.tallies) / 1e6
    wall = result.wall
    lines = [f"images      {images:>10,}   {images / wall:,.0f} images/s on "
             f"{len(busy)} rank{'s' * (len(busy) > 1)}, {result.writer}",
             f"rejected    {rejected:>10,}"]
    if result.resumed:
        lines.append(f"done before {result.resumed:>10,}   checksums right")
    if result.damaged:
        lines.append(f"repaired    {result.damaged:>10,}   rows had a wrong checksum")
    lines += [f"read        {read:>7,.0f} MB   {read / wall:,.1f} MB/s",
              f"written     {written:>7,.0f} MB   {written / wall:,.1f} MB/s",
              f"wall clock  {wall:>8.2f} s   imbalance {max(busy) / max(mean, 1e-9):.2f} "
              "(slowest rank over mean)",
              f"  list      {listed:>8.2f} s   rank 0"]
    for stage in extract.STAGES:
        seconds = [tally.seconds[stage] for tally in result.tallies]
        lines.append(f"  {stage:<9} {max(seconds):>8.2f} s   slowest rank; "
                     f"mean {sum(seconds) / len(seconds):.2f} s")
    return "\n".join(lines)


def versions() -> dict[str, str]:
    """Versions of all that made the file."""
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
    new = path.with_name(f".{path.name}.new")
    with open(new, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "reason"))
        writer.writerows(rows)
    os.replace(new, path)


def _write_json(path: Path, value: dict) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(new, path)


if __name__ == "__main__":
    mpi.run(main)
