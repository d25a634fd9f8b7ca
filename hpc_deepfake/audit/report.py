"""The audit's output: a line for each finding, with its verdict, result and what to do."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass
from typing import Any

OK, INFO, WARN, FAIL = VERDICTS = "ok", "info", "warn", "FAIL"
_WIDTH = 100
_LEFT = 32  # columns before the value


@dataclass(frozen=True)
class Record:
    """One finding.

    Attributes:
        what: the subject, a few words.
        value: the result, as text.
        verdict: one of ``VERDICTS``.
        todo: what to do; may have several lines.
        figures: the result for programs.
    """

    what: str
    value: str
    verdict: str = OK
    todo: str = ""
    figures: dict[str, Any] | None = None

    @property
    def bad(self) -> bool:
        return self.verdict in (WARN, FAIL)


class Report:
    """Prints sections as they are finished and keeps their records."""

    def __init__(self) -> None:
        self.sections: dict[str, list[Record]] = {}

    def section(self, title: str, records: list[Record], heading: str | None = None) -> None:
        """Print a section; advice that several records share is printed once.

        Args:
            title: key of the section in the JSON file, which readers of earlier files know.
            heading: printed above it; the title by default.
        """
        lines, printed = [heading or title], set()
        for record in records:
            lines.append(_lines(record, record.todo not in printed))
            printed.add(record.todo)
        print("\n".join([*lines, ""]), flush=True)
        self.sections[title] = records

    @property
    def records(self) -> list[Record]:
        return [record for records in self.sections.values() for record in records]

    def count(self, verdict: str) -> int:
        return sum(record.verdict == verdict for record in self.records)

    def as_dict(self) -> dict[str, list[dict[str, Any]]]:
        return {title: [asdict(record) for record in records]
                for title, records in self.sections.items()}


def _lines(record: Record, with_todo: bool) -> str:
    def wrapped(text: str, first: str, rest: str) -> str:
        return textwrap.fill(text, _WIDTH, initial_indent=first, subsequent_indent=rest,
                             break_long_words=False, break_on_hyphens=False)

    space = " " * _LEFT
    lines = [wrapped(record.value, f"  {record.verdict:<5} {record.what:<{_LEFT - 9}} ", space)]
    if record.todo and with_todo:  # keep its line breaks: a line may be a command to paste
        first, *more = record.todo.splitlines()
        lines.append(wrapped(first, f"{space}→ ", f"{space}  "))
        lines += [wrapped(line, f"{space}  ", f"{space}  ") for line in more]
    return "\n".join(lines)
