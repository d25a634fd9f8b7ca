"""Which pictures are unlike the training pictures: texture, size, format, quality, nothing at all;
and what a model's guard says of a picture."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network import guard as module
from hpc_deepfake.network.card import Card
from hpc_deepfake.network.guard import Guard
from hpc_deepfake.network.likeness import LEAST, Distribution, Profile, _bands, statistics
from preprocessing.ela import Parameters, features
from preprocessing.facts import Facts
from preprocessing.sample import generate, is_drawn

OWN = Facts(384, 256, "JPEG", 95)


def textures(count: int, seed: int = 0, grain: float = 6) -> np.ndarray:
    """Soft shapes with grain, uint8 (count, 128, 128, 3)."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        shapes = cv2.resize(random.uniform(0, 255, (5, 5, 3)), (128, 128),
                            interpolation=cv2.INTER_CUBIC)
        strength = grain * random.uniform(0.7, 1.4)
        rows.append((shapes + random.normal(0, strength, shapes.shape)).clip(0, 255))
    return np.array(rows, np.uint8)


@pytest.fixture(scope="module")
def profile() -> Profile:
    return Profile.of(textures(120), [OWN] * 119 + [Facts(256, 384, "TIFF", 0)])


def test_few_of_the_own_kind_and_all_of_another(profile: Profile) -> None:
    """Further pictures of the same kind are rarely marked; with much less or more grain, or
    nothing but noise, always."""
    assert np.mean([bool(profile.unlike(row, OWN)) for row in textures(80, 1)]) <= 0.05
    for other in (textures(9, 2, grain=1), textures(9, 2, grain=30),
                  np.random.default_rng(2).integers(0, 256, (5, 128, 128, 3), np.uint8)):
        for row in other:
            reason, = profile.unlike(row, OWN)
            assert reason.startswith("its features have ")
            assert "than those of the training pictures (distance " in reason


@pytest.mark.parametrize("size", [64, 128, 256])
def test_shapes_are_counted_in_pictures_and_detail_in_pixels(size: int) -> None:
    bands = _bands(size)
    assert bands["large shapes"][4, 0] and bands["small shapes"][0, 16]
    assert bands["detail"][0, size * 3 // 8] and not bands["detail"][0, size // 4]
    assert bands["fine detail"][size // 2, size // 2]


@pytest.mark.parametrize(("facts", "reason"), [
    (Facts(384, 256, "PNG", 0), "the file is PNG, all training pictures are JPEG or TIFF"),
    (Facts(20, 20, "JPEG", 95), "20×20 pixels are few: training pictures have at least 256 a side"),
    (Facts(300, 127, "JPEG", 95), "300×127 pixels are few"),
    (Facts(769, 300, "JPEG", 95), "769×300 pixels are many: training pictures have at most 384"),
    (Facts(384, 256, "JPEG", 75), "JPEG quality 75, that of training pictures is 95 to 95"),
    (Facts(768, 128, "TIFF", 0), None), (Facts(384, 256, "JPEG", 92), None), (Facts(), None),
    (None, None)])
def test_what_the_file_says(profile: Profile, facts: Facts | None, reason: str | None) -> None:
    """Within a factor of two of the sizes, and three of the qualities, nothing is said; nor where
    nothing is known."""
    reasons = profile.unlike(textures(1, 3)[0], facts)
    assert len(reasons) == (reason is not None)
    if reason:
        assert reasons[0].startswith(reason)


def test_files_without_facts_exclude_nothing() -> None:
    """Of older data files, or of formats that some pictures don't tell."""
    for facts in (None, [Facts()] * 50, [OWN, *[Facts()] * 49]):
        assert not Profile.of(textures(50), facts).unlike(
            textures(1, 1)[0], Facts(400, 300, "PNG"))


def test_a_blank_picture(profile: Profile) -> None:
    """Also of a model that says nothing of its training pictures; not of one that was trained on
    blank ones."""
    blank = np.full((128, 128, 3), 255, np.uint8)
    for known in (profile, Profile(0)):
        assert "nothing to see" in known.unlike(blank)[-1]
    assert not Profile.of(np.concatenate([textures(20), blank[None]])).unlike(blank)


def test_a_profile_is_stored_as_json_and_read_again(profile: Profile) -> None:
    rows, raw = textures(40), textures(40, 5, grain=3)
    for known in (profile, Profile.of(rows, None, raw, np.arange(40) // 4), Profile(0),
                  Profile.of(textures(LEAST - 1), [OWN] * (LEAST - 1)),
                  Profile.of(np.repeat(rows[:1], 40, axis=0))):  # all alike
        text = json.dumps(known.as_dict())
        again = Profile.from_dict(json.loads(text))
        assert json.dumps(again.as_dict()) == text
        for seed, grain in ((1, 6), (2, 3), (3, 12)):
            row, shown = textures(1, seed, grain)[0], textures(1, seed, grain / 2)[0]
            assert [reason.split("(")[0] for reason in again.unlike(row, OWN, shown)] == [
                reason.split("(")[0] for reason in known.unlike(row, OWN, shown)]


@pytest.mark.parametrize(("place", "value"), [
    ((), []), (("sides",), [1]), (("sides",), "ab"), (("formats",), ["JPEG"]), (("blank",), None),
    (("distributions",), [1]), (("distributions", "feature"), None),
    (("distributions", "feature", "mean"), "1 2 3"),
    (("distributions", "feature", "limit"), "far"), (("pictures",), float("inf")),
    (("distributions", "feature", "mean"), "1e300 " * 11),
    (("distributions", "feature", "correlation"), [
        "0.9 " * place + "0.1" for place in range(11)]),
    (("distributions", "feature", "deviation"), "0 " * 11),
    (("distributions", "feature", "correlation"), ["1 " * (place + 1) for place in range(11)]),
    (("distributions", "feature", "correlation"), ["nan " * (place + 1) for place in range(11)]),
    (("distributions", "feature", "correlation"), ["1 " * (place + 1) for place in range(12)]),
    (("distributions", "feature", "correlation"), ["1"])])
def test_a_damaged_profile_names_the_card(profile: Profile, place: tuple[str, ...],
                                          value: object) -> None:
    card = {"likeness": json.loads(json.dumps(profile.as_dict()))}
    inner = card
    *folders, last = ("likeness", *place)
    for name in folders:
        inner = inner[name]
    inner[last] = value
    with pytest.raises(InputError, match=r"likeness\) are damaged, or of another version; copy"):
        Guard.of(Card("ela", Parameters(), trained_on=card), Path("run"))


def test_groups_are_not_divided_by_the_cross_validation() -> None:
    """Of four copies of each picture, all are left out together: with three of them among those
    that the distance is from, few pictures would seem like many, and the limit be too low."""
    values = np.repeat(np.array([*map(statistics, textures(40))]), 4, axis=0)
    values += np.random.default_rng(0).normal(0, 1e-3, values.shape)
    together = Distribution.of(values, np.arange(160) // 4).limit
    assert together > 1.15 * Distribution.of(values, np.arange(160)).limit


def test_one_group_and_few_pictures() -> None:
    """Frames of a single video: there is nothing to compare with, and no failure."""
    assert np.isfinite(Distribution.of(np.array([*map(statistics, textures(40))]),
                                       np.zeros(40, int)).limit)
    assert not Profile.of(textures(0)).unlike(textures(1)[0])


@pytest.mark.parametrize("size", [16, 100, 128, 131])
def test_statistics_of_any_size(size: int) -> None:
    for row in (np.zeros((size, size, 3), np.uint8), np.full((size, size, 3), 255, np.uint8),
                np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)):
        assert np.isfinite(statistics(row)).all()


def test_a_photograph_is_unlike_drawn_pictures(pictures: Path, tmp_path: Path) -> None:
    """By its texture alone, saved with the size and quality of the drawn ones; and for certain by
    what drawn pictures say of themselves. A drawn picture of another seed is like them."""
    parameters = Parameters()
    ela, raw = (np.stack(rows) for rows in zip(*(
        features(path.read_bytes(), ("ela", "raw"), parameters)
        for path in sorted(pictures.glob("*/*.jpg"))), strict=True))
    guard = Guard(Profile.of(ela, None, raw), sample=True)
    photograph = cv2.imread(os.path.join(
        matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg"))
    photograph = cv2.imencode(".jpg", cv2.resize(photograph, (256, 300)),
                              (cv2.IMWRITE_JPEG_QUALITY, 95))[1].tobytes()
    generate(tmp_path, 2, 5)
    drawn = next(tmp_path.glob("Au/*.jpg")).read_bytes()
    assert is_drawn(drawn) and not is_drawn(photograph)
    first, *others = guard.unlike(*features(photograph, ("ela", "raw"), parameters),
                                  drawn=is_drawn(photograph))
    assert first == module.NOT_DRAWN
    assert any(reason.startswith("its pixels have ") for reason in others)
    assert not guard.unlike(*features(drawn, ("ela", "raw"), parameters), drawn=is_drawn(drawn))


@pytest.mark.parametrize(("names", "marked"), [(["sample"], True), (["photos", "sample"], False)])
def test_drawn_pictures_beside_others(names: list[str], marked: bool) -> None:
    """A model of both knows more than drawn pictures."""
    card = Card("raw", Parameters(), trained_on={
        "sample": True, "data": [{"name": name} for name in names]})
    assert bool(Guard.of(card, Path("run")).unlike(textures(1)[0], drawn=False)) is marked
