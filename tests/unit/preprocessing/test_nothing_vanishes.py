"""Pictures that no class holds, and splits of authors that are not kept: each has a note."""

from __future__ import annotations

import pytest
from picture_trees import fill

from hpc_deepfake.core.errors import InputError
from preprocessing.catalogue import Catalogue, scan, scan_pair
from preprocessing.listing.parts import part_of
from preprocessing.split import PARTS


def parts(listing: Catalogue) -> dict[str, str]:
    assert listing.parts is not None
    return {path.partition(b"#")[0].decode(): PARTS[part] if part < 3 else "" for path, part in zip(
        listing.paths, listing.parts.tolist(), strict=True)}


def told(listing: Catalogue, *words: str) -> bool:
    return any(all(word in note for word in words) for note in listing.notes)


def test_pictures_in_no_class_are_counted_by_folder(tmp_path):
    top = fill(tmp_path / "top", dict.fromkeys((
        "set/real/a.jpg", "set/fake/b.jpg", "set/loose.jpg", "set/masks/b.png", "0.jpg", "1.mp4",
        "set/new/c.jpg", "one/real/d.jpg", "a/b/c/d/real/e.jpg", "a/b/c/d/fake/f.jpg",
        "more/x.jpg", "more/notes.txt", ".hidden/y.jpg")))
    (top / "more/back").symlink_to(top, target_is_directory=True)
    listing = scan(top)
    assert len(listing) == 2
    assert told(listing, "7 pictures in no class left out (2 in top, 1 in top/a/b/c/d/fake, "
                "1 in top/a/b/c/d/real, 1 in top/more, 1 in top/one/real, 1 in top/set)")
    assert told(listing, "left out new (1 picture")
    pair = scan_pair(top / "set", top / "set")
    assert told(pair, "1 picture in no class left out (1 in set)") and told(pair, "left out new")
    assert scan(fill(tmp_path / "plain", dict.fromkeys(("real/a.jpg", "fake/b.jpg")))).notes == []


def test_a_part_with_one_class_only_is_kept(tmp_path):
    listing = scan(fill(tmp_path, dict.fromkeys((
        "train/real/a.jpg", "train/fake/b.jpg", "val/real/c.jpg", "test/d.jpg"))))
    assert parts(listing) == {"train/real/a.jpg": "train", "train/fake/b.jpg": "train",
                              "val/real/c.jpg": "validation"}
    assert told(listing, "test: a part of the author's split without folders of classes")


def test_pictures_in_no_part_do_not_end_the_split(tmp_path):
    listing = scan(fill(tmp_path, dict.fromkeys((
        "real/train/a.jpg", "real/test/b.jpg", "fake/train/c.jpg", "fake/test/d.jpg",
        "fake/e.jpg", "fake/more/f.jpg"))))
    assert parts(listing) == {
        "real/train/a.jpg": "train", "real/test/b.jpg": "test", "fake/train/c.jpg": "train",
        "fake/test/d.jpg": "test", "fake/e.jpg": "", "fake/more/f.jpg": ""}
    assert told(listing, "1 in none") or told(listing, "2 in none")


@pytest.mark.parametrize(("name", "part"), [
    ("test_set", "test"), ("Training set", "train"), ("val-images", "validation"),
    ("testing_data", "test"), ("train_val", ""), ("testimony", ""), ("data", ""), ("set", "")])
def test_names_of_parts(name, part):
    assert [*PARTS, *[""] * 300][part_of(name)] == part


@pytest.mark.parametrize("pattern", ["{name}/{label}/1.jpg", "{label}/{name}/1.jpg"])
def test_a_single_part_beside_other_folders_is_named(tmp_path, pattern):
    listing = scan(fill(tmp_path, dict.fromkeys(
        pattern.format(name=name, label=label)
        for name in ("train", "holdout") for label in ("real", "fake"))))
    assert listing.parts is None
    assert told(listing, "train is named like a part of an author's split, but not holdout")


CELEB = dict.fromkeys(("Celeb-real/id0_0000.mp4", "Celeb-real/id0_0001.mp4",
                       "Celeb-synthesis/id0_id1_0000.mp4"))
FACES = dict.fromkeys(("original_sequences/youtube/c23/videos/071.mp4",
                       "original_sequences/youtube/c23/videos/953.mp4",
                       "manipulated_sequences/Deepfakes/c23/videos/953_974.mp4"))


def test_celeb_df_without_labels_in_the_list(tmp_path):
    listing = scan(fill(tmp_path, {**CELEB, "List_of_testing_videos.txt":
                                   "Celeb-real/id0_0000.mp4\r\nCeleb-real/gone.mp4\n?\n"}))
    assert parts(listing)["Celeb-real/id0_0000.mp4"] == "test"
    assert [*parts(listing).values()].count("train") == 2
    assert told(listing, "names 1 video that is not there: Celeb-real/gone.mp4")
    assert told(listing, "1 line not understood")


@pytest.mark.parametrize(("files", "words"), [
    ({**CELEB, "List_of_testing_videos.txt": "1 Celeb-real/gone.mp4\n"},
     ("List_of_testing_videos.txt is not used", "none of the videos")),
    ({**FACES, "splits/train.json": '[["1", "2"]]', "splits/test.json": "[]"},
     ("test.json: not used", "none of the videos")),
    ({**FACES, "splits": "", "train.json": '{"images": []}'}, ("train.json is not used",))])
def test_a_list_that_gives_no_split_is_named(tmp_path, files, words):
    listing = scan(fill(tmp_path, files))
    assert listing.parts is None and told(listing, *words)


def test_lists_of_face_forensics_that_are_missing_or_damaged_are_named(tmp_path):
    top = fill(tmp_path, {**FACES, "splits/train.json": '[["071", "054"]]',
                          "splits/test.json": '[["953", "974"]]'})
    listing = scan(top)
    assert sorted(parts(listing).values()) == ["test", "test", "train"]
    assert told(listing, "splits: without val.json of the author's split")
    fill(top, {"splits/val.json": '[["720", "672"'})
    with pytest.raises(InputError, match=r"cannot read .*val\.json, which gives the author's spl"):
        scan(top)
