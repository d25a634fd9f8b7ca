"""The most that jobs may cost, from the directives of their scripts."""

from __future__ import annotations

import pytest
from job_scripts import JOBS

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs import command, cost
from hpc_deepfake.jobs.cost import Cost
from hpc_deepfake.jobs.script import DIALECTS, PBS, SLURM

both = pytest.mark.parametrize("scheduler", DIALECTS)


def script(prefix: str, *directives: str, values: str = "") -> str:
    lines = "".join(f"#{prefix} {directive}\n" for directive in directives)
    return f"#!/bin/bash -l\n{lines}set -euo pipefail\n{values}\n# What to change\ntrain\n"


def slurm(*directives: str) -> Cost:
    return cost.of(script("SBATCH", *(f"--{directive}" for directive in directives)), SLURM)


def pbs(*directives: str, values: str = "") -> Cost:
    return cost.of(script("PBS", *directives, values=values), PBS)


@both
@pytest.mark.parametrize(("name", "expected"), [
    ("preprocess", Cost(4, 64, 0)), ("train_cpu", Cost(8, 128, 0)),
    ("train_4gpu", Cost(4, 128, 16)), ("train_multinode", Cost(8, 256, 32)),
    ("evaluate", Cost(0.5, 4, 0))])
def test_the_jobs_of_this_project(scheduler: str, name: str, expected: Cost) -> None:
    text = (JOBS / scheduler / f"{name}.sh").read_text()
    assert cost.of(text, DIALECTS[scheduler]) == expected


SIZE = ("nodes=2", "ntasks-per-node=4", "cpus-per-task=8", "time=1-06:00:00")


@pytest.mark.parametrize(("more", "expected"), [
    ((), (60, 1920, 0)), (("gpus-per-node=a100:4",), (60, 1920, 240)),
    (("gres=gpu:h100:2,nvme:1",), (60, 1920, 120)), (("gpus-per-task=1",), (60, 1920, 240)),
    (("array=1-9:2,20%3",), (360, 11520, 0)), (("nodes=2-4",), (120, 3840, 0)),
    # nodes of which all is charged, whatever is requested
    (("exclusive", "gpus-per-node=4"), (60, None, 240)), (("exclusive=user",), (60, None, 0)),
    # other numbers of ranks on each node
    (("ntasks=5",), (60, 1200, 0)), (("mail-type=END", "mail-user=me@site"), (60, 1920, 0))])
def test_slurm(more: tuple[str, ...], expected: tuple[float | None, ...]) -> None:
    assert slurm(*SIZE, *more) == Cost(*expected)


@pytest.mark.parametrize(("directives", "expected"), [
    (("ntasks=8", "cpus-per-task=2", "time=30"), Cost(None, 8, 0)),
    (("ntasks=8", "gpus=a100:8", "time=30"), Cost(None, 4, 4)),
    (("nodes=2", "ntasks-per-node=4"), Cost(None, None, None)),
    (("nodes=2", "time=UNLIMITED"), Cost(None, None, None))])
def test_what_a_script_does_not_say_is_unknown(directives: tuple[str, ...], expected: Cost) -> None:
    assert slurm(*directives) == expected


HOURS = "-l walltime=02:30:00"


@pytest.mark.parametrize(("directives", "expected"), [
    (("-l select=2:ncpus=32:mpiprocs=4:ngpus=4",), (5, 160, 20)),
    # nodes of two kinds, as chunks: other numbers of ranks and CPUs
    (("-l select=2:ncpus=4:mpiprocs=4+ncpus=2:mpiprocs=2",), (7.5, 25, 0)),
    (("-l select=2:ncpus=32", "-l place=scatter:excl"), (5, None, 0)),
    # Polaris: nodes as a whole
    (("-l select=2:system=polaris", "-l place=scatter"), (5, None, None)),
    (("-l select=1:ncpus=4", "-J 0-9:2", "-m e", "-M me@site"), (12.5, 50, 0))])
def test_pbs(directives: tuple[str, ...], expected: tuple[float | None, ...]) -> None:
    assert pbs(*directives, HOURS) == Cost(*expected)


def test_pbs_without_select() -> None:
    """Resources of the whole job; the nodes are those of the ranks' layout."""
    whole = ("-l ncpus=96", "-l ngpus=8", HOURS)
    assert pbs(*whole) == Cost(None, 240, 20)
    assert pbs(*whole, values="job_layout='2 4 12'") == Cost(5, 240, 20)


def test_variables_of_sbatch_take_precedence() -> None:
    text = script("SBATCH", *(f"--{directive}" for directive in SIZE))
    environment = {"SBATCH_TIMELIMIT": "60", "SBATCH_GPUS_PER_NODE": "4", "SBATCH_ARRAY_INX": "1-3"}
    assert cost.of(text, SLURM, environment) == Cost(6, 192, 24)


@pytest.mark.parametrize(("bound", "text"), [
    (Cost(8, 256, 32), "at most 8 node hours, 256 core hours, 32 GPU hours"),
    (Cost(1 / 3, 12345, 0), "at most 0.33 node hours, 12,345 core hours"),
    (Cost(5, None, 20), "at most 5 node hours, 20 GPU hours"), (Cost(None, None, None), "unknown"),
    (Cost(1, 2, 0) + Cost(2, None, 3), "at most 3 node hours, 3 GPU hours")])
def test_as_text(bound: Cost, text: str) -> None:
    assert str(bound) == text


@both
def test_scripts_together(scheduler: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each job once, with its own options; the most restarts of any of them."""
    assert command.main(["cost", scheduler, "preprocess", "+", "train_4gpu", "--nodes", "1", "+",
                         "evaluate", "--time", "30"]) == 0
    assert capsys.readouterr().out == (
        "cost: at most 8.5 node hours, 196 core hours, 16 GPU hours for one run; a job that is "
        "stopped runs again up to 20 times\n")
    assert command.main(["cost", scheduler, "evaluate", "--nodes=2", "--options=", "--set",
                         "mail-type=END" if scheduler == "slurm" else "m=e"]) == 0
    assert capsys.readouterr().out == "cost: at most 1 node hours, 8 core hours\n"
    with pytest.raises(InputError, match="unknown job 'nowhere'"):
        command.main(["cost", scheduler, "evaluate", "+", "nowhere"])
    with pytest.raises(InputError, match="missing job"):
        command.main(["cost", scheduler, "evaluate", "+"])


@pytest.mark.parametrize("indices", ["", "a", "1-", "1-4:0", "3;4"])
def test_impossible_indices(indices: str) -> None:
    with pytest.raises(InputError, match="are not the indices of an array"):
        cost.elements(indices)


def test_an_array_without_indices_is_not_rendered_either(
        capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever says it, also without a time limit."""
    for words in (["--array", "a"], ["--set", "array=1-", "--unset", "time"]):
        with pytest.raises(InputError, match="are not the indices of an array"):
            command.main(["render", "slurm", "train_cpu", *words])
    assert not capsys.readouterr().out


@pytest.mark.parametrize(("scheduler", "words", "lines", "bound"), [
    # unequal nodes
    ("slurm", ["nodes=3", "ntasks=10"], ["--nodes=3", "--ntasks=10"], Cost(24, 320, 0)),
    ("pbs", ["select=2:ncpus=4:mpiprocs=4+1:ncpus=2:mpiprocs=2"],
     ["-l select=2:ncpus=4:mpiprocs=4+1:ncpus=2:mpiprocs=2"], Cost(24, 80, 0)),
    # whole nodes
    ("slurm", ["exclusive"], ["--exclusive"], Cost(8, None, 0)),
    ("pbs", ["place=scatter:excl"], ["-l place=scatter:excl"], Cost(8, None, 0)),
    # mail
    ("slurm", ["mail-type=END,FAIL", "mail-user=me@site"],
     ["--mail-type=END,FAIL", "--mail-user=me@site"], Cost(8, 128, 0)),
    ("pbs", ["m=ae", "M=me@site"], ["-m ae", "-M me@site"], Cost(8, 128, 0))])
def test_unequal_and_whole_nodes_and_mail(scheduler: str, words: list[str], lines: list[str],
                                          bound: Cost, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [part for word in words for part in ("--set", word)]
    command.main(["render", scheduler, "train_cpu", *settings])
    rendered = capsys.readouterr().out
    assert {f"{DIALECTS[scheduler].prefix} {line}" for line in lines} <= set(rendered.splitlines())
    assert cost.of(rendered, DIALECTS[scheduler]) == bound
