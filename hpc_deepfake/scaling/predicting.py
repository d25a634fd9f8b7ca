"""``hpc-deepfake scaling predict``: sizes that were not run, with the error at those that were."""

from __future__ import annotations

import math
import shlex
import statistics
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hpc_deepfake.core import json_data
from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.log import log
from hpc_deepfake.core.options import Parser, at_least, between
from hpc_deepfake.core.text import plural, printable
from hpc_deepfake.network.settings import PRECISIONS
from hpc_deepfake.network.shapes import Shapes
from hpc_deepfake.scaling import model as models
from hpc_deepfake.scaling import study as studies
from hpc_deepfake.scaling.model import Model, Network
from hpc_deepfake.scaling.predicted import Point, Prediction, write
from hpc_deepfake.scaling.records import Row, rows
from hpc_deepfake.scaling.series import Series, all_series
from hpc_deepfake.strategies.layout import Layout
from hpc_deepfake.strategies.mesh.cut import cut, numbers, of_table
from hpc_deepfake.strategies.mesh.shape import grow

_EXAMPLES = """examples:
  hpc-deepfake scaling predict runs/scaling --microbench mb.json
  hpc-deepfake scaling predict runs/scaling --microbench mb.json --fit-ranks 1 2 --max-ranks 1024
  hpc-deepfake scaling predict runs/scaling --microbench mb.json --precision bfloat16 \\
      --compute-factor 0.6 --global-batch 4096
  hpc-deepfake scaling predict runs/scaling --also hybrid mesh:tensor=2,pipeline=2

The model is fitted to the smaller sizes and tested on the larger ones; then it is fitted to all
sizes, to predict those that were not run. Writes predict.html, predict.md, predict.csv,
predict.json, predict.png and predict.svg."""
# bytes of a number that is sent; with bfloat16, weights and gradients are float32
_WIDTHS = {"float32": 4, "bfloat16": 4, "float64": 8}
_DEFAULTS = {**asdict(Layout()), "accumulate": 1}  # of options missing from a run's records


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake scaling predict", epilog=_EXAMPLES, description=(
        "Predict images per second and efficiency for numbers of ranks, batches and precisions\n"
        "that were not run, and report where scaling stops and why."))
    cli.add_argument("study", type=Path, metavar="STUDY", help="folder of the study")
    cli.add_argument("--microbench", type=Path, metavar="FILE",
                     help="JSON file of scaling microbench (default: the one in STUDY with the "
                          "most ranks; without any, latency is assumed to be zero)")
    cli.add_argument("--fit-ranks", type=at_least(1), nargs="+", metavar="N",
                     help="numbers of ranks to fit the tested model to (default: all but the "
                          "largest)")
    cli.add_argument("--also", nargs="+", metavar="NAME",
                     help="also predict strategies that were not run: sync, hybrid, local-sgd, or "
                          "a mesh like mesh:tensor=2; with the measured computing time, and no "
                          "communication hidden")
    cli.add_argument("--bound", type=between(0, 10), default=0.25, metavar="E",
                     help="relative error at the tested sizes up to which the model is reliable")
    cli.add_argument("--max-ranks", type=at_least(1), default=4096, metavar="N",
                     help="largest number of ranks to predict")
    cli.add_argument("--stop-efficiency", type=between(0, 1), default=0.5, metavar="E",
                     help="efficiency below which scaling has stopped")
    cli.add_argument("--global-batch", type=at_least(1), metavar="ROWS",
                     help="strong: rows per step over all ranks (default: as in the study)")
    cli.add_argument("--batch-size", type=at_least(1), metavar="ROWS",
                     help="weak: rows per step of each rank (default: as in the study)")
    cli.add_argument("--precision", choices=PRECISIONS,
                     help="precision of training (default: as in the study); needs "
                          "--compute-factor")
    cli.add_argument("--compute-factor", type=between(0.001, 1000), metavar="F",
                     help="computing takes F times as long as in the study; two short runs of "
                          "train --synthetic measure F")
    cli.add_argument("--compression", choices=("none", "fp16"),
                     help="compression of gradients, as for train (default: as in the study)")
    cli.add_argument("--out", type=Path, metavar="DIR",
                     help="folder for the prediction (default: STUDY)")
    return cli


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments, without the program's name.

    Returns:
        The exit code.

    Raises:
        InputError: unusable options, or a study without the needed runs.
    """
    options = parser().parse(argv)
    also = list(dict.fromkeys(options.also or ()))
    for strategy in also:
        studies.check_strategy(strategy, "--also")
        if strategy in ("sequential", "async"):
            raise InputError(f"--also {strategy}: " + (
                "it has one rank only" if strategy == "sequential" else
                "the time that a server needs for an update can only be measured; add runs to the "
                "study with STRATEGIES=async"))
    runs = rows(options.study, studies.read(options.study), None)
    net = _network(options)
    if also and net is None:
        raise InputError("--also: strategies that were not run are predicted from the network's "
                         "latency and bandwidth: give --microbench FILE")
    groups = [series for series in all_series(runs) if series.kind in ("strong", "weak")]
    usable = [series for series in groups if len(series.sizes) > 1]
    skipped = [series.name for series in groups if series not in usable]
    if not usable:
        raise InputError(f"{options.study} has no strategy with finished runs on two or more "
                         "numbers of ranks: nothing to fit a model to (hpc-deepfake scaling report "
                         "lists the runs)")
    _warn_of_networks(runs)
    predictions = [predict(series, net, options, _same_steps(series, usable)) for series in usable]
    predictions += [_not_run(measured, strategy, options) for strategy in also
                    for measured in _measured_computing(predictions) if not any(
                        (made.series.kind, made.series.input, made.series.strategy)
                        == (measured.series.kind, measured.series.input, strategy)
                        for made in predictions)]
    out = options.out or options.study
    print("\n".join(write(predictions, net, options, out, skipped)))
    print(f"prediction: {out / 'predict.html'}")
    return 0


def _warn_of_networks(runs: Sequence[Row]) -> None:
    """Say that only the weights of ``table`` are known here."""
    others = sorted({str(name) for row in runs
                     if (name := row.config.get("network") or "table") != "table"})
    if others:
        log.warning(f"note: these runs train {printable(', '.join(others))}; what the ranks "
                    "exchange is taken to be that of the network table, so predictions of other "
                    "numbers of ranks are rough where communication counts")


def _same_steps(series: Series, groups: Sequence[Series]) -> list[Row]:
    """Runs of the same input and strategy, strong and weak."""
    return [row for other in groups if (other.input, other.strategy)
            == (series.input, series.strategy) for size in other.sizes for row in size.rows]


def predict(series: Series, net: Network | None, options: Namespace,
            runs: Sequence[Row]) -> Prediction:
    """The model of a series, tested and applied.

    Args:
        series: the series.
        net: latency and bandwidth by the micro-benchmark, if there is one.
        options: the command's options.
        runs: of the same strategy and input, strong and weak.

    Raises:
        InputError: no runs to fit to, or a precision without its factor.
    """
    sizes = [size.ranks for size in series.sizes]
    small = [size for size in sizes if size in options.fit_ranks] if options.fit_ranks \
        else sizes[:-1]
    if not small:
        raise InputError(f"--fit-ranks {' '.join(map(str, options.fit_ranks))}: {series.name} was "
                         f"run on {', '.join(map(str, sizes))} ranks; give some of these")
    facts = _facts(series)
    strategy = series.strategy.partition(":")[0]
    early = models.fit(strategy, [row for row in runs if row.run.ranks in small], net, **facts)
    # sizes below all that were fitted are no test of a prediction for larger ones
    tested = [_point(early, size.ranks, size.rows[0].batch or 0.0, size.training, series,
                     size.ranks in small) for size in series.sizes if size.ranks >= min(small)]
    model = _changed(models.fit(strategy, runs, net, **facts), series, options)
    without = [_changed(models.fit(strategy, [row for row in runs if row.run.ranks != left], net,
                                   **facts), series, options)
               for left in sizes if left > 1 and len(sizes) > 3]
    points = tuple(_with_band(point, without, model, series)
                   for point in _points(model, series, options))
    return Prediction(series, model, tuple(tested), points, _stop(points, series, options))


def _with_band(point: Point, without: Sequence[Model], model: Model, series: Series) -> Point:
    """The point with the band of its rate: two standard errors, of the fit by the jackknife (Efron
    1982: the fits ``without`` one size each), and of the sizes that were run around the fit."""
    count = len(without)
    if count < 3:
        return point
    logs = [math.log(fitted.rate(point.ranks, point.rows) / point.rate) for fitted in without]
    own = [math.log(model.rate(size.ranks, size.rows[0].batch or 0.0) / size.training)
           for size in series.sizes if size.ranks > 2]  # those that ``fit`` prefers
    error = math.sqrt((count - 1) * statistics.pvariance(logs) + statistics.fmean(
        value**2 for value in own))
    return replace(point, low=point.rate * math.exp(-2 * error),
                   high=point.rate * math.exp(2 * error))


def _measured_computing(predictions: Sequence[Prediction]) -> list[Prediction]:
    """For each kind and input, one prediction whose computing time other strategies share."""
    first: dict[tuple[str, str], Prediction] = {}
    for made in sorted(predictions, key=lambda made: made.series.strategy != "sync"):
        if made.series.strategy != "async":
            first.setdefault((made.series.kind, made.series.input), made)
    return list(first.values())


def _not_run(measured: Prediction, strategy: str, options: Namespace) -> Prediction:
    """The prediction of a strategy, with the computing time of another one's runs."""
    row = measured.series.sizes[-1].rows[0]
    layout = _layout(strategy, row)
    if "cuts" in layout:
        line = of_table(Shapes(measured.model.size))
        costs = dict(zip(line.names, line.costs, strict=True))
        stages = [sum(costs[block] for block in blocks)
                  for blocks in cut(len(layout["cuts"]) + 1, line=line)]
        layout["uneven"] = max(stages) * len(stages) / sum(stages)
    model = replace(measured.model, **{
        "strategy": strategy.partition(":")[0], "hidden": 1.0, "shards": 1, "cuts": (), **layout})
    series = replace(measured.series, strategy=strategy, sizes=measured.series.sizes[:1])
    points = _points(model, series, options)
    return Prediction(series, model, (), points, _stop(points, series, options),
                      measured.series.name)


def _facts(series: Series) -> dict[str, Any]:
    """Attributes of the model that follow from the runs' options."""
    row = series.sizes[-1].rows[0]
    width = _WIDTHS.get(row.precision or "float32", 4)
    layout = {size.ranks: models.density(size.rows[0]) for size in series.sizes}
    return {"width": width, "layout": tuple(layout.items()),
            "size": row.size,
            "kernel_width": 2 if row.config.get("compression") == "fp16" else width,
            **_layout(series.strategy, row)}


def _layout(strategy: str, row: Row) -> dict[str, Any]:
    """Attributes of the model that decide how much this strategy sends, from a run's options."""
    config = {**_DEFAULTS, **row.config}
    name, _, axes = strategy.partition(":")
    if name == "mesh":
        shape = grow(axes, 0)
        shapes = Shapes(row.size)
        stages = cut(shape.pipeline, config["stages"], of_table(shapes))
        return {"shards": shape.tensor, "micro": int(config["accumulate"]),
                "cuts": tuple(numbers(blocks[-1], shapes) for blocks in stages[:-1])}
    return {"async": {"servers": int(config["servers"])},
            "local-sgd": {"every": int(config["sync_every"])},
            "hybrid": {"group": int(config["shard_group"]) or row.run.ranks_per_node},
            }.get(name, {})


def _changed(model: Model, series: Series, options: Namespace) -> Model:
    """The model for the precision and compression of the options."""
    precision = options.precision
    studied = series.sizes[-1].rows[0].precision or "float32"
    if precision is not None and precision != studied:
        if options.compute_factor is None:
            raise InputError(f"the computing time with {precision} was not measured in this study, "
                             f"which used {studied}: give --compute-factor, the seconds of compute "
                             "of\n  python -m hpc_deepfake.train --synthetic 512 --precision "
                             f"{precision} --epochs 3\nover those with {studied}")
        width = _WIDTHS[precision]
        model = replace(model, width=width, kernel_width=width)
    if options.compute_factor is not None:
        model = model.computing(options.compute_factor)
    if options.compression is not None:
        model = replace(model, kernel_width=2 if options.compression == "fp16" else model.width)
    return model


def _batch(series: Series, ranks: int, options: Namespace) -> float:
    """Rows of a rank and step on this number of ranks."""
    base = series.base
    studied = base.rows[0].batch or 0.0
    batch: float
    if series.kind == "weak" or series.strategy == "async":
        batch = options.batch_size or studied
    else:
        batch = (options.global_batch or studied * base.ranks) / ranks
    return batch


def _points(model: Model, series: Series, options: Namespace) -> tuple[Point, ...]:
    """The sizes that were run, and powers of two times the base up to ``--max-ranks``."""
    measured = {size.ranks: size.training for size in series.sizes} if _as_studied(options) else {}
    sizes = {size.ranks for size in series.sizes}
    ranks = series.base.ranks
    while ranks <= options.max_ranks:
        sizes.add(ranks)
        ranks *= 2
    return tuple(_point(model, ranks, batch, measured.get(ranks), series, ranks in measured)
                 for ranks in sorted(sizes) if (batch := _batch(series, ranks, options)) >= 1
                 and (ranks == 1 or ranks % model.together == 0))


def _as_studied(options: Namespace) -> bool:
    """Whether the options predict what was run."""
    return not any((options.global_batch, options.batch_size, options.precision,
                    options.compute_factor, options.compression))


def _point(model: Model, ranks: int, batch: float, measured: float | None, series: Series,
           fitted: bool) -> Point:
    """The prediction of one size; its efficiency is over the base as the model predicts it."""
    base = series.base
    base_batch = batch if series.kind == "weak" or series.strategy == "async" \
        else batch * ranks / base.ranks
    base_rate = model.rate(base.ranks, base_batch)
    rate = model.rate(ranks, batch)
    return Point(ranks, batch, measured, rate, rate / base_rate * base.ranks / ranks,
                 model.terms(ranks, batch), fitted)


def _stop(points: Sequence[Point], series: Series, options: Namespace) -> str:
    """Where scaling stops, and what takes the time there."""
    below = next((point for point in points if point.efficiency < options.stop_efficiency), None)
    most = max(points, key=lambda point: point.rate)
    last = points[-1]
    if below is None:
        text = (f"efficiency stays above {options.stop_efficiency:.0%} up to "
                f"{plural(last.ranks, 'rank')}")
    else:
        losses = {name: seconds for name, seconds in below.terms.items()
                  if name != "computing rows"}
        cause = max(losses, key=lambda name: losses[name])
        total = sum(below.terms.values())
        text = (f"scaling stops at {plural(below.ranks, 'rank')}, with an efficiency of "
                f"{below.efficiency:.0%}: {_CAUSES[cause]} {losses[cause] / total:.0%} of a step "
                f"there, computing rows {below.terms['computing rows'] / total:.0%}")
    if most.ranks < last.ranks:
        text += f"; more than {plural(most.ranks, 'rank')} are not faster"
    if series.kind == "strong" and series.strategy != "async" \
            and last.ranks * 2 <= options.max_ranks:
        text += (f"; with more than {plural(last.ranks, 'rank')} some have no row of the global "
                 "batch")
    return text


_CAUSES = {"fixed part of a step": "the fixed cost of a step takes",
           "sharing the node": "ranks slowing each other down on a node take",
           "pipeline bubble": "waiting for the other stages of the pipeline takes",
           "latency": "the latency of messages takes",
           "bandwidth": "moving bytes between ranks, and waiting for them, takes",
           "input": "waiting for rows from the files takes",
           "servers": "waiting for the parameter servers takes"}


def _network(options: Namespace) -> Network | None:
    """What the micro-benchmark measured; None without one."""
    file = options.microbench
    if file is None:
        benches = []
        for path in sorted(options.study.glob("microbench-*/microbench.json")):
            bench = _read(path)
            benches.append((bench.get("ranks", 0), path, bench))
        if not benches:
            return None
        _, file, bench = max(benches, key=lambda candidate: candidate[0])
    else:
        bench = _read(file)
    return models.network(bench, str(file))


def _read(path: Path) -> dict[str, Any]:
    try:
        bench = json_data.read(path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the micro-benchmark's file {path}: {reason(error)}. Write "
                         f"it with\n  mpirun -np 4 hpc-deepfake scaling microbench --json "
                         f"{shlex.quote(str(path))}") from None
    return bench if isinstance(bench, dict) else {}
