"""Regions to be copied or removed: things in a picture, smooth blobs, polygons."""

from __future__ import annotations

import cv2
import numpy as np

Rect = tuple[int, int, int, int]  # left, top, width, height
_THINGS = 0.6  # share of the regions that follow edges of the picture
_SEGMENTED = 96  # maximum side of the rectangle when it is divided into segments, in pixels
_CELLS = 9  # segments across and down
_SHARE = 0.3, 0.6  # of the rectangle, that chosen segments cover


def region(rng: np.random.Generator, pixels: np.ndarray, rect: Rect) -> np.ndarray:
    """A region in a rectangle of a picture, bool (height, width) of the rectangle: a thing, whose
    outline follows edges of the picture, or a smooth blob or a polygon.

    Args:
        rng: decides.
        pixels: uint8 (H, W, 3).
        rect: within the picture.
    """
    if rng.random() < _THINGS:
        return _thing(rng, pixels, rect)
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


def _thing(rng: np.random.Generator, pixels: np.ndarray, rect: Rect) -> np.ndarray:
    """Segments around the middle of a rectangle that resemble each other."""
    left, top, width, height = rect
    window = pixels[top:top + height, left:left + width]
    scale = min(1.0, _SEGMENTED / max(width, height))
    small = cv2.GaussianBlur(cv2.resize(window, None, fx=scale, fy=scale,
                                        interpolation=cv2.INTER_AREA), (3, 3), 0)
    labels, centres = _segments(rng, small)
    count = len(centres)
    sizes = np.bincount(labels.ravel(), minlength=count)
    colours = np.stack([np.bincount(labels.ravel(), small[..., channel].ravel(), count)
                        for channel in range(3)], 1) / np.maximum(sizes, 1)[:, None]
    chosen = _grown(labels, sizes, colours, centres / small.shape[:2],
                    rng.uniform(*_SHARE) * labels.size)
    whole = _largest(np.isin(labels, chosen).astype(np.uint8)).astype(np.float32)
    soft = cv2.resize(whole, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.GaussianBlur(soft, (0, 0), max(0.6, 0.7 / scale)) >= 0.5)


def _segments(rng: np.random.Generator, small: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A picture divided along its edges, by a watershed from the points of an uneven grid (Meyer,
    "Color image segmentation", 1992).

    Returns:
        The segment of each pixel, int64 (h, w), and the row and column of each point.
    """
    height, width = small.shape[:2]
    down, across = (min(_CELLS, max(1, side // 3)) for side in (height, width))
    grid = np.stack(np.meshgrid(np.arange(down), np.arange(across), indexing="ij"), -1)
    places = (grid.reshape(-1, 2) + rng.uniform(0.2, 0.8, (down * across, 2))) / (down, across)
    points = (places * (height, width)).astype(np.int64)
    markers = np.zeros((height, width), np.int32)
    markers[points[:, 0], points[:, 1]] = np.arange(1, len(points) + 1)
    labels = cv2.watershed(small, markers)
    for _ in range(2):  # lines between segments, and the picture's border
        wider = cv2.dilate(labels.astype(np.float32), np.ones((3, 3), np.uint8)).astype(np.int32)
        labels = np.where(labels > 0, labels, wider)
    return np.maximum(labels, 1).astype(np.int64) - 1, points


def _grown(labels: np.ndarray, sizes: np.ndarray, colours: np.ndarray, centres: np.ndarray,
           wanted: float) -> list[int]:
    """Segments that touch each other, and not the border, which is no edge of the picture: from
    the one in the middle on always the next that is most like those before in its colour, and near
    them, until they have the wanted number of pixels."""
    pairs = np.concatenate([
        np.stack([labels[:, :-1].ravel(), labels[:, 1:].ravel()], 1),
        np.stack([labels[:-1].ravel(), labels[1:].ravel()], 1)])
    touching = np.zeros((len(sizes), len(sizes)), bool)
    touching[pairs[:, 0], pairs[:, 1]] = touching[pairs[:, 1], pairs[:, 0]] = True
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    spread = colours.std(0).mean() + 1
    chosen = [int(((centres - 0.5) ** 2).sum(1).argmin())]
    while sizes[chosen].sum() < wanted:
        next_ones = np.flatnonzero(touching[chosen].any(0))
        next_ones = next_ones[~np.isin(next_ones, (*chosen, *border))]
        if not len(next_ones):
            break
        colour = np.average(colours[chosen], axis=0, weights=sizes[chosen] + 1)
        unlike = np.abs(colours[next_ones] - colour).mean(1) / spread
        far = np.sqrt(((centres[next_ones] - centres[chosen].mean(0)) ** 2).sum(1))
        chosen.append(int(next_ones[(unlike + 2 * far).argmin()]))
    return chosen


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest piece of a mask, without holes; uint8, 0 or 1."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(mask)
    if outlines:
        cv2.drawContours(filled, [max(outlines, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    return filled
