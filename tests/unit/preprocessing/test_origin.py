"""Where pictures are from: names of data sets, and drawn pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from preprocessing import origin, saves
from preprocessing.catalogue import SAMPLE_MARK


def test_data_sets_are_named_by_the_folders_above_the_classes() -> None:
    paths = [b"CASIA2/Au/a.jpg", b"CASIA2/Tp/deep/b.jpg", b"x/y/Fake/c.png", b"real/d.jpg",
             b"scene1/e.jpg"]
    assert origin.data_sets(paths, [0, 1, 1, 0, 0], "whole") == [
        {"name": "CASIA2", "pictures": 2, "authentic": 1, "tampered": 1},
        {"name": "whole", "pictures": 2, "authentic": 2, "tampered": 0},
        {"name": "x/y", "pictures": 1, "authentic": 0, "tampered": 1}]


@pytest.mark.parametrize("marked, roots, paths, drawn", [
    ("sample", {"": ""}, [b"sample/Au/a.jpg", b"mine/real/b.jpg"], True),
    ("sample", {"": ""}, [b"mine/real/b.jpg"], False),
    ("sample", {"": "sample"}, [b"Au/a.jpg"], True),
    ("sample", {"authentic": "sample/Au", "tampered": "mine/fake"},
     [b"authentic/a.jpg", b"tampered/b.jpg"], True),
    ("a/b/sample", {"": ""}, [b"a/b/sample/Tp/x/y/z/a.jpg"], True),
    ("sample", {"": "gone"}, [b"sample/Au/a.jpg"], None)])
def test_drawn_pictures(tmp_path: Path, marked: str, roots: dict[str, str], paths: list[bytes],
                        drawn: bool | None) -> None:
    for folder in ("data/sample/Au", "data/mine/fake", f"data/{marked}"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / "data" / marked / SAMPLE_MARK).touch()
    folders = {name: tmp_path / "data" / root for name, root in roots.items()}
    assert origin.drawn(folders, paths) is drawn


def test_drawn_pictures_that_were_copied_elsewhere(pictures: Path) -> None:
    """Their files say it, even where most of the others aren't drawn; without the mark."""
    assert not (pictures / SAMPLE_MARK).exists()
    paths = [b"Au/%b" % path.name.encode() for path in sorted((pictures / "Au").iterdir())]
    assert origin.drawn({"": pictures}, paths) is True
    assert origin.drawn({"": pictures}, [b"Au/gone.jpg", *paths[:1]] * 20) is True
    assert origin.drawn({"": pictures}, [b"Au/gone.jpg", b"a\0b.jpg"]) is False
    assert origin.drawn({"authentic": pictures}, [b"elsewhere/a.jpg"]) is False


def test_forgeries_of_photographs_are_not_drawn(tmp_path: Path) -> None:
    """They are known by the mark of their folder, or by their files, which may have been copied."""
    (tmp_path / "own" / "Au").mkdir(parents=True)
    (tmp_path / "own" / "Au" / "a.jpg").write_bytes(saves.commented(origin.FORGED + "1, any"))
    paths = [b"own/Au/a.jpg"]
    assert origin.forged({"": tmp_path}, paths) is True
    assert origin.drawn({"": tmp_path}, paths) is False
    (tmp_path / "own" / "Au" / "a.jpg").write_bytes(b"edited since")
    assert origin.forged({"": tmp_path}, paths) is False
    (tmp_path / "own" / origin.FORGED_MARK).touch()
    assert origin.forged({"": tmp_path}, paths) is True
    assert origin.drawn({"": tmp_path}, paths) is False
    assert origin.forged({"": tmp_path / "gone"}, paths) is None
