"""What the checks found: one table for all ranks."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hpc_deepfake.doctor.place import Place, count, label

INFO, OK, WARN, FAIL = VERDICTS = "info", "ok", "warn", "FAIL"  # from good to bad
_WIDTH = 100
_LEFT = 26  # columns before the value
_NAMED = 4  # groups of ranks that differ


@dataclass(frozen=True)
class Record:
    """One line of the table.

    Attributes:
        todo: what to do; its lines that begin with two spaces are commands to paste.
        amount: where ranks may differ without being at fault (free memory), the smallest counts.
        scope: whether this rank speaks for itself (``rank``), for its node, or for ``all``.
    """

    what: str
    value: str
    verdict: str = OK
    todo: str = ""
    amount: float | None = None
    scope: str = "rank"

    @property
    def urgent(self) -> bool:
        """Whether there is something to do."""
        return self.verdict in (WARN, FAIL)

    @property
    def severity(self) -> int:
        return VERDICTS.index(self.verdict)


def attempt(what: str, check: Callable[..., Record | list[Record] | None], *arguments: Any,
            todo: str = "this check itself broke: the line says how, and often why a job would",
            ) -> list[Record]:
    """The check's records; an exception becomes one, with what to do then."""
    try:
        found = check(*arguments)
    except Exception as error:
        return [Record(what, problem(error), FAIL, todo)]
    return found if isinstance(found, list) else [found] if found else []


def problem(error: BaseException) -> str:
    """An exception in one line."""
    text = getattr(error, "strerror", None) or str(error)
    text = " ".join(re.sub(r"\{\{.*?\}\}", "", text).split())  # TensorFlow's names of graph nodes
    name = type(error).__name__
    return textwrap.shorten(f"{name}: {text}" if text else name, 300, placeholder=" …")


def failed(records: list[Record]) -> bool:
    return any(record.verdict == FAIL for record in records)


def merge(by_rank: Sequence[list[Record]], hosts: tuple[str, ...],
          nodes: tuple[int, ...]) -> list[Record]:
    """One record for each thing found; where ranks differ, its value names them."""
    things: dict[str, list[tuple[int, Record]]] = {}
    for rank, records in enumerate(by_rank):
        for record in records:
            things.setdefault(record.what, []).append((rank, record))
    return [_one(entries, hosts, nodes) for entries in things.values()]


def _one(entries: list[tuple[int, Record]], hosts: tuple[str, ...],
         nodes: tuple[int, ...]) -> Record:
    groups: dict[tuple[str, str], set[int]] = {}
    for rank, record in entries:
        groups.setdefault((record.value, record.verdict), set()).update(
            other for other, node in enumerate(nodes) if record.scope == "all"
            or (record.scope == "node" and node == nodes[rank]) or other == rank)
    records = [record for _, record in entries]
    measured = all(record.amount is not None for record in records)
    worst = min(records, key=lambda record: (-record.severity, record.amount if measured else 0))
    theirs = groups[worst.value, worst.verdict]
    if len(groups) == 1 and (len(theirs) == len(nodes) or not worst.urgent):
        return worst
    if len(groups) == 1 or measured:
        more = f" (the least of {len(groups)})" if len(groups) > 1 else ""
        return replace(worst, value=f"{label(theirs, hosts, nodes)}: {worst.value}{more}")
    # the odd ones first where they are the trouble, and what most ranks have at the end
    ordered = sorted(groups.items(), key=lambda group: (-VERDICTS.index(group[0][1]),
                                                        len(group[1])))
    named = [f"{label(ranks, hosts, nodes)}: {value}" for (value, _), ranks in ordered]
    more = f"; and {count(len(named) - _NAMED, 'other value')}" if len(named) > _NAMED else ""
    return replace(worst, value="; ".join(named[:_NAMED]) + more)


class Report:
    """Prints sections as they are done, so that what was found stands there whatever comes."""

    def __init__(self, place: Place, speaks: bool = True) -> None:
        """``speaks``: whether this process prints, should it be rank 0."""
        self._place = place
        self._speaks = speaks and place.comm.rank == 0
        self.records: list[Record] = []

    def say(self, text: str) -> None:
        if self._speaks:
            print(text, flush=True)

    def section(self, title: str, records: list[Record]) -> None:
        """Add this rank's records to those of the others; collective."""
        self._place.meet()
        by_rank = self._place.comm.gather(records)
        if by_rank is not None:
            merged = merge(by_rank, self._place.hosts, self._place.nodes)
            self.records += merged
            if merged:
                self.say("\n".join(["", title, *map(line, merged)]))

    def finish(self, seconds: float) -> int:
        """Print the last line; the exit code on every rank."""
        verdicts = [record.verdict for record in self.records]
        place = self._place
        self.say(f"\ndoctor: {verdicts.count(OK)} ok, {count(verdicts.count(WARN), 'warning')}, "
                 f"{count(verdicts.count(FAIL), 'failure')} on {count(place.comm.size, 'rank')}, "
                 f"{count(len(place.leaders), 'node')}, in {seconds:.1f} s")
        return place.comm.bcast(int(FAIL in verdicts))

    def as_dicts(self) -> list[dict[str, str]]:
        """For JSON."""
        return [{"what": record.what, "value": record.value, "verdict": record.verdict,
                 "todo": record.todo * record.urgent} for record in self.records]


def line(record: Record) -> str:
    """A record as lines of at most 100 columns; commands stay whole."""
    lead = f"  {record.verdict:<4}  {record.what:<{_LEFT - 9}} "
    lines = textwrap.wrap(record.value, _WIDTH, initial_indent=lead,
                          subsequent_indent=" " * _LEFT, break_on_hyphens=False)
    first = True
    for text in record.todo.splitlines() * record.urgent:
        if text.startswith("  "):
            lines.append(" " * (_LEFT + 2) + text)
            continue
        lines += textwrap.wrap(text, _WIDTH, break_on_hyphens=False,
                               initial_indent=" " * _LEFT + ("→ " if first else "  "),
                               subsequent_indent=" " * (_LEFT + 2))
        first = False
    return "\n".join(lines)
