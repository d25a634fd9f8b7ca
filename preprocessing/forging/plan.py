"""Which pictures a set of forgeries has, and what each is made of; nothing is decoded for it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from preprocessing.forging.edits import COPY_MOVE, REMOVAL, SPLICE, Edit
from preprocessing.forging.photographs import Photograph

KINDS = SPLICE, COPY_MOVE, REMOVAL
# in the place of CASIA's letters for the operation, by which evaluation divides its figures
_CODES = {SPLICE: "D_SPL", COPY_MOVE: "S_CPM", REMOVAL: "S_INP"}
FIRST = 55, 85  # JPEG quality of an earlier save, as of messengers and web pages
_RESAVED = 0.7  # share of copy-moves and removals whose photograph is saved so first
_AREAS = {SPLICE: (0.015, 0.25), COPY_MOVE: (0.015, 0.2), REMOVAL: (0.01, 0.12)}
_PLAN = 0  # random stream; making a picture has others


@dataclass(frozen=True)
class Picture:
    """One picture of a set.

    Attributes:
        index: even ones are authentic, and the next one is forged from the same photograph.
        path: relative to the folder of the set, "/" on every system.
        mask: likewise, of its mask; None: it is authentic.
        photograph: number of the photograph.
        donor: number of that which a region is from; the same for other kinds than a splice.
        first: JPEG quality at which the photograph is saved first; None: it is used as it is.
        donor_first: likewise of the donor.
        last: JPEG quality of the last save.
        edit: what is done to it; None: nothing.
    """

    index: int
    path: str
    mask: str | None
    photograph: int
    donor: int
    first: int | None
    donor_first: int | None
    last: int
    edit: Edit | None


def plan(photographs: Sequence[Photograph], count: int, seed: int, kinds: Sequence[str],
         qualities: tuple[int, int]) -> list[Picture]:
    """All pictures of a set. Both pictures of a pair have the same photograph, the same first save
    and the same quality of the last one, so that none of them tells the label.

    Args:
        photographs: in the order of use; where there are fewer than pairs, each is used again.
        count: number of pictures.
        seed: of the set.
        kinds: of ``KINDS``, in turn.
        qualities: lowest and highest JPEG quality of the last save.
    """
    blocks = defaultdict(list)
    for number, each in enumerate(photographs):
        blocks[each.block].append(number)
    times: Counter[str] = Counter()
    pictures = []
    for pair in range(-(-count // 2)):
        rng = np.random.default_rng((seed, 2 * pair, _PLAN))
        number = pair % len(photographs)
        kind = kinds[(pair + pair // len(photographs)) % len(kinds)]
        own = photographs[number]
        others = [other for other in blocks[own.block] if other != number]
        others = [other for other in others if photographs[other].scene != own.scene] or others
        donor = int(rng.choice(others)) if kind == SPLICE else number
        first, donor_first = _firsts(rng, kind)
        last = int(rng.integers(*qualities, endpoint=True))
        edit = _edit(rng, kind)
        name = f"{own.scene[:3]}_{own.scene[3:]}"
        folder = f"{times[name] + 1}/" if times[name] else ""  # of the same scene
        times[name] += 1
        pictures.append(Picture(2 * pair, f"Au/{folder}Au_{name}.jpg", None, number, number, first,
                                first, last, None))
        extent = "S" if edit.area < 0.05 else "M" if edit.area < 0.12 else "L"
        stem = (f"Tp_{_CODES[kind]}_{extent}_{'B' if edit.feather else 'N'}_{own.scene}_"
                f"{photographs[donor].scene}_{pair + 1:05d}")
        pictures.append(Picture(2 * pair + 1, f"Tp/{stem}.jpg", f"Gt/{stem}_gt.png", number, donor,
                                first, donor_first, last, edit))
    return pictures[:count]


def _firsts(rng: np.random.Generator, kind: str) -> tuple[int | None, int | None]:
    """Qualities of the first saves of a photograph and of the donor: of a splice, one of the two
    has such a save, so that their histories differ."""
    quality = int(rng.integers(*FIRST, endpoint=True))
    share = rng.random()
    if kind == SPLICE:
        return (quality, None) if share < 0.5 else (None, quality)
    return (quality, quality) if share < _RESAVED else (None, None)


def _edit(rng: np.random.Generator, kind: str) -> Edit:
    area = float(np.exp(rng.uniform(*np.log(_AREAS[kind]))))
    turned, resized, mirrored, soft, matched, grain = rng.random(6) < (0.4, 0.5, 0.3, 0.6, 0.6, 0.5)
    feather = float(rng.uniform(0.5, 2.5)) if soft else 0.0
    if kind == REMOVAL:
        return Edit(kind, area, feather=feather, grain=bool(grain))
    return Edit(kind, area, float(rng.uniform(-25, 25)) if turned else 0.0,
                float(rng.uniform(0.6, 1.2)) if resized else 1.0, bool(mirrored), feather,
                float(rng.uniform(0.4, 1.0)) if matched and kind == SPLICE else 0.0)
