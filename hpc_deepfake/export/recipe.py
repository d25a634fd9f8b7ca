"""How a picture is prepared for an exported model: as steps to read, and as a program to run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from hpc_deepfake.export.runtimes import Runtime
from hpc_deepfake.network.card import Card
from preprocessing import ela, gray_bits
from preprocessing.ela import Parameters

_JPEG = ("JPEG by libjpeg with its defaults, as OpenCV and Pillow have it: quantisation tables of "
         "ITU-T T.81 annex K scaled by the quality, accurate integer DCT, smooth upsampling of "
         "chroma")
_RESIZE = ("means over areas, as OpenCV's INTER_AREA, where both sides shrink; linear "
           "interpolation with half-pixel centres, as its INTER_LINEAR, where both grow; if only "
           "one is longer than the result, that one shrinks first")
_STACKED = {"raw": "the picture itself, saved again if that is a step", "ela": "what was scaled",
            "gray_bits": "its bits"}
Step = dict[str, Any]


def steps(feature: str, parameters: Parameters) -> list[Step]:
    """The steps from a picture file to the model's input, each with ``step`` and its parameters."""
    parts = ela.parts(feature)
    said: list[Step] = [{
        "step": "decode", "result": "uint8 (height, width, 3), as stored in the file",
        "note": "ignore orientation tags, since rotating would move JPEG's grid; drop alpha; grey "
                "as three equal channels; of several frames the first"}]
    if parameters.reencode is not None:
        said.append({"step": "save again", "quality": parameters.reencode,
                     "subsampling": parameters.subsampling, "note": f"{_JPEG}; the decoded "
                     "result takes the picture's place"})
    if parts != ("raw",):
        said += [
            {"step": "compress", "quality": parameters.quality,
             "subsampling": parameters.subsampling, "note": f"{_JPEG}; then decoded again"},
            {"step": "subtract", "result": "|picture - compressed picture|, for each channel"},
            {"step": "scale", "factor": "255 / max(1, m), m: the largest value of all pixels and "
             "channels", "note": "rounded to the nearest whole number, halves to the even one"}]
    if "gray_bits" in parts:
        said.append({"step": "split bits", "result": "three channels: gray, 17 * (gray >> 4), "
                     "17 * (gray & 15)", "note": "gray = 0.299 R + 0.587 G + 0.114 B, rounded"})
    if len(parts) > 1:
        said.append({"step": "stack", "result": ", then ".join(_STACKED[part] for part in parts),
                     "note": "each is resized by itself"})
    said.append({"step": "resize", "width": parameters.size, "height": parameters.size,
                 "note": _RESIZE})
    order = ", ".join("gray, high bits, low bits" if part == "gray_bits" else "red, green, blue"
                      for part in parts)
    return [*said, {"step": "arrange", "channels": order, "dtype": "uint8", "range": [0, 255],
                    "shape": ["n", parameters.size, parameters.size, ela.channels(feature)],
                    "note": "no scaling, no mean to subtract: the model does that itself"}]


_SCRIPT = '''\
"""Probability that pictures were tampered with, by {file} in {title}.

    python predict.py PICTURE…

Needs NumPy, OpenCV (opencv-python-headless), Pillow and {package}; nothing of hpc_deepfake.
"""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import cv2
import numpy as np
from PIL import Image

MODEL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "{file}")
THRESHOLD, UNDECIDED_FROM = {threshold!r}, {lower!r}
{where}SIZE = {size}
PARAMETERS = SimpleNamespace(quality={quality}, size=SIZE)
CAVEATS = {caveats}

{use}

class Rejected(Exception):
    """A picture that can't be used."""


def decode(path):
    """Pixels as stored, uint8 (height, width, 3), blue-green-red."""
    with Image.open(path) as image:
        if image.mode[0] in "IF":
            raise Rejected("more than 8 bits per channel: convert it first")
        return np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])


{functions}

def feature(pixels):
    """The model's input, uint8 (SIZE, SIZE, {channels})."""
{feature}


def run(features):
    """Probabilities that pictures were tampered with, float32 (n)."""
    return outputs(features)["tampered"]

{mask}
def verdict(probability):
    if UNDECIDED_FROM is not None and UNDECIDED_FROM <= probability < THRESHOLD:
        return "undecided"
    return "tampered" if probability >= THRESHOLD else "authentic"


if __name__ == "__main__":
    for caveat in CAVEATS:
        print(f"note: {{caveat}}", file=sys.stderr)
    unread = 0
    for path in sys.argv[1:]:
        try:
            picture = feature(decode(path))
        except (OSError, SyntaxError, ValueError, Rejected) as error:
            print(f"{{path}}: not read: {{error}}", file=sys.stderr)
            unread += 1
            continue
        found = outputs(picture[np.newaxis])
        probability = float(found["tampered"][0])
        nothing = "  (nothing to see: this says nothing)" * bool(picture.max() == picture.min())
{area}        print(f"{{probability:.6f}}  {shown}{{verdict(probability):<9}}  {{path}}{{nothing}}")
    sys.exit(1 if unread else 0)
'''
_WHERE = """\
CHANGED_FROM = {level}  # of 255 levels of the map's probabilities: what counts as changed
"""
_MASK = '''
def mask(changed, height, width):
    """Where a picture of this size was changed: 255 times the probability, uint8 (height, width).
    changed: the output of that name of the picture, float32 (SIZE, SIZE)."""
    levels = np.rint(255 * changed).astype(np.uint8)
    levels = cv2.resize(levels, (min(width, SIZE), min(height, SIZE)), interpolation=cv2.INTER_AREA)
    return cv2.resize(levels, (width, height), interpolation=cv2.INTER_CUBIC)

'''
_AREA = """\
        changed = np.mean(np.rint(255 * found["changed"][0]) >= CHANGED_FROM)
"""
_FUNCTIONS: dict[str, tuple[Callable[..., Any], ...]] = {
    "ela": (ela.recompress, ela.resize, ela.error_level), "raw": (ela.resize,),
    "gray_bits": (ela.recompress, ela.resize, ela.error_level, gray_bits.grayscale)}
_FEATURE = {
    "ela": (["errors = error_level(pixels, PARAMETERS)"], "resize(errors)[..., ::-1]"),
    "raw": ([], "resize(pixels)[..., ::-1]"),
    "gray_bits": (["gray = grayscale(error_level(pixels, PARAMETERS))",
                   "planes = gray, 17 * (gray >> 4), 17 * (gray & 15)"],
                  "np.dstack([resize(plane) for plane in planes])")}


def script(runtime: Runtime, card: Card) -> str:
    """A program that prepares pictures with NumPy, OpenCV and Pillow alone, and prints their
    probabilities. Its functions are those of ``preprocessing.ela``."""
    parameters, parts = card.parameters, ela.parts(card.feature)
    needed = list(dict.fromkeys(function for part in parts for function in _FUNCTIONS[part]))
    lines = [line for part in parts for line in _FEATURE[part][0]]
    results = [_FEATURE[part][1] for part in parts]
    lines.append(f"return {results[0]}" if len(results) == 1 else
                 f"return np.dstack([{', '.join(results)}])")
    if parameters.reencode is not None:
        lines = [f"pixels = recompress(pixels, {parameters.reencode})", *lines]
        needed = [ela.recompress, *(one for one in needed if one is not ela.recompress)]
    sources = [inspect.getsource(function).replace("parameters: Parameters",
                                                   "parameters: SimpleNamespace")
               .replace("box: Box | None = None", "box=None")
               # whose bits those of OpenCV are
               .replace("area.shrink(pixels, size)",
                        "cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)")
               for function in needed]
    level = card.mask_threshold
    return _SCRIPT.format(
        file=runtime.file, title=runtime.title, package=runtime.package,
        threshold=card.threshold, lower=card.lower, size=parameters.size,
        channels=ela.channels(card.feature),
        quality=parameters.quality, use=runtime.use.rstrip("\n") + "\n",
        caveats=f"[{''.join(f'{chr(10)}    {caveat!r},' for caveat in card.caveats)}]",
        functions="\n\n".join(sources), feature="\n".join(f"    {line}" for line in lines),
        where="" if level is None else _WHERE.format(level=level),
        mask="" if level is None else _MASK, area="" if level is None else _AREA,
        shown="" if level is None else "{changed:6.1%} changed  ")
