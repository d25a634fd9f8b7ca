"""Edits of photographs: pasting a region of another or of the same picture, and removing one.

Each returns the edited picture and which pixels it changed: where the new ones have at least half
of the weight, since a soft seam has no edge of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from preprocessing.forging.regions import Rect, region

SPLICE, COPY_MOVE, REMOVAL = "splice", "copy-move", "removal"
_TRIES = 6  # of an edit, until it shows
_SHOWS = 3.0  # mean change of the region, grey levels
_COVERED = 0.65  # of its rectangle by a region, about
_MOST_SIDE = 0.8  # of the picture's sides, that a region takes
_LARGEST = 8000  # side of a region, pixels: OpenCV warps fewer than 32,767
_SOFTEST = 8.0  # factor of the seam of a large picture
_FILLED = 60_000  # pixels of a hole that are inpainted one by one; larger ones are shrunk first


@dataclass(frozen=True)
class Edit:
    """What is done to a picture.

    Attributes:
        kind: one of the above.
        area: of the region, of the picture's area, about.
        angle: by which the region is turned, degrees.
        scale: by which it is resized.
        mirrored: whether it is.
        feather: sigma of the seam, pixels of a picture of 500 pixels; 0: a hard edge.
        match: how far its colours are moved to those around it, 0 to 1.
        grain: whether a removed region gets noise like its surroundings.
    """

    kind: str
    area: float
    angle: float = 0.0
    scale: float = 1.0
    mirrored: bool = False
    feather: float = 0.0
    match: float = 0.0
    grain: bool = False


class Edited(NamedTuple):
    """An edited picture.

    Attributes:
        pixels: uint8 (H, W, 3).
        changed: bool (H, W).
    """

    pixels: np.ndarray
    changed: np.ndarray


class _Patch(NamedTuple):
    """What is put into a picture: ``pixels`` uint8 (h, w, 3), weights ``alpha`` float32 (h, w), and
    the place of its left upper corner, which may lie outside."""

    pixels: np.ndarray
    alpha: np.ndarray
    left: int
    top: int


def edit(host: np.ndarray, donor: np.ndarray, what: Edit, rng: np.random.Generator) -> Edited:
    """The edited picture; of several tries the first whose change shows, or the largest change.

    Args:
        host: uint8 (H, W, 3), blue-green-red.
        donor: the picture that the region is from, likewise; the host itself for a copy-move, and
            unused for a removal.
        what: to do.
        rng: decides the rest: shape and places.
    """
    best, most = None, -1.0
    for _ in range(_TRIES):
        patch = _removal(host, what, rng) if what.kind == REMOVAL \
            else _pasted(host, donor, what, rng)
        part, place = _within(host, patch)
        difference = cv2.absdiff(host[place], _mixed(host[place], part))[part.alpha >= 0.5]
        change = float(difference.mean()) if difference.size else -1.0
        if best is None or change > most:
            best, most = (part, place), change
        if most >= _SHOWS:
            break
    assert best is not None
    part, place = best
    pixels, changed = host.copy(), np.zeros(host.shape[:2], bool)
    pixels[place] = _mixed(host[place], part)
    changed[place] = part.alpha >= 0.5
    return Edited(pixels, changed)


def _within(host: np.ndarray, patch: _Patch) -> tuple[_Patch, tuple[slice, slice]]:
    """The part of a patch that is inside the picture, and its place there."""
    height, width = patch.alpha.shape
    top, left = max(0, patch.top), max(0, patch.left)
    bottom, right = min(host.shape[0], patch.top + height), min(host.shape[1], patch.left + width)
    inside = (slice(top - patch.top, bottom - patch.top),
              slice(left - patch.left, right - patch.left))
    return (_Patch(patch.pixels[inside], patch.alpha[inside], left, top),
            (slice(top, bottom), slice(left, right)))


def _mixed(under: np.ndarray, patch: _Patch) -> np.ndarray:
    """A part of a picture with the patch over it, uint8 (h, w, 3)."""
    difference = patch.pixels.astype(np.float32) - under
    return np.rint(under + patch.alpha[..., None] * difference).astype(np.uint8)


def _pasted(host: np.ndarray, donor: np.ndarray, what: Edit, rng: np.random.Generator) -> _Patch:
    """A region of the donor as it is put into the host."""
    source = _rect(rng, host.shape, what.area, donor.shape, what.scale)
    mask = region(rng, donor, source)
    sigma = _sigma(host, what)
    margin = int(np.ceil(3 * sigma)) + 2
    wide = int(np.ceil(margin / what.scale))
    pixels = _cut(donor, source, wide)
    mask = np.pad(mask, wide)
    if what.mirrored:
        pixels, mask = pixels[:, ::-1], mask[:, ::-1]
    if what.angle or what.scale != 1:
        pixels, mask = _turned(pixels, mask, what, margin)
    alpha = _soft(mask, sigma)
    height, width = mask.shape
    free = max(1, host.shape[1] - width + 2 * margin), max(1, host.shape[0] - height + 2 * margin)
    left, top = (int(rng.integers(end)) - margin for end in free)
    if host is donor:  # away from where it is from
        far = 0.6 * min(source[2:])
        for _ in range(20):
            if np.hypot(left + wide - source[0], top + wide - source[1]) >= far:
                break
            left, top = (int(rng.integers(end)) - margin for end in free)
    under = _cut(host, (left, top, width, height), 0)
    pixels = _matched(np.ascontiguousarray(pixels), alpha, under, what.match)
    if (host[::8, ::8, 0] == host[::8, ::8, 1]).all():  # no colours in a grey picture
        pixels = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return _Patch(pixels, alpha, left, top)


def _removal(host: np.ndarray, what: Edit, rng: np.random.Generator) -> _Patch:
    """A region of the host filled from its surroundings by inpainting, either with Telea's method
    ("An image inpainting technique based on the fast marching method", 2004) or with that of
    Bertalmio, Bertozzi & Sapiro ("Navier-Stokes, fluid dynamics, and image and video inpainting",
    2001)."""
    hole = _rect(rng, host.shape, what.area, host.shape, 1.0)
    sigma = _sigma(host, what)
    margin = int(np.ceil(3 * sigma)) + 6
    mask = np.pad(region(rng, host, hole), margin)
    around = _cut(host, hole, margin)
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8),
                       iterations=int(np.ceil(2 * sigma)) + 1)
    method = cv2.INPAINT_TELEA if rng.random() < 0.5 else cv2.INPAINT_NS
    scale = min(1.0, float(_FILLED / max(1, int(grown.sum()))) ** 0.5)
    small, gap = around, grown
    if scale < 1:
        small = cv2.resize(around, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        gap = (cv2.resize(grown.astype(np.float32), small.shape[1::-1],
                          interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)
    filled = cv2.inpaint(small, gap, int(rng.integers(3, 8)), method)
    if scale < 1:
        filled = cv2.resize(filled, around.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    if what.grain:
        filled = _grained(filled, around, grown, rng)
    return _Patch(filled, _soft(mask, sigma), hole[0] - margin, hole[1] - margin)


def _rect(rng: np.random.Generator, host: tuple[int, ...], area: float, donor: tuple[int, ...],
          scale: float) -> Rect:
    """A rectangle in the donor whose region takes about this share of the host, once resized."""
    aspect = float(np.exp(rng.uniform(-0.5, 0.5)))  # height over width
    pixels = area * host[0] * host[1] / _COVERED
    most = [min(_MOST_SIDE * host[side] / scale, _MOST_SIDE * donor[side], _LARGEST / scale)
            for side in (0, 1)]
    sides = (pixels * aspect) ** 0.5, (pixels / aspect) ** 0.5
    height, width = (int(max(8.0, min(side / scale, end)))
                     for side, end in zip(sides, most, strict=True))
    return (int(rng.integers(donor[1] - width + 1)), int(rng.integers(donor[0] - height + 1)),
            width, height)


def _cut(pixels: np.ndarray, rect: Rect, margin: int) -> np.ndarray:
    """A rectangle of a picture with a margin, mirrored at its borders."""
    left, top, width, height = rect
    left, top, width, height = left - margin, top - margin, width + 2 * margin, height + 2 * margin
    bottom, right = top + height, left + width
    inside = pixels[max(0, top):max(0, bottom), max(0, left):max(0, right)]
    return cv2.copyMakeBorder(inside, max(0, -top), max(0, bottom - pixels.shape[0]),
                              max(0, -left), max(0, right - pixels.shape[1]), cv2.BORDER_REFLECT)


def _sigma(host: np.ndarray, what: Edit) -> float:
    return what.feather * min(_SOFTEST, max(1.0, max(host.shape[:2]) / 500))


def _soft(mask: np.ndarray, sigma: float) -> np.ndarray:
    hard = mask.astype(np.float32)
    return np.asarray(cv2.GaussianBlur(hard, (0, 0), sigma)) if sigma else hard


def _turned(pixels: np.ndarray, mask: np.ndarray, what: Edit,
            margin: int) -> tuple[np.ndarray, np.ndarray]:
    """A region turned and resized, with a margin."""
    height, width = mask.shape
    warp = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), what.angle, what.scale)
    across, down = np.abs(warp[:, :2]) @ (width, height)
    size = int(np.ceil(across)), int(np.ceil(down))
    warp[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
    # shrunk by less than half, so that interpolation skips no pixels
    pixels = cv2.warpAffine(pixels, warp, size, flags=cv2.INTER_CUBIC,
                            borderMode=cv2.BORDER_REFLECT_101)
    mask = cv2.warpAffine(mask.astype(np.float32), warp, size, flags=cv2.INTER_LINEAR) >= 0.5
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    return _cut(pixels, (x, y, w, h), margin), np.pad(mask[y:y + h, x:x + w], margin)


def _matched(pixels: np.ndarray, alpha: np.ndarray, under: np.ndarray,
             strength: float) -> np.ndarray:
    """A region with mean and spread of its colours moved to those of what it covers, in CIELAB
    (Reinhard et al., "Color transfer between images", 2001, in another space)."""
    if not strength:
        return pixels
    own, other = (cv2.cvtColor(part, cv2.COLOR_BGR2LAB).astype(np.float32)
                  for part in (pixels, under))
    inside = alpha >= 0.5
    if not inside.any():
        return pixels
    own_mean, own_spread = own[inside].mean(0), own[inside].std(0) + 1
    spread = np.clip((other.reshape(-1, 3).std(0) + 1) / own_spread, 0.7, 1.4)
    moved = (own - own_mean) * spread + other.reshape(-1, 3).mean(0)
    result = np.clip(np.rint(own + strength * (moved - own)), 0, 255).astype(np.uint8)
    return cv2.cvtColor(result, cv2.COLOR_LAB2BGR)


def _grained(filled: np.ndarray, around: np.ndarray, gap: np.ndarray,
             rng: np.random.Generator) -> np.ndarray:
    """A filled region with noise as strong as the finest detail around it."""
    detail = around.astype(np.float32) - cv2.GaussianBlur(around, (0, 0), 1.0)
    kept = np.abs(detail[gap == 0])
    strength = 1.48 * float(np.median(kept)) if kept.size else 0.0
    noise = rng.standard_normal(filled.shape[:2], np.float32)[..., None] * strength
    return np.clip(np.rint(filled + noise), 0, 255).astype(np.uint8)
