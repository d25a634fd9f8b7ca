"""Requests to stop, until a program is gone."""

from __future__ import annotations

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
