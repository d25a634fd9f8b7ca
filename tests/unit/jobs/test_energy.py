"""``hpc-deepfake job report``: energy and use of GPUs, where SLURM's accounting has them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from hpc_deepfake.jobs import command as job
from hpc_deepfake.jobs.accounting import energy
from hpc_deepfake.jobs.accounting.slurm import FIELDS, parse_sacct

# The format of SLURM 22.05 and of its source for the fields that its site must set up (energy,
# gres/gpuutil, gres/gpumem): a preflight check, then a training on 2 nodes with 4 GPUs each.
SACCT = """\
77|COMPLETED|0:0|1795645818|1795645818|1795645819|3600|64|2||26-16:00:00||536870912K|billing=64,cpu=64,energy=5040000,gres/gpu=8,mem=536870912K,node=2|hd-train-multinode
77.batch|COMPLETED|0:0|1795645819|1795645819|1795645819|3600|32|1|1|00:00.083|12512K||cpu=32,gres/gpu=4,mem=268435456K,node=1|batch
77.0|COMPLETED|0:0|1795645819|1795645819|1795645819|60|64|2|8|00:21.130|66788K||cpu=64,gres/gpu=8,mem=536870912K,node=2|doctor
77.1|COMPLETED|0:0|1795645879|1795645879|1795645879|3540|64|2|8|26-15:00:00|4194304K||cpu=64,gres/gpu=8,mem=536870912K,node=2|training
"""
ENERGY = """\
77||billing=64,cpu=64,energy=5040000,gres/gpu=8,mem=536870912K,node=2||
77.batch|2400000|cpu=32,gres/gpu=4,mem=268435456K,node=1|cpu=00:00:00,energy=2400000,fs/disk=8224.49K,gres/gpumem=0,gres/gpuutil=0,mem=12512K,pages=0,vmem=681182K|cpu=00:00:00,energy=2400000,gres/gpumem=0,gres/gpuutil=0,mem=12512K
77.0|36000|cpu=64,gres/gpu=8,mem=536870912K,node=2|cpu=00:00:02,energy=18000,gres/gpumem=524288K,gres/gpuutil=3|cpu=00:00:03,energy=18000,gres/gpumem=540672K,gres/gpuutil=9
77.1|5000000|cpu=64,gres/gpu=8,mem=536870912K,node=2|cpu=05:00:00,energy=2500000,gres/gpumem=40370176K,gres/gpuutil=87|cpu=05:01:00,energy=2501000,gres/gpumem=40894464K,gres/gpuutil=98
"""
# as the cluster of tests/schedulers printed it: nothing is measured there
PLAIN = """\
77||billing=4,cpu=4,mem=1638400K,node=2||
77.batch|0|cpu=2,mem=819200K,node=1||
77.0|0|cpu=4,mem=1638400K,node=2|cpu=00:00:00,energy=0,fs/disk=8224.49K,mem=84290K,pages=0,vmem=681182K|cpu=00:00:00,energy=0,fs/disk=10629.38K,mem=84688K,pages=0,vmem=681360K
77.1|18446744073709551614|cpu=4,energy=18446744073709551614,mem=1638400K,node=2||
"""
FAKE = f"""#!{sys.executable}
import sys
from pathlib import Path
folder = Path(__file__).parent
energy = "ConsumedEnergyRaw" in sys.argv[-1]
print((folder / ("energy" if energy else "jobs")).read_text(), end="")
"""


@pytest.fixture
def sacct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files that sacct prints: ``jobs``, and ``energy`` with its fields."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sacct").write_text(FAKE)
    (folder / "sacct").chmod(0o755)
    (folder / "jobs").write_text(SACCT)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def test_energy_and_gpus_in_columns_of_their_own(sacct: Path, capsys: pytest.CaptureFixture[str],
                                                 tmp_path: Path) -> None:
    (sacct / "energy").write_text(ENERGY)
    assert job.main(["report", "77", "--json", "x.json"]) == 0
    table = capsys.readouterr().out.split("energy and GPUs")[1].splitlines()
    assert [line.split() for line in table] == [
        ["energy", "mean", "power", "GPU", "use", "busiest", "GPU", "memory"],
        ["77", "hd-train-multinode", "1.40", "kWh", "1.40", "kW", "87.0%", "98.0%", "39.0", "GB"],
        ["batch", "0.67", "kWh", "667", "W"],
        ["0", "doctor", "10.00", "Wh", "600", "W", "3.0%", "9.0%", "528", "MB"],
        ["1", "training", "1.39", "kWh", "1.41", "kW", "87.0%", "98.0%", "39.0", "GB"]]
    assert max(map(len, table)) <= 100
    written = json.loads((tmp_path / "x.json").read_text())
    run = written["jobs"][0]
    assert (run["energy_j"], run["gpu_use"], run["gpu_use_max"]) == (5040000, 0.87, 0.98)
    assert run["gpu_memory_bytes"] == 40894464 * 1024
    assert written["total"]["energy_j"] == 5040000


@pytest.mark.parametrize("answer", [PLAIN, "", "sacct: error: Invalid field requested\n", SACCT])
def test_no_columns_where_nothing_is_measured(sacct: Path, capsys: pytest.CaptureFixture[str],
                                              answer: str) -> None:
    (sacct / "energy").write_text(answer)
    assert job.main(["report", "77"]) == 0
    out = capsys.readouterr().out
    assert "hd-train-multinode" in out and "energy" not in out and "GPU use" not in out


@pytest.mark.parametrize(("lines", "joules"), [
    # extern is there for the whole job; else the steps, one after another; else the batch script
    ("77|||| 77.batch|5|||| 77.extern|11||| 77.0|2||| 77.1|7|||", 11),
    ("77|||| 77.batch|5||| 77.0|2||| 77.1|7|||", 9), ("77|||| 77.batch|5||| 77.0|0|||", 5),
    ("77|20||| 77.batch|5||| 77.0|2|||", 20), ("77|||| 77.0||||", None)])
def test_the_energy_of_a_job(lines: str, joules: float | None) -> None:
    jobs = SACCT + SACCT.splitlines()[1].replace("batch", "extern") + "\n"
    (run,) = parse_sacct(jobs)
    energy.parse(lines.replace(" ", "\n"), [run])
    assert run.energy == joules


def test_gpu_memory_that_a_run_measured_itself(tmp_path: Path,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "summary.json").write_text(json.dumps({"ranks": 2, "usage": [
        {"wall_s": 9.0, "cpu_s": 3.0, "max_rss_mb": 1.0, "max_gpu_mb": peak}
        for peak in (512.0, 2048.0)]}))
    assert job.main(["report", str(tmp_path)]) == 0
    assert " GPU memory 2.0 GB most that TensorFlow held, of any rank summary.json" \
        in " ".join(capsys.readouterr().out.split())


def test_each_run_of_a_requeued_job_has_its_own() -> None:
    def line(**values: str) -> str:
        return "|".join({**dict.fromkeys(FIELDS, ""), "State": "COMPLETED", **values}[name]
                        for name in FIELDS) + "\n"

    runs = parse_sacct((line(JobID="5") + line(JobID="5.0")) * 2)
    energy.parse("5|10|||\n5.0|9|||\n5|20|||\n5.0|19|||\n", runs)
    assert [(run.energy, run.steps[0].energy) for run in runs] == [(10, 9), (20, 19)]
