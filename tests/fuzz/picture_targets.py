"""Pictures and videos: whatever their bytes, they are decoded or rejected with a reason."""

from __future__ import annotations

import io
import os
import tempfile
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
import pillow_heif
from mutations import damaged_bytes
from PIL import Image
from targets import MIB, Target

from hpc_deepfake.audit import facts
from hpc_deepfake.inspect import metadata
from preprocessing import ela, kinds, mask, streams, video
from preprocessing import facts as heads
from preprocessing.names import At, evenly
from preprocessing.picture import Rejected

MARKERS = [b"\xff\xd8", b"\xff\xc0", b"\xff\xc2", b"\xff\xda", b"\xff\xd9", b"\xff\xc4",
           b"\xff\xe1", b"IHDR", b"IDAT", b"acTL", b"II*\0", b"MM\0*", b"VP8 ", b"VP8X", b"GIF89a"]
BOXES_OF_PICTURES = [b"ispe", b"irot", b"imir", b"clap", b"ipma", b"pitm", b"iloc", b"iref",
                     b"grid", b"av01", b"hvcC", b"ihdr", b"colr", b"pclr", b"jp2c", b"\xff\x51",
                     b"\xff\x52", b"\xff\x90"]
HEADS = [b"<!DOCTYPE html>", b"<svg ", b"{}", b"version https://git-lfs.github.com/spec/v1\n",
         b"/annex/objects/", b"%PDF-", b"8BPS", b"P6\n#\n", b"\xff\xfea\0", b"PK\3\4", b"\0" * 99]
BOXES = [b"moov", b"mdat", b"stsz", b"stco", b"stts", b"ftyp", b"free", b"idx1", b"RIFF", b"LIST",
         b"movi", b"00dc"]


@cache
def pictures() -> list[bytes]:
    """A small picture in each format and mode that differs in decoding."""
    pillow_heif.register_heif_opener()  # for writing
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 4), np.uint8)
    colour, made = Image.fromarray(noise[..., :3]), []
    for image, kind, how in [
            (colour, "JPEG", {}), (colour, "JPEG", {"progressive": True, "subsampling": 0}),
            (colour.convert("L"), "JPEG", {}), (colour.convert("CMYK"), "JPEG", {}),
            (colour, "PNG", {}), (Image.fromarray(noise), "PNG", {}),
            (colour.convert("P"), "PNG", {"transparency": 0}),
            (Image.fromarray(noise[..., 0].astype(np.uint16) * 257), "PNG", {}),
            (Image.fromarray(noise * np.array((0, 0, 0, 1), np.uint8)), "PNG", {}),  # as masks
            (Image.fromarray((noise[..., 0] & 1).astype(np.uint16)), "TIFF", {}),
            (colour, "TIFF", {}), (colour, "TIFF", {"compression": "tiff_lzw"}),
            (colour, "TIFF", {"compression": "jpeg"}), (colour.convert("1"), "TIFF",
                                                         {"compression": "group4"}),
            (Image.fromarray(noise[..., 0].astype(np.float32)), "TIFF", {}),
            (colour, "BMP", {}), (colour.convert("P"), "GIF", {}), (colour, "WEBP", {}),
            (colour, "WEBP", {"lossless": True}), (colour, "JPEG2000", {}),
            (colour, "JPEG2000", {"no_jp2": True, "tile_size": (16, 16)}),
            (Image.fromarray(noise), "AVIF", {"speed": 10}), (colour, "HEIF", {"quality": 50}),
            (colour, "MPO", {"save_all": True, "append_images": [colour]})]:
        file = io.BytesIO()
        exif = Image.Exif()
        exif[305], exif[274] = "software", 6
        tagged = {"exif": exif} if kind in ("JPEG", "TIFF", "AVIF") else {}
        image.save(file, kind, **how, **tagged)
        made.append(file.getvalue())
    return made


@cache
def videos() -> list[bytes]:
    """A short video in each container that this OpenCV writes."""
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for ending, code in (("avi", "MJPG"), ("mp4", "mp4v"), ("mkv", "MJPG"), ("mpg", "MPEG")):
            path = os.path.join(folder, f"clip.{ending}")
            writer = cv2.VideoWriter(path, cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*code), 25.0,
                                     (32, 32))
            for number in range(6 * writer.isOpened()):
                writer.write(np.full((32, 32, 3), 40 * number, np.uint8))
            writer.release()
            if Path(path).is_file() and Path(path).stat().st_size:
                made.append(Path(path).read_bytes())
    return made or [b"RIFF\0\0\0\0AVI "]


def check_kind(path: Path) -> None:
    """What a file without an ending is, in words that can be shown."""
    kind = kinds.of_file(os.fspath(path).encode())
    assert kind.text.isprintable()
    for wanted in (kinds.PICTURE, kinds.VIDEO):
        reason = kinds.reason(path.read_bytes()[:kinds.START], wanted)
        assert reason is None or reason.isprintable()


def read_picture(data: bytes, folder: Path) -> None:
    path = folder / "picture"
    path.write_bytes(data)
    check_kind(path)
    facts.columns([facts.read(os.fspath(path))])
    known = heads.of(data)
    assert known.format in heads.FORMATS and 0 <= known.quality <= 100
    heads.columns([(known, heads.digest(data))])
    assert metadata.read(data).size == len(data)
    made = ela.features_of_file(os.fspath(path), ("ela", "raw", "gray_bits"), ela.Parameters())
    assert [one.shape for one in made] == [(ela.SIZE, ela.SIZE, 3)] * 3
    for inverted in (True, False):
        found = mask.read(os.fsencode(path), 24, 32, inverted)
        assert found.shape == (24, 32) and found.dtype == np.uint8 and found.max() <= mask.CHANGED


def read_video(data: bytes, folder: Path) -> None:
    path = os.fspath(folder / "clip")
    Path(path).write_bytes(data)
    facts.read(path)
    check_kind(Path(path))
    with open(path, "rb") as file:
        streams.of(file.fileno())
    video.moments(path, rate=2.0)
    for frame in [*video.frames(path, evenly(3)), *video.frames(path, [At(0), At(80), At(9000)])]:
        assert isinstance(frame, Rejected) or frame.pixels.shape[2:] == (3,)
    list(video.sample(path, 2))


TARGETS = [
    Target("pictures", partial(damaged_bytes, seeds=pictures,
                               tokens=[*MARKERS, *BOXES_OF_PICTURES]), read_picture,
           (Rejected,), seconds=30, memory=2048 * MIB),
    Target("kinds of files", partial(damaged_bytes, seeds=HEADS, tokens=[*HEADS, *MARKERS]),
           read_picture, (Rejected,), seconds=30, memory=2048 * MIB, share=0.5),
    Target("videos", partial(damaged_bytes, seeds=videos, tokens=BOXES), read_video, (Rejected,),
           seconds=60, memory=1024 * MIB, share=0.2),
]
