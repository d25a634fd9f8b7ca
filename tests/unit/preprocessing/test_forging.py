"""Forgeries of own photographs: reproducible, resumable, with right masks, and no file fact tells
the classes apart."""

from __future__ import annotations

import csv
import os
import struct
import zlib
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import alone, run_program
from PIL import Image

from hpc_deepfake.audit import facts, shortcuts
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.mpi import Usage
from preprocessing import make_sample, mask, origin, sample
from preprocessing.catalogue import scan
from preprocessing.forging import command, photographs
from preprocessing.forging.edits import COPY_MOVE, REMOVAL, SPLICE, Edit, edit
from preprocessing.forging.make import make
from preprocessing.forging.photographs import Photograph
from preprocessing.forging.plan import KINDS, plan

COUNT = 96


@pytest.fixture(scope="module")
def scenes() -> list[np.ndarray]:
    """Pictures like photographs, 192 × 144 and one 144 × 192."""
    found = [cv2.resize(sample._scene(2 * number, 11), (192, 144), interpolation=cv2.INTER_AREA)
             for number in range(16)]
    return [*found[:-1], np.ascontiguousarray(found[-1].transpose(1, 0, 2))]


@pytest.fixture(scope="module")
def own(scenes: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs, half of them JPEG; not to be changed."""
    folder = tmp_path_factory.mktemp("own")
    for number, pixels in enumerate(scenes):
        cv2.imwrite(str(folder / f"{number:02}.{('jpg', 'png')[number % 2]}"), pixels)
    return folder


@pytest.fixture(scope="module")
def made(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of forgeries; not to be changed."""
    out = tmp_path_factory.mktemp("made") / "set"
    assert forge(own, out, "--count", str(COUNT)) == 0
    return out


def forge(folder: Path, out: Path, *options: str) -> int:
    return make_sample.main(alone(), ["--from", str(folder), "--out", str(out), *options])


def contents(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_two_ranks_write_the_same_bytes(own: Path, made: Path, tmp_path: Path) -> None:
    done = run_program("preprocessing.make_sample", "--from", own, "--out", "set", "--count",
                       str(COUNT), ranks=2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{COUNT} pictures ({COUNT // 2} authentic + {COUNT // 2} forged" in done.stdout
    assert contents(tmp_path / "set") == contents(made)


def test_a_second_run_only_completes(own: Path, tmp_path: Path,
                                     capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    assert forge(own, out, "--count", "8") == 0
    before = contents(out)
    assert forge(own, out, "--count", "8") == 0
    assert "all of them from an earlier run" in capsys.readouterr().out
    (out / next(name for name in before if name.startswith("Gt/"))).unlink()
    (out / next(name for name in before if name.startswith("Au/"))).write_bytes(b"damaged")
    assert forge(own, out, "--count", "8") == 0
    assert "8 photographs" not in capsys.readouterr().out and contents(out) == before
    for other in (("--count", "10"), ("--count", "8", "--seed", "1"),
                  ("--count", "8", "--qualities", "90"), ("--count", "8", "--kinds", REMOVAL)):
        with pytest.raises(InputError, match="another set"):
            forge(own, out, *other)


def test_preprocessing_finds_classes_masks_and_groups(own: Path, made: Path) -> None:
    listing = scan(made)
    tampered = [path for path, label in zip(listing.paths, listing.labels, strict=True) if label]
    assert len(listing) == COUNT and len(tampered) == COUNT // 2 == len(listing.masks)
    assert set(listing.masks) == set(tampered) and not any("like CASIA" in n for n in listing.notes)
    group_of = dict(zip(listing.paths, listing.groups.tolist(), strict=True))
    with open(made / "pictures.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"].encode() in group_of for row in rows] == [True] * COUNT
    by_photograph: dict[str, set[int]] = {}
    for row in rows:  # every photograph in one group, whatever was made of it or with it
        for name in {row["photograph"], row["donor"] or row["photograph"]}:
            by_photograph.setdefault(name, set()).add(group_of[row["path"].encode()])
    assert len(by_photograph) == 16 and {len(groups) for groups in by_photograph.values()} == {1}
    assert len(set(group_of.values())) > 2
    assert Counter(row["kind"] for row in rows) == {
        "authentic": COUNT // 2, **dict.fromkeys(KINDS, COUNT // 6)}


def test_they_are_not_called_drawn(made: Path) -> None:
    listing = scan(made)
    assert origin.drawn(listing.roots, listing.paths) is False
    assert origin.forged(listing.roots, listing.paths) is True
    assert not any(sample.is_drawn((made / os.fsdecode(path)).read_bytes())
                   for path in listing.paths)


def test_no_fact_of_the_files_tells_the_label(made: Path) -> None:
    """What ``hpc-deepfake audit`` measures; chance alone: 0.5 ± 0.12."""
    listing = scan(made)
    files = [facts.read(os.path.join(os.fsencode(made), path)) for path in listing.paths]
    columns = facts.columns(files)
    for name in ("format", "coding", "mode", "subsampling", "metadata", "software", "comment"):
        assert len(set(columns[name].tolist())) == 1, name
    varying = {name: shortcuts.code(values) for name, values in columns.items()
               if len(set(values.tolist())) > 1 and values.tolist() == values.tolist()}
    assert {"quantisation", "quality", "size", "density", "dimensions"} <= varying.keys()
    found = {each.fact: each.auc for each in
             shortcuts.measure(varying, listing.labels, listing.groups)}
    for name in ("quantisation", "quality", "dimensions"):
        assert found[name] == pytest.approx(0.5, abs=0.02), found
    assert all(auc is not None and 0.35 < auc < 0.62 for auc in found.values()), found


def test_masks_show_what_was_changed(scenes: list[np.ndarray]) -> None:
    """Before the last save, nothing is changed beyond the seam, and nearly everything within."""
    numbers = [Photograph(b"%d" % number, "", number // 4, f"own{number:05d}")
               for number in range(len(scenes))]
    pictures = plan(numbers, 36, 5, KINDS, (90, 95))
    for authentic, forged in zip(pictures[::2], pictures[1::2], strict=True):
        host, none = make(authentic, 5, scenes.__getitem__)
        pixels, changed = make(forged, 5, scenes.__getitem__)
        assert none is None and changed is not None and forged.edit is not None
        assert (authentic.last, authentic.first) == (forged.last, forged.first)
        different = (host != pixels).any(2)
        near = cv2.dilate(changed.astype(np.uint8), np.ones((31, 31))) > 0
        assert not different[~near].any(), forged
        assert different[changed].mean() > 0.6 and 0.002 < changed.mean() < 0.4, forged
        if not forged.edit.feather:
            assert not different[~changed].any(), forged
    assert {each.edit.kind for each in pictures if each.edit} == set(KINDS)


def test_the_files_masks_are_those_of_the_pictures(made: Path) -> None:
    """Decoded, the picture differs from its authentic counterpart within the mask, and hardly
    elsewhere."""
    with open(made / "pictures.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for authentic, forged in zip(rows[::2], rows[1::2], strict=True):
        first, second = (cv2.imread(str(made / row["path"])) for row in (authentic, forged))
        changed = mask.read(os.fsencode(made / forged["mask"]), *first.shape[:2]) > 0
        change = cv2.absdiff(first, second).mean(2)
        assert change[changed].mean() > 4 * change[~changed].mean() + 0.5, forged


@pytest.mark.parametrize("what", [
    Edit(SPLICE, 0.9, angle=25, scale=0.6, feather=2.5, match=1.0), Edit(SPLICE, 0.9, scale=1.2),
    Edit(COPY_MOVE, 0.5, angle=-25, scale=1.2, mirrored=True), Edit(REMOVAL, 0.0001),
    Edit(REMOVAL, 0.5, feather=2.0, grain=True)])
def test_regions_fit_into_pictures_of_any_size(what: Edit) -> None:
    rng = np.random.default_rng(0)
    for height, width in ((128, 128), (128, 700), (300, 130)):
        host = rng.integers(0, 256, (height, width, 3), np.uint8)
        donor = host if what.kind == COPY_MOVE else rng.integers(0, 256, (129, 257, 3), np.uint8)
        edited = edit(host, donor, what, rng)
        assert edited.pixels.shape == host.shape and edited.changed.any()
        assert not edited.changed.all()


def test_grey_pictures_stay_grey(scenes: list[np.ndarray]) -> None:
    grey = cv2.cvtColor(cv2.cvtColor(scenes[0], cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    edited = edit(grey, scenes[1], Edit(SPLICE, 0.2, match=0.5), np.random.default_rng(1))
    assert (edited.pixels != grey).any() and (np.ptp(edited.pixels, axis=2) == 0).all()


def png_of(width: int, height: int) -> bytes:
    """A PNG file that claims these dimensions."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header
            + struct.pack(">I", zlib.crc32(header)) + b"\0\0\0\0IDAT")


def test_photographs_are_not_trusted(scenes: list[np.ndarray], tmp_path: Path,
                                     capsys: pytest.CaptureFixture[str]) -> None:
    """All kinds of usable files are used; what can't be used is named with the reason."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    images = [Image.fromarray(np.ascontiguousarray(scene[..., ::-1])) for scene in scenes[:6]]
    images[0].convert("CMYK").save(folder / "cmyk.jpg")
    images[1].convert("L").save(folder / "grey.jpg")
    images[2].convert("RGBA").save(folder / "deep" / "alpha.png")
    Image.fromarray(np.asarray(images[3].convert("L")).astype(np.uint16) << 8).save(
        folder / "16 bits.png")
    exif = Image.Exif()
    exif[274] = 6  # turned by 90°
    images[4].save(folder / "turned.jpg", exif=exif)
    images[5].save(os.fsencode(folder) + b"/odd\xff\n.jpg", "JPEG")
    good = (folder / "turned.jpg").read_bytes()
    (folder / "zz copy.jpg").write_bytes(good)
    (folder / "broken.jpg").write_bytes(good[:3000])
    (folder / "bomb.png").write_bytes(png_of(60_000, 60_000))
    (folder / "text.jpg").write_text("no picture")
    Image.new("RGB", (200, 200), "blue").save(folder / "plain.png")
    images[0].resize((100, 60)).save(folder / "tiny.png")
    sample.generate(tmp_path / "drawn", 2)
    (folder / "drawn.jpg").write_bytes(next((tmp_path / "drawn/Au").iterdir()).read_bytes())
    (folder / "clip.mp4").write_bytes(b"any")
    assert forge(folder, tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "12 pictures (6 authentic + 6 forged, with masks) of 6 photographs" in said
    assert "1 video left out: clip.mp4" in said and "7 files left out" in said
    for name, why in (("bomb.png", "60000×60000 pixels are too many"), ("plain.png", "of nearly"),
                      ("drawn.jpg", "drawn by hpc-deepfake"), ("broken.jpg", ""),
                      ("tiny.png", "100×60 pixels are too few"), ("text.jpg", "text, neither")):
        assert f"  {name}: {why}" in said
    assert "copy.jpg: the same file as turned.jpg" in said or "the same file as zz copy" in said
    with pytest.raises(InputError, match="0 usable photographs"):
        forge(tmp_path / "out" / "Tp", tmp_path / "again")
    assert "made by hpc-deepfake sample --from" in capsys.readouterr().out


def test_what_is_asked_for_wrongly_is_said(own: Path, made: Path, tmp_path: Path) -> None:
    for words, text in (
            (["--from", str(own)], "--out"),
            (["--from", str(tmp_path / "x"), "--out", str(tmp_path / "o")], "there is no folder"),
            (["--from", str(own), "--out", str(own / "x")], "is in --from"),
            (["--from", str(made), "--out", str(tmp_path / "o")], f"--from {made / 'Au'}"),
            (["--kinds", SPLICE, "--out", str(tmp_path / "o")], "--from")):
        with pytest.raises(InputError) as error:
            make_sample.main(alone(), words)
        assert text in str(error.value)
    one = tmp_path / "one"
    one.mkdir()
    (one / "a.png").write_bytes((own / "01.png").read_bytes())
    with pytest.raises(InputError, match="a splice needs 2"):
        forge(one, tmp_path / "o")
    assert forge(one, tmp_path / "o", "--kinds", "removal,copy-move") == 0
    for option, value in (("--kinds", "splice,splice"), ("--kinds", "deepfake"),
                          ("--qualities", "95-80"), ("--qualities", "90-"),
                          ("--qualities", "high")):
        with pytest.raises(Usage):
            forge(own, tmp_path / "p", option, value)
    assert command.qualities("90") == (90, 90) and command.kinds("removal,splice") == (
        SPLICE, REMOVAL)


def test_pictures_of_one_scene_share_its_name_and_block(scenes: list[np.ndarray],
                                                        tmp_path: Path) -> None:
    """Saved again and far away in the list, a picture is still the same scene."""
    for number, pixels in enumerate(scenes[:9]):
        cv2.imwrite(str(tmp_path / f"{number}.png"), pixels)
    cv2.imwrite(str(tmp_path / "z.jpg"), scenes[0])
    names = photographs.listed(tmp_path, [])
    found = [photographs.examine(tmp_path, name) for name in names]
    blocks = [photographs.block_of(place) for place in range(len(names))]
    usable, reasons = photographs.together(found, blocks, 100)
    assert not reasons and len(usable) == 10 and blocks[0] != blocks[-1]
    assert usable[0].scene == usable[-1].scene and usable[0].block == usable[-1].block
    assert len({each.scene for each in usable}) == 9
    pictures = plan(usable, 20, 0, KINDS, (90, 95))
    assert len({each.path for each in pictures}) == 20
    assert sorted(np.sort(photographs.order(10, 3)).tolist()) == list(range(10))
