"""The results of one part: figures, confusion matrix, curves, calibration."""

from __future__ import annotations

import math

import numpy as np

from hpc_deepfake.core.json_data import finite
from hpc_deepfake.core.text import count, number, percent
from hpc_deepfake.metrics import calibration, curves
from hpc_deepfake.report.answer import baselines, container
from hpc_deepfake.report.collect import Content, Part
from hpc_deepfake.train.predictions import Predictions
from hpc_deepfake.train.records import THRESHOLD
from hpc_deepfake.web.html import Html, details, join, paragraph, table
from hpc_deepfake.web.svg import Chart, figure

_BINS = 20  # bins of the histogram
_SHARES = (0, 0.2, 0.4, 0.6, 0.8, 1)
_Z = 1.959964  # quantile of the normal distribution, for 95%


def results(content: Content, part: Part) -> Html:
    """The section of a part."""
    threshold = content.records.threshold if part.predictions is not None else THRESHOLD
    about = "This part also selected the epoch, so its figures are slightly too good." \
        if part.name == "validation" else "Nothing in this run was chosen on this part."
    blocks = [paragraph(f"{count(part.figures.get('rows'))} pictures. {about} A picture with a "
                        f"probability of at least {threshold:g} is predicted tampered."
                        + _uncalibrated(content))]
    predictions, charts = part.predictions, []
    if predictions is None:
        blocks.append(paragraph("The probabilities of this part are unknown, so its curves are "
                                "missing.", class_="note"))
    elif not len(predictions):
        blocks.append(paragraph("The part has no pictures."))
    else:
        charts = [_roc(predictions, part, threshold),
                  _precision_recall(predictions, part, threshold), _calibration(predictions),
                  _histogram(predictions, threshold)]
    blocks.append(Html("<div class=grid>" + join([
        _matrix(part, baselines(content, part)), _figures(content, part), *charts]) + "</div>"))
    return join(blocks)


def _uncalibrated(content: Content) -> str:
    """A sentence, if the probabilities aren't those that predict shows."""
    card = content.card
    if card is None or card.temperature == 1:
        return ""
    return (" Probabilities here and in predictions.csv are the network’s own; predict divides "
            f"their log-odds by the model’s temperature, {card.temperature:.3g}.")


def _matrix(part: Part, beside: str) -> Html:
    cells = {name: finite(part.figures.get(name)) for name in ("tn", "fp", "fn", "tp")}

    def cell(name: str, other: str, right: bool) -> str:
        value, whole = cells[name], (cells[name] or 0) + (cells[other] or 0)
        share = (value or 0) / whole if whole else 0.0
        return (f'<td class="{"right" if right else "wrong"}-answer" '
                f'style="--share:{share * 40:.0f}%"><b>{count(value)}</b> '
                f'{percent(share) if whole else "–"}</td>')

    return Html(
        "<div class=scroll><table class=matrix><caption>Confusion matrix: pictures, and their "
        f"share of the row. Accuracy {percent(part.figures.get('accuracy'))}; {beside}."
        "</caption><thead><tr><td></td><th scope=col>predicted authentic</th>"
        "<th scope=col>predicted tampered</th></tr></thead><tbody>"
        f"<tr><th scope=row>is authentic</th>{cell('tn', 'fp', True)}{cell('fp', 'tn', False)}"
        f"</tr><tr><th scope=row>is tampered</th>{cell('fn', 'tp', False)}{cell('tp', 'fn', True)}"
        "</tr></tbody></table></div>")


def _figures(content: Content, part: Part) -> Html:
    figures = part.figures
    tampered, others = (sum(finite(figures.get(name)) or 0 for name in names)
                        for names in (("tp", "fn"), ("tn", "fp")))
    balance = "share of those predicted tampered that are tampered, where " \
        f"{percent(tampered / (tampered + others))} of all are" if tampered + others else ""
    rows = [("accuracy", percent(figures.get("accuracy")), baselines(content, part)),
            ("balanced accuracy", percent(figures.get("balanced_accuracy")),
             f"50% for a constant prediction; {container(content, part)}"),
            ("precision", percent(figures.get("precision")), balance),
            ("recall", percent(figures.get("recall")),
             "share of the tampered ones that are detected"),
            ("F1", percent(figures.get("f1")), "harmonic mean of precision and recall"),
            ("ROC-AUC", number(figures.get("auc")), "0.5 is chance"),
            ("cross-entropy", number(figures.get("loss")), "0.693 for always predicting ½")]
    if "pixel_auc" in figures:
        about = "of the map against the mask, a mean over tampered pictures"
        rows += [("ROC-AUC of pixels", number(figures["pixel_auc"]), f"{about}; 0.5 is chance"),
                 ("F1 of pixels", percent(figures.get("pixel_f1")),
                  f"{about}, at the model’s threshold, chosen on the validation part; "
                  "hpc-deepfake evaluate has baselines"),
                 ("IoU of pixels", percent(figures.get("pixel_iou")), "at the same threshold")]
    if part.predictions is not None and len(part.predictions):
        p, y = part.predictions.probabilities, part.predictions.labels
        rows += [("Brier score", number(calibration.brier(p, y)), "0.25 for always predicting ½"),
                 ("calibration error", number(calibration.expected_calibration_error(p, y)),
                  "expected error, over 10 bins")]
    return table("Figures", ("figure", "", "for comparison"), rows, "figures")


def _square(label: str, x: str, y: str) -> Chart:
    return Chart(label, (0, 1), (0, 1), x, y, xticks=_SHARES, yticks=_SHARES, size=(360, 320),
                 xform="{:.0%}".format, yform="{:.0%}".format)


def _roc(predictions: Predictions, part: Part, threshold: float) -> Html:
    false, true, _ = curves.roc(predictions.probabilities, predictions.labels)
    chart = _square(f"ROC curve; the area below it is {number(part.figures.get('auc'))}",
                    "false positive rate", "true positive rate")
    chart.line([(0, 0), (1, 1)], "grey dashed thin")
    chart.line(list(zip(false.tolist(), true.tolist(), strict=True)), "blue")
    tampered = predictions.labels == 1
    predicted = predictions.probabilities >= threshold
    chart.dot(_share(predicted[~tampered]), _share(predicted[tampered]), "orange",
              f"threshold {threshold:g}")
    return figure("ROC", chart, [("blue", f"area {number(part.figures.get('auc'))}"),
                                 ("grey dashed thin", "chance"),
                                 ("dot orange", f"threshold {threshold:g}")])


def _precision_recall(predictions: Predictions, part: Part, threshold: float) -> Html:
    recall, precision, _ = curves.precision_recall(predictions.probabilities, predictions.labels)
    level = _share(predictions.labels == 1)
    chart = _square("precision over recall", "recall", "precision")
    chart.across(level, "grey dashed thin")
    chart.line(list(zip(recall.tolist(), precision.tolist(), strict=True)), "blue")
    chart.dot(finite(part.figures.get("recall")), finite(part.figures.get("precision")), "orange",
              f"threshold {threshold:g}")
    return figure("Precision and recall", chart, [
        ("blue", "over all thresholds"),
        ("grey dashed thin", f"predicting tampered for all, {percent(level)}"),
        ("dot orange", f"threshold {threshold:g}")])


def _calibration(predictions: Predictions) -> Html:
    p, y = predictions.probabilities, predictions.labels
    points = calibration.reliability(p, y)
    chart = _square("share of tampered pictures over the predicted probability",
                    "predicted probability (mean of each tenth)", "share of tampered")
    chart.line([(0, 0), (1, 1)], "grey dashed thin")
    for predicted, share, pictures in points:
        low, high = wilson(share, pictures)
        chart.line([(predicted, low), (predicted, high)], "blue thin")
        chart.dot(predicted, share, "blue", f"{pictures:,} pictures, mean probability "
                                            f"{predicted:.1%}: {share:.1%} tampered")
    error = number(calibration.expected_calibration_error(p, y))
    score = number(calibration.brier(p, y))
    counts = table("Pictures by their predicted probability",
                   ("mean probability", "tampered", "pictures"),
                   [(percent(predicted), percent(share), count(pictures))
                    for predicted, share, pictures in points])
    return figure("Calibration", chart, [
        ("dot blue", "pictures of one tenth, with 95% interval"),
        ("grey dashed thin", "perfect")],
        f"Expected error {error}, Brier score {score}.", details("Counts", counts))


def wilson(share: float, rows: float) -> tuple[float, float]:
    """95% interval of a share among independent rows (Wilson 1927).

    Args:
        share: from 0 to 1.
        rows: their number.
    """
    middle = (share + _Z**2 / (2 * rows)) / (1 + _Z**2 / rows)
    half = _Z / (1 + _Z**2 / rows) * math.sqrt(share * (1 - share) / rows
                                               + (_Z / rows / 2)**2)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _histogram(predictions: Predictions, threshold: float) -> Html:
    edges = np.linspace(0, 1, _BINS + 1)
    p, y = predictions.probabilities, predictions.labels
    counts = [np.histogram(p[np.isfinite(p) & (y == label)], edges)[0]
              for label in (0, 1)]
    chart = Chart("number of authentic and of tampered pictures by their probability", (0, 1),
                  (0, max(1, *(int(of_class.max()) for of_class in counts)) * 1.05),
                  "probability of tampered", "pictures", xticks=_SHARES, xform="{:.0%}".format,
                  size=(360, 320))
    for label, (kind, colour) in enumerate((("authentic", "blue"), ("tampered", "orange"))):
        for left, right, pictures in zip(edges[:-1], edges[1:], counts[label], strict=True):
            if pictures:
                middle, edge = (left + right) / 2, (right - left) * 0.08
                chart.bar(middle if label else left + edge, right - edge if label else middle,
                          0, int(pictures), colour,
                          f"{pictures} {kind}, {left:.0%} to {right:.0%}")
    chart.upright(threshold, "grey dashed thin")
    return figure("Probabilities by class", chart, [
        ("bar blue", "authentic"), ("bar orange", "tampered"),
        ("grey dashed thin", f"threshold {threshold:g}")])


def _share(which: np.ndarray) -> float | None:
    return float(which.mean()) if len(which) else None
