"""Masks among pictures: recognised by name, place and content, matched, never counted."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest
from picture_trees import fill, mask, scene

from preprocessing.catalogue import scan
from preprocessing.listing import masks as module
from preprocessing.listing.masks import candidates, is_place, two_valued


def counts(listing) -> list[int]:
    """Authentic and tampered pictures, and tampered ones with a mask."""
    return [int((listing.labels == 0).sum()), int((listing.labels == 1).sum()), len(listing.masks)]


def note(listing, word: str) -> str:
    return next(text for text in listing.notes if word in text)


@pytest.mark.parametrize(("picture", "masks"), [
    ("fake/{}.jpg", ["fake/{}_mask.png"]), ("fake/{}.jpg", ["fake/{}_gt.png"]),
    ("fake/{}.jpg", ["fake/{}-groundtruth.bmp"]), ("fake/{}.tif", ["fake/{}.png"]),
    ("fake/{}.jpg", ["fake/masks/{}.png", "fake/Groundtruth/{}.png"]),
    ("fake/a/{}.jpg", ["fake/a/edgemask/{}_edgemask.jpg"]), ("fake/{}.jpg", ["masks/{}.png"]),
    ("fake/{}.jpg", ["ground truth/fake/{}_gt.png"]), ("fake/{}.jpg", ["fake/mask_{}.png"]),
    ("fake/{}.jpg", ["fake_mask/{}_mask_1.png"])])
def test_masks_beside_and_inside_the_classes(tmp_path, picture, masks):
    files = {f"real/{number}.jpg": scene(number) for number in range(4)}
    for number in range(4):
        files[picture.format(number)] = scene(10 + number)
        files.update((path.format(number), mask(number)) for path in masks)
    listing = scan(fill(tmp_path, files))
    assert counts(listing) == [4, 4, 4]
    assert {os.fsdecode(mask) for mask in listing.masks.values()} <= {
        path.format(number) for number in range(4) for path in masks}
    assert listing.masks[picture.format(2).encode()] in {path.format(2).encode() for path in masks}
    left = [text for text in listing.notes if "ground-truth masks" in text]
    assert len(left) == len(masks) - 1
    assert all(text.startswith("4 ground-truth masks left out") for text in left)
    assert all(b"mask" not in path and b"gt" not in path for path in listing.paths)


def test_photographs_named_like_masks_are_pictures(tmp_path):
    """A person in a mask has many colours; a real mask beside it is none of a picture's."""
    listing = scan(fill(tmp_path, {
        "real/surgical_mask.jpg": scene(1), "real/carnival_mask_2.png": scene(2),
        "real/masks/venice.jpg": scene(3), "real/1.jpg": scene(4), "real/1.png": scene(4),
        "fake/a.jpg": scene(5), "fake/a_mask.png": mask()}))
    assert counts(listing) == [5, 1, 1]
    assert "3 files named or placed like masks listed as pictures" in note(listing, "many colours")


@pytest.mark.parametrize("name", ["1Mask.png", "1msk.bmp", "1_region.png", "maskOf1.png",
                                  "1-binary.png", "mask1.png"])
def test_a_name_that_begins_or_ends_with_that_of_a_picture_beside_it(tmp_path, name):
    """Such names alone say nothing: the content must."""
    files = {"real/1.jpg": scene(1), "fake/1.jpg": scene(2), "fake/Of1.jpg": scene(3)}
    assert counts(scan(fill(tmp_path / "a", {**files, f"fake/{name}": mask()}))) == [1, 2, 1]
    assert counts(scan(fill(tmp_path / "b", {**files, f"fake/{name}": scene(4)}))) == [1, 3, 0]


def page(number: int) -> np.ndarray:
    """A scanned page, black on white, uint8 (120, 90, 3)."""
    lines = np.random.default_rng(number).integers(30, 90, 12)
    pixels = np.full((120, 90, 3), 255, np.uint8)
    for line, length in enumerate(lines):
        pixels[8 * line + 10, 5:length] = 0
    return pixels


def test_copies_of_scanned_documents_are_pictures(tmp_path):
    """Black on white, as JPEG and PNG: not masks of each other; a document's mask is one."""
    files = {f"{label}/{at}.{ending}": page(at) for label in ("real", "fake") for at in range(4)
             for ending in ("jpg", "png")}
    blank = {f"{label}/blank.{ending}": np.full((9, 9, 3), 255, np.uint8)
             for label in ("real", "fake") for ending in ("jpg", "png")}
    assert counts(scan(fill(tmp_path, {**files, **blank}))) == [10, 10, 0]
    for at in range(4):
        fill(tmp_path, {f"fake/{at}.png": mask(at)})
    assert counts(scan(tmp_path)) == [10, 6, 4]


def test_of_many_files_a_sample_decides(tmp_path):
    """Thirty of a kind: not all are looked at, but photographs are not taken for masks."""
    files = {f"real/{number}.jpg": None for number in range(30)}
    files |= {f"fake/{number}.jpg": None for number in range(30)}
    photographs = fill(tmp_path / "a", files | {
        f"fake/{number}_mask.jpg": scene(number) for number in range(30)})
    assert counts(scan(photographs)) == [30, 60, 0]
    assert counts(scan(fill(tmp_path / "b", files | {
        f"fake/{number}_mask.jpg": mask(number) for number in range(30)}))) == [30, 30, 30]


def test_masks_in_a_thousand_folders_are_not_all_looked_at(tmp_path, monkeypatch):
    """A folder of masks for each video, and IMD2020's for each scene."""
    looked_at: list[bytes] = []
    monkeypatch.setattr(module, "two_valued", lambda path: looked_at.append(path) or True)
    videos = scan(fill(tmp_path / "videos", dict.fromkeys(
        f"{label}/v{at}/{kind}" for label in ("real", "fake") for at in range(30)
        for kind in ("1.jpg", "2.jpg", "masks/1.png", "2_mask.png"))))
    assert (len(videos), len(videos.masks)) == (120, 60)
    scenes = scan(fill(tmp_path / "scenes", dict.fromkeys(
        f"s{at}/{name}" for at in range(30) for name in ("a_orig.jpg", "b_0.jpg", "b_0_mask.png"))))
    assert (len(scenes), len(scenes.masks)) == (60, 30)
    assert len(looked_at) <= 5 * 24


def test_videos_of_masks(tmp_path):
    """FaceForensics++: of several methods with the same names, each has the masks of its own."""
    top = "manipulated_sequences"
    listing = scan(fill(tmp_path, dict.fromkeys([
        "original_sequences/youtube/c23/videos/000.mp4",
        *(f"{top}/{method}/{kind}/videos/000_003.mp4" for method in ("Deepfakes", "FaceSwap")
          for kind in ("c23", "c40", "masks"))])))
    assert listing.masks == {
        f"{top}/{method}/{kind}/videos/000_003.mp4".encode():
        f"{top}/{method}/masks/videos/000_003.mp4".encode()
        for method in ("Deepfakes", "FaceSwap") for kind in ("c23", "c40")}
    assert sum(path.endswith(b"#frame=1of10") for path in listing.paths) == 5


def test_equal_names_in_several_folders_have_their_own_masks(tmp_path):
    """The end of a folder's path counts, and words for masks don't."""
    pairs = {f"fake/{folder}/{at}.jpg": f"{top}/{folder}{end}/{at}.png"
             for folder, top, end in (("scene0", "masks", ""), ("scene1", "masks", "/gt"),
                                      ("scene2", "GT", "_mask"), ("a/005_007", "masks/a", ""),
                                      ("b/005_007", "masks/b", "")) for at in range(2)}
    others = ["masks/scene3/0.png", "masks/0.png", "masks/scene9/1.png"]
    listing = scan(fill(tmp_path, {
        "real/scene3/0.jpg": None, "fake/scene4/0.jpg": None, **dict.fromkeys(pairs, None),
        **{path: mask() for path in (*pairs.values(), *others)}}))
    assert {os.fsdecode(path): os.fsdecode(of) for path, of in listing.masks.items()} == pairs
    assert "3 ground-truth masks left out" in note(listing, "masks")


def test_of_several_masks_the_changed_region_is_taken(tmp_path):
    listing = scan(fill(tmp_path, {
        "authentic/000000000001.jpg": None, "splicing_1_img/img/0_000000000001.tif": None,
        "splicing_1_annotations/donor_mask/0_000000000001.tif": mask(),
        "splicing_1_annotations/probe_mask/0_000000000001.jpg": mask()}))
    assert listing.masks == {b"splicing_1_img/img/0_000000000001.tif":
                             b"splicing_1_annotations/probe_mask/0_000000000001.jpg"}


def test_masks_of_authentic_pictures_are_left_out(tmp_path):
    listing = scan(fill(tmp_path, {
        "4cam_auth/a.tif": None, "4cam_auth/edgemask/a_edgemask.jpg": mask(),
        "4cam_splc/b.tif": None, "4cam_splc/edgemask/b_edgemask_3.jpg": mask()}))
    assert counts(listing) == [1, 1, 1]
    assert listing.masks == {b"4cam_splc/b.tif": b"4cam_splc/edgemask/b_edgemask_3.jpg"}
    assert note(listing, "mask") == (
        "1 ground-truth mask left out, of authentic pictures, of none, or beside another one of "
        "the same picture (4cam_auth/edgemask/a_edgemask.jpg)")


@pytest.mark.parametrize(("name", "is_one"), [
    ("masks", True), ("Groundtruth", True), ("CASIA 2 Groundtruth", True), ("edgemask", True),
    ("probe_mask", True), ("GT", True), ("Tp_gt", True), ("splicing_1_annotations", True),
    ("binary-masks", True), ("real", False), ("gtx", False), ("masked", False),
    ("maskenball", False), ("agt", False), ("train", False)])
def test_names_of_folders_of_masks(name, is_one):
    assert is_place(name.encode()) == is_one


def test_names_of_masks():
    paths = [b"a/1_mask.png", b"a/masked.png", b"a/unmask.png", b"a/x_gt2.png", b"a/mgt.png",
             b"a/_mask.png", b"a/mask.png"]
    assert {path: found.picture for path, found in candidates(paths).items()} == {
        b"a/1_mask.png": b"1", b"a/x_gt2.png": b"x"}


@pytest.mark.parametrize(("ending", "quality"), [(".png", None), (".jpg", 90), (".jpg", 40)])
def test_two_values_survive_jpeg(tmp_path, ending, quality):
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if quality else []
    large = {name: cv2.resize(pixels, (320, 240), interpolation=cv2.INTER_NEAREST)
             for name, pixels in (("mask", mask()), ("photograph", scene(1)))}
    for name, pixels in large.items():
        path = os.fspath(tmp_path / f"{name}{ending}")
        cv2.imwrite(path, pixels, options)
        assert two_valued(path.encode()) == (name == "mask")
    assert two_valued(b"/nowhere.png") is None
