"""PNG maps: a picture beside its error levels, beside the areas that decided, or beside the areas
that the model calls changed; and the mask of these."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import whole
from hpc_deepfake.core.text import percent, printable
from hpc_deepfake.network.card import Card
from hpc_deepfake.network.guard import UNLIKE
from hpc_deepfake.predict.explain import CELLS, occlusion
from hpc_deepfake.predict.output import Row, remarks
from hpc_deepfake.predict.where import Where
from hpc_deepfake.web.overlay import RED, tinted
from preprocessing.ela import box_of, error_level, features_of_pixels, recompress
from preprocessing.faces import Box

SIDE = 400  # longer side of a panel, pixels
MOST = 25_000_000  # pixels of a map of error levels; a larger one would take gigabytes
LEAST = 260  # pixels; a picture of half the size is enlarged to see something
LONGEST = 900  # longer side of an overlay, pixels, unless the picture is smaller
FULL = 2.0  # log-odds at the ends of the colour scale: from 50% to 88%
_MARGIN, _HEAD, _LINE = 12, 40, 17
COLOURS = {"tampered": RED, "authentic": (27, 94, 160),
           "undecided": (110, 110, 110), UNLIKE: (150, 95, 0)}  # red-green-blue
_GREY = (110, 110, 110)
_Scale = Callable[[ImageDraw.ImageDraw, int, int, int, ImageFont.FreeTypeFont], None]


class Panel(NamedTuple):
    """A picture with lines below it.

    Attributes:
        pixels: uint8 (height, width, 3), blue-green-red.
        lines: below it; the first is its caption.
        scale: draws the colour scale that follows: on an image, from a left and a top, so wide, in
            a font.
    """

    pixels: np.ndarray
    lines: tuple[str, ...]
    scale: _Scale | None = None


def file_name(number: int, path: bytes, kind: str = "", frame: int | None = None) -> str:
    """Name of the picture's PNG: its position in the list and the safe letters of its own name.

    The number makes it unique. Everything but ASCII letters, digits, ``.``, ``_`` and ``-`` becomes
    ``_``, so no name can point outside the folder.

    Args:
        number: position in the list, from 1.
        path: of the picture or video.
        kind: of several files for a picture, such as ``mask``.
        frame: number of a video's frame among those predicted, from 1.
    """
    own = re.sub("[^A-Za-z0-9._-]", "_", os.path.basename(path).decode("ascii", "replace"))[:100]
    parts = ("" if frame is None else f"-frame{frame:04d}") + f".{kind}" * bool(kind)
    return f"{number:05d}-{own}{parts}.png"


def make_folder(option: str, folder: Path) -> None:
    """Create ``folder``, which the user named with ``option``.

    Raises:
        InputError: it can't be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create {option} {folder}: {error.strerror}; "
                         "choose another folder") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to {option} {folder}; choose another folder")


def error_levels(pixels: np.ndarray, row: Row, card: Card) -> Image.Image:
    """The picture beside its error levels, both pixel by pixel, with the verdict and what must be
    said beside it.

    Error levels are brightened until the largest two percent saturate. Pictures of more than
    ``MOST`` pixels are reduced, and small ones enlarged, by a whole factor.

    Args:
        pixels: of the decoded picture, uint8 (height, width, 3), blue-green-red.
        row: its prediction.
        card: of the network.
    """
    again = card.parameters.reencode
    box = box_of(pixels, card.parameters)
    levels = error_level(pixels if again is None else recompress(pixels, again), card.parameters,
                         box)
    caption, pixels = _seen(pixels, box)
    size = f"{pixels.shape[1]} × {pixels.shape[0]} pixels"
    reduced = math.ceil(math.sqrt(pixels.shape[0] * pixels.shape[1] / MOST))
    enlarged = max(1, LEAST // max(pixels.shape[:2]))
    if reduced > 1:
        pixels, levels = (_reduced(panel, reduced) for panel in (pixels, levels))
        size += f", reduced to 1/{reduced}"
    elif enlarged > 1:
        pixels, levels = (panel.repeat(enlarged, 0).repeat(enlarged, 1)
                          for panel in (pixels, levels))
        size += f", enlarged {enlarged} times"
    gain = 255 / max(np.percentile(levels, 98), 1)
    return _compose(row, card, [
        Panel(pixels, (caption, size)),
        Panel(cv2.convertScaleAbs(levels, alpha=gain), (
            f"error levels, JPEG quality {card.parameters.quality}",
            f"{gain:.1f} times brighter than the network's" if gain >= 1.05
            else "as bright as the network's"))])


def explanation(pixels: np.ndarray, row: Row, card: Card, network: Any) -> Image.Image:
    """The picture beside a grey copy coloured by ``occlusion``, on the same scale for every picture
    and model, with the verdict and what must be said beside it.

    Args:
        pixels: of the decoded picture, uint8 (height, width, 3), blue-green-red.
        row: its prediction.
        card: of the network.
        network: maps a batch of features to probabilities (n, 2), or to these and maps.
    """
    box = box_of(pixels, card.parameters)
    feature, = features_of_pixels(pixels, (card.feature,), card.parameters, box)
    caption, pixels = _seen(pixels, box)
    small = _scaled(pixels)
    centres = (np.arange(CELLS) * 2 + 1) * len(feature) // (2 * CELLS)  # of the cells of the grid
    cells = occlusion(network, feature)[np.ix_(centres, centres)]
    effect = cv2.resize(cells, small.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return _compose(row, card, [
        Panel(small, (caption, f"{pixels.shape[1]} × {pixels.shape[0]} pixels")),
        Panel(_overlay(small, (effect / FULL).clip(-1, 1)), (
            "influence of areas on the log-odds of tampered",
            f"here from {_signed(cells.min())} to {_signed(cells.max())}"),
            _influence)], ("Red is what decided for tampered, blue what decided against: "
                     "not where the picture was changed.",))


def _seen(pixels: np.ndarray, box: Box | None) -> tuple[str, np.ndarray]:
    """What the network saw of a picture, with a caption."""
    return ("picture", pixels) if box is None else \
        ("the largest face, which is all that the model saw", box.of(pixels))


def overlay(pixels: np.ndarray, row: Row, card: Card) -> Image.Image:
    """The picture beside a grey copy of it that is the redder the more probable it is, to the
    model, that a place was changed, with a line around what the model calls changed.

    Args:
        pixels: of the decoded picture, uint8 (height, width, 3), blue-green-red.
        row: its prediction, with its map.
        card: of the network.
    """
    where = row.where
    if where is None:
        raise ValueError("the prediction has no map")
    small = _scaled(pixels, min(LONGEST, max(SIDE, *pixels.shape[:2])))
    shown = tinted(small, where.on(*small.shape[:2]), where.threshold)
    called = f"from {percent(where.threshold / 255)} on, inside the line"
    lines = [f"{percent(where.area)} of it {called}" if not row.unlike else called]
    if where.box is not None:
        top, left, bottom, right = (round(side * small.shape[0] / where.size[0])
                                    for side in where.box)
        for colour, width in ((255, 3), (0, 1)):
            cv2.rectangle(shown, (left, top), (right - 1, bottom - 1), (colour,) * 3, width)
        lines.append("the model saw the part in the frame only")
    seen = where.size if where.box is None else (
        where.box[2] - where.box[0], where.box[3] - where.box[1])
    down, across = (side / len(where.levels) for side in seen)
    return _compose(row, card, [
        Panel(small, ("picture", f"{where.size[1]} × {where.size[0]} pixels")),
        Panel(shown, ("where it was changed, by the model", *lines), _probability(where.threshold))
    ], (f"What the model says, not a proof: hpc-deepfake evaluate shows how often it is right. "
        f"A pixel of its map stands for about {across:.3g} × {down:.3g} pixels of the picture.",))


def mask(where: Where, binary: bool = False) -> tuple[Image.Image, str]:
    """A map at the picture's own size, 8-bit grey, and what its levels mean.

    Args:
        where: the map.
        binary: 255 where the model calls the picture changed, else 0, instead of the probability.
    """
    levels = where.at_own_size()
    if not binary:
        return Image.fromarray(levels), ("255 times the probability that a pixel was changed; the "
                                         f"model calls it changed from {where.threshold} on")
    return Image.fromarray((levels >= where.threshold).astype(np.uint8) * np.uint8(255)), (
        "255: changed, by the model, 0: not")


def save(image: Image.Image, folder: Path, name: str, said: str = "") -> None:
    """Write a PNG whole into ``folder``, replacing one of the same name.

    Args:
        image: to write.
        folder: that is there.
        name: of the file.
        said: a description that is stored in it.

    Raises:
        InputError: it can't be written.
    """
    texts = PngImagePlugin.PngInfo()
    if said:
        texts.add_text("Description", said)
    try:
        with whole(folder / name) as temporary:
            temporary.unlink(missing_ok=True)
            with open(temporary, "xb") as file:  # "x" follows no link
                # a tenth of the time that the smallest file takes, for a tenth more of bytes
                image.save(file, "PNG", compress_level=3, pnginfo=texts)
    except OSError as error:
        raise InputError(f"cannot write {folder / name}: {error.strerror or error}") from None


def _scaled(pixels: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Resized to ``side`` pixels on the longer side."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1
                      else cv2.INTER_CUBIC)


def _reduced(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Reduced by area means to 1/factor."""
    height, width = (max(1, side // factor) for side in pixels.shape[:2])
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def _overlay(pixels: np.ndarray, effect: np.ndarray) -> np.ndarray:
    """``pixels`` in pale grey, coloured by ``effect`` (from -1 to 1)."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)[..., None] * 0.6 + 90
    red, blue = (np.array(COLOURS[name][::-1], float) for name in ("tampered", "authentic"))
    strength = 0.85 * np.abs(effect)[..., None]
    colour = np.where(effect[..., None] > 0, red, blue)
    return np.round(grey * (1 - strength) + colour * strength).astype(np.uint8)


def _compose(row: Row, card: Card, panels: list[Panel],
             legend: Sequence[str] = ()) -> Image.Image:
    """Panels side by side, with the verdict and the picture's name above, their lines below, and at
    the bottom the legend and what must be said beside the verdict."""
    width = max(260, *(panel.pixels.shape[1] for panel in panels))
    height = max(panel.pixels.shape[0] for panel in panels)
    total = len(panels) * (width + _MARGIN) + _MARGIN
    large, small = _font(17), _font(12)
    rows = max(len(panel.lines) + (panel.scale is not None) for panel in panels)
    below = _HEAD + height + 4 + rows * _LINE + 6
    bottom = [line for text in (*legend, *remarks(row, card))
              for line in _wrapped(text, total - 2 * _MARGIN, small)]
    image = Image.new("RGB", (total, below + len(bottom) * _LINE + 4), "white")
    draw = ImageDraw.Draw(image)
    verdict = row.verdict if row.unlike \
        else f"{row.verdict}: probability of tampering {percent(row.probability)}"
    draw.text((_MARGIN, 9), verdict, COLOURS[row.verdict], large)
    start = _MARGIN + draw.textlength(verdict, large) + 2 * _MARGIN
    name = printable(os.path.basename(row.name))
    while draw.textlength(name, small) > image.width - start - _MARGIN and len(name) > 1:
        name = f"…{name[2:]}"
    draw.text((image.width - _MARGIN, 13), name, _GREY, small, anchor="ra")
    for number, panel in enumerate(panels):
        left, top = _MARGIN + number * (width + _MARGIN), _HEAD + height + 4
        image.paste(Image.fromarray(panel.pixels[..., ::-1]), (left, _HEAD))
        for place, line in enumerate(panel.lines):
            draw.text((left, top + place * _LINE), line, _GREY if place else "black", small)
        if panel.scale is not None:
            panel.scale(draw, left, top + len(panel.lines) * _LINE, width, small)
    for place, line in enumerate(bottom):
        draw.text((_MARGIN, below + place * _LINE), line, "black", small)
    return image


def _wrapped(text: str, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """A text in lines of at most ``width`` pixels, broken between words."""
    lines = [""]
    for word in printable(text).split(" "):
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans of ``size`` pixels, which Matplotlib ships; it covers most scripts."""
    import matplotlib  # takes a moment

    return ImageFont.truetype(
        os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _influence(draw: ImageDraw.ImageDraw, left: int, top: int, width: int,
               font: ImageFont.FreeTypeFont) -> None:
    """The scale of ``explanation``: ``−2 for authentic [blue … red] for tampered +2``."""
    words = (f"{_signed(-FULL)} for authentic", f"for tampered {_signed(FULL)}")
    _scale(draw, left, top, width, font, words, lambda steps: _overlay(
        np.full((1, len(steps), 3), 128, np.uint8), (2 * steps - 1)[None])[0])


def _probability(threshold: int) -> _Scale:
    """The scale of ``overlay``: ``0% [grey … red] 100% changed``, with a mark at the threshold."""
    def draw_it(draw: ImageDraw.ImageDraw, left: int, top: int, width: int,
                font: ImageFont.FreeTypeFont) -> None:
        first, last = _scale(
            draw, left, top, width, font, ("0%", "100% changed"), lambda steps: tinted(
                np.full((1, len(steps), 3), 128, np.uint8),
                np.rint(255 * steps).astype(np.uint8)[None], 256)[0])
        place = first + round((last - first) * threshold / 255)
        draw.line([(place, top + 1), (place, top + 16)], "black", 2)

    return draw_it


def _scale(draw: ImageDraw.ImageDraw, left: int, top: int, width: int,
           font: ImageFont.FreeTypeFont, words: tuple[str, str],
           colours: Callable[[np.ndarray], np.ndarray]) -> tuple[int, int]:
    """A bar of colours, blue-green-red (n, 3) of steps from 0 to 1 (n), between two words; returns
    its ends."""
    ends = [draw.textlength(word, font) for word in words]
    first, last = int(left + ends[0] + 8), int(min(left + width, left + SIDE) - ends[1] - 8)
    draw.text((left, top), words[0], _GREY, font)
    draw.text((last + 8, top), words[1], _GREY, font)
    for place, colour in enumerate(colours(np.linspace(0, 1, max(2, last - first)))[:, ::-1]
                                   .tolist()):
        draw.line([(first + place, top + 4), (first + place, top + 13)], tuple(colour))
    return first, last
