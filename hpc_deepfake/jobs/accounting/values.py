"""Calling a scheduler's accounting command, and reading the times and sizes that it prints."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import textwrap
import time

from hpc_deepfake.core.text import whole_number

PATIENCE = 60  # seconds for an answer
_SCHEDULERS = {"squeue": "slurm", "sacct": "slurm", "scontrol": "slurm", "qstat": "pbs",
               "qselect": "pbs"}  # of commands that ask
_silent: dict[str, str] = {}  # schedulers that gave no answer in time, and what was said of that


def ask_anew() -> None:
    """From now on, schedulers that gave no answer in time are asked again."""
    _silent.clear()


def answer(*command: str, patience: float | None = None) -> tuple[str, str]:
    """Standard output of a command, and what went wrong with it, such as no answer within
    ``patience`` seconds (default: ``PATIENCE``); empty if nothing did. Of a scheduler that gave
    none, no other command is called until ``ask_anew``."""
    patience = PATIENCE if patience is None else patience
    scheduler = _SCHEDULERS.get(command[0], "")
    if scheduler in _silent:
        return "", _silent[scheduler]
    if shutil.which(command[0]) is None:
        return "", "not in PATH"
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith("SQUEUE_")}  # a user's own selection of jobs
    environment |= {"SLURM_TIME_FORMAT": "%s", "LC_ALL": "C"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8",
                              errors="replace", timeout=patience)
    except subprocess.TimeoutExpired:
        problem = f"no answer within {patience:g} s"
        if scheduler:
            _silent[scheduler] = problem
        return "", problem
    except OSError as error:
        return "", str(error.strerror)
    output = done.stdout.replace("\0", "\ufffd")  # parts of it are words of further commands
    message = (done.stderr or output).strip() or f"exit code {done.returncode}"
    problem = textwrap.shorten(message, 200, placeholder=" …") if done.returncode else ""
    return output, problem


def read_duration(text: str) -> float | None:
    """Seconds of [D-][[HH:]MM:]SS[.fraction]; None for anything else."""
    match = re.fullmatch(r"(?:(\d{1,9})-)?((?:\d{1,9}:){0,2}\d{1,9}(?:\.\d{1,9})?)", text)
    if not match:
        return None
    parts = [float(part) for part in reversed(match[2].split(":"))]
    return int(match[1] or 0) * 86400 + sum(part * 60**power for power, part in enumerate(parts))


def read_size(text: str) -> float | None:
    """Bytes of 66788K, 1.5G, 45460kb or 1484b; None for an empty text, 0 or anything else."""
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,18})?)([kmgtp]?)b?", text.lower())
    if not match:
        return None
    return float(match[1]) * 1024 ** " kmgtp".index(match[2] or " ") or None


def read_time(text: str) -> float | None:
    """Seconds since the epoch of 1795645818, 2026-11-25T22:30:18 or Wed Nov 25 22:30:18 2026; None
    for anything else, such as Unknown."""
    seconds = whole_number(text)
    if seconds is not None:
        return float(seconds)
    for form in ("%Y-%m-%dT%H:%M:%S", "%a %b %d %H:%M:%S %Y"):
        try:
            return time.mktime(time.strptime(text, form))
        except ValueError:
            continue
    return None


def ratio(part: float | None, total: float | None) -> float | None:
    """``part / total``; None where one of them is unknown, or ``total`` is 0."""
    return part / total if part is not None and total else None
