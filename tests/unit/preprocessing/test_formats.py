"""Formats beyond JPEG, PNG and TIFF: their pixels, and for each kind that isn't read its reason."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pillow_heif
import pytest
from PIL import Image
from test_picture import encoded, png, scene, sized_jpeg, tiff

from preprocessing import kinds, picture, streams, video
from preprocessing.boxes import IMIR, IROT, sizes, turns
from preprocessing.ela import Parameters, features
from preprocessing.picture import Rejected, decode, of_image, opened, read

pillow_heif.register_heif_opener()  # for writing
picture._heif()
MODERN = {"HEIF": {"quality": -1, "chroma": 444}, "AVIF": {"quality": 100, "subsampling": "4:4:4"},
          "JPEG2000": {}}


def exif(orientation: int) -> Image.Exif:
    """A new one: writing AVIF takes the tag out."""
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def oriented(pixels: np.ndarray, orientation: int) -> Image.Image:
    """With the tag in the place from which each of Pillow's writers takes it."""
    image = Image.fromarray(pixels)
    image.info["exif"] = exif(orientation).tobytes()
    return image


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_modern_formats_have_the_stored_pixels(kind, orientation):
    """Also where the container says how to turn them: libheif turns, and this is undone."""
    pixels = cv2.GaussianBlur(scene(70, 45), (0, 0), 2)
    image = oriented(pixels, orientation)
    data = encoded(image, kind, **MODERN[kind],
                   **({"exif": exif(orientation)} if kind == "AVIF" else {}))
    assert (b"irot" in data or b"imir" in data) == (orientation > 1)
    decoded = decode(data)[..., ::-1].astype(int)
    assert decoded.shape == pixels.shape and np.abs(decoded - pixels).max() <= 4
    with opened(io.BytesIO(data)) as header:
        assert header.format == kind and sorted(header.size) == [45, 70]


def turned() -> tuple[np.ndarray, bytes, int]:
    """Pixels, a HEIC that says to turn and to mirror them, and the place of its ``ipma``."""
    pixels = cv2.GaussianBlur(scene(70, 45), (0, 0), 2)
    data = encoded(oriented(pixels, 5), "HEIF", **MODERN["HEIF"])
    return pixels, data, data.index(b"ipma")


def test_turns_are_undone_in_their_order():
    """Mirrored first, which is another picture, and each of the two once more."""
    pixels, data, at = turned()
    assert turns(data) == [(IROT, 3), (IMIR, 1)]
    first, second = data[at + 20:at + 22]  # the last of the seven properties
    for order, expected in (((second, first), [(IMIR, 1), (IROT, 3)]),
                            ((first, first), [(IROT, 3)] * 2), ((second, second), [(IMIR, 1)] * 2)):
        other = data[:at + 20] + bytes(order) + data[at + 22:]
        assert turns(other) == expected
        decoded = decode(other)[..., ::-1].astype(int)
        assert decoded.shape == pixels.shape and np.abs(decoded - pixels).max() <= 4


def test_an_opened_heic_has_the_stored_pixels_each_time():
    pixels, data, _ = turned()
    with Image.open(io.BytesIO(data)) as image:
        for _ in range(2):
            assert np.array_equal(of_image(image), decode(data))
        image.load()  # turns it
        assert of_image(image).shape == (70, 45, 3)
    frames = [Image.fromarray(pixels), oriented(pixels, 6)]
    both = encoded(frames[0], "HEIF", save_all=True, append_images=frames[1:], primary_index=1)
    with Image.open(io.BytesIO(both)) as image:
        assert image.size == (45, 70) and of_image(image).shape == decode(both).shape == (45, 70, 3)
        image.seek(0)
        assert of_image(image).shape == (45, 70, 3)


def box(kind: bytes, *content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, content)), kind) + b"".join(content)


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("wide", [0, 1])
def test_turns_of_the_primary_item_alone(version, wide):
    """In both forms of its number and both of the properties' numbers; the first bit of these says
    that they are essential. What isn't there is left out, of whatever is cut off."""
    name, number = (">H", ">I")[version], (">B", ">H")[wide]
    essential = 1 << (15 if wide else 7)

    def entry(item: int, *numbers: int) -> bytes:
        return struct.pack(name, item) + bytes([len(numbers)]) + b"".join(
            struct.pack(number, one) for one in numbers)

    entries = [entry(6, 2), entry(7, 1, 3 | essential, 0, 99, 2, 5), entry(7, 4)]
    known = [box(b"ispe", bytes(12)), box(b"imir", b"\xff"), box(b"irot", b"\xfe"),
             box(b"irot", b"\1"), box(b"irot")]
    head = bytes([version, 0, 0, wide])
    data = box(b"ftyp", b"heic") + box(
        b"meta", bytes(4), box(b"pitm", head[:3], b"\0", struct.pack(name, 7)),
        box(b"iprp", box(b"ipco", *known), box(b"ipma", head, struct.pack(">I", 1), entry(5, 4)),
            box(b"ipma", head, struct.pack(">I", 1 << 31), *entries)))
    assert turns(data) == [(IROT, 2), (IMIR, 1)]
    assert {str(turns(data[:end])) for end in range(len(data))} == {
        str(turns(data)[:count]) for count in range(3)}


@pytest.mark.parametrize("kind", MODERN)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "I;16", "1", "CMYK"])
def test_modern_formats_in_other_modes(kind, mode):
    """Grey, with alpha, with 16 bits, inks: each a picture, grey ones as grey."""
    rgb = Image.fromarray(cv2.GaussianBlur(scene(64, 48), (0, 0), 2))
    high = Image.fromarray((np.arange(48 * 64).reshape(48, 64) * 21).astype(np.uint16))
    image = high if mode == "I;16" else rgb.convert(mode)
    if mode == "RGBA":
        image.putalpha(128)
    if mode == "1" and kind == "JPEG2000":
        image = image.convert("L")
    data = encoded(image, kind, **MODERN[kind])
    pixels = decode(data)
    assert pixels.shape == (48, 64, 3) and pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    grey = high.point(lambda value: value / 256).convert("L") if mode == "I;16" \
        else image.convert("RGB").convert("L")
    actual = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY).astype(int)
    if mode in ("L", "RGB", "RGBA", "CMYK"):
        assert np.abs(actual - np.asarray(grey)).max() <= 6
    for feature in features(data, ("ela", "raw"), Parameters()):
        assert feature.shape == (128, 128, 3)


def test_lossless_jpeg_2000_has_the_pixels_themselves():
    pixels = scene(70, 45)
    for options in ({}, {"tile_size": (32, 32)}, {"no_jp2": True}):
        assert np.array_equal(decode(encoded(pixels, "JPEG2000", **options))[..., ::-1], pixels)
    sixteen = (np.arange(70 * 45).reshape(45, 70) * 20).astype(np.uint16)
    data = encoded(Image.fromarray(sixteen), "JPEG2000")
    assert np.array_equal(decode(data)[..., 0], sixteen >> 8)


@pytest.mark.parametrize("kind", ["AVIF", "HEIF", "MPO"])
def test_of_several_pictures_the_first_is_used(kind):
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("#c81e3c", "#14b4f0", "#000000")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    with opened(io.BytesIO(data)) as image:
        assert image.n_frames == 3
    assert np.abs(decode(data)[..., ::-1].astype(int) - (0xC8, 0x1E, 0x3C)).max() <= 6


def test_headers_that_lie_about_the_size_are_rejected_before_decoding(monkeypatch):
    """In the pictures' own headers 100 million pixels, and one million more than is allowed."""
    monkeypatch.setattr(Image.Image, "crop", lambda *_: pytest.fail("decoded"))
    heif = bytearray(encoded(scene(64, 48), "HEIF"))
    avif = bytearray(encoded(scene(64, 48), "AVIF"))
    jp2 = bytearray(encoded(scene(64, 48), "JPEG2000"))
    for data, box, form, sides in ((heif, b"ispe", ">4xII", (10_000, 10_000)),
                                   (avif, b"ispe", ">4xII", (10_000, 10_000)),
                                   (jp2, b"ihdr", ">II", (6_100, 10_000))):
        at = data.index(box) + 4
        data[at:at + struct.calcsize(form)] = struct.pack(form, *sides)
        with pytest.raises(Rejected, match=r"0 pixels are too many \(at most 60 mill"):
            decode(bytes(data))


@pytest.mark.parametrize(("kind", "box", "form"), [("HEIF", b"ispe", ">4xII"),
                                                   ("JPEG2000", b"ihdr", ">II")])
def test_data_larger_than_their_header_says_are_rejected(kind, box, form):
    data = bytearray(encoded(scene(640, 480), kind))
    at = data.index(box) + 4
    data[at:at + struct.calcsize(form)] = struct.pack(form, 64, 64)
    with pytest.raises(Rejected) as caught:
        decode(bytes(data))
    assert str(caught.value)


def test_a_part_of_a_larger_picture_counts_as_the_whole():
    """A crop (clap), as encoders write it where sides aren't multiples of 64: here of a picture of
    which the header then says that it is huge."""
    data = bytearray(encoded(scene(70, 45), "HEIF"))
    with opened(io.BytesIO(data)) as image:
        assert image.size == (70, 45)
    assert sizes(bytes(data)) != [(70, 45)], "nothing is cropped"
    at = data.index(b"ispe") + 8
    data[at:at + 8] = struct.pack(">II", 20_000, 20_000)
    with pytest.raises(Rejected, match="20000×20000 pixels are too many"):
        decode(bytes(data))


def test_a_truncated_modern_picture_is_rejected():
    for kind, options in MODERN.items():
        data = encoded(scene(64, 48), kind, **options)
        for end in (20, len(data) // 3, len(data) - 200):
            with pytest.raises(Rejected) as caught:
                decode(data[:end])
            assert str(caught.value)


def test_without_its_package_heic_says_so(monkeypatch):
    monkeypatch.setattr(picture, "_heif", lambda: False)
    with pytest.raises(Rejected, match="pip install pillow-heif"):
        decode(encoded(scene(64, 48), "HEIF"))


OLD_PILLOW = """
import sys
sys.modules["PIL.AvifImagePlugin"] = None  # as in Pillow before 11.3
from preprocessing import picture
for path in sys.argv[1:]:
    try:
        print(picture.decode(picture.read(path)).shape)
    except picture.Rejected as reason:
        print(reason)
"""


def test_an_older_pillow_of_a_site_reads_all_but_avif(tmp_path):
    for kind in ("PNG", "AVIF"):
        (tmp_path / kind).write_bytes(encoded(scene(64, 48), kind))
    done = subprocess.run([sys.executable, "-c", OLD_PILLOW, tmp_path / "PNG", tmp_path / "AVIF"],
                          capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "(48, 64, 3)", "an AVIF picture, which needs a newer Pillow: pip install 'pillow>=11.3'"]


def lossless_jpeg(values: np.ndarray, bits: int = 8) -> bytes:
    """A grey lossless JPEG (ITU-T T.81 annex H): differences to the left neighbour, coded by their
    number of bits in four bits each."""
    before = np.full(values.shape, 1 << (bits - 1))
    before[:, 1:], before[1:, 0] = values[:, :-1], values[:-1, 0]
    coded = ""
    for step in (values.astype(int) - before).ravel().tolist():
        size = abs(step).bit_length()
        bits_of_step = step + (step < 0) * ((1 << size) - 1)
        coded += f"{size:04b}" + (f"{bits_of_step:0{size}b}" if size else "")
    coded += "1" * (-len(coded) % 8)
    body = int(coded, 2).to_bytes(len(coded) // 8, "big").replace(b"\xff", b"\xff\0")
    sizes = bytes(range(bits + 1))
    segments = {0xC3: struct.pack(">BHHB3B", bits, *values.shape, 1, 1, 0x11, 0),
                0xC4: bytes([0, 0, 0, 0, len(sizes)]) + bytes(12) + sizes,
                0xDA: bytes([1, 1, 0, 1, 0, 0])}
    return b"\xff\xd8" + b"".join(struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content
                                  for marker, content in segments.items()) + body + b"\xff\xd9"


def test_a_lossless_jpeg_is_read():
    values = scene(16, 16)[..., 0]
    assert np.array_equal(decode(lossless_jpeg(values))[..., 0], values)


def changed_jpeg(marker: int, bits: int = 8) -> bytes:
    """A JPEG whose frame header names another process."""
    data = bytearray(sized_jpeg(16, 16))
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = marker, bits
    return bytes(data)


def raw(tags: dict[str, int | list[int]], photometric: int = 2) -> bytes:
    """A TIFF file of 2×1 pixels as cameras write it."""
    return tiff(2, 1, [8] * 3, photometric, bytes(6), **tags)


WHY = {
    "12-bit jpeg": (changed_jpeg(0xC1, 12), "a JPEG of 12 bits per value, .* convert it"),
    "12-bit lossless jpeg": (lossless_jpeg(np.arange(256).reshape(16, 16) * 16, 12),
                             "a JPEG of 12 bits per value"),
    "cut lossless jpeg": (changed_jpeg(0xC3), r"damaged \(broken data stream .* copy"),
    "hierarchical jpeg": (changed_jpeg(0xC5), r"a JPEG of a rare kind \(hierarchical\)"),
    "jpeg-ls": (changed_jpeg(0xF7), r"a JPEG of a rare kind \(JPEG-LS\)"),
    "float tiff": (encoded(Image.new("F", (9, 9)), "TIFF"), "32-bit or signed .* save the picture"),
    "64-bit tiff": (tiff(2, 1, [64], 1, bytes(16), t339=3), "32-bit or signed .* no fixed range"),
    "complex tiff": (tiff(2, 1, [64], 1, bytes(16), t339=6), "32-bit or signed"),
    "13 bands": (tiff(2, 1, [16] * 13, 1, bytes(52)), "a TIFF of 13 bands, .* export three"),
    "two bands": (tiff(2, 1, [16] * 2, 1, bytes(8)), "a TIFF of 2 bands"),
    "lerc tiff": (tiff(2, 1, [8] * 3, 2, bytes(6), t259=34887), r"isn't read \(LERC\): save it"),
    "dng": (raw({"t50706": 0x00000401}), "a camera's raw picture"),
    "raw preview": (raw({"t254": 1, "t330": 8}), "a camera's raw picture .* or only its preview"),
    "filter array": (tiff(2, 1, [8], 32803, bytes(2)), "a camera's raw picture"),
    "cr2": (b"II*\0\x10\0\0\0CR\2\0" + bytes(90), r"raw picture \(Canon CR2\): develop it"),
    "cr3": (b"\0\0\0\x18ftypcrx " + bytes(90), "Canon CR3"),
    "psd": (b"8BPS\0\1" + bytes(90), "a Photoshop document"),
    "svg": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF document: take its pictures out"),
    "ico": (encoded(Image.new("RGB", (16, 16)), "ICO"), r"an icon \(ICO\)"),
    "ppm": (encoded(Image.new("RGB", (2, 2)), "PPM"), r"isn't read \(PPM, PGM or PBM\)"),
    "jpeg xl": (b"\xff\x0a\xff\1" + bytes(90), r"isn't read \(JPEG XL\)"),
    "dicom": (bytes(128) + b"DICM" + bytes(90), "medical picture"),
    "web page": (b"\n<!DOCTYPE html>\n<html><body>Not found", r"a web page \(HTML\), .* download"),
    "error of a store": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML"),
    "json": (b'{"message": "not found"}', "JSON text, .* download the file again"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
                "a Git LFS pointer, .* git lfs pull"),
    "git-annex": (b"/annex/objects/SHA256E-s9--ab.jpg\n", "a git-annex pointer, .* git annex get"),
    "base64": (b"data:image/jpeg;base64,/9j/4AAQSkZJRg", "base64 -d"),
    "zip": (b"PK\3\4\x14\0" + bytes(90), "a ZIP archive .* unpack it"),
    "encrypted": (b"Salted__" + bytes(range(1, 200)), r"encrypted \(OpenSSL\): decrypt"),
    "zeros": (bytes(5000), "zero bytes only: a download or copy that isn't complete"),
    "macOS": (b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(90), r"AppleDouble, \._NAME"),
    "iPhone png": (png(1, 1).replace(b"\0\0\0\rIHDR", b"\0\0\0\4CgBIP\0\x20\2" + bytes(7)
                                     + b"\rIHDR"), "CgBI"),
    "sound": (b"ID3\4\0\0" + bytes(90), r"sound only \(MP3\)"),
    "video": (b"\0\0\0\x18ftypisom" + bytes(90), "a video .*, not a picture: give its name"),
    "cut tiff": (b"II*\0\x08\0\0\0\x12\0" + bytes(20), r"damaged: .* \(TIFF\), .* again$"),
    "text": (b"this is no picture\n", "text, neither a picture nor a video"),
    "noise": (bytes(range(1, 9)) * 9, "not a picture or video of a known format"),
}


@pytest.mark.parametrize("kind", WHY)
def test_each_kind_has_a_reason_of_its_own(kind):
    data, expected = WHY[kind]
    with pytest.raises(Rejected, match=expected) as caught:
        decode(data)
    assert str(caught.value).isprintable()


ARITHMETIC = (
    "ffd8ffe000104a46494600010100000100010000ffdb00831000a0006e0078008c0078006400a0008c008200"
    "8c00b400aa00a000be00f00190010400f000dc00dc00f001ea015e017201220190024401fe02620258023a01"
    "fe02300226028002d00398030c028002a8036602b20226023003200442032a036603b603d404060410040602"
    "6c0302046a04ba046003e804b0039803f2040603deffc9000b080010001001011100ffcc000600101005ffda"
    "0008010100003f00020b54ffd9")


def test_an_arithmetic_coded_jpeg_is_read():
    """16×16 grey pixels, written by cjpeg -arithmetic of libjpeg-turbo."""
    assert decode(bytes.fromhex(ARITHMETIC)).shape == (16, 16, 3)


def test_a_tiff_with_subpages_that_is_no_preview_is_read():
    """Photoshop and scientific programs write such files, too."""
    data = tiff(2, 1, [8] * 3, 2, bytes([1, 2, 3, 4, 5, 6]), t254=0, t330=8)
    assert decode(data)[0, :, ::-1].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_links_to_nothing_say_so(tmp_path):
    (tmp_path / "gone.jpg").symlink_to("elsewhere.jpg")
    (tmp_path / "annex.jpg").symlink_to(".git/annex/objects/aB/cD/SHA256E-s9--x.jpg/SHA256E-s9--x")
    for name, reason in (("gone", "a link to elsewhere.jpg, which isn't there"),
                         ("annex", "run git annex get FILE")):
        with pytest.raises(Rejected, match=reason):
            read(os.fsencode(tmp_path / f"{name}.jpg"))


BY_NAME = {
    "a.jpg": (b"", kinds.PICTURE), "b.HEIC": (b"", kinds.PICTURE), "c.jfif": (b"", kinds.PICTURE),
    "d.MOV": (b"", kinds.VIDEO), "e.3gp": (b"", kinds.VIDEO), ".hidden.jpg": (b"", "hidden"),
    "._f.jpg": (b"", "hidden"), "Thumbs.db": (b"", ".db"), "a.xmp": (b"", ".xmp"),
    "labels.json": (b"", ".json"), "README": (b"", "readme"), "Changes": (b"1.0\n", "text"),
    ".g.jpg.icloud": (b"", "only in iCloud"), "h.jpg.crdownload": (b"", "isn't complete"),
    "i.mp4.part": (b"", "isn't complete"), "j.nef": (b"II*\0", r"raw picture .*NEF"),
    "k.psd": (b"8BPS\0\1", "Photoshop"), "l.tga": (b"\0\0\2", "TGA"), "m": (b"", "empty file"),
    "n.xyz": (b"\1\2\3", "not a picture or video"), "o.mts": (
        (b"\0\0\0\0\x47" + bytes(187)) * 9, "AVCHD.*ffmpeg"), "p.html": (b"<html>", ".html"),
    "q": (b"\0\0\0\x18ftypisom", "give it an ending such as .mp4"),
    "r": (encoded(scene(9, 9)), kinds.PICTURE),
    "s.jpg_large": (encoded(scene(9, 9)), kinds.PICTURE),
    "t": (encoded(scene(9, 9), "AVIF"), kinds.PICTURE),
    "u.wmv": (b"0&\xb2u\x8ef\xcf\x11" + bytes(90), "WMV"),
    "v.mp4#frame=1of2": (encoded(scene(9, 9)), "rename it"),
}


@pytest.mark.parametrize("name", BY_NAME)
def test_what_a_file_in_a_folder_is(tmp_path, name):
    data, expected = BY_NAME[name]
    (tmp_path / name).write_bytes(data)
    kind = kinds.of_file(os.fsencode(tmp_path / name))
    if kind.sort == kinds.OTHER:
        assert re.search(expected, kind.text), kind
    else:
        assert expected in (kind.sort, kind.text), kind


def test_words_that_begin_like_signs_are_text():
    for text in (b"BMW and others\n", b"MZ\n", b"ID3 tags\n",
                 b"P1 is a wheel\n", "naïve\n".encode() * 3, b"caf\xc3\xa9" * 900):
        assert kinds.of_content(text[:kinds.START]) is None and kinds.is_text(text[:kinds.START])


def av1(path: Path) -> Path:
    """A video in AV1: a sequence of AVIF, whose tracks are those of MP4, under MP4's names."""
    frames = [Image.new("RGB", (64, 48), (20 * number, 50, 90)) for number in range(4)]
    data = encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    path.write_bytes(data.replace(b"ftypavis", b"ftypiso6").replace(b"pict", b"vide"))
    return path


def clip(path: Path, kind: str = "mp4v", count: int = 4) -> bytes:
    writer = cv2.VideoWriter(os.fspath(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*kind), 25.0,
                             (64, 48))
    for number in range(count):
        writer.write(np.full((48, 64, 3), 40 * number, np.uint8))
    writer.release()
    return path.read_bytes()


def why(path: Path) -> str:
    with pytest.raises(Rejected) as caught:
        list(video.sample(os.fsencode(path), 2))
    with pytest.raises(Rejected) as by_rate:
        list(video.sample(os.fsencode(path), rate=2))
    assert str(caught.value) == str(by_rate.value)
    return str(caught.value)


def test_videos_say_what_keeps_them_from_being_decoded(tmp_path):
    whole = clip(tmp_path / "x.mp4")
    at = whole.index(b"mdat") + 4
    size = int.from_bytes(whole[at - 8:at - 4], "big") - 8
    sound = whole.replace(b"vide", b"soun").replace(b"mp4v", b"mp4a")
    files = {
        "sound.mp4": (sound, "sound only (AAC), without pictures"),
        "locked.mp4": (whole[:at] + bytes(size) + whole[at + size:].replace(b"mp4v", b"encv"),
                       "encrypted (DRM)"),
        "cut.mp4": (whole[:len(whole) // 2], "cut off: its index (moov)"),
        "still.mp4": (encoded(scene(32, 32), "AVIF"), "a picture (AVIF), not a video"),
        "page.mp4": (b"<html><body>404", "a web page (HTML)"),
        "pointer.mp4": (WHY["git-lfs"][0], "a Git LFS pointer"),
        "list.mp4": (b"#EXTM3U\n", "text, neither"), "x.wmv": (BY_NAME["u.wmv"][0], "ASF"),
    }
    for name, (data, expected) in files.items():
        (tmp_path / name).write_bytes(data)
        assert expected in why(tmp_path / name), name
    assert "codec, AV1, isn't among" in why(av1(tmp_path / "av1.mp4"))


def test_an_mp4_without_frames_says_so(tmp_path):
    assert "it has no frames" in (clip(tmp_path / "x.mp4", count=0) and why(tmp_path / "x.mp4"))


def test_the_streams_of_each_container(tmp_path):
    """As far as the messages need them."""
    for ending, code, codec in (("mp4", "mp4v", "MPEG-4"), ("mkv", "VP80", "VP8"),
                                ("avi", "MJPG", "MJPG"), ("mpg", "MPEG", "MPEG")):
        clip(tmp_path / f"x.{ending}", code)
        with open(tmp_path / f"x.{ending}", "rb") as file:
            found = streams.of(file.fileno())
        assert found is not None
        assert [stream.sort for stream in found] == [streams.VIDEO], ending
        assert codec in found[0].codec
