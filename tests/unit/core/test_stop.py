"""Requests to stop, until a program is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT
from speed import limit

_PROGRAM = """
import atexit, os, signal, sys
from hpc_deepfake.core import stop

flag = stop.StopFlag()
os.kill(os.getpid(), signal.SIGTERM)

class Late:  # deleted when Python has set the handlers back
    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.SIGUSR1):
        kill(pid, number)

sys.late = Late()
if sys.argv[1] == "ignored":
    stop.ignore_from_now_on()
sys.exit(stop.EXIT_STOPPED if flag else 1)
"""


@pytest.mark.parametrize(("late", "code"), [("ignored", 75), ("fatal", -signal.SIGUSR1)])
def test_a_signal_at_the_very_end_does_not_replace_the_exit_code(late: str, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM, late], cwd=ROOT, timeout=limit(30))
    assert done.returncode == code


def test_only_handlers_of_the_program_are_taken_out() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    from hpc_deepfake.core import stop

    stop.ignore_from_now_on()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == before


_START = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell has it ignored
from hpc_deepfake.core.surroundings import settle

settle()
from hpc_deepfake.core.quiet import quiet_stderr

with quiet_stderr():
    os.write(2, b"F0 Check failed: a line of a library\\n")
    os.kill(os.getpid(), signal.Signals[sys.argv[1]])
"""


@pytest.mark.parametrize(("name", "code", "line"), [
    ("SIGTERM", 143, "interrupted by SIGTERM"), ("SIGINT", 130, "interrupted")])
def test_a_signal_at_the_start_is_one_line(name: str, code: int, line: str) -> None:
    environ = {key: value for key, value in os.environ.items()
               if not key.startswith(("OMPI_", "PMI", "SLURM_", "MV2_"))}
    done = subprocess.run([sys.executable, "-c", _START, name], cwd=ROOT, timeout=limit(30),
                          env=environ, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, f"\n{line}\n")


def test_a_rank_that_the_launcher_ends_says_nothing() -> None:
    """The rank that failed has the last word."""
    done = subprocess.run(
        [sys.executable, "-c", _START.replace("F0 Check failed", "I0000 00:1 no error"), "SIGTERM"],
        cwd=ROOT, timeout=limit(30), capture_output=True, text=True,
        env={**os.environ, "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"})
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")
