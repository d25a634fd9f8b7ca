"""What becomes of jobs on PBS: a played server that runs the scripts, with played programs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from job_scripts import JOBS
from played_pbs import PlayedPbs

pytestmark = pytest.mark.slow


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The folder from which jobs are submitted."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def train(pbs: PlayedPbs, work: Path) -> Callable[..., str]:
    """Submits train_cpu.sh in the run directory ``run``."""
    def submit(*options: str, **variables: str) -> str:
        return pbs.submit(JOBS / "pbs" / "train_cpu.sh", *options, cwd=work,
                          **{"RUN": "run", **pbs.stand_in(), **variables})

    return submit


def programs(pbs: PlayedPbs) -> list[tuple[str, str]]:
    """Job and name of each program that was started."""
    lines = (pbs.folder / "programs").read_text().splitlines()
    return [(line.split()[0], line.split()[1]) for line in lines]


def test_a_stopped_job_is_resumed_with_all_it_was_submitted_with(
        pbs: PlayedPbs, work: Path, train: Callable[..., str]) -> None:
    """Further resources, project, account, name and variables; the queue that was asked for, not
    the one to which it was routed."""
    pbs.configure(queues={"workq": {}, "route": {"route": "small"},
                          "small": {"from_route_only": True}}, resources=["filesystems"])
    pbs.plan("train 75")
    first = train("-l", "select=1:ncpus=3:mpiprocs=1", "-l", "filesystems=home:eagle,walltime=2:00:00",
                  "-q", "route", "-P", "deep", "-A", "acct", "-N", "mine", NCCL_DEBUG="it's, 2",
                  API_TOKEN="hush", ARGS="--epochs 7")
    pbs.wait_all()
    one, two = pbs.jobs.values()
    assert one["Exit_status"] == "75" and two["Exit_status"] == "0", pbs.log(first)
    assert two["depend"] == f"afterany:{first}@server"
    kept = ("Resource_List.select", "Resource_List.filesystems", "Resource_List.walltime", "queue",
            "project", "Account_Name", "Job_Name", "Resource_List.place", "Join_Path")
    assert {name: two[name] for name in kept} == {name: one[name] for name in kept}
    assert (one["queue"], one["project"]) == ("small", "deep")
    successor = (work / "run" / "jobs" / "successor.sh").read_text()
    assert "export NCCL_DEBUG=" in successor and "hush" not in successor
    assert two["_variables"]["API_TOKEN"] == "hush"
    assert "run 2; " in pbs.log("2.server") and "of 3 CPU(s)" in pbs.log("2.server")
    assert "--epochs 7" in (pbs.folder / "programs").read_text().splitlines()[1]
    assert (work / "run" / "jobs" / "outcome").read_text() == "0\n"
    assert not (work / "run" / "jobs" / "next").exists()
