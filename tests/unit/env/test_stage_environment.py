"""The copy of the environment on a node's own disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

SCRIPT = ROOT / "env" / "stage.sh"


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
    assert "not enough space in" in done.stderr and "0 MB are free" in done.stderr
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
