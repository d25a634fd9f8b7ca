"""A report in four files: a page that stands alone, Markdown, CSV and JSON."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc_deepfake.core import csv_lines
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import write_json, write_text
from hpc_deepfake.web.html import Html, commands, join, page, paragraph
from hpc_deepfake.web.tables import Table, code_block, escape


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: its heading.
        tables: shown in both texts.
        charts: shown on the page only.
        captions: whether the page shows the tables' titles.
        drawn: whether the charts stand for the tables on the page.
    """

    title: str
    tables: Sequence[Table] = ()
    charts: Html = Html("")  # noqa: RUF009 - a text, which can't change
    captions: bool = True
    drawn: bool = False


@dataclass(frozen=True)
class Report:
    """A report.

    Attributes:
        title: its heading.
        stem: name of its files without the suffix.
        answer: the most important figures in sentences.
        notes: what a reader must know before reading the figures.
        sections: those without a table and a chart are left out.
        command: that writes the report again.
    """

    title: str
    stem: str
    answer: Sequence[str]
    notes: Sequence[str]
    sections: Sequence[Section]
    command: str

    def html(self) -> str:
        """The page."""
        head = join([Html(f"<h1>{self.title}</h1>"),
                     paragraph(" ".join(self.answer), class_="answer"),
                     *(paragraph(f"{note}.", class_="note") for note in self.notes)])
        sections = [(section.title, join([
            *(table.html(caption=section.captions)
              for table in ([] if section.drawn else section.tables)), section.charts]))
            for section in self._shown()]
        return page(self.title, head, [*sections, ("Reproduce this report",
                                                   commands([self.command]))])

    def markdown(self) -> str:
        """The same as Markdown, without the charts."""
        lines = [f"# {self.title}", "", *map(escape, self.answer), ""]
        lines += [line for note in self.notes for line in (f"> {escape(note)}.", "")]
        for section in self._shown():
            if section.tables:
                lines += [f"## {escape(section.title)}", ""]
            for table in section.tables:
                lines += table.markdown()
        lines += ["## Reproduce this report", "", *code_block([self.command]),
                  f"The charts are in {self.stem}.html, all figures in {self.stem}.csv and "
                  f"{self.stem}.json."]
        return "\n".join(lines) + "\n"

    def write(self, folder: Path, columns: Sequence[str], lines: Iterable[Mapping[str, Any]],
              data: Any) -> list[Path]:
        """Write all four files and return their paths.

        Args:
            folder: that gets them.
            columns: of the CSV file.
            lines: of the CSV file, by column.
            data: all figures, for programs.

        Raises:
            InputError: they can't be written.
        """
        texts = (self.html(), self.markdown(), _csv(columns, lines))
        paths = [folder / f"{self.stem}.{suffix}" for suffix in ("html", "md", "csv", "json")]
        try:
            for path, content in zip(paths, texts, strict=False):
                write_text(path, content)
            write_json(paths[-1], data)
        except OSError as error:
            raise InputError(f"cannot write the report in {folder}: {error.strerror}; check the "
                             "folder's permissions and free space, then run the command "
                             "again") from None
        return paths

    def _shown(self) -> list[Section]:
        return [section for section in self.sections if section.tables or section.charts]


def _csv(columns: Sequence[str], lines: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv_lines.writer(text)
    writer.writerow(columns)
    writer.writerows([line.get(column, "") for column in columns] for line in lines)
    return text.getvalue()
