"""Data files that are whole and can't be opened: the message says so, and what is to blame."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from hpc_deepfake.core.errors import InputError
from preprocessing import store, unreadable
from preprocessing.catalogue import Catalogue
from preprocessing.ela import Parameters


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path, numbers = tmp_path / "x.h5", np.arange(4, dtype=np.int32)
    labels = (numbers % 2).astype("u1")
    catalogue = Catalogue({"": Path("/nowhere")}, [b"Au/%d.jpg" % n for n in numbers], labels,
                          numbers)
    store.create(path, catalogue, labels, store.Recipe(
        ("ela",), Parameters(size=8), "80/20", "group", 0, catalogue.digest(), 4))
    return path


@contextmanager
def locked(path: Path, how: str) -> Iterator[int]:
    """Another process has locked the file; its number."""
    program = f"import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.{how}); " \
              "print(flush=True); sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", program, path], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    with process:
        process.stdout.readline()
        yield process.pid
        process.stdin.close()


def test_a_locked_file_is_in_use_and_its_holder_is_named(file, monkeypatch):
    """With locks on; without, it is read."""
    with locked(file, "LOCK_EX") as holder:
        assert store.open_header(file).rows == 4
        monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "TRUE")
        with pytest.raises(InputError) as caught:
            store.open_header(file)
        message = str(caught.value)
        assert f"{file} is in use, and not damaged: process {holder} of " in message
        assert "import fcntl" in message and "has locked it. Wait for the end" in message
        assert "Move it away" not in message
        monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "FALSE")
        assert store.open_header(file).rows == 4
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "TRUE")
    assert store.open_header(file).rows == 4


def test_readers_dont_exclude_readers(file, monkeypatch):
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "TRUE")  # env/activate.sh switches them off
    with locked(file, "LOCK_SH"):
        assert store.open_header(file).rows == 4
        unreadable.require_unused(file)


def test_preprocessing_does_not_write_to_a_file_that_is_locked_to_write(file, monkeypatch):
    """Unless locks are switched off."""
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    with locked(file, "LOCK_EX"), pytest.raises(InputError, match="is in use, and not damaged"):
        unreadable.require_unused(file)
    unreadable.require_unused(file)
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "FALSE")
    with locked(file, "LOCK_EX"):
        unreadable.require_unused(file)


def test_a_lock_of_another_node(file, monkeypatch):
    """It is not in this kernel's list."""
    monkeypatch.setattr(unreadable, "holders", lambda path: [])
    text = unreadable.in_use(file)
    assert "no process of" in text and "another node" in text and "was killed" in text


@pytest.mark.parametrize(("number", "lock", "expected"), [
    (errno.EAGAIN, True, "in use"), (errno.EACCES, True, "in use"),
    (errno.ENOLCK, True, "export HDF5_USE_FILE_LOCKING=FALSE"),
    (errno.EOPNOTSUPP, True, "doesn't support it"), (errno.ENOSYS, True, "doesn't support it"),
    (errno.EACCES, False, "Permission denied. Ask its owner"),
    (errno.EPERM, False, "Ask its owner"), (errno.EIO, False, "The file may be whole"),
    (errno.ESTALE, True, "The file may be whole"), (errno.ESTALE, False, "the administrators"),
    (errno.EMFILE, False, "Too many open files"), (None, False, None)])
def test_reasons(file, number, lock, expected):
    """The system's number tells kinds of errors apart; none of them is called damage."""
    text = "Unable to open file (unable to lock file)" if lock else "reading"
    reason = unreadable.reason(file, OSError(number, text) if number else OSError("truncated"))
    assert reason is None if expected is None else expected in reason
    assert "damaged" not in (reason or "").replace("not damaged", "")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_opening_reports_the_systems_reason(file, monkeypatch, number):
    real = os.open

    def fail(path, *arguments, **options):
        if Path(os.fsdecode(path)) == file:
            raise OSError(number, os.strerror(number))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(InputError, match=os.strerror(number)) as caught:
        store.open_header(file)
    assert "damaged" not in str(caught.value)


def test_a_file_system_without_locks_is_written_and_read(file, monkeypatch, tmp_path):
    """Preprocessing creates and continues files there."""
    def refuse(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    unreadable.require_unused(file)
    assert store.open_header(file).rows == 4
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "TRUE")
    with pytest.raises(InputError, match=r"can't be locked.*HDF5_USE_FILE_LOCKING=FALSE"):
        store.open_header(file)


def test_the_holders_command_is_one_printable_line(file, monkeypatch):
    class Process:
        def __init__(self, number):
            self.number = number

        def cmdline(self):
            return ["python", "a\n\x1b[31m", "b" * 100]

        def username(self):
            return "me"

    monkeypatch.setattr(unreadable.psutil, "Process", Process)
    text = unreadable._described(7)
    assert text.startswith("process 7 of me on ") and text.isprintable() and len(text) < 150
