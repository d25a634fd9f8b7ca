"""The tables of the report, for HTML, Markdown and CSV alike."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hpc_deepfake.core.text import number, percent, plural
from hpc_deepfake.scaling import laws
from hpc_deepfake.scaling.records import STAGES, Row
from hpc_deepfake.scaling.series import Series, Size, choose
from hpc_deepfake.scaling.study import DONE


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: its caption.
        head: headers of the columns.
        lines: cells; the first of each line is its header.
        note: sentences below the table.
    """

    title: str
    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    note: str = ""


def answer(groups: Sequence[Series], rows: Sequence[Row], minimum: float) -> list[str]:
    """The result of the study in a few sentences.

    Args:
        groups: its series.
        rows: its runs.
        minimum: minimum efficiency of the recommended number of ranks.
    """
    done = sum(row.state == DONE for row in rows)
    lines = [f"{done} of {len(rows)} runs are finished"
             + (f"; {len(rows) - done} failed or are missing, listed below." if done < len(rows)
                else ".")]
    for series in groups:
        if len(series.sizes) < 2:
            lines.append(f"{series.name}: only {plural(series.base.ranks, 'rank')} measured, which "
                         "says nothing about scaling.")
            continue
        last, choice = series.sizes[-1], choose(series, minimum)
        text = (f"{series.name}: {plural(last.ranks, 'rank')} reach {last.speedup:.2f} times the "
                f"speed of {series.base.ranks}, efficiency {last.efficiency:.0%}")
        if series.fit is not None:
            text += f"; serial fraction {_fraction(series.fit)} ({series.fit.law})"
        text += (f". Cheapest: {plural(choice.cheapest.ranks, 'rank')}; fastest with at least "
                 f"{minimum:.0%} efficiency: {plural(choice.fastest.ranks, 'rank')}.")
        lines.append(text)
    return lines


def tables(groups: Sequence[Series], rows: Sequence[Row], minimum: float) -> list[Table]:
    """All tables in the report's order, one for each series where that applies; arguments as of
    ``answer``."""
    made = [_sizes(series) for series in groups]
    made += [_time(series) for series in groups if any(row.seconds for size in series.sizes
                                                       for row in size.rows)]
    if any(series.fit for series in groups):
        made.append(_fits(groups))
    if groups:
        made.append(_costs(groups, minimum))
    notes: set[str] = set()
    for index, table in enumerate(made):  # a note that tables share is shown once
        if table.note in notes:
            made[index] = replace(table, note="")
        notes.add(table.note)
    made += [_used(rows), _unfinished(rows)]
    timelines = [row for row in rows if row.timeline]
    if timelines:
        made.append(_timelines(timelines))
    return [table for table in made if table.lines]


def _sizes(series: Series) -> Table:
    law = "Gustafson" if series.kind == "weak" else "Karp–Flatt"
    return Table(
        f"Scaling: {series.name}",
        ("ranks", "nodes", "runs", "images/s", "lowest–highest", "speed-up", "efficiency",
         f"serial fraction ({law})"),
        tuple((str(size.ranks), str(size.nodes), str(len(size.rows)), f"{size.rate:,.1f}",
               f"{size.low:,.1f}–{size.high:,.1f}", f"{size.speedup:.3f}",
               percent(size.efficiency), number(size.serial, ".4f")) for size in series.sizes),
        f"Speed-up over {plural(series.base.ranks, 'rank')}. "
        + "Images/s by the wall clock, evaluation and saving included. " * (
            series.kind != "preprocess")
        + ("The work is proportional to the ranks." if series.kind == "weak"
           else "The same work at all sizes.")
        + " Servers count as ranks." * (series.strategy == "async"))


def _time(series: Series) -> Table:
    names = list(dict.fromkeys(name for size in series.sizes for row in size.rows
                               for name in row.seconds))
    names = [name for name in STAGES if name in names] + [name for name in names
                                                          if name not in STAGES]
    training = series.kind != "preprocess"
    more = ("evaluation", "checkpoint", "first epoch", "first step") if training else ()

    def line(size: Size) -> tuple[str, ...]:
        seconds = {name: _median(row.seconds.get(name) for row in size.rows) or 0.0
                   for name in names}
        total = sum(seconds.values()) or 1.0
        cells = [f"{value:.3f} ({value / total:.0%})" for value in seconds.values()]
        if training:
            cells += [number(_median(getattr(row, attribute) for row in size.rows), ".3f")
                      for attribute in ("evaluate", "checkpoint", "first_epoch", "first_step")]
        return (str(size.ranks), *cells)

    note = ("Seconds of an epoch, mean over the ranks, median over the epochs without the first of "
            "each start; in brackets the share of training. Communication is the part not hidden "
            "behind the computation; imbalance is the mean wait for the slowest rank. First epoch "
            "and first step (of the slowest rank, which builds the graph) are shown separately.") \
        if training else ("Seconds, mean over the ranks; imbalance is how much more the busiest "
                          "rank had to do.")
    return Table(f"Time: {series.name}", ("ranks", *names, *more), tuple(map(line, series.sizes)),
                 note)


def _fits(groups: Sequence[Series]) -> Table:
    fitted = [(series.name, series.fit) for series in groups if series.fit is not None]
    return Table(
        "Fitted laws",
        ("series", "law", "serial fraction s", "95% band", "images/s of one rank",
         "largest deviation", "points", "maximum speed-up"),
        tuple((name, fit.law, f"{fit.serial:.4f}",
               "–" if fit.low is None else f"{fit.low:.4f}–{fit.high:.4f}",
               f"{fit.single_rate:,.1f}", percent(fit.error), str(fit.points),
               f"{1 / fit.serial:,.0f}" if fit.law == "Amdahl" and fit.serial > 1e-6 else "–")
              for name, fit in fitted),
        "Amdahl 1967: T(n) = T₁ (s + (1 − s)/n), for the same work. Gustafson 1988: "
        "S(n) = n + (1 − n) s, for work proportional to the ranks. Linear least squares of the "
        "relative errors over all runs; band by Student's t and the delta method, none without "
        "degrees of freedom.")


def _costs(groups: Sequence[Series], minimum: float) -> Table:
    lines = []
    for series in groups:
        choice = choose(series, minimum)
        for size in series.sizes:
            marks = [text for text, best in (("cheapest", choice.cheapest),
                                             (f"fastest from {minimum:.0%}", choice.fastest))
                     if best is size]
            lines.append((series.name, str(size.ranks), str(size.nodes), f"{size.epoch:,.2f}",
                          f"{size.node_hours:.5f}", f"{size.node_hours_per_row * 1e6:,.2f}",
                          percent(size.efficiency), ", ".join(marks)))
    return Table("Cost of an epoch", ("series", "ranks", "nodes", "seconds", "node hours",
                                      "node hours for 10⁶ rows", "efficiency", ""), tuple(lines),
                 "By the wall clock, with evaluation and saving, without start and first epoch. A "
                 "run on part of a node is charged the whole node.")


def _used(rows: Sequence[Row]) -> Table:
    return Table(
        "What the runs used",
        ("run", "state", "elapsed s", "CPU efficiency", "memory of the largest rank", "GPU hours",
         "hosts", "source", "notes"),
        tuple((row.run.name, row.state + (f" ({row.job_state})" if row.job_state else ""),
               number(row.elapsed, ",.0f"), percent(row.cpu_efficiency),
               "–" if not row.memory else f"{row.memory / 2**20:,.0f} MB",
               number(row.gpu_hours, ".2f"), "–" if row.hosts is None else str(row.hosts),
               row.source or "–", "; ".join(row.notes))
              for row in rows if row.state == DONE),
        "From the scheduler's accounting if it has the job, otherwise as the run measured itself.")


def _unfinished(rows: Sequence[Row]) -> Table:
    return Table("Failed and missing runs", ("run", "state", "nodes", "ranks", "reason"),
                 tuple((row.run.name, row.state, str(row.run.nodes), str(row.run.ranks), row.why)
                       for row in rows if row.state != DONE),
                 "They are not part of any figure above. To submit them again, repeat the command "
                 "that submitted the study.")


def _timelines(rows: Sequence[Row]) -> Table:
    lines = []
    for row in rows:
        steps = max(int(row.timeline.get("steps", 0)), 1)
        phases = {**{str(name): float(value) for name, value in
                     row.timeline.get("seconds", {}).items()},
                  **{f"Horovod {tensor}: {name.lower().replace('_', ' ')}": float(value)
                     for tensor, kinds in row.timeline.get("horovod", {}).items()
                     for name, value in kinds.items()}}
        lines += [(row.run.name, name, f"{seconds / steps * 1e3:,.1f}")
                  for name, seconds in phases.items() if seconds]
    return Table("Time of a step, from the timelines", ("run", "phase", "ms per step"),
                 tuple(lines), "Mean over the ranks; Horovod's activities, as recorded by rank 0, "
                 "overlap with the steps. To see the runs' traces, open them in "
                 "https://ui.perfetto.dev.")


def csv_rows(rows: Sequence[Row]) -> tuple[list[str], list[list[Any]]]:
    """Every run, with unrounded numbers: header and lines of ``runs.csv``."""
    names = list(dict.fromkeys([*STAGES, *(name for row in rows for name in row.seconds)]))
    head = ["run", "kind", "input", "strategy", "nodes", "ranks", "repeat", "state", "why",
            "images_per_s", "training_images_per_s", "rows", "batch", "steps", "precision",
            *(f"{name}_s" for name in names), "evaluate_s", "checkpoint_s", "first_epoch_s",
            "first_step_s", "epoch_s", "epoch_node_hours", "elapsed_s", "cpu_efficiency",
            "memory_bytes", "gpu_hours", "job_state", "source"]
    return head, [[row.run.name, row.run.kind, row.run.input, row.run.strategy, row.run.nodes,
                   row.run.ranks, row.run.repeat, row.state, row.why, row.rate, row.training,
                   row.rows, row.batch, row.steps, row.precision,
                   *(row.seconds.get(name) for name in names),
                   row.evaluate, row.checkpoint, row.first_epoch, row.first_step, row.epoch,
                   row.node_hours, row.elapsed, row.cpu_efficiency, row.memory, row.gpu_hours,
                   row.job_state, row.source] for row in rows]


def csv_sizes(groups: Sequence[Series]) -> tuple[list[str], list[list[Any]]]:
    """Every size of every series: header and lines of ``sizes.csv``."""
    head = ["kind", "input", "strategy", "ranks", "nodes", "runs", "images_per_s", "speedup",
            "efficiency", "serial_fraction", "epoch_s", "epoch_node_hours", "law", "fitted_s",
            "fitted_low", "fitted_high"]
    return head, [[series.kind, series.input, series.strategy, size.ranks, size.nodes,
                   len(size.rows), size.rate, size.speedup, size.efficiency, size.serial,
                   size.epoch, size.node_hours,
                   *((series.fit.law, series.fit.serial, series.fit.low, series.fit.high)
                     if series.fit else ("", None, None, None))]
                  for series in groups for size in series.sizes]


def _fraction(fit: laws.Fit) -> str:
    band = "" if fit.low is None else f" (95%: {fit.low:.2%} to {fit.high:.2%})"
    return f"{fit.serial:.2%}{band}"


def _median(values: Iterable[float | None]) -> float | None:
    """Median of the values that are known; None without any."""
    numbers = [value for value in values if value is not None]
    return statistics.median(numbers) if numbers else None
