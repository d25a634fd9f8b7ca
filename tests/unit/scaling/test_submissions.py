"""The jobs that a study still needs, as lines of shell words for scaling_study.sh."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT

from hpc_deepfake.core import holder
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.scaling import planning, submissions
from hpc_deepfake.scaling.study import Plan, Run
from hpc_deepfake.scaling.submissions import Jobs

RUN = Run("strong-real-sync-n0008-r1", "strong", "real", "sync", 2, 8, 1, "train_multinode",
          ("--batch-size", "32"))
PREPROCESS = Run("preprocess-n0002-r1", "preprocess", "", "", 1, 2, 1, "preprocess", ())
MICROBENCH = Run("microbench-n0002-r1", "microbench", "", "", 2, 2, 1, "scaling_study", ())
JOBS = Jobs(ROOT / "jobs" / "slurm", data="a b.h5", config="train.toml", pictures="CASIA2",
            device="gpu", train_options="--mem=4G  --exclusive", preprocess_options="--mem=1G")


def words(*runs: Run, jobs: Jobs = JOBS, study: Path = Path("study")) -> list[list[str]]:
    return [shlex.split(line) for line in submissions.lines(study, Plan(runs, 4, 1200), jobs)]


def test_a_line_holds_everything_that_submit_needs() -> None:
    (line,) = words(RUN)
    assert line == [
        RUN.name, "", "train_multinode",
        "--mem=4G --exclusive --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 --time=00:20:00",
        "DATA=a b.h5", "CONFIG=train.toml", "DEVICE=gpu", "DOCTOR=on", f"RUN=study/{RUN.name}",
        "--", "--batch-size", "32"]
    (line,) = words(RUN, jobs=replace(JOBS, device=""))  # that of its script
    assert not any(word.startswith("DEVICE") for word in line)


def test_jobs_of_pbs_are_resized_with_their_cpus_and_gpus() -> None:
    jobs = replace(JOBS, scripts=ROOT / "jobs" / "pbs", train_options="")
    (line,) = words(replace(RUN, nodes=1, ranks=1), jobs=jobs)
    assert line[3] == "-l select=1:ncpus=8:mpiprocs=1:ngpus=1 -l walltime=00:20:00"


def test_gpus_stay_in_proportion_to_the_ranks(tmp_path: Path) -> None:
    """Where ranks share GPUs, and at least one GPU."""
    scripts = tmp_path / "slurm"
    scripts.mkdir()
    (scripts / "shared.sh").write_text("#!/bin/bash\n#SBATCH --nodes=1\n"
                                       "#SBATCH --ntasks-per-node=8\n#SBATCH --gpus-per-node=4\n")
    run = replace(RUN, job="shared")
    for ranks, gpus in ((8, 4), (2, 1), (1, 1)):
        (line,) = words(replace(run, nodes=1, ranks=ranks), jobs=Jobs(scripts))
        assert f"--ntasks-per-node={ranks} --gpus-per-node={gpus} " in line[3]


def test_each_kind_has_its_own_variables() -> None:
    """Preprocessing gets no options of training; the micro-benchmark is a mode of the script."""
    preprocess, microbench = words(PREPROCESS, MICROBENCH)
    assert preprocess[2:] == [
        "preprocess", "--mem=1G --nodes=1 --ntasks-per-node=2 --time=00:20:00",
        f"DATA=study/{PREPROCESS.name}/features.h5", "CONFIG=", "DEVICE=cpu", "DOCTOR=on",
        f"RUN=study/{PREPROCESS.name}", "PICTURES=CASIA2", "--"]
    (alone,) = words(PREPROCESS, jobs=replace(JOBS, config_of_preprocessing=True))
    assert "CONFIG=train.toml" in alone
    assert microbench[2] == "scaling_study" and "HPC_DEEPFAKE_REPORT=microbench" in microbench
    (synthetic,) = words(replace(RUN, arguments=("--synthetic", "4096")))
    assert "DATA=" in synthetic


def test_the_job_of_an_earlier_submission_is_named(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / f"{RUN.name}.id").write_text("101\n")
    (line,) = words(RUN, study=tmp_path)
    assert line[:2] == [RUN.name, "101"]


@pytest.mark.parametrize("word", ["it's", '"$(touch harm)"', "`id`", "", "a  b ", "#x", "*", "\\"])
def test_bash_reads_every_word_unharmed(tmp_path: Path, word: str) -> None:
    """As jobs/lib/job.sh does."""
    run = replace(RUN, arguments=("--note", word, "last"))
    (line,) = submissions.lines(Path("study"), Plan((run,), 4, 1200), JOBS)
    done = subprocess.run(["bash", "-c", 'eval "run=($1)"; printf "%s\\0" "${run[@]}"', "bash",
                           line], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split("\0")[-4:-1] == ["--note", word, "last"]
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_submitted_is_refused() -> None:
    with pytest.raises(InputError, match="a line break"):
        words(replace(RUN, arguments=("a\nb",)))
    with pytest.raises(InputError, match="no job nothing in"):
        words(replace(RUN, job="nothing"))
    with pytest.raises(InputError, match="name the folder of their scripts, like --scripts"):
        planning.main(["study", "--lines"])
    with pytest.raises(InputError, match="name a folder of job scripts, jobs/slurm or jobs/pbs"):
        planning.main(["study", "--scripts", "elsewhere"])


def test_ranks_per_node_are_those_of_the_training_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert planning.main(["study", "--kinds", "strong", "--nodes", "1", "--job", "train_cpu",
                          "--scripts", str(JOBS.scripts)]) == 0
    assert "1 node  ×   4 ranks" in capsys.readouterr().out


def test_a_study_is_submitted_by_one_at_a_time(tmp_path, monkeypatch, capsys) -> None:
    """Until the process that submits the jobs has ended, not only the one that plans them."""
    monkeypatch.setattr(holder, "GRACE", 0.0)
    command = [str(tmp_path / "study"), "--kinds", "strong", "--nodes", "1", "--job", "train_cpu",
               "--ranks-per-node", "1", "--scripts", str(ROOT / "jobs" / "slurm"), "--lines"]
    shell = subprocess.Popen(["sleep", "100"])
    assert planning.main([*command, "--holder", str(shell.pid)]) == 0
    with pytest.raises(InputError, match=f"by the submission of a study .pid {shell.pid} on"):
        planning.main([*command, "--holder", str(os.getpid())])
    shell.kill()
    shell.wait()
    assert planning.main(command) == 0
    assert [path.name for path in (tmp_path / "study").iterdir()] == ["study.json"]
