"""The report of a scaling study, against known answers."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from scaling_records import amdahl_rate, failed, gustafson_rate, plan, whole
from speed import limit

from hpc_deepfake import scaling
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs.accounting.usage import Report, Usage
from hpc_deepfake.scaling import reporting, study
from hpc_deepfake.scaling.records import rows
from hpc_deepfake.scaling.series import all_series


def report(folder: Path, out: Path, *more: str) -> tuple[str, str]:
    """Markdown and HTML."""
    assert scaling.main(["report", str(folder), "--out", str(out), *more]) == 0
    return (out / "report.md").read_text(), (out / "report.html").read_text()


@pytest.fixture
def failing(tmp_path):
    """Strong and weak on 1, 2 and 4 ranks; one failed, one was stopped, one is missing."""
    folder = tmp_path / "study"
    planned = plan(["strong", "weak"], nodes=4)
    whole(folder, planned, lambda run: amdahl_rate(0.1, run.ranks) if run.kind == "strong"
          else gustafson_rate(0.2, run.ranks))
    for run in planned.runs:
        if run.kind == "weak" and run.ranks > 1:
            for file in (folder / run.name).iterdir():
                file.unlink()
    failed(folder, planned.runs[4], 2, "error: there is no data file <b>x|y</b>\nmore")
    failed(folder, planned.runs[5], 75)
    for file in (folder / planned.runs[2].name).iterdir():
        file.unlink()
    return folder


def test_failed_and_missing_runs_are_listed_and_in_no_figure(failing, tmp_path):
    markdown, page = report(failing, tmp_path / "out")
    assert "3 of 6 runs are finished; 3 failed or are missing" in markdown
    assert "| weak-real-sync-n0002-r1 | failed | 2 | 2 | exit code 2: error: there is no data " \
        "file &lt;b>x\\|y&lt;/b> |" in markdown
    assert "weak-real-sync-n0004-r1 | stopped" in markdown
    assert "strong-real-sync-n0004-r1 | missing" in markdown
    assert "<b>x|y</b>" not in page and "&lt;b&gt;x|y&lt;/b&gt;" in page
    assert "weak, real, sequential: only 1 rank measured, which says nothing" in markdown
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "report.html", "report.md", "runs.csv", "scaling.png", "scaling.svg", "sizes.csv"]


def test_the_numbers_of_the_report(tmp_path):
    planned = plan(["strong", "weak"], nodes=4)
    whole(tmp_path, planned, lambda run: amdahl_rate(0.1, run.ranks) if run.kind == "strong"
          else gustafson_rate(0.2, run.ranks))
    markdown, page = report(tmp_path, tmp_path / "out", "--efficiency", "0.75")
    assert "| 4 | 4 | 1 | 307.7 | 307.7–307.7 | 3.077 | 76.9% | 0.1000 |" in markdown
    assert "| 4 | 4 | 1 | 340.0 | 340.0–340.0 | 3.400 | 85.0% | 0.2000 |" in markdown
    assert "| strong, real, sync | Amdahl | 0.1000 | 0.1000–0.1000 | 100.0 | 0.0% | 3 | 10 |" \
        in markdown
    assert "| weak, real, sync | Gustafson | 0.2000 |" in markdown
    assert "fastest with at least 75% efficiency: 4 ranks" in markdown
    assert "<script" not in page and "http://" not in page.replace("http://www.w3.org", "")
    with open(tmp_path / "out" / "sizes.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["kind"], line["ranks"]) for line in lines] == [
        (kind, ranks) for kind in ("strong", "weak") for ranks in "124"]
    assert float(lines[2]["speedup"]) == pytest.approx(1 / 0.325)
    with open(tmp_path / "out" / "runs.csv", newline="") as file:
        runs = list(csv.DictReader(file))
    assert len(runs) == 6 and float(runs[1]["images_per_s"]) == pytest.approx(100 / 0.55)
    assert (tmp_path / "out" / "scaling.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "out" / "scaling.svg").read_text()


def test_a_report_without_finished_runs(tmp_path):
    study.write(tmp_path, plan(nodes=2))
    markdown, page = report(tmp_path, tmp_path / "out")
    assert "0 of 2 runs are finished" in markdown and "not run" in page
    assert not (tmp_path / "out" / "scaling.png").exists()


def test_names_with_markup_are_shown_as_text(tmp_path):
    """The study's folder has a name that HTML and Markdown would take for markup."""
    folder = tmp_path / "<img src=x> | \u202e & 'a'"
    whole(folder, plan(nodes=2), lambda run: 100.0)
    markdown, page = report(folder, tmp_path / "out")
    assert "<img" not in page and "\u202e" not in page
    assert "<img" not in markdown and "\u202e" not in markdown


@pytest.mark.parametrize("damage", [
    lambda folder: (folder / "metrics.jsonl").write_text(""),
    lambda folder: (folder / "config.json").write_text("{"),
    lambda folder: (folder / "metrics.jsonl").write_text('{"epoch": 1, "seconds": {"input": "x"}, '
                                                         '"step": 1, "images_per_s": 1}\n'),
    lambda folder: (folder / "summary.json").write_text('{"ranks": 2, "train_rows": []}')])
def test_damaged_records_count_as_a_failed_run(tmp_path, damage):
    planned = plan(nodes=2)
    whole(tmp_path, planned, lambda run: 100.0)
    damage(tmp_path / planned.runs[1].name)
    markdown, _ = report(tmp_path, tmp_path / "out")
    assert "1 of 2 runs are finished" in markdown
    assert f"| {planned.runs[1].name} | failed |" in markdown


def test_the_schedulers_accounting_is_joined(tmp_path):
    """Its elapsed time, efficiency and GPU hours win over the run's own; of a failed run its
    state is shown."""
    planned = plan(nodes=2)
    whole(tmp_path, planned, lambda run: 100.0)
    for file in (tmp_path / planned.runs[1].name).iterdir():
        file.unlink()
    failed(tmp_path, planned.runs[1], 137)

    def ask(subject: str) -> Report:
        state = "OUT_OF_MEMORY" if planned.runs[1].name in subject else "COMPLETED"
        return Report(subject, [Usage("1", "x", state, "sacct", elapsed=100.0, cpu=150.0, cpus=2,
                                      gpus=4, nodes=1)])

    good, bad = rows(tmp_path, planned, ask)
    assert (good.elapsed, good.cpu_efficiency, good.source) == (100.0, 0.75, "sacct")
    assert good.gpu_hours == pytest.approx(400 / 3600)
    assert bad.state == "failed" and bad.why == "exit code 137; the scheduler says OUT_OF_MEMORY"


def test_preprocessing_runs(tmp_path):
    planned = plan(["preprocess"], nodes=4)
    study.write(tmp_path, planned)
    for run in planned.runs:
        folder = tmp_path / run.name
        folder.mkdir()
        wall = 100 * (0.2 + 0.8 / run.ranks)
        (folder / "features.h5.json").write_text(json.dumps(
            {"ranks": run.ranks, "images": 1000, "seconds": {
                "wall": wall, "by_rank": [{"read": wall / 4, "ela": wall / 2}] * run.ranks}}))
    runs = rows(tmp_path, planned, None)
    assert [row.rate for row in runs] == pytest.approx([10, 1000 / 60, 25])
    [series] = all_series(runs)
    assert series.fit.serial == pytest.approx(0.2)
    assert runs[2].seconds == {"read": 10.0, "ela": 20.0, "imbalance": 0.0}
    markdown, _ = report(tmp_path, tmp_path / "out")
    assert "## Scaling: preprocess" in markdown and "2.500" in markdown


def test_help_needs_no_mpi():
    for subcommand in ("plan", "report", "predict", "microbench"):
        done = subprocess.run(
            [sys.executable, "-m", "hpc_deepfake.cli", "scaling", subcommand, "--help"],
            text=True, capture_output=True, timeout=limit(60))
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"usage: hpc-deepfake scaling {subcommand}")
        assert "examples:" in done.stdout


def test_report_options_are_checked(tmp_path):
    whole(tmp_path, plan(nodes=1), lambda run: 1.0)
    with pytest.raises(SystemExit):
        reporting.main([str(tmp_path), "--efficiency", "2"])
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write the report"):
        reporting.main([str(tmp_path), "--out", str(tmp_path / "file" / "x")])
    assert math.isclose(1.0, rows(tmp_path, study.read(tmp_path), None)[0].rate)
