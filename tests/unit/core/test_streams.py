"""Lines are written whole, and what happens to them doesn't end the work, in real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import run_program
from speed import limit

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
    _, err = process.communicate(timeout=limit(60))
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


LINES = """
import sys, time
from hpc_deepfake.core import streams
from hpc_deepfake.core.surroundings import settle
settle()
streams.whole_lines()
if sys.argv[1] == "work":
    streams.work_matters()
print("first")
time.sleep(float(sys.argv[2]))
for number in range(3):
    print("later", number)
    print("later", number, file=sys.stderr)
with open("finished", "w") as file:
    file.write(f"{file.fileno()}")
"""


def unread(kind: str, cwd: Path, shell: str) -> subprocess.CompletedProcess[str]:
    """The program in a pipe or with other standard streams, as ``shell`` says."""
    pause = "0.3" if "|" in shell else "0"
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$1" -c "$2" {kind} {pause} {shell}', "-",
         sys.executable, LINES], cwd=cwd, capture_output=True, text=True, timeout=limit(60))


@pytest.mark.parametrize("shell", ["| head -1", ">/dev/full", ">&-", ">&- 2>&- <&-", "2>/dev/full"])
def test_work_is_finished_whether_its_output_can_be_written_or_not(tmp_path: Path,
                                                                   shell: str) -> None:
    """And no file that it opens gets the number of a closed standard stream."""
    done = unread("work", tmp_path, shell)
    assert done.returncode == 0, done.stderr
    assert int((tmp_path / "finished").read_text()) > 2
    assert done.stderr.count("\n") == (0 if "2>" in shell else 4 if "full" in shell else 3)
    assert ("No space left on device; what is printed is lost" in done.stderr) \
        == (shell == ">/dev/full")


@pytest.mark.parametrize(("shell", "code", "error"), [
    ("| head -1", 141, ""),
    (">/dev/full", 2, "error: cannot write standard output: No space left")])
def test_what_is_there_for_its_output_ends_with_it(tmp_path: Path, shell: str, code: int,
                                                   error: str) -> None:
    """Quietly where its reader has left."""
    done = unread("output", tmp_path, shell)
    assert done.returncode == code
    assert done.stderr.startswith(error) and done.stderr.count("\n") == bool(error)
    assert not (tmp_path / "finished").exists()


def test_results_that_would_go_nowhere_are_refused() -> None:
    """Standard output closed by the shell is no reason to compute for hours, and end with 0."""
    code = ("from hpc_deepfake.core import streams; streams.whole_lines(); import sys\n"
            "try: streams.require_output()\nexcept streams.InputError as e: sys.exit(str(e))")
    for shell, said in (("", ""), (">&-", "standard output is closed")):
        done = subprocess.run(["bash", "-c", f'"$0" -c "$1" {shell}', sys.executable, code],
                              capture_output=True, text=True, timeout=limit(60))
        assert done.stderr.startswith(said) and bool(done.returncode) == bool(said)


def test_a_data_file_is_whole_though_nobody_reads_on(pictures: Path, tmp_path: Path) -> None:
    """The whole program, under the one reader that is used most."""
    done = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$1" -m preprocessing --data "$2" --out out.h5 | head -1',
         "-", sys.executable, pictures], cwd=tmp_path, capture_output=True, text=True,
        timeout=limit(60))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    assert run_program("hpc_deepfake.cli", "verify", "out.h5", cwd=tmp_path).returncode == 0
