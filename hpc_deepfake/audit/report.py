"""Findings as lines for a person: verdict, what, what was found, what to do."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass

OK, INFO, WARN, FAIL = VERDICTS = "ok", "info", "warn", "FAIL"
_WIDTH = 100
_LEFT = 32  # columns before the value


@dataclass(frozen=True)
class Record:
    """One finding; ``figures`` are for programs."""

    what: str
    value: str
    verdict: str = OK
    todo: str = ""
    figures: dict | None = None

    @property
    def bad(self) -> bool:
        return self.verdict in (WARN, FAIL)


class Report:
    """Prints sections as they are done and keeps their records."""

    def __init__(self) -> None:
        self.sections: dict[str, list[Record]] = {}

    def section(self, title: str, records: list[Record]) -> None:
        """Print them; what to do, where several say the same, once."""
        lines, said = [title], set()
        for record in records:
            lines.append(_lines(record, record.todo not in said))
            said.add(record.todo)
        print("\n".join([*lines, ""]), flush=True)
        self.sections[title] = records

    @property
    def records(self) -> list[Record]:
        return [record for some in self.sections.values() for record in some]

    def count(self, verdict: str) -> int:
        return sum(record.verdict == verdict for record in self.records)

    def as_dict(self) -> dict[str, list[dict]]:
        return {title: [asdict(record) for record in some]
                for title, some in self.sections.items()}


def _lines(record: Record, with_todo: bool) -> str:
    def wrapped(text: str, first: str, rest: str) -> str:
        return textwrap.fill(text, _WIDTH, initial_indent=first, subsequent_indent=rest,
                             break_long_words=False, break_on_hyphens=False)

    space = " " * _LEFT
    lines = [wrapped(record.value, f"  {record.verdict:<5} {record.what:<{_LEFT - 9}} ", space)]
    if record.todo and with_todo:  # its lines stay apart: some are commands to paste
        first, *more = record.todo.splitlines()
        lines.append(wrapped(first, f"{space}→ ", f"{space}  "))
        lines += [wrapped(line, f"{space}  ", f"{space}  ") for line in more]
    return "\n".join(lines)
