"""The comparison as an HTML page that stands alone, and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from hpc_deepfake.compare import charts, tables
from hpc_deepfake.compare.comparison import Comparison, Spread
from hpc_deepfake.compare.tables import Table
from hpc_deepfake.core.text import percent, plural
from hpc_deepfake.web import html
from hpc_deepfake.web.html import Html, commands, join, page, paragraph, text


def answer(comparison: Comparison) -> list[str]:
    """The most important figures in sentences."""
    sentences = []
    for cell in comparison.cells:
        if cell.method == "sequential" or not cell.speedup \
                or cell.feature != comparison.base_feature:
            continue
        epochs = plural(cell.results[0].training.settings["epochs"], "epoch")
        conditions = (f" (not under the same conditions: {cell.deviations})" if cell.deviations
                      else " on the same hardware")
        sentences.append(
            f"{cell.method} on {cell.layout.description()} processes trained {epochs} in "
            f"{tables.spread(cell.seconds)} s, "
            f"{tables.spread(Spread.over(cell.speedup), '.2f')} times as fast as sequential "
            f"training{conditions}.")
    for feature in dict.fromkeys(cell.feature for cell in comparison.cells):
        trained = comparison.cell(comparison.feature_method, feature)
        accuracy = trained and trained.figure("accuracy")
        if accuracy:
            sentences.append(f"{comparison.feature_method} on {feature} classified "
                             f"{tables.spread(accuracy, '.1%')} of the {comparison.part} pictures "
                             "correctly.")
    if sentences:
        sentences.append("Always predicting the more frequent class is correct for "
                         f"{percent(comparison.majority)}. {tables.container_text(comparison)}")
    return sentences or ["No training is finished yet."]


def _sections(comparison: Comparison, launcher: str) -> list[tuple[str, list[Table], Html]]:
    """Title, tables and charts of each section."""
    sections: list[tuple[str, list[Table], Html]] = []
    if comparison.results:
        features, ages = tables.features(comparison), tables.staleness(comparison)
        sections = [
            ("Time", [tables.times(comparison), tables.layouts(comparison)],
             charts.durations(comparison)),
            ("Accuracy", [tables.accuracies(comparison)], Html("")),
            (f"With {comparison.base_feature} and without", [features] if features else [],
             Html("")),
            ("Loss", [], charts.losses(comparison)),
            ("Staleness", [ages] if ages else [], charts.staleness(comparison)),
            ("The original project's tables", tables.originals(comparison, launcher), Html(""))]
    sections.append(("Trainings", [tables.runs(comparison)], Html("")))
    return [(title, shown, drawn) for title, shown, drawn in sections if shown or drawn]


def document(comparison: Comparison, command: str, launcher: str) -> str:
    """The HTML page.

    Args:
        comparison: the figures.
        command: the command that repeats the comparison.
        launcher: command that starts several ranks.
    """
    head = join([Html("<h1>Training methods compared</h1>"),
                 paragraph(" ".join(answer(comparison)), class_="answer"),
                 *(paragraph(f"{note}.", class_="note") for note in comparison.notes)])
    sections = [(title, join([*(_html(table, title) for table in shown), drawn]))
                for title, shown, drawn in _sections(comparison, launcher)]
    return page("Training methods compared", head,
                [*sections, ("Reproduce this report", commands([command]))])


def _html(table: Table, section: str) -> Html:
    caption = "" if section == "Trainings" else table.title
    commands_above = commands(table.commands) if table.commands else Html("")
    return join([commands_above, html.table(caption, table.head, table.rows),
                 paragraph(table.about, class_="soft") if table.about else ""])


def markdown(comparison: Comparison, command: str, launcher: str) -> str:
    """The same as Markdown, without the charts; arguments as for ``document``."""
    lines = ["# Training methods compared", "", *map(escape, answer(comparison)), ""]
    lines += [line for note in comparison.notes for line in (f"> {escape(note)}.", "")]
    for title, shown, _ in _sections(comparison, launcher):
        if shown:
            lines += [f"## {escape(title)}", ""]
        for table in shown:
            lines += _markdown(table)
    lines += ["## Reproduce this report", "", *_code_block([command]),
              "The charts are in compare.html, all figures in compare.csv and compare.json."]
    return "\n".join(lines) + "\n"


def _markdown(table: Table) -> list[str]:
    lines = _code_block(table.commands) if table.commands else []
    lines += [f"**{escape(table.title)}**", "", _row(table.head),
              _row(["---", *("--:" for _ in table.head[1:])], raw=True)]
    lines += [_row(row) for row in table.rows]
    return [*lines, "", *([escape(table.about), ""] if table.about else [])]


def _code_block(lines: Sequence[str]) -> list[str]:
    return ["```", *lines, "```", ""]


def _row(cells: Sequence[str], *, raw: bool = False) -> str:
    return f"| {' | '.join(cells if raw else map(escape, cells))} |"


def escape(plain: str) -> str:
    """Plain text for Markdown, in one line."""
    escaped = str(text(plain))  # as in HTML, which Markdown lets through
    escaped = escaped.replace("&#x27;", "'").replace("&quot;", '"')
    for mark in "\\`*_|[]":
        escaped = escaped.replace(mark, f"\\{mark}")
    return escaped
