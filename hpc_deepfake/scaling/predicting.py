"""``hpc-deepfake scaling predict``: sizes that were not run, with the error at those that were."""

from __future__ import annotations

import json
import shlex
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.options import Parser, at_least, between
from hpc_deepfake.network.settings import PRECISIONS
from hpc_deepfake.scaling import model as models
from hpc_deepfake.scaling import study as studies
from hpc_deepfake.scaling.model import Model, Network
from hpc_deepfake.scaling.predicted import Point, Prediction, write
from hpc_deepfake.scaling.records import Row, rows
from hpc_deepfake.scaling.series import Series, series
from hpc_deepfake.strategies.layout import Layout
from hpc_deepfake.strategies.mesh.cut import cut, numbers, operations
from hpc_deepfake.strategies.mesh.shape import grow

_EXAMPLES = """examples:
  hpc-deepfake scaling predict runs/scaling --microbench mb.json
  hpc-deepfake scaling predict runs/scaling --microbench mb.json --fit-ranks 1 2 --max-ranks 1024
  hpc-deepfake scaling predict runs/scaling --microbench mb.json --precision bfloat16 \\
      --compute-factor 0.6 --global-batch 4096
  hpc-deepfake scaling predict runs/scaling --also hybrid mesh:tensor=2,pipeline=2

The model is fitted to the smaller sizes and tested on the others; then it is fitted to all of them
for the sizes that were not run. Written are predict.html, predict.md, predict.csv, predict.json,
predict.png and predict.svg."""
# bytes of a number that travels; weights and gradients of bfloat16 are float32
_WIDTHS = {"float32": 4, "bfloat16": 4, "float64": 8}
_DEFAULTS = {**asdict(Layout()), "accumulate": 1}  # of options that a run's records don't have


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake scaling predict", epilog=_EXAMPLES, description=(
        "Predict images per second and efficiency for numbers of ranks, batches and precisions "
        "that were not run, and say where scaling stops and why."))
    cli.add_argument("study", type=Path, metavar="STUDY", help="folder of the study")
    cli.add_argument("--microbench", type=Path, metavar="FILE",
                     help="JSON of scaling microbench (default: the one of STUDY with the most "
                          "ranks; without any, latency is taken for nothing)")
    cli.add_argument("--fit-ranks", type=at_least(1), nargs="+", metavar="N",
                     help="sizes to fit to (default: all but the largest)")
    cli.add_argument("--also", nargs="+", metavar="NAME",
                     help="strategies that were not run: sync, hybrid, local-sgd, or mesh:tensor=2 "
                          "and the like; computing as measured, none of the communication hidden")
    cli.add_argument("--bound", type=between(0, 10), default=0.25, metavar="E",
                     help="relative error at the tested sizes up to which the model counts as good")
    cli.add_argument("--max-ranks", type=at_least(1), default=4096, metavar="N",
                     help="to predict up to")
    cli.add_argument("--stop-efficiency", type=between(0, 1), default=0.5, metavar="E",
                     help="efficiency below which scaling has stopped")
    cli.add_argument("--global-batch", type=at_least(1), metavar="ROWS",
                     help="strong: another global batch than the study's")
    cli.add_argument("--batch-size", type=at_least(1), metavar="ROWS",
                     help="weak: another batch of each rank than the study's")
    cli.add_argument("--precision", choices=PRECISIONS, help="another one than the study's")
    cli.add_argument("--compute-factor", type=between(0.001, 1000), metavar="F",
                     help="computing takes F times as long there; two short runs of train "
                          "--synthetic measure it")
    cli.add_argument("--compression", choices=("none", "fp16"), help="as for train")
    cli.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: STUDY)")
    return cli


def main(argv: Sequence[str]) -> int:
    """Returns the exit code."""
    options = parser().parse(argv)
    also = list(dict.fromkeys(options.also or ()))
    for name in also:
        studies.known(name, "--also")
        if name in ("sequential", "async"):
            raise InputError(f"--also {name}: " + (
                "it has one rank" if name == "sequential" else
                "how long a server needs for an update is known from runs only; add some to the "
                "study with STRATEGIES=async"))
    found = rows(options.study, studies.read(options.study), None)
    net = _network(options)
    if also and net is None:
        raise InputError("--also: what wasn't run is predicted from the network's latency and "
                         "bandwidth: give --microbench FILE")
    groups = [one for one in series(found) if one.kind in ("strong", "weak")]
    usable = [one for one in groups if len(one.sizes) > 1]
    skipped = [one.name for one in groups if one not in usable]
    if not usable:
        raise InputError(f"{options.study} has no strategy with finished runs on two or more "
                         "numbers of ranks: nothing to fit a model to (hpc-deepfake scaling report "
                         "tells what is there)")
    made = [predict(one, net, options, [row for other in usable for size in other.sizes
                                        for row in size.rows
                                        if (other.input, other.strategy)
                                        == (one.input, one.strategy)]) for one in usable]
    made += [_not_run(one, name, options) for name in also
             for one in _one_each(made) if not any(
                 (other.series.kind, other.series.input, other.series.strategy)
                 == (one.series.kind, one.series.input, name) for other in made)]
    out = options.out or options.study
    print("\n".join(write(made, net, options, out, skipped)))
    print(f"prediction: {out / 'predict.html'}")
    return 0


def predict(one: Series, net: Network | None, options: Namespace,
            like: Sequence[Row]) -> Prediction:
    """The model of a series, tested and applied.

    Args:
        like: runs of the same strategy and input, strong and weak.

    Raises:
        InputError: there is nothing to fit to, or a precision without its factor.
    """
    sizes = [size.ranks for size in one.sizes]
    small = [size for size in sizes if size in options.fit_ranks] if options.fit_ranks \
        else sizes[:-1]
    if not small:
        raise InputError(f"--fit-ranks {' '.join(map(str, options.fit_ranks))}: {one.name} was run "
                         f"on {', '.join(map(str, sizes))} ranks")
    facts = _facts(one)
    name = one.strategy.partition(":")[0]
    early = models.fit(name, [row for row in like if row.run.ranks in small], net, **facts)
    tested = []
    for size in one.sizes:
        batch = size.rows[0].batch
        tested.append(_point(early, size.ranks, batch, size.rate, one, early, size.ranks in small))
    whole = models.fit(name, like, net, **facts)
    changed = _changed(whole, one, options)
    points = _points(changed, one, options)
    return Prediction(one, changed, tuple(tested), points, _stop(points, one, options))


def _one_each(made: Sequence[Prediction]) -> list[Prediction]:
    """Of each kind and input one whose computing is a rank's own."""
    first: dict[tuple[str, str], Prediction] = {}
    for one in sorted(made, key=lambda one: one.series.strategy != "sync"):
        if one.series.strategy != "async":
            first.setdefault((one.series.kind, one.series.input), one)
    return list(first.values())


def _not_run(like: Prediction, strategy: str, options: Namespace) -> Prediction:
    """Of a strategy, with the computing of another one's runs."""
    row = like.series.sizes[-1].rows[0]
    layout = _layout(strategy, row)
    if "cuts" in layout:
        costs = operations()
        stages = [sum(costs[block] for block in blocks)
                  for blocks in cut(len(layout["cuts"]) + 1)]
        layout["uneven"] = max(stages) * len(stages) / sum(stages)
    model = replace(like.model, **{
        "strategy": strategy.partition(":")[0], "hidden": 1.0, "shards": 1, "cuts": (), **layout})
    one = replace(like.series, strategy=strategy, sizes=like.series.sizes[:1])
    points = _points(model, one, options)
    return Prediction(one, model, (), points, _stop(points, one, options), like.series.name)


def _facts(one: Series) -> dict[str, Any]:
    """Of the runs' own options."""
    row = one.sizes[-1].rows[0]
    width = _WIDTHS.get(row.precision or "float32", 4)
    layout = {size.ranks: models.density(size.rows[0]) for size in one.sizes}
    return {"width": width, "layout": tuple(layout.items()),
            "kernel_width": 2 if row.config.get("compression") == "fp16" else width,
            **_layout(one.strategy, row)}


def _layout(strategy: str, row: Row) -> dict[str, Any]:
    """What decides how much this strategy moves, of a run's options."""
    config = {**_DEFAULTS, **row.config}
    name, _, axes = strategy.partition(":")
    if name == "mesh":
        shape = grow(axes, 0)
        stages = cut(shape.pipeline, config["stages"])
        return {"shards": shape.tensor, "micro": int(config["accumulate"]),
                "cuts": tuple(numbers(blocks[-1]) for blocks in stages[:-1])}
    return {"async": {"servers": int(config["servers"])},
            "local-sgd": {"every": int(config["sync_every"])},
            "hybrid": {"group": int(config["shard_group"]) or row.run.ranks_per_node},
            }.get(name, {})


def _changed(model: Model, one: Series, options: Namespace) -> Model:
    """For the precision and compression that were asked for."""
    precision = options.precision
    now = one.sizes[-1].rows[0].precision or "float32"
    if precision is not None and precision != now:
        if options.compute_factor is None:
            raise InputError(f"how fast {precision} computes was not measured in this study, which "
                             f"has {now}: give --compute-factor, the seconds of computing of\n"
                             f"  python -m hpc_deepfake.train --synthetic 512 --precision "
                             f"{precision} --epochs 3\nover those with {now}")
        width = _WIDTHS[precision]
        model = replace(model, width=width, kernel_width=width)
    if options.compute_factor is not None:
        model = model.computing(options.compute_factor)
    if options.compression is not None:
        model = replace(model, kernel_width=2 if options.compression == "fp16" else model.width)
    return model


def _batch(one: Series, ranks: int, options: Namespace) -> float:
    """Rows of a rank and step on so many ranks."""
    first = one.base
    if one.kind == "weak" or one.strategy == "async":
        return options.batch_size or first.rows[0].batch
    return (options.global_batch or first.rows[0].batch * first.ranks) / ranks


def _points(model: Model, one: Series, options: Namespace) -> tuple[Point, ...]:
    measured = {size.ranks: size.rate for size in one.sizes} if _same(options) else {}
    wanted = {size.ranks for size in one.sizes}
    ranks = one.base.ranks
    while ranks <= options.max_ranks:
        wanted.add(ranks)
        ranks *= 2
    return tuple(_point(model, ranks, batch, measured.get(ranks), one, model, ranks in measured)
                 for ranks in sorted(wanted) if (batch := _batch(one, ranks, options)) >= 1
                 and (ranks == 1 or ranks % model.together == 0))


def _same(options: Namespace) -> bool:
    """Whether what is predicted is what was run."""
    return not any((options.global_batch, options.batch_size, options.precision,
                    options.compute_factor, options.compression))


def _point(model: Model, ranks: int, batch: float, measured: float | None, one: Series,
           base: Model, used: bool) -> Point:
    """Efficiency is over the base that the same model predicts."""
    first = one.base
    scale = batch if one.kind == "weak" or one.strategy == "async" else batch * ranks / first.ranks
    base_rate = base.rate(first.ranks, scale)
    rate = model.rate(ranks, batch)
    return Point(ranks, batch, measured, rate, rate / base_rate * first.ranks / ranks,
                 model.terms(ranks, batch), used)


def _stop(points: Sequence[Point], one: Series, options: Namespace) -> str:
    """Where scaling stops, and what takes the time there."""
    below = next((point for point in points if point.efficiency < options.stop_efficiency), None)
    most = max(points, key=lambda point: point.rate)
    last = points[-1]
    if below is None:
        text = (f"efficiency stays above {options.stop_efficiency:.0%} up to "
                f"{last.ranks:,} ranks")
    else:
        losses = {name: seconds for name, seconds in below.terms.items()
                  if name != "computing rows"}
        why = max(losses, key=losses.get)
        whole = sum(below.terms.values())
        text = (f"scaling stops at {below.ranks:,} ranks, with an efficiency of "
                f"{below.efficiency:.0%}: {_WHY[why]} {losses[why] / whole:.0%} of a step there, "
                f"computing rows {below.terms['computing rows'] / whole:.0%}")
    if most.ranks < last.ranks:
        text += f"; more ranks than {most.ranks:,} are no faster at all"
    if one.kind == "strong" and one.strategy != "async" and last.ranks * 2 <= options.max_ranks:
        text += f"; beyond {last.ranks:,} ranks not every rank has a row of the global batch"
    return text


_WHY = {"fixed part of a step": "what a step costs whatever its rows takes",
        "sharing the node": "what ranks of a node slow each other takes",
        "pipeline bubble": "waiting for the other stages of the pipeline takes",
        "latency": "the latency of the messages takes",
        "bandwidth": "moving bytes between ranks, and waiting for them, takes",
        "input": "waiting for rows from the files takes",
        "servers": "waiting for the parameter servers takes"}


def _network(options: Namespace) -> Network | None:
    """What the micro-benchmark measured; None where there is none."""
    file = options.microbench
    if file is None:
        found = []
        for path in sorted(options.study.glob("microbench-*/microbench.json")):
            result = _json(path)
            found.append((result.get("ranks", 0), path, result))
        if not found:
            return None
        _, file, result = max(found, key=lambda one: one[0])
    else:
        result = _json(file)
    return models.network(result, str(file))


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"--microbench {path} can't be read: {error}. Write it with\n"
                         f"  mpirun -np 4 hpc-deepfake scaling microbench --json "
                         f"{shlex.quote(str(path))}") from None
    return found if isinstance(found, dict) else {}
