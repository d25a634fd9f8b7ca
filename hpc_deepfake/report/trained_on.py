"""What the model's card says: the pictures that it was trained on, and how it is used."""

from __future__ import annotations

from typing import Any

from hpc_deepfake.core.json_data import dictionary, finite, items
from hpc_deepfake.core.text import count, number, percent, printable
from hpc_deepfake.network.card import RANDOM, UNKNOWN, Card
from hpc_deepfake.web.html import Html, join, paragraph, table

_BLANK = "unknown"


def section(card: Card | None) -> Html:
    """The section of the page."""
    if card is None:
        return paragraph("There is no model yet, or its model.json can't be read.")
    known = card.trained_on
    if known is None:
        return paragraph(f"The model {UNKNOWN}.")
    if known.get("random"):
        return paragraph(f"The model was {RANDOM}.")
    data = [(printable(str(row.get("name"))), *(count(row.get(name)) for name in (
        "pictures", "authentic", "tampered"))) for row in map(dictionary, items(known.get("data")))]
    return join([
        paragraph("Its answers say little about pictures of another kind. hpc-deepfake predict "
                  "marks those that are unlike these, and names those that are among these."),
        table("Data sets, training and validation part together",
              ("data set", "pictures", "authentic", "tampered"), data),
        table("The training pictures", (), _facts(card, known), "words"),
        table("How the model is used", (), _use(card), "words")])


def _facts(card: Card, known: dict[str, Any]) -> list[tuple[str, str]]:
    qualities = dictionary(known.get("qualities"))
    formats = dictionary(known.get("formats"))
    return [("pictures", count(known.get("train"))),
            ("drawn by this project", "yes" if card.only_sample else "in part" if card.sample else
             "no" if known.get("sample") is False else _BLANK),
            *([("forged by this project", "yes, of photographs" if card.only_forged else "in part")]
              if known.get("forged") is True else []),
            *([("initial weights", f"{count(card.init.get('taken'))} of "
                                   f"{count(card.init.get('layers'))} layers, from "
                                   f"{printable(str(card.init.get('source')))}")]
              if card.init else []),
            ("formats", ", ".join(f"{printable(str(name))} {count(number)}"
                                  for name, number in formats.items()) or _BLANK),
            ("JPEG quality", _range([qualities.get(name) for name in ("min", "median", "max")])),
            *((side, _range(items(known.get(side)), " pixels")) for side in ("width", "height"))]


def _range(values: list[Any], unit: str = "") -> str:
    """Minimum, median and maximum in words."""
    numbers = [finite(value) for value in values]
    if len(numbers) != 3 or None in numbers:
        return _BLANK
    low, middle, high = (f"{value:,.0f}" for value in numbers if value is not None)
    return f"{low} to {high}{unit}, median {middle}" if low != high else f"{low}{unit}"


def _use(card: Card) -> list[tuple[str, str]]:
    figures = card.validation or {}
    interval = items(dictionary(figures.get("intervals")).get("auc"))
    between = f" (95%: {' to '.join(map(number, interval))})" if len(interval) == 2 else ""
    chosen = dictionary(card.threshold_chosen)
    how = f", chosen by {printable(str(chosen.get('rule')))}" if chosen else ""
    return [("threshold", f"{card.threshold:g}{how}"),
            ("undecided", "no picture" if card.lower is None else
             f"from {card.lower:g} to below the threshold"),
            ("temperature", f"{card.temperature:.3g} divides the log-odds of each probability"),
            *([("called changed", f"a place from {percent(card.mask_threshold / 255)} of the map "
                "on, chosen on the validation part")] if card.mask_threshold is not None else []),
            ("validation, epoch " + count(figures.get("epoch")),
             f"accuracy {percent(figures.get('accuracy'))}, ROC-AUC {number(figures.get('auc'))}"
             f"{between}" if figures else _BLANK)]
