"""A sweep as a job array: what is submitted, and what its elements do, on played schedulers."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from data_files import make_data
from job_scripts import command, run_script
from played_pbs import PlayedPbs
from sweep_records import certain, ended, finish

from hpc_deepfake import sweep
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.sweep import plan as plans
from hpc_deepfake.sweep import submitting

FOLDER = Path("my sweep")
GRID = ["--data", "features.h5", "--grid", "batch-size=4,8,16,32"]
# Instead of Python in jobs: a training ends with the exit code in codes/TRIAL, by default 0.
STAND_IN = """
case "$*" in
    *-m\\ hpc_deepfake.train\\ *)
        printf '%s\\n' "$*" >>"$CODES/programs"
        all="$*" run=${all#*--run } run=${run%% --resume*}
        code=$(cat "$CODES/$(basename "$run")" 2>/dev/null || echo 0)
        echo "$code" >"$HPC_DEEPFAKE_OUTCOME_FILE"
        ((code == 0)) || echo "error: played" >"$HPC_DEEPFAKE_ERROR_FILE"
        exit "$code" ;;
esac
exec PYTHON "$@" """


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Variables for jobs whose trainings are played."""
    monkeypatch.chdir(tmp_path)
    make_data(tmp_path / "features.h5")
    programs = tmp_path / "env" / "bin"
    programs.mkdir(parents=True)
    command(programs, "python", STAND_IN.replace("PYTHON", sys.executable))
    (tmp_path / "codes").mkdir()
    return {"HPC_DEEPFAKE_ENV": str(programs.parent), "HPC_DEEPFAKE_LAUNCHER": "env RANKS={ranks}",
            "DOCTOR": "off", "CODES": str(tmp_path / "codes"), "PYTHONPATH": str(ROOT)}


@pytest.fixture
def slurm(jobs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """sbatch counts from 100 and keeps scripts and options; squeue lists what is in a file."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command(folder, "sbatch", f"""
        n=$(ls {tmp_path}/submitted.* 2>/dev/null | wc -l)
        cat >{tmp_path}/submitted.$((100 + n))
        printf '%s\\n' "$*" >>{tmp_path}/options
        echo $((100 + n))""")
    (tmp_path / "queue").touch()
    command(folder, "squeue", f"cat {tmp_path}/queue")
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder


def directives(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", path.read_text(), re.MULTILINE))


def assigned(path: Path, name: str) -> str:
    """The value that was written into a script."""
    return re.search(rf"^{name}=(?!\$)'?([^'\n]*)'?$", path.read_text(), re.MULTILINE)[1]


def test_the_missing_trials_are_one_array_and_the_report_follows(slurm, tmp_path, capsys):
    assert sweep.main(["submit", str(FOLDER), "slurm", "--at-once", "2", "--time", "1:00:00",
                       "--account", "me", *GRID, "--ranks", "2", "--repeats", "2"]) == 0
    array = directives(tmp_path / "submitted.100")
    assert (array["array"], array["time"]) == ("0-7%2", "01:00:00")
    assert (array["nodes"], array["ntasks-per-node"], array["account"]) == ("1", "2", "me")
    assert assigned(tmp_path / "submitted.100", "TRIALS") == "1 2 3 4 5 6 7 8"
    assert assigned(tmp_path / "submitted.100", "RUN") == "my sweep"
    report = directives(tmp_path / "submitted.101")
    assert assigned(tmp_path / "submitted.101", "TRIALS") == "report"
    assert "array" not in report and report["account"] == "me"
    assert (report["ntasks-per-node"], report["cpus-per-task"], report["time"]) \
        == ("1", "1", "00:10:00")
    assert "--dependency=afterany:100" in (tmp_path / "options").read_text().splitlines()[1]
    out = capsys.readouterr()
    assert "trials: 8 elements of job 100" in out.out
    assert not (FOLDER / "in-use.json").exists()


def test_only_what_is_missing_and_not_queued_is_submitted_again(slurm, tmp_path, capsys):
    """Of four trials one is done, one diverged and one waits in the first array; a lone one is no
    array, which PBS would refuse."""
    words = ["submit", str(FOLDER), "slurm"]
    assert sweep.main([*words, *GRID]) == 0
    assert directives(tmp_path / "submitted.100")["array"] == "0-3"
    finish(FOLDER, 1, certain(0.9))
    ended(FOLDER, 2, 3)
    (tmp_path / "queue").write_text("100_2\n")
    capsys.readouterr()
    assert sweep.main(words) == 0
    assert "already queued or running: 1 trial\n" in capsys.readouterr().out
    assert assigned(tmp_path / "submitted.102", "TRIALS") == "4"
    assert "array" not in directives(tmp_path / "submitted.102")
    (tmp_path / "queue").write_text("100_2\n102\n")
    assert sweep.main(words) == 0
    assert "nothing to submit" in capsys.readouterr().out
    assert not (tmp_path / "submitted.104").exists()
    # both have ended without a result
    (tmp_path / "queue").write_text("")
    assert sweep.main(words) == 0
    assert assigned(tmp_path / "submitted.104", "TRIALS") == "3 4"


def test_nothing_is_submitted_twice_where_the_scheduler_does_not_answer(slurm, tmp_path, capsys):
    """What was submitted before stays recorded; a job that the scheduler has forgotten is over."""
    words = ["submit", str(FOLDER), "slurm"]
    assert sweep.main([*words, *GRID]) == 0
    command(slurm, "squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller "
            "(connect failure)' >&2; exit 1")
    with pytest.raises(InputError, match=r"nothing was submitted: it is not known what is queued "
                       r"or running \(asked for job 100\): squeue: .*connect failure\)\nOnce more"):
        sweep.main(words)
    command(slurm, "squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert sweep.main(words) == 0
    # the first array is queued after all, as its cluster now says
    command(slurm, "squeue", '[[ " $* " != *" --jobs=100 "* ]] || printf "100_%s\\n" 0 1 2 3')
    capsys.readouterr()
    assert sweep.main(words) == 0
    assert "already queued or running: 4 trials\nnothing to submit" in capsys.readouterr().out
    assert len((tmp_path / "options").read_text().splitlines()) == 4


def test_a_dry_run_shows_trials_script_and_cost_and_submits_nothing(slurm, tmp_path, capsys):
    assert sweep.main(["submit", str(FOLDER), "slurm", "--dry-run", "--time", "0:30:00",
                       *GRID, "--", "--device", "gpu"]) == 0
    out = capsys.readouterr()
    assert "4 trials on 1 rank: 4 missing" in out.out
    assert "#SBATCH --array=0-3" in out.out and "DEVICE=gpu" in out.out
    assert re.search(r"2 node hours, \d+ core hours, 2 GPU hours", out.out + out.err)
    assert not FOLDER.exists() and not (tmp_path / "options").exists()


@pytest.mark.parametrize(("words", "message"), [
    (["--grid", "batch-size=0"], "at least 1"),
    (["--grid", "strategy=mesh"], "strategy mesh on 1 rank"),
    (["--array", "1-3"], "--array: the trials are one array"),
    (["--tmie", "3"], None)])
def test_mistakes_are_refused_before_anything_is_submitted(slurm, tmp_path, words, message):
    grid = [] if "--grid" in words else ["--grid", "batch-size=4,8"]
    if message:
        with pytest.raises(InputError, match=message):
            sweep.main(["submit", str(FOLDER), "slurm", "--data", "features.h5", *grid, *words])
    else:  # as `job submit` does
        with pytest.raises(SystemExit):
            sweep.main(["submit", str(FOLDER), "slurm", "--data", "features.h5", *grid, *words])
    assert not (tmp_path / "options").exists()


@pytest.mark.parametrize(("answer", "array"), [
    ("pbs_version = 23.06.06", "0-3%2"), ("pbs_version = 2022.1.0", "0-3%2"),
    ("pbs_version = 19.1.3", "0-3"), ("no such option", "0-3%2")])
def test_an_old_pbs_has_no_limit_of_elements_at_once(tmp_path, monkeypatch, answer, array):
    command(tmp_path, "qstat", f"echo '{answer}'")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert submitting._array("pbs", 4, 2) == ["--array", array]
    assert submitting._array("pbs", 4, 4) == ["--array", "0-3"]
    assert submitting._array("pbs", 1, 1) == []


def element(jobs: dict[str, str], slurm: Path, script: Path, number: int):
    return run_script(script, bin_path=slurm, cwd=script.parent, **{
        **jobs, "SLURM_JOB_ID": str(200 + number), "SLURM_ARRAY_JOB_ID": "100",
        "SLURM_ARRAY_TASK_ID": str(number)})


@pytest.mark.slow
def test_an_element_runs_its_trial_and_divergence_is_a_result(jobs, slurm, tmp_path):
    plans_of = ["submit", str(FOLDER), "slurm"]
    assert sweep.main(["plan", str(FOLDER), *GRID]) == 0
    finish(FOLDER, 1, certain(0.9))
    assert sweep.main(plans_of) == 0
    script = tmp_path / "submitted.100"
    assert assigned(script, "TRIALS") == "2 3 4"
    (tmp_path / "codes" / "003").write_text("3")
    done = element(jobs, slurm, script, 1)  # counted from 0
    assert done.returncode == 0, done.stderr
    assert "trial 3 diverged: that is its result" in done.stdout
    program, = (tmp_path / "codes" / "programs").read_text().splitlines()
    own = plans.read(FOLDER)
    assert program == (f"-m hpc_deepfake.train {' '.join(own.arguments(FOLDER, own.trial(3)))} "
                       "--device cpu")
    assert plans.states(FOLDER, own)[2] == ("diverged", "error: played")
    assert (FOLDER / "trials/003/jobs/100_1.env").exists()  # for `job status` and `job report`
    (tmp_path / "codes" / "004").write_text("1")
    done = element(jobs, slurm, script, 2)
    assert done.returncode == 1 and "trial 4 ended with exit code 1" in done.stderr


@pytest.mark.slow
def test_a_job_that_is_no_array_runs_all_missing_trials_and_writes_the_report(jobs, slurm,
                                                                              tmp_path):
    """The second of three fails; the third runs nevertheless, and the job's exit code is the
    second's."""
    assert sweep.main(["plan", str(FOLDER), "--data", "features.h5", "--grid",
                       "batch-size=4,8,16"]) == 0
    finish(FOLDER, 1, certain(0.9))
    (tmp_path / "codes" / "002").write_text("2")
    (tmp_path / "codes" / "003").write_text("3")
    done = run_script(ROOT / "jobs" / "slurm" / "sweep.sh", bin_path=slurm, cwd=tmp_path,
                      **jobs, RUN=str(FOLDER), SLURM_JOB_ID="300")
    assert done.returncode == 2, done.stderr
    programs = (tmp_path / "codes" / "programs").read_text()
    assert re.findall(r"trials/(\d+)", programs) == ["002", "003"]
    assert (FOLDER / "report.html").exists()
    assert "By val_loss, the only combination: batch-size 4" in done.stdout
    states = [state for state, _ in plans.states(FOLDER, plans.read(FOLDER))]
    assert states == ["done", "failed", "diverged"]


@pytest.mark.slow
def test_a_sweep_on_a_played_pbs(jobs, pbs: PlayedPbs, tmp_path, monkeypatch, capsys):
    """An array of two, at most one at once, then the report, whose dependency is the array."""
    for name, value in {**pbs.environment, **jobs}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "codes" / "002").write_text("3")
    given = ",".join(jobs)
    assert sweep.main(["submit", str(FOLDER), "pbs", "--at-once", "1", "--set", f"v={given}",
                       "--data", "features.h5", "--grid", "batch-size=4,8"]) == 0
    report = pbs.wait_all()
    array, last = (next(job for job in report if ("[]" in job) == is_array)
                   for is_array in (True, False))
    assert f"trials: 2 elements of job {array}" in capsys.readouterr().out
    programs = (tmp_path / "codes" / "programs").read_text()
    assert sorted(re.findall(r"trials/(\d+)", programs)) == ["001", "002"], pbs.log(last)
    outcomes = [(FOLDER / f"trials/00{number}/jobs/outcome").read_text().strip()
                for number in (1, 2)]
    assert outcomes == ["0", "3"]
    kept, = json.loads((FOLDER / "jobs" / "arrays.json").read_text())
    assert (kept["scheduler"], kept["id"], kept["trials"]) == ("pbs", array, [1, 2])
    assert sweep.main(["submit", str(FOLDER), "pbs", "--dry-run"]) == 0  # nothing is queued
    assert "already queued" not in capsys.readouterr().out
