"""The performance model recovers known coefficients, and its error is bounded."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scaling_records import ROWS, finished, plan

from hpc_deepfake import scaling
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.scaling import microbench, model, predicting, study
from hpc_deepfake.scaling.model import Link, Model, Network, fit, link, network
from hpc_deepfake.scaling.records import rows
from hpc_deepfake.scaling.series import all_series
from hpc_deepfake.strategies import traffic
from hpc_deepfake.strategies.mesh.schedule import simulate
from hpc_deepfake.strategies.traffic import POOLED

NET = Network(Link(5e-6, 1e9), Link(4e-6, 0.8e9), Link(2e-6, 2e9), None, "known")
TRUTH = Model("sync", fixed=0.005, per_row=0.002, hidden=0.6, waiting=1e-4, network=NET)


def bench(file: Path, ranks: int = 4, read: float | None = None) -> Path:
    """A micro-benchmark's file of exactly the network NET."""
    measured = []
    for size in microbench.sizes(8, 1 << 25):
        for what, network_link, messages, share in (
                ("allreduce", NET.allreduce, 4, 1.5), ("alltoall", NET.alltoall, 3, 3),
                ("sendrecv", NET.sendrecv, 1, 1)):
            measured.append({"what": what, "size": size, "latency_us": {
                "mean": 1e6 * (messages * network_link.alpha + share * size / network_link.beta)}})
    if read:
        measured.append({"what": "files", "way": "MPI-IO", "size": 1, "read_mb_per_s": read / 1e6})
    file.write_text(json.dumps({"ranks": ranks, "rows": measured}))
    return file


def studied(folder: Path, truth: Model, kinds=("strong", "weak"), noise: float = 0.0,
            sizes: int = 8, **more) -> study.Plan:
    """Runs whose steps take the time of the model ``truth``, with relative noise."""
    rng = np.random.default_rng(1)
    strategy = truth.strategy
    if strategy == "mesh":
        strategy += f":tensor={truth.shards},pipeline={len(truth.cuts) + 1}"
        more["arguments"] = ["--accumulate", str(truth.micro)]
    planned = plan(kinds, nodes=sizes, strategies=[strategy], **more)
    study.write(folder, planned)
    for run in planned.runs:
        options = dict(zip(run.arguments, run.arguments[1:], strict=False))
        own = replace(truth, strategy=run.strategy.partition(":")[0])
        shares = run.ranks // (own.together if run.ranks > 1 else 1)
        batch = int(options["--batch-size"]) * shares * int(options.get("--accumulate", 1)) \
            / run.ranks
        count = ROWS if run.kind == "strong" else 512 * run.ranks
        steps = round(count / (batch * run.ranks))
        terms = own.terms(run.ranks, batch)
        compute = terms["computing rows"] + terms["fixed part of a step"] \
            + terms["sharing the node"]
        seconds = {"input": terms["input"], "compute": compute, "communication":
                   terms["latency"] + terms["bandwidth"] + terms["pipeline bubble"]}
        seconds = {name: value * steps * (1 + noise * rng.standard_normal())
                   for name, value in seconds.items()}
        uneven = (own.uneven - 1) * compute * steps if run.ranks > 1 else 0.0
        finished(folder, run, count / sum(seconds.values()), seconds=seconds, rows=count,
                 imbalance=uneven)
    return planned


@pytest.mark.parametrize(("what", "ranks", "messages", "share"), [
    ("allreduce", 2, 2, 1), ("allreduce", 8, 6, 1.75), ("alltoall", 4, 3, 3),
    ("sendrecv", 2, 1, 1)])
def test_latency_and_bandwidth_are_recovered(what, ranks, messages, share):
    points = [(size, messages * 3e-6 + share * size / 2e9)
              for size in microbench.sizes(8, 1 << 22)]
    fitted = link(what, ranks, points)
    assert fitted.alpha == pytest.approx(3e-6) and fitted.beta == pytest.approx(2e9)


def test_the_network_is_read_from_the_file(tmp_path):
    measured = network(json.loads(bench(tmp_path / "mb.json", read=5e8).read_text()), "mb.json")
    for name in ("allreduce", "alltoall", "sendrecv"):
        fitted, true = getattr(measured, name), getattr(NET, name)
        assert (fitted.alpha, fitted.beta) == pytest.approx((true.alpha, true.beta))
    assert measured.read == 5e8
    for bad in ({}, {"rows": 3}, {"ranks": 2, "rows": [{"what": "allreduce", "size": "x"}]}):
        with pytest.raises(InputError, match="no measurements of allreduce"):
            network(bad, "x.json")


def test_what_a_step_moves():
    """By hand: 29.6 MB of sync on 4 ranks, two reductions of 4 messages each in a tree."""
    latency, bandwidth = TRUTH.communication(4, 32)
    assert latency == pytest.approx(2 * 4 * 5e-6)
    assert bandwidth == pytest.approx(1.5 * 4 * (7_372_800 + traffic.REST) / 1e9)
    assert TRUTH.communication(1, 32) == (0.0, 0.0)
    assert TRUTH.communication(2, 32)[0] == pytest.approx(2 * 2 * 5e-6)
    every = replace(TRUTH, strategy="local-sgd", every=8)
    averaged = 3 * (7_372_800 + traffic.TABLE.small) + traffic.TABLE.moving  # with two moments
    assert every.communication(4, 32) == pytest.approx(
        (4 * 4 * 5e-6 / 8, 1.5 * 4 * averaged / 1e9 / 8))
    half = replace(TRUTH, kernel_width=2)
    assert half.communication(4, 32)[1] == pytest.approx(
        1.5 * (2 * traffic.KERNEL + 4 * traffic.REST) / 1e9)
    shared = replace(TRUTH, strategy="hybrid", group=4)
    assert 0.2 < shared.communication(4, 32)[1] / bandwidth < 0.4  # activations instead of kernel
    served = replace(TRUTH, strategy="async", servers=2)
    assert served.communication(6, 32)[1] == pytest.approx(
        2 * 4 * (traffic.KERNEL + traffic.REST) / 2e9 / 2)


def test_rows_of_another_size(tmp_path, caplog):
    """The network for 64 × 64 has a kernel of 14·14·64 × 128; its rows are read faster. Found from
    a run's records."""
    small = replace(TRUTH, size=64)
    assert small.communication(4, 32)[1] == pytest.approx(
        1.5 * 4 * (14 * 14 * 64 * 128 + traffic.REST) / 1e9)
    slow = replace(small, reads=True, network=replace(NET, read=12_288_000.0))
    assert slow.rate(64, 32) == pytest.approx(1000, rel=1e-3)
    (tmp_path / "s").mkdir()
    planned = plan(("strong",), nodes=2)
    study.write(tmp_path / "s", planned)
    for run in planned.runs:
        finished(tmp_path / "s", run, 100 * run.ranks, size=64)
    series, = all_series(rows(tmp_path / "s", planned, None))
    assert predicting._facts(series)["size"] == 64
    own = series.sizes[0].rows
    predicting._warn_of_networks(own)
    assert not caplog.text
    predicting._warn_of_networks([replace(own[0], config={"network": "meso4"})])
    assert "these runs train meso4; what the ranks exchange" in caplog.text


def test_hidden_communication_is_told_from_a_fast_network(tmp_path):
    """Where computing hides some of it, more ranks wait more than in proportion."""
    truth = replace(TRUTH, hidden=2.0, overlap=0.3)
    studied(tmp_path, truth, kinds=("weak",), sizes=32)
    runs = [row for row in rows(tmp_path, study.read(tmp_path), None)]
    few = fit("sync", [row for row in runs if row.run.ranks <= 8], NET)
    assert (few.hidden, few.overlap) == (pytest.approx(2.0, rel=0.03), pytest.approx(0.3, abs=0.04))
    assert few.rate(32, 32) == pytest.approx(truth.rate(32, 32), rel=0.02)
    two = fit("sync", [row for row in runs if row.run.ranks <= 2], NET)
    assert two.overlap == 0.0


def test_what_one_size_hides_follows_from_the_network(tmp_path):
    """``sync`` reduces the large kernel beside the convolutions' backward pass: known without a
    second size. The share by hand, of the operations of ``cut`` in millions per picture."""
    conv1, bn1, conv2, bn2, dense1 = 54.9, 76.2, 411.5, 35.7, 44.2
    total = conv1 + bn1 + conv2 + bn2 + dense1
    share = (conv1 / 2 + 2 / 3 * (bn1 + conv2 + bn2) + dense1 / 3) / total
    truth = replace(TRUTH, hidden=4.0, overlap=model._beside(128))
    assert truth.overlap == pytest.approx(share, abs=0.01)
    studied(tmp_path, truth, kinds=("weak",), sizes=32)
    runs = rows(tmp_path, study.read(tmp_path), None)
    few = fit("sync", [row for row in runs if row.run.ranks <= 4], NET)
    assert few.hidden == pytest.approx(4.0) and few.tail == 0.0
    assert few.rate(32, 32) == pytest.approx(truth.rate(32, 32))
    # with a network whose speed isn't known there is no telling
    assert fit("sync", [row for row in runs if row.run.ranks <= 4], None).overlap == 0.0


def test_what_is_waited_for_on_a_fast_network_is_not_bandwidth(tmp_path):
    """Where all can be hidden, a few milliseconds of waiting stay so on more ranks."""
    fast = replace(NET, allreduce=Link(5e-6, 4e9))
    truth = replace(TRUTH, hidden=1.0, overlap=model._beside(128), tail=0.003, network=fast)
    studied(tmp_path, truth, kinds=("weak",), sizes=32)
    runs = rows(tmp_path, study.read(tmp_path), None)
    few = fit("sync", [row for row in runs if row.run.ranks <= 4], fast)
    assert few.tail == pytest.approx(0.003) and few.hidden == 1.0
    assert few.rate(32, 32) == pytest.approx(truth.rate(32, 32))


def test_a_mesh_computes_at_its_own_speed(tmp_path):
    """Its blocks one by one: slower than the fused pass of one rank, from which it starts."""
    truth = replace(TRUTH, strategy="mesh", shards=2, cuts=(POOLED,), micro=4, apart=1.2)
    studied(tmp_path, truth, sizes=16)
    runs = rows(tmp_path, study.read(tmp_path), None)
    fitted = fit("mesh", runs, NET, shards=2, cuts=(POOLED,), micro=4)
    assert fitted.apart == pytest.approx(1.2, rel=1e-3)
    assert fitted.rate(1, 32) == pytest.approx(truth.rate(1, 32), rel=1e-3)
    assert fitted.rate(64, 32) == pytest.approx(truth.rate(64, 32), rel=1e-2)


def test_sizes_below_the_fitted_ones_are_no_test(tmp_path):
    studied(tmp_path, TRUTH, kinds=("weak",), sizes=8)
    runs = rows(tmp_path, study.read(tmp_path), None)
    series, = all_series(runs)
    options = predicting.parser().parse([str(tmp_path), "--fit-ranks", "2", "8"])
    made = predicting.predict(series, NET, options, runs)
    assert [(point.ranks, point.fitted) for point in made.tested] == [
        (2, True), (4, False), (8, True)]


def test_bands_hold_the_truth_and_follow_the_noise(tmp_path):
    widths = []
    for noise in (0.001, 0.04):
        folder = tmp_path / str(noise)
        studied(folder, TRUTH, kinds=("weak",), sizes=16, noise=noise)
        runs = rows(folder, study.read(folder), None)
        series, = all_series(runs)
        made = predicting.predict(series, NET, predicting.parser().parse([str(folder)]), runs)
        far = next(point for point in made.points if point.ranks == 256)
        assert far.low < TRUTH.rate(256, 32) < far.high
        widths.append(far.high / far.low - 1)
    assert widths[0] < 0.02 < widths[1]


def test_servers_set_a_limit():
    """A server that needs 40 ms for an update applies 25 per second, however many workers."""
    served = Model("async", 0.005, 0.002, 1.0, 0.0, NET, apply=0.04 - 0.0295)
    moving = served.communication(3, 32)[1] / 2  # a gradient arrives while weights leave
    for ranks in (17, 65, 257):
        assert served.rate(ranks, 32) == pytest.approx(32 / (moving + served.apply), rel=1e-6)
    assert served.rate(2, 32) == pytest.approx(32 / sum(served.terms(2, 32).values()))
    assert served.terms(2, 32)["servers"] == 0


def test_a_file_system_sets_a_limit():
    """At 49 MB/s for all ranks, at most 1,000 rows per second."""
    slow = replace(TRUTH, reads=True, network=replace(NET, read=49_152_000.0))
    assert slow.rate(64, 32) == pytest.approx(1000)
    assert slow.rate(1, 32) == pytest.approx(TRUTH.rate(1, 32))


def test_known_coefficients_are_recovered(tmp_path):
    planned = studied(tmp_path, TRUTH, kinds=["strong"])
    fitted = fit("sync", rows(tmp_path, planned, None), NET)
    for name in ("fixed", "per_row", "hidden", "waiting"):
        assert getattr(fitted, name) == pytest.approx(getattr(TRUTH, name), rel=1e-6)


def test_ranks_that_slow_each_other_on_a_node(tmp_path):
    """By 30% for each additional rank: measured with 1, 2 and 4 ranks of one node, and assumed on
    more nodes."""
    truth = replace(TRUTH, strategy="local-sgd", crowd=0.3,
                    layout=((1, 1), (2, 2), (4, 4), (8, 4)))
    planned = studied(tmp_path, truth, sizes=2, ranks_per_node=4)
    small = [row for row in rows(tmp_path, planned, None) if row.run.ranks <= 4]
    fitted = fit("local-sgd", small, NET, layout=truth.layout)
    assert fitted.crowd == pytest.approx(0.3)
    for name in ("fixed", "per_row", "hidden"):
        assert getattr(fitted, name) == pytest.approx(getattr(TRUTH, name), rel=1e-6)
    assert fitted.rate(8, 32) == pytest.approx(truth.rate(8, 32), rel=1e-6)
    assert truth.crowded(64) == pytest.approx(1.9)  # nodes as full as the fullest measured


def test_a_gpu_that_does_not_measure_communication_separately(tmp_path):
    """All of it is part of compute: the computing time is taken from one rank."""
    planned = studied(tmp_path, TRUTH, kinds=["weak"])
    for run in planned.runs:
        file = tmp_path / run.name / "metrics.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for line in lines:
            for kind in ("min", "mean", "max"):
                line["ranks"]["compute"][kind] += line["ranks"]["communication"][kind]
                line["ranks"]["communication"][kind] = 0.0
        file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    small = [row for row in rows(tmp_path, planned, None) if row.run.ranks <= 2]
    fitted = fit("sync", small, NET)
    assert fitted.rate(8, 32) == pytest.approx(TRUTH.rate(8, 32), rel=0.1)


@pytest.mark.parametrize("strategy", ["sync", "local-sgd"])
@pytest.mark.parametrize("kind", ["strong", "weak"])
def test_fitted_to_1_and_2_ranks_it_predicts_4_and_8(tmp_path, capsys, strategy, kind):
    """Exactly if the runs follow the model; within the bound with 3% noise."""
    every = 8 if strategy == "local-sgd" else 1
    for noise, limit in ((0.0, 1e-3), (0.03, 0.25)):
        folder, out = tmp_path / f"s{noise}", tmp_path / f"out{noise}"
        studied(folder, replace(TRUTH, strategy=strategy, every=every), [kind], noise)
        assert scaling.main(["predict", str(folder), "--out", str(out), "--fit-ranks", "1", "2",
                             "--microbench", str(bench(tmp_path / "mb.json"))]) == 0
        [series] = json.loads((out / "predict.json").read_text())["series"]
        assert [point["fitted_to"] for point in series["tested"]] == [True, True, False, False]
        assert series["worst_error"] < limit
        text = capsys.readouterr().out
        assert "Fitted to 1 and 2 ranks; largest error on 4 and 8 ranks" in text
        assert "within the bound of 25%" in text
    assert sorted(path.name for path in out.iterdir()) == [
        f"predict.{end}" for end in ("csv", "html", "json", "md", "png", "svg")]


MESHES = {"tensor": {"shards": 2}, "pipeline": {"cuts": (POOLED,), "micro": 4, "uneven": 1.4}}


@pytest.mark.parametrize("kind", ["strong", "weak"])
@pytest.mark.parametrize("axes", MESHES)
def test_predictions_of_a_mesh(tmp_path, kind, axes):
    """Two ranks of one data share, with unequal stages; 4 and 8 ranks are predicted."""
    for noise, limit in ((0.0, 1e-3), (0.03, 0.25)):
        folder = tmp_path / f"s{noise}"
        studied(folder, replace(TRUTH, strategy="mesh", **MESHES[axes]), [kind], noise)
        assert scaling.main(["predict", str(folder), "--fit-ranks", "1", "2",
                             "--microbench", str(bench(tmp_path / "mb.json"))]) == 0
        [series] = json.loads((folder / "predict.json").read_text())["series"]
        assert series["name"] == f"{kind}, real, mesh:tensor={1 + (axes == 'tensor')}," \
                              f"pipeline={1 + (axes == 'pipeline')}"
        assert [point["fitted_to"] for point in series["tested"]] == [True, True, False, False]
        assert series["worst_error"] < limit


def test_the_bubble_of_a_pipeline_equals_that_of_the_schedule():
    """The formula against the simulated schedule, with equal and unequal stages."""
    for costs in ((1, 1), (1, 1, 1), (1, 3), (1, 2, 1.5)):
        for micro in (1, 2, 4, 8):
            model = replace(TRUTH, strategy="mesh", cuts=(1,) * (len(costs) - 1), micro=micro,
                            uneven=max(costs) * len(costs) / sum(costs))
            end = max(span.end for span in simulate("gpipe", len(costs), micro, costs=costs))
            busy = micro * 3 * sum(costs) / len(costs)
            assert 1 + model.bubble(8) == pytest.approx(end / busy, rel=1e-9)
    assert model.bubble(1) == 0


def test_what_a_mesh_moves():
    """By hand, 8 ranks with 16 rows: 2 data shares of 2 stages of 2 shards."""
    model = replace(TRUTH, strategy="mesh", shards=2, cuts=(POOLED,), micro=4)
    latency, bandwidth = model.communication(8, 16)
    kernel = 4 * (traffic.KERNEL + traffic.REST) / 2  # one shard's gradient, between 2 shares
    within = 4 * 16 * (3 * POOLED + 3 * 128 + 4) / 2 * 2  # of 32 rows together, 3 · 1/2 of each
    assert bandwidth == pytest.approx(kernel / 1e9 + within / 1e9 + 4 * 16 * 2 * POOLED / 2e9,
                                      rel=1e-3)
    assert latency == pytest.approx((5 * 4 * 2 + 2 * 2) * 5e-6 + 2 * (4 + 1) * 2e-6)
    assert model.communication(1, 16) == (0, 0)


def test_strategies_that_were_not_run(tmp_path, capsys):
    """Computing time from the runs of sync, communication by the formulas, none of it hidden."""
    studied(tmp_path, TRUTH, ["strong"])
    words = ["predict", str(tmp_path), "--microbench", str(bench(tmp_path / "mb.json"))]
    assert scaling.main([*words, "--also", "hybrid", "sync", "mesh:pipeline=2"]) == 0
    text = capsys.readouterr().out
    assert "strong, real, mesh:pipeline=2: scaling stops at 2 ranks" in text
    assert text.count("Not run: computing time as measured for strong, real, sync") == 2
    lines = [line.split(",") for line in (tmp_path / "predict.csv").read_text().splitlines()]
    rates = {(line[2], int(line[3])): float(line[5]) for line in lines[1:] if line[3].isdigit()}
    truth = replace(TRUTH, strategy="hybrid", hidden=1.0, group=1)
    assert rates["hybrid", 8] == pytest.approx(truth.rate(8, 32), rel=1e-3)
    series = next(series for series in
                  json.loads((tmp_path / "predict.json").read_text())["series"]
                  if "hybrid" in series["name"])
    assert series["worst_error"] is None and series["tested"] == []
    for wrong, message in ((["async"], "can only be measured"),
                           (["mesh"], "--also mesh: unknown strategy"),
                           (["sequential"], "it has one rank only")):
        with pytest.raises(InputError, match=message):
            scaling.main([*words, "--also", *wrong])
    with pytest.raises(InputError, match="give --microbench"):
        scaling.main(["predict", str(tmp_path), "--also", "hybrid"])


def test_an_unreliable_model_is_reported(tmp_path, capsys):
    """8 ranks were 3 times as slow as predicted from the smaller sizes."""
    planned = studied(tmp_path, TRUTH, ["strong"])
    finished(tmp_path, planned.runs[-1], TRUTH.rate(8, 32) / 3)
    assert scaling.main(["predict", str(tmp_path), "--microbench",
                         str(bench(tmp_path / "mb.json"))]) == 0
    assert "outside the bound of 25%: predictions for larger sizes are unreliable" \
        in capsys.readouterr().out


def halved(truth: Model, batch: int) -> int:
    """The first power of two ranks with less than half the efficiency, strong."""
    return next(ranks for ranks in (2**power for power in range(12))
                if truth.rate(ranks, batch / ranks) / truth.rate(1, batch) / ranks < 0.5)


def test_where_scaling_stops_and_why(tmp_path, capsys):
    """Strong: because of bandwidth, and no rows for more than 256 ranks. Weak: never below 50%."""
    studied(tmp_path, TRUTH)
    assert scaling.main(["predict", str(tmp_path), "--microbench",
                         str(bench(tmp_path / "mb.json"))]) == 0
    text = capsys.readouterr().out
    assert halved(TRUTH, 256) == 16
    assert "strong, real, sync: scaling stops at 16 ranks" in text
    assert "moving bytes between ranks, and waiting for them, takes" in text
    assert "with more than 256 ranks some have no row of the global batch" in text
    assert "weak, real, sync: efficiency stays above 50% up to 4,096 ranks" in text


def test_other_batches_and_precisions(tmp_path, capsys):
    studied(tmp_path, TRUTH, ["strong"])
    words = ["predict", str(tmp_path), "--microbench", str(bench(tmp_path / "mb.json"))]
    assert scaling.main([*words, "--global-batch", "8192"]) == 0
    assert f"scaling stops at {halved(TRUTH, 8192):,} ranks" in capsys.readouterr().out
    with pytest.raises(InputError, match="the computing time with bfloat16 was not measured"):
        scaling.main([*words, "--precision", "bfloat16"])
    assert scaling.main([*words, "--precision", "bfloat16", "--compute-factor", "0.5"]) == 0
    lines = (tmp_path / "predict.csv").read_text().splitlines()
    half = TRUTH.computing(0.5)
    assert float(lines[1].split(",")[5]) == pytest.approx(half.rate(1, 256), rel=1e-3)
    assert lines[1].split(",")[6] == ""  # not measured


def test_without_a_microbenchmark_the_runs_give_the_bandwidth(tmp_path, capsys):
    net = replace(NET, allreduce=Link(0.0, 1e9))
    studied(tmp_path, replace(TRUTH, network=net), ["strong"])
    assert scaling.main(["predict", str(tmp_path), "--fit-ranks", "1", "2"]) == 0
    text = capsys.readouterr().out
    assert "No micro-benchmark" in text and "within the bound" in text
    [series] = json.loads((tmp_path / "predict.json").read_text())["series"]
    assert series["worst_error"] < 1e-3


def test_the_microbenchmark_in_the_study_is_used(tmp_path, capsys):
    studied(tmp_path, TRUTH, ["strong"], sizes=2)
    for ranks in (2, 4):
        (tmp_path / f"microbench-n{ranks:04d}-r1").mkdir()
        bench(tmp_path / f"microbench-n{ranks:04d}-r1" / "microbench.json", ranks)
    assert scaling.main(["predict", str(tmp_path)]) == 0
    assert f"from {tmp_path}/microbench-n0004-r1/microbench.json" in capsys.readouterr().out


def test_mistakes(tmp_path):
    study.write(tmp_path, plan(nodes=2))
    with pytest.raises(InputError, match="nothing to fit a model to"):
        scaling.main(["predict", str(tmp_path)])
    studied(tmp_path, TRUTH, ["strong"], sizes=2)
    with pytest.raises(InputError, match="was run on 1, 2 ranks"):
        scaling.main(["predict", str(tmp_path), "--fit-ranks", "16"])
    with pytest.raises(InputError, match="cannot read"):
        scaling.main(["predict", str(tmp_path), "--microbench", str(tmp_path / "x.json")])


def test_sizes_of_the_microbenchmark():
    assert microbench.sizes(8, 64) == [8, 16, 32, 64]
    assert microbench.sizes(5, 33) == [8, 16, 32]
    assert microbench.sizes(1, 1) == [1]
    assert microbench.sizes(8, 32 << 20)[-1] == 32 << 20
    assert math.log2(len(microbench.sizes(1, 1 << 15))) == 4
