"""Files to write, checked before the work."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.outputs import check_file


@pytest.mark.parametrize("name", ["new.json", "old.json", "empty", "list", "report.txt"])
def test_places_that_can_be_written(tmp_path, name):
    """What isn't there yet, and files of the same kind, whatever they are called."""
    for old, text in (("old.json", '\n {"a": 1}'), ("empty", ""), ("list", "\ufeff[1]"),
                      ("report.txt", "{}")):
        (tmp_path / old).write_text(text)
    check_file("--json", tmp_path / name, "JSON", [tmp_path / "other.json"])
    check_file("--json", None, "JSON")


def test_devices_are_no_files_to_protect():
    check_file("--json", Path("/dev/stdout"), "JSON")
    check_file("--json", Path("/dev/null"), "JSON")


@pytest.mark.parametrize(("name", "content"), [
    ("data.h5", b"\x89HDF\r\n\x1a\n"), ("model.keras", b"PK\x03\x04"),
    ("photo.jpg", b"\xff\xd8\xff\xe0"), ("notes.txt", b"Dear diary"), ("page.html", b"<html>")])
def test_a_file_of_another_kind_is_not_overwritten(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=r"is no JSON file and isn't overwritten"):
        check_file("--json", tmp_path / name, "JSON")


def test_an_input_is_not_overwritten(tmp_path):
    """By whichever name."""
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.json").symlink_to("a.json")
    for name in ("a.json", "b.json"):
        with pytest.raises(InputError, match="this command reads that file"):
            check_file("--json", tmp_path / name, "JSON", [tmp_path / "a.json"])


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match=r"cannot write --out .*: it is a folder"):
        check_file("--out", tmp_path, "HTML")
    with pytest.raises(InputError, match=r"there is no folder .*none; create it"):
        check_file("--out", tmp_path / "none" / "a.html", "HTML")
    assert not list(tmp_path.iterdir())


def test_a_record_of_a_run_is_not_overwritten(tmp_path: Path) -> None:
    """Though it is JSON; elsewhere a file may have such a name."""
    check_file("--json", tmp_path / "summary.json", "JSON")
    (tmp_path / "config.json").write_text("{}")
    for name in ("metrics.jsonl", "summary.json", "model.json"):
        with pytest.raises(InputError, match="it is a record of a run; choose another name"):
            check_file("--json", tmp_path / name, "JSON")
    check_file("--json", tmp_path / "mine.json", "JSON")
