"""Tables of text that are shown alike in HTML and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hpc_deepfake.web import html
from hpc_deepfake.web.html import Html, commands, join, paragraph, text


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: its caption.
        head: headers of the columns.
        rows: cells, the first of each row its header.
        about: sentences below the table.
        commands: the commands that produced its numbers.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    about: str = ""
    commands: list[str] = field(default_factory=list)

    def html(self, *, caption: bool = True) -> Html:
        """The table, with what stands above and below it."""
        above = commands(self.commands) if self.commands else Html("")
        return join([above, html.table(self.title if caption else "", self.head, self.rows),
                     paragraph(self.about, class_="soft") if self.about else ""])

    def markdown(self) -> list[str]:
        """The same as lines of Markdown."""
        lines = code_block(self.commands) if self.commands else []
        lines += [f"**{escape(self.title)}**", "", _row(self.head),
                  _row(["---", *("--:" for _ in self.head[1:])], raw=True)]
        lines += [_row(row) for row in self.rows]
        return [*lines, "", *([escape(self.about), ""] if self.about else [])]


def code_block(lines: Sequence[str]) -> list[str]:
    """Lines of Markdown that show these as they are."""
    return ["```", *lines, "```", ""]


def escape(plain: str) -> str:
    """Plain text for Markdown, in one line."""
    escaped = str(text(plain))  # as in HTML, which Markdown lets through
    escaped = escaped.replace("&#x27;", "'").replace("&quot;", '"')
    for mark in "\\`*_|[]":
        escaped = escaped.replace(mark, f"\\{mark}")
    return escaped


def _row(cells: Sequence[str], *, raw: bool = False) -> str:
    return f"| {' | '.join(cells if raw else map(escape, cells))} |"
