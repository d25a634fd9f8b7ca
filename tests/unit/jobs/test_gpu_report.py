"""benchmarks/gpu.sh: its options, and the report of what its parts left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from speed import limit

sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu_ranks
import gpu_report
import gpu_step

SCRIPT = ROOT / "benchmarks" / "gpu.sh"
FOUND = {
    "facts": {"machine": {"host": "n02"}, "nccl_built": 23203, "versions": {"tensorflow": "2.21.0"},
              "gpus": [{"index": 0, "name": "A|100", "memory": 81920, "driver": "580.65",
                        "bus": "0000:07:00.0"}], "topology": "GPU0 X\n"},
    "doctor": {"records": [{"verdict": "warn", "what": "GPU models", "value": "different"},
                           {"verdict": "ok", "what": "NCCL", "value": "2.32"}]},
    "equal-sync": {"strategy": "sync", "ranks": 2, "dense": 1e-7, "worst": 2e-5, "losses": 3e-6,
                   "equal": True},
    "equal-hybrid": {"strategy": "hybrid", "ranks": 2, "dense": 1e-2, "worst": 2e-2, "losses": 0.5,
                     "equal": False, "why": "too far"},
    "step-32": {"batch": 32, "images/s": {"ours": [900.0, 1000.0]},
                "missing": {"pytorch": "no module"}, "ratios": {"ours over keras fit": 2.5}},
    "speed-sequential-1": {"strategy": "sequential", "ranks": 1, "precision": "float32",
                           "deterministic": True, "batch": 32, "images/s": 1000.0},
    "speed-sync-2": {"strategy": "sync", "ranks": 2, "precision": "float32",
                     "deterministic": True, "batch": 32, "images/s": 1900.0},
    "speed-auto-1-tf32": {"strategy": "sequential", "ranks": 1, "precision": "tf32",
                          "deterministic": False, "batch": 32, "images/s": 3000.0},
    "speed-auto-2-tf32": {"strategy": "sync", "ranks": 2, "precision": "tf32",
                          "deterministic": False, "batch": 32, "images/s": 5700.0},
    "reduce": {"by": "NCCL", "ranks": 2, "sizes": {"4096": {"ms": 0.1, "GB/s": 0.04}}}}


def test_the_report_has_all_parts_also_those_that_failed(tmp_path: Path) -> None:
    for name, found in FOUND.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(found))
    (tmp_path / "parts.tsv").write_text("facts\t0\t3\t60\nequal-hybrid\t1\t9\t60\n"
                                        "reduce\t124\t90\t90\ntrain\t0\t8\t90\n"
                                        "predict\t-\t0\t0\nspeed-sync-4\t1\t2\t60\n")
    (tmp_path / "predict.log").write_text("predict: left out, since train wrote no model\n")
    (tmp_path / "speed-sync-4.log").write_text(
        "Traceback (most recent call last):\n  File \"a.py\", line 3, in b\n"
        "ValueError: too few: 3\n"
        "\n-----\nMPI_ABORT was invoked\n-----\n")
    (tmp_path / "equal-hybrid.log").write_text("error: it is off\n-----\nmpirun said more\n")
    (tmp_path / "train.log").write_text("2 epochs in 3.0 s, 700 images/s, wall clock 500\n")
    for run, text in (("train", "a"), ("again", "a")):
        (tmp_path / "work" / run).mkdir(parents=True)
        (tmp_path / "work" / run / "predictions.csv").write_text(text)
    text = gpu_report.report(tmp_path)
    for line in ("| GPU 0 | A\\|100, 81,920 MiB, driver 580.65, 0000:07:00.0 |",
                 "| equal-hybrid | 9 | **failed (1)**: error: it is off |",
                 "| reduce | 90 | **took longer than 90 s**: no output |",
                 "| warn | GPU models | different |",
                 "| predict | 0 | predict: left out, since train wrote no model |",
                 "| speed-sync-4 | 2 | **failed (1)**: ValueError: too few: 3 |",
                 "| Did all parts run? | **no**: equal-hybrid, reduce, predict, speed-sync-4, see "
                 "[Parts](#parts) |", "| Does `hybrid` on 2 ranks equal one? | **no** |",
                 "| ours over keras fit, batch 32 | 2.50 |",
                 "| `sync` on 2 ranks, of 2 single ones | 0.95 |",
                 "| sync | 2 | tf32 | no | 32 | 5,700 | 0.95 |",
                 "| sync | 2 | 1.0e-07 | 2.0e-05 | 3.0e-06 | equal |",
                 "| hybrid | 2 | 1.0e-02 | 2.0e-02 | 5.0e-01 | **too far** |",
                 "| pytorch | left out: no module |  |  |", "| ours over keras fit | 2.50 |",
                 "| sync | 2 | float32 | yes | 32 | 1,900 | 0.95 |", "| 4,096 | 0.100 | 0.04 |",
                 "- train: 2 epochs in 3.0 s, 700 images/s, wall clock 500",
                 "- the same training twice: the same bits"):
        assert f"{line}\n" in text
    assert json.loads((tmp_path / "report.json").read_text())["repeated"] is True
    (tmp_path / "work" / "again" / "predictions.csv").write_text("b")
    assert "**other bits**" in gpu_report.report(tmp_path)


def test_nothing_measured_is_a_report_too(tmp_path: Path) -> None:
    assert gpu_report.report(tmp_path).startswith("# What this node's GPUs do")


@pytest.mark.parametrize(("environ", "message"), [
    ({"DEVICE": "tpu"}, "DEVICE=tpu: give gpu or cpu"),
    ({"PARTS": "facts ranks"}, "PARTS has no ranks: give some of facts doctor")])
def test_wrong_options_are_refused(tmp_path: Path, environ: dict[str, str], message: str) -> None:
    done = run(tmp_path, **environ)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_the_script_writes_a_report_and_no_second_one_there(tmp_path: Path) -> None:
    done = run(tmp_path, PARTS="none", DEVICE="cpu", OUT="out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "report.md").read_text().startswith("# What this node's GPUs do")
    assert "is not empty" in run(tmp_path, PARTS="none", DEVICE="cpu", OUT="out").stderr


@pytest.mark.slow
@pytest.mark.mpi
def test_the_parts_run_on_two_cpu_ranks(tmp_path: Path) -> None:
    """All that a node without GPUs can show of the script: its parts, and what they report."""
    done = run(tmp_path, 900, PARTS="facts equal step speed reduce", DEVICE="cpu", QUICK="1",
               OUT="out", SLOWER="5")
    text = (tmp_path / "out" / "report.md").read_text()
    assert done.returncode == 0 and "Did all parts run? | yes |" in text, done.stderr + text
    for line in ("**Tried on CPUs (`DEVICE=cpu`)", "| Does `sync` on 2 ranks equal one? | yes |",
                 "| Does `hybrid` on 2 ranks equal one? | yes |", "## One step on one CPU, batch 4",
                 "| ours, tf32 | left out: --precision tf32 is a mode of NVIDIA GPUs",
                 "| `hybrid` on 2 ranks, of 2 single ones |", "## Allreduce by MPI, 2 ranks"):
        assert f"\n{line}" in text, text


def run(folder: Path, seconds: int = 60, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("SLURM_", "PBS_"))}
    return subprocess.run(["bash", str(SCRIPT)], cwd=folder, env={**kept, **environ},
                          capture_output=True, text=True, timeout=limit(seconds), check=False)


def test_gradients_are_judged_as_the_tests_do() -> None:
    random = np.random.default_rng(0)
    wanted = [random.normal(size=(3, 2)) for _ in range(12)]
    near = [value * (1 + 1e-7) for value in wanted]
    assert gpu_ranks.judge(near, wanted, [0.7], [0.7]) == {"equal": True}
    far = [*near[:-1], wanted[-1] * 1.001]
    assert not gpu_ranks.judge(far, wanted, [0.7], [0.7])["equal"]
    assert not gpu_ranks.judge(near, wanted, [0.7], [0.71])["equal"]
    assert gpu_ranks.compare(far, wanted)["worst"] == pytest.approx(1e-3, rel=1e-3)


def test_ratios_compare_cases_that_exist() -> None:
    assert {name for pair in gpu_step.RATIOS for name in pair} <= set(gpu_step.CASES)
