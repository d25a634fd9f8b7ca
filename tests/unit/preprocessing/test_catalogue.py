"""The list of pictures: layouts, groups, what is left out and what is rejected."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from hpc_deepfake.core.errors import InputError
from preprocessing.catalogue import SAMPLE_MARK, Catalogue, components, locate, scan, scan_pair
from preprocessing.deal import deal
from preprocessing.listing import walk
from preprocessing.names import At, Nth, evenly
from preprocessing.split import by_group


def touch(folder: Path, names: Iterable[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    top = os.fspath(folder)
    for name in names:
        os.close(os.open(f"{top}/{name}", os.O_CREAT | os.O_WRONLY))
    return folder


@pytest.fixture(scope="module")
def casia(tmp_path_factory, casia_names) -> Path:
    """All names of CASIA 1 and CASIA 2 as empty files, in their folders, below one."""
    top = tmp_path_factory.mktemp("casia")
    touch(top / "CASIA1" / "Au", casia_names["casia1_Au"])
    touch(top / "CASIA1" / "Sp", casia_names["casia1_Sp"])
    touch(top / "CASIA2" / "Au", casia_names["casia2_Au"])
    touch(top / "CASIA2" / "Tp", casia_names["casia2_Tp"])
    return top


@pytest.fixture
def small(tmp_path) -> Callable[..., Path]:
    """Makes files from their paths."""
    def make(*paths: str, below: str = "data") -> Path:
        top = tmp_path / below
        for path in paths:
            touch((top / path).parent, [Path(path).name])
        return top

    return make


def largest(listing: Catalogue) -> int:
    return int(np.bincount(listing.groups).max())


def group_of(listing: Catalogue, path: str) -> int:
    return int(listing.groups[listing.paths.index(path.encode())])


def test_casia_1(casia):
    listing = scan(casia / "CASIA1")
    assert np.bincount(listing.labels).tolist() == [800, 921]
    assert listing.groups.max() + 1 == 346
    assert largest(listing) == 133
    assert listing.notes == []
    assert listing.roots == {"": casia / "CASIA1"}
    assert listing.paths == sorted(listing.paths)
    assert locate(listing.roots, listing.paths[0]) == \
        os.fsencode(casia / "CASIA1/Au/Au_ani_0001.jpg")


def test_casia_1_as_modified_tp(tmp_path, casia, casia_names):
    """The other archive of CASIA 1, with ``Modified Tp/Tp``: the same rows but for the folder."""
    top = tmp_path / "CASIA 1.0 dataset"
    touch(top / "Au", casia_names["casia1_Au"])
    touch(top / "Modified Tp" / "Tp", casia_names["casia1_Sp"])
    listing, plain = scan(top), scan(casia / "CASIA1")
    assert [path.replace(b"Modified Tp/Tp/", b"Sp/") for path in listing.paths] == plain.paths
    assert np.array_equal(listing.groups, plain.groups)
    assert np.array_equal(listing.labels, plain.labels)


def test_casia_2(casia):
    listing = scan(casia / "CASIA2")
    assert np.bincount(listing.labels).tolist() == [7491, 5123]
    assert largest(listing) == pytest.approx(3814, abs=10)
    endings = [path.rpartition(b".")[2] for path in listing.paths]
    assert {ending: endings.count(ending) for ending in set(endings)} == {
        b"jpg": 7437 + 2064, b"bmp": 54, b"tif": 3059}


def test_both_below_one_folder_share_groups(casia):
    """CASIA 1's authentic pictures are also in CASIA 2, and must be in the same groups."""
    listing = scan(casia)
    assert len(listing) == 800 + 921 + 7491 + 5123
    assert group_of(listing, "CASIA1/Au/Au_ani_0087.jpg") == \
        group_of(listing, "CASIA2/Au/Au_ani_00087.jpg")
    assert sum(path.startswith(b"CASIA1/") for path in listing.paths) == 1721


def test_mixed_protocol(casia):
    """CASIA 1 authentic with CASIA 2 tampered, by data set or by folder of one class."""
    listing = scan_pair(casia / "CASIA1", casia / "CASIA2")
    assert np.bincount(listing.labels).tolist() == [800, 5123]
    assert largest(listing) == pytest.approx(3536, abs=10)
    assert listing.paths[0] == b"authentic/Au/Au_ani_0001.jpg"
    assert listing.paths[-1].startswith(b"tampered/Tp/Tp_")
    for path in (listing.paths[0], listing.paths[-1]):
        assert os.path.exists(locate(listing.roots, path))
    bare = scan_pair(casia / "CASIA1/Au", casia / "CASIA2/Tp")
    assert [path.rpartition(b"/")[2] for path in bare.paths] == \
        [path.rpartition(b"/")[2] for path in listing.paths]
    assert np.array_equal(bare.groups, listing.groups)
    assert os.path.exists(locate(bare.roots, bare.paths[0]))


def test_the_groups_of_casia_are_those_of_version_0_1(casia):
    """Data files made then have these groups; resuming one must not need others."""
    expected = {"CASIA1": "3f63dfa5c9e96c9f", "CASIA2": "19b5399be287d0ea", "": "592c5acba60e1831"}
    found = {name: scan(casia / name) for name in expected}
    found["mixed"] = scan_pair(casia / "CASIA1", casia / "CASIA2")
    assert {name: hashlib.sha256(listing.groups.astype("<i4").tobytes()).hexdigest()[:16]
            for name, listing in found.items()} == {**expected, "mixed": "605a9513f98ee9fa"}
    assert found["CASIA2"].grouped() == "12,614 images in 6,523 groups by CASIA's names"


def test_ids_of_four_and_five_digits_are_equal(small):
    listing = scan_pair(small("Au_ani_0087.jpg", "Au_ani_0088.jpg", below="a"),
                      small("Tp_D_CRN_S_N_ani00087_art00014_11818.tif", below="t"))
    assert listing.groups.tolist() == [0, 1, 0]


def test_real_and_fake_of_one_name_share_a_group(small):
    top = small("real/0001.png", "real/0002.png", "fake/0001.jpg", "fake/sub/0002.png",
                "real/sub/0002.webp")
    listing = scan(top)
    assert listing.paths == [b"real/0001.png", b"real/0002.png", b"real/sub/0002.webp",
                           b"fake/0001.jpg", b"fake/sub/0002.png"]
    assert listing.labels.tolist() == [0, 0, 0, 1, 1]
    assert listing.groups.tolist() == [0, 1, 2, 0, 2]
    pair = scan_pair(top, top)
    assert np.array_equal(pair.groups, listing.groups)


def test_a_video_is_as_many_rows_as_it_has_moments(small):
    """In order, in one group with the video of that name in the other class, among pictures."""
    top = small("real/1.jpg", "real/clip.MP4", "real/other.avi", "fake/clip.mp4", "fake/z.mkv")
    calls = []

    def moments(path: bytes) -> list[Nth | At]:
        calls.append(path)
        return [At(0), At(1500)] if path.endswith(b".mkv") else evenly(2)

    listing = scan(top, moments)
    assert listing.paths == [
        b"real/1.jpg", b"real/clip.MP4#frame=1of2", b"real/clip.MP4#frame=2of2",
        b"real/other.avi#frame=1of2", b"real/other.avi#frame=2of2",
        b"fake/clip.mp4#frame=1of2", b"fake/clip.mp4#frame=2of2",
        b"fake/z.mkv#frame=0.000s", b"fake/z.mkv#frame=1.500s"]
    assert listing.labels.tolist() == [0] * 5 + [1] * 4
    assert listing.groups.tolist() == [0, 1, 1, 2, 2, 1, 1, 3, 3]
    assert calls == [os.fsencode(top / "real" / "clip.MP4"), os.fsencode(top / "real/other.avi"),
                     os.fsencode(top / "fake/clip.mp4"), os.fsencode(top / "fake/z.mkv")]
    assert "real: 4 frames of 2 videos" in listing.notes
    pair = scan_pair(top, top, moments)
    assert [path.partition(b"/")[2] for path in pair.paths] == listing.paths
    assert np.array_equal(pair.groups, listing.groups)
    assert len(scan(top)) == 1 + 4 * 10, "ten frames of a video by default"


def test_face_forensics_names_link_a_fake_with_both_its_sources(small):
    """Videos only: 000_003 is made from 000 and 003, with any method; pictures are not."""
    top = small("real/000.mp4", "real/003.mp4", "real/004.mp4", "real/1000.mp4", "real/004.png",
                "fake/Deepfakes/000_003.mp4", "fake/FaceSwap/003_000.mp4", "fake/NT/004_871.mp4",
                "fake/004_003.png")
    listing = scan(top, lambda path: evenly(1))
    groups = {path.partition(b"#")[0].decode(): group
              for path, group in zip(listing.paths, listing.groups.tolist())}
    assert groups["real/000.mp4"] == groups["real/003.mp4"] \
        == groups["fake/Deepfakes/000_003.mp4"] == groups["fake/FaceSwap/003_000.mp4"]
    assert groups["real/004.mp4"] == groups["fake/NT/004_871.mp4"]
    assert len(set(groups.values())) == 5


def test_the_digest_depends_on_the_frames_of_the_videos(small):
    top = small("real/1.avi", "fake/1.avi")
    assert len({scan(top, lambda path, n=n: evenly(n)).digest() for n in (1, 2, 3)}) == 3


def test_names_that_look_like_frames_are_distinct(small):
    """In encoded paths # only precedes a frame; the part before it is the file name."""
    top = small("real/a.mp4#frame=1of1.jpg", "real/a.mp4#frame=1of1/b.avi", "real/a.mp4",
                "real/c.mp4#frame=1of1", "fake/x#y.avi")
    listing = scan(top, lambda path: evenly(1))
    assert len(set(listing.paths)) == len(listing) == 4
    assert listing.encoded() == [
        b"real/a.mp4#frame=1of1", b"real/a.mp4%23frame%3D1of1.jpg",
        b"real/a.mp4%23frame%3D1of1/b.avi#frame=1of1", b"fake/x%23y.avi#frame=1of1"]
    assert any("1 file left out:" in note and "real/c.mp4#frame=1of1: empty file" in note
               for note in listing.notes)
    for encoded in listing.encoded():
        assert (top / unquote(encoded.decode().partition("#")[0])).is_file()


def test_a_contradicting_video_is_reported_once(small):
    listing = scan(small("Au/Tp_D_CRN_S_N_ani00009_art00014_11818.mp4", "Tp/x.avi"))
    (note,) = [note for note in listing.notes
               if note.startswith("1 name in the folder of the other class")]
    assert "11818.mp4" in note and "#" not in note


def test_equal_names_in_two_data_sets_are_not_a_group(small):
    listing = scan(small("a/real/1.png", "a/fake/1.png", "b/real/1.png", "b/fake/1.png"))
    assert listing.groups.tolist() == [0, 0, 1, 1]


def test_sample_data_are_left_out_when_there_are_others(small):
    top = small("sample/Au/Au_ani_00001.jpg", "sample/Tp/x.jpg", f"sample/{SAMPLE_MARK}")
    assert len(scan(top)) == 2
    small("mine/real/1.png", "mine/fake/1.png")
    listing = scan(top)
    assert listing.paths == [b"mine/real/1.png", b"mine/fake/1.png"]
    assert any("sample data left out" in note for note in listing.notes)


def test_contradictions_are_reported_and_the_folder_decides(small):
    listing = scan(small("Au/Au_ani_00001.jpg", "Au/Tp_D_CRN_S_N_ani00009_art00014_11818.jpg",
                       "Tp/Au_ani_00003.jpg"))
    assert listing.labels.tolist() == [0, 0, 1]
    assert [note for note in listing.notes if note.startswith("2 names in the folder of the other")
            and "Au/Tp_D_CRN" in note and "Tp/Au_ani_00003.jpg" in note]


def test_masks_and_other_files_are_left_out_with_a_note(small):
    top = small("Au/Au_ani_00001.jpg", "Au/Thumbs.db", "Au/.hidden.jpg", "Au/README",
                "Au/.thumbnails/1.jpg", "Au/@eaDir/2.jpg",
                "Tp/Tp_D_CRN_S_N_ani00009_art00014_11818.tif", "Tp/._junk.jpg",
                "Tp/Tp_D_CRN_S_N_ani00009_art00014_11818_gt.png",
                "CASIA 2 Groundtruth/Tp_D_CRN_S_N_ani00009_art00014_11818_gt.png")
    listing = scan(top)
    assert listing.paths == [b"Au/Au_ani_00001.jpg",
                           b"Tp/Tp_D_CRN_S_N_ani00009_art00014_11818.tif"]
    notes = "\n".join(listing.notes)
    assert "1 ground-truth mask left out" in notes and len(listing.masks) == 1
    assert "1 .db" in notes and "1 readme" in notes and "3 hidden" in notes


def test_names_that_are_not_utf_8(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "fake").mkdir()
    odd = b"caf\xe9 \xff.jpg"
    for folder in ("real", "fake"):
        os.close(os.open(os.path.join(os.fsencode(tmp_path / folder), odd), os.O_CREAT))
    listing = scan(tmp_path)
    assert listing.paths == [b"real/" + odd, b"fake/" + odd]
    assert listing.groups.tolist() == [0, 0]
    assert listing.encoded()[0] == b"real/caf%E9%20%FF.jpg"
    assert os.path.exists(locate(listing.roots, listing.paths[0]))


def test_link_loops_and_second_paths_give_each_picture_once(small):
    top = small("set/Au/1.jpg", "set/Tp/deep/2.jpg")
    (top / "set/Tp/deep/back").symlink_to(top / "set/Tp", target_is_directory=True)
    (top / "set/Tp/self").symlink_to("self")
    (top / "self").symlink_to("self")
    (top / "0loop").symlink_to(top, target_is_directory=True)
    (top / "again").symlink_to(top / "set", target_is_directory=True)
    (top / "set/real").symlink_to("Au", target_is_directory=True)
    listing = scan(top)
    assert listing.paths == [b"again/Au/1.jpg", b"again/Tp/deep/2.jpg"]  # the first path in order
    assert {os.path.realpath(locate(listing.roots, path)) for path in listing.paths} == {
        os.fsencode(top / "set/Au/1.jpg"), os.fsencode(top / "set/Tp/deep/2.jpg")}


def test_links_to_class_folders_are_followed(small, tmp_path):
    one, two = small("Au/1.jpg", below="one"), small("Tp/2.jpg", below="two")
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "Au").symlink_to(one / "Au")
    (mixed / "Tp").symlink_to(two / "Tp")
    assert scan(mixed).paths == [b"Au/1.jpg", b"Tp/2.jpg"]


def test_order_and_digest_do_not_depend_on_the_order_of_the_file_system(small, monkeypatch):
    top = small(*(f"real/{i}.png" for i in range(9)), *(f"fake/{i}.png" for i in range(9)))
    first = scan(top)
    walk = os.walk

    def reverse(*args, **kwargs):
        for current, folders, files in walk(*args, **kwargs):
            yield current, folders, files[::-1]

    monkeypatch.setattr(os, "walk", reverse)
    again = scan(top)
    assert again.paths == first.paths
    assert again.digest() == first.digest()
    small("fake/new.png")
    assert scan(top).digest() != first.digest()


@pytest.mark.parametrize("paths", [[], ["Au/1.jpg"], ["Au/notes.txt", "Tp/notes.txt"],
                                   ["a/b/c/d/Au/1.jpg", "a/b/c/d/Tp/1.jpg"]])
def test_no_data_set_is_an_input_error_with_a_line_to_paste(small, tmp_path, paths):
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError, match=r"no pictures in(.|\n)*end in \.jpg .*\n"
                                         r"  hpc-deepfake sample --out "):
        scan(small(*paths))


def test_missing_folder_is_an_input_error_with_a_line_to_paste(tmp_path):
    with pytest.raises(InputError) as caught:
        scan(tmp_path / "my data")
    line = str(caught.value).splitlines()[-1]
    assert line == f"  hpc-deepfake sample --out '{tmp_path}/my data/sample'"


def test_one_class_only_is_an_input_error(small):
    with pytest.raises(InputError, match="no tampered pictures"):
        scan(small("Au/1.jpg", "Tp/notes.txt"))


def test_pair_with_a_missing_or_empty_folder_is_an_input_error(small, tmp_path):
    one = small("1.jpg", below="one")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no folder of tampered pictures '.*nowhere'"):
        scan_pair(one, tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no pictures in the folder of authentic ones.*empty.* "
                                         r"end in \.jpg .*videos end in \.mp4 "):
        scan_pair(tmp_path / "empty", one)
    with pytest.raises(InputError, match="no pictures"):  # a picture can't be in both classes
        scan_pair(one, one)


def test_an_unreadable_folder_is_named(small, monkeypatch):
    """A class folder that can't be listed is an error, one elsewhere (lost+listing) a note."""
    top = small("set/Au/1.jpg", "set/Tp/locked/2.jpg", "set/Tp/3.jpg", "lost+listing/x")
    real = os.scandir

    def scandir(path):
        if os.fsdecode(path).endswith(forbidden):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    forbidden = "lost+listing"
    listing = scan(top)
    assert len(listing) == 3
    assert any("lost+listing left out: Permission denied" in note for note in listing.notes)
    forbidden = "locked"
    with pytest.raises(InputError, match=r"cannot list .*locked: Permission denied"):
        scan(top)


def test_components_link_through_others():
    assert components([("a",), ("b", "c"), ("d", "d"), ("c", "a"), ("e",), ("x", "d")]).tolist() \
        == [0, 0, 1, 0, 2, 1]


@pytest.mark.slow
def test_a_hundred_thousand_names(small, monkeypatch, capsys):
    """Listed, grouped, split and dealt in seconds: shown, not asserted."""
    top = small("Au/x.jpg", "Tp/x.jpg")
    half = 50_000
    names = {"Au": [b"Au_%s_%05d.jpg" % (kind, i) for kind in (b"ani", b"arc", b"art", b"cha",
                                                              b"nat") for i in range(half // 5)],
             "Tp": [b"Tp_S_NRN_S_N_%s%05d_%s%05d_%05d.tif" % (kind, i, kind, i, i)
                    for kind in (b"ani", b"arc", b"art", b"cha", b"nat")
                    for i in range(half // 5)]}
    monkeypatch.setattr(walk, "media", lambda folder, *_: sorted(names[folder.name]))
    calls = []
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda *args, **kwargs: calls.append(1) or stat(*args,
                                                                                   **kwargs))
    start = time.perf_counter()
    listing = scan(top)
    encoded, digest = listing.encoded(), listing.digest()
    parts = by_group(listing.labels, listing.groups, (0.8, 0.2), 0)
    dealt = deal(np.arange(len(listing)), 64, len(listing))
    seconds = time.perf_counter() - start
    with capsys.disabled():
        print(f"\n100,000 names listed, split and dealt in {seconds:.1f} s")
    assert len(listing) == len(encoded) == 2 * half and len(digest) == 64
    assert listing.groups.max() + 1 == half
    assert len(calls) < 100, "no look at each file"
    side = np.full(half, 9)
    side[listing.groups] = parts
    assert np.array_equal(side[listing.groups], parts), "a group is on two sides"
    assert np.bincount(parts).tolist() == [80_000, 20_000]
    assert sum(len(block) for blocks in dealt for block in blocks) == 2 * half
