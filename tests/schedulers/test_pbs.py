"""The PBS scripts with Debian's qsub, which submits them to SLURM: a smoke test without PBS."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schedulers.conftest import Lab

pytestmark = [pytest.mark.mpi, pytest.mark.slow]


def submit(lab: Lab, script: str, variables: str, *options: str, cwd: Path) -> str:
    """As a PBS user would; this qsub does not support a path or value with a space."""
    more = " ".join(options)
    return lab.run(f"qsub {more} -v HPC_DEEPFAKE_HOME={lab.plain},"
                   f"HPC_DEEPFAKE_ENV,NCPUS=1,{variables} {lab.plain}/jobs/pbs/{script}.sh",
                   cwd).strip().splitlines()[-1]


def test_preprocess_train_evaluate(lab: Lab, pictures: Path) -> None:
    """Two hosts by mpirun and PBS_NODEFILE; evaluation after training."""
    work = lab.folder("pbs")
    lab.take(pictures, work / "pictures")
    small = "-l select=2:ncpus=1:mpiprocs=1"
    first = submit(lab, "preprocess", "PICTURES=pictures,DATA=f.h5,ARGS=--split=60/20/20",
                   small, cwd=work)
    job = lab.wait(first)
    assert (job.state, job.code) == ("COMPLETED", 0), job.log
    (work / "run.toml").write_text('run = "run"\nepochs = 1\nbatch-size = 4\n')
    second = submit(lab, "train_cpu", "DATA=f.h5,CONFIG=run.toml,DOCTOR=off", small, cwd=work)
    third = submit(lab, "evaluate", "DATA=f.h5,RUN=run", f"-W depend=afterok:{second}", cwd=work)
    job = lab.wait(third, 180)
    assert (job.state, job.code) == ("COMPLETED", 0), job.log
    environment = json.loads((work / "run" / "environment.json").read_text())
    assert [rank["host"] for rank in environment["ranks"]] == ["n01", "n02"]
    assert environment["variables"]["PBS_JOBID"] == second
    assert (work / "run" / "evaluation-validation.json").exists()
