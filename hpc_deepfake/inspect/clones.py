"""Copy-move candidates: areas of a picture that occur in it twice.

SIFT keypoints are matched with each other (I. Amerini et al., "A SIFT-Based Forensic Method for
Copy-Move Attack Detection and Transformation Recovery", IEEE Transactions on Information Forensics
and Security 6, 2011), and RANSAC finds groups of matches with one transformation. Of V. Christlein
et al., "An Evaluation of Popular Copy-Move Forgery Detection Approaches", same journal 7, 2012, is
the last step: both areas are compared pixel by pixel, here in what a median filter removes as well,
which repeated patterns of the scene rarely have in common.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hpc_deepfake.inspect.drawn import Drawn

_PIXELS = 1_500_000  # of the picture in which keypoints are found
_KEYPOINTS = 6000
_RATIO = 0.6  # of the distances of the nearest and the second nearest descriptor (Lowe 2004)
_NEAR = 24  # pixels: matches nearer than this are of the same object
_LEAST = 6  # matches of one transformation
_WITHIN = 2.5  # pixels
_SCALES = (0.5, 2.0)
_ALIKE, _ALIKE_FINE = 0.85, 0.45  # correlation of both areas, and of their residuals
_MOST = 8  # candidates
_DRAWN = 0.5  # share of the matches that may lie in drawn places


@dataclass(frozen=True)
class Clone:
    """Two areas with the same content.

    Attributes:
        first: int (n, 2): matched points x, y in the picture.
        second: int (n, 2): their counterparts.
        scale: size of the second relative to the first.
        angle: rotation, degrees.
        alike: correlation of the areas' pixels.
        fine: correlation of their residuals after a median filter.
        areas: outlines of both, int (m, 2) each.
    """

    first: np.ndarray
    second: np.ndarray
    scale: float
    angle: float
    alike: float
    fine: float
    areas: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Clones:
    """Result of the search.

    Attributes:
        found: candidates, the one with the most matches first.
        keypoints: number of keypoints.
        repeated: groups of matches that were not alike in detail: patterns that repeat.
        drawn: groups of matches in drawn places, such as letters.
        scale: size of the picture searched relative to the picture.
    """

    found: list[Clone]
    keypoints: int
    repeated: int
    drawn: int
    scale: float


def analyse(luma: np.ndarray, drawn: Drawn | None = None) -> Clones:
    """Search a picture for areas that occur twice.

    Args:
        luma: uint8 (height, width).
        drawn: its drawn places, in which equal things show nothing; None: there are none.
    """
    scale = min(1.0, (_PIXELS / luma.size) ** 0.5)
    small = luma if scale == 1 else cv2.resize(luma, None, fx=scale, fy=scale,
                                               interpolation=cv2.INTER_AREA)
    points, first, second = matches(small)
    fine = small.astype(np.float32) - cv2.medianBlur(small, 3)
    found: list[Clone] = []
    repeated = drawings = 0
    while len(first) >= _LEAST and len(found) + repeated + drawings < 2 * _MOST:
        transform, inliers = cv2.estimateAffinePartial2D(
            first, second, method=cv2.RANSAC, ransacReprojThreshold=_WITHIN, maxIters=2000,
            confidence=0.995)
        if np.ndim(transform) != 2:  # None: there is none
            break
        inside = inliers.ravel() > 0
        if inside.sum() < _LEAST:
            break
        clone = _verified(small, fine, first[inside], second[inside], transform)
        if isinstance(clone, Clone) and drawn is not None and any(
                drawn.at(points[:, 1] / scale, points[:, 0] / scale).mean() > _DRAWN
                for points in (clone.first, clone.second)):
            drawings += 1
        elif isinstance(clone, Clone):
            if len(found) < _MOST:
                found.append(_enlarged(clone, 1 / scale))
        else:
            repeated += clone
        first, second = first[~inside], second[~inside]
    found.sort(key=lambda clone: -len(clone.first))
    return Clones(found, points, repeated, drawings, scale)


def matches(luma: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Keypoints that have exactly one counterpart elsewhere in the picture.

    Returns:
        The number of keypoints, and the places x, y of both points of each match, float32 (n, 2).
    """
    detector = cv2.SIFT.create(_KEYPOINTS, contrastThreshold=0.01)
    keypoints, descriptors = detector.detectAndCompute(luma, None)
    none = np.empty((0, 2), np.float32)
    if descriptors is None or len(keypoints) < 3:
        return len(keypoints), none, none
    places = np.array([point.pt for point in keypoints], np.float32)
    descriptors = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-6))
    pairs = []
    for start in range(0, len(places), 1024):
        part = slice(start, start + 1024)
        alike = descriptors[part] @ descriptors.T
        # a point's own place has further keypoints, of other orientations and sizes
        apart = (places[part, :1] - places[:, 0])**2
        apart += (places[part, 1:] - places[:, 1])**2
        alike[apart < _NEAR**2] = -1
        rows = np.arange(len(alike))
        order, best = [], []
        for _ in range(3):
            order.append(alike.argmax(1))
            best.append(alike[rows, order[-1]])
            alike[rows, order[-1]] = -1
        distance = np.sqrt((2 - 2 * np.array(best)).clip(0))
        sure = distance[0] < _RATIO * distance[1]
        # the second nearest is a further keypoint at the first's place
        beside = np.linalg.norm(places[order[0]] - places[order[1]], axis=1) < 4
        sure |= beside & (distance[0] < _RATIO * distance[2])
        pairs += [(start + int(i), int(order[0][i])) for i in np.flatnonzero(sure)]
    if not pairs:
        return len(places), none, none
    unique = np.array(sorted({(min(pair), max(pair)) for pair in pairs}))
    first, second = places[unique[:, 0]], places[unique[:, 1]]
    turned = (first[:, 0] > second[:, 0])[:, None]  # both directions are the same transformation
    return len(places), np.where(turned, second, first), np.where(turned, first, second)


def _verified(luma: np.ndarray, fine: np.ndarray, first: np.ndarray, second: np.ndarray,
              transform: np.ndarray) -> Clone | bool:
    """A clone, if both areas are alike in detail; else whether it was a plausible pair of areas."""
    scale = float(np.hypot(transform[0, 0], transform[1, 0]))
    angle = float(np.degrees(np.arctan2(transform[1, 0], transform[0, 0])))
    distinct = len(np.unique(np.rint(first / 4), axis=0))
    if not _SCALES[0] <= scale <= _SCALES[1] or distinct < _LEAST:
        return False
    hull = cv2.convexHull(np.rint(first).astype(np.int32)).reshape(-1, 2)
    if cv2.contourArea(hull) < 64:  # on a line: an edge or a row of the same things
        return False
    # compare inside the hull
    left, top = hull.min(0)
    right, bottom = hull.max(0) + 1
    mask = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillConvexPoly(mask, hull - (left, top), 1)
    move = transform.copy()
    move[:, 2] += transform[:, :2] @ np.array([left, top], float)
    size = (int(right - left), int(bottom - top))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    inside = cv2.warpAffine(np.ones(luma.shape, np.uint8), move, size, flags=flags) * mask > 0
    if inside.sum() < 64:
        return False
    here = (slice(int(top), int(bottom)), slice(int(left), int(right)))
    alike = _correlation(luma[here][inside], cv2.warpAffine(luma, move, size, flags=flags)[inside])
    detail = _correlation(fine[here][inside], cv2.warpAffine(fine, move, size, flags=flags)[inside])
    if alike < _ALIKE or detail < _ALIKE_FINE:
        return True
    other = np.rint(cv2.transform(hull[None].astype(np.float32), transform)[0]).astype(np.int32)
    return Clone(np.rint(first).astype(int), np.rint(second).astype(int), scale, angle, alike,
                 detail, (hull, other))


def _correlation(left: np.ndarray, right: np.ndarray) -> float:
    left, right = (side.astype(np.float64) - side.mean() for side in (left, right))
    size = float(np.sqrt((left**2).sum() * (right**2).sum()))
    return float((left * right).sum()) / size if size > 0 else 0.0


def _enlarged(clone: Clone, by: float) -> Clone:
    first, second, *areas = (np.rint(points * by).astype(int) for points in
                             (clone.first, clone.second, *clone.areas))
    return Clone(first, second, clone.scale, clone.angle, clone.alike, clone.fine,
                 (areas[0], areas[1]))
