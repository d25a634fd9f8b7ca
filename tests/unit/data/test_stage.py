"""The copy of the data file on a node's own disk."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from speed import limit

from preprocessing.store import open_header

# a separate process, since MPI changes the environment that a later mpirun would inherit
PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from mpi4py import MPI
from hpc_deepfake.core import log
from hpc_deepfake.data import stage as module
log.start()
path, folder, change = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
module._MEMORY.clear()  # the tests' own folder may be in memory
exec(change)
print(module.stage(MPI.COMM_WORLD, path, folder))
"""
NO_ROOM = """
from collections import namedtuple
usage = namedtuple("usage", "total used free")
module.shutil.disk_usage = lambda _: usage(10**9, 10**9, 1000)
"""


def stage(path: Path, folder: Path, change: str = "") -> tuple[Path, str]:
    """The result of ``stage`` on one rank, and its messages."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, path, folder, change], text=True,
                          capture_output=True, timeout=limit(60))
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.rstrip("\n")), done.stderr


def staged(path: Path, folder: Path, change: str = "") -> Path:
    return stage(path, folder, change)[0]


def test_the_copy_is_complete_and_reused(data_file: Path, tmp_path: Path) -> None:
    copy = staged(data_file, tmp_path / "local")
    assert copy.parent == tmp_path / "local" and copy != data_file
    assert copy.read_bytes() == data_file.read_bytes()
    made = copy.stat()
    assert staged(data_file, tmp_path / "local") == copy
    assert copy.stat().st_ino == made.st_ino
    assert list(copy.parent.iterdir()) == [copy]


def test_a_damaged_copy_is_made_again(data_file: Path, tmp_path: Path) -> None:
    copy = staged(data_file, tmp_path)
    header, times = open_header(copy), copy.stat()
    with open(copy, "r+b") as file:
        file.seek(header.offsets["ela"] + 1000)
        file.write(b"\xff" * 100)
    os.utime(copy, ns=(times.st_mtime_ns, times.st_mtime_ns))
    assert staged(data_file, tmp_path) == copy
    assert copy.read_bytes() == data_file.read_bytes()


def test_a_new_version_of_the_file_is_copied(data_file: Path, tmp_path: Path) -> None:
    original = tmp_path / "features.h5"
    shutil.copy(data_file, original)
    copy = staged(original, tmp_path / "local")
    with open(original, "r+b") as file:
        file.seek(open_header(original).offsets["split"])
        file.write(b"\0")
    assert staged(original, tmp_path / "local") == copy
    assert copy.read_bytes() == original.read_bytes()


def test_files_of_one_name_have_two_copies(data_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / data_file.name
    other.parent.mkdir()
    shutil.copy(data_file, other)
    assert staged(data_file, tmp_path) != staged(other, tmp_path)


def test_without_space_the_original_is_read(data_file: Path, tmp_path: Path) -> None:
    path, messages = stage(data_file, tmp_path / "local", NO_ROOM)
    assert path == data_file
    assert "note: no copy of the data on" in messages and f"reading {data_file}" in messages
    assert not list((tmp_path / "local").iterdir())


def test_without_write_permission_the_original_is_read(data_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert staged(data_file, tmp_path / "file") == data_file


def test_a_copy_that_differs_is_not_used(data_file: Path, tmp_path: Path) -> None:
    assert staged(data_file, tmp_path,
                  "module.damaged_rows = lambda *_: np.array([3])") == data_file
    assert not list(tmp_path.iterdir())


def test_a_link_of_another_user_is_not_followed(data_file: Path, tmp_path: Path) -> None:
    """In a shared folder, a link placed beforehand under the copy's name; its target stays
    unchanged."""
    copy = staged(data_file, tmp_path)
    copy.unlink()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    copy.symlink_to(victim)
    assert staged(data_file, tmp_path) == copy
    assert victim.read_text() == "precious" and not copy.is_symlink()


def test_a_copy_in_memory_lives_as_long_as_its_last_user(data_file: Path) -> None:
    """In ``/dev/shm``; ``flock`` plays another program that still uses the copy."""
    memory = "module._MEMORY.add('tmpfs')"
    with tempfile.TemporaryDirectory(dir="/dev/shm") as shared:
        folder = Path(shared)
        copy = staged(data_file, folder, f"{memory}; module.atexit.unregister(module.release)")
        assert list(folder.iterdir()) == [copy]  # as if it had been killed
        made = copy.stat().st_ino
        with open(copy, "rb") as other:
            fcntl.flock(other, fcntl.LOCK_SH)
            assert staged(data_file, folder, memory) == copy
            assert list(folder.iterdir()) == [copy] and copy.stat().st_ino == made
        assert staged(data_file, folder, memory) == copy
        assert not list(folder.iterdir())
