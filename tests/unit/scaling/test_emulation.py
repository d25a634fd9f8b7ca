"""Emulated ranks: what they do, how their links are shaped, and that nothing of them is left."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hpc_deepfake import scaling
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.scaling import emulation
from hpc_deepfake.scaling.emulation import meshes, namespaces, plan, results, running
from hpc_deepfake.scaling.emulation.plan import Compute, Task
from hpc_deepfake.scaling.emulation.running import Result
from hpc_deepfake.scaling.records import rows
from hpc_deepfake.scaling.study import read
from hpc_deepfake.strategies import traffic
from hpc_deepfake.strategies.mesh import stage

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


def test_what_a_rank_of_a_mesh_sends():
    """By hand, of 8 ranks with 32 rows each: with tensor=2 the layers' sums and gathers of 64 rows,
    and four ranks reduce a half of the weights; with pipeline=2 the second stage sends gradients of
    the first one's output for 64 rows; with both all sums are the second stage's, of 128 rows."""
    pooled, kernel, rest = 63 * 63 * 32, 7_372_800, traffic.REST - 3
    tensor = plan.sent(replace(TASK, strategy="mesh:tensor=2"))
    assert tensor == pytest.approx(64 * 4 * (pooled + 128 + 2) + 32 * 4 * (pooled + 128)
                                   + 2 * 3 / 4 * 4 * (kernel + rest) / 2)
    pipeline = plan.sent(replace(TASK, strategy="mesh:pipeline=2", micro=4))
    first = 9 * 3 * 32 + 32 + 4 * 32  # weights and batch statistics of the first stage
    assert pipeline == pytest.approx(64 * 4 * pooled + 2 * 3 / 4 * 4 * (kernel + rest - first))
    both = plan.sent(replace(TASK, strategy="mesh:tensor=2,pipeline=2", micro=4))
    assert both == pytest.approx(128 * 4 * (pooled + 128 + 2) + 64 * 4 * (pooled + 128)
                                 + 64 * 4 * pooled + 4 * (kernel + rest - first) / 2)
    mean = traffic.mesh(8, 2, 2, 32, [pooled])
    assert both > sum(mean.values())


def test_what_the_ranks_of_a_mesh_compute():
    """Together what as many ranks compute alone, times ``apart``; shares of a pipeline differ."""
    compute = replace(COMPUTE, apart=1.2)
    passes = 1.2 * (compute.total - compute.update)
    assert sum(map(sum, plan.blocks(compute).values())) == pytest.approx(passes)
    alone, = replace(TASK, strategy="mesh:tensor=1", compute=compute).computing
    assert alone == pytest.approx(passes + compute.update)
    halves, = replace(TASK, strategy="mesh:tensor=2", compute=compute).computing
    assert halves == pytest.approx(passes + compute.update / 2)
    first, second = replace(TASK, strategy="mesh:pipeline=2", compute=compute).computing
    assert (first + second) / 2 == pytest.approx(passes + compute.update / 2)
    assert second > 2 * first  # the second convolution and the large kernel
    assert replace(TASK, compute=compute).computing == (compute.total,)
    assert meshes.LARGE == stage.LARGE


@pytest.mark.parametrize(("strategy", "message"), [
    ("mesh", "choose from sync, sync:fp16"), ("mesh:data=2", "leave data out"),
    ("mesh:tensor=64", "more than the 32 channels"), ("mesh:pipeline=7", "7 is more than"),
    ("hybrid:fp16", "choose from sync"),
    ("mesh:pipeline=3", "--micro-batches 5: the 96 rows of a step of mesh:pipeline=3")])
def test_strategies_that_cannot_be_emulated(strategy, message):
    with pytest.raises(InputError, match=message):
        plan.check([strategy], 32, 5)


def test_meshes_that_fit_no_number_of_ranks(capsys):
    assert [plan.possible("mesh:tensor=2,pipeline=2", ranks) for ranks in (2, 4, 6, 8)] == [
        False, True, False, True]
    with pytest.raises(InputError, match="none of these meshes fits --ranks 2 6"):
        emulation.main(["--strategies", "mesh:pipeline=4", "--ranks", "2", "6"])
    options = emulation.parser().parse(["--ranks", "2", "4", "--links", "1G", "--strategies",
                                        "sync", "mesh:tensor=2,pipeline=2"])
    assert emulation._rows(options) == [
        (1e9, 2, "sync"), (1e9, 4, "sync"), (1e9, 4, "mesh:tensor=2,pipeline=2")]


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


def test_a_mesh_is_a_study(tmp_path, capsys):
    """With the rows of a rank, and with stages that wait for each other."""
    made = [Result(replace(TASK, strategy="mesh:pipeline=2", ranks=ranks, micro=4), (step,) * 3,
                   0.1, 0.3) for ranks, step in ((2, 0.6), (4, 0.7), (8, 0.75))]
    folder, = results.write_studies(tmp_path, made, {})
    run = {row.run.ranks: row for row in rows(folder, read(folder), None)}
    assert run[4].run.name == "weak-synthetic-mesh-pipeline2-n0004-r1" and run[4].state == "done"
    assert run[4].batch == 32 and run[4].training == pytest.approx(128 / 0.7)
    uneven = max(made[1].task.computing) / (sum(made[1].task.computing) / 2)
    seconds = run[4].seconds
    assert 1 + seconds["imbalance"] / seconds["compute"] == pytest.approx(uneven)
    assert made[1].share == pytest.approx(1 - sum(made[1].task.computing) / 2 / 0.7)
    assert scaling.main(["predict", str(folder), "--fit-ranks", "1", "2", "4"]) == 0
    assert "weak, synthetic, mesh:pipeline=2" in capsys.readouterr().out


def test_a_machine_that_stood_still_is_asked_again(monkeypatch, caplog):
    """A frozen process would count as waiting for messages."""
    program = ("import time\nfrom hpc_deepfake.scaling.emulation.pauses import Pauses\n"
               "with Pauses() as pauses:\n    print(flush=True)\n    time.sleep(0.5)\n"
               "print(pauses.seconds if pauses.within(0, time.perf_counter()) else -1.0)")
    seconds = []
    for pause in (0.0, 2.0):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE,
                              text=True) as process:
            process.stdout.readline()
            process.send_signal(signal.SIGSTOP)
            time.sleep(pause)
            process.send_signal(signal.SIGCONT)
            seconds.append(float(process.stdout.read()))
    assert seconds[0] == -1.0 and seconds[1] >= 2.0
    ranks = running.Ranks(None, [], None, None)
    pauses = iter([3.0, 0.0])
    monkeypatch.setattr(running, "Pauses", lambda: Paused(next(pauses)))
    asked = []
    monkeypatch.setattr(ranks, "_ask", lambda *order: asked.append(order) or [{}])
    assert ranks._do(2, {}) == [{}] and len(asked) == 2
    # all but the step in which it stood still
    assert running._clean({"seconds": [1.0, 9.0], "paused": [False, True]}) == [1.0]
    pauses = iter([3.0])
    assert ranks._do(2, {}, enough=lambda answers: True) == [{}]
    pauses = iter([3.0] * 99)
    with pytest.raises(InputError, match="stands still again and again"):
        ranks._do(2, {})


class Paused:
    """In place of ``Pauses``: the machine stood still for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


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


@pytest.mark.slow
@pytest.mark.mpi
def test_what_is_on_the_links(possible, tmp_path, monkeypatch):
    """The bytes that the interfaces of four nodes count are those of the formulas, of data parallel
    strategies and of meshes; headers and handshakes are a few per cent."""
    counted = {}
    run = running.Ranks.run

    def sent(nodes) -> int:
        """Bytes that the busiest node has sent."""
        shown = [subprocess.run(nodes.inside(name, ["ip", "-s", "-j", "link", "show", "eth0"]),
                                capture_output=True, text=True, check=True).stdout
                 for name in nodes.nodes]
        return max(json.loads(text)[0]["stats64"]["tx"]["bytes"] for text in shown)

    def watched(ranks, task, capacity):
        before = sent(ranks._nodes)
        result = run(ranks, task, capacity)
        steps = task.steps + (task.strategy != "local-sgd")  # one more to warm up
        counted[task.strategy] = (sent(ranks._nodes) - before) / steps / plan.sent(task)
        return result

    monkeypatch.setattr(running.Ranks, "microbench", lambda *_: {})
    monkeypatch.setattr(running.Ranks, "run", watched)
    strategies = ["sync", "sync:fp16", "hybrid", "local-sgd", "mesh:tensor=2", "mesh:pipeline=2",
                  "mesh:tensor=2,pipeline=2", "mesh:tensor=4"]
    assert scaling.main(["emulate", "--ranks", "4", "--links", "4G", "--compute", "0.01",
                         "--strategies", *strategies, "--seconds", "0.1", "--out",
                         str(tmp_path)]) == 0
    assert list(counted) == strategies
    assert all(0.97 < ratio < 1.12 for ratio in counted.values()), counted
