"""A list of files as the source of pictures, labels, masks, groups and parts."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path

import pytest
from picture_trees import fill, mask, scene

from hpc_deepfake.core.errors import InputError
from preprocessing.catalogue import scan_manifest
from preprocessing.listing import options as listing_options

FILES = dict.fromkeys(("a/1.jpg", "a/2.jpg", "b/3.jpg", "b/4.png", "gt/3.png", "v.mp4"))
ROWS = [("a/1.jpg", "real", "", "cat", "train"), ("a/2.jpg", "0", "", "", "valid"),
        ("b/3.jpg", "FAKE", "gt/3.png", "cat", "test"), ("b/4.png", "tampered", "", "dog", ""),
        ("v.mp4", "1", "", "", "")]
COLUMNS = ("path", "label", "mask", "group", "part")


def csv_text(rows=ROWS, columns=COLUMNS, delimiter=",") -> str:
    return "\n".join(delimiter.join(row) for row in (columns, *rows)) + "\n"


@pytest.fixture
def top(tmp_path) -> Path:
    return fill(tmp_path / "top", FILES)


@pytest.mark.parametrize(("name", "text"), [
    ("list.csv", csv_text()), ("list.txt", csv_text(delimiter="\t")),
    ("list.csv", "\ufeff" + csv_text(delimiter=";").replace("\n", "\r\n")),
    ("list.csv", csv_text([(f'"{row[0]}"', *row[1:], "x") for row in ROWS],
                          (*(name.title() for name in COLUMNS), "remark"))),
    ("list.jsonl", "\n\n".join(json.dumps(
        {key: {"0": 0, "1": True}.get(value, value) for key, value in zip(COLUMNS, row, strict=True)
         if value}) for row in ROWS))])
def test_both_forms_say_the_same(top, name, text):
    file = top / name
    file.write_text(text, encoding="utf-8", newline="")
    listing = scan_manifest(file)
    assert [path.partition(b"#")[0] for path in listing.paths[:5]] == [
        b"a/1.jpg", b"a/2.jpg", b"b/3.jpg", b"b/4.png", b"v.mp4"]
    assert listing.labels[:5].tolist() == [0, 0, 1, 1, 1] and len(listing) == 14
    assert listing.groups[:5].tolist() == [0, 1, 0, 2, 3]
    assert listing.parts[:5].tolist() == [0, 1, 2, 255, 255]
    assert listing.parts_from == "manifest" and len(listing.given) == 64
    assert listing.masks == {b"b/3.jpg": b"gt/3.png"}
    assert listing.roots == {"": top}


def test_paths_may_be_relative_to_another_folder_or_absolute(top, tmp_path):
    file = fill(tmp_path / "lists", {"list.csv": csv_text(
        [(f"{top}/a/1.jpg", "0"), ("./b/../b/3.jpg", "1")], COLUMNS[:2])}) / "list.csv"
    assert scan_manifest(file, top).paths == [b"a/1.jpg", b"b/3.jpg"]
    with pytest.raises(InputError, match=r"line 2: .*a/1\.jpg is not below .*lists.*--data DIR"):
        scan_manifest(file)


def test_groups_and_parts_are_part_of_what_made_a_data_file(top):
    """Only where the list has some, so that a list of labels alone is like folders."""
    file = top / "list.csv"
    found = []
    for rows in (ROWS, [*ROWS[:-1], (*ROWS[-1][:3], "dog", "")],
                 [(*row[:3], "", "") for row in ROWS]):
        file.write_text(csv_text(rows))
        found.append(scan_manifest(file).given)
    assert found[2] == "" and len(set(found)) == 3


@pytest.mark.parametrize(("text", "message"), [
    ("", "no column path and no column label"), ("path,other\na/1.jpg,1\n", "no column label"),
    ("path,label\n", "lists no pictures"),
    ("path,label\na/1.jpg,maybe\n", "line 2: label 'maybe' is unknown: give 0, authentic"),
    ("path,label\n,1\n", "line 2: path is empty"),
    ("path,label\n\na/1.jpg,0\na//1.jpg,1\n", "line 4: a/1.jpg is also on line 3"),
    ("path,label\na/9.jpg,1\n", "line 2: there is no file a/9.jpg"),
    ("path,label\n../x.jpg,1\n", "is not below"),
    ("path,label,mask\nb/3.jpg,1,gt/9.png\n", "no file gt/9.png, the mask of b/3.jpg"),
    ("path,label,part\na/1.jpg,1,later\n", "part 'later' is unknown: give train"),
    ("path,label\na/1.jpg,1,2\n", "line 2: 3 values for 2 columns"),
    ("path,label\na/1.jpg,real\na/2.jpg,0\n", "no tampered pictures in the list"),
    ('path,label\n"a/1.jpg,1\n', "unexpected end of data; repair the line"),
    ("path,label\nlist.csv,1\n", "list.csv is no picture or video: a file of another kind (.csv)"),
    ("path,label\nb,1\n", "b is no picture or video: a folder: list the files in it"),
    ("path,label\npack,1\n", "pack is no picture or video: a ZIP archive"),
    ("path,label,Label\na/1.jpg,1,0\n", "the column label more than once"),
    ("path,label\na/1.jpg,0\na/1.jpg,1\n", "line 3: a/1.jpg is also on line 2, with the other "
                                           "label: keep the line whose label is right"),
    ("path,label\na\\1.jpg,0\n", "no file a\\1.jpg, but a/1.jpg: write / between folders"),
    ("path,label\nC:\\1.jpg,0\n", "there is no file C:\\1.jpg: folders are separated by /"),
    ("path,label,mask\na/1.jpg,0,\nb/3.jpg,1,b/3.jpg\n",
     "line 3: b/3.jpg is also the mask of line 3"),
    ("path,label,mask\ngt/3.png,1,\na/1.jpg,0,gt/3.png\n",
     "line 2: gt/3.png is also the mask of line 3")])
def test_what_is_wrong_is_said_with_its_line(top, text, message):
    (top / "list.csv").write_text(text)
    (top / "pack").write_bytes(b"PK\3\4")
    with pytest.raises(InputError) as caught:
        scan_manifest(top / "list.csv")
    assert message in str(caught.value)


def test_masks_that_a_list_names_as_pictures_are_said(tmp_path):
    """As in a list of all files of a folder; it says what is counted, all the same."""
    files = {"a/1.jpg": scene(1), "b/2.jpg": scene(2), "b/2_mask.png": mask(),
             "b/venice_mask.png": scene(3)}
    text = "path,label\n" + "".join(f"{path},{path[0] == 'b':.1f}\n" for path in files)
    listing = scan_manifest(fill(tmp_path, {**files, "list.csv": text}) / "list.csv")
    assert listing.labels.tolist() == [0, 1, 1, 1]
    note = next(note for note in listing.notes if "mask" in note)
    assert "1 file of" in note and note.endswith("take masks out, or name them in the column mask "
                                                 f"({tmp_path}/b/2_mask.png)")


def test_masks_of_authentic_pictures_are_not_used_and_counted(top):
    (top / "list.csv").write_text("path,label,mask\na/1.jpg,0,gt/3.png\nb/3.jpg,1,gt/3.png\n")
    listing = scan_manifest(top / "list.csv")
    assert listing.masks == {b"b/3.jpg": b"gt/3.png"}
    assert any(note.startswith("1 mask of authentic pictures in") for note in listing.notes)


def test_a_picture_without_an_ending_is_one_in_a_list_too(top):
    fill(top, {"photo": b"\x89PNG\r\n\x1a\n", "list.csv": "path,label\nphoto,0\nb/3.jpg,1\n"})
    assert scan_manifest(top / "list.csv").paths == [b"photo", b"b/3.jpg"]


@pytest.mark.parametrize(("name", "text"), [
    ("list.csv", "path,label\na/1.jpg,0,x\na/8.jpg,1\na/9.jpg,1\n\"b/3.jpg,1\n"),
    ("list.jsonl", '{\n[]\n{"path": "a/8.jpg", "label": 1}\n{"path": "a/9.jpg", "label": 1}\n')])
def test_a_line_that_is_no_row_hides_no_others(top, name, text):
    (top / name).write_text(text)
    with pytest.raises(InputError, match=r"4 lines of (.|\n)*no file a/8\.jpg(.|\n)*a/9\.jpg"):
        scan_manifest(top / name)


@pytest.mark.parametrize(("text", "message"), [
    ("{\n", "line 1: not a JSON object"), ("[1]\n", 'like {"path": "a/1.jpg", "label": "real"}'),
    ('{"path": ["a"], "label": 1}\n', 'line 1: path is ["a"], not a text'),
    ('{"path": "a\\u0000b", "label": 1}\n', "path has a zero byte"),
    ('{"path": "\\ud800", "label": 1}\n', "there is no file"), ('{"label": 1}\n', "path is empty")])
def test_what_is_wrong_with_json_lines(top, text, message):
    (top / "list.jsonl").write_text(text)
    with pytest.raises(InputError) as caught:
        scan_manifest(top / "list.jsonl")
    assert message in str(caught.value)


def test_all_wrong_lines_are_counted_and_the_first_ones_named(top):
    (top / "list.csv").write_text("path,label\n" + "".join(f"{n}.jpg,1\n" for n in range(9)))
    with pytest.raises(InputError, match=r"9 lines of (.|\n)*line 6: (.|\n)*and 4 more") as caught:
        scan_manifest(top / "list.csv")
    assert "line 7" not in str(caught.value)


def test_a_list_that_is_not_text(top):
    (top / "list.csv").write_bytes(b"path,label\n\xff\xfe.jpg,1\n")
    with pytest.raises(InputError, match="is not a text in UTF-8: save it as UTF-8, such as"):
        scan_manifest(top / "list.csv")
    with pytest.raises(InputError, match="No such file"):
        scan_manifest(top / "nowhere.csv")


@pytest.mark.parametrize(("words", "message"), [
    (["--manifest", "l.csv", "--authentic", "a", "--tampered", "b"], "either --manifest, or"),
    (["--manifest", "l.csv", "--data", "nowhere"], "--data nowhere is no folder"),
    (["--authentic", "a"], "go together"), (["--data", "x", "--authentic", "a", "--tampered", "b"],
                                            "either --data, or"),
    (["--frames-per-video", "3", "--frame-rate", "1"], "not both")])
def test_options_that_contradict_each_other(words, message):
    cli = ArgumentParser()
    for name in ("--data", "--authentic", "--tampered"):
        cli.add_argument(name, type=Path)
    listing_options.add(cli)
    with pytest.raises(InputError, match=message):
        listing_options.catalogue_of(cli.parse_args(words), Path("data"))
