"""How often the detectors of ``hpc-deepfake inspect`` are right, on pictures that are changed here.

    python benchmarks/inspection.py FOLDER [--every N] [--drawn FOLDER] [--json FILE]

FOLDER has photographs that were never compressed (PNG, TIFF). They are saved as JPEG once and
twice, areas are pasted and copied, and each line says in how many of them what was found. Pages of
text, plots and shapes are drawn here, and the pictures of ``--drawn``, such as screenshots, are
taken along: of them nothing must be claimed.

Photographs are not part of this project. What docs/inspect.md shows was measured with
https://github.com/MohamedBakrAli/Kodak-Lossless-True-Color-Image-Suite.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hpc_deepfake.inspect import analysis, blocks, clones, drawn, tables
from preprocessing.picture import decode

Found = dict[str, object]
_SIDE = 8


def jpeg(pixels: np.ndarray, quality: int) -> bytes:
    """Pixels, red-green-blue, as JPEG with 4:2:0."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


def saved(pixels: np.ndarray, quality: int | None) -> np.ndarray:
    """Pixels after a save as JPEG; unchanged without a quality."""
    if quality is None:
        return pixels
    return np.asarray(Image.open(io.BytesIO(jpeg(pixels, quality))).convert("RGB"))


def pasted(pixels: np.ndarray, own: int | None, other: int | None, seed: int, shift: int = 0
           ) -> tuple[np.ndarray, np.ndarray]:
    """The picture, saved at ``own``, with a ninth of it replaced by the same place of the picture
    saved at ``other``, whose grid is shifted by ``shift`` pixels; and which blocks that is."""
    height, width = pixels.shape[:2]
    rows, columns = height // 24, width // 24  # blocks of the area
    rng = np.random.default_rng(seed)
    top, left = (int(rng.integers(1, side // _SIDE - length - 1))
                 for side, length in ((height, rows), (width, columns)))
    area = (slice(top * _SIDE, (top + rows) * _SIDE), slice(left * _SIDE, (left + columns) * _SIDE))
    result = saved(pixels, own).copy()
    moved = np.roll(saved(np.roll(pixels, -shift, (0, 1)), other), shift, (0, 1))
    result[area] = moved[area]
    mask = np.zeros((height // _SIDE, width // _SIDE), bool)
    mask[top:top + rows, left:left + columns] = True
    return result, mask


def copied(pixels: np.ndarray, seed: int, angle: float, scale: float
           ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The picture with a round area copied to another place; and both centres x, y."""
    height, width = pixels.shape[:2]
    size = min(height, width) // 5
    rng = np.random.default_rng(seed)
    here = there = np.zeros(2)
    while np.abs(here - there).max() < 1.5 * size:
        here, there = (rng.uniform((size, size), (width - size, height - size)) for _ in range(2))
    move = cv2.getRotationMatrix2D((float(here[0]), float(here[1])), angle, scale)
    move[:, 2] = move[:, 2] + there - here
    mask = np.zeros((height, width), np.uint8)
    cv2.circle(mask, (int(here[0]), int(here[1])), size // 2, 255, -1)
    inside = cv2.GaussianBlur(cv2.warpAffine(mask, move, (width, height)), (0, 0), 1)[..., None]
    copy = cv2.warpAffine(pixels, move, (width, height), flags=cv2.INTER_CUBIC)
    return (pixels + (copy.astype(float) - pixels) * (inside / 255)).astype(np.uint8), here, there


def compression(data: bytes) -> Found:
    """What double compression and ghosts say of a JPEG file."""
    with Image.open(io.BytesIO(data)) as image:
        table = np.array(image.quantization[0]).reshape(8, 8)  # type: ignore[attr-defined]
    luma = blocks.luminance(data, decode(data))
    twice, ghosts = analysis.compression(luma, table, tables.quality_of(table), (0, 0), 1,
                                         drawn.analyse(luma))
    return {"twice": twice.found, "quality": twice.quality, "without": twice.without,
            "ghost": ghosts.ghost and ghosts.ghost.mask}


def overlap(found: object, mask: np.ndarray) -> float:
    """Intersection over union of an area found with the true one."""
    return float((found & mask).sum() / (found | mask).sum()) if isinstance(
        found, np.ndarray) else 0.0


def joined(data: bytes, here: np.ndarray, there: np.ndarray) -> bool:
    """Whether a copy-move candidate joins both places."""
    luma = blocks.luminance(data, decode(data))
    found = clones.analyse(luma, drawn.analyse(luma)).found
    ends = [(clone.first.mean(0), clone.second.mean(0)) for clone in found]
    return any(max(np.linalg.norm(left - here), np.linalg.norm(right - there)) < 60
               for pair in ends for left, right in (pair, pair[::-1]))


def text_page(seed: int) -> np.ndarray:
    """A page of text, uint8 (800, 1000, 3); every fourth light on dark."""
    rng = np.random.default_rng(seed)
    paper, ink = ((255, 0), (250, 30), (240, 60), (30, 220))[seed % 4]
    page = Image.new("RGB", (1000, 800), (paper,) * 3)
    draw, size = ImageDraw.Draw(page), (12, 14, 18, 24)[seed // 4 % 4]
    words = [word for word in str(__doc__).split() if word.isalpha()]
    for row in range(20, 800 - 2 * size, size * 3 // 2):
        line = " ".join(rng.choice(words, 1200 // (size * 5)))
        draw.text((30, row), line, (ink,) * 3, ImageFont.load_default(size))
    return np.asarray(page)


def shapes(seed: int) -> np.ndarray:
    """Overlapping boxes and ellipses, uint8 (700, 900, 3); every other one resized."""
    rng = np.random.default_rng(seed)
    page = Image.new("RGB", (900, 700), (235, 235, 240))
    draw = ImageDraw.Draw(page)
    for number in range(40):
        left, top, width, height = rng.integers((0, 0, 20, 20), (900, 700, 200, 150)).tolist()
        (draw.ellipse if number % 2 else draw.rectangle)(
            (left, top, left + width, top + height), tuple(rng.integers(0, 256, 3).tolist()), 0)
    return np.asarray(page.resize((630, 490)) if seed % 2 else page)


def plot(seed: int) -> np.ndarray:
    """A plot of lines, bars, points or a picture of numbers, uint8 (600, 800, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rng = np.random.default_rng(seed)
    axes = (sheet := Figure((8, 6), 100)).subplots()
    (lambda: axes.plot(rng.normal(size=(200, 4)).cumsum(0)),
     lambda: axes.bar(range(20), rng.random(20)),
     lambda: axes.scatter(rng.random(500), rng.random(500), c=rng.random(500)),
     lambda: axes.imshow(rng.random((20, 20))))[seed % 4]()
    axes.set_title("Measured values")
    canvas = FigureCanvasAgg(sheet)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def claims(pixels: np.ndarray, quality: int | None) -> dict[str, bool]:
    """What is claimed of a picture as PNG, or saved once at a quality."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    found = analysis.analyse(file.getvalue() if quality is None else jpeg(pixels, quality))
    return {"earlier JPEG": bool(found.double and found.double.found),
            "ghost": bool(found.ghosts and found.ghosts.ghost),
            "copy-move": bool(found.clones and found.clones.found),
            "said to be drawn": found.drawn.mostly}


def main() -> None:
    """Measure, and print a line for each kind of change."""
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("folder", type=Path)
    cli.add_argument("--every", type=int, default=1, help="take every N-th picture")
    cli.add_argument("--drawn", type=Path, help="folder of screenshots and drawings (PNG)")
    cli.add_argument("--json", type=Path)
    options = cli.parse_args()
    paths = sorted(path for path in options.folder.iterdir()
                   if path.suffix.lower() in (".png", ".tif", ".tiff"))[::options.every]
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    table: dict[str, dict[str, int]] = {}

    def line(name: str, of: Callable[[int, np.ndarray], dict[str, bool]],
             pictures: Sequence[np.ndarray] = pictures) -> None:
        answers = [of(number, pixels) for number, pixels in enumerate(pictures)]
        table[name] = {key: sum(bool(answer[key]) for answer in answers) for key in answers[0]}
        print(f"{name:<46}", ", ".join(f"{key} {count} of {len(answers)}"
                                       for key, count in table[name].items()), flush=True)

    pages = {"pages of text": [text_page(seed) for seed in range(16)],
             "shapes": [shapes(seed) for seed in range(12)],
             "plots": [plot(seed) for seed in range(12)]}
    if options.drawn:
        pages["screenshots"] = [np.asarray(Image.open(path).convert("RGB"))
                                for path in sorted(options.drawn.glob("*.png"))]
    for kind, drawings in pages.items():
        for saved_at in (None, 90, 75):
            line(f"{kind}, {f'saved once at {saved_at}' if saved_at else 'never compressed'}",
                 lambda _, pixels, quality=saved_at: claims(pixels, quality),  # type: ignore[misc]
                 drawings)
    for quality in (60, 75, 85, 95):
        def once(number: int, pixels: np.ndarray, quality: int = quality) -> dict[str, bool]:
            return {key: value is not None and value is not False for key, value in
                    compression(jpeg(pixels, quality)).items() if key != "quality"}
        line(f"saved once at {quality}", once)
    for first, last in ((60, 90), (75, 85), (85, 95), (80, 75), (85, 75), (90, 75), (95, 85)):
        def twice(number: int, pixels: np.ndarray, first: int = first, last: int = last
                  ) -> dict[str, bool]:
            found = compression(jpeg(saved(pixels, first), last))
            quality = found["quality"]
            return {"twice": bool(found["twice"]), "first quality to 1": isinstance(quality, int)
                    and abs(quality - first) <= 1, "wrong area": found["without"] is not None}
        line(f"saved at {first}, then {last}", twice)
    for own, last in ((60, 90), (75, 90), (85, 95), (60, 75), (70, 80)):
        def fresh(number: int, pixels: np.ndarray, own: int = own, last: int = last
                  ) -> dict[str, bool]:
            data, mask = pasted(pixels, own, None, number)
            share = overlap(compression(jpeg(data, last))["without"], mask)
            return {"area found": share > 0.5, "wrong area": 0 < share < 0.3}
        line(f"never compressed into {own}, saved at {last}", fresh)
    cases: tuple[tuple[int, int | None, int, int], ...] = ((60, None, 90, 0), (70, 90, 95, 0),
                                                           (60, None, 80, 0), (80, None, 90, 0),
                                                           (60, None, 90, 3))
    for other, before, last, shift in cases:
        def ghost(number: int, pixels: np.ndarray, other: int = other, own: int | None = before,
                  last: int = last, shift: int = shift) -> dict[str, bool]:
            data, mask = pasted(pixels, own, other, number, shift)
            share = overlap(compression(jpeg(data, last))["ghost"], mask)
            return {"ghost found": share > 0.5, "wrong area": 0 < share < 0.3}
        line(f"{other} into {before or 'never compressed'}, saved at {last}"
             + f", grid {shift} off" * bool(shift), ghost)

    def untouched(_: int, pixels: np.ndarray) -> dict[str, bool]:
        luma = cv2.cvtColor(saved(pixels, 90), cv2.COLOR_RGB2GRAY)
        return {"candidate": bool(clones.analyse(luma, drawn.analyse(luma)).found)}
    line("copy-move: nothing copied, saved at 90", untouched)
    for angle, scale, quality in ((0, 1.0, 90), (0, 1.0, 75), (20, 1.1, 90), (90, 1.0, 90)):
        def clone(number: int, pixels: np.ndarray, angle: int = angle, scale: float = scale,
                  quality: int = quality) -> dict[str, bool]:
            data, here, there = copied(pixels, number, angle, scale)
            return {"joined": joined(jpeg(data, quality), here, there)}
        line(f"copied, turned {angle}°, size {scale}, saved at {quality}", clone)
    if options.json:
        options.json.write_text(json.dumps({"pictures": len(pictures), "table": table}, indent=2))


if __name__ == "__main__":
    main()
