"""What stands out in an analysis, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hpc_deepfake.core.text import percent, plural
from hpc_deepfake.inspect.analysis import Analysis
from hpc_deepfake.inspect.thumbnail import Comparison
from hpc_deepfake.inspect.verdict import Verdict
from hpc_deepfake.inspect.view import turn

_SIDE = 500  # pixels of a map in which places are named
_EDITORS = ("photoshop", "gimp", "lightroom", "affinity", "pixelmator", "snapseed", "picsart",
            "facetune", "fireworks", "paint", "corel", "luminar", "capture one", "darktable",
            "rawtherapee", "acdsee", "picasa", "pixlr", "canva", "imagemagick", "illustrator")
_GENERATORS = ("trainedalgorithmicmedia", "midjourney", "stable diffusion", "dall-e", "dall·e",
               "firefly", "comfyui", "novelai", "imagen", "flux")


@dataclass(frozen=True)
class Finding:
    """Something that stands out.

    Attributes:
        section: title of the section that shows it.
        text: a sentence.
        short: a few words, for the list of several pictures.
    """

    section: str
    text: str
    short: str


VERDICT, FILE, COMPRESSION, GHOSTS, CLONES = (
    "Verdict of the model", "What the file says", "Double compression", "JPEG ghosts",
    "Copy-move candidates")


def findings(analysis: Analysis, verdict: Verdict | None = None) -> list[Finding]:
    """What stands out, in the order of the sections."""
    return [*_model(analysis, verdict), *_file(analysis), *_compression(analysis),
            *_copies(analysis)]


def _model(analysis: Analysis, verdict: Verdict | None) -> Iterator[Finding]:
    """Where a model says that it was changed, unless it says that it wasn't."""
    where = None if verdict is None else verdict.where
    if verdict is None or where is None or verdict.verdict not in ("tampered", "undecided"):
        return
    changed = where.levels
    if where.box is not None:
        smaller = max(1, max(where.size) // _SIDE)
        changed = where.on(*(max(1, side // smaller) for side in where.size))
    mask = changed >= where.threshold
    if mask.any():
        area = place(turn(mask, analysis.said.orientation))
        yield Finding(VERDICT, f"The model calls {area}, changed: see “the model's map” on the "
                      "picture.", "area called changed")


def _file(analysis: Analysis) -> Iterator[Finding]:
    said = analysis.said
    words = " ".join([*said.software, *(value for rows in said.groups.values()
                                        for _, value in rows)]).lower()
    if any(name in words for name in _GENERATORS):
        yield Finding(FILE, "The metadata name a program that generates pictures.",
                      "generator named")
    editors = [name for name in said.software if any(word in name.lower() for word in _EDITORS)]
    if editors:
        yield Finding(FILE, f"The file was saved by an editor: {'; '.join(editors[:3])}.", "editor")
    taken, changed = said.dates.get("taken"), said.dates.get("changed")
    if taken and changed and taken != changed:
        yield Finding(FILE, f"Its dates differ: taken {taken}, changed {changed}.", "dates differ")
    if said.position:
        yield Finding(FILE, "It holds the position of the camera (GPS): think before you pass the "
                      "file on.", "GPS position")
    small = analysis.thumbnail
    if isinstance(small, Comparison) and small.verdict != "same":
        yield Finding(FILE, "The embedded thumbnail shows something else than the picture."
                      if small.verdict == "changed" else "The embedded thumbnail differs from the "
                      "picture in places, or in its colours.", f"thumbnail {small.verdict}")
    if said.trailing > 64:
        yield Finding(FILE, f"{said.trailing:,} bytes follow the end of the picture.",
                      "data after its end")


def _compression(analysis: Analysis) -> Iterator[Finding]:
    history = analysis.double
    if history is not None and history.found:
        which = f", like the IJG's quality {history.quality}" if history.quality else ""
        if analysis.quality is not None:
            yield Finding(COMPRESSION, "It was compressed as JPEG before, with other quantisation "
                          f"steps{which}: opened and saved again.", "compressed twice")
        else:
            where = "" if analysis.grid == (0, 0) else ", and cropped or moved since"
            yield Finding(COMPRESSION, f"It was a JPEG file once{which}{where}.", "JPEG once")
        if history.without is not None:
            area = place(turn(history.without, analysis.said.orientation))
            yield Finding(COMPRESSION, f"One area, {area}, lacks the traces of that compression, "
                          "which the rest has.", "area without traces")
    ghost = analysis.ghosts.ghost if analysis.ghosts else None
    if ghost is not None:
        area = place(turn(ghost.mask, analysis.said.orientation))
        yield Finding(GHOSTS, f"One area, {area}, has a ghost at quality {ghost.quality}: it "
                      "looks as if it had been compressed with about that quality before the rest.",
                      f"ghost at {ghost.quality}")


def _copies(analysis: Analysis) -> Iterator[Finding]:
    found = analysis.clones.found if analysis.clones else []
    if found:
        many = "Two areas have" if len(found) == 1 else f"{plural(len(found), 'pair')} of areas " \
            "have"
        yield Finding(CLONES, f"{many} the same content, in detail: copied, or made alike, "
                      "such as tiles and print.",
                      plural(len(found), "copy-move candidate"))


def place(mask: np.ndarray) -> str:
    """Where an area is, such as ``11% of the picture, at the upper left``.

    Args:
        mask: bool (rows, columns), upright.
    """
    down, across = (float(np.mean(places)) / side
                    for places, side in zip(np.nonzero(mask), mask.shape, strict=True))
    rows = "upper" if down < 0.4 else "lower" if down > 0.6 else ""
    columns = "left" if across < 0.4 else "right" if across > 0.6 else ""
    where = " ".join(filter(None, (rows, columns)))
    return f"{percent(mask.mean())} of the picture, " + (
        f"at the {where}" if where not in ("upper", "lower", "") else
        {"upper": "at the top", "lower": "at the bottom", "": "in the middle"}[where])
