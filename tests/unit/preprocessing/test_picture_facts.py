"""Facts of picture files from their first bytes."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hpc_deepfake.audit import facts as audited
from preprocessing import facts
from preprocessing.facts import Facts

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8))


def saved(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    NOISE.convert(mode).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_the_quality_of_every_usual_jpeg(mode: str) -> None:
    for quality in range(1, 101):
        data = saved("JPEG", mode, quality=quality, progressive=quality % 2 == 0)
        assert facts.of(data) == Facts(50, 30, "JPEG", quality)
        assert facts.of(data[:700]) == facts.of(data)  # the head is enough


def test_the_nearest_quality_of_another_table_is_that_of_the_audit(tmp_path: Path) -> None:
    for first in (1, 40):
        tables = [[first, *[7 + number // 2 for number in range(63)]]] * 2
        (tmp_path / "own.jpg").write_bytes(data := saved("JPEG", qtables=tables))
        found = audited.read(tmp_path / "own.jpg")
        assert found is not None and 1 < facts.of(data).quality == found.quality < 100


def test_tables_of_16_bits_and_a_table_that_is_cut_off() -> None:
    data = saved("JPEG", quality=30)
    at = data.index(b"\xff\xdb")
    table = data[at + 5:at + 69]
    wide = b"\xff\xdb" + struct.pack(">HB64H", 131, 0x10, *table)
    assert facts.of(data[:at] + wide + data[at + 69:]) == Facts(50, 30, "JPEG", 30)
    assert facts.of(data[:at + 40]) == Facts(0, 0, "JPEG", 0)
    assert facts.of(b"\xff\xd8") == Facts(0, 0, "JPEG", 0)


@pytest.mark.parametrize("kind, expected", [
    ("PNG", "PNG"), ("TIFF", "TIFF"), ("BMP", "BMP"), ("GIF", "GIF"), ("WEBP", "WebP")])
def test_size_and_format_of_other_pictures(kind: str, expected: str) -> None:
    assert facts.of(saved(kind)) == Facts(50, 30, expected, 0)
    assert facts.of(saved(kind)[:14]).format == expected  # damaged: its kind is still known


@pytest.mark.parametrize("start, expected", [
    (b"\0\0\0\x18ftypisom", "MP4"), (b"\0\0\0\x18ftypheic", "HEIF"),
    (b"\0\0\0\x1cftypavif", "AVIF"), (b"RIFF....AVI ", "AVI"),
    (b"\x1aE\xdf\xa3", "Matroska"), (b"\0\0\1\xba", "MPEG"),
    (b"<html>", "unknown"), (b"", "unknown")])
def test_the_format_by_the_first_bytes(start: bytes, expected: str) -> None:
    assert facts.of(start) == Facts(0, 0, expected, 0)


def test_the_numbers_of_formats_are_those_of_stored_files() -> None:
    assert facts.FORMATS[:14] == ("unknown", "JPEG", "PNG", "TIFF", "BMP", "GIF", "WebP",
                                  "JPEG 2000", "AVIF", "HEIF", "MP4", "AVI", "Matroska", "MPEG")


def test_the_digest_of_contents_is_that_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert facts.digest(b"abc") == facts.digest_of_file(tmp_path / "file") \
        == bytes.fromhex("ba7816bf8f01cfea414140de5dae2223")  # FIPS 180-2, appendix B.1


@pytest.mark.parametrize(("kind", "options"), [
    ("JPEG", {"quality": 37}), ("JPEG", {"quality": 91, "subsampling": 0}), ("PNG", {}),
    ("WEBP", {}), ("TIFF", {}), ("GIF", {}), ("BMP", {}), ("JPEG2000", {})])
def test_an_image_that_pillow_has_opened_has_the_facts_of_its_file(
        kind: str, options: dict[str, Any]) -> None:
    data = saved(kind, **options)
    with Image.open(io.BytesIO(data)) as image:
        assert facts.of_image(image) == facts.of(data)
        assert facts.of_image(image.convert("RGB").rotate(90)) is None, "made by a program"
    assert facts.of_image(NOISE) is None
