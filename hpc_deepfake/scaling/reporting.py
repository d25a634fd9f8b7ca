"""``hpc-deepfake scaling report``: a study's runs as a page, Markdown, CSV and pictures."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.options import Parser, between
from hpc_deepfake.core.text import printable
from hpc_deepfake.scaling import charts, tables
from hpc_deepfake.scaling import study as studies
from hpc_deepfake.scaling.records import Row, rows
from hpc_deepfake.scaling.series import Series, series
from hpc_deepfake.scaling.tables import Table
from hpc_deepfake.web import html
from hpc_deepfake.web.html import Html, join, paragraph

_EXAMPLES = """examples:
  hpc-deepfake scaling report runs/scaling
  hpc-deepfake scaling report runs/scaling --efficiency 0.8 --out report/

The last job of a study does the same. Written are report.html, which stands alone, report.md,
runs.csv, sizes.csv, scaling.png and scaling.svg."""


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake scaling report", epilog=_EXAMPLES, description=(
        "Speed-up, parallel efficiency, where the time went, fitted laws and cost, from the "
        "records of a study's runs and the scheduler's accounting. Failed and missing runs are "
        "listed."))
    cli.add_argument("study", type=Path, metavar="STUDY", help="folder of the study")
    cli.add_argument("--efficiency", type=between(0, 1), default=0.7, metavar="E",
                     help="the least that a recommended number of ranks shall have")
    cli.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: STUDY)")
    return cli


def main(argv: Sequence[str]) -> int:
    """Returns the exit code."""
    options = parser().parse(argv)
    found = rows(options.study, studies.read(options.study))
    out = options.out or options.study
    print("\n".join(write(options.study, found, out, options.efficiency)))
    for row in found:
        if row.state != studies.DONE:
            print(f"{row.state}: {row.run.name}: {row.why}")
    print(f"report: {out / 'report.html'}")
    return 0


def write(study: Path, found: Sequence[Row], out: Path, wanted: float) -> list[str]:
    """Write all files, each whole or not at all; returns what there is to say in short.

    Raises:
        InputError: they can't be written there.
    """
    groups = series(found)
    sentences = tables.answer(groups, found, wanted)
    made = tables.tables(groups, found, wanted)
    name = study.resolve().name
    text = markdown(name, sentences, made)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if groups:
            pictures = [out / ".new-scaling.png", out / ".new-scaling.svg"]
            charts.picture(groups, pictures)
            for one in pictures:
                os.replace(one, out / one.name.removeprefix(".new-"))
        for file, content in (("report.html", page(name, sentences, groups, made)),
                              ("report.md", text), ("runs.csv", csv_text(*tables.csv_rows(found))),
                              ("sizes.csv", csv_text(*tables.csv_sizes(groups)))):
            new = out / f".new-{file}"
            new.write_text(content, encoding="utf-8", errors="backslashreplace", newline="")
            os.replace(new, out / file)
    except OSError as error:
        raise InputError(f"cannot write the report in {out}: {error.strerror}; choose another "
                         "place with --out") from None
    return sentences


def page(name: str, sentences: Sequence[str], groups: Sequence[Series],
         made: Sequence[Table]) -> str:
    """The HTML document."""
    head = join([html.tag("h1", f"Scaling study {name}"),
                 *(paragraph(one, class_="answer") for one in sentences)])
    sections: list[tuple[str, Html]] = []
    for kind in dict.fromkeys(one.kind for one in groups):
        group = [one for one in groups if one.kind == kind]
        own = [table for table in made for one in group
               if table.title in (f"Scaling: {one.name}", f"Time: {one.name}")]
        sections.append((f"{kind.capitalize()} scaling", join([
            charts.grid([charts.speedup(group), charts.efficiency(group),
                         *map(charts.stages, group)]), *map(table_html, own)])))
    shown = ("Scaling: ", "Time: ")
    sections += [(table.title, table_html(table)) for table in made
                 if not table.title.startswith(shown)]
    return html.page(f"Scaling study {name}", head, sections)


def table_html(one: Table) -> Html:
    """For the page."""
    title = one.title.removeprefix("Scaling: ").removeprefix("Time: ")
    kind = "words" if one.title in ("Failed and missing runs", "What the runs used") else "numbers"
    return html.table(f"{title}. {one.note}".rstrip(), one.head, one.lines, kind)


def markdown(name: str, sentences: Sequence[str], made: Sequence[Table]) -> str:
    """The same as text."""
    lines = [f"# Scaling study {_cell(name)}", "", *(f"- {_cell(one)}" for one in sentences), ""]
    for one in made:
        lines += [f"## {_cell(one.title)}", "", "| " + " | ".join(map(_cell, one.head)) + " |",
                  "|" + "---|" * len(one.head),
                  *("| " + " | ".join(map(_cell, line)) + " |" for line in one.lines), ""]
        lines += [one.note, ""] if one.note else []
    return "\n".join(lines)


def _cell(text: str) -> str:
    """What can't break a table or start markup."""
    safe = printable(text)
    for mark, instead in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|")):
        safe = safe.replace(mark, instead)
    return safe


def csv_text(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    """With nothing where a value isn't known."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(["" if one is None else one for one in line] for line in lines)
    return out.getvalue()
