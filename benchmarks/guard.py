"""How many pictures does a model mark as unlike its training pictures, and what does that change?

    python benchmarks/guard.py --model RUN --photos DIR [DIR …] [--own DIR | --like DIR]

Takes COUNT photographs from each folder (evenly from its sorted list) and COUNT pictures of the
model's own kind: of ``--own``, or, for a model trained on drawn sample pictures, authentic ones
drawn with another seed. All of them count as authentic, so a verdict "tampered" is a false alarm.
The photographs are also saved again with sizes and JPEG qualities of the sample pictures (384×256,
94 to 98), from other sizes and qualities, and as PNG; beside them stand things that are no
photographs: blank pages, screenshots, thumbnails, noise.

With ``--like DIR`` half of that folder's pictures stand for the training pictures, the other half
for the model's own kind, and drawn pictures for others: for a model of photographs.

The column "by texture" leaves out what the file says (format, size, quality, the mark of drawn
pictures): what remains where photographs agree with the training pictures in all that.

Photographs are not part of this project. What docs/predict.md shows was measured with
https://github.com/BIDS/BSDS500, every fourth of https://github.com/EliSchwartz/imagenet-sample-images
and https://github.com/ianare/exif-samples.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw

from hpc_deepfake.network import decision, model
from hpc_deepfake.network.card import Card
from hpc_deepfake.network.guard import Guard
from hpc_deepfake.network.likeness import Profile
from hpc_deepfake.predict import scoring
from preprocessing import facts
from preprocessing.names import PICTURES
from preprocessing.picture import Rejected, decode
from preprocessing.sample import generate, is_drawn

OTHER_SEED = 20_261  # than that of any training


def files(folder: Path, count: int) -> list[bytes]:
    """The contents of ``count`` pictures below a folder, evenly from the sorted list."""
    paths = sorted(path for path in folder.rglob("*")
                   if os.fsencode(path).lower().endswith(PICTURES))
    if not paths:
        sys.exit(f"no pictures below {folder}")
    places = np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int))
    return [paths[place].read_bytes() for place in places]


def drawn(count: int) -> list[bytes]:
    """Authentic sample pictures that no model was trained on."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), 2 * count, OTHER_SEED)
        return [path.read_bytes() for path in sorted(Path(folder).glob("Au/*.jpg"))]


def saved(pixels: np.ndarray, suffix: str = ".jpg", quality: int = 95) -> bytes:
    """A picture, uint8 (height, width, 3) blue-green-red, as a file."""
    return cv2.imencode(suffix, pixels, (cv2.IMWRITE_JPEG_QUALITY, quality)
                        if suffix == ".jpg" else ())[1].tobytes()


def resized(pixels: np.ndarray, longer: int) -> np.ndarray:
    """Reduced to at most ``longer`` pixels on the longer side."""
    scale = min(1, longer / max(pixels.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def decoded(contents: list[bytes]) -> Iterator[np.ndarray]:
    """Pixels of those files that are pictures."""
    for data in contents:
        with suppress(Rejected):
            yield decode(data)


VARIANTS: dict[str, Callable[[np.ndarray, np.random.Generator], bytes]] = {
    "384 pixels wide, quality 94 to 98": lambda pixels, random: saved(
        resized(pixels, 384), quality=int(random.integers(94, 99))),
    "quality 75": lambda pixels, _: saved(pixels, quality=75),
    "as PNG": lambda pixels, _: saved(pixels, ".png"),
    "thumbnails of 20 pixels": lambda pixels, _: saved(resized(pixels, 20)),
}


def odd() -> Iterator[bytes]:
    """Pictures that are no photographs: plain ones, noise, text on a screen, graphics."""
    random = np.random.default_rng(1)
    for number in range(5):
        plain = np.full((256, 384, 3), 255 - 60 * number, np.uint8)
        ramp = np.repeat(np.linspace(0, 255, 384)[None, :, None] / (number + 1), 256, 0)
        noise = random.normal(128, 4 + 12 * number, (256, 384, 3)).clip(0, 255)
        screen = Image.new("RGB", (384 * (1 + number % 3), 256 * (1 + number % 3)), "#f4f4f8")
        draw = ImageDraw.Draw(screen)
        for line in range(4, screen.height - 8, 14):
            draw.text((8, line), f"line {line * number}: text as on a screen " * 3, "#222233")
        draw.rectangle((screen.width // 2, 20, screen.width - 20, screen.height // 2), "#3366cc")
        for pixels in (plain, ramp.repeat(3, 2), noise, np.asarray(screen)):
            for suffix in (".jpg", ".png"):
                yield saved(np.ascontiguousarray(pixels, np.uint8), suffix, 96)


def measured(network: Any, card: Card, guard: Guard, contents: list[bytes]) -> dict[str, int]:
    """Numbers of pictures: all, marked, marked by texture alone, tampered without and with."""
    prepared, textures = [], 0
    only = replace(guard, sample=False)
    for data in contents:
        try:
            pixels = decode(data)
            prepared.append(scoring.of_pixels(pixels, card, guard, facts.of(data),
                                              drawn=is_drawn(data)))
            textures += bool(scoring.of_pixels(pixels, card, only).unlike)
        except Rejected:
            continue
    rows = scoring.pictures(network, card, [b""] * len(prepared), prepared)
    return {"pictures": len(rows), "marked": sum(bool(row.unlike) for row in rows),
            "by texture": textures,
            "tampered without": sum(
                decision.verdict(card, row.probability or 0) == "tampered" for row in rows),
            "tampered": sum(row.verdict == "tampered" for row in rows)}


def profile_of(contents: list[bytes], card: Card) -> Profile:
    """The profile of a model that was trained on these pictures, each a source of its own."""
    features = [Guard(Profile(0)).features(pixels, card) for pixels in decoded(contents)]
    raw = [shown for _, shown in features if shown is not None]
    return Profile.of(np.stack([row for row, _ in features]), [*map(facts.of, contents)],
                      np.stack(raw) if raw else None)


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--model", type=Path, required=True, help="run directory of a trained model")
    cli.add_argument("--photos", type=Path, nargs="+", required=True, help="folders")
    cli.add_argument("--own", type=Path, help="authentic pictures of the model's kind, held out")
    cli.add_argument("--like", type=Path, help="pictures to take for the training pictures")
    cli.add_argument("--count", type=int, default=200, help="pictures of each kind")
    cli.add_argument("--json", type=Path, help="also write the figures to this file")
    options = cli.parse_args()
    card, network = model.read_card(options.model), model.load(options.model)
    results = {}
    if options.like:
        pictures = files(options.like, 1 << 30)
        guard = Guard(profile_of(pictures[::2], card))
        own = pictures[1::2][:options.count]
        results["drawn pictures"] = measured(network, card, guard, drawn(options.count))
    else:
        guard = Guard.of(card, options.model)
        own = files(options.own, options.count) if options.own else drawn(options.count)
    results["the model's own kind, held out"] = measured(network, card, guard, own)
    random = np.random.default_rng(0)
    for folder in options.photos:
        photos = files(folder, options.count)
        results[folder.name] = measured(network, card, guard, photos)
        pixels = [*decoded(photos)]
        for name, variant in VARIANTS.items():
            results[f"{folder.name}, {name}"] = measured(
                network, card, guard, [variant(picture, random) for picture in pixels])
    results["no photographs"] = measured(network, card, guard, list(odd()))
    print("| authentic pictures | number | unlike training | by texture "
          "| tampered without the guard | with it |")
    print("|---|---|---|---|---|---|")
    for name, row in results.items():
        print(f"| {name} | {' | '.join(f'{value:,}' for value in row.values())} |")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
