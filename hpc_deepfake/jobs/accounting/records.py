"""What jobs leave in a run directory, or beside a data file: which they were, how they ended."""

from __future__ import annotations

import glob
from pathlib import Path


def job_ids(run: Path) -> list[str]:
    """Of the jobs whose records the run holds, the oldest first."""
    files = [file for folder in _folders(run) for file in folder.glob("*.env")]
    files += run.glob("*/jobs/*.env")  # of a comparison or a scaling study
    ids = (file.stem for file in sorted(files, key=lambda file: file.stat().st_mtime))
    return list(dict.fromkeys(job for job in ids if job[:1].isdigit()))


def outcome(run: Path) -> str:
    """Exit code of the run's last job; empty where there is none."""
    for folder in _folders(run):
        if (folder / "outcome").is_file():
            return (folder / "outcome").read_text(encoding="utf-8", errors="replace").strip()
    return ""


def run_of(job: str) -> Path | None:
    """The run below runs/ that holds the records of a job."""
    name = glob.escape(job)
    for pattern in (f"jobs/{name}.env", f"jobs/{name}.*.env"):
        for depth in ("*", "*/*"):
            for file in Path("runs").glob(f"{depth}/{pattern}"):
                return file.parent.parent
    return Path("runs", job) if Path("runs", job).is_dir() else None


def _folders(run: Path) -> tuple[Path, ...]:
    """Where records may be: of a run, of a data file, or those themselves."""
    return run / "jobs", Path(f"{run}.jobs"), run
