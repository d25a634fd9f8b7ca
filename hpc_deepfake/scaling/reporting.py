"""``hpc-deepfake scaling report``: a study's runs as a page, Markdown, CSV and pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpc_deepfake.core import csv_lines
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import whole
from hpc_deepfake.core.options import Parser, between
from hpc_deepfake.core.text import printable
from hpc_deepfake.scaling import charts, tables
from hpc_deepfake.scaling import study as studies
from hpc_deepfake.scaling.records import Row, rows
from hpc_deepfake.scaling.series import Series, all_series
from hpc_deepfake.scaling.tables import Table
from hpc_deepfake.web import html
from hpc_deepfake.web.html import Html, join, paragraph

_EXAMPLES = """examples:
  hpc-deepfake scaling report runs/scaling
  hpc-deepfake scaling report runs/scaling --efficiency 0.8 --out report/

Writes report.html (which stands alone), report.md, runs.csv, sizes.csv, scaling.png and
scaling.svg. The last job of a study runs this command."""


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake scaling report", epilog=_EXAMPLES, description=(
        "Report speed-up, parallel efficiency, where the time went, fitted laws and cost, from\n"
        "the records of a study's runs and the scheduler's accounting. Failed and missing runs\n"
        "are listed."))
    cli.add_argument("study", type=Path, metavar="STUDY", help="folder of the study")
    cli.add_argument("--efficiency", type=between(0, 1), default=0.7, metavar="E",
                     help="minimum efficiency of the recommended number of ranks")
    cli.add_argument("--out", type=Path, metavar="DIR",
                     help="folder for the report (default: STUDY)")
    return cli


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments, without the program's name.

    Returns:
        The exit code.
    """
    options = parser().parse(argv)
    runs = rows(options.study, studies.read(options.study))
    out = options.out or options.study
    print("\n".join(write(options.study, runs, out, options.efficiency)))
    for row in runs:
        if row.state != studies.DONE:
            print(f"{row.state}: {row.run.name}: {row.why}")
    print(f"report: {out / 'report.html'}")
    return 0


def write(study: Path, runs: Sequence[Row], out: Path, minimum: float) -> list[str]:
    """Write all files of the report.

    Args:
        study: folder of the study.
        runs: its runs.
        out: folder to write to.
        minimum: minimum efficiency of the recommended number of ranks.

    Returns:
        The result in a few sentences.

    Raises:
        InputError: the files can't be written there.
    """
    groups = all_series(runs)
    sentences = tables.answer(groups, runs, minimum)
    shown = tables.tables(groups, runs, minimum)
    name = study.resolve().name
    texts = {"report.html": page(name, sentences, groups, shown),
             "report.md": markdown(name, sentences, shown),
             "runs.csv": csv_text(*tables.csv_rows(runs)),
             "sizes.csv": csv_text(*tables.csv_sizes(groups))}
    try:
        out.mkdir(parents=True, exist_ok=True)
        if groups:
            charts.picture(groups, [out / "scaling.png", out / "scaling.svg"])
        for file, text in texts.items():
            write_text(out / file, text)
    except OSError as error:
        raise InputError(f"cannot write the report in {out}: {error.strerror}; choose another "
                         "place with --out") from None
    return sentences


def write_text(path: Path, text: str) -> None:
    """Write a file whole; parts of names that are not valid UTF-8 stand as escapes."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")


def page(name: str, sentences: Sequence[str], groups: Sequence[Series],
         shown: Sequence[Table]) -> str:
    """The HTML document.

    Args:
        name: of the study.
        sentences: its result.
        groups: its series, for the charts.
        shown: all tables.
    """
    head = join([html.tag("h1", f"Scaling study {name}"),
                 *(paragraph(sentence, class_="answer") for sentence in sentences)])
    sections: list[tuple[str, Html]] = []
    for kind in dict.fromkeys(series.kind for series in groups):
        group = [series for series in groups if series.kind == kind]
        own = [table for table in shown for series in group
               if table.title in (f"Scaling: {series.name}", f"Time: {series.name}")]
        sections.append((f"{kind.capitalize()} scaling", join([
            charts.grid([charts.speedup(group), charts.efficiency(group),
                         *map(charts.stages, group)]), *map(table_html, own)])))
    sections += [(table.title, table_html(table)) for table in shown
                 if not table.title.startswith(("Scaling: ", "Time: "))]
    return html.page(f"Scaling study {name}", head, sections)


def table_html(table: Table) -> Html:
    """A table as HTML."""
    title = table.title.removeprefix("Scaling: ").removeprefix("Time: ")
    kind = "words" if table.title in ("Failed and missing runs", "What the runs used") \
        else "numbers"
    return html.table(f"{title}. {table.note}".rstrip(), table.head, table.lines, kind)


def markdown(name: str, sentences: Sequence[str], shown: Sequence[Table]) -> str:
    """The same as Markdown, without the charts."""
    lines = [f"# Scaling study {_cell(name)}", "",
             *(f"- {_cell(sentence)}" for sentence in sentences), ""]
    for table in shown:
        lines += [f"## {_cell(table.title)}", "", "| " + " | ".join(map(_cell, table.head)) + " |",
                  "|" + "---|" * len(table.head),
                  *("| " + " | ".join(map(_cell, line)) + " |" for line in table.lines), ""]
        lines += [table.note, ""] if table.note else []
    return "\n".join(lines)


def _cell(text: str) -> str:
    """The text with everything escaped that could break a table or start markup."""
    safe = printable(text)
    for mark, escaped in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|")):
        safe = safe.replace(mark, escaped)
    return safe


def csv_text(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    """CSV, with empty cells for unknown values."""
    out = io.StringIO()
    writer = csv_lines.writer(out)
    writer.writerow(head)
    writer.writerows(["" if value is None else value for value in line] for line in lines)
    return out.getvalue()
