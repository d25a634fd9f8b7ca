"""Groups of common source: frames in folders, numbered series, unrelated pictures, FaceForensics++,
and what the summary says about them."""

from __future__ import annotations

import numpy as np
import pytest
from picture_trees import fill, scene

from preprocessing.catalogue import Catalogue, scan, with_copies
from preprocessing.listing.series import prefix_of
from preprocessing.names import At


def number(listing: Catalogue) -> int:
    return int(listing.groups.max()) + 1


def group(listing: Catalogue, path: str) -> int:
    return int(listing.groups[listing.paths.index(path.encode())])


def videos(name: str, count: int = 6, frames: int = 5) -> dict[str, np.ndarray]:
    """Frames of videos: half of them real, half fake, under names made of {video} and {frame}."""
    return {f"{('real', 'fake')[video % 2]}/" + name.format(video=video, frame=frame):
            scene(video, frame) for video in range(count) for frame in range(frames)}


def unrelated(name: str, count: int = 6, frames: int = 5) -> dict[str, np.ndarray]:
    return {f"{('real', 'fake')[video % 2]}/" + name.format(video=video, frame=frame):
            scene(1000 * video + frame) for video in range(count) for frame in range(frames)}


@pytest.mark.parametrize("name", [
    "vid{video:02}/{frame:04}.png", "v{video}/frame_{frame}.png", "v{video}/x/{frame}.png",
    "clip{video}_{frame:04}.png", "clip {video} frame {frame}.png", "a/v{video}-{frame:03}.png",
    "v{video}/crop_a{frame}b.png", "v{video}_frame{frame}_face0.png", "v{video}_t{frame}.5s.png",
    "v{video}_{frame}.25.png", "v{video}_00-0{frame}-30.png", "v{video}-{frame}m30s.png",
    "{frame}_v{video}.png", "frame{frame}_v{video}.png", "{frame:03}-clip{video}x.png"])
def test_frames_of_a_video_share_a_group(tmp_path, name):
    listing = scan(fill(tmp_path, videos(name)))
    assert number(listing) == 6
    assert np.bincount(listing.groups).tolist() == [5] * 6
    assert listing.grouped() in ("30 images in 6 groups by folder",
                                 "30 images in 6 groups by numbered series")
    assert listing.notes == []


@pytest.mark.parametrize("name", ["img{video}{frame}.png", "IMG_{video:04}{frame}.png"])
def test_unrelated_pictures_of_one_series_are_not_one_video(tmp_path, name):
    listing = scan(fill(tmp_path, unrelated(name, 8)))
    assert number(listing) == 40, "a group each"
    assert listing.grouped() == "40 images in 40 groups by name"
    assert listing.notes == []


@pytest.mark.parametrize(("name", "option"), [
    ("cats{video}/{frame}.png", "folder"), ("cats{video}/{frame:02}x{frame}y.png", "folder"),
    ("DSC{video}_{frame}.png", "series")])
def test_few_series_of_unrelated_pictures_are_not_grouped_and_a_note_says_so(
        tmp_path, name, option):
    top = fill(tmp_path, unrelated(name))
    listing = scan(top)
    assert number(listing) == 30
    (text,) = listing.notes
    assert "look unrelated" in text and f"--group-by {option} groups them" in text
    assert number(scan(top, group_by=option)) == 6


@pytest.mark.parametrize(("frame", "photograph", "many", "rule"), [
    ("clip{video}_{frame}.png", "photo_{video}{frame:03}.png", 20, "numbered series"),
    ("clip{video}_{frame}.png", "photo_{video}{frame:03}.png", 5, "numbered series"),
    ("clip{video}/{frame}.png", "flickr{video}/{frame}.png", 12, "folder"),
    ("clip{video}/{frame}.png", "flickr/{video}{frame:03}.png", 12, "folder")])
def test_series_are_judged_by_their_kind(tmp_path, frame, photograph, many, rule):
    """Photographs beside clips, more or fewer than these: the note is about them alone."""
    listing = scan(fill(tmp_path, {**videos(frame), **unrelated(photograph, frames=many)}))
    alone = 6 * many
    assert np.sort(np.bincount(listing.groups)).tolist() == [1] * alone + [5] * 6
    assert listing.grouped().endswith(f"30 images in 6 groups by {rule}") or many == 5
    (text,) = listing.notes
    assert text.startswith(f"{alone} pictures in ") and "look unrelated" in text
    assert "clip" not in text


@pytest.mark.parametrize("name", ["vid{video}/{label}/frame_{frame}.png", "v{video}/{label}/{frame}"
                                  ".png", "v{video}/{label}/crops/{frame}.png"])
def test_classes_below_the_folder_of_each_video(tmp_path, name):
    listing = scan(fill(tmp_path, {
        name.format(video=video, frame=frame, label=label): scene(video + 50 * (label == "fake"),
                                                                   frame)
        for video in range(6) for frame in range(4) for label in ("real", "fake")}))
    assert np.bincount(listing.groups).tolist() == [8] * 6
    assert listing.notes == []


def test_data_sets_beside_each_other_are_not_taken_for_videos(tmp_path):
    listing = scan(fill(tmp_path, {
        f"{place}/{label}/img{at}.png": scene(100 * number + at + 10 * (label == "fake"))
        for number, place in enumerate("abcd") for at in range(4) for label in ("real", "fake")}))
    assert number(listing) == 16
    assert listing.notes == []


def test_a_clip_and_its_frames_share_a_group(tmp_path):
    """Beside it in a folder or series of its name, or in folders of clips and frames."""
    listing = scan(fill(tmp_path, {
        "real/one.mp4": None, "real/two.mp4": None, "fake/videos/three.mp4": None,
        "fake/videos/four.mp4": None, "real/000.mp4": None,
        **{f"real/one/{at}.png": scene(1, at) for at in range(3)},
        **{f"real/two_{at}.png": scene(100 + at) for at in range(3)},
        **{f"fake/frames/three/{at}.png": scene(3, at) for at in range(3)},
        **{f"fake/four_frames/{at}.png": scene(4, at) for at in range(3)},
        **{f"real/other/{at}.png": scene(5, at) for at in range(3)},
        "real/000/1.png": scene(6), "real/photo.png": scene(7)}), lambda path: [At(0)])
    for clip, pictures in (("real/one.mp4", "real/one/"), ("real/two.mp4", "real/two_"),
                           ("fake/videos/three.mp4", "fake/frames/three/"),
                           ("fake/videos/four.mp4", "fake/four_frames/"),
                           ("real/000.mp4", "real/000/")):
        found = {group for path, group in zip(listing.paths, listing.groups.tolist(), strict=True)
                 if path.startswith(pictures.encode())}
        assert found == {group(listing, f"{clip}#frame=0.000s")}, clip
    assert number(listing) == 7


@pytest.mark.parametrize("copy", ["{} (1)", "{}(2)", "Copy of {}", "{} - Copy", "{} - Kopie",
                                  "{}_copy", "{} copy 2"])
def test_files_named_as_copies_share_the_group_of_the_original(tmp_path, copy):
    """Whatever their bytes, in either class; but not all of many downloads of one name."""
    listing = scan(fill(tmp_path, dict.fromkeys((
        "real/holiday.jpg", "real/beach.jpg", f"real/{copy.format('holiday')}.png",
        f"fake/{copy.format('beach')}.jpg", f"real/{copy.format('none')}.jpg", "fake/down.jpg",
        *(f"fake/down ({at}).jpg" for at in range(1, 9))))))
    assert group(listing, "real/holiday.jpg") == group(
        listing, f"real/{copy.format('holiday')}.png")
    assert group(listing, "real/beach.jpg") == group(listing, f"fake/{copy.format('beach')}.jpg")
    assert number(listing) == 12


def test_many_small_folders_are_groups_whatever_is_in_them(tmp_path):
    """Pictures of a person each, for example: grouping them does the split no harm."""
    listing = scan(fill(tmp_path, unrelated("person{video}/{frame}.png", 30, 2)))
    assert listing.grouped() == "60 images in 30 groups by folder"


def test_where_nothing_can_be_read_names_decide(tmp_path):
    """A folder of numbers, and names with "frame", are frames; others are not."""
    names = {"v{}/{:03}.png": 4, "clip{}_frame{}.png": 4, "img{}_{}.png": 8}
    for at, (name, expected) in enumerate(names.items()):
        top = fill(tmp_path / str(at), dict.fromkeys(
            f"{label}/" + name.format(video + 2 * (label == "fake"), frame)
            for label in ("real", "fake") for video in range(2) for frame in range(2)))
        assert number(scan(top)) == expected, name


def test_one_long_series_that_looks_like_frames_is_warned_of(tmp_path):
    """Flat frames of several videos: where one ends can't be seen."""
    listing = scan(fill(tmp_path, {
        f"{label}/{at:04}.png": scene(at // 8 + 10 * (label == "fake"), at % 8)
        for label in ("real", "fake") for at in range(24)}))
    assert number(listing) == 24, "the same names in both classes share a group, and nothing else"
    text, = listing.notes
    assert "look like frames of videos (24 in real, 24 in fake), but it can't be seen which" in text
    assert "--manifest" in text and "--group-by series" in text
    assert number(scan(tmp_path, group_by="series")) == 1


def test_pairs_of_face_forensics_in_folders(tmp_path):
    files = {f"real/{video:03}/{frame:04}.png": scene(video, frame)
             for video in range(8) for frame in range(3)}
    files |= {f"fake/{method}/{a:03}_{b:03}/{frame:04}.png": scene(a, frame)
              for method in ("Deepfakes", "FaceSwap") for a, b in ((0, 3), (3, 0), (4, 871))
              for frame in range(3)}
    listing = scan(fill(tmp_path, files))
    assert len({group(listing, path) for path in (
        "fake/Deepfakes/000_003/0000.png", "fake/FaceSwap/003_000/0001.png", "real/000/0001.png",
        "real/003/0002.png")}) == 1
    assert group(listing, "fake/FaceSwap/004_871/0001.png") == group(listing, "real/004/0001.png")
    assert number(listing) == 7
    assert listing.grouped() == "42 images in 7 groups by FaceForensics++"
    numbers = scan(fill(tmp_path / "other", videos("{video:03}/{frame}.png")))
    assert numbers.grouped() == "30 images in 6 groups by folder", "numbers alone are no pairs"


def test_a_ring_of_source_faces_is_grouped_by_target(tmp_path):
    """Through the sources everything would be one group, which can't be split."""
    files = {f"real/{video:03}.mp4": None for video in range(12)}
    files |= {f"fake/{video:03}_{(video + 1) % 12:03}.mp4": None for video in range(12)}
    listing = scan(fill(tmp_path, files))
    assert number(listing) == 12
    assert group(listing, "fake/004_005.mp4#frame=1of10") == group(
        listing, "real/004.mp4#frame=2of10")
    assert [text for text in listing.notes if "the same face may be on both sides" in text]


def test_celeb_df_and_deep_fake_detection_link_a_fake_with_its_target(tmp_path):
    listing = scan(fill(tmp_path, dict.fromkeys((
        "Celeb-real/id0_0000.mp4", "Celeb-real/id0_0001.mp4", "Celeb-real/id1_0000.mp4",
        "YouTube-real/00000.mp4", "Celeb-synthesis/id0_id1_0000.mp4",
        "Celeb-synthesis/id0_id2_0000.mp4"))))
    first = [path.partition(b"#")[0].decode() for path in listing.paths[::10]]
    assert dict(zip(first, listing.groups[::10].tolist(), strict=True)) == {
        "Celeb-real/id0_0000.mp4": 0, "Celeb-real/id0_0001.mp4": 1, "Celeb-real/id1_0000.mp4": 2,
        "YouTube-real/00000.mp4": 3, "Celeb-synthesis/id0_id1_0000.mp4": 0,
        "Celeb-synthesis/id0_id2_0000.mp4": 0}
    acted = scan(fill(tmp_path / "dfd", dict.fromkeys((
        "original_sequences/actors/raw/videos/01__walking_outside.mp4",
        "original_sequences/actors/raw/videos/01__hugging_happy.mp4",
        "manipulated_sequences/DeepFakeDetection/raw/videos/01_02__walking_outside__AB12CD34.mp4"))))
    assert acted.groups[::10].tolist() == [0, 1, 1]


def test_names_of_casia_go_before_folders_and_series(tmp_path):
    files = {f"Au/all/Au_ani_{at:05}.jpg": None for at in range(9)}
    files |= {f"Tp/all/Tp_S_NRN_S_N_ani{at:05}_ani{at:05}_{at:05}.jpg": None for at in range(9)}
    for by in ("auto", "name", "series", "folder"):
        assert number(scan(fill(tmp_path, files), group_by=by)) == 9
    assert scan(tmp_path).grouped() == "18 images in 9 groups by CASIA's names"


def test_names_like_casia_s_that_are_not_understood_are_counted(tmp_path):
    listing = scan(fill(tmp_path, dict.fromkeys((
        "Au/Au_ani_00001.jpg", "Au/Au_anim_00001.jpg", "Tp/tp_d_xx_1.jpg", "Tp/other.jpg"))))
    (text,) = listing.notes
    assert text.startswith("2 names like CASIA's not understood") and "Au_anim_00001.jpg" in text
    assert listing.grouped() == "3 images in 3 groups by name, 1 image in 1 group by CASIA's names"


def test_copies_are_grouped_by_content(tmp_path):
    """Of equal bytes only, not of equal size alone; a copy in the other class is pointed out."""
    one, two = b"a" * 9000, b"a" * 4000 + b"b" + b"a" * 4999
    listing = scan(fill(tmp_path, {
        "real/x.jpg": one, "real/y.jpg": two, "real/holiday.jpg": one, "real/z.jpg": b"c" * 99,
        "real/empty.jpg": None, "fake/q.jpg": one, "fake/r.jpg": b"d" * 99,
        "fake/void.jpg": None}))
    assert number(listing) == 8
    joined = with_copies(listing)
    assert number(joined) == 6
    assert group(joined, "real/x.jpg") == group(joined, "real/holiday.jpg") \
        == group(joined, "fake/q.jpg")
    assert joined.grouped() == "5 images in 5 groups by name, 3 images in 1 group by equal bytes"
    texts = "\n".join(joined.notes)
    assert "3 files in 1 set of the same bytes" in texts
    assert "1 set of the same bytes in both classes, so one label is wrong" in texts
    assert with_copies(joined) is not None and listing.notes == []


def test_copies_join_whole_groups(tmp_path):
    """Two videos with one frame in common are one group."""
    files = videos("vid{video}/{frame}.png", 4)
    files["real/vid2/9.png"] = files["fake/vid1/3.png"]
    joined = with_copies(scan(fill(tmp_path, files)))
    assert number(joined) == 3
    assert group(joined, "real/vid2/0.png") == group(joined, "fake/vid1/0.png")


@pytest.mark.parametrize(("name", "prefix"), [
    ("0001", ""), ("frame_12", ""), ("vid03_0001", "vid03"), ("vid03_frame0001_face2", "vid03"),
    ("img (12)", "img"), ("a.b.7", "a.b"), ("12abc", ""), ("a12b34c", "a12b"), ("none", None)])
def test_names_up_to_a_number(name, prefix):
    assert prefix_of(name.encode()) == (None if prefix is None else prefix.encode())
