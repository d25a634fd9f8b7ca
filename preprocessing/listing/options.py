"""The options that say which pictures there are, for preprocessing and for evaluation."""

from __future__ import annotations

import os
from argparse import Namespace, _ActionsContainer
from functools import partial
from pathlib import Path

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.options import at_least, between
from preprocessing import video
from preprocessing.catalogue import Catalogue, scan, scan_manifest, scan_pair
from preprocessing.listing.groups import BY
from preprocessing.names import FRAMES, parse_path


def add(cli: _ActionsContainer) -> None:
    """Add the options; ``--data``, ``--authentic`` and ``--tampered`` are the program's own."""
    cli.add_argument("--manifest", type=Path, metavar="FILE",
                     help="list of the pictures, as CSV with a header or as JSON lines (.jsonl): "
                          "path, label, and optionally mask, group, part; paths are relative to "
                          "--data, or else to the list's folder")
    cli.add_argument("--group-by", choices=BY, default="auto",
                     help="what pictures of a common source are known by. auto: ids in names, "
                          "folders and numbered series that look like frames of a video, files of "
                          "the same bytes; name: ids in names and equal names alone; "
                          "series: names up to a number too; folder: folders below "
                          "the classes too")
    cli.add_argument("--frames-per-video", type=at_least(1), metavar="N",
                     help=f"use N evenly spaced frames of each video (default: {FRAMES})")
    cli.add_argument("--frame-rate", type=between(0.001, video.MAX_RATE), metavar="R",
                     help="use R frames per second of each video instead")


def catalogue_of(options: Namespace, data: Path, one_class: bool = False) -> Catalogue:
    """The pictures that the options name.

    Args:
        options: with ``data``, ``authentic``, ``tampered`` and those of ``add``.
        data: folder to use where none of them names pictures.
        one_class: accept pictures of one class only.

    Raises:
        InputError: they contradict each other, or there are no such pictures.
    """
    if options.frames_per_video and options.frame_rate:
        raise InputError("give either --frames-per-video or --frame-rate, not both")
    if (options.frames_per_video or 0) > video.MAX_SAMPLED:
        raise InputError(f"--frames-per-video {options.frames_per_video}: give at most "
                         f"{video.MAX_SAMPLED:,}")
    moments = partial(video.moments, count=options.frames_per_video or FRAMES,
                      rate=options.frame_rate)
    pair = options.authentic, options.tampered
    if any(pair) and not all(pair) and not one_class:
        raise InputError("--authentic and --tampered go together: give both")
    if any(pair) and options.manifest:
        raise InputError("give either --manifest, or --authentic and --tampered")
    if any(pair) and options.data:
        raise InputError("give either --data, or --authentic and --tampered")
    if options.manifest:
        if options.data and not os.path.isdir(options.data):
            raise InputError(f"--data {options.data} is no folder: with --manifest, name the "
                             "folder that its paths are relative to")
        found = scan_manifest(options.manifest, options.data, moments, one_class, options.group_by)
    elif any(pair):
        found = scan_pair(*pair, moments, options.group_by)
    else:
        found = scan(data, moments, one_class, options.group_by)
    for name in ("frames_per_video", "frame_rate"):
        if getattr(options, name) and not any(parse_path(path)[1] for path in found.paths):
            found.notes.append(f"--{name.replace('_', '-')} has no effect: there are no videos")
    return found
