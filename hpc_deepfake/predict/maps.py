"""PNG maps to look at: a picture beside its error levels, or beside the areas that decided."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import whole
from hpc_deepfake.core.text import percent, printable
from hpc_deepfake.network.model import Card
from hpc_deepfake.predict.explain import STRIDE, occlusion
from hpc_deepfake.predict.output import Row
from preprocessing.ela import error_level, features_of_pixels, recompress

SIDE = 400  # longer side of a panel, pixels
_MARGIN, _HEAD, _FOOT = 12, 40, 44
COLOURS = {"tampered": (178, 34, 34), "authentic": (27, 94, 160),
           "undecided": (110, 110, 110)}  # red-green-blue
_GREY = (110, 110, 110)


class Panel(NamedTuple):
    """A picture with two lines below it.

    Attributes:
        pixels: uint8 (height, width, 3), blue-green-red.
        caption: first line.
        legend: second line; None for the colour scale of ``explanation``.
    """

    pixels: np.ndarray
    caption: str
    legend: str | None


def file_name(number: int, path: bytes) -> str:
    """Name of the picture's PNG: its position in the list and the safe letters of its own name.

    The number makes it unique. Everything but ASCII letters, digits, ``.``, ``_`` and ``-`` becomes
    ``_``, so no name can point outside the folder.
    """
    own = os.path.basename(path).decode("ascii", "replace")
    return f"{number:05d}-{re.sub('[^A-Za-z0-9._-]', '_', own)[:100]}.png"


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
    """The picture beside its error levels, with the verdict.

    Error levels are brightened until the largest two percent saturate.

    Args:
        pixels: of the decoded picture, uint8 (height, width, 3), blue-green-red.
        row: its prediction.
        card: of the network.
    """
    small = _scaled(pixels)
    again = card.parameters.reencode
    levels = error_level(pixels if again is None else recompress(pixels, again), card.parameters)
    levels = cv2.resize(levels, small.shape[1::-1], interpolation=cv2.INTER_AREA)
    gain = 255 / max(np.percentile(levels, 98), 1)
    return _compose(row, card, [
        Panel(small, "picture", f"{pixels.shape[1]} × {pixels.shape[0]} pixels"),
        Panel(cv2.convertScaleAbs(levels, alpha=gain),
              f"error levels, JPEG quality {card.parameters.quality}",
              f"{gain:.1f} times brighter than the network's input" if gain >= 1.05
              else "as bright as the network's input")])


def explanation(pixels: np.ndarray, row: Row, card: Card, network: Any) -> Image.Image:
    """The picture beside a grey copy coloured by ``occlusion``, with the verdict and a scale.

    Args:
        pixels: of the decoded picture, uint8 (height, width, 3), blue-green-red.
        row: its prediction.
        card: of the network.
        network: maps a batch of features to probabilities (n, 2).
    """
    small = _scaled(pixels)
    feature, = features_of_pixels(pixels, (card.feature,), card.parameters)
    # a value for each cell of the grid
    cells = occlusion(network, feature)[STRIDE // 2::STRIDE, STRIDE // 2::STRIDE]
    effect = cv2.resize(cells, small.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    largest = max(float(np.abs(effect).max()), 1e-6)
    return _compose(row, card, [
        Panel(small, "picture", f"{pixels.shape[1]} × {pixels.shape[0]} pixels"),
        Panel(_overlay(small, effect / largest), f"influence of areas: log-odds ± {largest:.2g}",
              None)])


def save(image: Image.Image, folder: Path, name: str) -> None:
    """Write a PNG whole into ``folder``, replacing one of the same name.

    Raises:
        InputError: it can't be written.
    """
    try:
        with whole(folder / name) as temporary:
            temporary.unlink(missing_ok=True)
            with open(temporary, "xb") as file:  # "x" follows no link
                image.save(file, "PNG", optimize=True)
    except OSError as error:
        raise InputError(f"cannot write {folder / name}: {error.strerror or error}") from None


def _scaled(pixels: np.ndarray) -> np.ndarray:
    """Resized to ``SIDE`` pixels on the longer side."""
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1
                      else cv2.INTER_CUBIC)


def _overlay(pixels: np.ndarray, effect: np.ndarray) -> np.ndarray:
    """``pixels`` in pale grey, coloured by ``effect`` (from -1 to 1)."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)[..., None] * 0.6 + 90
    red, blue = (np.array(COLOURS[name][::-1], float) for name in ("tampered", "authentic"))
    strength = 0.85 * np.abs(effect)[..., None]
    colour = np.where(effect[..., None] > 0, red, blue)
    return np.round(grey * (1 - strength) + colour * strength).astype(np.uint8)


def _compose(row: Row, card: Card, panels: list[Panel]) -> Image.Image:
    """Panels side by side, with the verdict and the picture's name above, captions below."""
    width = max(260, *(panel.pixels.shape[1] for panel in panels))
    height = max(panel.pixels.shape[0] for panel in panels)
    image = Image.new("RGB", (len(panels) * (width + _MARGIN) + _MARGIN,
                              _HEAD + height + _FOOT), "white")
    draw = ImageDraw.Draw(image)
    large, small = _font(17), _font(12)
    verdict = f"{row.verdict}: probability of tampering {percent(row.probability)}"
    draw.text((_MARGIN, 9), verdict, COLOURS[row.verdict], large)
    start = _MARGIN + draw.textlength(verdict, large) + 2 * _MARGIN
    name = printable(os.path.basename(row.name))
    while draw.textlength(name, small) > image.width - start - _MARGIN and len(name) > 1:
        name = f"…{name[2:]}"
    draw.text((image.width - _MARGIN, 13), name, _GREY, small, anchor="ra")
    for number, panel in enumerate(panels):
        left = _MARGIN + number * (width + _MARGIN)
        image.paste(Image.fromarray(panel.pixels[..., ::-1]), (left, _HEAD))
        below = _HEAD + height + 4
        draw.text((left, below), panel.caption, "black", small)
        if panel.legend is None:
            _scale(draw, left, below + 18, width, small)
        else:
            draw.text((left, below + 18), panel.legend, _GREY, small)
    return image


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans of ``size`` pixels, which Matplotlib ships; it covers most scripts."""
    return ImageFont.truetype(
        os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


def _scale(draw: ImageDraw.ImageDraw, left: int, top: int, width: int,
           font: ImageFont.FreeTypeFont) -> None:
    """The colour scale: ``for authentic [blue … red] for tampered``."""
    words = ("for authentic", "for tampered")
    ends = [draw.textlength(word, font) for word in words]
    first, last = int(left + ends[0] + 8), int(min(left + width, left + SIDE) - ends[1] - 8)
    draw.text((left, top), words[0], _GREY, font)
    draw.text((last + 8, top), words[1], _GREY, font)
    steps = np.linspace(-1, 1, max(2, last - first))[None]
    bar = _overlay(np.full((1, steps.shape[1], 3), 128, np.uint8), steps)[0]
    for place, colour in enumerate(bar[:, ::-1].tolist()):
        draw.line([(first + place, top + 4), (first + place, top + 13)], tuple(colour))
