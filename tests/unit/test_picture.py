"""Decoding: Pillow's pixels for every file, a reason for every bad one, never a crash."""

from __future__ import annotations

import io
import os
import struct
import zlib
from itertools import product

import cv2
import numpy as np
import pytest
from PIL import Image

from preprocessing import picture
from preprocessing.ela import Parameters, features, features_of_file
from preprocessing.picture import Rejected, decode, decode_with_pillow, read


def scene(width: int, height: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    """Smooth shapes with some noise, as a photograph has; uint8."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (max(2, height // 16), max(2, width // 16), channels), np.uint8)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = random.normal(0, 6, (height, width, channels))
    return (large.reshape(noise.shape) + noise).clip(0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray | Image.Image, kind: str = "JPEG", **options) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_pillow(data: bytes) -> np.ndarray:
    """What Pillow alone says, blue-green-red."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[..., ::-1]


SIZES = [(1, 1), (7, 5), (8, 8), (15, 17), (16, 16), (33, 64), (129, 127), (384, 256), (257, 385)]


@pytest.mark.parametrize("size", SIZES)
def test_jpeg_pixels_are_pillow_s(size):
    """All subsamplings and qualities, progressive and optimised ones too, bit for bit."""
    pixels = scene(*size)
    for quality, subsampling, progressive in product((5, 50, 75, 90, 95, 100), (0, 1, 2),
                                                     (False, True)):
        data = encoded(pixels, quality=quality, subsampling=subsampling, progressive=progressive)
        assert np.array_equal(decode(data), with_pillow(data)), (quality, subsampling, progressive)


def test_plain_jpeg_goes_to_opencv_and_the_rest_to_pillow(monkeypatch):
    """What the test above compares is really the other decoder."""
    monkeypatch.setattr(picture, "decode_with_pillow", lambda data: "pillow")
    rgb = scene(32, 32)
    assert isinstance(decode(encoded(rgb)), np.ndarray)
    assert decode(encoded(rgb[..., 0])) == "pillow"
    assert decode(encoded(Image.fromarray(rgb).convert("CMYK"))) == "pillow"
    assert decode(encoded(rgb, "PNG")) == "pillow"
    assert decode(encoded(rgb)[:-2]) == "pillow"


def kinds() -> dict[str, bytes]:
    """A file of each kind that may turn up."""
    rgb = Image.fromarray(scene(70, 45))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90°
    sixteen = (np.arange(70 * 45).reshape(45, 70) * 20).astype(np.uint16)
    clear = rgb.copy()
    clear.putalpha(128)
    return {
        "grey jpeg": encoded(rgb.convert("L")),
        "cmyk jpeg": encoded(rgb.convert("CMYK")),
        "rotated by exif": encoded(rgb, exif=exif),
        "restart markers": encoded(rgb, restart_marker_blocks=2),
        "rgb jpeg": encoded(rgb, keep_rgb=True),
        "comment and icc": encoded(rgb, comment=b"x" * 500, icc_profile=b"p" * 70_000),
        "trailing bytes": encoded(rgb) + b"padding",
        "png": encoded(rgb, "PNG"),
        "png with alpha": encoded(clear, "PNG"),
        "grey png with alpha": encoded(clear.convert("LA"), "PNG"),
        "palette png": encoded(rgb.quantize(16), "PNG"),
        "palette png with transparency": encoded(rgb.quantize(16), "PNG", transparency=3),
        "1-bit png": encoded(rgb.convert("1"), "PNG"),
        "16-bit png": encoded(Image.fromarray(sixteen), "PNG"),
        "tif": encoded(rgb, "TIFF"),
        "lzw tif": encoded(rgb, "TIFF", compression="tiff_lzw"),
        "16-bit tif": encoded(Image.fromarray(sixteen), "TIFF"),
        "float tif": encoded(Image.fromarray(sixteen.astype(np.float32) / 300), "TIFF"),
        "32-bit tif": encoded(Image.fromarray(sixteen.astype(np.int32) * 3), "TIFF"),
        "cmyk tif": encoded(rgb.convert("CMYK"), "TIFF"),
        "two pages": encoded(rgb, "TIFF", save_all=True, append_images=[rgb.rotate(90)]),
        "bmp": encoded(rgb, "BMP"),
        "gif": encoded(rgb.quantize(32), "GIF"),
        "webp": encoded(rgb, "WEBP"),
        "one pixel": encoded(rgb.crop((0, 0, 1, 1)), "PNG"),
        "a line": encoded(rgb.crop((0, 0, 70, 1)), "TIFF"),
    }


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_gives_pillow_s_pixels_and_proper_features(kind):
    data = kinds()[kind]
    pixels = decode(data)
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    assert pixels.flags.c_contiguous
    if "16-bit" not in kind and "32-bit" not in kind:
        assert np.array_equal(pixels, with_pillow(data))
    for feature in features(data, ("ela", "raw"), Parameters()):
        assert feature.dtype == np.uint8 and feature.shape == (128, 128, 3)


def test_exif_does_not_turn_the_picture():
    assert decode(kinds()["rotated by exif"]).shape == (45, 70, 3)


def test_sixteen_bits_keep_the_high_ones():
    values = (np.arange(70 * 45).reshape(45, 70) * 20).astype(np.uint16)
    for kind in ("16-bit png", "16-bit tif"):
        assert np.array_equal(decode(kinds()[kind])[..., 0], values >> 8)


def png_header(width: int, height: int) -> bytes:
    """A PNG file that says it is that large and holds nothing."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(
            kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0,
                                                              0))
            + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b""))


def sized_jpeg(width: int, height: int) -> bytes:
    """A JPEG file whose frame header lies about the size."""
    data = bytearray(encoded(scene(16, 16)))
    at = data.index(b"\xff\xc0")
    data[at + 5:at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def bad_files() -> dict[str, tuple[bytes, str]]:
    rgb = scene(64, 48)
    jpeg, png, tif = encoded(rgb), encoded(rgb, "PNG"), encoded(rgb, "TIFF")
    return {
        "empty": (b"", "empty file"),
        "one byte": (b"\xff", "not a picture"),
        "text": (b"this is no picture\n" * 50, "not a picture"),
        "start marker only": (b"\xff\xd8\xff\xd9", "."),
        "truncated jpeg": (jpeg[:len(jpeg) // 2], "[Tt]runcated"),
        "jpeg header only": (jpeg[:200], "."),
        "truncated png": (png[:len(png) // 2], "."),
        "truncated tif": (tif[:len(tif) // 2], "."),
        "png of 10^10 pixels": (png_header(100_000, 100_000), "100000×100000 pixels are too many"),
        "png of 2^31 a side": (png_header(2**31 - 1, 2**31 - 1), "too many|."),
        "wide png": (png_header(70_000, 10), "70000×10 pixels are too many"),
        "jpeg of 4·10^9 pixels": (sized_jpeg(65_000, 65_000), "65000×65000 pixels are too many"),
        "jpeg without height": (sized_jpeg(16, 0), "."),
        "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
                       "not a picture"),
        "bomb in gzip": (b"\x1f\x8b\x08" + b"\0" * 100, "not a picture"),
    }


@pytest.mark.parametrize("kind", bad_files())
def test_bad_files_are_rejected_with_a_reason(kind, tmp_path):
    data, reason = bad_files()[kind]
    file = tmp_path / "x.jpg"
    file.write_bytes(data)
    with pytest.raises(Rejected, match=reason) as caught:
        features_of_file(os.fsencode(file), ("ela",), Parameters())
    assert "\n" not in str(caught.value) and "0x" not in str(caught.value)


def test_no_program_is_started_for_a_picture(monkeypatch):
    """PostScript in a file called .jpg must not reach ghostscript."""
    import subprocess

    def refuse(*args, **kwargs):
        raise AssertionError(f"started {args}")

    monkeypatch.setattr(subprocess, "check_call", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(Rejected, match="not a picture"):
        decode(bad_files()["postscript"][0])


def test_odd_files_are_rejected_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    for name, reason in (("pipe", "not a regular file"), ("folder", "not a regular file"),
                         ("gone", "cannot be opened: No such file"),
                         ("loop", "cannot be opened: Too many levels"),
                         ("missing", "cannot be opened: No such file")):
        with pytest.raises(Rejected, match=reason):
            read(os.fsencode(tmp_path / f"{name}.jpg"))
    with pytest.raises(Rejected, match="not a regular file"):
        read("/dev/zero")


def test_unreadable_files_are_rejected(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Rejected, match="cannot be opened: Permission denied"):
        read(tmp_path / "x.jpg")


def test_files_larger_than_the_limit_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(picture, "MAX_BYTES", 1 << 20)
    file = tmp_path / "x.tif"
    file.write_bytes(b"x" * (1 << 20))
    assert len(read(file)) == 1 << 20
    with open(file, "ab") as more:
        more.write(b"x")
    with pytest.raises(Rejected, match="larger than 1 MiB"):
        read(file)


def test_a_large_picture_within_the_limits_is_taken():
    """Larger than Pillow's own limit for a warning."""
    data = encoded(Image.new("1", (12_000, 9_000)), "PNG")
    assert decode(data).shape == (9_000, 12_000, 3)


def test_damaged_files_give_pixels_or_a_reason():
    """Flipped bytes anywhere: nothing but pixels of the right kind, or Rejected."""
    random = np.random.default_rng(0)
    rejected = 0
    originals = {kind: data for kind, data in kinds().items() if len(data) < 40_000}
    for data in originals.values():
        for _ in range(12):
            damaged = bytearray(data)
            for at in random.integers(0, len(data), random.integers(1, 6)):
                damaged[at] = random.integers(0, 256)
            try:
                pixels = features(bytes(damaged), ("ela", "raw"), Parameters())
            except Rejected as reason:
                rejected += 1
                assert str(reason)
            else:
                assert all(one.shape == (128, 128, 3) and one.dtype == np.uint8
                           for one in pixels)
    assert rejected > 20


def test_pillow_reference_is_the_same_code_path_for_jpeg():
    data = encoded(scene(48, 40))
    assert np.array_equal(decode_with_pillow(data), decode(data))
