"""Running the job scripts by bash, with commands of a scheduler that a test writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from conftest import ROOT
from speed import limit

JOBS = ROOT / "jobs"


def command(folder: Path, name: str, body: str) -> None:
    """Write a program in bash, such as a fake ``sbatch``."""
    path = folder / name
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


def run_script(path: Path, *arguments: str, bin_path: Path, cwd: Path,
               **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a job script with the programs of ``bin_path`` first in PATH, and these variables."""
    environment = {"PATH": f"{bin_path}:{os.environ['PATH']}", "HOME": str(cwd),
                   "HPC_DEEPFAKE_ENV": sys.prefix, **variables}
    if "PYTHONPATH" in os.environ:  # the tested clone isn't the installed one
        environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
    return subprocess.run(["bash", path, *arguments], cwd=cwd, text=True, capture_output=True,
                          env=environment, timeout=limit(120), stdin=subprocess.DEVNULL)
