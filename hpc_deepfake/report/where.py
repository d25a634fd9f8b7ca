"""Where pictures were changed: masks beside the maps of the model, good ones and bad ones."""

from __future__ import annotations

import base64
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import number, percent, plural
from hpc_deepfake.metrics import masks
from hpc_deepfake.network.card import Card
from hpc_deepfake.report import pictures
from hpc_deepfake.train.predictions import Predictions
from hpc_deepfake.web.html import Html, join, name, paragraph, text
from preprocessing import ela
from preprocessing.integrity import damaged_rows
from preprocessing.mask import CHANGED, UNKNOWN
from preprocessing.store import MASK, Header

TAMPERED, AUTHENTIC = 32, 16  # pictures whose maps are computed, of 128 × 128; fewer large ones
EACH = 3  # of each kind are shown
_SIDE = 256  # pixels of a map's longest side on the page


@dataclass(frozen=True)
class Located:
    """Pictures of a part and what the model says of where they were changed.

    Attributes:
        part: ``validation`` or ``test``.
        positions: of the pictures in the part's predictions, int64 (n): first the tampered ones
            that were looked at, in order, then the authentic ones.
        tampered: number of tampered ones.
        masks: uint8 (n, S, S), of values as in ``preprocessing.mask``.
        levels: maps of the model, uint8 (n, S, S).
        threshold: level from which a pixel is called changed.
    """

    part: str
    positions: np.ndarray
    tampered: int
    masks: np.ndarray
    levels: np.ndarray
    threshold: int


def located(run: Path, part: str, predictions: Predictions, header: Header,
            card: Card) -> Located | None:
    """Maps of a few pictures of a part, by the run's model; None: it doesn't say where, or the data
    file has no masks.

    Tampered pictures are taken evenly spread over the part, authentic ones those with the highest
    probability.

    Raises:
        InputError: the model can't be loaded, or the rows can't be read.
    """
    if card.mask_threshold is None or not header.has_masks or not predictions.of_file(header) \
            or any(feature not in header.features for feature in ela.parts(card.feature)):
        return None
    size = header.parameters.size
    tampered = np.flatnonzero(predictions.labels == 1)
    tampered = tampered[np.unique(np.linspace(0, len(tampered) - 1, ela.at_once(TAMPERED, size))
                                  .round().astype(int))] if len(tampered) else tampered
    alike = np.argsort(-predictions.probabilities, kind="stable")
    authentic = alike[predictions.labels[alike] == 0][:ela.at_once(AUTHENTIC, size)]
    known = _masks(header, predictions.rows[tampered])
    both = (known == CHANGED).any((1, 2)) & (known == 0).any((1, 2))
    if not both.any():
        return None
    positions = np.concatenate([tampered[both], authentic])
    rows = predictions.rows[positions]
    if len(damaged_rows(header, np.sort(rows))):
        return None  # the examples say so
    return Located(part, positions, int(both.sum()), _masks(header, rows),
                   _maps(run, header, card, rows), card.mask_threshold)


def _masks(header: Header, rows: np.ndarray) -> np.ndarray:
    return np.stack([np.asarray(header.array(MASK)[row]) for row in rows.tolist()]) if len(rows) \
        else np.empty((0, 1, 1), np.uint8)


def _maps(run: Path, header: Header, card: Card, rows: np.ndarray) -> np.ndarray:
    from hpc_deepfake.network import device, maps, model, scoring

    with suppress(RuntimeError):  # at the end of training TensorFlow has long been started
        device.start("auto")
    network = model.load(run)
    if not maps.has(network):
        raise InputError(f"{run} has a model without a map, though its card has a threshold for "
                         "one: copy both files from one training")
    parts = [header.array(feature) for feature in ela.parts(card.feature)]
    features = [np.concatenate([part[row] for part in parts], axis=-1) for row in rows.tolist()]
    return scoring.located(maps.both(network), features)[1]


def section(found: Located, predictions: Predictions, header: Header) -> Html:
    """The pictures that the model located best, worst and in between, and the authentic ones of
    which it calls most changed."""
    feature = "raw" if "raw" in header.features else "ela"
    gain = pictures.brightening(header, predictions.rows[found.positions], [feature])
    histograms = masks.histograms(found.levels, found.masks)
    figures = [masks.figures(own[None], np.ones(1, np.uint8), found.threshold)["per_picture"]
               for own in histograms[:found.tampered]]
    order = np.argsort([-(own["auc"] or 0) for own in figures], kind="stable")
    middle = max(0, (len(order) - EACH) // 2)
    areas = (found.levels >= found.threshold).mean((1, 2))
    alarms = found.tampered + np.argsort(-areas[found.tampered:], kind="stable")
    parts = [paragraph(
        f"Each shows {'the picture' if feature == 'raw' else 'its error levels'}, its mask (white: "
        "changed, grey: unknown) and the model’s map: the lighter, the more probable it is, to the "
        "model, that a place was changed. A place is called changed from "
        f"{percent(found.threshold / 255)} on. Of the {found.part} part, "
        f"{plural(found.tampered, 'tampered picture')} with a mask, evenly spread over it, and "
        f"{plural(len(alarms), 'authentic one')} with the highest probabilities were looked at.",
        class_="soft")]
    for title, chosen in (
            ("Tampered, located best", order[:EACH]),
            ("Tampered, in between", order[max(EACH, middle):max(EACH, len(order) - EACH)][:EACH]),
            ("Tampered, located worst", order[EACH:][-EACH:]),
            ("Authentic, most of it called changed", alarms[:EACH])):
        if len(chosen):
            shown = join(_figure(found, int(place), predictions, header, feature, gain,
                                 figures[place] if place < found.tampered else None,
                                 float(areas[place])) for place in chosen)
            parts.append(Html(f"<h3>{text(title)}</h3><div class=examples>{shown}</div>"))
    return join(parts)


def _figure(found: Located, place: int, predictions: Predictions, header: Header, feature: str,
            gain: float, figures: dict[str, float | None] | None, area: float) -> Html:
    position = int(found.positions[place])
    row, path = int(predictions.rows[position]), predictions.paths[position]
    images = join(Html(f'<img width=128 height=128 alt="{text(what)}: {text(path)}" src="{uri}">')
                  for what, uri in (
                      ("the picture", pictures.data_uri(header, feature, row, gain)),
                      ("its mask", _grey(_shades(found.masks[place]))),
                      ("the model’s map", _grey(found.levels[place]))))
    said = f"{percent(area)} called changed"
    if figures is not None:
        share = float(np.mean(found.masks[place] == CHANGED))
        said = (f"ROC-AUC {number(figures['auc'])}, F1 {percent(figures['f1'])}; {said}, "
                f"{percent(share)} are")
    return Html(f'<figure><div class="pair of-3">{images}</div><figcaption>{text(said)}<br>'
                f"{name(path)}</figcaption></figure>")


def _shades(mask: np.ndarray) -> np.ndarray:
    return np.where(mask == CHANGED, 255, np.where(mask == UNKNOWN, 128, 0)).astype(np.uint8)


def _grey(levels: np.ndarray) -> str:
    """A map as a data URI."""
    if len(levels) > _SIDE:
        levels = cv2.resize(levels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".png", levels)
    return "data:image/png;base64," + base64.b64encode(data.tobytes() if done else b"").decode()
