"""scaling_study.sh, run by bash with fake schedulers."""

from __future__ import annotations

import os
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import ROOT
from job_scripts import JOBS, command, run_script
from scaling_records import finished

from hpc_deepfake.scaling import study

CLONE = {"PYTHONPATH": str(ROOT)}  # the programs of this clone


@pytest.fixture
def slurm(tmp_path: Path) -> Path:
    """sbatch counts from 100 and keeps the scripts and options; squeue lists the jobs of a file."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command(folder, "sbatch", f"""
        n=$(ls {tmp_path}/submitted.* 2>/dev/null | wc -l)
        cp "${{@: -1}}" {tmp_path}/submitted.$((100 + n))
        printf '%s\\n' "${{*:1:$#-1}}" >>{tmp_path}/options
        ls */in-use.json >>{tmp_path}/held
        echo $((100 + n))""")
    command(folder, "squeue", f"""
        for word; do
            [[ $word != --jobs=* ]] || grep -x "${{word#--jobs=}}" {tmp_path}/queue || {{
                echo "slurm_load_jobs error: Invalid job id specified" >&2
                exit 1
            }}
        done""")
    (tmp_path / "queue").touch()
    return folder


def submit(slurm: Path, tmp_path: Path, *arguments: str,
           **variables: str) -> subprocess.CompletedProcess[str]:
    values = {"RUN": "my study", "TRAIN": "train_cpu", "DEVICE": "cpu", "MAX_NODES": "4",
              "RANKS_PER_NODE": "1", "KINDS": "strong", "DATA": "", **CLONE, **variables}
    return run_script(JOBS / "slurm" / "scaling_study.sh", *arguments, bin_path=slurm,
                      cwd=tmp_path, **values)


def seen(script: Path, tmp_path: Path) -> list[str]:
    """Variables and arguments as a submitted script would see them."""
    head = script.read_text().split("# The scheduler runs a copy")[0]
    return subprocess.run(
        ["bash", "-c", f"{head}\nprintf '%s\\n' \"$RUN\" \"$DATA\" \"$DEVICE\" \"$@\""],
        env={"PATH": os.environ["PATH"]}, text=True, capture_output=True, cwd=tmp_path,
        check=True).stdout.splitlines()


def test_a_job_for_each_run_and_one_for_the_report(slurm, tmp_path):
    """Arguments arrive unchanged, the user's options before the study's, the report after all."""
    (tmp_path / "it's, mine.h5").touch()
    done = submit(slurm, tmp_path, "--epochs", "2", "--freeze", "it's $(touch oops) \"x\"",
                  DATA="it's, mine.h5", TRAIN_OPTIONS="--mem=4G --nodes=9", LIMIT="0:20:00")
    # a layer may have any name here: the job itself refuses it
    assert done.returncode == 0, done.stderr
    options = (tmp_path / "options").read_text().splitlines()
    assert len(options) == 4
    for nodes, line in zip((1, 2, 4), options, strict=False):
        assert line.endswith(f"--mem=4G --nodes=9 --nodes={nodes} --ntasks-per-node=1 "
                            "--time=00:20:00")
    assert "--dependency=afterany:100:101:102" in options[3]
    assert "report: job 103, into my study/report.html" in done.stdout
    # held by this submission until all are submitted
    assert (tmp_path / "held").read_text() == "my study/in-use.json\n" * 4
    assert not (tmp_path / "my study" / "in-use.json").exists()
    run, data, device, *words = seen(tmp_path / "submitted.101", tmp_path)
    assert (run, data, device) == ("my study/strong-real-sync-n0002-r1", "it's, mine.h5", "cpu")
    arguments = dict(pairwise(words))
    assert arguments["--freeze"] == "it's $(touch oops) \"x\""
    assert (arguments["--batch-size"], arguments["--strategy"]) == ("128", "sync")
    assert not (tmp_path / "oops").exists()
    assert [run.name for run in study.read(tmp_path / "my study").runs] == [
        "strong-real-sequential-n0001-r1", "strong-real-sync-n0002-r1",
        "strong-real-sync-n0004-r1"]


@pytest.mark.parametrize(("variables", "message"), [
    ({"TRAIN": "evaluate"}, "TRAIN=evaluate: give train_cpu, train_4gpu or train_multinode"),
    ({"ONE_JOB": "maybe"}, "ONE_JOB=maybe: give 1, or leave it out"),
    ({"DEVICE": "cuda"}, "argument --device: invalid choice: 'cuda'"),
    ({"DATA": "no.h5"}, "--data (DATA): there is no data file no.h5; "),
    ({"KINDS": "preprocess", "PICTURES": "no"}, "there is no folder of pictures no; ")])
def test_what_the_jobs_would_refuse_the_study_does(slurm, tmp_path, variables, message):
    done = submit(slurm, tmp_path, **variables)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert not (tmp_path / "options").exists()


def test_a_mesh_and_options_of_the_configuration_file(slurm, tmp_path):
    """Micro-batches from the file count in the global batch."""
    (tmp_path / "train.toml").write_text("micro-batches = 4\n")
    done = submit(slurm, tmp_path, CONFIG="train.toml", MAX_NODES="2",
                  STRATEGIES="sync mesh:pipeline=2")
    assert done.returncode == 0, done.stderr
    runs = {run.name: dict(pairwise(run.arguments)) for run in study.read(
        tmp_path / "my study").runs}
    assert {name: words["--batch-size"] for name, words in runs.items()} == {
        "strong-real-sequential-n0001-r1": "64", "strong-real-sync-n0002-r1": "32",
        "strong-real-mesh-pipeline2-n0002-r1": "64"}
    assert runs["strong-real-mesh-pipeline2-n0002-r1"]["--mesh"] == "pipeline=2"


def test_a_dry_run_submits_and_writes_nothing(slurm, tmp_path):
    done = submit(slurm, tmp_path, "--dry-run", "--epochs=2", KINDS="strong weak",
                  INPUTS="real synthetic", REPEATS="2", DATA="", LIMIT="0:15:00")
    assert done.returncode == 0, done.stderr
    assert "24 jobs of at most 15 min, 14.00 node hours at most" in done.stdout
    assert "to be done, and of the report: at most 14.17 node hours, " in done.stdout
    assert not (tmp_path / "options").exists() and not (tmp_path / "my study").exists()


def test_only_missing_runs_are_submitted(slurm, tmp_path):
    """One run is done, one queued, one failed and is submitted again; the report after both."""
    assert submit(slurm, tmp_path).returncode == 0
    runs = study.read(tmp_path / "my study").runs
    finished(tmp_path / "my study", runs[0], 100.0)
    (tmp_path / "queue").write_text("101\n")
    squeue = (slurm / "squeue").read_text()
    (slurm / "squeue").write_text(squeue.replace(
        "\n", "\n[[ ! -v SQUEUE_PARTITION ]] || exit 0\n", 1))
    done = submit(slurm, tmp_path, SQUEUE_PARTITION="other")
    assert done.returncode == 0, done.stderr
    assert "1 run already done" in done.stderr
    assert "strong-real-sync-n0002-r1: already in job 101" in done.stdout
    assert "strong-real-sync-n0004-r1: job 104" in done.stdout
    options = (tmp_path / "options").read_text().splitlines()
    assert len(options) == 6 and "--dependency=afterany:101:104" in options[-1]


def test_nothing_is_submitted_twice_where_slurm_does_not_answer(slurm, tmp_path):
    assert submit(slurm, tmp_path).returncode == 0
    command(slurm, "squeue", "echo 'squeue: error: Unable to contact slurm controller' >&2; exit 1")
    done = submit(slurm, tmp_path)
    assert done.returncode == 2, done.stdout
    assert "error: nothing was submitted: it is not known what is queued or running (asked for " \
        "job 100): squeue: error: Unable to contact" in done.stderr
    assert len((tmp_path / "options").read_text().splitlines()) == 4
    assert not (tmp_path / "my study" / "in-use.json").exists()


def test_when_all_runs_are_done_the_report_is_written_at_once(slurm, tmp_path):
    assert submit(slurm, tmp_path, MAX_NODES="2").returncode == 0
    for run in study.read(tmp_path / "my study").runs:
        finished(tmp_path / "my study", run, 100.0 * run.ranks)
    done = submit(slurm, tmp_path, MAX_NODES="2")
    assert done.returncode == 0, done.stderr
    assert "2 of 2 runs are finished." in done.stdout
    assert (tmp_path / "my study" / "report.html").exists()
    assert len((tmp_path / "options").read_text().splitlines()) == 3


def test_the_report_job_reports_unfinished_studies(slurm, tmp_path):
    assert submit(slurm, tmp_path, MAX_NODES="2").returncode == 0
    done = run_script(tmp_path / "submitted.102", bin_path=slurm, cwd=tmp_path, **CLONE)
    assert done.returncode == 0, done.stderr
    assert "0 of 2 runs are finished" in done.stdout
    assert "not run" in (tmp_path / "my study" / "report.html").read_text()


def test_preprocessing_and_the_microbenchmark_have_jobs_too(slurm, tmp_path):
    (tmp_path / "pictures").mkdir()
    done = submit(slurm, tmp_path, "--epochs", "2", KINDS="strong preprocess microbench",
                  MAX_NODES="2", PICTURES="pictures", PREPROCESS_OPTIONS="--mem=1G",
                  INPUTS="synthetic")
    assert done.returncode == 0, done.stderr
    options = (tmp_path / "options").read_text().splitlines()
    assert len(options) == 2 + 2 + 1 + 1
    _, data, *_ = seen(tmp_path / "submitted.100", tmp_path)
    assert data == ""  # synthetic
    script = (tmp_path / "submitted.103").read_text()
    assert "#SBATCH --job-name=hd-preprocess" in script and "--epochs" not in script
    _, data, *_ = seen(tmp_path / "submitted.103", tmp_path)
    assert data == "my study/preprocess-n0002-r1/features.h5"
    assert "--mem=1G --nodes=2 --ntasks-per-node=1" in options[3]
    assert "HPC_DEEPFAKE_REPORT=microbench" in (tmp_path / "submitted.104").read_text()


def test_a_study_of_which_a_job_is_refused_leaves_none_queued(slurm, tmp_path):
    """But for those of an earlier submission."""
    sbatch = (slurm / "sbatch").read_text().replace("#!/bin/bash\n", """#!/bin/bash
        [[ ${@: -1} != */scaling_study-* ]] || { echo "sbatch: error: too many jobs" >&2; exit 1; }
        """)
    command(slurm, "sbatch", sbatch)
    command(slurm, "scancel", f'echo "$*" >{tmp_path}/cancelled')
    jobs = tmp_path / "my study" / "jobs"
    jobs.mkdir(parents=True)
    (jobs / "strong-real-sequential-n0001-r1.id").write_text("99\n")
    (tmp_path / "queue").write_text("99\n")
    done = submit(slurm, tmp_path)
    assert done.returncode == 2 and "too many jobs" in done.stderr
    assert (tmp_path / "cancelled").read_text() == "100 101\n"
    assert done.stderr.endswith("Cancelled, as they are of no use without it: 100 101\n")


def test_wrong_options_submit_nothing(slurm, tmp_path):
    for variables, message in (({"STRATEGIES": "nonsense"},
                                "--strategies nonsense: unknown strategy"),
                               ({"KINDS": "storng"}, "invalid choice: 'storng'"),
                               ({"LIMIT": "soon"}, "'soon' is not a time limit"),
                               ({"LIMIT": "0:05:00"}, "give 0:10:00 or more"),
                               ({"TRAIN": "nothing"}, "TRAIN=nothing: give train_cpu, ")):
        done = submit(slurm, tmp_path, **variables)
        assert done.returncode == 2 and message in done.stderr, done.stderr
    assert not (tmp_path / "options").exists()


def test_a_gpu_for_each_rank(slurm, tmp_path):
    done = submit(slurm, tmp_path, TRAIN="train_4gpu", MAX_NODES="1", RANKS_PER_NODE="")
    assert done.returncode == 0, done.stderr
    options = (tmp_path / "options").read_text().splitlines()
    for ranks, line in zip((1, 2, 4), options, strict=False):
        assert f"--nodes=1 --ntasks-per-node={ranks} --gpus-per-node={ranks} " in line


def test_pbs(tmp_path):
    """CPUs and GPUs of a chunk are proportional to its ranks; qstat doesn't show ended jobs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command(folder, "qsub", f"""
        n=$(ls {tmp_path}/submitted.* 2>/dev/null | wc -l)
        cp "${{@: -1}}" {tmp_path}/submitted.$((100 + n))
        printf '%s\\n' "${{*:1:$#-1}}" >>{tmp_path}/options
        echo $((100 + n)).server""")
    command(folder, "qstat", f'''grep -qx "$1" {tmp_path}/queue || {{
        echo "qstat: Unknown Job Id $1" >&2
        exit 153
    }}''')
    (tmp_path / "queue").touch()

    def study_of(**variables: str) -> subprocess.CompletedProcess[str]:
        return run_script(JOBS / "pbs" / "scaling_study.sh", bin_path=folder, cwd=tmp_path,
                          RUN="s", KINDS="weak", MAX_NODES="2", LIMIT="00:20:00", **CLONE,
                          **variables)

    done = study_of()
    assert done.returncode == 0, done.stderr
    options = (tmp_path / "options").read_text().splitlines()
    full = (JOBS / "pbs" / "train_multinode.sh").read_text()
    [chunk] = [line for line in full.splitlines() if line.startswith("#PBS -l select=")]
    whole = chunk.split("select=")[1].partition(":")[2]
    assert f"-l select=2:{whole} -l walltime=00:20:00" in options[3]
    sizes = dict(part.split("=") for part in whole.split(":"))
    quarter = ":".join(f"{name}={int(value) // 4}" for name, value in sizes.items())
    assert f"-l select=1:{quarter} " in options[0]
    assert "-Wdepend=afterany:100.server:101.server:102.server:103.server" in options[4]
    (tmp_path / "queue").write_text("103.server\n")
    assert "n0008-r1: already in job 103.server" in study_of().stdout
    jobs = len((tmp_path / "options").read_text().splitlines())
    command(folder, "qstat", "echo 'pbs_iff: cannot open socket' >&2; exit 1")
    done = study_of()
    assert done.returncode == 2 and "queued or running (asked for job " in done.stderr
    assert ": pbs_iff: cannot open socket\nOnce more when it answers" in done.stderr
    assert len((tmp_path / "options").read_text().splitlines()) == jobs


def test_the_report_waits_for_a_run_that_continues_in_another_job(tmp_path):
    """PBS: a stopped training is continued by another job, which the report's job did not wait
    for."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command(folder, "qstat", '[[ $1 == 124.server ]]')
    command(folder, "qsub", f'printf "%s|" "$@" >{tmp_path}/qsub; echo 126.server')
    jobs = tmp_path / "s" / "weak-real-sync-n0002-r1" / "jobs"
    jobs.mkdir(parents=True)
    (jobs / "outcome").write_text("75\n")
    (jobs / "next").write_text("124.server\n")
    job = {"PBS_JOBID": "125.server", "PBS_O_WORKDIR": str(tmp_path), "RUN": "s",
           "HPC_DEEPFAKE_HOME": str(ROOT), **CLONE}
    script = tmp_path / "report.sh"  # as the study submits it
    script.write_text((JOBS / "pbs" / "scaling_study.sh").read_text().replace(
        "# What to change", "HPC_DEEPFAKE_REPORT=1\n# What to change"))
    done = run_script(script, bin_path=folder, cwd=tmp_path, **job)
    assert done.returncode == 0, done.stderr
    assert "this job runs after it, as job 126.server" in done.stdout
    assert "depend=afterany:124.server" in (tmp_path / "qsub").read_text()
    successor = tmp_path / (tmp_path / "qsub").read_text().split("|")[-2]
    assert "HPC_DEEPFAKE_REPORT=1" in successor.read_text()


def test_both_scripts_have_a_line_for_every_variable_of_the_plan() -> None:
    text = (ROOT / "jobs" / "slurm" / "scaling_study.sh").read_text()
    for name in ("KINDS", "STRATEGIES", "INPUTS", "REPEATS", "MAX_NODES", "RANKS_PER_NODE",
                 "GLOBAL_BATCH", "BATCH_SIZE", "ROWS_PER_RANK", "LIMIT"):
        assert f"\n{name}=${{{name}:-" in text
