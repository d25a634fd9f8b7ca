"""The evaluation job and the pipeline's: which device computes, on how many ranks, at what cost."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from job_scripts import JOBS, command, run_script

both = pytest.mark.parametrize("scheduler", ["slurm", "pbs"])
GPUS = {"slurm": "#SBATCH --gpus-per-node=1\n",
        "pbs": "#PBS -l select=1:ncpus=8:mpiprocs=1:ngpus=1\n"}


@pytest.fixture
def bin_path(tmp_path: Path) -> Path:
    """Commands of both schedulers that keep what is submitted."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, last in (("sbatch", ""), ("qsub", ".server")):
        command(folder, name, f"""
            n=$(ls {tmp_path}/submitted.* 2>/dev/null | wc -l)
            cp "${{@: -1}}" {tmp_path}/submitted.$n
            echo $((100 + n)){last}""")
    return folder


def pipeline(scheduler: str, bin_path: Path, *arguments: str,
             **variables: str) -> subprocess.CompletedProcess[str]:
    done = run_script(JOBS / scheduler / "pipeline.sh", *arguments, bin_path=bin_path,
                      cwd=bin_path.parent, RUN="run", DATA="f.h5", **variables)
    assert done.returncode == 0, done.stderr
    return done


def devices(folder: Path) -> list[str]:
    """The device that each submitted script computes on, whatever the environment says."""
    found = []
    for number in range(3):
        head = (folder / f"submitted.{number}").read_text().split("# The scheduler runs a copy")[0]
        found.append(subprocess.run(
            ["bash", "-c", f'{head}\nprintf %s "${{DEVICE:-}}"'], check=True, text=True,
            capture_output=True, env={"PATH": "/usr/bin:/bin", "DEVICE": "gpu"}).stdout)
    return found


@pytest.mark.parametrize(("scheduler", "variables", "expected"), [
    # the training's device isn't that of the others
    ("slurm", {"DEVICE": "gpu"}, ["cpu", "gpu", "cpu"]),
    ("pbs", {"DEVICE": "gpu", "EVALUATE_DEVICE": "auto"}, ["cpu", "gpu", "auto"]),
    # GPUs that the user requests are used, as before
    ("slurm", {"DEVICE": "gpu", "EVALUATE_OPTIONS": "--gres=gpu:1"}, ["cpu", "gpu", "gpu"])])
def test_the_device_of_each_job_of_a_pipeline(bin_path: Path, tmp_path: Path, scheduler: str,
                                              variables: dict[str, str],
                                              expected: list[str]) -> None:
    done = pipeline(scheduler, bin_path, **variables)
    assert devices(tmp_path) == expected
    assert done.stdout.startswith("cost: ")


def test_without_a_device_each_script_has_its_own(bin_path: Path, tmp_path: Path) -> None:
    """TRAIN=train_cpu computes on the CPU although a pipeline is for GPUs by default."""
    pipeline("slurm", bin_path, TRAIN="train_cpu")
    assert not re.search("^DEVICE=(?!\\$)", (tmp_path / "submitted.1").read_text(), re.MULTILINE)


@both
def test_an_evaluation_on_a_gpu_requests_one(bin_path: Path, tmp_path: Path,
                                             scheduler: str) -> None:
    done = pipeline(scheduler, bin_path, EVALUATE_DEVICE="gpu")
    scripts = [(tmp_path / f"submitted.{number}").read_text() for number in range(3)]
    assert GPUS[scheduler] in scripts[2] and devices(tmp_path)[2] == "gpu"
    assert GPUS[scheduler] not in scripts[0] + scripts[1]
    assert done.stdout.splitlines()[0] == (
        "cost: at most 12.5 node hours, 324 core hours, 32.5 GPU hours for one run; a job that is "
        "stopped runs again up to 20 times")


@both
def test_a_dry_run_of_a_pipeline(bin_path: Path, tmp_path: Path, scheduler: str) -> None:
    """The cost and the jobs; nothing is submitted or written."""
    options = {"slurm": "--nodes=8 --time=1:00:00", "pbs":
               "-l select=8:ncpus=32:mpiprocs=4:ngpus=4 -l walltime=1:00:00"}[scheduler]
    done = pipeline(scheduler, bin_path, "--dry-run", "--epochs", "3", TRAIN_OPTIONS=options,
                    MAX_RESTARTS="0")
    assert done.stdout.splitlines() == [
        "cost: at most 12.5 node hours, 324 core hours, 32 GPU hours",
        "to be submitted, each after the previous one:", "  preprocess: f.h5",
        f"  train_multinode {options}: run", "  evaluate: DEVICE=cpu"]
    assert list(tmp_path.iterdir()) == [bin_path]


@pytest.mark.parametrize(("arguments", "variables", "message"), [
    (["--epcohs", "3"], {}, "unrecognized arguments: --epcohs 3"),
    (["--dry-run", "--epcohs", "3"], {}, "unrecognized arguments: --epcohs 3"),
    (["--dryrun"], {}, "unrecognized arguments: --dryrun"),
    ([], {"PICTURES": "/nosuch"}, "PICTURES=/nosuch: there is no such folder"),
    ([], {"EVALUATE_DEVICE": "cuda"}, "DEVICE=cuda: give cpu, gpu or auto"),
    ([], {"TRAIN": "nosuch"}, "TRAIN=nosuch: give train_cpu, train_4gpu or train_multinode"),
    (["--dry-run"], {"TRAIN": "evaluate"}, "TRAIN=evaluate: give train_cpu, "),
    ([], {"TRAIN_OPTIONS": "--nods=4"}, "train_multinode: --options: --nods=4: sbatch has no such"),
    ([], {"EVALUATE_OPTIONS": "-Z"}, "evaluate: --options: -Z: sbatch has no such option")])
def test_what_one_of_its_jobs_would_refuse_a_pipeline_does(
        bin_path: Path, tmp_path: Path, arguments: list[str], variables: dict[str, str],
        message: str) -> None:
    """At once, with the reason; nothing is submitted or written, also where only the last job is
    wrong."""
    before = sorted(tmp_path.rglob("*"))
    done = run_script(JOBS / "slurm" / "pipeline.sh", *arguments,
                      bin_path=bin_path, cwd=tmp_path, RUN="run", **variables)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert message in done.stderr and done.stderr.count("error: ") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_arguments_and_configuration_of_a_pipeline_are_those_of_its_training(
        bin_path: Path, tmp_path: Path) -> None:
    """sbatch passes the environment on to all three jobs: the others don't take them from there."""
    (tmp_path / "train.toml").write_text("epochs = 3\n")
    pipeline("slurm", bin_path, CONFIG="train.toml", ARGS="--batch-size 4")
    for number, (config, arguments) in enumerate([("", ""), ("train.toml", "--batch-size 4"),
                                                  ("", "")]):
        head = (tmp_path / f"submitted.{number}").read_text().split("# The scheduler runs")[0]
        seen = subprocess.run(
            ["bash", "-c", f'{head}\nprintf %s "$CONFIG;$ARGS;$*"'], check=True, text=True,
            capture_output=True, env={"PATH": "/usr/bin:/bin", "CONFIG": "train.toml",
                                      "ARGS": "--batch-size 4"}).stdout
        assert seen == f"{config};;{arguments}"


def test_a_gpu_without_gpus_is_one_message(bin_path: Path, tmp_path: Path) -> None:
    """Before any rank is started; with a GPU the ranks start."""
    command(bin_path, "srun", f"""
        [[ $1 != --mpi=list ]] || {{ echo "pmix"; exit; }}
        echo "$*" >>{tmp_path}/launched; exit 1""")
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_NTASKS": "4",
           "SLURM_CPUS_PER_TASK": "2", "SLURM_SUBMIT_DIR": str(tmp_path), "RUN": "my run",
           "DATA": "f.h5"}
    script = JOBS / "slurm" / "evaluate.sh"
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        done = run_script(script, bin_path=bin_path, cwd=tmp_path, DEVICE="gpu", **job)
        assert done.returncode == 2
        assert done.stderr.splitlines() == [
            "----- job 7 failed: DEVICE=gpu, but this job was given no GPU. Evaluate on the CPU "
            "(DEVICE=cpu, the default), or request one:",
            "  hpc-deepfake job submit slurm evaluate --gpus-per-node 1 --ranks-per-node 1 "
            "--cpus-per-rank 8 --var DEVICE=gpu --var RUN=my\\ run --var DATA=f.h5"]
        assert not (tmp_path / "launched").exists()
    run_script(script, bin_path=bin_path, cwd=tmp_path, DEVICE="gpu", CUDA_VISIBLE_DEVICES="0",
               **job)
    launched = (tmp_path / "launched").read_text()
    assert "--ntasks=4 " in launched and "--cpus-per-task=2 " in launched
    assert " evaluate --data f.h5 --device gpu --json my run/evaluation-validation.json" in launched
    for words, name in (("--threshold fnr=0.1,fpr=0.05", "threshold"),
                        ("--threshold=0.7", "validation"),
                        ("--threshold auto --part validation", "validation"),
                        ("--authentic archive", "all")):
        run_script(script, *words.split(), bin_path=bin_path, cwd=tmp_path, **job)
        assert f"/evaluation-{name}.json {words.split()[0]}" in \
            (tmp_path / "launched").read_text().splitlines()[-1]
