"""What lies on the picture of a page: error levels, a model's map, noise, traces, copies."""

from __future__ import annotations

import cv2
import numpy as np

from hpc_deepfake.core.text import percent
from hpc_deepfake.inspect import view
from hpc_deepfake.inspect.analysis import ELA, Analysis
from hpc_deepfake.inspect.verdict import Verdict
from hpc_deepfake.inspect.view import View
from hpc_deepfake.web.html import Html, text
from hpc_deepfake.web.overlay import tinted
from hpc_deepfake.web.slider import Layer, image

_MARGIN = 1.35  # of error levels: how much darker than white the 98th percentile may be


MODEL = "the model's map"


def layers(analysis: Analysis, shown: View, verdict: Verdict | None = None) -> list[Layer]:
    """All that the analyses, and perhaps a model, give of a picture as it is shown."""
    return [*_levels(analysis, shown), *_model(analysis, shown, verdict),
            *_noise(analysis, shown), *_history(analysis, shown), *_clones(analysis, shown)]


def large(blocks: np.ndarray, analysis: Analysis) -> np.ndarray:
    """A map of blocks in its place on the picture, at a quarter of its pixels or less."""
    height, width = analysis.pixels.shape[:2]
    scale = min(0.5, (view.MOST_OF_MAP / 4 / (height * width)) ** 0.5)
    down, across = analysis.grid
    size = 8 * analysis.step
    canvas = np.full((max(1, round(height * scale)), max(1, round(width * scale))), 128, np.uint8)
    top, left = round(down * scale), round(across * scale)
    bottom = min(canvas.shape[0], round((down + blocks.shape[0] * size) * scale))
    right = min(canvas.shape[1], round((across + blocks.shape[1] * size) * scale))
    canvas[top:bottom, left:right] = cv2.resize(blocks, (right - left, bottom - top),
                                                interpolation=cv2.INTER_LINEAR)
    return canvas


def _levels(analysis: Analysis, shown: View) -> list[Layer]:
    if analysis.levels is None:
        return []
    rough = analysis.levels[::4, ::4]
    gain = max(255 / _MARGIN / max(float(np.percentile(rough, 98)), 1), 1.0)
    brighter = cv2.convertScaleAbs(analysis.levels, alpha=gain)
    return [Layer("error levels", image(shown.picture(brighter), "Error levels", shown.shown),
                  text(f"Error level analysis at JPEG quality {ELA.quality}: bright places change "
                       f"most when the picture is compressed again. Scaled to the largest error, "
                       f"then {gain:.1f} times brighter."))]


def _model(analysis: Analysis, shown: View, verdict: Verdict | None) -> list[Layer]:
    where = None if verdict is None else verdict.where
    if where is None or verdict is None:
        return []
    scale = min(1.0, (view.MOST_OF_MAP / (where.size[0] * where.size[1])) ** 0.5)
    small = view.reduced(analysis.pixels, max(1, round(scale * max(where.size))))
    drawn = tinted(small, where.on(*small.shape[:2]), where.threshold)
    seen = "" if where.box is None else " It saw the face only, not the rest of the picture."
    unlike = " The picture is unlike its training pictures: the map means nothing." \
        if verdict.unlike else ""
    return [Layer(MODEL, image(shown.map(drawn), "Where the model says that it was changed"), text(
        "The redder, the more probable it is, to the model, that a place was changed; the line is "
        f"around what it calls changed, from {percent(where.threshold / 255)} on.{seen}{unlike}"))]


def _noise(analysis: Analysis, shown: View) -> list[Layer]:
    if analysis.noise is None:
        return []
    residual = shown.map(analysis.noise.residual)
    return [Layer("noise residual", image(residual, "Noise residual"), text(
        "What a median filter of 3×3 pixels removes, "
        f"{analysis.noise.gain:.0f} times brighter: fine texture and noise."))]


def _history(analysis: Analysis, shown: View) -> list[Layer]:
    found = []
    ghost = analysis.ghosts.ghost if analysis.ghosts else None
    if analysis.ghosts is not None and ghost is not None:
        number = analysis.ghosts.qualities.index(ghost.quality)
        found.append(Layer(f"ghost {ghost.quality}", image(
            shown.map(large(view.grey(analysis.ghosts.maps[number], 0, 1), analysis)),
            f"JPEG ghost at quality {ghost.quality}"), text(
                f"Difference after compression at quality {ghost.quality}, relative to the other "
                "qualities: dark places change least at this one.")))
    history = analysis.double
    if history is not None and history.likely is not None:
        found.append(Layer("earlier compression", image(
            shown.map(large(view.grey(history.likely, 0, 1), analysis)),
            "Traces of an earlier compression"), text(
                "Probability that a block has the traces of the earlier compression: white has "
                "them, black lacks them, grey can't be told (smooth, black or white places).")))
    return found


def _clones(analysis: Analysis, shown: View) -> list[Layer]:
    found = analysis.clones.found if analysis.clones else []
    if not found:
        return []
    width, height = shown.size
    parts = [f'<rect class="back" width="{width}" height="{height}"/>']
    for number, clone in enumerate(found):
        colour = f"p-{number % 4}"
        for first, second in list(zip(shown.points(clone.first), shown.points(clone.second),
                                      strict=True))[:40]:
            parts.append(f'<path class="pair {colour}" d="M{first[0]} {first[1]}L{second[0]} '
                         f'{second[1]}"/>')
        for area in clone.areas:
            corners = " ".join(f"{x},{y}" for x, y in shown.points(area))
            parts.append(f'<polygon class="area {colour}" points="{corners}"/>')
    drawing = Html(f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" '
                   f'aria-label="Copy-move candidates">{"".join(parts)}</svg>')
    return [Layer("copy-move", drawing, text(
        "Areas with the same content, each pair in a colour; lines join matching points."))]
