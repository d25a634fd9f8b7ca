"""Augmentation: what each operation does, and that rows depend on seed, epoch and row alone."""

from __future__ import annotations

import argparse
import re
import zlib
from types import SimpleNamespace

import numpy as np
import pytest

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.data.augment import OPERATIONS, Augmentation, Draws, canonical, check
from hpc_deepfake.data.rows import share
from preprocessing.ela import recompress

SIZE, TRAIN = 32, 300  # rows from TRAIN on are those of validation
ALL = canonical(",".join(OPERATIONS))


class Data:
    """Rows of noise, whose label is the parity of their number."""

    labels = (np.arange(TRAIN + 50) % 2).astype(np.uint8)
    masks = None

    def __init__(self, pictures: np.ndarray | None = None) -> None:
        self.pictures = np.random.default_rng(7).integers(
            0, 256, (TRAIN + 50, SIZE, SIZE, 3), np.uint8) if pictures is None else pictures

    def batch(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.pictures[rows], self.labels[rows]


ROWS = np.arange(TRAIN)
NOISE = Data()


def changed(text: str, rows: np.ndarray = ROWS, seed: int = 0, epoch: int = 1,
            data: Data = NOISE) -> tuple[np.ndarray, np.ndarray]:
    return Augmentation(canonical(text), seed, ROWS).batch(data, rows, epoch)[:2]


def test_masks_move_with_their_pictures():
    """Pictures that show their masks still do; noise changes pictures only."""
    masks = np.random.default_rng(3).choice(np.array([0, 1, 255], np.uint8), (TRAIN + 50, 8, 8))
    masks = masks.repeat(SIZE // 8, 1).repeat(SIZE // 8, 2)
    data = Data(np.repeat(masks[..., None], 6, 3))
    data.masks = masks
    moving = "flip=both,rotate,shift=5"
    rows = Augmentation(canonical(moving), 0, ROWS).batch(data, ROWS[:60], 1, masks=True)
    assert rows.pictures.shape == (60, SIZE, SIZE, 6)
    assert np.array_equal(rows.pictures, np.repeat(rows.masks[..., None], 6, 3))
    assert not np.array_equal(rows.masks, masks[:60])
    noisy = Augmentation(canonical(moving + ",noise"), 0, ROWS).batch(data, ROWS[:60], 1, True)
    assert np.array_equal(noisy.masks, rows.masks)
    assert Augmentation(canonical(moving), 0, ROWS).batch(data, ROWS[:60], 1).masks is None
    turned = Augmentation(canonical("rotate=30"), 0, ROWS).batch(data, ROWS[:60], 1, True).masks
    assert set(np.unique(turned)) == {0, 1, 255} and not np.array_equal(turned, masks[:60])


def constant(value: int) -> Data:
    return Data(np.full((TRAIN + 50, SIZE, SIZE, 3), value, np.uint8))


def test_nothing_is_changed_without_an_operation():
    pictures, labels = changed("none")
    assert np.array_equal(pictures, NOISE.pictures[ROWS])
    assert np.array_equal(labels, NOISE.labels[ROWS]) and labels.dtype == np.uint8


@pytest.mark.parametrize("text", [*OPERATIONS, "flip=both", "rotate=10", ALL])
def test_rows_are_the_same_in_any_shares_and_batches(text):
    """Joined over the ranks they are what one rank gets, whatever the batches; a share without
    rows is one of no rows. The data stay as they are."""
    before = zlib.crc32(NOISE.pictures)
    order = np.random.default_rng(1).permutation(ROWS)[:48]
    whole, labels = changed(text, order)
    assert not np.array_equal(whole, NOISE.pictures[order])
    for batch, ranks in ((48, 2), (20, 3), (7, 1), (2, 3)):
        parts = [changed(text, share(rows, rank, ranks))
                 for rows in np.split(order, range(batch, 48, batch)) for rank in range(ranks)]
        assert np.array_equal(np.concatenate([part for part, _ in parts]), whole)
        joined = np.concatenate([part for _, part in parts])
        assert np.array_equal(joined, labels) and joined.dtype == labels.dtype
    assert zlib.crc32(NOISE.pictures) == before


@pytest.mark.parametrize("text", [*OPERATIONS, "rotate=10"])
def test_rows_differ_with_seed_and_epoch(text):
    rows = ROWS[:60]
    first = changed(text, rows)[0]
    assert np.array_equal(first, changed(text, rows)[0])
    for seed, epoch in ((0, 2), (1, 1), (1, 0), (2**32 - 1, 1)):
        same = (changed(text, rows, seed, epoch)[0] == first).all((1, 2, 3)).mean()
        assert same < 0.7, f"{same:.0%} of the rows are the same"


def test_rows_are_those_of_earlier_versions_and_other_machines():
    """A resumed run continues with the same rows after an update: integers alone decide."""
    ramp = Data((np.arange(NOISE.pictures.size) % 251).astype(np.uint8).reshape(
        NOISE.pictures.shape))
    pictures, _ = changed("flip=both,rotate,shift=5,noise=4", np.arange(40), 3, 2, ramp)
    assert zlib.crc32(pictures) == 4051263324


def test_draws_are_uniform_and_independent():
    """Of neighbouring rows, epochs and seeds too; to five standard errors."""
    rows = np.arange(40_000)
    draws = [Draws(0, 1, rows).uniform("one"), Draws(0, 1, rows).uniform("other"),
             Draws(0, 2, rows).uniform("one"), Draws(1, 1, rows).uniform("one"),
             Draws(0, 1, rows + 1).uniform("one")]
    for values in draws:
        assert values.min() >= 0 and values.max() < 1
        shares = np.histogram(values, 16, (0, 1))[0] / len(values)
        assert abs(shares - 1 / 16).max() < 5 * (1 / 16 / len(values))**0.5
    correlations = np.corrcoef(draws)[np.triu_indices(4, 1)]
    assert abs(correlations).max() < 5 / len(rows)**0.5
    assert abs(np.corrcoef(draws[0][1:], draws[0][:-1])[0, 1]) < 5 / len(rows)**0.5
    whole = Draws(0, 1, rows).whole("one", 70, 95)
    assert np.unique(whole).tolist() == list(range(70, 96))


def states(pictures: np.ndarray, *candidates: np.ndarray) -> list[float]:
    """The shares of the rows that are like each candidate; every row must be like one."""
    like = np.array([(pictures == candidate).all((1, 2, 3)) for candidate in candidates])
    assert (like.sum(0) == 1).all()
    return like.mean(1).tolist()


def test_flip_mirrors_half_of_the_rows():
    before = NOISE.pictures[ROWS]
    shares = states(changed("flip")[0], before, before[:, :, ::-1])
    assert shares[1] == pytest.approx(0.5, abs=0.1)
    both = states(changed("flip=both")[0], before, before[:, :, ::-1], before[:, ::-1],
                  before[:, ::-1, ::-1])
    assert both == pytest.approx([0.25] * 4, abs=0.1)


def test_rotate_makes_quarter_turns():
    before = NOISE.pictures[ROWS]
    shares = states(changed("rotate")[0], *[np.rot90(before, turns, (1, 2)) for turns in range(4)])
    assert shares == pytest.approx([0.25] * 4, abs=0.1)


def test_rotate_by_small_angles():
    """A line through the middle is turned by at most the angle, to either side."""
    data = constant(0)
    data.pictures[:, :, SIZE // 2 - 1:SIZE // 2 + 1] = 255
    pictures = changed("rotate=20", data=data)[0][..., 0].astype(float)
    columns = np.arange(SIZE)
    middle = [(pictures[:, row] * columns).sum(1) / pictures[:, row].sum(1) for row in (6, 25)]
    angles = np.degrees(np.arctan((middle[1] - middle[0]) / 19))
    assert abs(angles).max() == pytest.approx(20, abs=1.5)
    assert angles.mean() == pytest.approx(0, abs=2)
    assert angles.std() == pytest.approx(20 / 3**0.5, abs=1.5)


def test_shift_moves_whole_pixels_and_mirrors_the_edge():
    """By up to that many each way, all distances alike."""
    pictures = changed("shift=3")[0]
    wide = np.pad(NOISE.pictures[ROWS], ((0, 0), (3, 3), (3, 3), (0, 0)), "reflect")
    shares = states(pictures, *[wide[:, down:down + SIZE, across:across + SIZE]
                                for down in range(7) for across in range(7)])
    assert min(shares) > 0 and max(shares) < 4 / 49


def test_crop_takes_a_part_anywhere_and_scales_it_to_the_whole():
    """Of a picture of its own coordinates, each row shows a square of the drawn size, within the
    picture; masks are cut by the same square."""
    data = constant(0)
    data.pictures[..., 0], data.pictures[..., 1] = np.mgrid[:SIZE, :SIZE] * 8
    data.masks = data.pictures[..., 0] >= 128
    rows = Augmentation(canonical("crop=0.5-0.75"), 0, ROWS).batch(data, ROWS, 1, masks=True)
    corners = rows.pictures[:, [0, -1], [0, -1], :2].astype(float) / 8
    sides = corners[:, 1] - corners[:, 0] + 1
    assert sides.min() > 14 and sides.max() < 26 and np.ptp(sides[:, 0]) > 6
    assert abs(sides[:, 0] - sides[:, 1]).max() <= 1
    assert corners.min() == 0 and corners.max() == SIZE - 1 and np.ptp(corners[:, 0, 1]) > 10
    edge = (rows.pictures[..., 0] >= 128) != rows.masks
    assert edge.mean() < 1.5 / SIZE and 0 < rows.masks.mean() < 1


def test_resize_loses_detail_of_half_of_the_rows():
    """As scaling down and up again does; at the factor 1 nothing."""
    pictures, _ = changed("resize=0.5")
    before = NOISE.pictures[ROWS]
    small = before.reshape(TRAIN, SIZE // 2, 2, SIZE // 2, 2, 3).mean((2, 4))
    lost = (pictures != before).any((1, 2, 3))
    assert lost.mean() == pytest.approx(0.5, abs=0.1)
    means = pictures.reshape(TRAIN, SIZE // 2, 2, SIZE // 2, 2, 3).mean((2, 4))
    assert np.corrcoef(means[lost].ravel(), small[lost].ravel())[0, 1] > 0.9
    assert np.array_equal(changed("resize=1")[0], before)


def test_blur_has_the_standard_deviations():
    """Of a point, in half of the rows, all from the one to the other."""
    point = constant(0)
    point.pictures[:, SIZE // 2, SIZE // 2] = 255
    spread = changed("blur=0.8-2", data=point)[0][..., 0].sum(1).astype(float)
    away = np.arange(SIZE) - SIZE // 2
    found = ((spread * away**2).sum(1) / spread.sum(1))**0.5
    blurred = found > 0
    assert blurred.mean() == pytest.approx(0.5, abs=0.1)
    assert found[blurred].min() == pytest.approx(0.8, abs=0.1)
    assert found[blurred].max() == pytest.approx(1.9, abs=0.2)  # levels are whole


def test_jpeg_saves_half_of_the_rows_again_with_each_quality():
    """As preprocessing does, which works with blue-green-red."""
    smooth = Data(np.repeat(np.repeat(NOISE.pictures[:, ::8, ::8], 8, 1), 8, 2))
    pictures = changed("jpeg=80-82", data=smooth)[0]
    before = smooth.pictures[ROWS]
    saved = [np.array([recompress(picture[..., ::-1], quality)[..., ::-1] for picture in before])
             for quality in (80, 81, 82)]
    shares = states(pictures, before, *saved)
    assert shares == pytest.approx([1 / 2, 1 / 6, 1 / 6, 1 / 6], abs=0.1)


def test_noise_is_gaussian_and_in_half_of_the_rows():
    """Of the given standard deviation (a rounded normal distribution has 1/12 more variance),
    other in each pixel and row; black and white don't wrap around."""
    pictures = changed("noise=6", data=constant(128))[0].astype(int) - 128
    noisy = pictures.any((1, 2, 3))
    assert noisy.mean() == pytest.approx(0.5, abs=0.1)
    values = pictures[noisy].reshape(noisy.sum(), -1)
    assert values.std() == pytest.approx((36 + 1 / 12)**0.5, rel=0.01)
    assert values.mean() == pytest.approx(0, abs=0.05)
    assert (abs(values) > 12).mean() == pytest.approx(0.037, abs=0.002)
    assert abs(np.corrcoef(values[:20]) - np.eye(20)).max() < 0.1
    assert changed("noise=6", data=constant(0))[0].max() < 60
    assert changed("noise=6", data=constant(255))[0].min() > 195


def test_mixup_mixes_pictures_and_labels_alike():
    """With partners out of all training rows and no others, and shares of the beta distribution.
    Labels are the shares of "tampered"."""
    data = constant(0)
    data.pictures[1::2] = 200  # the tampered ones
    data.pictures[TRAIN:] = 255
    pictures, labels = changed("mixup=0.5", data=data)
    assert labels.dtype == np.float32 and labels.min() >= 0 and labels.max() <= 1
    assert abs(pictures - 200 * labels[:, None, None, None]).max() <= 0.51
    mixed = (labels > 1e-6) & (labels < 1 - 1e-6)
    assert mixed.mean() == pytest.approx(0.5, abs=0.1), "half of the partners are of another class"
    own = np.where(data.labels[ROWS] == 1, labels, 1 - labels)[mixed]
    assert own.mean() == pytest.approx(0.5, abs=0.07)
    assert own.var() == pytest.approx(0.125, abs=0.03)  # of the arcsine distribution


def test_mixup_takes_partners_as_they_are_in_the_same_epoch():
    """Each with its own flips: a mixture is one of changed rows."""
    flipped = changed("flip")[0].astype(float)
    mixed, _ = changed("flip,mixup", rows=np.arange(10))
    for row, picture in enumerate(mixed):
        # the partner is the row that explains the mixture, by least squares
        rest = picture - flipped[row]
        towards = flipped - flipped[row]
        weight = (rest * towards).sum((1, 2, 3)) / np.maximum((towards**2).sum((1, 2, 3)), 1)
        misfit = abs(weight[:, None, None, None] * towards - rest).max((1, 2, 3))
        assert misfit.min() <= 0.6


@pytest.mark.parametrize(("text", "meaning"), [
    ("", "none"), ("none", "none"), ("flip", "flip"), (" noise , flip=both", "flip=both,noise=3"),
    ("mixup,jpeg,shift,rotate", "rotate,shift=8,jpeg=70-95,mixup=0.2"),
    ("blur,crop=0.9,resize", "crop=0.9,resize=0.5-1,blur=0.5-1.5"),
    ("rotate=7.5,jpeg=90", "rotate=7.5,jpeg=90")])
def test_the_text_of_an_augmentation_is_complete_and_in_order(text, meaning):
    """So that the same augmentation has one text, whatever later defaults are."""
    assert canonical(text) == canonical(meaning) == meaning


@pytest.mark.parametrize(("text", "message"), [
    ("flop", "'flop' is no augmentation; possible are flip, rotate,"), ("flip,,noise", "''"),
    ("none,flip", "'none'"), ("flip,flip", "twice"), ("flip=up", "both"),
    ("rotate=90", "0.1 to 45"), ("rotate=nan", "0.1 to 45"), ("shift=0", "1 to 32"),
    ("shift=33", "1 to 32"), ("shift=1.5", "whole"), ("jpeg=95-70", "LOW-HIGH"),
    ("jpeg=0-5", "1 to 100"),
    ("jpeg=70-", "LOW"), ("jpeg=", "e.g. jpeg=70-95"), ("flip=", "'='"), ("noise=x", "0.1 to 64"),
    ("noise=-1", "0.1 to 64"), ("crop=0.4", "0.5 to 1, one or LOW-HIGH"), ("crop=1-0.8", "LOW"),
    ("resize=2", "0.1 to 1"), ("blur=nan", "0.1 to 10"), ("blur=1-", "LOW-HIGH"),
    ("screenshot", "rows have one size"), ("mixup=0", "0.01 to 10"), ("mixup=inf", "0.01 to 10")])
def test_an_impossible_augmentation_is_refused(text, message):
    with pytest.raises(argparse.ArgumentTypeError) as error:
        canonical(text)
    assert message in str(error.value)


@pytest.mark.parametrize("text", ["jpeg=70-95", "resize=0.5-1", "blur=1"])
def test_what_is_done_to_pictures_is_for_raw_pixels_only(text):
    check(f"flip,{text}", "raw")
    check("flip,crop=0.8-1,noise=3", "ela")
    name = text.partition("=")[0]
    for feature in ("ela", "gray_bits", "ela+raw"):
        with pytest.raises(InputError, match=f"--augment {name}: rows of {re.escape(feature)}.*"
                           f"--feature raw.*preprocessing --perturb {name}=") as e:
            check(f"flip,{text}", feature)
        assert e.value.everywhere


def test_a_resumed_epoch_has_the_rows_of_the_whole_one():
    """Through the training loop, from the middle of its second epoch on, with another batch size:
    all rows as in that epoch, which are not those of the first."""
    pytest.importorskip("tensorflow")
    from hpc_deepfake.network.settings import Settings
    from hpc_deepfake.strategies.base import Done, Strategy
    from hpc_deepfake.train.loop import Limits, State, Trainer

    def epoch(number: int, size: int, done: int = 0) -> tuple[np.ndarray, np.ndarray]:
        seen = []

        class Recorder(Strategy):
            def step(self, batches, rows, step, wishes):
                seen.extend(batches)
                return Done(1, rows)

        data = SimpleNamespace(rows=lambda part: ROWS, batch=NOISE.batch, labels=NOISE.labels)
        comm = SimpleNamespace(rank=0, size=1)
        trainer = Trainer(comm, Recorder(comm), data, Settings(batch_size=size, augment=ALL),
                          Limits(9, 0, 0.0, 1), None, False)
        trainer.state = State(epoch=number, rows_done=done)
        assert trainer._epoch()
        return (np.concatenate([batch.pictures for batch in seen]),
                np.concatenate([batch.labels for batch in seen]))

    pictures, labels = epoch(2, 64)
    rest = epoch(2, 50, done=256)
    assert np.array_equal(rest[0], pictures[256:]) and np.array_equal(rest[1], labels[256:])
    assert rest[1].dtype == np.float32
    assert not np.array_equal(epoch(1, 64)[0], pictures)
