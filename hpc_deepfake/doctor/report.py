"""Findings of the checks, as one table for all ranks."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hpc_deepfake.core.nodes import label
from hpc_deepfake.core.text import plural
from hpc_deepfake.doctor.place import Place

INFO, OK, WARN, FAIL = VERDICTS = "info", "ok", "warn", "FAIL"  # from best to worst
_WIDTH = 100
_LEFT = 26  # columns before the value
_NAMED = 4  # differing values that are listed


@dataclass(frozen=True)
class Record:
    """One line of the table.

    Attributes:
        what: subject of the check.
        value: finding.
        verdict: one of ``VERDICTS``.
        todo: what to do; lines that begin with two spaces are commands to paste.
        amount: a quantity that may differ between ranks (free memory): the smallest is shown.
        scope: whether the record is about this ``rank``, its ``node``, or ``all`` ranks.
    """

    what: str
    value: str
    verdict: str = OK
    todo: str = ""
    amount: float | None = None
    scope: str = "rank"

    @property
    def urgent(self) -> bool:
        """Whether something is to be done."""
        return self.verdict in (WARN, FAIL)

    @property
    def severity(self) -> int:
        """Rank of the verdict, from best to worst."""
        return VERDICTS.index(self.verdict)


def attempt(what: str, check: Callable[..., Record | list[Record] | None], *arguments: Any,
            todo: str = "the check itself failed; a job may fail for the same reason",
            ) -> list[Record]:
    """The check's records; an exception becomes a failure, with ``todo``."""
    try:
        result = check(*arguments)
    except Exception as error:
        return [Record(what, problem(error), FAIL, todo)]
    return result if isinstance(result, list) else [result] if result else []


def problem(error: BaseException) -> str:
    """An exception as one line."""
    text = getattr(error, "strerror", None) or str(error)
    text = " ".join(re.sub(r"\{\{.*?\}\}", "", text).split())  # TensorFlow's names of graph nodes
    name = type(error).__name__
    return textwrap.shorten(f"{name}: {text}" if text else name, 300, placeholder=" …")


def failed(records: list[Record]) -> bool:
    """Whether any record is a failure."""
    return any(record.verdict == FAIL for record in records)


def merge(by_rank: Sequence[list[Record]], hosts: tuple[str, ...],
          nodes: tuple[int, ...]) -> list[Record]:
    """One record for each subject; where ranks differ, its value names them.

    Args:
        by_rank: records of each rank.
        hosts: host name of each rank.
        nodes: number of each rank's node.
    """
    subjects: dict[str, list[tuple[int, Record]]] = {}
    for rank, records in enumerate(by_rank):
        for record in records:
            subjects.setdefault(record.what, []).append((rank, record))
    return [_merged(entries, hosts, nodes) for entries in subjects.values()]


def _merged(entries: list[tuple[int, Record]], hosts: tuple[str, ...],
            nodes: tuple[int, ...]) -> Record:
    """One record for the ranks' records of one subject."""
    groups: dict[tuple[str, str], set[int]] = {}
    for rank, record in entries:
        groups.setdefault((record.value, record.verdict), set()).update(
            other for other, node in enumerate(nodes) if record.scope == "all"
            or (record.scope == "node" and node == nodes[rank]) or other == rank)
    records = [record for _, record in entries]
    measured = all(record.amount is not None for record in records)
    worst = min(records, key=lambda record: (-record.severity, record.amount if measured else 0))
    affected = groups[worst.value, worst.verdict]
    if len(groups) == 1 and (len(affected) == len(nodes) or not worst.urgent):
        return worst
    if len(groups) == 1 or measured:
        more = f" (the smallest of {len(groups)})" if len(groups) > 1 else ""
        return replace(worst, value=f"{label(affected, hosts, nodes)}: {worst.value}{more}")
    # the worst first, and among equals the value that most ranks have last
    ordered = sorted(groups.items(), key=lambda group: (-VERDICTS.index(group[0][1]),
                                                        len(group[1])))
    named = [f"{label(ranks, hosts, nodes)}: {value}" for (value, _), ranks in ordered]
    more = f"; and {plural(len(named) - _NAMED, 'other value')}" if len(named) > _NAMED else ""
    return replace(worst, value="; ".join(named[:_NAMED]) + more)


class Report:
    """Prints each section as soon as it is done, so that it is shown even if a later one fails."""

    def __init__(self, place: Place, speaks: bool = True) -> None:
        """
        Args:
            place: of this rank.
            speaks: whether this process prints if it is rank 0.
        """
        self._place = place
        self._speaks = speaks and place.comm.rank == 0
        self.records: list[Record] = []

    def say(self, text: str) -> None:
        """Print a text, on the rank that prints."""
        if self._speaks:
            print(text, flush=True)

    def section(self, title: str, records: list[Record]) -> None:
        """Collect the ranks' records and print them as a section; collective."""
        self._place.meet()
        by_rank = self._place.comm.gather(records)
        if by_rank is not None:
            merged = merge(by_rank, self._place.hosts, self._place.nodes)
            self.records += merged
            if merged:
                self.say("\n".join(["", title, *map(line, merged)]))

    def finish(self, seconds: float) -> int:
        """Print the last line; collective. Returns the exit code, the same on every rank."""
        verdicts = [record.verdict for record in self.records]
        place = self._place
        self.say(f"\ndoctor: {verdicts.count(OK)} ok, {plural(verdicts.count(WARN), 'warning')}, "
                 f"{plural(verdicts.count(FAIL), 'failure')} on {plural(place.comm.size, 'rank')}, "
                 f"{plural(len(place.leaders), 'node')}, in {seconds:.1f} s")
        return place.comm.bcast(int(FAIL in verdicts))

    def as_dicts(self) -> list[dict[str, str]]:
        """The records for JSON."""
        return [{"what": record.what, "value": record.value, "verdict": record.verdict,
                 "todo": record.todo * record.urgent} for record in self.records]


def line(record: Record) -> str:
    """A record as lines of at most 100 columns; commands, and long paths, are not broken."""
    lead = f"  {record.verdict:<4}  {record.what:<{_LEFT - 9}} "
    lines = textwrap.wrap(record.value, _WIDTH, initial_indent=lead,
                          subsequent_indent=" " * _LEFT, break_on_hyphens=False,
                          break_long_words=False)
    first = True
    for text in record.todo.splitlines() * record.urgent:
        if text.startswith("  "):
            lines.append(" " * (_LEFT + 2) + text)
            continue
        lines += textwrap.wrap(text, _WIDTH, break_on_hyphens=False, break_long_words=False,
                               initial_indent=" " * _LEFT + ("→ " if first else "  "),
                               subsequent_indent=" " * (_LEFT + 2))
        first = False
    return "\n".join(lines)
