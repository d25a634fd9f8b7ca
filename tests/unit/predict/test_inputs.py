"""What predict takes from folders and lists, what it leaves out, and options without effect."""

from __future__ import annotations

import io
import os
import re
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest
from picture_trees import fill, mask, scene
from PIL import Image

import hpc_deepfake.inspect
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.predict import inputs
from preprocessing.leftout import LeftOut

GREY = Image.new("RGB", (32, 32), "grey")


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    GREY.save(file, kind)
    return file.getvalue()


FILES = {"a.jpg": b"", "b.jfif": b"", "c.AVIF": b"", "d.heic": b"", "e.jp2": b"", "f.mpo": b"",
         "g": encoded("PNG"), "h.jpeg_large": encoded("JPEG"), "i.3gp": b"",
         "j.psd": b"8BPS\0\1", "k.jpg.crdownload": b"", "l": b"<html></html>", "m.dng": b"",
         "n\n": b"\1\2", "Thumbs.db": b"", "a.xmp": b"", "b.xmp": b"", ".DS_Store": b"",
         "._a.jpg": b"", "notes.txt": b"x"}
TAKEN = [b"a.jpg", b"b.jfif", b"c.AVIF", b"d.heic", b"e.jp2", b"f.mpo", b"g", b"h.jpeg_large",
         b"i.3gp"]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for name, data in FILES.items():
        (tmp_path / "in" / name).write_bytes(data)
    for hidden in (".git", "@eaDir"):
        (tmp_path / "in" / hidden).mkdir()
        (tmp_path / "in" / hidden / "x.jpg").touch()
    return tmp_path / "in"


def test_a_folder_gives_its_pictures_and_says_what_is_left_out(folder):
    """Each file that may be missed with its reason; what goes with pictures is counted."""
    left = LeftOut()
    found = inputs.find(["in"], left=left)
    assert [os.path.basename(path) for path in found] == TAKEN
    named, beside = left.notes()
    assert named.splitlines() == [
        "5 files left out:",
        "  in/j.psd: a Photoshop document (PSD): export it as PNG or TIFF",
        "  in/k.jpg.crdownload: a download or copy that isn't complete (.crdownload): finish it, "
        "or remove it",
        "  in/l: a web page (HTML), as a server sends instead of a file: download the file itself",
        "  in/m.dng: a camera's raw picture (DNG): develop it to TIFF or PNG, such as with "
        "darktable or RawTherapee",
        r"  in/n\n: not a picture or video of a known format"]
    assert beside == "beside the pictures left out: 4 hidden, 2 .xmp, 1 .db, 1 .txt"


def test_a_long_list_of_files_left_out_is_cut(tmp_path):
    """Files of the same reason are on one line, of which there are not too many."""
    for number in range(5):
        (tmp_path / f"{number:02d}.nef").touch()
    (tmp_path / "99").write_bytes(b"\1\2")
    left = LeftOut()
    assert inputs.find([os.fspath(tmp_path)], left=left) == []
    note, = left.notes()
    first, raw, other = note.splitlines()
    assert first == "6 files left out:" and other.startswith(f"  {tmp_path}/99: not a picture")
    assert raw.startswith(f"  {tmp_path}/00.nef, {tmp_path}/01.nef, {tmp_path}/02.nef and 2 more: "
                          "a camera's raw picture (NEF): develop")
    left.named = [(b"%d.nef" % number, f"reason {number}") for number in range(31)]
    left.named.append((b"a", "reason"))
    note, = left.notes()
    first, *shown, more = note.splitlines()
    assert first == "32 files left out:" and len(shown) == 20
    assert more == "  and 12 more: 11 .nef, 1 without ending"


def test_ground_truth_masks_get_no_verdict(tmp_path, monkeypatch):
    """Those of a folder are left out as in preprocessing; those that are named are remarked on."""
    monkeypatch.chdir(fill(tmp_path, {
        "fake/1.jpg": scene(1), "fake/1_mask.png": mask(), "fake/carnival_mask.jpg": scene(2),
        "fake/broken_mask.png": b"", "fake/gt/1.png": mask(), "gt/photo.jpg": scene(3)}))
    left = LeftOut()
    assert inputs.find(["fake"], left=left) == [
        b"fake/1.jpg", b"fake/broken_mask.png", b"fake/carnival_mask.jpg"]
    assert inputs.find(["gt", "fake/gt"], left=left) == [b"gt/photo.jpg"]
    note, = left.notes()
    assert note.startswith("3 files left out:\n  fake/1_mask.png, fake/gt/1.png, fake/gt/1.png: "
                           "a ground-truth mask by its name and content: name the file itself")
    left = LeftOut()
    named = ["fake/1.jpg", "fake/1_mask.png"]
    assert inputs.find(named, left=left) == [name.encode() for name in named]
    note, = left.notes()
    assert "1 file named that is a ground-truth mask" in note and "fake/1_mask.png" in note
    assert inputs.find(["-"], io.BytesIO(b"fake/1_mask.png\nfake/gt"), left)[0] == \
        b"fake/1_mask.png"
    many = {f"many/{at}_mask.png": mask() if at else scene(1) for at in range(30)}
    fill(tmp_path, many)
    assert len(inputs.find(["many"])) == 30, "of many, only if all that are looked at are"


def test_a_hidden_folder_that_is_named_is_read(folder):
    assert inputs.find(["in/.git"]) == [b"in/.git/x.jpg"]


def test_a_byte_order_mark_is_no_part_of_a_path():
    assert inputs.listed(io.BytesIO(b"\xef\xbb\xbfa.jpg\nb.jpg\n")) == [b"a.jpg", b"b.jpg"]


def test_a_list_longer_than_what_is_looked_at():
    names = [b"folder/%06d.jpg" % number for number in range(1000)]
    assert inputs.listed(io.BytesIO(b"\0".join(names))) == names


@pytest.mark.parametrize(("data", "expected"), [
    (encoded("JPEG"), r"got the bytes of a picture \(JPEG\): name the file itself"),
    (encoded("AVIF"), r"a picture \(AVIF\)"), (encoded("TIFF"), r"a picture \(TIFF\)"),
    (b"\0\0\0\x18ftypisom", r"the bytes of a video \(MP4"),
    (b"<!doctype html><html>", r"got something else; a web page \(HTML\)"),
    (b"PK\3\4" + bytes(99), "got something else; a ZIP archive"),
    ("a.jpg\n".encode("utf-16"), r"in UTF-8, but this one is in UTF-16: .* iconv")])
def test_standard_input_that_is_no_list_of_paths(data, expected):
    with pytest.raises(InputError, match=f"^- reads a list of paths from standard .*{expected}"):
        inputs.listed(io.BytesIO(data))


@pytest.mark.parametrize("stdin", [io.BytesIO(encoded("PNG")), None])
def test_messages_about_standard_input_name_the_program(monkeypatch, stdin):
    monkeypatch.setattr(sys, "stdin", stdin and SimpleNamespace(buffer=stdin))
    for program, call in (
            ("predict --model RUN", lambda: inputs.find(["-"])),
            ("inspect", lambda: hpc_deepfake.inspect.main(["-"]))):
        with pytest.raises(InputError, match=f"hpc-deepfake {program} {'FILE' if stdin else '-'}$"):
            call()
        if stdin:
            stdin.seek(0)


def test_paths_that_begin_like_a_file_s_content_are_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("BM").mkdir()
    Path("BM", "x.jpg").touch()
    assert inputs.listed(io.BytesIO(b"BM/x.jpg\0y.jpg\0")) == [b"BM/x.jpg", b"y.jpg"]
    assert inputs.listed(io.BytesIO(b"GIF/x.jpg\nMZ.jpg\n")) == [b"GIF/x.jpg", b"MZ.jpg"]


def options(*words: str, config: Path | None = None, **values: object) -> Namespace:
    return Namespace(**{name: None for name in ("frames", "frame_rate", "plot_dir", "ela_dir",
                                                "explain_dir")} | values, pictures=list(words),
                     config=config)


@pytest.mark.parametrize(("name", "word", "message"), [
    ("frames", "in/a.jpg", "--frames is for videos, and no video is named: leave it out"),
    ("frame_rate", "in/a.jpg", "--frame-rate is for videos"),
    ("plot_dir", "in/a.jpg", "--plot-dir is for videos"),
    ("ela_dir", "in/i.3gp", "--ela-dir is for pictures, .*: take its frames out first, such as"),
    ("explain_dir", "in/i.3gp", "--explain-dir is for pictures")])
def test_options_without_effect_on_the_named_files_are_refused(folder, name, word, message):
    """And said where the files come from a folder, a pattern or a list, which may have others
    tomorrow, or where the option comes from a file that serves for other commands, too."""
    with pytest.raises(InputError, match=message):
        inputs.idle(options(word, **{name: 1}), [os.fsencode(word)])
    for source in (options("in", **{name: 1}), options("in/*.x", **{name: 1}),
                   options("-", **{name: 1}), options(word, config=Path("x"), **{name: 1})):
        line, = inputs.idle(source, [os.fsencode(word)])
        assert line.startswith(f"--{name.replace('_', '-')} has no effect: no ")


def test_options_among_pictures_and_videos(folder):
    """What maps leave out is said; that frames are of videos needs no words."""
    both = [b"in/a.jpg", b"in/i.3gp"]
    assert inputs.idle(options("in", frames=3, plot_dir=1), both) == []
    assert inputs.idle(options("in", ela_dir=1), both) == [
        "--ela-dir is for pictures: none of 1 video"]
    assert inputs.idle(options("in"), both) == inputs.idle(options("in/a.jpg"), both[:1]) == []


def test_an_empty_folder_beside_others_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, {"full/a.jpg": scene(1)})
    (tmp_path / "empty").mkdir()
    left = LeftOut()
    assert inputs.find(["full", "empty"], left=left) == [b"full/a.jpg"]
    assert [*left.notes()] == ["no pictures in empty"]
    left = LeftOut()
    assert inputs.find(["empty"], left=left) == [] == [*left.notes()], "which is an error"
    assert re.fullmatch(r"no pictures in empty: name .* end in \.jpg .*; videos end in \.mp4 .*",
                        inputs.none(["empty"]))
    assert "in the list on standard input: " in inputs.none(["-"])
