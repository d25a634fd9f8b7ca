"""Example pictures of a part, correct and wrong predictions, with the features of each."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np

from hpc_deepfake.core.text import percent
from hpc_deepfake.metrics.temperature import apply
from hpc_deepfake.train.predictions import Predictions
from hpc_deepfake.web.html import Html, join, name, paragraph, text
from preprocessing.catalogue import LABELS
from preprocessing.ela import resize
from preprocessing.integrity import damaged_rows
from preprocessing.store import Header

AT_MOST = 8  # pictures of each kind
_QUALITY, _SIDE = 88, 256  # of the JPEGs in the page, and pixels of their longest side
_DESCRIBED = {"raw": "the picture", "ela": "its error levels",
              "gray_bits": "their luminance and its bits"}


@dataclass(frozen=True)
class Kind:
    """One kind of prediction.

    Attributes:
        title: heading.
        of: positions in the predictions, most confident first, at most ``AT_MOST``.
        all: total number of predictions of the kind.
    """

    title: str
    of: list[int]
    all: int


def kinds(predictions: Predictions, threshold: float) -> list[Kind]:
    """The four kinds of predictions, each with the most confident ones."""
    p, tampered = predictions.probabilities, predictions.labels == 1
    falling, rising = np.argsort(-p, kind="stable"), np.argsort(p, kind="stable")
    chosen = []
    for title, which, order in (
            ("Tampered, detected", tampered & (p >= threshold), falling),
            ("Authentic, accepted", ~tampered & (p < threshold), rising),
            ("Tampered, missed", tampered & (p < threshold), rising),
            ("Authentic, false alarms", ~tampered & (p >= threshold), falling)):
        order = order[which[order]]
        chosen.append(Kind(title, order[:AT_MOST].tolist(), len(order)))
    return chosen


def gallery(predictions: Predictions, threshold: float, header: Header | None,
            feature: str, temperature: float = 1.0) -> Html:
    """All four kinds as pictures; without their data file, names and probabilities only.
    Probabilities are those that ``predict`` shows, by the model's temperature."""
    chosen = kinds(predictions, threshold)
    shown = np.array([position for kind in chosen for position in kind.of], int)
    shown_rows = predictions.rows[shown]
    note = "Only names are shown, since the data file can't be opened."
    if header is not None and not predictions.of_file(header):
        header = None
        note = "Only names are shown, since these rows of the data file now hold other pictures."
    elif header is not None and len(damaged_rows(header, np.sort(shown_rows))):
        header = None
        note = "Only names are shown, since these rows of the data file are damaged: see " \
               "hpc-deepfake verify."
    names = [name for name in dict.fromkeys(("raw", "ela", feature))
             if header is not None and name in header.features]
    gain = brightening(header, shown_rows, names)
    parts = [paragraph(note if header is None else _about(names, gain), class_="soft")]
    if temperature != 1:
        parts.append(paragraph("The probabilities are calibrated, as predict shows them.",
                               class_="soft"))
    calibrated = apply(predictions.probabilities, temperature)
    for kind in chosen:
        if not kind.all:
            parts.append(Html(f"<h3>{text(kind.title)}: none</h3>"))
            continue
        counted = f"{kind.title}: {kind.all:,}"
        if kind.all > len(kind.of):
            counted += f", the {len(kind.of)} most confident ones"
        parts.append(Html(f"<h3>{text(counted)}</h3><div class=examples>"))
        parts += [_figure(predictions, position, float(calibrated[position]), header, names, gain)
                  for position in kind.of]
        parts.append(Html("</div>"))
    return join(parts)


def _about(names: list[str], gain: float) -> str:
    note = "Each shows " + ", then ".join(_DESCRIBED.get(name, name) for name in names)
    note += f" (error levels brightened {gain:.1f} times for display)." if gain > 1 else "."
    return note if "raw" in names else \
        f"{note} The data file has no feature “raw”, so the pictures themselves are missing."


def _figure(predictions: Predictions, position: int, probability: float, header: Header | None,
            names: list[str], gain: float) -> Html:
    row, path = int(predictions.rows[position]), predictions.paths[position]
    pair: object = ""
    if header is not None and names:
        images = join(
            Html(f'<img width=128 height=128 alt="{text(_DESCRIBED.get(feature, feature))}: '
                 f'{text(path)}" src="{data_uri(header, feature, row, gain)}">')
            for feature in names)
        pair = Html(f'<div class="pair of-{len(names)}">{images}</div>')
    return Html(f"<figure>{pair}<figcaption>"
                f"<b>{percent(probability)}</b> tampered; "
                f"is {LABELS[predictions.labels[position]]}<br>{name(path)}</figcaption></figure>")


def brightening(header: Header | None, rows: np.ndarray, names: list[str]) -> float:
    """The common factor that brightens all shown error levels, at least 1."""
    if header is None or "ela" not in names or not len(rows):
        return 1.0
    high = np.percentile(header.array("ela")[rows], 99.5)
    return max(1.0, 255 / max(float(high), 1.0))


def data_uri(header: Header, feature: str, row: int, gain: float) -> str:
    """A row's feature as a data URI."""
    pixels = np.asarray(header.array(feature)[row])[..., ::-1]  # to OpenCV's blue-green-red
    if len(pixels) > _SIDE:
        pixels = resize(np.ascontiguousarray(pixels), _SIDE)
    if feature == "ela":
        pixels = cv2.convertScaleAbs(np.ascontiguousarray(pixels), alpha=gain)
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels),
                              (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes() if done else b"").decode()
