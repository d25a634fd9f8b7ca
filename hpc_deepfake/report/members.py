"""The members of an ensemble: their figures beside the ensemble's, and links to their pages."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from hpc_deepfake.core import json_data
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.json_data import dictionary, items
from hpc_deepfake.core.text import count, number, percent
from hpc_deepfake.network import ensemble
from hpc_deepfake.report.collect import Content
from hpc_deepfake.train.ensemble import mean
from hpc_deepfake.web.html import Html, join, paragraph, table, text


def section(content: Content, out: Path) -> Html | None:
    """The section of the page ``out``; None: the run is no ensemble."""
    folder = content.records.path
    try:
        paths = ensemble.members(folder)
        figures = paths and dictionary(dictionary(
            json_data.read(folder / ensemble.NAME)).get("figures"))
    except (OSError, ValueError, InputError):
        return None
    if not paths or not figures:
        return None
    blocks: list[Html] = [paragraph(
        "Trainings that differ in their seed alone: initial weights, order of rows, dropout and "
        "augmentation. The ensemble's probability is the mean of their calibrated ones, so its "
        "other sections here are of that mean.")]
    for part in content.parts:
        found = dictionary(figures.get(part.name))
        of = [dictionary(own) for own in items(found.get("members"))]
        rows = [*((_link(path, out), own) for path, own in zip(paths, of, strict=False)),
                (text("mean of the members"), mean(of)),
                (text("ensemble"), dictionary(found.get("ensemble")))]
        blocks.append(table(f"The {part.name} part, {count(part.figures.get('rows'))} pictures",
                            ("", "accuracy", "ROC-AUC", "cross-entropy"), [
            (name, percent(own.get("accuracy")), number(own.get("auc")), number(own.get("loss")))
            for name, own in rows]))
    return join(blocks)


def _link(member: Path, out: Path) -> Html:
    """The member's name, and a link to its page if there is one."""
    if not (member / "report.html").is_file():
        return text(member.name)
    page = Path(os.path.relpath(member.resolve(), out.resolve().parent)) / "report.html"
    return Html(f'<a href="{quote(os.fsencode(page))}">{text(member.name)}</a>')
