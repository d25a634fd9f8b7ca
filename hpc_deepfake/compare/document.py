"""The comparison as an HTML page that stands alone, and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from hpc_deepfake.compare import charts, tables
from hpc_deepfake.compare.comparison import Comparison, Spread
from hpc_deepfake.compare.tables import Table
from hpc_deepfake.core.text import percent
from hpc_deepfake.web import html
from hpc_deepfake.web.html import Html, commands, join, page, paragraph, text


def answer(found: Comparison) -> list[str]:
    """The most important figures in sentences."""
    sentences = []
    fast = [cell for cell in found.cells if cell.method != "sequential" and cell.speedup
            and cell.feature == found.base]
    for cell in fast:
        epochs = cell.results[0].training.settings["epochs"]
        trained = f"{epochs} epoch{'s' * (epochs > 1)}"
        unlike = f" (unlike runs: {cell.unlike})" if cell.unlike else " on the same hardware"
        sentences.append(
            f"{cell.method} on {cell.layout.words()} processes trained {trained} in "
            f"{tables.spread(cell.seconds)} s, "
            f"{tables.spread(Spread.over(cell.speedup), '.2f')} times as fast as sequential "
            f"training{unlike}.")
    for feature in dict.fromkeys(one.feature for one in found.cells):
        cell = found.cell(found.lead, feature)
        accuracy = cell and cell.figure("accuracy")
        if accuracy:
            sentences.append(f"{found.lead} on {feature} judged {tables.spread(accuracy, '.1%')} "
                             f"of the {found.part} pictures rightly.")
    if sentences:
        sentences.append(f"Always giving the more frequent class is right in "
                         f"{percent(found.majority)}. {tables.container_words(found)}")
    return sentences or ["No training is finished yet."]


def _sections(found: Comparison, launcher: str) -> list[tuple[str, list[Table], Html]]:
    """Title, tables and pictures of each."""
    features, ages = tables.features(found), tables.staleness(found)
    sections = [("Time", [tables.times(found), tables.layouts(found)], charts.durations(found)),
                ("Accuracy", [tables.accuracies(found)], Html("")),
                (f"With {found.base} against without", [features] if features else [], Html("")),
                ("Loss", [], charts.losses(found)),
                ("Staleness", [ages] if ages else [], charts.staleness(found)),
                ("The original's tables", tables.originals(found, launcher), Html(""))] \
        if found.results else []
    sections.append(("Trainings", [tables.runs(found)], Html("")))
    return [(title, some, drawn) for title, some, drawn in sections if some or drawn]


def document(found: Comparison, command: str, launcher: str) -> str:
    """The HTML page. ``command`` makes the comparison again."""
    head = join([Html("<h1>Training methods compared</h1>"),
                 paragraph(" ".join(answer(found)), class_="answer"),
                 *(paragraph(f"{one}.", class_="note") for one in found.notes)])
    sections = [(title, join([*(_html(one, title) for one in some), drawn]))
                for title, some, drawn in _sections(found, launcher)]
    return page("Training methods compared", head,
                [*sections, ("Make it again", commands([command]))])


def _html(one: Table, section: str) -> Html:
    caption = "" if section == "Trainings" else one.title
    made = Html("") if not one.commands else commands(one.commands)
    return join([made, html.table(caption, one.head, one.rows),
                 paragraph(one.about, class_="soft") if one.about else ""])


def markdown(found: Comparison, command: str, launcher: str) -> str:
    """The same without pictures."""
    lines = ["# Training methods compared", "", *_plain(answer(found)), ""]
    lines += [line for one in found.notes for line in (f"> {escape(one)}.", "")]
    for title, some, _ in _sections(found, launcher):
        if some:
            lines += [f"## {escape(title)}", ""]
        for one in some:
            lines += _markdown(one)
    lines += ["## Make it again", "", *_block([command]),
              "Curves of loss against epochs and seconds are in compare.html, all figures in "
              "compare.csv and compare.json."]
    return "\n".join(lines) + "\n"


def _markdown(one: Table) -> list[str]:
    lines = _block(one.commands) if one.commands else []
    lines += [f"**{escape(one.title)}**", "", _row(one.head),
              _row(["---", *("--:" for _ in one.head[1:])], raw=True)]
    lines += [_row(row) for row in one.rows]
    return [*lines, "", *([escape(one.about), ""] if one.about else [])]


def _block(some: Sequence[str]) -> list[str]:
    return ["```", *some, "```", ""]


def _plain(sentences: Sequence[str]) -> list[str]:
    return [escape(one) for one in sentences]


def _row(cells: Sequence[str], *, raw: bool = False) -> str:
    return f"| {' | '.join(cells if raw else map(escape, cells))} |"


def escape(words: str) -> str:
    """As plain text in Markdown, in one line."""
    seen = str(text(words))  # as in HTML, which Markdown lets through
    seen = seen.replace("&#x27;", "'").replace("&quot;", '"')
    for mark in "\\`*_|[]":
        seen = seen.replace(mark, f"\\{mark}")
    return seen
