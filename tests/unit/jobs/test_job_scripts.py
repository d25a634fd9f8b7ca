"""The job scripts as texts, and run by bash with a fake scheduler."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT
from job_scripts import JOBS, command, run_script

from hpc_deepfake.core import holder
from hpc_deepfake.jobs.site.words import OTHERS, WORDS

NAMES = sorted(path.stem for path in (JOBS / "slurm").glob("*.sh"))
EXPECTED = {"preprocess", "train_cpu", "train_4gpu", "train_multinode", "evaluate", "compare",
            "crosseval", "scaling_study", "sweep", "pipeline"}


def text(scheduler: str, name: str) -> str:
    return (JOBS / scheduler / f"{name}.sh").read_text()


def variables(script: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-Z_]+)=\$\{\1:-(.*?)\}", script, re.MULTILINE))


def resources(scheduler: str, name: str) -> dict[str, object]:
    """The resources that a script requests, in the same terms for both schedulers."""
    script = text(scheduler, name)
    if scheduler == "slurm":
        asked = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", script, re.MULTILINE))
        return {"nodes": int(asked["nodes"]), "ranks": int(asked["ntasks-per-node"]),
                "cpus": int(asked["ntasks-per-node"]) * int(asked["cpus-per-task"]),
                "gpus": int(asked.get("gpus-per-node", 0)), "time": asked["time"],
                "again": "requeue" in asked}
    select = dict(part.split("=") for part in
                  re.search(r"^#PBS -l (select=\S+)$", script, re.MULTILINE)[1].split(":"))
    return {"nodes": int(select["select"]), "ranks": int(select["mpiprocs"]),
            "cpus": int(select["ncpus"]), "gpus": int(select.get("ngpus", 0)),
            "time": re.search(r"^#PBS -l walltime=(\S+)$", script, re.MULTILINE)[1],
            "again": "#PBS -r y" in script}


def prologue(script: str) -> str:
    return script[script.index("# The scheduler runs a copy"):script.index("# shellcheck source=")]


# --- as texts


@pytest.mark.parametrize("name", ["pipeline", "train_cpu"])
@pytest.mark.parametrize("scheduler", ["slurm", "pbs"])
def test_the_help_of_a_script_submits_nothing(tmp_path: Path, scheduler: str, name: str) -> None:
    """No scheduler is in PATH here, and no folder is written."""
    done = subprocess.run(["bash", JOBS / scheduler / f"{name}.sh", "--help"], cwd=tmp_path,
                          capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
    assert (done.returncode, done.stderr) == (0, "")
    assert f"jobs/{scheduler}/{name}.sh" in done.stdout and "\nRUN=${RUN:-}" in done.stdout
    assert not any(line.startswith("#SBATCH") for line in done.stdout.splitlines())
    assert not list(tmp_path.iterdir())


def test_both_schedulers_have_the_same_jobs() -> None:
    assert set(NAMES) == EXPECTED
    assert {path.stem for path in (JOBS / "pbs").glob("*.sh")} == EXPECTED


@pytest.mark.parametrize("name", NAMES)
def test_slurm_and_pbs_scripts_are_equivalent(name: str) -> None:
    """The same variables with the same defaults, equivalent resources, the same work."""
    slurm, pbs = text("slurm", name), text("pbs", name)
    assert variables(slurm) == variables(pbs) != {}
    assert resources("slurm", name) == resources("pbs", name)
    assert slurm.splitlines()[-1] == pbs.splitlines()[-1] == {
        "train_cpu": "train", "train_4gpu": "train", "train_multinode": "train"}.get(name, name)
    assert slurm.splitlines()[1] == pbs.splitlines()[1]  # what it is for


@pytest.mark.parametrize("scheduler", ["slurm", "pbs"])
def test_scripts_are_portable(scheduler: str) -> None:
    """No account, partition or queue; directives before commands; names that PBS doesn't truncate;
    the same search for the clone in all of them."""
    assert len({prologue(text(scheduler, name)) for name in NAMES}) == 1
    for name in NAMES:
        script = text(scheduler, name)
        assert not re.search(r"^#SBATCH --(account|partition|qos|mail)|^#PBS -[AqMm] ", script,
                             re.MULTILINE)
        mark = "#SBATCH" if scheduler == "slurm" else "#PBS"
        assert script.rindex(f"\n{mark} ") < script.index("set -euo pipefail")
        if scheduler == "pbs":
            assert len(re.search(r"^#PBS -N (\S+)$", script, re.MULTILINE)[1]) <= 15
            assert script.isascii()  # Torque's qsub refuses anything else
        elif resources(scheduler, name)["again"]:
            assert {"--signal=B:USR1@300", "--open-mode=append"} <= set(script.split())


def test_gpu_scripts_request_gpus_and_one_rank_per_gpu() -> None:
    for name in ("train_4gpu", "train_multinode"):
        asked = resources("slurm", name)
        assert asked["gpus"] == asked["ranks"] == 4
        assert variables(text("slurm", name))["DEVICE"] == "gpu"
    assert resources("slurm", "train_4gpu")["nodes"] == 1


def test_bash_reads_no_words_of_site_files_but_those_of_the_table() -> None:
    """And what jobs pass on to one another, or the set-up to pip."""
    source = "".join(path.read_text() for path in (
        *JOBS.glob("lib/*.sh"), ROOT / "env" / "activate.sh", ROOT / "env" / "setup.sh"))
    used = set(re.findall(r"\bHPC_DEEPFAKE_([A-Z_]+)", source))
    inner = {"AFTER", "FIRST_GPUS", "RANK_CPUS", "RERUNS", "TENSORFLOW"}
    assert used - set(WORDS) - OTHERS <= inner
    assert {"LAUNCHER", "SRUN_MPI", "SRUN_OPTIONS", "CONTAINER", "BIND", "IMAGE", "PYTHON",
            "PROFILE", "DEVICE"} <= used


# --- run, with a fake scheduler


@pytest.fixture
def bin_path(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


@pytest.fixture
def slurm(bin_path: Path, tmp_path: Path) -> dict[str, str]:
    """A job of a fake SLURM: srun starts one process, scontrol prints a file."""
    (tmp_path / "state").write_text("JobState=RUNNING Reason=None\n")
    command(bin_path, "scontrol", f"""
        if [[ $1 == requeue ]]; then echo "$*" >>{tmp_path}/requeued; exit; fi
        cat {tmp_path}/state""")
    command(bin_path, "srun", """
        [[ $1 != --mpi=list ]] || { echo "pmix"; exit; }
        while [[ $1 == --* ]]; do shift; done
        "$@" || exit $((${FALSE_CODE:-$?}))""")
    return {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_NTASKS": "1",
            "SLURM_SUBMIT_DIR": str(tmp_path), "DOCTOR": "off"}


def preprocess(pictures: Path, slurm: dict[str, str], bin_path: Path, tmp_path: Path,
               **variables: str) -> subprocess.CompletedProcess[str]:
    return run_script(JOBS / "slurm" / "preprocess.sh", bin_path=bin_path, cwd=tmp_path,
                      **slurm, PICTURES=str(pictures), DATA="f.h5", **variables)


def test_a_job_leaves_its_records(pictures: Path, slurm: dict[str, str], bin_path: Path,
                                  tmp_path: Path) -> None:
    done = preprocess(pictures, slurm, bin_path, tmp_path, SECRET_TOKEN="x", SLURM_JWT="secret",
                      SLURM_JOB_USER="secret", PBS_O_LOGNAME="secret")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "f.h5").exists()
    records = tmp_path / "f.h5.jobs"
    assert (records / "outcome").read_text() == "0\n"
    assert (records / "7.sh").read_text() == text("slurm", "preprocess")
    written = (records / "7.env").read_text()
    assert "SLURM_JOB_ID=7\n" in written and "secret" not in written and "TOKEN" not in written


@pytest.mark.parametrize(("arguments", "run", "words"), [
    ("--epochs 3", "x/1", "--seed 1 --epochs 3 --run x/1"),
    ("--seeds 3 --seed 4", "x/seed-5", "--member 1 --seeds 3 --seed 4 --run x")])
def test_elements_of_an_array_differ_by_seed_or_are_members_of_an_ensemble(
        slurm: dict[str, str], bin_path: Path, tmp_path: Path, arguments: str, run: str,
        words: str) -> None:
    """An ensemble's share its folder; each keeps the records of its job where its training is."""
    command(bin_path, "mpirun", f'echo "$*" >>{tmp_path}/started')
    command(bin_path, "srun", f"""
        [[ $1 != --mpi=list ]] || {{ echo "pmix"; exit; }}
        echo "$*" >>{tmp_path}/started""")
    run_script(JOBS / "slurm" / "train_cpu.sh", bin_path=bin_path, cwd=tmp_path, **slurm, RUN="x",
               SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID="1", ARGS=arguments)
    assert f"--device cpu {words} --resume" in (tmp_path / "started").read_text()
    assert (tmp_path / run / "jobs" / "7_1.sh").exists()


def test_a_launcher_that_starts_nothing_is_a_failure(pictures: Path, slurm: dict[str, str],
                                                     bin_path: Path, tmp_path: Path) -> None:
    """srun was seen to exit with 0 after "launch failed"."""
    command(bin_path, "srun", '[[ $1 != --mpi=list ]] || echo pmix; exit 0')
    done = preprocess(pictures, slurm, bin_path, tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("the program did not finish")
    assert (tmp_path / "f.h5.jobs" / "outcome").read_text() == "1\n"


def test_the_programs_own_exit_code_counts(pictures: Path, slurm: dict[str, str], bin_path: Path,
                                           tmp_path: Path) -> None:
    done = preprocess(pictures, slurm, bin_path, tmp_path, FALSE_CODE="143")
    assert done.returncode == 0, done.stderr
    done = preprocess(tmp_path / "nothing", slurm, bin_path, tmp_path, FALSE_CODE="143")
    assert done.returncode == 2
    assert "there is no folder of pictures" in done.stderr.split("----- job 7 failed")[1]


@pytest.mark.parametrize(("state", "limit", "queued"), [
    ("RUNNING", "3", True), ("SIGNALING", "3", True), ("COMPLETING", "3", False),
    ("RUNNING", "1", False)])
def test_a_stopped_job_is_queued_again_unless_cancelled_or_at_the_limit(
        pictures: Path, slurm: dict[str, str], bin_path: Path, tmp_path: Path, state: str,
        limit: str, queued: bool) -> None:
    (tmp_path / "state").write_text(f"JobState={state} Reason=None\n")
    command(bin_path, "srun", """
        [[ $1 != --mpi=list ]] || { echo "pmix"; exit; }
        echo 75 >"$HPC_DEEPFAKE_OUTCOME_FILE"; exit 143""")
    done = preprocess(pictures, slurm, bin_path, tmp_path, SLURM_RESTART_COUNT="1",
                      MAX_RESTARTS=limit)
    assert done.returncode == 75
    assert (tmp_path / "requeued").exists() == queued
    assert ("run 3 resumes" if queued else "submit it again to resume") in done.stdout
    assert (tmp_path / "f.h5.jobs" / "outcome").read_text() == "75\n"


def test_a_second_job_is_refused_and_one_that_runs_again_takes_over_its_own(
        pictures: Path, slurm: dict[str, str], bin_path: Path, tmp_path: Path) -> None:
    """The second one isn't queued again. The other was killed with its node and runs on another
    one now: it doesn't wait for signs of life."""
    first = holder._process("preprocessing", tmp_path / "f.h5", os.getpid())
    record = tmp_path / "f.h5.in-use.json"
    record.write_bytes(replace(first, job="6").record())
    done = preprocess(pictures, slurm, bin_path, tmp_path, MAX_RESTARTS="3")
    assert done.returncode == 2 and not (tmp_path / "requeued").exists()
    assert f"f.h5 is in use by preprocessing (pid {os.getpid()} on {first.host}, job 6, since " \
        in done.stderr.split("----- job 7 failed")[1]
    record.write_bytes(replace(first, host="n02", boot="another", job="7").record())
    done = preprocess(pictures, slurm, bin_path, tmp_path, SLURM_RESTART_COUNT="1")
    assert done.returncode == 0, done.stderr
    assert "taken over from preprocessing" in done.stderr and "sign of life" not in done.stderr
    assert not record.exists()


def test_a_diverged_training_is_not_queued_again(
        pictures: Path, slurm: dict[str, str], bin_path: Path, tmp_path: Path) -> None:
    """It would diverge again: its code and reason are final."""
    (tmp_path / "state").write_text("JobState=RUNNING Reason=None\n")
    command(bin_path, "srun", """
        [[ $1 != --mpi=list ]] || { echo "pmix"; exit; }
        echo 3 >"$HPC_DEEPFAKE_OUTCOME_FILE"; exit 143""")
    done = preprocess(pictures, slurm, bin_path, tmp_path, SLURM_RESTART_COUNT="1",
                      MAX_RESTARTS="3")
    assert done.returncode == 3 and not (tmp_path / "requeued").exists()
    assert "diverged, so starting it again as it is would not help" in done.stderr
    assert (tmp_path / "f.h5.jobs" / "outcome").read_text() == "3\n"


def test_pipeline_passes_values_and_arguments_on_unchanged(bin_path: Path, tmp_path: Path) -> None:
    """Quotes, spaces, commas and shell syntax in a path and in an argument. The pipeline's values
    take precedence over the environment of the submitting shell."""
    command(bin_path, "sbatch", f"""
        n=$(ls {tmp_path}/submitted.* 2>/dev/null | wc -l)
        cp "${{@: -1}}" {tmp_path}/submitted.$n
        echo "$*" >>{tmp_path}/options
        echo $((100 + n))""")
    nasty = "it's $(touch oops) \"a\", b;c"
    (tmp_path / nasty).mkdir()
    done = run_script(JOBS / "slurm" / "pipeline.sh", "--run", nasty, "--epochs", "2",
                      bin_path=bin_path, cwd=tmp_path, PICTURES=nasty, RUN="other", DEVICE="cpu",
                      TRAIN="train_cpu", TRAIN_OPTIONS="--nodes=3 --mem=4G", SLURM_NTASKS="9")
    assert done.returncode == 0, done.stderr
    options = (tmp_path / "options").read_text().splitlines()
    assert "--dependency=afterok:100 --kill-on-invalid-dep=yes --nodes=3 --mem=4G" in options[1]
    assert "--dependency=afterok:101" in options[2]
    training = (tmp_path / "submitted.1").read_text()
    assert training.startswith(text("slurm", "train_cpu").split("# What to change")[0])
    # what the script would see, above the search for the clone
    head = training.split("# The scheduler runs a copy")[0]
    seen = subprocess.run(["bash", "-c", f"{head}\nprintf '%s\\n' \"$RUN\" \"$DATA\" \"$@\""],
                          env={"RUN": "env", "PATH": os.environ["PATH"]}, text=True,
                          capture_output=True, cwd=tmp_path, check=True).stdout.splitlines()
    assert seen == [nasty, f"{nasty}/features.h5", "--run", nasty, "--epochs", "2"]
    assert not (tmp_path / "oops").exists()


@pytest.mark.parametrize("inside", [True, False])
def test_a_pipeline_of_which_a_job_is_refused_cancels_the_others(
        slurm: dict[str, str], bin_path: Path, tmp_path: Path, inside: bool) -> None:
    """In a job, the command for a login node comes last."""
    command(bin_path, "sbatch", f"""[[ ${{@: -1}} != */evaluate-* ]] || {{
            echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2; exit 1; }}
        echo x >>{tmp_path}/submitted; echo $((100 + $(wc -l <{tmp_path}/submitted)))""")
    command(bin_path, "scancel", f'echo "$*" >{tmp_path}/cancelled')
    done = run_script(JOBS / "slurm" / "pipeline.sh", "--epochs", "2", bin_path=bin_path,
                      cwd=tmp_path, TRAIN="train_cpu", RUN="it's", **slurm if inside else {})
    assert done.returncode == 2, done.stderr
    assert (tmp_path / "cancelled").read_text() == "101 102\n"
    assert "QOSMaxSubmitJobPerUserLimit" in done.stderr
    assert "Cancelled, as they are of no use without it: 101 102" in done.stderr
    by_hand = f"bash {shlex.quote(str(JOBS / 'slurm' / 'pipeline.sh'))} --epochs 2"
    last = done.stderr.splitlines()[-1]
    assert last.endswith(by_hand) == inside and ("RUN=it\\'s" in last) == inside


@pytest.mark.parametrize(("scheduler", "program", "look", "one", "other"), [
    ("slurm", "sbatch", "squeue --me", "Submitted batch job 4711", "4712;big\nhave a nice day"),
    ("pbs", "qsub", "qstat -u $USER", "project: 12 hours left\n4711.server", "4712.server")])
def test_ids_are_found_in_what_a_sites_wrapper_prints(
        bin_path: Path, tmp_path: Path, scheduler: str, program: str, look: str, one: str,
        other: str) -> None:
    """Of three jobs of a pipeline, the last one gets no id."""
    command(bin_path, program, f"""case ${{@: -1}} in
        */preprocess-*) echo '{one}' ;;
        */train_cpu-*) echo '{other}' ;;
        *) echo maintenance ;;
        esac""")
    for cancel in ("scancel", "qdel"):
        command(bin_path, cancel, f'echo "$*" >{tmp_path}/cancelled')
    done = run_script(JOBS / scheduler / "pipeline.sh", bin_path=bin_path, cwd=tmp_path,
                      TRAIN="train_cpu", RUN="r")
    assert done.returncode == 2, done.stderr
    assert f"{program} ended well but gave no job id: look in {look}. It printed: maintenance" in \
        done.stderr
    suffix = "" if scheduler == "slurm" else ".server"
    assert (tmp_path / "cancelled").read_text() == f"4711{suffix} 4712{suffix}\n"


def test_a_pipeline_says_that_the_scheduler_takes_long(bin_path: Path, tmp_path: Path) -> None:
    command(bin_path, "sleep", "exit 0")  # the ten seconds
    command(bin_path, "sbatch", "read -rt 0.5 <> <(:); echo 4711")
    done = run_script(JOBS / "slurm" / "pipeline.sh", bin_path=bin_path, cwd=tmp_path,
                      TRAIN="train_cpu", RUN="r")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("waiting for sbatch, which has not answered for 10 s") == 3
    assert "evaluation: job 4711" in done.stdout


def test_outside_of_a_job_the_command_to_submit_is_named(bin_path: Path, tmp_path: Path) -> None:
    done = run_script(JOBS / "slurm" / "train_cpu.sh", bin_path=bin_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "sbatch jobs/slurm/train_cpu.sh" in done.stderr
    assert list(tmp_path.iterdir()) == [bin_path]


def test_without_a_clone_scripts_fail_with_a_message(bin_path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "spool" / "deep" / "er" / "slurm_script"
    copy.parent.mkdir(parents=True)
    copy.write_text(text("slurm", "train_cpu"))
    done = run_script(copy, bin_path=bin_path, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == ("error: found no clone of hpc_deepfake: submit inside one, or set "
                           "HPC_DEEPFAKE_HOME\n")


def test_a_site_may_have_its_own_launcher_and_image(pictures: Path, slurm: dict[str, str],
                                                bin_path: Path, tmp_path: Path) -> None:
    """A launcher like PALS, with placeholders; every program runs inside the container image."""
    command(bin_path, "mpiexec", f'echo "$*" >{tmp_path}/launched; shift 4; "$@"')
    command(bin_path, "apptainer", f"""echo "$*" >>{tmp_path}/contained
        while [[ $1 != *.sif ]]; do shift; done; shift; "$@" """)
    image = tmp_path / "it.sif"
    image.touch()
    done = preprocess(pictures, {**slurm, "SLURM_NTASKS": "1", "SLURM_CPUS_PER_TASK": "6"},
                      bin_path, tmp_path, HPC_DEEPFAKE_IMAGE=str(image),
                      HPC_DEEPFAKE_LAUNCHER="mpiexec -n {ranks} --depth={cpus} --ppn={per_node}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "launched").read_text().startswith("-n 1 --depth=6 --ppn=1 ")
    contained = (tmp_path / "contained").read_text()
    folders = sorted(map(str, (pictures, tmp_path, ROOT)))
    binds = " ".join(f"--bind {folder}" for folder in folders)
    assert contained.startswith(f"exec {binds} {image} python -m preprocessing ")


@pytest.mark.parametrize("asked", [
    "Submit_arguments = {path}", "Submit_arguments = -l select=2 -v A=1,B=2 {path}"])
def test_pbs_scripts_find_the_clone_by_the_submitted_path(bin_path: Path, tmp_path: Path,
                                                         asked: str) -> None:
    """From a spool folder, submitted elsewhere, in a path with a space."""
    clone = tmp_path / "my clone"
    (clone / "jobs" / "lib").mkdir(parents=True)
    (clone / "jobs" / "lib" / "job.sh").write_text('echo "found $clone"; exit\n')
    command(bin_path, "qstat", f"""printf 'Job Id: 1\\n    {asked.format(
        path=clone / "jobs" / "pbs" / "train_cpu.sh")}\\n'""")
    copy = tmp_path / "spool" / "deep" / "er" / "1.SC"
    copy.parent.mkdir(parents=True)
    copy.write_text(text("pbs", "train_cpu"))
    done = run_script(copy, bin_path=bin_path, cwd=tmp_path, PBS_JOBID="1")
    assert done.stdout == f"found {clone}\n", done.stderr


def test_pbs_remote_shell_drops_options_of_ssh(bin_path: Path, tmp_path: Path) -> None:
    """mpirun passes ssh's options, and one shell command as several words."""
    command(bin_path, "pbs_tmrsh", f'printf "%s|" "$@" >{tmp_path}/called')
    run_script(JOBS / "lib" / "pbs_rsh.sh", "-x", "-l", "me", "n02", "PATH=/x:$PATH", ";", "orted",
               bin_path=bin_path, cwd=tmp_path)
    assert (tmp_path / "called").read_text() == (
        f"n02|/bin/bash|-c|PATH=$PATH:{shlex.quote(str(JOBS / 'lib'))}; PATH=/x:$PATH ; orted|")


@pytest.mark.slow
def test_compare_trains_one_after_another_and_reports(small_file: Path, slurm: dict[str, str],
                                                     bin_path: Path, tmp_path: Path) -> None:
    """A second job with the same variables has nothing to train. With the toy in place of the
    network."""
    job = {**slurm, "SLURM_CPUS_PER_TASK": "1", "DATA": str(small_file), "RUN": "all",
           "METHODS": "sequential", "FEATURES": "raw ela", "EPOCHS": "1",
           "PYTHONPATH": str(ROOT / "tests" / "toy")}
    done = run_script(JOBS / "slurm" / "compare.sh", "--batch-size", "16", "--",
                      "--learning-rate", "0.01", bin_path=bin_path, cwd=tmp_path, **job)
    assert done.returncode == 0, done.stderr
    names = ["sequential-ela-r1", "sequential-raw-r1"]
    assert [line.split()[0] for line in done.stdout.splitlines() if " starts; " in line] == names
    lines = (tmp_path / "all" / "compare.csv").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == names
    config = json.loads((tmp_path / "all" / names[0] / "config.json").read_text())
    assert (config["epochs"], config["batch_size"], config["learning_rate"], config["device"]) == (
        1, 16, 0.01, "cpu")
    assert (tmp_path / "all" / "jobs" / "outcome").read_text() == "0\n"

    done = run_script(JOBS / "slurm" / "compare.sh", "--batch-size", "16", "--",
                      "--learning-rate", "0.01", bin_path=bin_path, cwd=tmp_path, **job)
    assert done.returncode == 0 and " starts; " not in done.stdout
    assert "report: all/compare.html" in done.stdout
    done = run_script(JOBS / "slurm" / "compare.sh", "--batch-size", "8", bin_path=bin_path,
                      cwd=tmp_path, **job)
    assert done.returncode == 2 and "holds a run with --batch-size 16" in done.stderr


def test_crosseval_runs_what_is_next_until_nothing_is(slurm: dict[str, str], bin_path: Path,
                                                      tmp_path: Path) -> None:
    """Lists become several words each, and each program's words stay as they are; those after --
    go along every time."""
    (tmp_path / "env" / "bin").mkdir(parents=True)
    command(tmp_path / "env" / "bin", "python", f"""
        printf '<%s>' "$@" >>{tmp_path}/started; echo >>{tmp_path}/started
        [[ -z ${{HPC_DEEPFAKE_OUTCOME_FILE:-}} ]] || echo 0 >"$HPC_DEEPFAKE_OUTCOME_FILE"
        [[ " $* " == *' --next '* ]] || exit 0
        case $(grep -c next {tmp_path}/started) in
            1) printf '%s\\n' a-ela-r1 1 -m hpc_deepfake.train --run 'all/a b' ;;
            2) printf '%s\\n' 'a-ela-r1 on 2 data sets' 1 -m hpc_deepfake.cli crosseval score ;;
        esac""")
    job = {**slurm, "HPC_DEEPFAKE_ENV": str(tmp_path / "env"), "SLURM_CPUS_PER_TASK": "3",
           "TRAIN_DATA": "a.h5 b=b.h5", "MODELS": "runs/x", "NETWORKS": "table meso4", "RUN": "all"}
    done = run_script(JOBS / "slurm" / "crosseval.sh", "--test", "c d.h5", "--", "--patience", "2",
                      bin_path=bin_path, cwd=tmp_path, **job)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "all" / "jobs" / "outcome").read_text() == "0\n"
    asked = ("<-m><hpc_deepfake.cli><crosseval><--train><a.h5><b=b.h5><--models><runs/x>"
             "<--networks><table meso4><--ranks><1><--threads><3><--device><cpu><--test><c d.h5>"
             "<--out><all><{}><--><--patience><2>")
    started = (tmp_path / "started").read_text().splitlines()
    assert [line for line in started if line.startswith("<-m>")] == [
        asked.format("--next"), "<-m><hpc_deepfake.train><--run><all/a b>",
        asked.format("--next"), "<-m><hpc_deepfake.cli><crosseval><score>",
        asked.format("--next"), asked.format("--report-only")]
