"""Regions to be copied or removed: things in a picture, smooth blobs, polygons."""

from __future__ import annotations

import cv2
import numpy as np

Rect = tuple[int, int, int, int]  # left, top, width, height
_SEGMENTED = 96  # maximum side of the window in which a thing is looked for, in pixels
_AROUND = 0.35  # of the rectangle's sides, that the window shows beyond it on each side
_FILLED = 0.2, 0.95  # share of the rectangle that a thing covers
_ROUNDS = 2  # of GrabCut
_THINGS = 0.5  # share of the regions that are looked for in the picture


def region(rng: np.random.Generator, pixels: np.ndarray, rect: Rect) -> np.ndarray:
    """A region in a rectangle of a picture, bool (height, width) of the rectangle.

    Half of them are things: the foreground that GrabCut finds in the rectangle (Rother, Kolmogorov,
    Blake: "GrabCut", SIGGRAPH 2004), on a window of at most ``_SEGMENTED`` pixels. The others, and
    those where it finds nothing, are smooth blobs or polygons.

    Args:
        rng: decides.
        pixels: uint8 (H, W, 3).
        rect: within the picture.
    """
    found = _thing(rng, pixels, rect) if rng.random() < _THINGS else None
    if found is not None:
        return found
    _, _, width, height = rect
    outline = _blob(rng) if rng.random() < 0.6 else _polygon(rng)
    outline = (outline - outline.min(0)) / np.ptp(outline, 0) * (width - 1, height - 1)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.rint(outline).astype(np.int32)], 1)
    return mask > 0


def _blob(rng: np.random.Generator) -> np.ndarray:
    """A smooth closed line, float64 (64, 2): a circle whose radius varies by a few waves."""
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    waves = np.arange(2, 7)
    sizes, phases = rng.normal(0, 0.4 / waves), rng.uniform(0, 2 * np.pi, len(waves))
    radius = 1 + (sizes * np.cos(turn[:, None] * waves + phases)).sum(1)
    return np.stack([np.cos(turn), np.sin(turn)], 1) * np.maximum(radius, 0.3)[:, None]


def _polygon(rng: np.random.Generator) -> np.ndarray:
    """The corners of a polygon, float64 (4 to 9, 2)."""
    corners = int(rng.integers(4, 10))
    turn = (np.arange(corners) + rng.uniform(-0.35, 0.35, corners)) * 2 * np.pi / corners
    return np.stack([np.cos(turn), np.sin(turn)], 1) * rng.uniform(0.7, 1, (corners, 1))


def _thing(rng: np.random.Generator, pixels: np.ndarray, rect: Rect) -> np.ndarray | None:
    """The foreground in a rectangle; None where nothing stands out."""
    left, top, width, height = rect
    right = min(pixels.shape[1], left + width + int(_AROUND * width))
    bottom = min(pixels.shape[0], top + height + int(_AROUND * height))
    from_x, from_y = max(0, left - int(_AROUND * width)), max(0, top - int(_AROUND * height))
    window = pixels[from_y:bottom, from_x:right]
    scale = min(1.0, _SEGMENTED / max(window.shape[:2]))
    small = cv2.resize(window, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    inner = [round(scale * side) for side in (left - from_x, top - from_y, width, height)]
    if min(inner[2:]) < 8 or inner[2] * inner[3] > 0.8 * small.shape[0] * small.shape[1]:
        return None  # GrabCut learns the background outside of the rectangle
    mask = np.zeros(small.shape[:2], np.uint8)
    cv2.setRNGSeed(int(rng.integers(1 << 31)))
    try:
        cv2.grabCut(small, mask, inner, np.zeros((1, 65)), np.zeros((1, 65)), _ROUNDS,
                    cv2.GC_INIT_WITH_RECT)
    except cv2.error:  # a window of one colour, of which it can learn nothing
        return None
    x, y, across, down = inner
    found = ((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD))[y:y + down, x:x + across]
    whole = _largest(found.astype(np.uint8))
    if not _FILLED[0] < whole.mean() < _FILLED[1]:
        return None
    soft = cv2.resize(whole.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.GaussianBlur(soft, (0, 0), max(0.6, 0.7 / scale)) >= 0.5)


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest piece of a mask, without holes; uint8, 0 or 1."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(mask)
    if outlines:
        cv2.drawContours(filled, [max(outlines, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    return filled
