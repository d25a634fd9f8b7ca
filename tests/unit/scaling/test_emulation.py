"""Emulated ranks: what they do, how their links are shaped, and that nothing of them is left."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from hpc_deepfake import scaling
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.scaling import emulation
from hpc_deepfake.scaling.emulation import namespaces, plan, results, running
from hpc_deepfake.scaling.emulation.plan import Compute, Task
from hpc_deepfake.scaling.emulation.running import Result
from hpc_deepfake.scaling.records import rows
from hpc_deepfake.scaling.study import read
from hpc_deepfake.strategies import traffic

COMPUTE = Compute(0.05, 0.004, 0.003, 0.09, 0.015)
TASK = Task("sync", 8, 1e9, 2.0, 4, 32, COMPUTE, traffic.TABLE)


def test_links_are_shaped_in_the_words_of_tc():
    assert namespaces.shaping(1e8) == "tbf rate 100000000bit burst 131072b limit 67108864b"
    # a tenth of a millisecond of 100 Gbit/s
    assert "rate 100000000000bit burst 1250000b" in namespaces.shaping(1e11)
    assert "tbf" not in namespaces.shaping(None)


@pytest.mark.parametrize(("text", "rate"), [("100M", 1e8), ("2.5G", 2.5e9), ("1g", 1e9)])
def test_speeds(text, rate):
    assert plan.parse_speed(text) == rate


@pytest.mark.parametrize("text", ["", "G", "10", "10K", "0M", "-1G", "nanG", "1e9G"])
def test_speeds_that_are_none(text, capsys):
    with pytest.raises(ValueError):
        plan.parse_speed(text)
    with pytest.raises(SystemExit) as leave:
        emulation.parser().parse([f"--links={text}"])
    assert leave.value.code == 2 and "like 100M or 2.5G" in capsys.readouterr().err


def test_what_the_busiest_rank_sends():
    kernel, small = 7_372_800, traffic.TABLE.small
    assert plan.sent(TASK) == pytest.approx(2 * 7 / 8 * 4 * (kernel + traffic.REST))
    half = plan.sent(replace(TASK, strategy="sync:fp16"))
    assert half == pytest.approx(2 * 7 / 8 * (2 * kernel + 4 * traffic.REST))
    assert plan.sent(replace(TASK, strategy="hybrid")) / plan.sent(TASK) == pytest.approx(
        0.25, abs=0.02)
    averages = plan.sent(replace(TASK, strategy="local-sgd", every=8))
    assert averages == pytest.approx(3 / 8 * plan.sent(TASK), rel=1e-3)
    assert plan.sent(replace(TASK, strategy="async")) == 4 * (kernel + small)


def test_slow_motion_keeps_the_share_of_the_processors():
    for ranks, link in ((2, 1e9), (32, 1e8), (32, 1e10)):
        slow = plan.slow_motion(ranks, link, 2e9)
        task = replace(TASK, ranks=ranks, link=link, slow=slow)
        assert plan.load(task, 2e9) == pytest.approx(0.3)
    assert plan.slow_motion(2, 1e6, 2e9) == 0.1  # latency would count too much
    assert plan.busy("async", 32) == 2  # only the server's link is always busy


def test_steps_fill_the_time_in_whole_periods():
    assert plan.steps(0.5, 2.0, 4.0) == 4
    assert plan.steps(9.0, 2.0, 4.0) == 2
    assert plan.steps(1e-4, 1.0, 4.0) == 20
    assert plan.steps(0.1, 1.0, 2.0, period=8) == 16
    assert plan.steps(9.0, 1.0, 1.0, period=8) == 8


def test_a_task_reaches_the_workers():
    assert Task.of_json(json.loads(json.dumps(TASK.as_json()))) == TASK


@pytest.fixture
def measured():
    """Two strategies on 2 to 8 ranks that communicate for 0.1 s, and a row that doesn't count."""
    made = [Result(replace(TASK, strategy=name, ranks=ranks), (step, step + 0.01, step), 0.1, 0.3)
            for ranks in (2, 4, 8) for name, step in (("sync", COMPUTE.total + 0.1),
                                                      ("hybrid", COMPUTE.total + 0.05))]
    return [*made, Result(replace(TASK, strategy="local-sgd"), (9.0,), 8.0, 0.9)]


def test_results_are_written(tmp_path, measured):
    sentences = results.write(tmp_path, measured, 8, {"machine": "this one"})
    assert "Stopped after 7 of 8 rows" in sentences[-1]
    assert "Stopped after 7 of 8 rows" in (tmp_path / "emulation.md").read_text()
    assert "1 of 7 rows are limited by this machine's processors" in sentences[-2]
    assert "on 8 ranks, times sync: hybrid 1.23" in sentences[0]
    with open(tmp_path / "emulation.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert float(lines[0]["images_per_s"]) == pytest.approx(64 / (COMPUTE.total + 0.1))
    assert float(lines[0]["communication_share"]) == pytest.approx(0.1 / (COMPUTE.total + 0.1))
    assert [line["limited_by_processors"] for line in lines] == ["0"] * 6 + ["1"]
    assert json.loads((tmp_path / "emulation.json").read_text())["machine"] == "this one"
    assert "<svg" in (tmp_path / "emulation.html").read_text()


def test_results_are_studies(tmp_path, measured, capsys):
    """``scaling predict`` reads them, and a row that doesn't count isn't among them."""
    folder, = results.write_studies(tmp_path, measured, {})
    with pytest.raises(InputError, match=f"the studies in it are {folder}"):
        read(tmp_path)
    runs = {(row.run.strategy, row.run.ranks): row for row in rows(folder, read(folder), None)}
    assert len(runs) == 7 and all(row.state == "done" for row in runs.values())
    row = runs["sync", 4]
    assert row.training == pytest.approx(128 / (COMPUTE.total + 0.1))
    assert row.seconds["communication"] == pytest.approx(0.1)
    assert runs["sequential", 1].rate == pytest.approx(32 / COMPUTE.total)
    assert scaling.main(["predict", str(folder), "--fit-ranks", "1", "2", "4"]) == 0
    assert "largest error on 8 ranks" in capsys.readouterr().out


def test_without_root_it_says_so(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(InputError, match="needs root: run it as root"):
        scaling.main(["emulate"])


def test_unknown_strategies():
    with pytest.raises(InputError, match=r"--strategies mesh: choose from sync, sync:fp16"):
        emulation.main(["--strategies", "mesh"])


@pytest.fixture(scope="module")
def possible():
    """Skips where this machine has no rights, or no programs, for network namespaces; an error
    where a test cluster is required, as in continuous integration."""
    try:
        namespaces.check()
        with namespaces.cluster(1) as nodes:
            nodes.shape(1e9)
    except InputError as error:
        if os.environ.get("REQUIRE_SLURM"):
            raise
        pytest.skip(f"no emulated cluster here: {str(error).splitlines()[0]}")


def _interfaces() -> set[str]:
    return set(os.listdir("/sys/class/net"))


def test_nodes_are_apart_and_removed(possible):
    before, own = _interfaces(), os.readlink("/proc/thread-self/ns/net")
    with namespaces.cluster(2) as nodes:
        nodes.shape(1e8)
        shown = subprocess.run(nodes.inside("n001", ["tc", "qdisc", "show", "dev", "eth0"]),
                               capture_output=True, text=True, check=True).stdout
        assert "tbf" in shown and "rate 100Mbit" in shown
        folder, links = nodes.folder, {os.readlink(nodes.folder / "n000")}
        assert os.readlink(next(iter(links))) != own
    assert os.readlink("/proc/thread-self/ns/net") == own and _interfaces() == before
    assert not folder.exists() and not any(map(os.path.exists, links))


def test_a_killed_process_leaves_nothing(possible):
    """Namespaces end with it; its folder is removed by the next one."""
    program = ("import time\nfrom hpc_deepfake.scaling.emulation.namespaces import cluster\n"
               "with cluster(2) as nodes: print(nodes.folder, flush=True); time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE,
                          text=True) as process:
        folder = Path(process.stdout.readline().strip())
        namespace = os.readlink(os.readlink(folder / "n000"))
        process.send_signal(signal.SIGKILL)
    for place in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            assert os.readlink(place) != namespace
        except OSError:
            continue
    assert folder.exists()
    with namespaces.cluster(1):
        assert not folder.exists()


@pytest.mark.slow
@pytest.mark.mpi
def test_two_ranks_are_limited_by_their_link(possible, tmp_path, monkeypatch, capsys):
    """29.5 MB through a link of 4 Gbit/s take 59 ms, in slow motion or not."""
    monkeypatch.setattr(running.Ranks, "microbench", lambda *_: {})
    assert scaling.main(["emulate", "--ranks", "2", "--links", "4G", "--compute", "0.01",
                         "--strategies", "sync", "hybrid", "async", "--seconds", "0.1", "--out",
                         str(tmp_path)]) == 0
    with open(tmp_path / "emulation.csv", newline="") as file:
        step = {line["strategy"]: float(line["step_s"]) for line in csv.DictReader(file)}
    assert min(step["sync"], step["async"]) > 0.9 * 29.5e6 * 8 / 4e9
    assert step["hybrid"] > 0.01 + 0.9 * 7.4e6 * 8 / 4e9  # what it must wait for
    assert "results:" in capsys.readouterr().out
    assert not list(Path(tempfile.gettempdir()).glob(f"hpc-deepfake-emulation-{os.getpid()}-*"))
