"""Running on several ranks: however it ends, and what the ranks print."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from conftest import run_program

pytestmark = pytest.mark.mpi
HERE = Path(__file__).parent
HELPERS = {"PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), str(HERE.parent.parent),
                                                       os.environ.get("PYTHONPATH"))))}


def run(case: str, ranks: int, cwd: Path,
        **environment: str) -> subprocess.CompletedProcess[str]:
    """A case of ``ranks.py``."""
    return run_program("ranks", case, ranks=ranks, cwd=cwd, timeout=60,
                       env={**HELPERS, **environment})


@pytest.mark.parametrize(("case", "ranks", "code", "message", "never", "left"), [
    ("exception", 3, 1, r"rank 2 of 3 on \S+ failed:\n(.*\n)*ValueError: boom on purpose",
     "rank [01] of", "error"),
    ("input_error", 3, 2, rf"error on rank 2 on {os.uname().nodename}: only this rank sees it",
     "Traceback", "error"),
    ("root_input_error", 3, 2, "^error: wrong input on rank 0", "Traceback", "error outcome"),
    ("together", 3, 2, r"^error: no file \(rank 1 on \S+, the first of 2 ranks with an error\)",
     "Traceback", "error outcome"),
    ("root_exception", 2, 1, r"rank 0 of 2 on \S+ failed:\n(.*\n)*ZeroDivisionError", "rank 1 of",
     "error"),
    ("code", 3, 75, r"a name that is not UTF-8: \\udcff", "Traceback", "outcome"),
])
def test_however_a_rank_ends_the_job_ends(tmp_path, case, ranks, code, message, never, left):
    """A rank that fails ends all of them, and its message names it and the reason; no rank waits
    for it. What a job script asked for is left in files: the first error alone, and the exit code
    of an orderly end."""
    done = run(case, ranks, tmp_path, HPC_DEEPFAKE_ERROR_FILE="error",
               HPC_DEEPFAKE_OUTCOME_FILE="outcome")
    assert {path.name for path in tmp_path.iterdir()} == set(left.split())
    if "outcome" in left:
        assert (tmp_path / "outcome").read_text() == f"{code}\n"
    if "error" in left:
        assert re.search(message, (tmp_path / "error").read_text(), re.MULTILINE)
    text = done.stdout + done.stderr
    assert done.returncode == code, text
    assert len(re.findall(message, text, re.MULTILINE)) == 1, text
    assert not re.search(never, text), text


def test_progress_is_plain_lines_from_rank_0_where_there_is_no_terminal(tmp_path):
    done = run("progress", 3, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "\r" not in done.stderr and "\033" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) >= 50
    assert all(re.fullmatch(r"[\d,]+ of 150 things \(\d+%\)  [\d,]+/s  (\d+ s left)?", line)
               for line in lines), lines
    counts = [int(line.split()[0]) for line in lines]
    assert counts == sorted(counts), "rank 0 alone counts for all"


def test_every_line_of_two_ranks_arrives_whole(tmp_path):
    """Where output is unbuffered, as in a job. 2,000 lines of 100 characters from each rank go into
    one file, as the output of a job step does; a few more go through mpirun, which forwards pieces
    of 4 KiB and could cut a longer burst in the middle of a line whatever the program does."""
    done = run("lines", 2, tmp_path, PYTHONUNBUFFERED="1")
    assert done.returncode == 0, done.stderr
    both = {f"{rank} {number:05d} {'ab'[rank] * 92}" for rank in range(2) for number in range(2000)}
    for text, count in (((tmp_path / "lines").read_text(), 2000), (done.stdout, 30),
                        (done.stderr, 30)):
        lines = text.splitlines()
        assert len(lines) == 2 * count
        assert set(lines) == {line for line in both if int(line.split()[1]) < count}


def test_messages_of_the_ranks(tmp_path):
    """By default information from rank 0 and warnings from all, with their rank."""
    done = run("messages", 3, tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert sorted(done.stderr.splitlines()) == [
        "a warning", "information", "rank 1: a warning", "rank 2: a warning"]
    done = run("messages", 2, tmp_path, HPC_DEEPFAKE_LOG="debug")
    lines = sorted(re.sub(r"\d{4}-\S+ \S+ ", "", line) for line in done.stderr.splitlines())
    assert [line for line in lines if " MPI " not in line] == [
        f"rank {rank}: {text}" for rank in range(2)
        for text in ("a detail", "a warning", "information")]


def test_a_wrong_log_level_is_one_message_and_exit_code_2(tmp_path):
    done = run("messages", 3, tmp_path, HPC_DEEPFAKE_LOG="loud", HPC_DEEPFAKE_OUTCOME_FILE="code")
    assert done.returncode == 2, done.stderr
    assert done.stdout == "" and done.stderr.count("HPC_DEEPFAKE_LOG") == 1
    assert "error: HPC_DEEPFAKE_LOG=loud is not a log level: set it to debug, " in done.stderr
    assert (tmp_path / "code").read_text() == "2\n", "all ranks ended in order"


@pytest.mark.parametrize(("command", "ranks", "left_over"), [
    (["preprocessing.make_sample"], 2, {}), (["hpc_deepfake.cli", "summary"], 2, {}),
    (["preprocessing.make_sample"], 0, {"PMI_RANK": "3", "PMI_SIZE": "8"})],
    ids=["several ranks", "one process", "left-over variables"])
def test_wrong_usage_is_told_once(tmp_path, command, ranks, left_over):
    """By programs that start MPI and those that don't."""
    done = run_program(*command, "--bogus", ranks=ranks, cwd=tmp_path, env=left_over)
    assert done.returncode == 2
    assert len(re.findall("^error: ", done.stderr, re.MULTILINE)) == 1
