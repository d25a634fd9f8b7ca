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
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
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
from preprocessing import (
    ela,
    extract,
    faces,
    origin,
    perturb,
    protocol,
    split,
    store,
    unreadable,
)
from preprocessing.catalogue import LABELS, Catalogue, with_copies
from preprocessing.integrity import damage, damaged_columns
from preprocessing.listing import options as listing

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

SPLIT = "80/20"  # default
_REASONS = 10  # why pictures were rejected, that are printed
_EXAMPLES = """examples:
  mpirun -np 8 python -m preprocessing --data /scratch/CASIA2 --out casia2.h5
  mpirun -np 8 python -m preprocessing --data CASIA2 --split 70/10/20 --seed 7
  mpirun -np 8 python -m preprocessing --authentic CASIA1 --tampered CASIA2 --out mixed.h5
  mpirun -np 8 python -m preprocessing --manifest mine/list.csv --out mine.h5
  mpirun -np 8 python -m preprocessing --data frames --group-by folder --out frames.h5
  mpirun -np 8 python -m preprocessing --data CASIA2 --size 256 --out casia2-256.h5
  mpirun -np 8 python -m preprocessing --data CASIA2 --perturb jpeg=95,90,80,70 --out robust.h5
  mpirun -np 8 python -m preprocessing --data FaceForensics++ --crop faces --out faces.h5

If it is stopped, run the same command again: it resumes where it stopped. On SIGTERM or SIGUSR1 the
ranks stop after their current block.

exit codes: 0 done; 2 wrong usage or input, or too many rejected pictures; 75 stopped by a signal"""


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="python -m preprocessing", epilog=_EXAMPLES, description=(
        "Compute error level analysis (ELA) features of every picture of a data set (CASIA, other "
        "published ones, a pair of folders such as real/ and fake/, or a list of files), on all "
        "ranks, into one shared HDF5 file, the data file that training reads."))
    cli.add_argument("--data", type=Path, metavar="DIR",
                     help="folder with one or more data sets (default: $HPC_DEEPFAKE_DATA or data)")
    cli.add_argument("--authentic", type=Path, metavar="DIR",
                     help="folder of authentic pictures; use it with --tampered instead of --data")
    cli.add_argument("--tampered", type=Path, metavar="DIR",
                     help="folder of tampered pictures; use it with --authentic")
    listing.add(cli)
    cli.add_argument("--out", type=Path, metavar="FILE",
                     help="data file to write (default: features.h5 in the data folder)")
    cli.add_argument("--features", nargs="+", choices=sorted(ela.FEATURES), metavar="NAME",
                     default=["ela", "raw"], help="features to compute, one or more of "
                          f"{', '.join(sorted(ela.FEATURES))}")
    cli.add_argument("--size", type=at_least(*ela.SIZES), default=ela.SIZE, metavar="S",
                     help="width and height of the features in pixels, {} to {}: larger ones "
                          "show smaller edits; memory and time grow by the square".format(
                              *ela.SIZES))
    cli.add_argument("--quality", type=at_least(1), default=90, metavar="Q",
                     help="JPEG quality of error level analysis, 1 to 100")
    cli.add_argument("--reencode", type=at_least(1), metavar="Q",
                     help="first encode every picture as JPEG of this quality, in memory, so that "
                          "file formats do not give the classes away")
    cli.add_argument("--crop", choices=ela.CROPS,
                     help="faces: the features show the largest face instead of the whole picture, "
                          "of a video that of the same person in all frames; pictures without a "
                          "face are rejected")
    cli.add_argument("--margin", type=between(*faces.MARGINS), metavar="F",
                     help="width of the square around the face, over the face's longer side "
                          f"(default: {faces.MARGIN})")
    cli.add_argument("--masks", choices=("auto", "inverted", "none"), default="auto",
                     help="auto: where tampered pictures have ground-truth masks, store what was "
                          "changed beside the features; inverted: in all of them black marks it "
                          "(NIST16's are read so by themselves); none: only the features")
    cli.add_argument("--perturb", nargs="+", type=perturb.parse, metavar="NAME[=LEVEL,…]",
                     help="change each picture first by one of these operations, or not at all, "
                          "as a training for pictures that were handled needs: jpeg=QUALITY (saved "
                          "again), resize=FACTOR, blur=DEVIATION, noise=DEVIATION, screenshot; "
                          "joined by + they are done one after another")
    cli.add_argument("--split", metavar="P/P[/P]",
                     help="percentages of train/validation or train/validation/test, also instead "
                          f"of a split that the data's author made (default: {SPLIT})")
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
    began = time.perf_counter()
    listed: list[Catalogue] = []  # one on rank 0, which keeps it to itself

    def list_pictures() -> bool:
        listed.append(_list(options))
        return options.group_by == "auto" and not output(options).exists()

    if mpi.on_root(comm, list_pictures):
        listed = [same for same in [with_copies(listed[0] if listed else None, comm)] if same]
    watchdog.enter("opening the data file")
    header = mpi.on_root(comm, lambda: _prepare(comm.size, options, listed[0]))
    list_seconds = time.perf_counter() - began
    result = extract.run(comm, header, listed[0] if listed else None, options.writer, stop)
    watchdog.enter("writing the reports")
    return mpi.on_root(comm, lambda: _finish(comm.size, options, listed[0], header, result,
                                             list_seconds))


def _list(options: Namespace) -> Catalogue:
    """Check the options, and list the pictures."""
    for option in ("quality", "reencode"):
        if (getattr(options, option) or 0) > 100:
            raise InputError(f"--{option} {getattr(options, option)}: JPEG quality is at most 100")
    if options.margin is not None and options.crop is None:
        raise InputError(f"--margin {options.margin:g} is the margin around faces: add --crop "
                         "faces, or leave it out")
    moved = [str(change) for change in _perturbed(options) if change.moves]
    if moved:
        raise InputError(f"--perturb {moved[0]}: masks don't follow a crop here: omit it, and crop "
                         "the rows with train --augment crop")
    if options.perturb and options.crop is not None:
        raise InputError("--perturb changes whole pictures, and --crop takes their faces: give "
                         "either of them")
    if options.crop is not None:
        faces.require()
    _check_place(options)
    split.parse_fractions(options.split or SPLIT)
    allowed_rejects(options.max_rejects, 0)
    catalogue = listing.catalogue_of(options, options.data or default_data())
    if options.masks == "inverted":
        return replace(catalogue, inverted=frozenset(catalogue.masks.values()))
    return catalogue


def _perturbed(options: Namespace) -> list[perturb.Perturbation]:
    """What ``--perturb`` names, each once."""
    return list(dict.fromkeys(chain(*options.perturb or ())))


def _prepare(ranks: int, options: Namespace, catalogue: Catalogue) -> store.Header:
    """Split the pictures, and create or open the file."""
    for note in catalogue.notes:
        log.info(f"note: {note}")
    protocol.warn(catalogue.paths, catalogue.labels)
    if options.reencode == options.quality:
        log.warning(f"note: --reencode {options.reencode} is also ELA's quality (--quality): a "
                    "second compression of the same quality changes hardly anything, so that ELA "
                    "shows little; change one of them")
    out = output(options)
    _hold(out)
    header = store.open_header(out) if _is_there(out) else None
    if catalogue.parts is not None and (options.split or _older(header)):
        log.info(f"note: the split {options.split or SPLIT} replaces the author's")
        catalogue = replace(catalogue, parts=None)
    elif catalogue.parts is not None:
        log.info("note: the author's split is kept; --split P/P[/P] replaces it")
    parameters = ela.Parameters(
        options.quality, size=options.size, reencode=options.reencode, crop=options.crop,
        margin=None if options.crop is None else options.margin or faces.MARGIN)
    recipe = store.Recipe(
        tuple(sorted(set(options.features))), parameters, *_split_of(options, catalogue),
        options.seed, catalogue.digest(), len(catalogue),
        bool(origin.drawn(catalogue.roots, catalogue.paths)), options.group_by,
        catalogue.given, _masks(options, catalogue, header), tuple(map(str, _perturbed(options))),
        bool(origin.forged(catalogue.roots, catalogue.paths)))
    if header is not None:
        unreadable.require_unused(out)
        store.check_same(header, recipe, catalogue)
        if problem := damaged_columns(header):
            raise InputError(damage(header, problem))
        log.info(f"resuming {out}")
    else:
        store.create(out, catalogue, _parts(options, catalogue), recipe)
        header = store.open_header(out)
    counts = " + ".join(f"{(catalogue.labels == label).sum():,} {name}"
                        for label, name in enumerate(LABELS))
    groups = np.array(header.array("group"))
    size = f" of {parameters.size} × {parameters.size}" * (parameters.size != ela.SIZE)
    masks = f" and {plural(len(catalogue.masks), 'mask')}" if header.has_masks else ""
    stored = ", ".join(recipe.features) + size + masks
    print(f"{plural(len(catalogue), 'image')} ({counts}) in "
          f"{plural(int(groups.max()) + 1, 'group')} of common source; "
          f"{stored} on {plural(ranks, 'rank')} → {out}", flush=True)
    if np.array_equal(groups, catalogue.groups):
        print(f"groups: {catalogue.grouped()}", flush=True)
    return header


def _masks(options: Namespace, catalogue: Catalogue, header: store.Header | None) -> str:
    """``Recipe.masks``; an existing file without masks, as all were before, stays so."""
    digest = catalogue.masks_digest()
    masks = plural(len(catalogue.masks), "ground-truth mask")
    if digest and options.masks == "none":
        log.info(f"note: {masks} left out, by --masks none")
    elif digest and header is not None and not header.has_masks:
        log.info(f"note: {header.path} has no masks, and is completed without the {masks}; another "
                 "--out stores them too")
    else:
        return digest
    return ""


def _is_there(out: Path) -> bool:
    if out.exists() and not os.access(out, os.W_OK):
        raise InputError(f"cannot write {out}: Permission denied; choose another place with --out")
    return out.exists()


def _older(header: store.Header | None) -> bool:
    """Whether a file was split by percentages, as all were before the splits of authors were
    kept."""
    return header is not None and header.attributes.get("split") == SPLIT


def _split_of(options: Namespace, catalogue: Catalogue) -> tuple[str, str]:
    """What the data file says about its split: the parts, and by what they were made."""
    chosen = options.split or SPLIT
    if catalogue.parts is None:
        return chosen, options.split_by
    return split.described(catalogue.parts, chosen), catalogue.parts_from


def _parts(options: Namespace, catalogue: Catalogue) -> np.ndarray:
    """Part of each row, uint8 (N); notes what may be wrong with it."""
    fractions = split.parse_fractions(options.split or SPLIT)
    labels, groups = catalogue.labels, catalogue.groups
    if catalogue.parts is not None:
        parts = split.completed(catalogue.parts, labels, groups, fractions, options.seed)
        sizes = ", ".join(f"{int((parts == part).sum()):,} {name}"
                          for part, name in enumerate(split.PARTS) if (parts == part).any())
        if (without := int((catalogue.parts >= len(split.PARTS)).sum())):
            log.info(f"note: {plural(without, 'image')} without a part divided by "
                     f"{options.split or SPLIT}: {sizes} in all")
        elif not np.array_equal(parts, catalogue.parts):
            log.info("note: the author's split has no validation part, which selects the best "
                     f"epoch, so it is taken from the training part: {sizes}")
        if (shared := split.straddling(parts, groups)):
            log.warning(f"note: {plural(shared, 'group')} of common source "
                        f"{'is' if shared == 1 else 'are'} in several parts of the author's split, "
                        "which is kept, so its figures may be too good; --split 80/20 splits by "
                        "group instead")
    elif options.split_by == "group":
        parts = split.by_group(labels, groups, fractions, options.seed)
    else:
        parts = split.by_image(labels, fractions, options.seed)
    _check_parts(labels, parts, max(int(parts.max()) + 1, len(fractions)))
    return parts


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
        pictures = "" if data or options.authentic or options.manifest else \
            f", and the folder of pictures with --data, like --data {shlex.quote(str(out))}"
        raise InputError(f"--out {out} is a folder: name the data file to write, like "
                         f"--out {shlex.quote(str(out / 'features.h5'))}{pictures}")
    if data is not None and os.path.isfile(data):
        raise InputError(f"--data {data} is a file: name the folder of pictures with --data, and "
                         "the data file to write with --out")


def output(options: Namespace) -> Path:
    """Path of the data file.

    Raises:
        InputError: ``--authentic`` and ``--tampered``, or ``--manifest``, without ``--out``.
    """
    if options.out is not None:
        return options.out
    if options.authentic is not None or options.manifest is not None:
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
    with_reasons = [(_shown(header, row), reason) for row, reason in rejects]
    _write_csv(Path(f"{header.path}.rejects.csv"), with_reasons)
    unknown = sorted(each for tally in result.tallies for each in tally.unknown)
    if header.has_masks:
        _write_csv(Path(f"{header.path}.masks.csv"), [
            (_shown(header, row), os.fsdecode(mask), reason) for row, mask, reason in unknown],
            ("path", "mask", "reason"))
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
            "notes": catalogue.notes, "groups": catalogue.grouped(),
            "manifest": str(options.manifest.resolve()) if options.manifest else None,
            "rejected": len(rejects), **({"unknown_masks": len(unknown)} if header.has_masks
                                         else {})})
    print(_table(result, images, len(rejects), list_seconds, header.has_masks))
    if rejects:
        print("\n".join(counted(reason for _, reason in with_reasons)))
        print(f"rejected pictures are listed in {header.path}.rejects.csv")
    if unknown:
        print(f"masks that can't be used are listed in {header.path}.masks.csv; what was changed "
              "in their pictures is unknown:")
        print("\n".join(counted(reason for *_, reason in unknown)))
    masks, mostly = (sum(getattr(tally, name) for tally in result.tallies)
                     for name in ("masks", "mostly"))
    if mostly > masks / 2 and options.masks == "auto" and options.crop is None:
        log.warning(f"note: {mostly:,} of {plural(masks, 'mask')} mark more than half of their "
                    "picture: if black marks what was changed in them, give --masks inverted, and "
                    "another --out")
    left = sum(tally.left for tally in result.tallies)
    if left:
        print(f"stopped by a signal; {plural(left, 'image')} left: run the same command again to "
              "resume", flush=True)
        return EXIT_STOPPED
    allowed = allowed_rejects(options.max_rejects, header.rows)
    if len(rejects) > allowed:
        faceless = sum(reason == faces.NO_FACE for _, reason in rejects)
        mpi.report(f"error: {plural(len(rejects), 'picture')} rejected, more than --max-rejects "
                   f"{options.max_rejects} allows ({allowed}). All others are done: repair or "
                   f"remove the pictures listed in {header.path}.rejects.csv and run the same "
                   "command again, or raise --max-rejects" +
                   f": in {faceless:,} of them no face is found, which --crop faces needs"
                   * bool(faceless))
        return EXIT_USAGE
    return 0


def counted(reasons: Iterable[str]) -> list[str]:
    """Lines that say why pictures were rejected, the most frequent reasons first."""
    counts = Counter(reasons).most_common()
    lines = [f"  {count:,} × {reason}" for reason, count in counts[:_REASONS]]
    more = sum(count for _, count in counts[_REASONS:])
    return lines + [f"  and {more:,} more, for other reasons"] * bool(more)


def _shown(header: store.Header, row: int) -> str:
    """The path of a row as on disk."""
    return unquote(header.array("path")[row].decode(), errors="backslashreplace")


def _is_json(path: Path) -> bool:
    try:
        json_data.read(path)
    except (OSError, ValueError):
        return False
    return True


def _table(result: extract.Result, images: int, rejected: int, list_seconds: float,
           has_masks: bool) -> str:
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
    if has_masks:
        unknown = sum(len(tally.unknown) for tally in result.tallies)
        lines.append(f"masks       {sum(tally.masks for tally in result.tallies):>10,}"
                     + f"   {unknown:,} can't be used" * bool(unknown))
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


def _write_csv(path: Path, rows: Sequence[tuple[str, ...]],
               columns: Sequence[str] = ("path", "reason")) -> None:
    with whole(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv_lines.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


if __name__ == "__main__":
    mpi.run(main, before_mpi)
