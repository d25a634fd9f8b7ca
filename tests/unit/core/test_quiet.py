"""What libraries write to standard error while they start: hidden, unless it is needed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import ROOT
from speed import limit

from hpc_deepfake.core.progress import Line
from hpc_deepfake.core.quiet import Captured, stderr

PROGRAM = """
import os, sys, time
from hpc_deepfake.core import mpi
from hpc_deepfake.core.log import log, start
from hpc_deepfake.core.quiet import quiet_stderr

start()
with quiet_stderr({hang}):
    os.write(2, b"a line of a library\\n")
    log.warning("a message of the program")
    {action}
os.write(2, b"after the start\\n")
"""
OWN = "a message of the program\n"


def run(action: str, tmp_path: Path, hang: float = 60) -> tuple[int, str]:
    """Exit code and standard error of a program with this start; a new file ``error`` is named by
    the job script."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(action=action, hang=hang)], cwd=tmp_path, text=True,
        capture_output=True, timeout=limit(60),
        env={**os.environ, "PYTHONPATH": str(ROOT), "HPC_DEEPFAKE_ERROR_FILE": "error"})
    return done.returncode, done.stderr


def test_a_start_that_succeeds_shows_only_the_programs_own_messages(tmp_path: Path) -> None:
    assert run("", tmp_path) == (0, OWN + "after the start\n")


def test_a_start_that_fails_shows_what_the_libraries_wrote(tmp_path: Path) -> None:
    code, text = run("raise ImportError('no such library')", tmp_path)
    assert code == 1
    assert text.startswith(OWN + "a line of a library\nTraceback") and "no such library" in text


@pytest.mark.parametrize("end", ["os.abort()", "os._exit(3)"])
def test_the_reason_of_a_library_that_ends_the_process_is_shown(tmp_path: Path, end: str) -> None:
    """Nothing of the process is left to do it. The job script's file has it, too."""
    code, text = run(f"os.write(2, b'F0 Check failed: a == b\\n'); {end}", tmp_path)
    assert code in (-6, 3)
    title, *lines = (tmp_path / "error").read_text().splitlines()
    assert title.startswith("rank 0 on ") and "ended while it started its libraries" in title
    assert lines[:2] == ["  a line of a library", "  F0 Check failed: a == b"]
    assert (tmp_path / "error").read_text() in text
    assert text.count(OWN) == 1 and "after" not in text


def test_a_killed_start_has_nothing_to_tell(tmp_path: Path) -> None:
    """The launcher kills all ranks when one has failed."""
    assert run("os.kill(os.getpid(), 9)", tmp_path) == (-9, OWN)
    assert not (tmp_path / "error").exists()


def test_tensorflows_notes_are_no_reason(tmp_path: Path) -> None:
    """It writes one about round-off errors at each start."""
    note = b"I0000 00:00:17.07 1 port.cc:153] results differ due to floating-point round-off errors"
    assert run(f"os.write(2, {note!r} + b'\\n'); os.kill(os.getpid(), 9)", tmp_path) == (-9, OWN)


def test_an_interrupted_start_shows_nothing_of_the_libraries(tmp_path: Path) -> None:
    code, text = run("raise KeyboardInterrupt", tmp_path)
    assert code == -2 and text.startswith(OWN + "Traceback") and "a line of a library" not in text


def test_a_start_that_hangs_shows_what_the_libraries_wrote(tmp_path: Path) -> None:
    """Though it holds Python's lock, as a library that is being loaded does."""
    code, text = run("import ctypes; ctypes.PyDLL(None).sleep(2)", tmp_path, 0.1)
    assert code == 0
    assert "has been starting its libraries for 0 s. Their last messages:\n  a line of a library" \
        in text
    assert text.endswith("after the start\n")


def test_captured_text_is_of_the_block_alone(capfd: pytest.CaptureFixture[str]) -> None:
    with Captured() as first:
        os.write(2, b"two lines\n  of text \ntwo lines\n")
    with Captured() as second:
        pass
    with Captured() as third:
        os.write(2, b"\xff more")
    assert (first.text, second.text, third.text) == ("two lines; of text", "", "\ufffd more")
    os.write(2, b"outside\n")
    assert capfd.readouterr().err == "outside\n"


def test_what_several_threads_capture_is_marked_and_can_be_had_alone(
        capsys: pytest.CaptureFixture[str]) -> None:
    """A line of progress goes beside what is captured."""
    inside, left, alone = threading.Event(), threading.Event(), threading.Event()
    captured = []

    def capture() -> None:
        with Captured() as caught:
            inside.set()
            left.wait()
        captured.append(caught)
        with Captured(alone=True) as again:
            os.write(2, b"own")
            alone.set()
            time.sleep(0.05)
        captured.append(again)

    thread = threading.Thread(target=capture)
    thread.start()
    inside.wait()
    with Captured() as other:
        os.write(2, b"whose?")
        stderr().write("a message of the program\n")
        Line().show("1 of 2 pictures")
        left.set()
        assert not alone.wait(0.05), "alone beside another one"
    alone.wait()
    with Captured() as later:
        os.write(2, b"later")
    thread.join()
    assert [(each.text, each.shared) for each in (*captured, other, later)] == [
        ("whose?", True), ("own", False), ("whose?", True), ("later", False)]
    assert capsys.readouterr().err == ""
    assert stderr() is sys.stderr
