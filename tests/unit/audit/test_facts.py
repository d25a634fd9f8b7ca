"""Facts read from picture files: right for good files, and no exception for damaged ones."""

from __future__ import annotations

import os
import re
import time

import numpy as np
import pytest
from picture_files import picture, save
from PIL import Image

from hpc_deepfake.audit import facts


def test_facts_of_a_jpeg_file(tmp_path):
    exif = Image.Exif()
    exif[305] = "Brush\n 2.0"
    save(tmp_path / "a.jpg", picture(1), quality=83, subsampling="4:2:2", progressive=True,
         exif=exif, comment=b"made \x00 by me", icc_profile=b"profile")
    read = facts.read(tmp_path / "a.jpg")
    size = (tmp_path / "a.jpg").stat().st_size
    assert read == facts.Facts(
        "JPEG", "progressive", "RGB", "quality 83", "4:2:2", "jfif exif icc_profile comment",
        "Brush 2.0", "made by me", 83, 96, 64, size, size / (96 * 64))


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_chroma_subsampling(tmp_path, subsampling):
    save(tmp_path / "a.jpg", picture(1), subsampling=subsampling)
    assert facts.read(tmp_path / "a.jpg").subsampling == subsampling


def test_a_grey_jpeg_file_has_no_chroma(tmp_path):
    save(tmp_path / "a.jpg", picture(1)[..., 0], quality=61)
    read = facts.read(tmp_path / "a.jpg")
    assert (read.mode, read.subsampling, read.quantisation) == ("L", "none", "quality 61")


def test_tables_of_other_encoders_are_distinguished(tmp_path):
    names = set()
    for step in (0, 1):
        tables = [[6 + step] * 64, [9] * 64]
        save(tmp_path / f"{step}.jpg", picture(1), qtables=tables)
        read = facts.read(tmp_path / f"{step}.jpg")
        assert re.fullmatch(rf"own [0-9a-f]{{6}}, near quality {read.quality:.0f}",
                            read.quantisation)
        assert 85 <= read.quality <= 97  # all its steps about 6
        names.add(read.quantisation)
    assert len(names) == 2


@pytest.mark.parametrize("kind, options, coding", [
    ("TIFF", {"compression": "tiff_lzw"}, "tiff_lzw"), ("TIFF", {}, "raw"), ("PNG", {}, "none"),
    ("BMP", {}, "0"), ("GIF", {}, "none"), ("WEBP", {}, "none")])
def test_the_format_follows_from_the_content(tmp_path, kind, options, coding):
    save(tmp_path / "a.jpg", picture(1), format=kind, **options)
    read = facts.read(tmp_path / "a.jpg")
    assert (read.format, read.width, read.height) == (kind, 96, 64)
    assert (read.coding, read.quantisation) == (coding, "none") and np.isnan(read.quality)


@pytest.mark.parametrize("start, name", [
    (b"\0\0\0\x18ftypisom", "MP4"), (b"\x1a\x45\xdf\xa3", "Matroska"),
    (b"RIFF\0\0\0\0AVI LIST", "AVI"), (b"\0\0\x01\xba", "MPEG")])
def test_videos_have_a_format_and_a_size_only(tmp_path, start, name):
    (tmp_path / "a.mp4").write_bytes(start + bytes(100))
    read = facts.read(tmp_path / "a.mp4")
    assert read.format == name and read.size == len(start) + 100 and np.isnan(read.width)


def test_broken_files_have_a_format_of_their_own(tmp_path):
    save(tmp_path / "good.jpg", picture(1))
    good = (tmp_path / "good.jpg").read_bytes()
    for number, content in enumerate([b"", b"\xff", b"\xff\xd8", good[:100], b"II*\0", b"GIF89a",
                                      b"\x89PNG\r\n\x1a\n" + bytes(50), bytes(999)]):
        (tmp_path / "a.jpg").write_bytes(content)
        read = facts.read(tmp_path / "a.jpg")
        assert read.format == facts.UNREADABLE and read.size == len(content), number


def test_any_cut_or_flipped_byte_of_the_headers_gives_facts(tmp_path):
    """Whatever a damaged file contains, ``read`` raises no exception."""
    random = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP"):
        save(tmp_path / "whole", picture(1, 24, 16), format=kind)
        whole = bytearray((tmp_path / "whole").read_bytes())
        for _ in range(60):
            damaged = whole.copy()
            for at in random.integers(0, min(len(whole), 700), 3):
                damaged[at] = random.integers(256)
            (tmp_path / "a").write_bytes(damaged[:random.integers(1, len(whole))])
            assert isinstance(facts.read(tmp_path / "a"), facts.Facts)


def test_what_is_not_a_regular_file_has_no_facts(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "pipe"):
        assert facts.read(path) is None


def test_an_empty_large_jpeg_file_is_not_searched_to_its_end(tmp_path):
    with open(tmp_path / "a.jpg", "wb") as file:
        file.write(b"\xff\xd8")
        file.truncate(400 << 20)
    start = time.process_time()
    assert facts.read(tmp_path / "a.jpg").format == facts.UNREADABLE
    assert time.process_time() - start < 10  # searching all of it takes a minute
