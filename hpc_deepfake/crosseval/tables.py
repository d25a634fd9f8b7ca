"""The tables of a matrix, as text cells for HTML and Markdown alike, and its heat maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hpc_deepfake.audit import WAYS
from hpc_deepfake.core.text import count, number, percent, probability
from hpc_deepfake.crosseval.matrix import Cell, Matrix, Result, Row
from hpc_deepfake.metrics.spread import Spread, spread
from hpc_deepfake.network import decision
from hpc_deepfake.network.registry import DEFAULT
from hpc_deepfake.web.heat import Heat, heat
from hpc_deepfake.web.html import Html, join, paragraph
from hpc_deepfake.web.tables import Table

_CORNER = "trained on ↓, tested on →"


class Shown(NamedTuple):
    """A figure that has a heat map.

    Attributes:
        name: as in ``matrix.FIGURES``.
        title: its heading.
        form: of its numbers.
        share: strength of the colour by the value.
        about: what it is, in sentences.
    """

    name: str
    title: str
    form: str
    share: Callable[[float], float]
    about: str


SHOWN = (
    Shown("auc", "ROC-AUC", ".3f", lambda value: 2 * value - 1,
          "Whether tampered pictures rank above authentic ones; it needs no threshold, and 0.5 is "
          "chance."),
    Shown("balanced_accuracy", "Balanced accuracy", ".1%", lambda value: 2 * value - 1,
          "Mean of the share of tampered and of authentic pictures that are classified correctly, "
          "at the threshold that was chosen on the validation part of the training's data set; "
          "50% for a constant prediction."),
    Shown("false_positive_rate", "False positives", ".1%", lambda value: -value,
          "Share of the authentic pictures that are called tampered, at the same threshold."),
    Shown("pixel_auc", "Pixel ROC-AUC", ".3f", lambda value: 2 * value - 1,
          "Of the map, mean over the tampered pictures that have a mask; 0.5 is chance."),
    Shown("pixel_f1", "Pixel F1", ".3f", lambda value: value,
          "Of the map at the model's own threshold, mean over the tampered pictures that have a "
          "mask."))


def name(row: Row, matrix: Matrix) -> str:
    """Of a row, with as much as tells it from the others."""
    if row.given:
        return f"{row.given} ({row.data.name})"
    words = [row.data.name]
    if len({other.network for other in matrix.rows}) > 1 or row.network != DEFAULT:
        words.append(row.network)
    if len({other.feature for other in matrix.rows}) > 1:
        words.append(row.feature)
    return ", ".join(words)


def matrices(matrix: Matrix) -> list[Table]:
    """A table for each figure that some cell has."""
    return [Table(shown.title, (_CORNER, *_columns(matrix)), [
        (name(row, matrix), *(_cell(row.cells.get(data.name), shown) for data in matrix.data))
        for row in matrix.rows], shown.about) for shown in _known(matrix)]


def maps(matrix: Matrix) -> Html:
    """The same as heat maps; own data sets are outlined."""
    return join(join([heat(shown.title, _CORNER, _columns(matrix), [
        (name(row, matrix), [_heat(row, row.cells.get(data.name), data.name, shown)
                             for data in matrix.data])
        for row in matrix.rows]), paragraph(shown.about, class_="soft")])
        for shown in _known(matrix))


def shortcuts(matrix: Matrix) -> Table | None:
    """What file properties alone predict, from one data set to the other; None where unknown."""
    rows = []
    for train in (data for data in matrix.data if data.trained):
        found = {result.data.name: result.container for result in matrix.results
                 if result.model.data is train}
        rows.append((train.name, *(number(found.get(data.name)) for data in matrix.data)))
    rows.append(("within the data set", *(number(matrix.within[data.name])
                                          for data in matrix.data)))
    if all(cell == "–" for _, *cells in rows for cell in cells):
        return None
    return Table("Container alone, ROC-AUC", (_CORNER, *_columns(matrix)), rows,
                 "A prediction from the files' format, coding, quantisation and chroma subsampling "
                 "without any pixel: fitted on the training part of one data set and tested on the "
                 "same pictures as the models; in the last row cross-validated by group within "
                 "those of the column. A model that doesn't surpass it may have learned no more "
                 "than that. –: the picture files aren't where they were, or one class only.")


def cells(matrix: Matrix) -> Table:
    """A line for each model and data set."""
    rows = []
    for row in matrix.rows:
        for data in matrix.data:
            cell = row.cells.get(data.name)
            if cell is None:
                continue
            first = cell.results[0]
            rows.append((
                name(row, matrix), first.data.described, count(first.tampered),
                count(first.authentic), count(int((first.overlap.ways > 0).sum())),
                *_with_interval(cell, "auc", ".3f"),
                *_with_interval(cell, "balanced_accuracy", ".1%"),
                *_with_interval(cell, "accuracy", ".1%"), percent(first.majority),
                *_with_interval(cell, "false_positive_rate", ".1%"),
                spread(cell.figure("recall"), ".1%"),
                "; ".join(dict.fromkeys(probability(result.card.threshold)
                                        for result in cell.results)),
                spread(Spread.over(result.with_shared for result in cell.results), ".3f"),
                spread(Spread.over(float(result.unlike) for result in cell.results), ",.0f")))
    taken = "Taken out: pictures that" if matrix.taken_out else "Shared: pictures that"
    return Table("Each model on each data set", (
        "trained on", "tested on", "tampered", "authentic",
        "taken out" if matrix.taken_out else "shared", "ROC-AUC", "95%", "balanced", "95%",
        "accuracy", "95%", "majority class", "false positives", "95%", "recall", "threshold",
        "AUC with shared", "unlike training"), rows,
        f"{taken} the training or validation part of the training's data set has too, in whole or "
        "by their source. AUC with shared: with those pictures. Threshold: chosen on the "
        "validation part of the training's data set, for calibrated probabilities. Unlike "
        "training: pictures on which predict gives no verdict; they count here. 95%: bootstrap of "
        "whole groups of common source; over repeats from the lowest to the highest end, and "
        "figures are medians with the lowest and the highest.")


def pixels(matrix: Matrix) -> Table | None:
    """Where the pictures were changed; None without maps and masks."""
    rows = []
    for row in matrix.rows:
        for data in matrix.data:
            cell = row.cells.get(data.name)
            if cell is None or cell.results[0].pixels is None:
                continue
            first, found = cell.results[0], cell.results[0].pixels
            rows.append((
                name(row, matrix), data.described, count(found["pictures"]),
                *_with_interval(cell, "pixel_auc", ".3f"),
                number(first.errors), *_with_interval(cell, "pixel_f1", ".3f"),
                *_with_interval(cell, "pixel_iou", ".3f"),
                number(found["pooled"]["f1"]), f"{found['threshold']}/255",
                *_with_interval(cell, "pixel_false_alarm_area", ".1%")))
    if not rows:
        return None
    return Table("Where: pixels of the maps", (
        "trained on", "tested on", "pictures", "ROC-AUC", "95%", "plain ELA", "F1", "95%", "IoU",
        "95%", "F1 pooled", "threshold", "false area", "95%"), rows,
        "Means over the tampered pictures that have a mask, at the threshold that training chose "
        "on its validation part; pooled: over all pixels of all pictures. Plain ELA: ROC-AUC of "
        "blurred error levels without a network. False area: mean share of an authentic picture "
        "that is called changed.")


def overlaps(matrix: Matrix) -> Table:
    """What data sets share with the trainings."""
    found = {(result.model.data.name, result.data.name): result for result in matrix.results}
    rows = [(f"{train} in {result.data.described}",
             count(len(result.overlap.ways)),
             *(count(number) for number in result.overlap.counts.values()),
             count(int((result.overlap.ways == 0).sum()))) for (train, _), result in found.items()]
    return Table("Pictures that a training knows", (
        "of the training on", "pictures", *WAYS[1:], "left"), rows,
        "Each picture counts in the first way that applies: the same bytes; saved again, by its "
        "look at 32×32 pixels; the same scene, or a common source by CASIA's names; in one group "
        "of common source with such a picture. What only a person would recognise, such as another "
        "shot of the same place, isn't found.")


def datasets(matrix: Matrix) -> Table:
    """The data files."""
    rows = []
    for data in matrix.data:
        labels = data.header.array("label")[data.tested]
        groups = data.header.array("group")[data.tested]
        rows.append((data.name, str(data.path), count(data.header.rows),
                     "yes" if data.trained else "no", data.part,
                     count(int((labels == 1).sum())), count(int((labels == 0).sum())),
                     count(len(set(groups.tolist()))),
                     "yes" if data.header.has_masks else "no"))
    return Table("Data sets", ("name", "file", "pictures", "trained on", "part tested", "tampered",
                               "authentic", "groups", "masks"), rows,
                 "Tampered, authentic, groups: of the part that is tested, before anything is "
                 "taken out.")


def models(matrix: Matrix) -> Table:
    """The models."""
    rows = []
    for own in {result.model.name: result for result in matrix.results}.values():
        card = own.card
        validation = card.validation or {}
        rows.append((own.model.name, str(own.model.run), own.model.data.name, own.model.network,
                     own.model.feature, "–" if own.model.seed is None else str(own.model.seed),
                     number(validation.get("epoch"), ".0f"), number(validation.get("auc")),
                     probability(card.threshold), _rule(own)))
    return Table("Models", ("model", "run", "trained on", "network", "feature", "seed",
                            "best epoch", "validation AUC", "threshold", "chosen"), rows)


def _rule(result: Result) -> str:
    chosen = result.card.threshold_chosen or {}
    return decision.how({name: value for name, value in chosen.items() if name != "on"}) or "given"


def _known(matrix: Matrix) -> list[Shown]:
    return [shown for shown in SHOWN if any(
        result.figures[shown.name] is not None for result in matrix.results)]


def _columns(matrix: Matrix) -> list[str]:
    return [data.name for data in matrix.data]


def _cell(cell: Cell | None, shown: Shown) -> str:
    if cell is None or cell.figure(shown.name) is None:
        return "–"
    interval = cell.interval(shown.name)
    text = spread(cell.figure(shown.name), shown.form)
    return text if interval is None else f"{text} [{_ends(interval, shown.form)}]"


def _heat(row: Row, cell: Cell | None, column: str, shown: Shown) -> Heat:
    own = row.data.name == column
    value = None if cell is None else cell.figure(shown.name)
    if cell is None or value is None:
        return Heat("–", marked=own)
    interval = cell.interval(shown.name)
    below = "" if interval is None else f"{_ends(interval, shown.form)}"
    return Heat(format(value.median, shown.form), below, shown.share(value.median), own)


def _with_interval(cell: Cell, figure: str, form: str) -> tuple[str, str]:
    interval = cell.interval(figure)
    return (spread(cell.figure(figure), form),
            "–" if interval is None else _ends(interval, form))


def _ends(interval: tuple[float, float], form: str) -> str:
    return f"{interval[0]:{form}}–{interval[1]:{form}}"
