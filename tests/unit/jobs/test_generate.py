"""``python jobs/generate.py``: the committed job scripts are those that it writes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from speed import limit


def generate(clone: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, clone / "jobs" / "generate.py", *options], text=True,
                          capture_output=True, timeout=limit(60), check=False)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "jobs", tmp_path / "jobs")
    return tmp_path


def test_committed_scripts_are_fresh() -> None:
    done = generate(ROOT, "--check")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("path", "old", "new", "stale"), [
    ("slurm/train_cpu.sh", "--nodes=1", "--nodes=3", ["slurm/train_cpu.sh"]),
    ("pbs/compare.sh", "DATA=${DATA:-}", "DATA=${DATA:-x.h5}", ["pbs/compare.sh"]),
    ("generate.py", '"04:00:00"', '"05:00:00"', [
        f"{scheduler}/{name}.sh" for scheduler in ("pbs", "slurm")
        for name in ("train_4gpu", "train_multinode")]),
    ("templates/pbs.sh.in", "set -euo pipefail", "set -eu", [
        f"pbs/{path.name}" for path in sorted((ROOT / "jobs" / "pbs").glob("*.sh"))])])
def test_a_change_in_one_place_is_noticed(clone: Path, path: str, old: str, new: str,
                                          stale: list[str]) -> None:
    """In a script, in the table, or in a template; writing brings all in line again."""
    changed = clone / "jobs" / path
    text = changed.read_text()
    assert old in text
    changed.write_text(text.replace(old, new))
    done = generate(clone, "--check")
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stderr.splitlines()] == [
        f"jobs/{name}" for name in stale]
    assert generate(clone).returncode == 0
    assert generate(clone, "--check").returncode == 0
    if path.endswith(f"/{Path(path).stem}.sh"):
        assert changed.read_text() == text


def test_missing_and_unknown_scripts_are_named(clone: Path) -> None:
    (clone / "jobs" / "slurm" / "evaluate.sh").unlink()
    (clone / "jobs" / "pbs" / "of_a_site.sh").touch()
    done = generate(clone, "--check")
    assert done.returncode == 1
    assert "jobs/slurm/evaluate.sh " in done.stderr and "jobs/pbs/of_a_site.sh " in done.stderr


def test_scripts_are_written_executable(clone: Path) -> None:
    path = clone / "jobs" / "pbs" / "evaluate.sh"
    path.unlink()
    assert generate(clone).returncode == 0
    assert path.stat().st_mode & 0o111 == 0o111
    assert path.read_bytes() == (ROOT / "jobs" / "pbs" / "evaluate.sh").read_bytes()
