"""Example pictures of a part, right ones and wrong ones, with what the network saw of them."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np

from hpc_deepfake.core.text import percent
from hpc_deepfake.train.predictions import Predictions
from hpc_deepfake.web.html import Html, join, name, paragraph, text
from preprocessing.catalogue import LABELS
from preprocessing.store import Header

AT_MOST = 8  # of each kind
_QUALITY = 88  # of the page's own JPEGs
_DESCRIBED = {"raw": "the picture", "ela": "its error levels",
              "gray_bits": "their luminance and its bits"}


@dataclass(frozen=True)
class Kind:
    """One kind of answer.

    Attributes:
        title: heading. of: positions in the predictions, surest first, at most ``AT_MOST``.
        all: how many there are of the kind.
    """

    title: str
    of: list[int]
    all: int


def kinds(found: Predictions, threshold: float) -> list[Kind]:
    """The four kinds of answers; each with those the model was surest of."""
    p, tampered = found.probabilities, found.labels == 1
    surest = np.argsort(-p, kind="stable"), np.argsort(p, kind="stable")
    chosen = []
    for title, which, order in (
            ("Tampered, and found", tampered & (p >= threshold), surest[0]),
            ("Authentic, and left alone", ~tampered & (p < threshold), surest[1]),
            ("Tampered, but missed", tampered & (p < threshold), surest[1]),
            ("Authentic, but accused", ~tampered & (p >= threshold), surest[0])):
        order = order[which[order]]
        chosen.append(Kind(title, order[:AT_MOST].tolist(), len(order)))
    return chosen


def gallery(found: Predictions, threshold: float, header: Header | None, feature: str) -> Html:
    """All four kinds as pictures; as names and probabilities alone without their data file."""
    chosen = kinds(found, threshold)
    shown = np.array([one for kind in chosen for one in kind.of], int)
    note = "Only names are shown, since the data file can't be opened."
    if header is not None and not found.of_file(header):
        header = None
        note = "The data file has other pictures in these rows by now, so only names are shown."
    names = [one for one in dict.fromkeys(("raw", "ela", feature))
             if header is not None and one in header.features]
    gain = _gain(header, found.rows[shown], names)
    parts = [paragraph(note if header is None else _about(names, gain), class_="soft")]
    for kind in chosen:
        if not kind.all:
            parts.append(Html(f"<h3>{text(kind.title)}: none</h3>"))
            continue
        counted = f"{kind.title}: {kind.all:,}"
        if kind.all > len(kind.of):
            counted += f", the {len(kind.of)} the model was surest of"
        parts.append(Html(f"<h3>{text(counted)}</h3><div class=examples>"))
        parts += [_figure(found, one, header, names, gain) for one in kind.of]
        parts.append(Html("</div>"))
    return join(parts)


def _about(names: list[str], gain: float) -> str:
    note = "Each: " + ", then ".join(_DESCRIBED.get(one, one) for one in names)
    note += f" (error levels brightened {gain:.1f} times for the eye)." if gain > 1 else "."
    return note if "raw" in names else \
        f"{note} The data file has no feature “raw”, so the pictures themselves are missing."


def _figure(found: Predictions, one: int, header: Header | None, names: list[str],
            gain: float) -> Html:
    row, path = int(found.rows[one]), found.paths[one]
    images = join(Html(f'<img width=128 height=128 alt="{text(_DESCRIBED.get(kind, kind))}: '
                       f'{text(path)}" src="{_uri(header, kind, row, gain)}">') for kind in names)
    pair = Html(f'<div class="pair of-{len(names)}">{images}</div>' if names else "")
    return Html(f"<figure>{pair}<figcaption><b>{percent(found.probabilities[one].item())}</b> "
                f"tampered; is {LABELS[found.labels[one]]}<br>{name(path)}</figcaption></figure>")


def _gain(header: Header | None, rows: np.ndarray, names: list[str]) -> float:
    """What brings all shown error levels into the light alike, at least 1."""
    if header is None or "ela" not in names or not len(rows):
        return 1.0
    high = np.percentile(header.array("ela")[rows], 99.5)
    return max(1.0, 255 / max(float(high), 1.0))


def _uri(header: Header, feature: str, row: int, gain: float) -> str:
    """A row's feature as a picture inside the page."""
    pixels = np.asarray(header.array(feature)[row])[..., ::-1]  # to OpenCV's blue-green-red
    if feature == "ela":
        pixels = cv2.convertScaleAbs(np.ascontiguousarray(pixels), alpha=gain)
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels),
                              (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    return "data:image/jpeg;base64," + base64.b64encode(data if done else b"").decode()
