"""``hpc-deepfake job render`` and ``submit``, with fake sbatch and qsub that record their calls."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
from conftest import ROOT

from hpc_deepfake import cli
from hpc_deepfake.core import log
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs import command as job
from hpc_deepfake.jobs import scheduler as submission
from hpc_deepfake.jobs.scheduler import log_file
from hpc_deepfake.jobs.script import DIALECTS, PBS, SLURM
from hpc_deepfake.jobs.script.text import directives, variables

RECORD = f"""#!{sys.executable}
import json, os, sys
from pathlib import Path
calls = Path(__file__).parent.parent / "calls"
number = len(list(calls.iterdir())) + 1
if os.path.exists(f"{{calls}}-refused-{{number}}"):
    print("sbatch: error: invalid partition specified: nope", file=sys.stderr)
    sys.exit(1)
call = dict(command=[os.path.basename(sys.argv[0]), *sys.argv[1:]], script=sys.stdin.read(),
            environment=dict(os.environ))
(calls / f"{{number:03}}.json").write_text(json.dumps(call))
print("a warning", file=sys.stderr)
print(dict(sbatch=f"{{100 + number}};cluster", qsub=f"{{100 + number}}.server")[call["command"][0]])
"""
OURS = ("SBATCH_", "SLURM_", "SRUN_", "PBS_", "HPC_DEEPFAKE_", "SITE", "RUN", "DATA", "DEVICE")
COST = ("cost: at most {} node hours, {} core hours for one run; a job that is stopped runs again "
        "up to 20 times")
both = pytest.mark.parametrize("scheduler", DIALECTS)


class Cluster:
    """A folder to submit from, and the recorded calls of sbatch and qsub."""

    def __init__(self, folder: Path) -> None:
        self.here, self._calls = folder / "here", folder / "calls"
        for path in (self.here, self._calls, folder / "bin"):
            path.mkdir()
        for name in ("sbatch", "qsub"):
            program = folder / "bin" / name
            program.write_text(RECORD)
            program.chmod(0o755)

    @property
    def calls(self) -> list[dict]:
        return [json.loads(file.read_text()) for file in sorted(self._calls.iterdir())]

    @property
    def commands(self) -> list[list[str]]:
        return [call["command"] for call in self.calls]

    def refuse(self, number: int) -> None:
        Path(f"{self._calls}-refused-{number}").touch()


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> Cluster:
    cluster = Cluster(tmp_path)
    log.start()
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(cluster.here)
    return cluster


def run(*words: str) -> int:
    return job.main(words)


def script(scheduler: str, name: str) -> str:
    return (ROOT / "jobs" / scheduler / f"{name}.sh").read_text(encoding="utf-8")


def assigned(text: str) -> dict[str, str]:
    """Values written into a script, above its own assignments."""
    lines = text.partition("\n# What to change")[0].rpartition("\n\n")[2].split("\n")
    return dict(shlex.split(line)[0].split("=", 1) for line in lines if "=" in line.split(" ")[0])


def asked(text: str, scheduler: str) -> dict[str, str]:
    return directives(text, DIALECTS[scheduler])


# --- render


def test_the_example_of_the_manual(cluster, capsys):
    """The script in jobs/ with these changes and no others; nothing is submitted."""
    assert run("render", "slurm", "train_multinode", "--nodes", "4", "--gpus-per-node", "4",
               "--time", "2:00:00", "--set", "partition=gpu") == 0
    out, err = capsys.readouterr()
    assert not err and not cluster.calls
    before, after = (set(text.split("\n")) for text in (script("slurm", "train_multinode"), out))
    assert after - before == {
        "#SBATCH --nodes=4", "#SBATCH --time=02:00:00", "#SBATCH --partition=gpu",
        f"HPC_DEEPFAKE_HOME={shlex.quote(str(ROOT))}"}
    assert {re.sub("=.*", "", line) for line in before - after} == {
        "#SBATCH --nodes", "#SBATCH --time"}


@both
@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "jobs/slurm").glob("*.sh")))
def test_every_job_can_be_rendered_for_both(cluster, capsys, scheduler, name):
    assert run("render", scheduler, name, "--nodes", "1", "--", "--config", "a b.toml") == 0
    text = capsys.readouterr().out
    assert variables(text) == variables(script(scheduler, name))
    assert assigned(text) == {"HPC_DEEPFAKE_HOME": str(ROOT)}
    assert "set -- --config 'a b.toml' \"$@\"\n" in text


def test_the_rest_of_the_options(cluster, capsys):
    assert run("render", "pbs", "train_cpu", "--queue", "small", "--var", "DATA=a b.h5", "--set",
               "W umask=022", "--set", "l:ssd=1tb", "--unset", "k", "--site", "debian", "--name",
               "mine", "--set", "h", "--", "--epochs", "3", "--", "--set") == 0
    text = capsys.readouterr().out
    now = asked(text, "pbs")
    assert (now["q"], now["W:umask"], now["l:ssd"], now["N"], now["h"]) == (
        "small", "022", "1tb", "mine", "")
    assert "k" not in now
    assert assigned(text) == {"HPC_DEEPFAKE_HOME": str(ROOT), "DATA": "a b.h5", "SITE": "debian"}
    assert "set -- --epochs 3 -- --set \"$@\"\n" in text


def test_options_from_a_file(cluster, capsys):
    (cluster.here / "job.toml").write_text(
        'nodes = 3\ntime = 90\nname = "mine"\nset = ["partition=gpu", "exclusive"]\n'
        'var = "DATA=x.h5"\n')
    assert run("render", "slurm", "train_cpu", "--config", "job.toml", "--set", "nice=5",
               "--name", "theirs") == 0
    text = capsys.readouterr().out
    now = asked(text, "slurm")
    assert (now["nodes"], now["time"], now["job-name"]) == ("3", "01:30:00", "theirs")
    assert (now["partition"], now["exclusive"], now["nice"]) == ("gpu", "", "5")
    assert assigned(text)["DATA"] == "x.h5"


def test_another_script(cluster, capsys):
    (cluster.here / "mine.sh").write_text("#!/bin/bash\n#SBATCH --nodes=1\nset -euo pipefail\ny\n")
    assert run("render", "slurm", "--script", "mine.sh", "--nodes", "2") == 0
    assert asked(capsys.readouterr().out, "slurm") == {"nodes": "2"}
    with pytest.raises(InputError, match="two scripts"):
        run("render", "slurm", "train_cpu", "--script", "mine.sh")
    with pytest.raises(InputError, match=r"cannot read the script none.sh"):
        run("render", "slurm", "--script", "none.sh")


def test_auto_takes_the_scheduler_that_is_there(cluster, capsys, monkeypatch):
    assert run("render", "auto", "train_cpu") == 0
    assert "#SBATCH" in capsys.readouterr().out
    folder = cluster.here.parent / "bin"
    (folder / "sbatch").unlink()
    monkeypatch.setenv("PATH", str(folder))
    assert run("render", "auto", "train_cpu") == 0
    assert "#PBS" in capsys.readouterr().out
    (folder / "qsub").unlink()
    with pytest.raises(InputError, match="neither sbatch nor qsub is in PATH"):
        run("render", "auto", "train_cpu")


@pytest.mark.parametrize("words", [
    ["render"], ["render", "slrm"], ["render", "slurm"], ["submit", "pbs"],
    ["submit", "pbs", "train_cpus"], ["render", "slurm", "../slurm/train_cpu"],
    ["submit", "slurm", "evaluate"]])
def test_the_message_on_a_missing_word_ends_with_a_call_that_works(cluster, words):
    """The last line of the message, pasted."""
    (cluster.here / "runs" / "first").mkdir(parents=True)
    (cluster.here / "casia2.h5").touch()
    with pytest.raises(InputError) as refused:
        run(*words)
    call = shlex.split(str(refused.value).rpartition("\n")[2])
    assert call[:3] == ["hpc-deepfake", "job", words[0]]
    assert run(*call[2:]) == 0


@pytest.mark.parametrize(("words", "message"), [
    (["--set", "partion=gpu"], "did you mean partition"),
    (["--var", "DATA"], "give a value, like --var DATA=VALUE"),
    (["--var", "DTA=x"], "no variable DTA"),
    (["--var", "RUN=a", "--var", "RUN=b"], "RUN is given twice"),
    (["--site", "nowhere"], "no such file in .*there are .*debian"),
    (["--time", "soon"], "'soon' is not a time limit"),
    (["--mem", "much"], "not an amount of memory"),
    (["--var", "DATA=a\nb"], "line break"),
])
def test_wrong_values_are_refused(cluster, words, message):
    with pytest.raises(InputError, match=message):
        run("submit", "slurm", "train_cpu", *words)
    assert not cluster.calls


@pytest.mark.parametrize("words", [[], ["rendr"], ["render", "slurm", "train_cpu", "--nodes", "0"],
                                   ["render", "slurm", "train_cpu", "--chain", "2"],
                                   ["--config", "x.toml", "render"]])
def test_wrong_usage_is_code_2(cluster, capsys, words):
    (cluster.here / "x.toml").write_text("")
    with pytest.raises(SystemExit) as left:
        run(*words)
    assert left.value.code == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("error: ") and "--help" in err


def test_an_installed_package_has_no_jobs(cluster, monkeypatch, tmp_path):
    monkeypatch.setattr(job, "CLONE", tmp_path)
    with pytest.raises(InputError, match=r"no folder .*jobs/slurm: .* not part of an installed"):
        run("render", "slurm", "train_cpu")


@pytest.mark.parametrize(("name", "gpus", "more", "note"), [
    ("train_cpu", "2", [], "DEVICE stays cpu; to compute on GPUs add --var DEVICE=gpu"),
    ("train_4gpu", "0", [], "DEVICE stays gpu; to compute on CPUs add --var DEVICE=cpu"),
    ("train_cpu", "2", ["--var", "DEVICE=gpu"], ""),
    ("train_cpu", "2", ["--var", "DEVICE=cpu"], ""), ("train_4gpu", "2", [], "")])
def test_a_note_on_gpus_that_do_not_fit_the_device(cluster, capsys, name, gpus, more, note):
    assert run("render", "slurm", name, "--gpus-per-node", gpus, *more) == 0
    err = capsys.readouterr().err
    assert err == (f"note: {note}\n" if note else "")


def test_an_ensemble_is_an_array_of_its_members(cluster, capsys):
    """Each element trains one of them into the folder that the user names."""
    words = ("train_cpu", "--seeds", "3", "--var", "RUN=runs/x", "--", "--seed", "5")
    assert run("render", "slurm", *words) == 0
    script = capsys.readouterr().out
    assert "#SBATCH --array=0-2\n" in script and "set -- --seeds 3 --seed 5 " in script
    assert run("render", "pbs", *words) == 0
    assert "#PBS -J 0-2\n" in capsys.readouterr().out
    for name, more, message in (
            ("train_cpu", (), r"--seeds 3: name the folder .* --var RUN=runs/ensemble"),
            ("evaluate", ("--var", "RUN=x"), "--seeds: evaluate doesn't train"),
            ("train_cpu", ("--var", "RUN=x", "--array", "1-3"), "makes an array of its own")):
        with pytest.raises(InputError, match=message):
            run("submit", "slurm", name, "--seeds", "3", *more)
    assert not cluster.calls


# --- submit


@both
def test_what_is_rendered_is_what_is_submitted(cluster, capsys, scheduler):
    """On standard input. The job's id and its log are printed; what was submitted is recorded where
    the job will keep its records, for `job status` and to submit it again."""
    words = [scheduler, "train_cpu", "--nodes", "2", "--var", f"DATA={os.devnull}", "--",
             "--epochs", "3"]
    assert run("render", *words) == 0
    rendered = capsys.readouterr().out
    assert run("submit", *words) == 0
    out, err = capsys.readouterr()
    command = {"slurm": ["sbatch", "--parsable"], "pbs": ["qsub"]}[scheduler]
    assert cluster.commands == [command] and cluster.calls[0]["script"] == rendered
    job = {"slurm": "101", "pbs": "101.server"}[scheduler]
    kept = sorted(path for path in cluster.here.rglob("*") if path.is_file())
    assert [path.parent for path in kept] == [cluster.here / "runs" / job / "jobs"] * 2
    assert kept[0].read_text() == rendered
    entry = json.loads(kept[1].read_text())
    assert (entry["id"], entry["kind"], entry["scheduler"]) == (job, "train", scheduler)
    name, log = {"slurm": ("101", "hd-train-cpu-101.log"), "pbs": ("101.server",
                                                                  "hd-train-cpu.o101")}[scheduler]
    assert out.splitlines() == [COST.format(16, 256),
                                f"submitted: job {name}, hd-train-cpu; log: {cluster.here}/{log}",
                                f"meanwhile: hpc-deepfake job status {name}",
                                f"afterwards: hpc-deepfake job report {name}"]
    assert err == "a warning\n"


@both
def test_a_dry_run_prints_and_submits_nothing(cluster, capsys, scheduler):
    words = [scheduler, "train_cpu", "--partition", "p"]
    run("render", *words)
    rendered = capsys.readouterr().out
    assert run("submit", *words, "--dry-run", "--chain", "2", "--after", "7") == 0
    out, _ = capsys.readouterr()
    assert not cluster.calls
    new = [line for line in out.splitlines() if line not in rendered.splitlines()]
    assert new[0] == "HPC_DEEPFAKE_CHAIN=first" and new[1].startswith("RUN=")
    how = {"slurm": ["sbatch --parsable --dependency=afterok:7 --kill-on-invalid-dep=yes",
                     "sbatch --parsable --dependency=afterany:ID_OF_JOB_1 "
                     "--kill-on-invalid-dep=yes"],
           "pbs": ["qsub -W depend=afterok:7", "qsub -W depend=afterany:ID_OF_JOB_1"]}[scheduler]
    assert new[2:] == [f"# would be submitted by: {how[0]}",
                       f"# then, with HPC_DEEPFAKE_CHAIN=next, by: {how[1]}",
                       "# cost: at most 16 node hours, 256 core hours"]


@pytest.mark.parametrize(("scheduler", "given", "words"), [
    ("slurm", ["12"], ["--dependency=afterok:12", "--kill-on-invalid-dep=yes"]),
    ("slurm", ["12:any", "13:ok"],
     ["--dependency=afterany:12,afterok:13", "--kill-on-invalid-dep=yes"]),
    ("pbs", ["12.server:any", "13.server"],
     ["-W", "depend=afterany:12.server,afterok:13.server"]),
])
def test_a_start_after_other_jobs(cluster, scheduler, given, words):
    after = [word for one in given for word in ("--after", one)]
    assert run("submit", scheduler, "train_cpu", *after) == 0
    assert cluster.commands[0][-len(words):] == words


@pytest.mark.parametrize("text", ["", "x", "12:maybe", ":ok"])
def test_a_job_to_start_after_needs_an_id(cluster, text):
    with pytest.raises(InputError, match="give a job's id"):
        run("submit", "slurm", "train_cpu", "--after", text)


def test_requested_values_take_precedence_over_the_environment(cluster, monkeypatch):
    """sbatch would prefer SBATCH_*; the script assigns its own variables."""
    for name in ("PARTITION", "TIMELIMIT", "MEM_PER_CPU", "MEM_PER_NODE", "ARRAY_INX", "QOS",
                 "REQUEUE", "NO_REQUEUE", "GPUS_PER_NODE"):
        monkeypatch.setenv(f"SBATCH_{name}", "1")
    monkeypatch.setenv("DATA", "theirs.h5")
    monkeypatch.setenv("RUN", "theirs")
    assert run("submit", "slurm", "train_4gpu", "--partition", "gpu", "--time", "5", "--mem", "1G",
               "--set", "array=1-2", "--unset", "requeue", "--var", f"DATA={os.devnull}") == 0
    environment = cluster.calls[0]["environment"]
    assert {name for name in environment if name.startswith("SBATCH_")} == {
        "SBATCH_QOS", "SBATCH_GPUS_PER_NODE"}
    assert environment["RUN"] == "theirs"
    assert assigned(cluster.calls[0]["script"]) == {"HPC_DEEPFAKE_HOME": str(ROOT),
                                                    "DATA": os.devnull}


@pytest.mark.parametrize("inside", [True, False])
def test_variables_of_the_submitting_job_are_not_for_the_new_one(cluster, monkeypatch, inside):
    """Outside of a job, SLURM_* are the user's own."""
    if inside:
        monkeypatch.setenv("SLURM_JOB_ID", "55")
    for name in ("SLURM_CONF", "SLURM_NTASKS", "SLURM_CLUSTERS", "SRUN_CPUS_PER_TASK",
                 "HPC_DEEPFAKE_CHAIN", "HPC_DEEPFAKE_STAGED", "HPC_DEEPFAKE_RANK_LOGS",
                 "HPC_DEEPFAKE_ERROR_FILE", "HPC_DEEPFAKE_OUTCOME_FILE", "OMP_NUM_THREADS",
                 "MODULEPATH"):
        monkeypatch.setenv(name, "x")
    assert run("submit", "slurm", "train_cpu") == 0
    left = {name for name in cluster.calls[0]["environment"]
            if name.startswith(("SLURM_", "SRUN_", "HPC_", "OMP_", "MODULEPATH"))}
    kept = {"SLURM_CONF", "MODULEPATH"}
    if not inside:
        kept |= {"SLURM_NTASKS", "SLURM_CLUSTERS", "SRUN_CPUS_PER_TASK"}
    assert left == kept


@pytest.mark.parametrize(("scheduler", "environment", "options", "expected"), [
    ("slurm", {"ACCOUNT": "a", "PARTITION": "p", "QOS": "q"}, [],
     {"account": "a", "partition": "p", "qos": "q"}),
    ("pbs", {"ACCOUNT": "a", "PARTITION": "p", "QOS": "q"}, [],
     {"A": "a", "q": "p", "l:qos": "q"}),
    ("slurm", {"ACCOUNT": "a", "PARTITION": "p"}, ["--partition", "x"],
     {"account": "a", "partition": "x"}),
    ("pbs", {"ACCOUNT": "a", "PARTITION": "p"}, ["--set", "A=x"], {"A": "x", "q": "p"}),
])
def test_account_and_queue_of_the_environment(cluster, monkeypatch, scheduler, environment,
                                              options, expected):
    """Without a site file, its words may be set in the environment."""
    before = asked(script(scheduler, "train_cpu"), scheduler)
    for name, value in environment.items():
        monkeypatch.setenv(f"HPC_DEEPFAKE_{name}", value)
    assert run("submit", scheduler, "train_cpu", *options) == 0
    assert cluster.commands[0] == [*DIALECTS[scheduler].command]
    assert asked(cluster.calls[0]["script"], scheduler) == {**before, **expected}


def test_slurms_own_variables_take_precedence_over_the_sites(cluster, monkeypatch):
    monkeypatch.setenv("HPC_DEEPFAKE_ACCOUNT", "sites")
    monkeypatch.setenv("SBATCH_ACCOUNT", "mine")
    assert run("submit", "slurm", "train_cpu") == 0
    assert cluster.commands == [["sbatch", "--parsable"]]
    assert cluster.calls[0]["environment"]["SBATCH_ACCOUNT"] == "mine"


# --- chains


@both
def test_a_chain_is_one_run_in_several_jobs(cluster, capsys, scheduler):
    """Each starts after the previous one, whatever its outcome, on which jobs/lib acts."""
    assert run("submit", scheduler, "train_4gpu", "--chain", "3", "--after", "9") == 0
    suffix = {"slurm": "", "pbs": ".server"}[scheduler]
    depend = {"slurm": "--dependency={}", "pbs": "depend={}"}[scheduler]
    for command, before in zip(cluster.commands, ("afterok:9", f"afterany:101{suffix}",
                                                  f"afterany:102{suffix}"), strict=True):
        assert depend.format(before) in command
    first, *others = (call["script"] for call in cluster.calls)
    values = assigned(first)
    assert values["HPC_DEEPFAKE_CHAIN"] == "first"
    following = first.replace("HPC_DEEPFAKE_CHAIN=first\n", "HPC_DEEPFAKE_CHAIN=next\n")
    assert others == [following] * 2 and following != first
    assert re.fullmatch(r"runs/\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-train_4gpu", values["RUN"])
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"run: {values['RUN']}"
    assert out[1] == "cost: at most 12 node hours, 384 core hours, 48 GPU hours"
    assert [line.split(",")[0] for line in out[2:5]] == [
        f"submitted: job {100 + number}{suffix} ({number} of 3)" for number in (1, 2, 3)]
    assert out[5:] == [f"meanwhile: hpc-deepfake job status {values['RUN']}",
                       f"afterwards: hpc-deepfake job report {values['RUN']}"]


@pytest.mark.parametrize(("words", "environment", "expected"), [
    (["--var", "RUN=runs/mine"], {}, "runs/mine"),
    (["--var", "RUN=runs/mine"], {"RUN": "theirs"}, "runs/mine"),
    ([], {"RUN": "theirs"}, "theirs"),
    (["--", "--run", "runs/mine"], {}, None),
    (["--", "--run=runs/mine"], {}, None),
])
def test_the_run_of_a_chain_may_be_named(cluster, monkeypatch, words, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert run("submit", "slurm", "compare", "--chain", "2", *words) == 0
    for call in cluster.calls:
        assert assigned(call["script"]).get("RUN") == expected


def test_preprocessing_jobs_of_a_chain_share_the_data_file(cluster, capsys):
    assert run("submit", "slurm", "preprocess", "--chain", "2", "--var", "DATA=x.h5") == 0
    assert len(cluster.calls) == 2
    assert "RUN" not in assigned(cluster.calls[0]["script"])
    assert "run:" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["evaluate", "pipeline", "scaling_study"])
def test_no_chain_of_jobs_that_cannot_resume(cluster, name):
    with pytest.raises(InputError, match="a second job would repeat the first"):
        run("submit", "slurm", name, "--chain", "2")
    assert not cluster.calls


def test_a_chain_that_breaks_names_the_jobs_already_queued(cluster):
    cluster.refuse(3)
    with pytest.raises(InputError, match="submitted: 101, 102; to cancel them: scancel 101 102"):
        run("submit", "slurm", "train_cpu", "--chain", "4")


# --- errors of the schedulers


@both
def test_a_refusal_is_one_message_and_code_2(cluster, capsys, monkeypatch, scheduler):
    cluster.refuse(1)
    monkeypatch.setattr(sys, "argv", ["hpc-deepfake", "job", "submit", scheduler, "train_cpu"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    out, err = capsys.readouterr()
    assert out.splitlines() == [COST.format(8, 128)]
    assert err.count("error: ") == 2  # ours, and sbatch's
    assert err.startswith(f"error: {DIALECTS[scheduler].command[0]} refused the job: ")
    assert "invalid partition specified: nope" in err and "--set KEY=VALUE" in err


@both
def test_a_machine_without_the_scheduler(cluster, monkeypatch, scheduler):
    monkeypatch.setenv("PATH", str(cluster.here))
    with pytest.raises(InputError, match=r"cannot start \w+ .*: submit on a login node"):
        run("submit", scheduler, "train_cpu")


@pytest.mark.parametrize(("program", "printed", "number"), [
    ("sbatch", "Submitted batch job 4711", "4711"),
    ("qsub", "welcome\n4711.server\ngoodbye", "4711.server"),
    ("sbatch", "Submitted batch job 4711 on cluster big", "4711"),
    ("sbatch", "4711;big\n3 jobs left today", "4711"), ("sbatch", "maintenance today", None),
    ("qsub", "", None), ("sbatch", "4711\0", None)])
def test_an_accepted_job_whose_id_is_printed_in_another_way_or_not_at_all(cluster, capsys, program,
                                                                          printed, number):
    """As by a site's own wrapper."""
    answer = cluster.here.parent / "answer"
    answer.write_text(printed)
    (cluster.here.parent / "bin" / program).write_text(f"#!/bin/sh\ncat {answer}\n")
    words = ["submit", "slurm" if program == "sbatch" else "pbs", "train_cpu"]
    if number:
        run(*words)
        assert f"submitted: job {number}" in capsys.readouterr().out
        return
    look = "squeue --me" if program == "sbatch" else r"qstat -u \$USER"
    with pytest.raises(InputError, match=f"{program} ended well but gave no job id: look in "
                       f"{look}"):
        run(*words)


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_submission_that_takes_long(cluster, capsys, monkeypatch, request, interrupted):
    """It is waited for, with a word; once interrupted, the job may be queued nevertheless."""
    monkeypatch.setattr(submission, "_PATIENCE", 0.1)
    log.start()
    # a shell starts what runs in the background with interrupts ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(partial(signal.signal, signal.SIGINT, before))
    program = cluster.here.parent / "bin" / "sbatch"
    end = f"kill -INT {os.getpid()}; exec sleep 60" if interrupted else "echo 4711"
    program.write_text(f"#!/bin/sh\nsleep 0.5\n{end}\n")
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            run("submit", "slurm", "train_cpu")
    else:
        run("submit", "slurm", "train_cpu")
    out, err = capsys.readouterr()
    assert err.startswith("waiting for sbatch, which has not answered for 0.1 s\n")
    assert ("sbatch may have queued the job: look in squeue --me" in err) == interrupted
    assert ("submitted: job 4711" in out) != interrupted


@pytest.mark.parametrize(("dialect", "words", "log"), [
    (SLURM, [], "hd-train-cpu-7.log"), (SLURM, ["--set", "output=/logs/%j/%x.txt"],
                                        "/logs/7/hd-train-cpu.txt"),
    (SLURM, ["--unset", "output", "--set", "chdir=/there"], "/there/slurm-7.out"),
    (PBS, [], "hd-train-cpu.o7"), (PBS, ["--set", "o=/logs/x"], "/logs/x"),
    (SLURM, ["--array", "1-2"], "hd-train-cpu-*.log"), (PBS, ["--array", "1-2"],
                                                        "hd-train-cpu.o7.*"),
])
def test_where_the_log_will_be(cluster, capsys, dialect, words, log):
    run("render", dialect.name, "train_cpu", *words)
    now = directives(capsys.readouterr().out, dialect)
    assert log_file(dialect, now, {SLURM: "7", PBS: "7[].server"}[dialect]) == os.path.join(
        cluster.here, log)
