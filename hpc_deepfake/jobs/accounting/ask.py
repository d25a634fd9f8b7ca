"""Asking a scheduler's command."""

from __future__ import annotations

import os
import shutil
import subprocess
import textwrap

PATIENCE = 60  # seconds for an answer


def answer(*command: str) -> tuple[str, str]:
    """What a command prints, and what went wrong with it, if something did."""
    if shutil.which(command[0]) is None:
        return "", "not in PATH"
    environment = {**os.environ, "SLURM_TIME_FORMAT": "%s", "LC_ALL": "C"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8",
                              errors="replace", timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return "", f"no answer within {PATIENCE} s"
    except OSError as error:
        return "", str(error.strerror)
    said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
    return done.stdout, textwrap.shorten(said, 200, placeholder=" …") if done.returncode else ""
