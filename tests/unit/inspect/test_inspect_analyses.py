"""Each analysis of ``inspect`` finds what was done to a picture, and nothing where nothing was."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from hpc_deepfake.inspect import (
    analysis,
    blocks,
    clones,
    double,
    drawn,
    noise,
    tables,
    thumbnail,
)
from preprocessing import facts

REGION = (slice(64, 160), slice(128, 256))  # rows and columns of what is pasted, on the grid


def texture(seed: int, height: int = 256, width: int = 384) -> np.ndarray:
    """Detail of all sizes, as a photograph has, in muted colours: uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for size in (4, 8, 16, 32, 64, 128):
        rough = rng.normal(0, 1, (size, size * width // height, 3)).astype(np.float32)
        rough = 0.3 * rough + 0.7 * rough.mean(2, keepdims=True)
        total += 40 * size**-0.4 * cv2.resize(rough, (width, height),
                                              interpolation=cv2.INTER_CUBIC)
    return (128 + total).clip(5, 250).astype(np.uint8)


def jpeg(pixels: np.ndarray, quality: int, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, **options)
    return file.getvalue()


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).copy()


def overlap(mask: np.ndarray | None) -> float:
    """Intersection over union of an area found with ``REGION``."""
    if mask is None:
        return 0.0
    true = np.zeros(mask.shape, bool)
    true[REGION[0].start // 8:REGION[0].stop // 8, REGION[1].start // 8:REGION[1].stop // 8] = True
    return float((mask & true).sum() / (mask | true).sum())


def test_qualities_from_50_to_98_are_read_from_the_tables() -> None:
    pixels = texture(1, 48, 64)
    for quality in range(50, 99):
        data = jpeg(pixels, quality)
        stored = np.array(Image.open(io.BytesIO(data)).quantization[0]).reshape(8, 8)
        assert tables.quality_of(stored) == tables.Quality(quality, True, 0.0)
        assert facts.of(data).quality == quality  # what the data files have says the same


def test_tables_of_others_are_said_to_be_near_one_only() -> None:
    table = tables.ijg(80).copy()
    table[4:, 4:] += 9
    assert not tables.quality_of(table).exact
    assert abs(tables.quality_of(table).quality - 80) <= 3
    assert tables.quality_of(tables.ijg(66, chroma=True), chroma=True).quality == 66


@pytest.mark.parametrize("quality", [60, 90])
def test_coefficients_are_those_that_the_file_holds(quality: int) -> None:
    data = jpeg(texture(2), quality)
    luma = blocks.luminance(data, decoded(data)[..., ::-1])
    steps = tables.ijg(quality)[:, None, :]
    off = np.abs(np.rint(blocks.coefficients(luma) / steps) * steps - blocks.coefficients(luma))
    assert np.percentile(off[~blocks.clipped(luma)[:, None, :].repeat(8, 1)], 99.9) < 1.3
    shifted = blocks.coefficients(luma, 1, 3, 3)
    assert np.abs(np.rint(shifted / steps) * steps - shifted).mean() > 3 * off.mean()


def test_a_selection_of_blocks_is_one_of_all_blocks() -> None:
    luma = texture(3)[..., 1]
    assert np.array_equal(blocks.coefficients(luma, 3), blocks.coefficients(luma)[::3, :, ::3])
    height, width = 8000, 6500
    step = blocks.step_for(height, width)
    assert (height // 8 // step) * (width // 8 // step) <= blocks.MOST and step > 1
    assert blocks.step_for(512, 512) == 1


@pytest.mark.parametrize(("first", "second"), [(60, 85), (75, 90), (50, 95)])
def test_double_compression_is_recognised_with_its_first_steps(first: int, second: int) -> None:
    result = analysis.analyse(jpeg(decoded(jpeg(texture(4), first)), second))
    assert result.double is not None and result.double.found
    assert result.double.quality is not None and abs(result.double.quality - first) <= 1
    exact = [one.first == tables.ijg(first)[one.place] for one in result.double.frequencies]
    assert sum(exact) >= 7


@pytest.mark.parametrize("quality", [65, 85, 100])
def test_a_picture_saved_once_has_nothing_that_stands_out(quality: int) -> None:
    result = analysis.analyse(jpeg(texture(5), quality))
    assert result.double is not None and not result.double.found
    assert result.double.without is None
    assert result.ghosts is not None and result.ghosts.ghost is None
    assert not result.drawn.mostly and result.clones is not None
    assert result.clones.found == []


def test_the_area_without_traces_of_the_first_compression_is_found() -> None:
    pixels = decoded(jpeg(texture(6), 65))
    pixels[REGION] = texture(7)[REGION]
    result = analysis.analyse(jpeg(pixels, 92))
    assert result.double is not None and result.double.found
    assert overlap(result.double.without) > 0.7


def test_a_ghost_is_found_where_it_is_at_its_quality() -> None:
    pixels = texture(8)
    pixels[REGION] = decoded(jpeg(texture(9), 60))[REGION]
    result = analysis.analyse(jpeg(pixels, 92))
    assert result.ghosts is not None and result.ghosts.ghost is not None
    assert result.ghosts.ghost.quality == 60 and overlap(result.ghosts.ghost.mask) > 0.6


def test_smooth_places_have_no_ghost() -> None:
    pixels = texture(10)
    pixels[:128] = np.linspace(120, 180, 128)[:, None, None].astype(np.uint8)
    result = analysis.analyse(jpeg(pixels, 75))
    assert result.ghosts is not None and result.ghosts.ghost is None


def test_a_cropped_jpeg_is_recognised_in_a_bitmap() -> None:
    result = analysis.analyse(png(decoded(jpeg(texture(11), 75))[5:, 3:]))
    assert result.grid == (3, 5)  # 8 - 5 rows and 8 - 3 columns before the first whole block
    assert result.double is not None and result.double.found
    assert result.double.quality is not None and abs(result.double.quality - 75) <= 1
    plain = analysis.analyse(png(texture(11)))
    assert plain.double is not None and not plain.double.found


def page() -> np.ndarray:
    """Text, a table of flat boxes, and lines of text that occur twice: uint8 (400, 600, 3)."""
    sheet = Image.new("RGB", (600, 400), (250, 250, 250))
    draw = ImageDraw.Draw(sheet)
    for row in range(12):
        draw.text((20, 12 + 21 * row), f"{row % 6} Line of a page with words that come again",
                  (30, 30, 30), ImageFont.load_default(15))
    for number in range(12):
        left, top = 20 + 90 * (number % 6), 280 + 56 * (number // 6)
        draw.rectangle((left, top, left + 70, top + 40), (20 * number, 90, 210), 0)
    return np.asarray(sheet).copy()


@pytest.mark.parametrize("quality", [None, 90, 75])
def test_of_a_drawn_page_nothing_is_claimed(quality: int | None) -> None:
    pixels = page()
    result = analysis.analyse(png(pixels) if quality is None else jpeg(pixels, quality))
    assert result.drawn.mostly
    assert (result.double, result.ghosts, result.clones) == (None, None, None)


def test_drawn_places_are_left_out_and_the_photograph_beside_them_is_analysed() -> None:
    """A photograph of quality 88 in a page: the traces, on its own grid, are found; letters that
    occur twice are no copies, and a copied area of the photograph is."""
    pixels, here, there = moved(texture(12), 0, 1)
    sheet = np.full((376, 504, 3), 250, np.uint8)
    sheet[3:259, 5:389] = decoded(jpeg(pixels, 88))
    sheet[262:374, :] = page()[5:117, :504]
    result = analysis.analyse(png(sheet))
    assert drawn.SOME <= result.drawn.share < drawn.MOST
    assert result.grid == (3, 5) and result.double is not None and result.double.found
    assert result.double.quality is not None and abs(result.double.quality - 88) <= 1
    assert result.clones is not None and len(result.clones.found) == 1
    ends = result.clones.found[0].first.mean(0), result.clones.found[0].second.mean(0)
    assert np.linalg.norm(ends[0] - here - (5, 3)) < 30
    assert np.linalg.norm(ends[1] - there - (5, 3)) < 30
    luma = cv2.cvtColor(sheet, cv2.COLOR_RGB2GRAY)
    assert len(clones.analyse(luma).found) > 1  # the letters, where drawn places aren't known
    assert result.clones.drawn


def test_a_smooth_drawing_was_no_jpeg_file() -> None:
    rows, columns = np.mgrid[:500, :700]
    result = analysis.analyse(png(np.stack([columns * 255 // 700, rows * 255 // 500, (
        rows + columns) * 255 // 1200], -1).astype(np.uint8)))
    assert result.double is not None and not result.double.found


def test_steps_of_all_sizes_are_no_table() -> None:
    def found(*steps: int) -> bool:
        return double._agree([double.Frequency((0, 1), 1, step, 1.0, 1.0, *[np.zeros(3)] * 3)
                              for step in steps])
    assert found(11, 12, 14, 12, 10, 16, 14, 13, 14) and found(5, 5, 5, 40, 5)
    assert not found(2, 44, 3, 4, 30, 3, 16, 54, 22)


def moved(pixels: np.ndarray, angle: float, scale: float) -> tuple[np.ndarray, np.ndarray,
                                                                  np.ndarray]:
    """The picture with a copy of an area of 90 pixels at another place, and both centres x, y."""
    here, there = np.array([90.0, 110.0]), np.array([280.0, 140.0])
    move = cv2.getRotationMatrix2D((90.0, 110.0), angle, scale)
    move[:, 2] += there - here
    mask = np.zeros(pixels.shape[:2], np.uint8)
    cv2.circle(mask, (90, 110), 45, 255, -1)
    size = pixels.shape[1::-1]
    inside = cv2.warpAffine(mask, move, size)[..., None] / 255
    copy = cv2.warpAffine(pixels, move, size, flags=cv2.INTER_CUBIC)
    return (pixels * (1 - inside) + copy * inside).astype(np.uint8), here, there


@pytest.mark.parametrize(("angle", "scale"), [(0, 1), (25, 1.1)])
def test_a_copied_area_is_joined_with_its_source(angle: float, scale: float) -> None:
    pixels, here, there = moved(texture(12), angle, scale)
    found = clones.analyse(cv2.cvtColor(decoded(jpeg(pixels, 90)), cv2.COLOR_RGB2GRAY)).found
    assert len(found) == 1
    ends = found[0].first.mean(0), found[0].second.mean(0)
    assert np.linalg.norm(ends[0] - here) < 30 and np.linalg.norm(ends[1] - there) < 30
    assert found[0].scale == pytest.approx(scale, rel=0.05)
    assert abs(found[0].angle) == pytest.approx(angle, abs=3)


def test_things_that_are_only_alike_are_no_clones() -> None:
    """Windows of the same form, each with a texture of its own: they match, but not in detail."""
    pixels = np.ascontiguousarray(texture(13)[..., 0])
    fine = np.random.default_rng(0).normal(0, 9, pixels.shape)
    for row in range(30, 230, 50):
        for column in range(30, 350, 50):
            cv2.rectangle(pixels, (column, row), (column + 26, row + 32), 220, 2)
            cv2.line(pixels, (column + 13, row), (column + 13, row + 32), 220, 2)
    assert clones.analyse((pixels + fine).clip(0, 255).astype(np.uint8)).found == []


def test_noise_is_measured_in_levels_place_by_place() -> None:
    rng = np.random.default_rng(14)
    luma = np.full((256, 384), 128.0) + rng.normal(0, 2, (256, 384))
    luma[128:, 192:] += rng.normal(0, 6, (128, 192))
    result = noise.analyse(luma.clip(0, 255).round().astype(np.uint8))
    height, width = result.levels.shape
    loud = result.levels[height // 2:, width // 2:]
    assert np.median(loud) == pytest.approx((2**2 + 6**2) ** 0.5, rel=0.1)
    assert np.median(result.levels[:height // 2]) == pytest.approx(2, rel=0.1)
    assert result.residual.shape == luma.shape and result.spread > 2


def test_an_old_thumbnail_is_told_from_that_of_the_picture() -> None:
    pixels = texture(15)
    small = jpeg(cv2.resize(pixels, (160, 107), interpolation=cv2.INTER_AREA), 80)
    same = thumbnail.compare(small, pixels[..., ::-1])
    assert isinstance(same, thumbnail.Comparison) and same.verdict == "same"
    bars = np.zeros((120, 160, 3), np.uint8)
    bars[7:114] = decoded(small)
    barred = thumbnail.compare(jpeg(bars, 80), pixels[..., ::-1])
    assert isinstance(barred, thumbnail.Comparison) and barred.verdict == "same"
    other = thumbnail.compare(small, texture(16)[..., ::-1])
    assert isinstance(other, thumbnail.Comparison) and other.verdict == "changed"
    added = pixels.copy()
    cv2.circle(added, (250, 120), 40, (250, 20, 20), -1)
    part = thumbnail.compare(small, added[..., ::-1])
    assert isinstance(part, thumbnail.Comparison) and part.verdict != "same"
    turned = thumbnail.compare(jpeg(np.rot90(decoded(small)), 80), pixels[..., ::-1])
    assert isinstance(turned, thumbnail.Comparison) and (turned.verdict, turned.turned) == (
        "same", 1)
    assert isinstance(thumbnail.compare(b"no picture", pixels), str)


@pytest.mark.parametrize("size", [(1, 1), (2, 3000), (20, 20), (47, 60), (64, 64)])
def test_small_pictures_are_analysed_as_far_as_they_can_be(size: tuple[int, int]) -> None:
    for data in (jpeg(texture(17)[:size[0] % 257, :size[1] % 385], 80),
                 png(np.zeros((*size, 3), np.uint8))):
        result = analysis.analyse(data)
        short = min(result.pixels.shape[:2])
        assert (result.noise is None) == (short < noise.LEAST)
        assert result.double is None or short >= analysis.SMALLEST


def test_an_expected_histogram_has_the_gaps_of_the_first_step() -> None:
    """Steps 10, then 4: multiples of 10 fall into the bins 0, ±2, ±3, ±5, none into ±1 and ±4."""
    values = np.random.default_rng(18).laplace(0, 30, 200_000)
    fine = double._histogram(np.rint(values), double.REACH).astype(float)
    expected = double._expected(fine, 10, 4, 8)
    assert expected[8 + 4] < 0.05 * expected[8 + 5] and expected[8 - 1] < 0.05 * expected[8 - 2]
    noisy = np.rint(values / 10) * 10 + np.random.default_rng(1).normal(0, 0.5, len(values))
    counted = double._histogram(np.rint(noisy / 4), 8)
    assert np.abs(counted / counted.sum() - expected).max() < 0.01
