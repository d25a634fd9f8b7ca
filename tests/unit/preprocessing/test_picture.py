"""Decoding: the pixels of Pillow for every file, a reason for every bad file, never a crash."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import traceback
import zlib
from functools import cache
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from speed import limit

from preprocessing import picture
from preprocessing.ela import FEATURES, Parameters, features, features_of_file
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
    """The pixels of Pillow alone, blue-green-red."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[..., ::-1]


SIZES = [(1, 1), (7, 5), (8, 8), (15, 17), (16, 16), (33, 64), (129, 127), (384, 256), (257, 385)]


@pytest.mark.parametrize("size", SIZES)
def test_jpeg_pixels_are_pillow_s(size):
    """All subsamplings and qualities, also progressive and optimised files, bit for bit."""
    pixels = scene(*size)
    for quality, subsampling, progressive in product((5, 50, 75, 90, 95, 100), (0, 1, 2),
                                                     (False, True)):
        data = encoded(pixels, quality=quality, subsampling=subsampling, progressive=progressive)
        assert np.array_equal(decode(data), with_pillow(data)), (quality, subsampling, progressive)


def test_plain_jpeg_goes_to_opencv_and_the_rest_to_pillow(monkeypatch):
    """The test above really compares two decoders."""
    monkeypatch.setattr(picture, "decode_with_pillow", lambda data: "pillow")
    rgb = scene(32, 32)
    assert isinstance(decode(encoded(rgb)), np.ndarray)
    assert decode(encoded(rgb[..., 0])) == "pillow"
    assert decode(encoded(Image.fromarray(rgb).convert("CMYK"))) == "pillow"
    assert decode(encoded(rgb, "PNG")) == "pillow"
    assert decode(encoded(rgb)[:-2]) == "pillow"


def kinds() -> dict[str, bytes]:
    """A file of each kind."""
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
    if "16-bit" not in kind:
        assert np.array_equal(pixels, with_pillow(data))
    for feature in features(data, ("ela", "raw"), Parameters()):
        assert feature.dtype == np.uint8 and feature.shape == (128, 128, 3)


def test_exif_does_not_rotate_the_picture():
    assert decode(kinds()["rotated by exif"]).shape == (45, 70, 3)


def test_sixteen_bits_keep_the_high_ones():
    values = (np.arange(70 * 45).reshape(45, 70) * 20).astype(np.uint16)
    for kind in ("16-bit png", "16-bit tif"):
        assert np.array_equal(decode(kinds()[kind])[..., 0], values >> 8)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int = 8, colour: int = 2, pixels: bytes | None = None,
        extra: bytes = b"") -> bytes:
    """A PNG file with any header; ``pixels`` (rows with their filter bytes) default to zeros."""
    if pixels is None:
        packer = zlib.compressobj(1)
        row = bytes(1 + (width * depth * {0: 1, 2: 3, 4: 2, 6: 4}[colour] + 7) // 8)
        packed = b"".join([packer.compress(row) for _ in range(height)] + [packer.flush()])
    else:
        packed = zlib.compress(pixels)
    return (b"\x89PNG\r\n\x1a\n"
            + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
            + extra + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b""))


def png_header(width: int, height: int) -> bytes:
    """A PNG file with a header of that size and no pixels."""
    return png(width, height, pixels=b"\0" * 1000)


def tiff(width: int, height: int, bits: list[int], photometric: int, data: bytes,
         **more: int | list[int]) -> bytes:
    """A little-endian TIFF file of one strip, or with any tags (``t322=…``) in their place."""
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 277: len(bits)}
    tags |= {int(name[1:]): value for name, value in more.items()}
    place, length = (324, 325) if 324 in tags else (273, 279)
    tags |= {place: 0, length: len(data)}
    end = 8 + 2 + 12 * len(tags) + 4
    entries, tail = b"", b""
    for tag, value in sorted(tags.items()):
        values = value if isinstance(value, list) else [value]
        kind, form = (3, "H") if tag in (258, 262, 277, 320, 338, 339) else (4, "I")
        packed = struct.pack(f"<{len(values)}{form}", *values)
        if len(packed) > 4:
            packed, tail = struct.pack("<I", end + len(tail)), tail + packed
        entries += struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    pointer = struct.pack("<HHII", place, 4, 1, 0)
    entries = entries.replace(pointer, pointer[:8] + struct.pack("<I", end + len(tail)))
    return (b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0" * 4 + tail + data)


def sized_jpeg(width: int, height: int, **options) -> bytes:
    """A JPEG file with a wrong size in its frame header."""
    image = options.pop("image", scene(16, 16))
    data = bytearray(encoded(image, **options))
    at = data.index(b"\xff\xc2" if options.get("progressive") else b"\xff\xc0")
    data[at + 5:at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def hidden_size_jpeg() -> bytes:
    """900 million pixels for libjpeg, for which marker 01 has no length. A parser that expects a
    length skips the frame header and finds another one of 16×16."""
    data = sized_jpeg(30_000, 30_000, progressive=True)
    at = data.index(b"\xff\xc2")
    data = data[:at] + b"\xff\x01" + data[at:-2]
    led_to = at + 2 + 0xFFC2
    return (data.ljust(led_to, b"\0") + b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, 16, 16, 3)
            + b"\0" * 9 + b"\xff\xd9")


def many_scans(count: int, width: int = 16, height: int = 16) -> bytes:
    """A JPEG file with its last scan repeated, ``count`` scans in all."""
    data = sized_jpeg(width, height, progressive=True)
    last = data[data.rindex(b"\xff\xda"):-2]
    return data[:-2] + last * (count - data.count(b"\xff\xda")) + b"\xff\xd9"


def test_cmyk_jpeg_has_its_colours():
    """Adobe stores inverted ink; otherwise red would become its negative."""
    rgb = np.zeros((32, 64, 3), np.uint8)
    rgb[:, :32], rgb[:, 32:] = (200, 30, 60), (20, 180, 240)
    data = encoded(Image.fromarray(rgb).convert("CMYK"), quality=98)
    assert b"Adobe" in data
    assert np.abs(decode(data)[..., ::-1].astype(int) - rgb).max() <= 6


def colours() -> dict[str, tuple[bytes, list[list[int]]]]:
    """Files of two pixels in unusual modes, and what their red, green and blue must be."""
    wide = struct.pack(">6H", 0x12FF, 0x3400, 0x56FF, 0xFFFF, 0x0100, 0x00FF)
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putdata([1, 0])
    table = [value * 257 for plane in ((10, 200), (20, 100), (30, 50))
             for value in (*plane, *[0] * 254)]
    little = struct.unpack(">6H", wide)
    high, second = [0x12, 0x34, 0x56], [0xFF, 1, 0]
    first = [[200, 100, 50], [10, 20, 30]]
    return {
        "16-bit rgb png": (png(2, 1, 16, 2, b"\0" + wide), [high, second]),
        "16-bit rgba png": (png(2, 1, 16, 6, b"\0" + wide[:6] + b"\1\2" + wide[6:] + b"\0\0"),
                            [high, second]),
        "16-bit grey png with alpha": (png(2, 1, 16, 4, b"\0" + wide[:2] + b"\0\0" + wide[2:4]
                                           + b"\0\0"), [[0x12] * 3, [0x34] * 3]),
        "16-bit rgb tif": (tiff(2, 1, [16] * 3, 2, struct.pack("<6H", *little)), [high, second]),
        "12-bit tif": (tiff(2, 1, [12], 1, b"\xff\xf1\x23"), [[0xFF] * 3, [0x12] * 3]),
        "grey tif with alpha": (tiff(2, 1, [8, 8], 1, bytes([50, 0, 9, 99]), t338=2),
                                [[50] * 3, [9] * 3]),
        "grey tif multiplied by alpha": (tiff(2, 1, [8, 8], 1, bytes([50, 100, 9, 255]), t338=1),
                                         [[127] * 3, [9] * 3]),
        "rgb tif multiplied by alpha": (tiff(2, 1, [8] * 4, 2, bytes([50, 100, 20, 100, 9, 8, 7,
                                                                      255]), t338=1),
                                        [[127, 255, 51], [9, 8, 7]]),
        "palette tif with alpha": (tiff(2, 1, [8, 8], 3, bytes([1, 0, 0, 255]), t338=2,
                                        t320=table), first),
        "palette png": (encoded(palette, "PNG"), first),
        "palette png, one colour clear": (encoded(palette, "PNG", transparency=1), first),
        "palette png, levels of clear": (encoded(palette, "PNG", transparency=b"\x80\0"), first),
        "gif, one colour clear": (encoded(palette, "GIF", transparency=1), first),
        "rgb png, one colour clear": (encoded(palette.convert("RGB"), "PNG",
                                              transparency=(10, 20, 30)), first),
        "1-bit tif, white is zero": (tiff(2, 1, [1], 0, b"\x40"), [[255] * 3, [0] * 3]),
    }


@pytest.mark.parametrize("kind", colours())
def test_unusual_modes_give_the_right_colours(kind):
    data, expected = colours()[kind]
    assert decode(data)[0, :, ::-1].tolist() == expected


@pytest.mark.parametrize("orientation", range(1, 9))
def test_no_orientation_tag_rotates_a_picture(orientation):
    """Pillow alone rotates TIFF pictures when loading them."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = scene(70, 45)
    for kind, options in (("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("PNG", {}),
                          ("WEBP", {"lossless": True})):
        data = encoded(pixels, kind, exif=exif, **options)
        assert np.array_equal(decode(data)[..., ::-1], pixels), kind
    assert decode(encoded(pixels, exif=exif)).shape == pixels.shape


def test_strips_make_up_the_whole_picture(monkeypatch):
    """Large pictures are converted in strips: here of a few rows, the last one shorter."""
    whole = {kind: decode(data) for kind, data in kinds().items()}
    monkeypatch.setattr(picture, "_STRIP", 70 * 8)
    for kind, pixels in whole.items():
        assert np.array_equal(decode(kinds()[kind]), pixels), kind


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_or_pages_the_first_is_used(kind):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("#c81e3c", "#14b4f0", "#000000")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert (decode(data)[..., ::-1] == (0xC8, 0x1E, 0x3C)).all()


def test_the_contents_decide_not_the_name(tmp_path):
    """A PNG file called .jpg; a name that isn't UTF-8 and has a line end."""
    pixels = scene(40, 30)
    for name in (b"picture.jpg", b"\xff\xfe caf\xe9\n.tif", b"no ending"):
        path = os.path.join(os.fsencode(tmp_path), name)
        with open(path, "wb") as file:
            file.write(encoded(pixels, "PNG"))
        assert np.array_equal(decode(read(path))[..., ::-1], pixels)
        raw, = features_of_file(path, ("raw",), Parameters(size=30))
        assert raw.shape == (30, 30, 3)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30, "subsampling": 0},
                                     {"image": Image.new("L", (16, 16))},
                                     {"image": Image.new("CMYK", (16, 16))}])
def test_a_jpeg_of_400_million_pixels_is_not_decoded(monkeypatch, options):
    def refuse(*args, **kwargs):
        raise AssertionError("decoded")

    monkeypatch.setattr(cv2, "imdecode", refuse)
    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(Rejected, match="20000×20000 pixels are too many"):
        decode(sized_jpeg(20_000, 20_000, **options))


def test_only_real_scans_are_counted():
    """Embedded previews and appended videos may contain the marker any number of times."""
    fake = b"\xff\xda" * 200
    pixels = decode(encoded(scene(16, 16)))
    for data in (encoded(scene(16, 16), comment=fake), encoded(scene(16, 16)) + fake):
        assert data.count(b"\xff\xda") > 200
        assert np.array_equal(decode(data), pixels)
    assert decode(many_scans(100)).shape == (16, 16, 3)


@cache
def bad_files() -> dict[str, tuple[bytes, str]]:
    rgb = scene(64, 48)
    jpeg, png, tif = encoded(rgb), encoded(rgb, "PNG"), encoded(rgb, "TIFF")
    return {
        "empty": (b"", "empty file"),
        "one byte": (b"\xff", "not a picture"),
        "text": (b"this is no picture\n" * 50, "text, neither a picture nor a video"),
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
                       "a PostScript document: export it"),
        "bomb in gzip": (b"\x1f\x8b\x08" + b"\0" * 100, "a gzip archive: unpack it"),
        "jpeg with two sizes": (hidden_size_jpeg(), "30000×30000 pixels are too many"),
        "jpeg of 101 scans": (many_scans(101), "a JPEG of 101 scans .at most 100"),
        "gif of 65000 a side": (sized_gif(b"GIF87a", 65_000), "65000×65000 pixels are too many"),
        "gif with a frame of 60000": (sized_gif(b",\0\0\0\0", 60_000),
                                      "60000×60000 pixels are too many"),
        "webp of 2^24 a side": (webp_header(2**24), "decoder"),
        "webp of 16383 a side": (webp_header(16383), "decoder"),
        "tiff of 20000 a side": (tiff(20_000, 20_000, [8] * 3, 2, b"\0" * 99), "too many"),
        "tiff of 16 a side in a tile of 20000": (
            tiff(16, 16, [8] * 3, 2, zlib.compress(bytes(1 << 20)), t259=8, t322=20_000,
                 t323=20_000, t324=0), "20000×20000 pixels are too many"),
        "float tif": (encoded(Image.fromarray(rgb[..., 0].astype(np.float32)), "TIFF"), "32-bit"),
        "32-bit tif": (encoded(Image.fromarray(rgb[..., 0].astype(np.int32)), "TIFF"), "32-bit"),
        "signed tif": (tiff(2, 1, [16], 1, b"\1\0\xff\xff", t339=2), "signed"),
        **metadata_bombs(),
    }


def sized_gif(before: bytes, side: int) -> bytes:
    """A GIF file with another size after these bytes: that of the screen, or of the frame."""
    data = bytearray(encoded(Image.new("1", (16, 16)), "GIF"))
    at = data.index(before) + len(before)
    assert data[at:at + 4] == b"\x10\0\x10\0"
    data[at:at + 4] = struct.pack("<HH", side, side)
    return bytes(data)


def webp_header(side: int) -> bytes:
    """An animated WebP file with that canvas and no frames."""
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + (side - 1).to_bytes(
        3, "little") * 2
    return b"RIFF" + struct.pack("<I", len(body)) + body


def metadata_bombs() -> dict[str, tuple[bytes, str]]:
    """PNG files of 16×16 pixels with a gigabyte of text or colour profile in a megabyte."""
    packer = zlib.compressobj()
    first, another = (packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
                      for _ in range(2))
    gigabyte = first + 63 * another
    million = zlib.compress(bytes(1_000_000))
    chunks = {
        "zTXt": png_chunk(b"zTXt", b"a\0\0" + gigabyte),
        "iTXt": png_chunk(b"iTXt", b"a\0\1\0\0\0" + gigabyte),
        "iCCP": png_chunk(b"iCCP", b"a\0\0" + gigabyte),
        "zTXt a thousand times": png_chunk(b"zTXt", b"a\0\0" + million) * 1000,
    }
    return {f"png with {name} bomb": (png(16, 16, extra=chunk), "too large|Too much memory")
            for name, chunk in chunks.items()}


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
    with pytest.raises(Rejected, match="a PostScript document"):
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


def test_a_large_picture_within_the_limits_is_decoded():
    """Larger than Pillow's own limit for a warning."""
    data = encoded(Image.new("1", (12_000, 9_000)), "PNG")
    assert decode(data).shape == (9_000, 12_000, 3)


def test_damaged_files_give_pixels_or_a_reason():
    """Cut off anywhere or with bytes changed anywhere: only pixels, or Rejected."""
    random = np.random.default_rng(0)
    outcomes = {"cut": [0, 0], "changed": [0, 0]}
    originals = {kind: data for kind, data in kinds().items() if len(data) < 40_000}
    originals |= {kind: data for kind, (data, _) in colours().items()}
    for data in originals.values():
        for _ in range(12):
            changed = bytearray(data)
            for at in random.integers(0, len(data), random.integers(1, 6)):
                changed[at] = random.integers(0, 256)
            for how, damaged in (("cut", data[:random.integers(1, len(data))]),
                                 ("changed", bytes(changed))):
                try:
                    actual = features(damaged, tuple(FEATURES), Parameters())
                except Rejected as reason:
                    outcomes[how][0] += 1
                    assert str(reason)
                else:
                    outcomes[how][1] += 1
                    assert all(feature.shape == (128, 128, 3) and feature.dtype == np.uint8
                               for feature in actual)
    assert outcomes["cut"][0] > 300 and outcomes["changed"][0] > 50, outcomes
    assert outcomes["changed"][1] > 50, outcomes


def test_a_stored_reason_keeps_no_pixels_in_memory():
    """The traceback of an exception holds all variables of the functions that it passed."""
    with pytest.raises(Rejected, match="truncated") as caught:
        decode(bad_files()["truncated png"][0])
    assert caught.value.__context__ is None
    _test, *frames = (frame for frame, _ in traceback.walk_tb(caught.value.__traceback__))
    assert [frame.f_code for frame in frames] == [decode.__code__]
    assert not any(isinstance(value, bytes | np.ndarray | Image.Image)
                   for value in frames[0].f_locals.values())


def zeros(count: int) -> bytes:
    """At least that many zeros for a TIFF decoder, which checks no checksum."""
    packer = zlib.compressobj()
    first, another = (packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
                      for _ in range(2))
    return first + another * (count >> 24)


def huge_files(folder: Path) -> None:
    """Pictures of just under 120 million pixels, most of them in a few kilobytes."""
    square, noise = (12_000, 9_984), scene(16, 16)
    area = square[0] * square[1]
    files = {
        "8-bit.png": png(*square), "16-bit alpha.png": png(*square, 16, 6),
        "16-bit grey.png": png(*square, 16, 0), "scans.jpg": many_scans(100, *square),
        "progressive.jpg": sized_jpeg(*square, progressive=True, subsampling=0),
        "cmyk.jpg": sized_jpeg(*square, image=Image.fromarray(noise).convert("CMYK"),
                               progressive=True),
        "palette.gif": encoded(Image.new("P", square), "GIF"),
        "16-bit.tif": tiff(*square, [16] * 4, 2, zeros(area * 8), t259=8, t338=2),
        "turned.tif": tiff(*square, [8] * 3, 2, zeros(area * 3), t259=8, t274=6),
        "tile.tif": tiff(16, 16, [8] * 4, 2, zeros(area * 4), t259=8, t338=2, t322=square[0],
                         t323=square[1], t324=0),
        "lossless.webp": encoded(Image.new("RGBA", (10_900, 11_000)), "WEBP", lossless=True,
                                 method=0, quality=0),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    with open(folder / "raw.tif", "wb") as file:  # 479 MB that take no room on the disk
        header = tiff(*square, [8] * 4, 2, b"", t338=2)
        file.write(header)
        file.truncate(len(header) + area * 4)


MEMORY = """
import sys
from preprocessing.ela import FEATURES, Parameters, features_of_file
from preprocessing.picture import Rejected
everything = tuple(FEATURES), Parameters(reencode=90)
outcomes = []  # kept, as predict keeps them
for path in sys.argv[1:]:
    name = path.rpartition("/")[2]
    try:  # all features take seconds: of the file that is largest itself
        features_of_file(path, *everything if name == "raw.tif" else (("raw",), Parameters()))
        outcomes.append("pixels")
    except Rejected as reason:
        outcomes.append(reason)
    # not ru_maxrss: that begins with what the parent had
    with open("/proc/self/status") as file:
        peak, = (int(line.split()[1]) >> 10 for line in file if line.startswith("VmHWM"))
    print(name, peak, outcomes[-1], sep="\t")
"""


@pytest.mark.slow
def test_no_file_needs_more_memory_than_documented(tmp_path):
    """All bad files and the largest accepted files, in one process that keeps the reasons: its
    peak resident memory stays below the bound of docs/preprocessing.md."""
    bound = 2048  # MiB
    for number, (data, _) in enumerate(bad_files().values()):
        (tmp_path / f"bad{number}.jpg").write_bytes(data)
    huge_files(tmp_path)
    done = subprocess.run([sys.executable, "-c", MEMORY, *map(str, sorted(tmp_path.iterdir()))],
                          capture_output=True, text=True, timeout=limit(600))
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(lines) == len(list(tmp_path.iterdir()))
    print(done.stdout)
    rejected = {name for name, _, outcome in lines if outcome != "pixels"}
    assert rejected == {name for name, _, _ in lines if name.startswith("bad")}, done.stdout
    assert 1000 < int(lines[-1][1]) < bound, done.stdout


def test_pillow_reference_is_the_same_code_path_for_jpeg():
    data = encoded(scene(48, 40))
    assert np.array_equal(decode_with_pillow(data), decode(data))


def test_remarks_of_the_decoders_name_the_picture(capfd, monkeypatch):
    """libjpeg and libtiff print them without a name: of a picture that they could read, they are
    logged with its path; of a rejected one, they are part of the reason."""
    said = []
    monkeypatch.setattr(picture.log, "warning", said.append)
    whole = encoded(scene(384, 256))
    cut = whole[:len(whole) // 2] + b"\xff\xd9"
    assert np.array_equal(decode(cut, b"Au/a\n.jpg"), decode(cut)), "logged once: it has one path"
    features(cut, ("raw",), Parameters(), "b.jpg")
    assert said == [f"{name}: damaged, but decoded: Corrupt JPEG data: premature end of data "
                    "segment" for name in ("Au/a\\n.jpg", "b.jpg")]
    decode(whole, "c.jpg")
    tiff = bytearray(encoded(scene(384, 256), "TIFF", compression="tiff_lzw"))
    tiff[3000:3100] = b"\xff" * 100
    with pytest.raises(Rejected, match=r"\(decoder error -2\): Using code not yet in"):
        decode(bytes(tiff), "d.tif")
    assert len(said) == 2 and capfd.readouterr() == ("", "")
