"""The report's tables, once, for HTML, Markdown and CSV alike."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hpc_deepfake.core.text import number
from hpc_deepfake.scaling import cost, laws
from hpc_deepfake.scaling.records import STAGES, Row
from hpc_deepfake.scaling.series import Series, Size
from hpc_deepfake.scaling.study import DONE


@dataclass(frozen=True)
class Table:
    """Texts; the first of each line is its heading."""

    title: str
    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    note: str = ""


def answer(found: Sequence[Series], rows: Sequence[Row], wanted: float) -> list[str]:
    """The study in some sentences."""
    done = sum(row.state == DONE for row in rows)
    lines = [f"{done} of {len(rows)} runs are finished"
             + (f"; {len(rows) - done} failed or are missing, listed below." if done < len(rows)
                else ".")]
    for one in found:
        if len(one.sizes) < 2:
            lines.append(f"{one.name}: on {_ranks(one.base.ranks)} only, so nothing can be said "
                         "about scaling.")
            continue
        last, choice = one.sizes[-1], cost.choose(one, wanted)
        text = (f"{one.name}: {_ranks(last.ranks)} reach {last.speedup:.2f} times the speed of "
                f"{one.base.ranks}, efficiency {last.efficiency:.0%}")
        if one.fit is not None:
            text += f"; serial fraction {_fraction(one.fit)} ({one.fit.law})"
        text += (f". Cheapest: {_ranks(choice.cheapest.ranks)}; fastest at {wanted:.0%} efficiency "
                 f"or more: {_ranks(choice.fastest.ranks)}.")
        lines.append(text)
    return lines


def tables(found: Sequence[Series], rows: Sequence[Row], wanted: float) -> list[Table]:
    """All tables in the report's order; strong and weak each in their own."""
    made = [_sizes(one) for one in found]
    made += [_time(one) for one in found if any(row.seconds for size in one.sizes
                                                for row in size.rows)]
    if any(one.fit for one in found):
        made.append(_fits(found))
    if found:
        made.append(_costs(found, wanted))
    said: set[str] = set()
    for at, one in enumerate(made):  # what tables have in common is said once
        if one.note in said:
            made[at] = replace(one, note="")
        said.add(one.note)
    made += [_used(rows), _unfinished(rows)]
    timelines = [row for row in rows if row.timeline]
    if timelines:
        made.append(_timelines(timelines))
    return [one for one in made if one.lines]


def _sizes(one: Series) -> Table:
    law = "Gustafson" if one.kind == "weak" else "Karp–Flatt"
    return Table(
        f"Scaling: {one.name}",
        ("ranks", "nodes", "runs", "images/s", "least–most", "speed-up", "efficiency",
         f"serial fraction ({law})"),
        tuple((str(size.ranks), str(size.nodes), str(len(size.rows)), f"{size.rate:,.1f}",
               f"{size.low:,.1f}–{size.high:,.1f}", f"{size.speedup:.3f}",
               f"{size.efficiency:.1%}", number(size.serial, ".4f")) for size in one.sizes),
        f"Speed-up over {_ranks(one.base.ranks)}. "
        + ("The work grows with the ranks." if one.kind == "weak"
           else "The same work at all sizes.")
        + " Servers count as ranks." * (one.strategy == "async"))


def _time(one: Series) -> Table:
    names = list(dict.fromkeys(name for size in one.sizes for row in size.rows
                               for name in row.seconds))
    names = [name for name in STAGES if name in names] + [name for name in names
                                                          if name not in STAGES]
    training = one.kind != "preprocess"
    more = ("evaluation", "checkpoint", "first epoch", "first step") if training else ()

    def line(size: Size) -> tuple[str, ...]:
        seconds = {name: _middle(row.seconds.get(name) for row in size.rows) for name in names}
        whole = sum(value or 0 for value in seconds.values()) or 1.0
        cells = [f"{seconds[name] or 0:.3f} ({(seconds[name] or 0) / whole:.0%})" for name in names]
        if training:
            cells += [number(_middle(getattr(row, what) for row in size.rows), ".3f")
                      for what in ("evaluate", "checkpoint", "first_epoch", "first_step")]
        return (str(size.ranks), *cells)

    note = ("Seconds of an epoch, of a mean rank, medians over the epochs but the first of each "
            "start; in brackets the share of training. Communication is what isn't hidden behind "
            "the computation; imbalance is what a mean rank waits for the slowest. First epoch and "
            "first step (the slowest rank's, which builds the graph) stand apart.") if training \
        else "Seconds of a mean rank; imbalance is what it has less to do than the busiest."
    return Table(f"Time: {one.name}", ("ranks", *names, *more), tuple(map(line, one.sizes)), note)


def _fits(found: Sequence[Series]) -> Table:
    return Table(
        "Fitted laws",
        ("series", "law", "serial fraction s", "95% band", "images/s of one rank",
         "largest deviation", "points", "speed-up at most"),
        tuple((one.name, one.fit.law, f"{one.fit.serial:.4f}",
               "–" if one.fit.low is None else f"{one.fit.low:.4f}–{one.fit.high:.4f}",
               f"{one.fit.one:,.1f}", f"{one.fit.error:.1%}", str(one.fit.points),
               f"{1 / one.fit.serial:,.0f}" if one.fit.law == "Amdahl" and one.fit.serial > 1e-6
               else "–") for one in found if one.fit is not None),
        "Amdahl 1967: T(n) = T₁ (s + (1 − s)/n), for the same work. Gustafson 1988: "
        "S(n) = n + (1 − n) s, for work that grows with the ranks. Linear least squares of the "
        "relative errors over all runs; band by Student's t and the delta method, none where there "
        "are no points to spare.")


def _costs(found: Sequence[Series], wanted: float) -> Table:
    lines = []
    for one in found:
        choice = cost.choose(one, wanted)
        for size in one.sizes:
            marks = [text for text, best in (("cheapest", choice.cheapest),
                                             (f"fastest from {wanted:.0%}", choice.fastest))
                     if best is size]
            lines.append((one.name, str(size.ranks), str(size.nodes), f"{size.epoch:,.2f}",
                          f"{size.node_hours:.5f}", f"{cost.per_row(size) * 1e6:,.2f}",
                          f"{size.efficiency:.1%}", ", ".join(marks)))
    return Table("Cost of an epoch", ("series", "ranks", "nodes", "seconds", "node hours",
                                      "node hours for 10⁶ rows", "efficiency", ""), tuple(lines),
                 "Training and evaluation, without start, first epoch and checkpoints. A run on "
                 "some ranks of a node is charged the node.")


def _used(rows: Sequence[Row]) -> Table:
    return Table(
        "What the runs used",
        ("run", "state", "elapsed s", "CPU efficiency", "memory of the largest rank", "GPU hours",
         "hosts", "by", "notes"),
        tuple((row.run.name, row.state + (f" ({row.job_state})" if row.job_state else ""),
               number(row.elapsed, ",.0f"), number(row.cpu_efficiency, ".1%"),
               "–" if not row.memory else f"{row.memory / 2**20:,.0f} MB",
               number(row.gpu_hours, ".2f"), "–" if row.hosts is None else str(row.hosts),
               row.source or "–", "; ".join(row.notes))
              for row in rows if row.state == DONE),
        "By the scheduler's accounting where it knows the job, else by the run itself.")


def _unfinished(rows: Sequence[Row]) -> Table:
    return Table("Failed and missing runs", ("run", "state", "nodes", "ranks", "why"),
                 tuple((row.run.name, row.state, str(row.run.nodes), str(row.run.ranks), row.why)
                       for row in rows if row.state != DONE),
                 "They are in no figure above. The command that submitted the study submits them "
                 "again.")


def _timelines(rows: Sequence[Row]) -> Table:
    lines = []
    for row in rows:
        steps = max(int(row.timeline.get("steps", 0)), 1)
        parts = {**{str(name): float(value) for name, value in
                    row.timeline.get("seconds", {}).items()},
                 **{f"Horovod {tensor}: {name.lower().replace('_', ' ')}": float(value)
                    for tensor, kinds in row.timeline.get("horovod", {}).items()
                    for name, value in kinds.items()}}
        lines += [(row.run.name, name, f"{seconds / steps * 1e3:,.1f}")
                  for name, seconds in parts.items() if seconds]
    return Table("Where the step went, by the timelines", ("run", "phase", "ms for a step"),
                 tuple(lines), "Mean over the ranks; Horovod's activities run beside the steps, as "
                 "rank 0 saw them. The runs' traces open in https://ui.perfetto.dev.")


def csv_rows(rows: Sequence[Row]) -> tuple[list[str], list[list[Any]]]:
    """Every run, with numbers as they are."""
    names = list(dict.fromkeys([*STAGES, *(name for row in rows for name in row.seconds)]))
    head = ["run", "kind", "input", "strategy", "nodes", "ranks", "repeat", "state", "why",
            "images_per_s", "rows", "batch", "steps", "precision",
            *(f"{name}_s" for name in names), "evaluate_s", "checkpoint_s", "first_epoch_s",
            "first_step_s", "epoch_s", "epoch_node_hours", "elapsed_s", "cpu_efficiency",
            "memory_bytes", "gpu_hours", "job_state", "source"]
    return head, [[row.run.name, row.run.kind, row.run.input, row.run.strategy, row.run.nodes,
                   row.run.ranks, row.run.repeat, row.state, row.why, row.rate, row.rows, row.batch,
                   row.steps, row.precision, *(row.seconds.get(name) for name in names),
                   row.evaluate, row.checkpoint, row.first_epoch, row.first_step, row.epoch,
                   row.node_hours, row.elapsed, row.cpu_efficiency, row.memory, row.gpu_hours,
                   row.job_state, row.source] for row in rows]


def csv_sizes(found: Sequence[Series]) -> tuple[list[str], list[list[Any]]]:
    """Every size of every series."""
    head = ["kind", "input", "strategy", "ranks", "nodes", "runs", "images_per_s", "speedup",
            "efficiency", "serial_fraction", "epoch_s", "epoch_node_hours", "law", "fitted_s",
            "fitted_low", "fitted_high"]
    return head, [[one.kind, one.input, one.strategy, size.ranks, size.nodes, len(size.rows),
                   size.rate, size.speedup, size.efficiency, size.serial, size.epoch,
                   size.node_hours, *((one.fit.law, one.fit.serial, one.fit.low, one.fit.high)
                                      if one.fit else ("", None, None, None))]
                  for one in found for size in one.sizes]


def _fraction(fit: laws.Fit) -> str:
    band = "" if fit.low is None else f" (95%: {fit.low:.2%} to {fit.high:.2%})"
    return f"{fit.serial:.2%}{band}"


def _ranks(count: int) -> str:
    return f"{count} rank{'s' * (count > 1)}"


def _middle(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
