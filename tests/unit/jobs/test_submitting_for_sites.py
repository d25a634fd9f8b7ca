"""Jobs that submit others at a site: each gets the directives of its kind, whatever the variables
of the submitting shell say, and whoever is able to write them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from job_scripts import JOBS, command, run_script
from speed import limit

MODULES = "module() { export LOADEDMODULES=$LOADEDMODULES:$2; }\n"


@pytest.fixture
def bin_path(tmp_path: Path) -> Path:
    """A played sbatch and qsub, which keep each script, the options, and what is set for sbatch."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "qsub"):
        command(folder, name, f"""
            n=$(ls {tmp_path}/script.* 2>/dev/null | wc -l)
            cp "${{@: -1}}" {tmp_path}/script.$n
            echo "${{*:1:$#-1}}" >>{tmp_path}/options
            compgen -e SBATCH_ | tr '\\n' ' ' >>{tmp_path}/variables
            echo $((100 + n))""")
    return folder


def directives(text: str) -> set[str]:
    return set(re.findall(r"^#(?:SBATCH|PBS) (.*)$", text, re.MULTILINE))


def pipeline(tmp_path: Path, bin_path: Path, scheduler: str, site: str,
             **variables: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "modules" / "init").mkdir(parents=True)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "modules" / "init" / "bash").write_text(MODULES)
    return run_script(JOBS / scheduler / "pipeline.sh", "--epochs", "2", bin_path=bin_path,
                      cwd=tmp_path, SITE=site, PICTURES="pictures", RUN="run", USER="me",
                      MODULESHOME=str(tmp_path / "modules"), **variables)


def test_a_pipeline_submits_each_job_with_the_directives_of_its_kind(tmp_path: Path,
                                                                     bin_path: Path) -> None:
    """What activate.sh sets for sbatch by hand doesn't reach sbatch, what the user has set does;
    options of a job win over the site's, and only dependencies stay on the command line."""
    done = pipeline(tmp_path, bin_path, "slurm", "perlmutter", SBATCH_RESERVATION="mine",
                    TRAIN_OPTIONS="--nodes=3 -q debug --mail-type=END", HPC_DEEPFAKE_KIND="gpu")
    assert done.returncode == 0, done.stderr
    preprocessing, training, evaluation = (
        (tmp_path / f"script.{number}").read_text() for number in range(3))
    assert {"--account=project123", "--constraint=cpu", "--qos=regular"} <= (
        directives(preprocessing))
    assert {"--account=project123_g", "--constraint=gpu", "--qos=debug", "--nodes=3",
            "--gpus-per-node=4", "--mail-type=END"} <= directives(training)
    assert "--qos=regular" not in directives(training)
    assert {"--account=project123", "--constraint=cpu", "--qos=shared"} <= directives(evaluation)
    assert (tmp_path / "variables").read_text().split() == ["SBATCH_RESERVATION"] * 3
    first, *later = (tmp_path / "options").read_text().splitlines()
    assert first == "--parsable"
    assert later[0] == "--parsable --dependency=afterok:100 --kill-on-invalid-dep=yes"
    assert "\nset -- --epochs 2\n" in training and "\nSITE=perlmutter\n" in training
    assert not list((tmp_path / "run" / "jobs").glob("*.site"))


def test_the_same_on_pbs(tmp_path: Path, bin_path: Path) -> None:
    """No queue or account on the command line, where they would win over the script's."""
    command(bin_path, "qstat", "exit 1")
    done = pipeline(tmp_path, bin_path, "pbs", "derecho",
                    TRAIN_OPTIONS="-l walltime=1:00:00 -q preempt")
    assert done.returncode == 0, done.stderr
    preprocessing, training, evaluation = (
        directives((tmp_path / f"script.{number}").read_text()) for number in range(3))
    assert {"-A project123", "-q main"} <= preprocessing
    assert {"-A project123", "-q preempt", "-l walltime=1:00:00"} <= training
    assert {"-A project123", "-q develop"} <= evaluation
    first, *later = (tmp_path / "options").read_text().splitlines()
    assert first == "" and all(re.fullmatch(r"-Wdepend=after\w+:10\d", line) for line in later)


def test_an_evaluation_on_a_gpu_gets_one_in_the_sites_form(tmp_path: Path, bin_path: Path) -> None:
    done = pipeline(tmp_path, bin_path, "slurm", "juwels-booster", EVALUATE_DEVICE="gpu")
    assert done.returncode == 0, done.stderr
    evaluation = directives((tmp_path / "script.2").read_text())
    assert "--gres=gpu:1" in evaluation and not any("gpus-per" in line for line in evaluation)


def test_what_a_site_refuses_is_not_submitted(tmp_path: Path, bin_path: Path) -> None:
    done = pipeline(tmp_path, bin_path, "slurm", "perlmutter", TRAIN_OPTIONS="--no-such-option=1")
    assert done.returncode == 2 and "sbatch has no such long option" in done.stderr
    assert not (tmp_path / "script.0").exists()


def test_a_machine_that_cannot_render_submits_with_the_variables(tmp_path: Path,
                                                                 bin_path: Path) -> None:
    """A login node with an old Python, where only jobs have a container."""
    command(bin_path, "python3", "exit 1")
    done = pipeline(tmp_path, bin_path, "slurm", "alps", HPC_DEEPFAKE_ENV="/none")
    assert done.returncode == 0, done.stderr
    assert "no Python 3.11 on this machine" in done.stderr
    assert (tmp_path / "variables").read_text().split() == [
        "SBATCH_ACCOUNT", "SBATCH_PARTITION"] * 3
    assert "\nRUN=run\n" in (tmp_path / "script.1").read_text()


def test_a_container_renders_and_the_scheduler_outside_submits(tmp_path: Path,
                                                               bin_path: Path) -> None:
    """An image has no sbatch: here it has none in PATH, but bash and Python."""
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "bash").symlink_to("/bin/bash")
    command(bin_path, "singularity", f"""echo "$*" >>{tmp_path}/contained
        while [[ $1 != *.sif ]]; do shift; done; shift
        PATH={inside}:{Path(sys.executable).parent} "$@" """)
    image = tmp_path / "it.sif"
    image.touch()
    done = pipeline(tmp_path, bin_path, "slurm", "lumi-g", HPC_DEEPFAKE_IMAGE=str(image),
                    HPC_DEEPFAKE_ENV="/none", HPC_DEEPFAKE_BIND="",
                    PATH=f"{bin_path}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert "--partition=standard-g" in directives((tmp_path / "script.1").read_text())
    assert " -m hpc_deepfake.cli job render slurm " in (tmp_path / "contained").read_text()


def test_a_change_of_the_users_own_since_the_activation_stays(tmp_path: Path) -> None:
    done = subprocess.run(["bash", "-c", f"""
        set -eu
        eval "$(sed -n '/^drop_site_options() {{/,/^}}/p' {JOBS}/lib/submit.sh)"
        export SBATCH_ACCOUNT=site SBATCH_QOS=mine SBATCH_EXCLUSIVE= SBATCH_GRES=gpu
        end=$'\\x1f'
        HPC_DEEPFAKE_SBATCH=SBATCH_ACCOUNT=site${{end}}SBATCH_QOS=site${{end}}SBATCH_EXCLUSIVE=$end
        drop_site_options; compgen -e SBATCH_"""], capture_output=True, text=True,
        timeout=limit(60))
    assert done.stdout.split() == ["SBATCH_GRES", "SBATCH_QOS"], done.stderr
