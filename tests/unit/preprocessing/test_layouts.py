"""Published data sets by their folders: labels, groups, masks; and an author's split."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from picture_trees import fill, mask, scene

from hpc_deepfake.core.errors import InputError
from preprocessing.catalogue import Catalogue, scan, scan_pair
from preprocessing.split import PARTS, completed, described, straddling


def rows(listing: Catalogue) -> dict[str, tuple[int, int]]:
    """Label and group of each file."""
    return {path.partition(b"#")[0].decode(): (label, group) for path, label, group in zip(
        listing.paths, listing.labels.tolist(), listing.groups.tolist(), strict=True)}


def parts(listing: Catalogue) -> dict[str, str]:
    return {path.partition(b"#")[0].decode(): PARTS[part] if part < 3 else "" for path, part in zip(
        listing.paths, listing.parts.tolist(), strict=True)}


def test_columbia(tmp_path):
    """Hsu & Chang 2006: spliced ones are named after two cameras, not after their pictures."""
    listing = scan(fill(tmp_path, {
        "4cam_auth/canong3_02_sub_01.tif": scene(1), "4cam_auth/nikond70_05_sub_03.tif": scene(2),
        "4cam_auth/edgemask/canong3_02_sub_01_edgemask.jpg": mask(),
        "4cam_splc/canong3_nikond70_sub_01.tif": scene(3),
        "4cam_splc/edgemask/canong3_nikond70_sub_01_edgemask_3.jpg": mask()}))
    assert rows(listing) == {"4cam_auth/canong3_02_sub_01.tif": (0, 0),
                             "4cam_auth/nikond70_05_sub_03.tif": (0, 1),
                             "4cam_splc/canong3_nikond70_sub_01.tif": (1, 2)}
    assert len(listing.masks) == 1


def test_coverage(tmp_path):
    listing = scan(fill(tmp_path, {
        "readme.txt": "", "label/1.txt": "", **{f"image/{at}{t}.tif": scene(at)
                                                for at in (1, 2, 10) for t in ("", "t")},
        **{f"mask/{at}{kind}.tif": mask() for at in (1, 2, 10)
           for kind in ("copy", "forged", "paste")}}))
    assert rows(listing) == {
        "image/1.tif": (0, 0), "image/10.tif": (0, 1), "image/2.tif": (0, 2),
        "image/1t.tif": (1, 0), "image/10t.tif": (1, 1), "image/2t.tif": (1, 2)}
    assert listing.masks == {f"image/{at}t.tif".encode(): f"mask/{at}forged.tif".encode()
                             for at in (1, 2, 10)}
    assert any(note.startswith("6 ground-truth masks left out") for note in listing.notes)


def test_imd_2020(tmp_path):
    listing = scan(fill(tmp_path, {
        "IMD2020/1a1ogs/1a1ogs_orig.jpg": scene(1), "IMD2020/1a1ogs/c8tf5mq_0.png": scene(1, 1),
        "IMD2020/1a1ogs/c8tf5mq_0_mask.png": mask(), "IMD2020/1a3oag/1a3oag_orig.jpg": scene(2),
        "IMD2020/1a3oag/c8tt7fg_0.jpg": scene(2, 2), "IMD2020/1a3oag/c8tt7fg_0_mask.png": mask(),
        **{f"IMD2020/z41/{at:05}_{kind}.jpg": scene(at) for at in (9, 10)
           for kind in ("orig", "fake")},
        **{f"IMD2020/z41/{at:05}_fake_mask.png": mask() for at in (9, 10)}}))
    found = {path.removeprefix("IMD2020/"): row for path, row in rows(listing).items()}
    assert found["1a1ogs/1a1ogs_orig.jpg"] == (0, 0) and found["1a1ogs/c8tf5mq_0.png"] == (1, 0)
    assert found["z41/00009_orig.jpg"][1] == found["z41/00009_fake.jpg"][1] != \
        found["z41/00010_fake.jpg"][1]
    assert listing.labels.sum() == len(listing.masks) == 4
    assert listing.grouped() == "8 images in 4 groups by IMD2020"


def test_folders_without_an_original_are_not_imds(tmp_path):
    """Any laboratory may name pictures so: the note says what was made of them."""
    files = {f"case{at}/{name}.jpg": scene(at) for at in range(3) for name in ("a_orig", "other")}
    listing = scan(fill(tmp_path, {**files, "none/a.jpg": scene(7), "none/b.jpg": scene(8),
                                   "loose.jpg": scene(9)}))
    assert len(listing) == 6 and listing.labels.sum() == 3
    text = "\n".join(listing.notes)
    assert "read as IMD2020, so each picture beside one named …_orig counts as tampered: 3" in text
    assert ("3 files left out, in no folder with a picture named …_orig "
            "(loose.jpg, none/a.jpg, none/b.jpg)") in text


def test_nist_16(tmp_path):
    """The tables decide, over several tasks; other pictures are no class."""
    header = "TaskID|ProbeFileID|ProbeFileName|ProbeMaskFileName|BaseFileName|IsTarget\n"
    listing = scan(fill(tmp_path, {
        "reference/manipulation/NC2016-manipulation-ref.csv": header
        + "m|1|probe/NC2016_1.jpg|reference/manipulation/mask/m1.png|world/NC2016_9.jpg|Y\n"
        + "m|2|probe/NC2016_2.jpg||world/NC2016_9.jpg|N\nm|3|probe/NC2016_3.jpg|||N\n"
        + "m|4|probe/NC2016_4.jpg|||N\n",
        "reference/splice/NC2016-splice-ref.csv": header
        + "s|3|probe/NC2016_3.jpg|reference/splice/mask/m3.png|world/NC2016_8.jpg|Y\n",
        "reference/manipulation/mask/m1.png": mask(), "reference/splice/mask/m3.png": mask(),
        **{f"probe/NC2016_{at}.jpg": scene(at) for at in (1, 2, 3, 5)},
        "world/NC2016_9.jpg": scene(9)}))
    found = rows(listing)
    assert {path: label for path, (label, _) in found.items()} == {
        "probe/NC2016_2.jpg": 0, "probe/NC2016_1.jpg": 1, "probe/NC2016_3.jpg": 1}
    assert found["probe/NC2016_1.jpg"][1] == found["probe/NC2016_2.jpg"][1] \
        != found["probe/NC2016_3.jpg"][1]
    assert listing.masks == {b"probe/NC2016_1.jpg": b"reference/manipulation/mask/m1.png",
                             b"probe/NC2016_3.jpg": b"reference/splice/mask/m3.png"}
    text = "\n".join(listing.notes)
    assert "1 file of NIST16's list is missing: probe/NC2016_4.jpg" in text
    assert "2 files left out, not in its tables (probe/NC2016_5.jpg, world/NC2016_9.jpg)" in text
    assert ".csv" not in text, "the tables, which are read"


def test_defacto_with_the_pictures_of_coco_that_it_was_made_from(tmp_path):
    """Tampered pictures only: the others come from MS COCO, below one folder or named apart."""
    top = fill(tmp_path, dict.fromkeys((
        "defacto/splicing_1_img/img/0_000000195755.tif",
        "defacto/splicing_1_img/img/12_000000195755.tif",
        "defacto/inpainting_img/img/0_000000000260.tif",
        "defacto/splicing_1_annotations/probe_mask/0_000000195755.jpg",
        "coco/000000195755.jpg", "coco/000000000777.jpg")))
    listing = scan_pair(top / "coco", top / "defacto")
    assert [group for _, group in rows(listing).values()] == [0, 1, 2, 1, 1]
    assert listing.grouped() == "5 images in 3 groups by DEFACTO"
    with pytest.raises(InputError, match="--authentic DIR --tampered DIR"):
        scan(top / "defacto")
    (top / "coco").rename(top / "defacto/authentic")
    assert np.array_equal(scan(top / "defacto").groups, [0, 1, 2, 1, 1])


def test_dfdc(tmp_path):
    """Labels and originals from metadata.json; videos that it does not name are left out."""
    files = {"dfdc_train_part_0/metadata.json": json.dumps({
        "a.mp4": {"label": "FAKE", "split": "train", "original": "b.mp4"},
        "b.mp4": {"label": "REAL", "split": "train", "original": None},
        "c.mp4": {"label": "REAL", "split": "train"}, "gone.mp4": {"label": "FAKE"},
        "odd.mp4": {"label": "?"}, "x.mp4": 3}),
        "dfdc_train_part_1/metadata.json": json.dumps({
            "d.mp4": {"label": "FAKE", "original": "c.mp4"}})}
    files |= {f"dfdc_train_part_0/{name}.mp4": None for name in ("a", "b", "c", "odd")}
    listing = scan(fill(tmp_path, files | {"dfdc_train_part_1/d.mp4": None}))
    assert {path[18:]: row for path, row in rows(listing).items()} == {
        "b.mp4": (0, 0), "c.mp4": (0, 1), "a.mp4": (1, 0), "d.mp4": (1, 1)}
    text = "\n".join(listing.notes)
    assert "1 file of DFDC's list is missing: gone.mp4" in text
    assert "1 file left out, without a label in metadata.json (odd.mp4)" in text
    assert ".json\n" not in text + "\n", "the lists, which are read"


@pytest.mark.parametrize("content", ["[]", "{}", '{"a.mp4": {"text": 1}}'])
def test_a_list_without_labels_is_named(tmp_path, content):
    with pytest.raises(InputError, match=r"metadata\.json isn't used: it has no labels as DFDC"):
        scan(fill(tmp_path, {"metadata.json": content, "a.mp4": None}))


def test_a_damaged_list_of_a_data_set_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*metadata\.json"):
        scan(fill(tmp_path, {"metadata.json": "{", "a.mp4": None}))


@pytest.mark.parametrize("names", [("train", "valid", "test"), ("Training", "val", "Testing")])
@pytest.mark.parametrize("pattern", ["{part}/{label}/img{at}.jpg", "{label}/{part}/img{at}.jpg",
                                     "set/{part}/pictures/{label}/img{at}.jpg"])
def test_an_authors_split_in_folders_is_kept(tmp_path, names, pattern):
    listing = scan(fill(tmp_path, dict.fromkeys(
        pattern.format(part=name, label=label, at=at) for name in names
        for label in ("real", "fake") for at in range(3))))
    found = parts(listing)
    for name, part in zip(names, PARTS, strict=True):
        assert {found[path] for path in found if name in path.split("/")} == {part}
    assert any("author's split, by folder" in note for note in listing.notes)
    assert int(listing.groups.max()) + 1 == 9, "real and fake of one name, not those of other parts"
    assert {path.split(b"/")[-1] for path in listing.only(2).paths} == {
        b"img0.jpg", b"img1.jpg", b"img2.jpg"}
    with pytest.raises(InputError, match="has no test part"):
        scan(fill(tmp_path / "plain", {"real/1.jpg": None, "fake/1.jpg": None})).only(2)


def test_folders_with_other_names_are_no_split(tmp_path):
    for at, names in enumerate((("train", "car"), ("train", "training"), ("a", "b"))):
        assert scan(fill(tmp_path / str(at), dict.fromkeys(
            f"{label}/{name}/{number}.jpg" for name in names for label in ("real", "fake")
            for number in range(2)))).parts is None


def test_lists_of_celeb_df_and_face_forensics_are_their_split(tmp_path):
    celeb = scan(fill(tmp_path / "celeb", {
        "List_of_testing_videos.txt": "1 YouTube-real/00170.mp4\n0 Celeb-synthesis/id1_id0_0007.mp4"
                                      "\n", **dict.fromkeys((
            "YouTube-real/00170.mp4", "YouTube-real/00171.mp4", "Celeb-real/id1_0007.mp4",
            "Celeb-synthesis/id1_id0_0007.mp4"))}))
    assert parts(celeb) == {
        "YouTube-real/00170.mp4": "test", "YouTube-real/00171.mp4": "train",
        "Celeb-real/id1_0007.mp4": "train", "Celeb-synthesis/id1_id0_0007.mp4": "test"}
    forensics = scan(fill(tmp_path / "ff", {
        "splits/train.json": '[["071", "054"]]', "splits/val.json": '[["720", "672"]]',
        "splits/test.json": '[["953", "974"]]', **dict.fromkeys((
            "original_sequences/youtube/c23/videos/071.mp4",
            "original_sequences/youtube/c23/images/720/0001.png",
            "original_sequences/youtube/c23/images/999/0001.png",
            "manipulated_sequences/Deepfakes/c23/videos/974_953.mp4"))}))
    assert sorted(parts(forensics).items()) == [
        ("manipulated_sequences/Deepfakes/c23/videos/974_953.mp4", "test"),
        ("original_sequences/youtube/c23/images/720/0001.png", "validation"),
        ("original_sequences/youtube/c23/images/999/0001.png", ""),
        ("original_sequences/youtube/c23/videos/071.mp4", "train")]
    assert any("split, by List_of_testing_videos.txt: 2 train, 2 test" in note
               for note in celeb.notes)
    assert any("split, by splits/{train,val,test}.json: " in note for note in forensics.notes)
    assert not any("left out" in note for note in forensics.notes), "its lists are used"


def test_folders_beside_the_classes_are_named_with_what_is_in_them(tmp_path):
    listing = scan(fill(tmp_path, dict.fromkeys((
        "real/1.jpg", "fake/1.jpg", "deepfake/2.jpg", "fake_images/a/3.JPG", "docs/x.txt"))))
    assert listing.notes == [f"{tmp_path}: left out deepfake, docs, fake_images (2 pictures, "
                             "folders whose names are no class)"]
    shutil.rmtree(tmp_path / "deepfake")
    shutil.rmtree(tmp_path / "fake_images")
    assert scan(tmp_path).notes == [
        f"{tmp_path}: left out docs (no pictures, a folder whose name is no class)"]


def test_a_split_without_validation_part_gets_one_from_training():
    """By group, near its share; the author's test part stays."""
    labels, groups = np.tile([0, 1], 100).astype(np.uint8), np.arange(200, dtype=np.int32) // 4
    given = np.repeat([0, 2], 100).astype(np.uint8)
    made = completed(given, labels, groups, (0.8, 0.2), 0)
    assert np.bincount(made).tolist() == [80, 20, 100] and (made[100:] == 2).all()
    assert straddling(made, groups) == 0
    assert described(given, "80/20") == "author's train/test, rest 80/20"
    whole = np.repeat([0, 1, 2, 0], 50).astype(np.uint8)
    assert np.array_equal(completed(whole, labels, groups, (0.8, 0.2), 0), whole)
    assert described(whole, "80/20") == "author's train/validation/test"
    assert straddling(whole, groups) == 2
    nothing = np.where(np.arange(200) < 100, whole, 255).astype(np.uint8)
    made = completed(nothing, labels, groups, (0.7, 0.1, 0.2), 0)
    assert np.array_equal(made[:100], whole[:100]) and set(made[100:].tolist()) == {0, 1, 2}


def test_no_pictures_names_the_ways_out(tmp_path):
    with pytest.raises(InputError) as caught:
        scan(fill(tmp_path, dict.fromkeys(("cats/1.jpg", "dogs/2.jpg"))))
    text = str(caught.value)
    assert "It has the folders cats, dogs." in text
    for word in ("real/ and fake/", "--authentic DIR --tampered DIR", "--manifest LIST.csv",
                 "docs/data.md", "hpc-deepfake sample --out"):
        assert word in text
