"""Lines are written whole, in real processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from hpc_deepfake.core.streams import whole_lines
if sys.argv[1] == "whole":
    whole_lines()
    whole_lines()
for number in range(3):
    print(f"line {number}", "of", 3)
print("error", "line", file=sys.stderr)
print("begun,", end=" ")
print("ended")
print("file caf\\udce9")
"""


def writes(mode: str, **environment: str) -> list[bytes]:
    """What each write of the program to its standard output held.

    A pipe in packet mode returns one write for each read (pipe(2), O_DIRECT)."""
    reader, writer = os.pipe2(os.O_DIRECT)
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, mode], stdout=writer,
                               stderr=subprocess.PIPE, text=True,
                               env={**os.environ, **environment})
    os.close(writer)
    with open(reader, "rb", buffering=0) as packets:
        parts = list(iter(lambda: packets.read(4096), b""))
    _, err = process.communicate(timeout=60)
    if mode == "whole":
        assert process.returncode == 0 and err == "error line\n"
    return parts


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_line_is_one_write(unbuffered: str) -> None:
    """Also when Python is told not to buffer, as job scripts do; and no name of a file, here one
    that is not UTF-8, makes a print fail."""
    assert writes("whole", PYTHONUNBUFFERED=unbuffered) == [
        b"line 0 of 3\n", b"line 1 of 3\n", b"line 2 of 3\n", b"begun, ended\n",
        b"file caf\\udce9\n"]


def test_python_alone_writes_parts_of_lines() -> None:
    """The test above would see it."""
    assert b"line 0" in writes("plain", PYTHONUNBUFFERED="1")


def test_the_streams_of_a_test_stay_in_place(capsys: pytest.CaptureFixture[str]) -> None:
    from hpc_deepfake.core.streams import whole_lines

    stream = sys.stdout
    whole_lines()
    assert sys.stdout is stream
    print("still captured")
    assert capsys.readouterr().out == "still captured\n"
