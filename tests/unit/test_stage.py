"""Copies on a node's own disk: of the data file, and of the environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from preprocessing.store import open_header

SCRIPT = ROOT / "env" / "stage.sh"


# --- data file

# A process of its own: MPI, once started, changes the environment that mpirun would get from here.
PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from mpi4py import MPI
from hpc_deepfake.data import stage as module
path, folder, change = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
exec(change)
print(module.stage(MPI.COMM_WORLD, path, folder))
"""
NO_ROOM = """
from collections import namedtuple
usage = namedtuple("usage", "total used free")
module.shutil.disk_usage = lambda _: usage(10**9, 10**9, 1000)
"""


def stage(path: Path, folder: Path, change: str = "") -> tuple[Path, str]:
    """What ``stage`` gives on one rank, and what it says."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, path, folder, change], text=True,
                          capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    *said, copy = done.stdout.splitlines()
    return Path(copy), "\n".join(said)


def staged(path: Path, folder: Path, change: str = "") -> Path:
    return stage(path, folder, change)[0]


def test_the_copy_is_whole_and_taken_again(data_file: Path, tmp_path: Path) -> None:
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


def test_without_room_the_file_itself_is_read(data_file: Path, tmp_path: Path) -> None:
    path, said = stage(data_file, tmp_path / "local", NO_ROOM)
    assert path == data_file
    assert "note: no copy of the data on" in said and f"reading {data_file}" in said
    assert not list((tmp_path / "local").iterdir())


def test_where_nothing_can_be_written_the_file_itself_is_read(data_file: Path,
                                                              tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert staged(data_file, tmp_path / "file") == data_file


def test_a_copy_that_came_out_wrong_is_not_used(data_file: Path, tmp_path: Path) -> None:
    assert staged(data_file, tmp_path,
                  "module.damaged_rows = lambda *_: np.array([3])") == data_file
    assert not list(tmp_path.iterdir())


def test_somebody_elses_link_is_not_followed(data_file: Path, tmp_path: Path) -> None:
    """In a folder for all, a link laid beforehand under the copy's name: its target stays as it
    is."""
    copy = staged(data_file, tmp_path)
    copy.unlink()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    copy.symlink_to(victim)
    assert staged(data_file, tmp_path) == copy
    assert victim.read_text() == "precious" and not copy.is_symlink()


# --- environment


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Looks like a finished environment: links to Python, a program of it, the stamp of setup."""
    env = tmp_path / "env"
    for folder in ("bin", "stamps", "wheels", "lib"):
        (env / folder).mkdir(parents=True)
    (env / "stamps" / "selfcheck").write_text("0123456789abcdef\n")
    python = Path(os.path.realpath(sys.executable))
    (env / "bin" / "python").symlink_to(python)
    (env / "bin" / "python3").symlink_to("python")
    (env / "bin" / "hello").write_text(f"#!{env}/bin/python\nprint('hello')\n")
    (env / "bin" / "hello").chmod(0o755)
    (env / "wheels" / "large").write_bytes(bytes(1000))
    (env / "pyvenv.cfg").write_text(f"home = {python.parent}\nversion = 3\n")
    return env


def script(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *map(str, arguments)], text=True, capture_output=True,
                          env={**os.environ, **variables}, timeout=120)


def test_an_environment_is_packed_once_and_works_elsewhere(environment: Path,
                                                           tmp_path: Path) -> None:
    first = script("pack", HPC_DEEPFAKE_ENV=str(environment))
    assert first.returncode == 0, first.stderr
    tar = Path(first.stdout.strip())
    made = tar.stat()
    assert script("pack", HPC_DEEPFAKE_ENV=str(environment)).stdout == first.stdout
    assert tar.stat().st_mtime_ns == made.st_mtime_ns
    local = tmp_path / "local disk"
    done = script("unpack", tar, local)
    assert done.returncode == 0, done.stderr
    target = Path(done.stdout.strip())
    assert target.parent == local and script("where", tar, local).stdout == done.stdout
    assert not (target / "wheels").exists()
    shutil.rmtree(environment / "bin")  # nothing of the original is needed
    run = subprocess.run([target / "bin" / "python", "-c", "import sys; print(sys.prefix)"],
                         text=True, capture_output=True, env={
                             **os.environ, "LD_LIBRARY_PATH": f"{target}/python/lib"})
    assert run.stdout.strip() == str(target), run.stderr
    assert (target / "bin" / "hello").read_text().startswith(f"#!{target}/bin/python\n")
    assert script("unpack", tar, local).stdout == done.stdout
    assert list(local.iterdir()) == [target]


def test_another_environment_has_another_tar(environment: Path) -> None:
    one = Path(script("pack", HPC_DEEPFAKE_ENV=str(environment)).stdout.strip())
    (environment / "stamps" / "selfcheck").write_text("fedcba9876543210\n")
    other = Path(script("pack", HPC_DEEPFAKE_ENV=str(environment)).stdout.strip())
    assert one != other and not one.exists() and other.exists()


def test_without_room_nothing_is_left_behind(environment: Path, tmp_path: Path) -> None:
    tar = script("pack", HPC_DEEPFAKE_ENV=str(environment)).stdout.strip()
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "df").write_text("#!/bin/sh\necho head\necho x 1 1 0 100% /\n")
    (tools / "df").chmod(0o755)
    done = script("unpack", tar, tmp_path / "local", PATH=f"{tools}:{os.environ['PATH']}")
    assert done.returncode == 3
    assert "no room in" in done.stderr and "0 MB are free" in done.stderr
    assert not list((tmp_path / "local").iterdir())


@pytest.mark.parametrize(("arguments", "code"), [
    (("unpack", "/nonexistent.tar", "/tmp"), 3), (("unpack", "x"), 2), (("pack", "x"), 2), ((), 2),
    (("unpack", "x.tar", "relative"), 3)])
def test_wrong_usage(arguments: tuple[str, ...], code: int) -> None:
    done = script(*arguments)
    assert done.returncode == code and done.stderr


def test_an_unfinished_environment_is_not_packed(environment: Path) -> None:
    (environment / "stamps" / "selfcheck").unlink()
    done = script("pack", HPC_DEEPFAKE_ENV=str(environment))
    assert done.returncode == 3 and "env/setup.sh" in done.stderr
