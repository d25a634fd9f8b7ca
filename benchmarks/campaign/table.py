"""The records of a campaign, one JSON line each, and tables of them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]
WRONG = ("lost", "hung", "silent", "wrong")  # categories of problems


class Ledger:
    """A file of records that survives the death of its writer.

    Attributes:
        path: the file.
        records: those in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith(b"\n")]
        if len(whole) < len(lines):
            os.truncate(path, sum(map(len, whole)))
        self.records: list[Record] = []
        self._take(map(json.loads, whole))

    def add(self, records: Sequence[Record]) -> None:
        """Append the records of a chain, all or none."""
        text = "".join(json.dumps(record) + "\n" for record in records)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self._take(records)

    def _take(self, records: Iterable[Record]) -> None:
        """A fault that was done again counts once."""
        latest = {record["fault"]: record for record in [*self.records, *records]}
        self.records = list(latest.values())


def problems(record: Record) -> set[str]:
    return {category for category, _ in record["problems"]}


def rows(records: Iterable[Record]) -> list[list[str]]:
    """The table of kinds: number of faults by group of programs, and of problems by category."""
    done = [record for record in records if not record.get("missed")]
    groups = list(dict.fromkeys(_column(record) for record in done))
    kinds: dict[str, list[Record]] = {}
    for record in done:
        kinds.setdefault(record["kind"], []).append(record)

    def row(name: str, chosen: list[Record]) -> list[str]:
        counts = Counter(map(_column, chosen))
        return [name, *(str(counts[group] or "") for group in groups), str(len(chosen)),
                *(str(sum(category in problems(record) for record in chosen))
                  for category in WRONG)]

    names = sorted(kinds, key=str.lower)
    return [["kind", *groups, "all", *WRONG], *(row(name, kinds[name]) for name in names),
            row("all", done)]


def text(table: list[list[str]]) -> str:
    """A table to read on a terminal."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) if not place else cell.rjust(width)
                               for place, (cell, width) in enumerate(zip(row, widths, strict=True)))
                     for row in table)


def markdown(table: list[list[str]]) -> str:
    """The same table as it stands in docs/reliability.md."""
    head, *body = table
    return "\n".join([_line(head), _line(["---", *("---:" for _ in head[1:])]), *map(_line, body)])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _column(record: Record) -> str:
    return str(record["program"]).partition(" on ")[0]
