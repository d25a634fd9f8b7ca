"""Pictures that two data files have in common."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import h5py
import pytest
from PIL import Image
from test_audit import audit, data_file, line

from preprocessing import facts, similar, store


def add_facts(path: Path, folder: Path) -> Path:
    """Give a data file the digests of its pictures, as preprocessing does."""
    header = store.open_header(path)
    digests = header.array("digest", "r+")
    for row, name in enumerate(header.array("path").tolist()):
        digests[row] = list(facts.digest((folder / name.decode()).read_bytes()))
    return path


@pytest.fixture(scope="module")
def two(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Sample pictures, and a set with some of them: renamed, saved again, labelled otherwise, and
    others of the same sources."""
    top = tmp_path_factory.mktemp("two")
    authentic, tampered = (sorted((pictures / name).iterdir()) for name in ("Au", "Tp"))
    for folder, files in (("first/Au", authentic[:8]), ("first/Tp", tampered[:8])):
        (top / folder).mkdir(parents=True)
        for file in files:
            shutil.copy(file, top / folder)
    for folder in ("second/real", "second/fake"):
        (top / folder).mkdir(parents=True)
    for at in (0, 1, 2):
        shutil.copy(authentic[at], top / "second/real" / f"{at}.jpg")
    again = io.BytesIO()
    with Image.open(authentic[3]) as image:
        image.save(again, "PNG")
    (top / "second/real/3.png").write_bytes(again.getvalue())
    shutil.copy(tampered[0], top / "second/real/wrong.jpg")
    shutil.copy(authentic[10], top / "second/real/other.jpg")
    shutil.copy(tampered[12], top / "second/fake/other.jpg")
    return (add_facts(data_file(top / "first"), top / "first"),
            add_facts(data_file(top / "second"), top / "second"))


def test_common_pictures_are_found(two, tmp_path, capsys):
    code, out, _ = audit(capsys, *two, "--json", tmp_path / "x.json", "--strict")
    assert code == 1
    same = line(out, "byte-identical")
    assert same.startswith("FAIL byte-identical 4 of 16 pictures of first.h5")
    assert " and 4 of 7 pictures of second.h5" in same and " = real/0.jpg" in same
    assert line(out, "saved again").startswith("FAIL saved again 1 of 16 pictures of first.h5")
    assert "real/3.png" in line(out, "saved again")
    assert "1 pair of the same picture with different labels" in line(out, "labels")
    written = json.loads((tmp_path / "x.json").read_text())
    records, = written["sections"].values()
    first = records[0]["figures"]["second"]
    assert first["paths"] == ["real/0.jpg", "real/1.jpg", "real/2.jpg", "real/wrong.jpg"]
    assert (first["pictures"], first["of"], sum(first["parts"].values())) == (4, 7, 4)
    assert written["fails"] == 2 and written["files"] == [str(path) for path in two]


def test_files_from_before_are_compared_by_their_pictures(two, tmp_path, capsys):
    """Without digests the picture files are read; without those, thumbnails still find copies."""
    expected = audit(capsys, *two)[1]
    old = tmp_path / "second.h5"
    shutil.copy(two[1], old)
    with h5py.File(old, "r+") as file:
        for name in facts.COLUMNS:
            del file[name]
    shutil.copy(f"{two[1]}.json", f"{old}.json")
    found = audit(capsys, two[0], old)[1]
    for what in ("byte-identical", "saved again", "labels"):
        assert line(found, what) == line(expected, what)
    Path(f"{old}.json").unlink()
    found = audit(capsys, two[0], old)[1]
    assert line(found, "byte-identical") == "ok byte-identical none"
    assert "5 of 16 pictures of first.h5" in line(found, "saved again")
    assert "7 pictures of" in line(found, "unknown files")


def test_names_count_where_they_stand_for_the_same_pictures(tmp_path, pictures, capsys,
                                                            monkeypatch):
    """Parts of two data sets with CASIA's names: one picture in both says that they agree."""
    authentic, tampered = (sorted((pictures / name).iterdir()) for name in ("Au", "Tp"))
    for name, au, tp in (("a", authentic[:6], tampered[:6]), ("b", authentic[5:9], tampered[6:])):
        for folder, files in (("Au", au), ("Tp", tp)):
            (tmp_path / name / folder).mkdir(parents=True)
            for file in files:
                shutil.copy(file, tmp_path / name / folder)
    files = [add_facts(data_file(tmp_path / name), tmp_path / name) for name in "ab"]
    out = audit(capsys, *files)[1]
    assert line(out, "byte-identical").startswith("FAIL byte-identical 1 of 12")
    assert line(out, "same source").startswith("warn same source") and "Tp_" in out
    for file in (tmp_path / "b/Au").iterdir():  # the same names for other pictures
        shutil.copy(authentic[20], file)
    files[1] = add_facts(data_file(tmp_path / "b"), tmp_path / "b")
    monkeypatch.setattr(similar, "SCENE", -1)  # only names are left
    out = audit(capsys, *files)[1]
    assert "stand for different pictures" in line(out, "names")
    assert line(out, "same source") == "ok same source none"


def test_nothing_in_common(two, tmp_path, pictures, capsys):
    """Blank pages look alike, and are no common pictures."""
    files = []
    for name, at, size in (("c", 25, 200), ("d", 20, 300)):
        for folder in ("real", "fake"):
            (tmp_path / name / folder).mkdir(parents=True)
        shutil.copy(sorted((pictures / "Au").iterdir())[at], tmp_path / name / "real/1.jpg")
        Image.new("RGB", (size, size), "white").save(tmp_path / name / "fake/blank.png")
        files.append(data_file(tmp_path / name))
    code, out, _ = audit(capsys, *files, "--strict")
    assert code == 0 and "no common pictures were found" in out


@pytest.mark.parametrize("more, message", [
    (["--data", "x"], "name the pictures of one FILE"), (["gone.h5"], "there is no data file")])
def test_wrong_use(two, capsys, more, message):
    code, _, err = audit(capsys, *two, *more)
    assert code == 2 and message in err and "Traceback" not in err
