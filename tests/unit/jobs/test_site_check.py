"""``hpc-deepfake job check``, and the scripts that the example sites get: the golden ones.

To rewrite them after a change that is meant (then look at the difference):
    REWRITE_GOLDEN=1 python -m pytest tests/unit/jobs/test_site_check.py -k golden
"""

from __future__ import annotations

import os
import re
import shutil

import pytest
from conftest import ROOT

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs import checking, script
from hpc_deepfake.jobs.checking import judging, rendering
from hpc_deepfake.jobs.checking.launching import commands
from hpc_deepfake.jobs.script import DIALECTS
from hpc_deepfake.jobs.script.request import Portable, Request
from hpc_deepfake.jobs.site import PREFIX, Site, for_site, reading

GOLDEN = ROOT / "tests" / "data" / "sites"
EXAMPLES = ("perlmutter", "lumi-g", "juwels-booster", "alps", "example-slurm-lmod", "polaris",
            "gadi", "derecho")


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch) -> None:
    """A machine without site, scheduler, shellcheck and modules of its own."""
    for name in [name for name in os.environ if name.startswith((PREFIX, "SITE", "SBATCH_"))]:
        monkeypatch.delenv(name)
    for name in ("PROJECT", "PSCRATCH", "WORK"):
        monkeypatch.delenv(name, raising=False)
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: which(name) if name == "bash" else None)


def checked(capsys, *words: str) -> tuple[int, str]:
    code = checking.main(words)
    return code, capsys.readouterr().out


def site(**words: str) -> Site:
    return Site("mine", "mine.sh", words)


@pytest.mark.parametrize("job", ["train_4gpu", "preprocess"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_golden_scripts_of_the_examples(name: str, job: str) -> None:
    read = reading.read(name)
    dialect = DIALECTS[read.words["SCHEDULER"]]
    text = (ROOT / "jobs" / dialect.name / f"{job}.sh").read_text(encoding="utf-8")
    request = Request(inserted={"HPC_DEEPFAKE_HOME": "/home/me/hpc_deepfake"})
    new = script.render(text, dialect, for_site(read, text, dialect, request))
    golden = GOLDEN / name / f"{job}.sh"
    if os.environ.get("REWRITE_GOLDEN"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(new, encoding="utf-8")
    assert new == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", EXAMPLES)
def test_nothing_is_wrong_with_an_example_but_its_placeholders(name, capsys):
    code, out = checked(capsys, name)
    problems = [line for line in out.splitlines() if line.startswith("problem")]
    assert code == 2 and problems
    assert all("replace project123" in line for line in problems)
    text = (ROOT / "env" / "sites" / f"{name}.sh").read_text(encoding="utf-8")
    assert "Not a\n# real machine" in text or "has\n# NOT been run there" in text \
        or "has NOT been run there" in text
    assert re.search(r"https://\S+", text)


def test_a_site_with_nothing_wrong(capsys, monkeypatch):
    monkeypatch.setenv("HPC_DEEPFAKE_ACCOUNT", "p1")
    code, out = checked(capsys, "polaris")
    assert code == 0 and "0 problems" in out
    assert "train_multinode  gpu    p1              preemptable         2     4   16    4" in out
    assert "\ntrain_multinode:\n  mpiexec -n 8 --ppn 4 --depth 16 --cpu-bind depth\n" in out
    assert "note: commands that this machine lacks were skipped: conda\n" in out
    assert "note: shellcheck is not installed here" in out


def test_the_containers_command_is_shown(capsys):
    _, out = checked(capsys, "lumi-g")
    assert re.search(r"\ntrain_4gpu:\n  srun --mpi=cray_shasta .*--ntasks=8 .*--cpus-per-task=7\n"
                     r"  singularity exec --rocm --bind .* /scratch/project123/.*\.sif\n", out)


def test_a_file_by_its_path(tmp_path, capsys):
    file = tmp_path / "mine.sh"
    file.write_text("export HPC_DEEPFAKE_GPU_REQUEST='--gres=gpu:{gpus}'\n")
    code, out = checked(capsys, str(file), "--scheduler", "slurm")
    assert code == 0 and out.startswith(f"{file}: slurm, modules none\n")
    code, out = checked(capsys, str(file))
    assert "note: the file names no scheduler; checked for slurm" in out
    file.write_text("export HPC_DEEPFAKE_OPTIONS='-l x=1'\n")
    code, out = checked(capsys, str(file))
    assert code == 2 and "0 jobs rendered" in out
    problems = [line for line in out.splitlines() if line.startswith("problem: ")]
    assert problems == [f"problem: all jobs: {file} line 1: HPC_DEEPFAKE_OPTIONS: -l: sbatch has "
                        "no such option"]
    with pytest.raises(InputError, match="cannot read the site file"):
        checked(capsys, str(tmp_path / "none.sh"))
    with pytest.raises(InputError, match=r"did you mean polaris\?"):
        checked(capsys, "polaris.sh")
    with pytest.raises(InputError, match=r"there are .*polaris"):
        checked(capsys, "nowhere")


def test_jobs_that_are_refused_for_one_reason_are_one_problem(tmp_path, capsys, monkeypatch):
    """Of all jobs, or of some; without scripts, shellcheck is not asked."""
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: "/x" if name == "shellcheck" else which(name))
    monkeypatch.setattr(rendering, "_says", lambda command, folder: iter(
        ["asked without files"] if len(command) < 4 and command[0] == "shellcheck" else []))
    file = tmp_path / "mine.sh"
    file.write_text("export HPC_DEEPFAKE_OPTIONS=--constrain=gpu\nsource /no/such\ntrue\n")
    code, out = checked(capsys, str(file), "--scheduler", "slurm")
    assert code == 2 and out.count("\nproblem: ") == 1 and "problem: all jobs: " in out
    assert f"note: {file} line 2: /no/such: No such file or directory" in out
    file.write_text("export HPC_DEEPFAKE_GPU_REQUEST=--gres=gpu:{gpus}\n")
    code, out = checked(capsys, str(file), "--scheduler", "pbs")
    assert code == 2 and out.count("\nproblem: ") == 1
    assert "problem: train_4gpu, train_multinode: " in out


def test_a_script_that_bash_cannot_read_is_a_problem(capsys, monkeypatch):
    render = rendering.render
    monkeypatch.setattr(rendering, "render", lambda *words: render(*words) + "if true\n")
    code, out = checked(capsys, "debian")
    assert code == 2 and re.search(r"problem: train_cpu.sh: line \d+: syntax error", out)


@pytest.mark.parametrize(("words", "scheduler", "message"), [
    ({"ACCOUNT": "project123"}, "slurm", "mine.sh: HPC_DEEPFAKE_ACCOUNT: replace project123"),
    ({"LAUNCHER": "srun"}, "pbs", "srun is SLURM's"),
    ({"CPU_PARTITION": "c"}, "slurm", "no partition for gpu jobs: set HPC_DEEPFAKE_GPU_PARTITION"),
    ({"GPU_ACCOUNT": "c"}, "slurm", "no account for cpu and small jobs: set HPC_DEEPFAKE_CPU_ACC"),
    ({"GPUS": "0"}, "slurm", "set HPC_DEEPFAKE_DEVICE=cpu"),
    ({"CONTAINER": "apptainer"}, "slurm", "there is no HPC_DEEPFAKE_IMAGE"),
])
def test_problems(words, scheduler, message):
    found = list(judging.problems(site(**words), scheduler))
    assert len(found) == 1 and message in found[0]


def test_gpu_aware_mpi_without_its_library():
    def found(*modules: str) -> list[str]:
        words = Site("m", "m.sh", {}, modules, {"MPICH_GPU_SUPPORT_ENABLED": "1"})
        return [note for note in judging.notes(words, "slurm") if "GTL library" in note]

    assert found("PrgEnv-gnu", "cray-mpich")
    assert not found("PrgEnv-gnu", "craype-accel-nvidia80")


@pytest.mark.parametrize(("words", "scheduler", "message"), [
    ({"RESUBMIT": "no"}, "slurm", "not used with slurm: HPC_DEEPFAKE_RESUBMIT"),
    ({"SRUN_MPI": "pmix"}, "pbs", "not used with pbs: HPC_DEEPFAKE_SRUN_MPI"),
    ({"DEVICE": "cpu"}, "slurm", "jobs still request GPUs"),
    ({"LAUNCHER": "mpiexec --cpu-bind depth"}, "pbs", "is not told how many ranks to start"),
    ({"INTERFACE": "ib7", "IMAGE": "/i.sif"}, "slurm",
     "not on this machine: network interface ib7, image /i.sif"),
    ({"ENV": "/no/env", "BIND": "/a:/b", "LAUNCHER": "nosuchlauncher -n {ranks}"}, "slurm",
     "machine: environment /no/env, folder to bind /a, folder to bind /b, launcher nosuchlauncher"),
])
def test_notes(words, scheduler, message, tmp_path):
    assert any(message in note for note in judging.notes(site(**words), scheduler, tmp_path))


def test_what_this_machine_has_is_not_noted(tmp_path):
    (tmp_path / "sys/class/net/ib7").mkdir(parents=True)
    words = site(INTERFACE="ib7", IMAGE="/i.sif")
    (tmp_path / "i.sif").touch()
    assert not list(judging.notes(words, "slurm", tmp_path))


def test_commands_that_start_ranks():
    """As jobs/lib starts them: the site's words with the job's numbers, in words for mpirun."""
    two = [(Portable(2, 4, 8, 4), "gpu"), (Portable(1, 16, 1, 0), "cpu")]
    own = site(LAUNCHER="flux run -N {nodes} -n {ranks} --per={per_node} -c {cpus} -g {gpus}")
    assert [started.launcher for started in commands(own, "slurm", two)] == [
        "flux run -N 2 -n 8 --per=4 -c 8 -g 4", "flux run -N 1 -n 16 --per=16 -c 1 -g 0"]
    assert [started.launcher for started in commands(site(), "pbs", two)] == [
        "mpirun for 8 ranks, 4 on each node", "mpirun for 16 ranks, 16 on each node"]
    env = site(SRUN_MPI="pmix", SRUN_OPTIONS="--environment=a.toml")
    first, second = (started.launcher for started in commands(env, "slurm", two))
    assert "--mpi=pmix" in first and first.endswith("--cpus-per-task=8 --environment=a.toml")
    assert "--ntasks=16 --ntasks-per-node=16 --cpus-per-task=1" in second
    with pytest.raises(InputError, match=r"give apptainer, .* or the words of a"):
        commands(site(IMAGE="x", CONTAINER="docker"), "slurm", two)
