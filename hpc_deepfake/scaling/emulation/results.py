"""What an emulation measured: a table, a page, and studies that ``scaling predict`` reads."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.files import write_json
from hpc_deepfake.scaling import reporting
from hpc_deepfake.scaling import study as studies
from hpc_deepfake.scaling.charts import COLOURS, grid
from hpc_deepfake.scaling.emulation.plan import Task, sent, speed
from hpc_deepfake.scaling.emulation.running import Result
from hpc_deepfake.scaling.records import rows
from hpc_deepfake.scaling.reporting import csv_text, markdown, table_html, write_text
from hpc_deepfake.scaling.study import Plan, Run
from hpc_deepfake.scaling.tables import Table
from hpc_deepfake.train.options import parser as train_parser
from hpc_deepfake.web import html
from hpc_deepfake.web.html import Html, join, paragraph
from hpc_deepfake.web.svg import Chart, figure

_CSV = ("strategy", "ranks", "link_bit_per_s", "images_per_s", "efficiency", "communication_share",
        "step_s", "fastest_step_s", "slowest_step_s", "sent_bytes", "slow_motion", "load",
        "limited_by_processors")


def line(result: Result) -> str:
    """A result for the terminal."""
    task = result.task
    return (f"{task.strategy:<10} {task.ranks:>3} ranks  {speed(task.link):>10}  "
            f"{result.rate:>8,.0f} images/s  efficiency {result.efficiency:>4.0%}  "
            f"communication {result.share:>4.0%}"
            + "  limited by this machine's processors, not by the links" * result.limited)


def table(results: Sequence[Result]) -> Table:
    """All results."""
    def cells(result: Result) -> tuple[str, ...]:
        task = result.task
        return (task.strategy, str(task.ranks), speed(task.link), f"{result.rate:,.0f}",
                f"{result.efficiency:.0%}", f"{result.share:.0%}", f"{result.step * 1e3:,.0f}",
                f"{min(result.steps) * 1e3:,.0f}–{max(result.steps) * 1e3:,.0f}",
                f"{sent(task) / 1e6:,.1f}", f"{task.slow:.2f}",
                "processors" if result.limited else "")

    return Table("Emulated ranks", (
        "strategy", "ranks", "link", "images/s", "efficiency", "communication", "step ms",
        "fastest–slowest", "MB sent", "slow motion", "limited by"),
        tuple(map(cells, results)),
        "Efficiency: over what the ranks would compute without messages; a server of async counts "
        "as a rank. Communication: share of a step in which a computing rank waits. Of async, step "
        "is the time between two updates. MB sent: by the busiest rank in a step. Times are those "
        "without slow motion. Rows that this machine's processors limit say nothing about "
        "networks.")


def answers(results: Sequence[Result]) -> list[str]:
    """The results in a few sentences: for each link, where sync stops scaling, and what the other
    strategies win over it on the most ranks."""
    usable = [result for result in results if not result.limited]
    lines = []
    for link in dict.fromkeys(result.task.link for result in usable):
        own = [result for result in usable if result.task.link == link]
        sync = sorted((result for result in own if result.task.strategy == "sync"),
                      key=lambda result: result.task.ranks)
        if not sync:
            continue
        below = next((result for result in sync if result.efficiency < 0.5), None)
        text = f"{speed(link)}: sync " + (
            f"falls below half of the efficiency at {below.task.ranks} ranks "
            f"({below.efficiency:.0%})" if below else
            f"keeps {sync[-1].efficiency:.0%} of the efficiency at {sync[-1].task.ranks} ranks")
        last = sync[-1]
        others = [f"{other.task.strategy} {other.rate / last.rate:.2f}" for other in own
                  if other.task.ranks == last.task.ranks and other is not last]
        if others:
            text += f"; on {last.task.ranks} ranks, times sync: {', '.join(others)}"
        lines.append(f"{text}.")
    limited = len(results) - len(usable)
    if limited:
        lines.append(f"{limited} of {len(results)} rows are limited by this machine's processors "
                     "and left out: give more --slow-motion.")
    return lines


def write(out: Path, results: Sequence[Result], planned: int,
          facts: dict[str, Any]) -> list[str]:
    """Write emulation.html, .md, .csv and .json; the result in a few sentences.

    Args:
        out: folder.
        results: all of them.
        planned: number of rows that a complete run has.
        facts: what else the JSON file says.

    Raises:
        InputError: it can't be written.
    """
    shown, sentences = table(results), answers(results)
    if len(results) < planned:
        sentences.append(f"Stopped after {len(results)} of {planned} rows: the others are missing. "
                         "The same command measures all of them again.")
    title = f"Emulated ranks: {out.resolve().name}"
    lines = [[result.task.strategy, result.task.ranks, result.task.link, result.rate,
              result.efficiency, result.share, result.step, min(result.steps), max(result.steps),
              sent(result.task), result.task.slow, result.load, int(result.limited)]
             for result in results]
    head = join([html.tag("h1", title), *(paragraph(text, class_="answer") for text in sentences)])
    try:
        write_text(out / "emulation.html", html.page(title, head, [
            ("Efficiency", grid(_charts(results))), (shown.title, table_html(shown))]))
        write_text(out / "emulation.md", markdown(title, sentences, [shown]))
        write_text(out / "emulation.csv", csv_text(_CSV, lines))
        write_json(out / "emulation.json", {
            **facts, "rows_planned": planned,
            "rows": [dict(zip(_CSV, line, strict=True)) for line in lines]})
    except OSError as error:
        raise InputError(f"cannot write in {out}: {reason(error)}; choose another place with "
                         "--out") from None
    return sentences


def _charts(results: Sequence[Result]) -> list[Html]:
    """Efficiency over ranks, a chart for each link."""
    charts = []
    for link in dict.fromkeys(result.task.link for result in results):
        own = [result for result in results if result.task.link == link]
        ticks = sorted({math.log2(result.task.ranks) for result in own} | {0.0})
        chart = Chart(f"efficiency over ranks, links of {speed(link)}; the table has the values",
                      (ticks[0] - 0.2, ticks[-1] + 0.2), (0, 1.05), "ranks", "efficiency",
                      xticks=ticks, xform=lambda power: f"{2**power:.0f}",
                      yform="{:.0%}".format)
        legend = []
        for strategy, colour in zip(dict.fromkeys(result.task.strategy for result in own),
                                    COLOURS, strict=False):
            line = [result for result in own if result.task.strategy == strategy]
            chart.line([(math.log2(result.task.ranks), result.efficiency) for result in line],
                       colour)
            for result in line:
                chart.dot(math.log2(result.task.ranks), result.efficiency, colour,
                          f"{result.task.name}: {result.efficiency:.0%}, "
                          f"{result.rate:,.0f} images/s", 3)
            legend.append((colour, strategy))
        charts.append(figure(f"Links of {speed(link)}", chart, legend))
    return charts


def study(out: Path, link: float, compression: str = "none") -> Path:
    """Folder of the study of a link and compression."""
    return out / (f"links-{link / 1e6:g}M" + f"-{compression}" * (compression != "none"))


def write_studies(out: Path, results: Sequence[Result],
                  benches: Mapping[float, Any]) -> list[Path]:
    """Write the results as weak studies with the records of runs, one for each link and
    compression, which ``scaling report`` and ``scaling predict`` read; their folders.

    Args:
        out: folder.
        results: all of them.
        benches: what ``scaling microbench`` measured on each link.
    """
    groups: dict[tuple[float, str], list[Result]] = {}
    for result in results:
        if not result.limited:
            compression = "fp16" if result.task.strategy == "sync:fp16" else "none"
            groups.setdefault((result.task.link, compression), []).append(result)
    folders = []
    for (link, compression), own in groups.items():
        folder = study(out, link, compression)
        if benches.get(link):
            bench = folder / "microbench-emulated" / "microbench.json"
            bench.parent.mkdir(parents=True, exist_ok=True)
            write_json(bench, benches[link])
        task = own[0].task
        runs = [_write_run(folder, _alone(task), [task.compute.total] * 2, 0.0)]
        # updates of async come in bursts: only their mean is a rate
        runs += [_write_run(folder, result.task, [result.step] if result.task.strategy == "async"
                            else result.steps, 1.0) for result in own]
        most = max(run.ranks for run in runs)
        folder.joinpath(studies.NAME).unlink(missing_ok=True)
        studies.write(folder, Plan(tuple(runs), 1, 3600))
        reporting.write(folder, rows(folder, Plan(tuple(runs), most, 3600), None), folder, 0.7)
        folders.append(folder)
    return folders


def _alone(task: Task) -> Task:
    """One rank without messages."""
    return Task("sequential", 1, task.link, 1.0, 2, task.batch, task.compute, task.sizes)


def _write_run(folder: Path, task: Task, steps: Sequence[float], communicating: float) -> Run:
    """Write the records of a run, with an epoch for each measured step or period."""
    strategy, _, kind = task.strategy.partition(":")
    shape = task.mesh
    period = task.every if strategy == "local-sgd" else task.workers if strategy == "async" else 1
    together = 1 if strategy == "async" else task.ranks  # ranks that a step has
    count = task.batch * together * period
    arguments = ["--epochs", str(len(steps) + 1), "--patience", "0", "--no-report", "--strategy",
                 strategy, "--synthetic", str(count)]
    if shape:
        of_share = task.batch * task.ranks // shape.data
        arguments += ["--mesh", str(shape), "--batch-size", str(of_share // task.micro),
                      "--accumulate", str(task.micro)]
    else:
        arguments += ["--batch-size", str(task.batch)]
    if kind and not shape:
        arguments += ["--compression", kind]
    if strategy == "local-sgd":
        arguments += ["--sync-every", str(task.every)]
    name = studies.run_name("weak", "synthetic", task.strategy if shape else strategy, task.ranks)
    run = Run(f"{name}-r1", "weak", "synthetic", task.strategy if shape else strategy, task.ranks,
              task.ranks, 1, "emulated", tuple(arguments))
    config = vars(train_parser().parse(arguments))
    if strategy == "hybrid":
        config["shard_group"] = task.ranks
    place = folder / run.name
    place.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, step in enumerate([steps[0], *steps], 1):
        wall = step * period
        own = [value * (period if strategy != "async" else 1) for value in task.computing]
        mean = statistics.mean(own)
        seconds = {"input": 0.0, "compute": mean,
                   "communication": max(wall - mean, 0.0) * communicating}
        ranks = {name: {"min": value, "mean": value, "max": value}
                 for name, value in seconds.items()}
        ranks["compute"] = {"min": min(own), "mean": mean, "max": max(own)}
        lines.append({"epoch": number, "step": number * period, "images_per_s": count / wall,
                      "wall_images_per_s": count / wall,
                      "seconds": {**seconds, "evaluate": 0.0, "checkpoint": 0.0}, "ranks": ranks,
                      **({"server": {"applying_s": task.compute.update * period}}
                         if strategy == "async" else {})})
    (place / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    write_json(place / "config.json", json.loads(json.dumps(config, default=str)))
    write_json(place / "environment.json", {"ranks": [
        {"host": f"n{rank:03}", "threads": 1, "device": "CPU", "name": "emulated"}
        for rank in range(task.ranks)]})
    write_json(place / "summary.json", {
        "strategy": strategy, "ranks": task.ranks, "train_rows": count,
        "epochs": len(lines), "seconds": sum(steps) * period, "usage": []})
    return run
