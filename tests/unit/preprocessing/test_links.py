"""Links and folders that lead from one class into another, and folders that can't be entered."""

from __future__ import annotations

import os

import pytest
from picture_trees import fill

from hpc_deepfake.core.errors import InputError
from preprocessing.catalogue import Catalogue, scan, scan_pair


def labels(listing: Catalogue) -> dict[str, int]:
    return dict(zip(map(os.fsdecode, listing.paths), listing.labels.tolist(), strict=True))


@pytest.mark.parametrize(("link", "target", "reason"), [
    ("real/pairs", "../fake/hard", "in the folder of the other class"),
    ("real/pairs", "../fake", "in the folder of the other class"),
    ("real/deep/x", "../../fake/hard", "in the folder of the other class"),
    ("real/other", "../../second/fake/hard", "in the folder of the other class"),
    ("real/up", "..", "above"), ("fake/up", "../..", "above"), ("fake/hard/up", "../..", "above"),
    ("real/deep/self", "..", ""), ("real/more", "../../outside", "")])
def test_a_link_does_not_change_labels(tmp_path, link, target, reason):
    top = fill(tmp_path, dict.fromkeys((
        "data/set/real/a.jpg", "data/set/real/deep/b.jpg", "data/set/fake/c.jpg",
        "data/set/fake/hard/d.jpg", "data/second/real/e.jpg", "data/second/fake/hard/f.jpg",
        "data/set/loose.jpg", "data/outside/g.jpg")))
    (top / "data/set" / link).symlink_to(target, target_is_directory=True)
    listing = scan(top / "data")
    found = labels(listing)
    assert found.pop("set/real/more/g.jpg", 0) == 0
    assert found == {
        "set/real/a.jpg": 0, "set/real/deep/b.jpg": 0, "set/fake/c.jpg": 1,
        "set/fake/hard/d.jpg": 1, "second/real/e.jpg": 0, "second/fake/hard/f.jpg": 1}
    told = [note for note in listing.notes if f"set/{link} left out: a link to " in note]
    assert len(told) == bool(reason) and all(reason in note for note in told)


def test_the_folder_of_one_class_inside_that_of_the_other(tmp_path):
    top = fill(tmp_path, dict.fromkeys(("pics/a.jpg", "pics/edited/e.jpg", "pics/more/b.jpg")))
    (top / "pics/edited/back").symlink_to(top / "pics/more", target_is_directory=True)
    for given in ((top / "pics", top / "pics/edited"), (top / "pics/edited", top / "pics")):
        listing = scan_pair(*given)
        tampered = os.fspath(given[1].relative_to(top)) == "pics/edited"
        assert labels(listing) == (
            {"authentic/a.jpg": 0, "authentic/more/b.jpg": 0, "tampered/e.jpg": 1} if tampered else
            {"authentic/e.jpg": 0, "tampered/a.jpg": 1, "tampered/more/b.jpg": 1})
        assert any("edited left out: it is the folder of the other class" in note
                   for note in listing.notes)


@pytest.mark.parametrize("forbidden", ["locked", "locked/metadata.json", "locked/."])
def test_a_folder_that_cannot_be_entered_is_named(tmp_path, monkeypatch, forbidden):
    """Beside the data sets it is left out with a note, in a class it is an error."""
    top = fill(tmp_path, dict.fromkeys(("set/real/a.jpg", "set/fake/b.jpg", "locked/c.jpg")))

    def refusing(function):
        def refuse(path, *args, **options):
            if not isinstance(path, int) and os.fsdecode(path) == f"{top}/{forbidden}":
                raise PermissionError(13, "Permission denied", os.fspath(path))
            return function(path, *args, **options)

        return refuse

    for name in ("stat", "scandir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    listing = scan(top)
    assert len(listing) == 2
    if forbidden != "locked/metadata.json":
        assert any("locked left out: Permission denied" in note for note in listing.notes)
    (top / "set/fake/in").symlink_to(top / "locked", target_is_directory=True)
    if forbidden == "locked":
        with pytest.raises(InputError, match=r"cannot list .*: Permission denied"):
            scan(top)
