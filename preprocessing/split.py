"""Splits into train, validation and test part, with no source picture in two of them."""

from __future__ import annotations

import numpy as np

from hpc_deepfake.core.errors import InputError

TRAIN, VALIDATION, TEST = 0, 1, 2
PARTS = ("train", "validation", "test")
AUTHOR = "author's"  # begins the description of a split that the author of the data made


def parse_fractions(text: str) -> tuple[float, ...]:
    """``"80/20"`` (train/validation) or ``"70/10/20"`` (train/validation/test) as fractions.

    Raises:
        InputError: they are not percentages that add up to 100.
    """
    try:
        parts = [float(part) for part in text.split("/")]
    except ValueError:
        parts = []
    if len(parts) not in (2, 3) or not min(parts) > 0 or not abs(sum(parts) - 100) < 1e-6:
        raise InputError(f"--split {text}: give percentages that add up to 100, like 80/20 "
                         "(train/validation) or 70/10/20 (train/validation/test)")
    return tuple(part / 100 for part in parts)


def by_group(labels: np.ndarray, groups: np.ndarray, fractions: tuple[float, ...],
             seed: int) -> np.ndarray:
    """Split whole groups, keeping each part's share of each class near its fraction.

    Groups are placed largest first, groups of equal size in seeded random order, each where the
    squared relative error of the parts' class counts grows least; groups of one row fill the rest.

    Args:
        labels: uint8 (N), 0 authentic, 1 tampered.
        groups: int32 (N), numbered from 0.
        fractions: of the parts; they add up to 1.
        seed: of the random order.

    Returns:
        uint8 (N): 0 train, 1 validation, 2 test.
    """
    random = np.random.default_rng(seed)
    classes = int(labels.max()) + 1
    counts = np.zeros((int(groups.max()) + 1, classes), np.int64)
    np.add.at(counts, (groups, labels), 1)
    sizes = counts.sum(1)
    shuffled = random.permutation(len(sizes))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    totals = counts.sum(0)
    room = [[fraction * total for total in totals.tolist()] for fraction in fractions]
    targets = [[max(cell, 1e-9) for cell in row] for row in room]
    part_of = np.empty(len(sizes), np.uint8)

    def place(row: list[int]) -> int:
        # adding n to a cell with room r and target t changes r²/t by (n² - 2rn)/t
        cost = [sum((n * n - 2 * r * n) / t for n, r, t in zip(row, room[part], targets[part],
                                                              strict=True) if n)
                for part in range(len(fractions))]
        part = cost.index(min(cost))
        room[part] = [r - n for r, n in zip(room[part], row, strict=True)]
        return part

    large = order[sizes[order] > 1]
    for group, row in zip(large.tolist(), counts[large].tolist(), strict=True):
        part_of[group] = place(row)
    single = order[sizes[order] == 1]
    kind = counts[single].argmax(1)
    for label in range(classes):
        of_label = single[kind == label]
        part_of[of_label] = _fill(len(of_label), [row[label] for row in room])
    return part_of[groups]


def by_image(labels: np.ndarray, fractions: tuple[float, ...], seed: int) -> np.ndarray:
    """Split picture by picture, stratified, as most published results do.

    Pictures made from the same source get into different parts, so that results are too good.

    Args:
        labels: uint8 (N), 0 authentic, 1 tampered.
        fractions: of the parts; they add up to 1.
        seed: of the random order.

    Returns:
        uint8 (N): 0 train, 1 validation, 2 test.
    """
    random = np.random.default_rng(seed)
    parts = np.empty(len(labels), np.uint8)
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        parts[rows] = _fill(len(rows), [fraction * len(rows) for fraction in fractions])
    return parts


def completed(given: np.ndarray, labels: np.ndarray, groups: np.ndarray,
              fractions: tuple[float, ...], seed: int) -> np.ndarray:
    """An author's split, with the rows that it says nothing about divided by group; where it has no
    validation part, which selects the best epoch, that is taken from the training part.

    Args:
        given: uint8 (N), part of each row; another value where the author says nothing.
        labels: uint8 (N), 0 authentic, 1 tampered.
        groups: int32 (N), numbered from 0.
        fractions: of train and validation part, and a test part that is used where the author has
            none; they add up to 1.
        seed: of the random order.

    Returns:
        uint8 (N): 0 train, 1 validation, 2 test.
    """
    parts = given.copy()
    rest = given >= len(PARTS)
    if not (given == VALIDATION).any():
        rest |= given == TRAIN
    if rest.any():
        shares = fractions[:2] if (given == TEST).any() else fractions
        numbers = np.unique(groups[rest], return_inverse=True)[1]
        parts[rest] = by_group(labels[rest], numbers, tuple(
            share / sum(shares) for share in shares), seed)
    return parts


def described(given: np.ndarray, text: str) -> str:
    """An author's split as a text for the data file, such as ``author's train/test, rest 80/20``.

    Args:
        given: as in ``completed``.
        text: percentages for the rest.
    """
    names = "/".join(name for part, name in enumerate(PARTS) if (given == part).any())
    complete = (given < len(PARTS)).all() and (given == VALIDATION).any()
    return f"{AUTHOR} {names}" + ("" if complete else f", rest {text}")


def straddling(parts: np.ndarray, groups: np.ndarray) -> int:
    """Number of groups with rows in several parts.

    Args:
        parts: uint8 (N).
        groups: int32 (N), numbered from 0.
    """
    present = np.zeros((int(groups.max()) + 1, int(parts.max()) + 1), bool)
    present[groups, parts] = True
    return int((present.sum(1) > 1).sum())


def _fill(count: int, room: list[float]) -> np.ndarray:
    """Parts of ``count`` interchangeable rows, in proportion to the room in each part."""
    share = np.clip(room, 0, None)
    if share.sum() == 0:
        share = np.ones(len(room))
    ends = np.rint(np.cumsum(share) / share.sum() * count).astype(int)
    return np.repeat(np.arange(len(room), dtype=np.uint8), np.diff(ends, prepend=0))
