"""``hpc-deepfake predict``: probability of tampering for pictures and videos."""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_deepfake.core import mpi
from hpc_deepfake.core.errors import EXIT_USAGE, InputError
from hpc_deepfake.core.log import log
from hpc_deepfake.core.options import (
    Parser,
    add_calibration,
    add_deterministic,
    at_least,
    between,
    thresholds,
)
from hpc_deepfake.core.streams import require_output, work_matters
from hpc_deepfake.core.text import plural, printable
from hpc_deepfake.predict import inputs, output
from preprocessing.leftout import LeftOut
from preprocessing.names import FRAMES

if TYPE_CHECKING:
    import numpy as np
    from mpi4py.MPI import Comm

    from hpc_deepfake.network.card import Card
    from hpc_deepfake.network.guard import Guard
    from hpc_deepfake.predict.library import Model as Model
    from hpc_deepfake.predict.output import Row
    from hpc_deepfake.predict.scoring import Block, Prepared
    from hpc_deepfake.predict.where import Where as Where
    from preprocessing.picture import Rejected

_ROWS = 12  # tag of the messages of results
_FOLDERS = ("ela_dir", "explain_dir", "mask_dir", "plot_dir")  # options
MASKS = ("probability", "binary")
_EXAMPLES = """examples:
  hpc-deepfake predict --model runs/first photo.jpg holiday/ clip.mp4 'scans/*/page-?.tif'
  hpc-deepfake predict --model runs/first --format csv folder/ > verdicts.csv
  hpc-deepfake predict --model runs/first --threshold 0.3,0.9 folder/
  hpc-deepfake predict --model runs/first --ela-dir maps --explain-dir why photo.jpg
  hpc-deepfake predict --model runs/unet --mask-dir where photo.jpg clip.mp4
  find archive -name '*.jpg' -print0 | hpc-deepfake predict --model runs/first -
  mpirun -np 8 hpc-deepfake predict --model runs/first --format json archive/

exit codes: 0 done; 2 invalid options, or some files could not be read (all others are predicted)"""


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake predict", epilog=_EXAMPLES, description=(
        "Predict for each picture the probability that it was tampered with. Pictures are\n"
        "prepared in the same way as the model's training data. Under mpirun the ranks\n"
        "share the work; the order of the output stays the same."))
    cli.add_argument("pictures", nargs="+", metavar="PATH",
                     help="pictures, videos, folders of them, or patterns; - reads a list of paths "
                          "from standard input, one per line or NUL-separated")
    cli.add_argument("--model", type=Path, metavar="RUN",
                     help="run directory of the trained model, the folder of an ensemble, or a "
                          ".keras file (required)")
    cli.add_argument("--threshold", type=thresholds, metavar="P|LOW,HIGH",
                     help="probability from which a picture is predicted tampered; of two, those "
                          "from LOW to below HIGH are undecided (default: the model's, which "
                          "evaluate --save-threshold stores, or 0.5)")
    add_calibration(cli)
    cli.add_argument("--format", choices=output.FORMATS, default="table",
                     help="output format; json writes one object per line")
    cli.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto",
                     help="device to run the network on; auto takes a GPU if there is one")
    add_deterministic(cli)
    maps = cli.add_argument_group("maps and plots")
    maps.add_argument("--ela-dir", type=Path, metavar="DIR",
                      help="write a PNG for each picture that shows it beside its error levels")
    maps.add_argument("--explain-dir", type=Path, metavar="DIR",
                      help="write a PNG for each picture that shows which areas influenced the "
                           "prediction (slow: 225 more predictions for each picture)")
    maps.add_argument("--mask-dir", type=Path, metavar="DIR",
                      help="write two PNGs for each picture, and for each frame of a video: the "
                           "mask, where the model says that it was changed, at the picture's own "
                           "size, and an overlay to look at (models of train --network unet, and "
                           "others that say where)")
    maps.add_argument("--mask-values", choices=MASKS, default=MASKS[0],
                      help="levels of a mask: probability: 0 to 255 for 0 to 100%%; binary: 255 "
                           "from the model's threshold on, else 0")
    maps.add_argument("--plot-dir", type=Path, metavar="DIR",
                      help="write a PNG for each video that plots its frames' probabilities over "
                           "time")
    clips = cli.add_argument_group("videos")
    clips.add_argument("--frames", type=at_least(1), metavar="N",
                       help="number of frames to predict of each video, evenly spread "
                            f"(default: {FRAMES})")
    clips.add_argument("--frame-rate", type=between(*inputs.RATES), metavar="R",
                       help="predict R frames per second instead")
    return cli


def main(argv: Sequence[str] | None = None, comm: Comm | None = None) -> int:
    """Run the command; with ``comm`` collective. Returns the exit code."""
    options = parser().parse(argv)
    if _folders(options):
        work_matters()
    card, paths = mpi.on_root(comm, partial(_prepare, options))

    from hpc_deepfake.network import decision, device, model
    from hpc_deepfake.network.guard import Guard
    from hpc_deepfake.predict import where
    from hpc_deepfake.predict.scoring import BATCH, blocks

    rank, size = (0, 1) if comm is None else (comm.rank, comm.size)
    place = (0, 1) if comm is None else device.local_ranks(comm)
    mpi.together(comm, lambda: device.start(
        options.device, *place, deterministic=options.deterministic))
    network = mpi.together(comm, lambda: where.with_map(model.load(options.model), card))
    guard = mpi.together(comm, lambda: Guard.of(card, options.model))
    # a line with each map, which takes longer than its picture
    most = 1 if options.ela_dir or options.explain_dir or options.mask_dir else BATCH
    results = _in_order(comm, options, card, network, guard, blocks(paths, size, most),
                        device.cores(place[1]))
    bad = 0
    if rank == 0:
        began = time.perf_counter()
        try:
            done = _write(results, output.writer(
                options.format, sys.stdout, (*decision.caveats(card), *guard.caveats),
                mask_threshold=card.mask_threshold, area=options.mask_dir is not None))
        except BrokenPipeError:  # ``… | head``
            if size > 1:  # mpirun itself ends when its output is closed
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for Python's own last flush
            return 0
        bad = done["bad picture"] + done["bad video"]
        log.info("%s", _closing(done, time.perf_counter() - began, size))
        for line in _remarks(done):
            log.warning("%s", line)
        if bad:
            log.warning("%d of %d could not be read", bad, len(paths))
    else:
        for _ in results:  # sends this rank's rows; yields none
            pass
    code = EXIT_USAGE if bad else 0
    return code if comm is None else comm.bcast(code)


def _write(results: Iterator[list[Row]], write: Callable[[Row], None]) -> Counter[str]:
    """Write rows as they arrive; returns their number by kind, with ``bad`` before those of files
    that couldn't be read, and of those ``unlike`` training pictures or ``seen`` in training."""
    done = Counter[str]()
    for rows in results:
        done.update(row.kind if row.probability is not None else f"bad {row.kind}" for row in rows)
        files = [row for row in rows if row.kind != "frame" and row.probability is not None]
        done.update({"unlike": sum(bool(row.unlike) for row in files),
                     "seen": sum(bool(row.notes) for row in files)})
        for row in rows:
            write(row)
        sys.stdout.flush()
    return done


def _prepare(options: Namespace) -> tuple[Card, list[bytes]]:
    """The model's card and the list of files, both checked; rank 0 only."""
    from hpc_deepfake.network import decision, ensemble, model
    from hpc_deepfake.predict import where
    from hpc_deepfake.predict.maps import make_folder

    if not _folders(options):
        require_output()
    if options.model is None:
        raise InputError("name the model: --model RUN, a run directory or a .keras file")
    ensemble.check_calibration(options.model, options.calibration)
    card = decision.in_use(model.card_for_pictures(options.model), options.threshold,
                           options.calibration)
    if options.mask_dir is not None:
        where.require_map(card, options.model)
    elif options.mask_values != MASKS[0]:
        raise InputError(f"--mask-values {options.mask_values} is for masks: add --mask-dir DIR")
    if options.frames and options.frame_rate:
        raise InputError("give either --frames or --frame-rate, not both")
    left = LeftOut()
    paths = inputs.find(options.pictures, left=left)
    for note in left.notes():
        log.info("note: %s", note)
    if not paths:
        raise InputError(inputs.none(options.pictures))
    for note in inputs.idle(options, paths):
        log.info("note: %s", note)
    for name, folder in _folders(options).items():
        make_folder(f"--{name.replace('_', '-')}", folder)
    return card, paths


def _folders(options: Namespace) -> dict[str, Path]:
    """The folders to write into, by the names of their options."""
    return {name: getattr(options, name) for name in _FOLDERS if getattr(options, name) is not None}


def _in_order(comm: Comm | None, options: Namespace, card: Card, network: Any, guard: Guard,
              blocks: list[Block], threads: int = 1) -> Iterator[list[Row]]:
    """Rows of all blocks in the order of the list, on rank 0; the other ranks send it theirs.

    Blocks are dealt out in turn, so rank 0 can print results as they arrive, and no other rank
    waits. While the network computes one, ``threads`` prepare the pictures of the next.
    """
    from hpc_deepfake.data.rows import prefetch
    from hpc_deepfake.predict.scoring import BATCH, prepare

    local = blocks if comm is None else blocks[comm.rank::comm.size]
    pictures = prefetch(lambda path: prepare(path, card, guard),
                        [path for block in local for path in block.paths],
                        ahead=max(BATCH, threads), threads=threads)
    results = (_score(options, card, network, guard, block,
                      [next(pictures) for _ in block.paths]) for block in local)
    if comm is None:
        yield from results
        return
    if comm.rank:
        for request in [comm.isend(rows, 0, _ROWS) for rows in results]:
            mpi.wait(request)
        return
    for number in range(len(blocks)):
        owner = number % comm.size
        while owner and not comm.iprobe(owner, _ROWS):
            time.sleep(0.001)
        yield comm.recv(source=owner, tag=_ROWS) if owner else next(results)


def _score(options: Namespace, card: Card, network: Any, guard: Guard, block: Block,
           prepared: Sequence[Prepared | Rejected | None]) -> list[Row]:
    """Rows of a block, without their maps; also writes the maps and plots that the options ask
    for."""
    from hpc_deepfake.predict import maps, scoring
    from preprocessing.picture import Rejected, decode, read

    if inputs.is_video(block.paths[0]):
        rows = scoring.video(
            network, card, block.paths[0], options.frames or FRAMES, options.frame_rate, guard,
            None if options.mask_dir is None else lambda frame, row, pixels: _write_mask(
                options, card, block.first, row, pixels, frame))
        if options.plot_dir is not None and rows[-1].probability is not None:
            from hpc_deepfake.predict.clip import plot
            from hpc_deepfake.predict.output import remarks

            frames = [(row.seconds, row.probability) for row in rows
                      if row.seconds is not None and row.probability is not None]
            seconds, probabilities = zip(*frames, strict=True)
            plot(seconds, probabilities, card.threshold,
                 options.plot_dir / maps.file_name(block.first, rows[-1].path),
                 printable(rows[-1].name) + f": {rows[-1].verdict}" * bool(rows[-1].unlike),
                 remarks(rows[-1], card), card.lower)
        return [replace(row, where=None) for row in rows]
    rows = scoring.pictures(network, card, block.paths, prepared)
    for number, row in enumerate(rows, block.first):
        if row.probability is None or not _folders(options).keys() - {"plot_dir"}:
            continue
        with suppress(Rejected):  # changed since its prediction
            # decoded again: a batch of large pictures would not fit into memory
            pixels = decode(read(row.path))
            name = maps.file_name(number, row.path)
            if options.ela_dir is not None:
                maps.save(maps.error_levels(pixels, row, card), options.ela_dir, name)
            if options.explain_dir is not None:
                maps.save(maps.explanation(pixels, row, card, network), options.explain_dir, name)
            if options.mask_dir is not None:
                _write_mask(options, card, number, row, pixels)
    return [replace(row, where=None) for row in rows]


def _write_mask(options: Namespace, card: Card, number: int, row: Row, pixels: np.ndarray,
                frame: int | None = None) -> None:
    """Write the mask and the overlay of the picture with this number, or of a frame of a video."""
    from hpc_deepfake.predict import maps

    if row.where is None:
        return
    maps.save(maps.overlay(pixels, row, card), options.mask_dir,
              maps.file_name(number, row.path, "overlay", frame))
    mask, said = maps.mask(row.where, options.mask_values == "binary")
    maps.save(mask, options.mask_dir, maps.file_name(number, row.path, "mask", frame), said)


def _remarks(done: Counter[str]) -> Iterator[str]:
    """What must not be overlooked in a long list."""
    files = done["picture"] + done["video"]
    if done["unlike"]:
        yield (f"unlike the pictures that the model was trained on, so without a verdict: "
               f"{done['unlike']:,} of {files:,}")
    if done["seen"]:
        yield (f"used in training or like those that were: {done['seen']:,} of {files:,}; "
               "predictions on them don't show what the model does on others")


def _closing(done: Counter[str], seconds: float, ranks: int) -> str:
    """Such as ``60 pictures and 2 videos (64 frames), 150 images/s on 2 ranks``."""
    parts = [plural(done[kind], kind)
             for kind in ("picture", "video") if done[kind] or kind == "picture"]
    if done["frame"]:
        parts[-1] += f" ({done['frame']:,} frames)"
    rate = (done["picture"] + done["frame"]) / seconds
    return (f"{' and '.join(parts)}, {rate:,.{0 if rate >= 10 else 1}f} images/s on "
            f"{plural(ranks, 'rank')}")
