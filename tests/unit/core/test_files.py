"""Files written whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpc_deepfake.core.errors import OutputError
from hpc_deepfake.core.files import finite_only, new_folder, whole, write_json, write_text


def test_the_new_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    path.write_text("old")
    with whole(path, sync=True) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.suffix == ".npz", "NumPy would add its own"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("existing", ["old", None])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_no_temporary_one(
        tmp_path: Path, existing: str | None, error: BaseException) -> None:
    path = tmp_path / "summary.json"
    if existing is not None:
        path.write_text(existing)
    with pytest.raises(type(error)), whole(path) as temporary:
        temporary.write_text("half of")
        raise error
    assert [file.read_text() for file in tmp_path.iterdir()] == ([existing] if existing else [])


def test_a_failed_rename_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        write_text(tmp_path / "taken", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole(tmp_path / "x"):
        pass
    assert not list(tmp_path.iterdir())


def test_text_is_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "café – 128×128\n")
    assert (tmp_path / "x").read_bytes() == "café – 128×128\n".encode()


def test_json_has_null_for_numbers_that_json_lacks(tmp_path: Path) -> None:
    value = {"loss": float("nan"), "list": [1, (float("inf"), 0.5)], "path": Path("runs/x"),
             "text": "nan", "flag": True}
    write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text()
    assert text.startswith('{\n  "loss": null,') and text.endswith("}\n")
    assert json.loads(text) == {"loss": None, "list": [1, [None, 0.5]], "path": "runs/x",
                                "text": "nan", "flag": True}
    assert finite_only(-float("inf")) is None and finite_only(0) == 0


def test_a_device_is_written_to_directly(tmp_path: Path) -> None:
    """``--json /dev/stdout`` must not put a file in the device's place."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "text\n")
    assert os.read(reader, 100) == b"text\n"
    os.close(reader)
    assert pipe.is_fifo() and [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_link_is_replaced_and_never_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert not link.is_symlink() and link.read_text() == "new" and target.read_text() == "old"


def test_redirected_standard_output_is_written_through_a_link(tmp_path: Path) -> None:
    """As ``--json /dev/stdout > file`` does: the link must not become a file."""
    link = tmp_path / "stdout"
    link.symlink_to("/proc/self/fd/1")
    program = ("import sys; from pathlib import Path; from hpc_deepfake.core.files import *; "
               "write_json(Path(sys.argv[1]), [1])")
    with open(tmp_path / "out", "w") as out:
        subprocess.run([sys.executable, "-c", program, link], stdout=out, check=True)
    assert link.is_symlink() and json.loads((tmp_path / "out").read_text()) == [1]


def test_new_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "made" / "out"
    with new_folder(out) as place:
        (place / "part").write_text("a")
        assert not out.exists() and place.parent == out.parent
    assert (out / "part").read_text() == "a"
    with pytest.raises(RuntimeError), new_folder(tmp_path / "made" / "other") as place:
        (place / "part").write_text("a")
        raise RuntimeError
    with pytest.raises(OutputError), new_folder(out) as place:  # there already, with files
        (place / "part").write_text("b")
    assert list((tmp_path / "made").rglob("*")) == [out, out / "part"]
    assert (out / "part").read_text() == "a"
