"""The whole page of a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hpc_deepfake.core.json_data import dictionary
from hpc_deepfake.report import course, members, pictures, repeat, trained_on, where
from hpc_deepfake.report.answer import head
from hpc_deepfake.report.collect import Content
from hpc_deepfake.report.results import results
from hpc_deepfake.web.html import Html, commands, details, join, page, paragraph, table, tag, text

_FILES = {"predictions.csv": "probability of each validation and test picture",
          "metrics.jsonl": "figures of each epoch", "summary.json": "final figures",
          "config.json": "options of the last start",
          "environment.json": "versions, hosts and devices of the last start",
          "model.keras": "the best weights",
          "model.json": "how to use them, and what they were trained on",
          "model.pictures.h5": "digests and thumbnails of the training pictures",
          "initial.json": "which layers took initial weights",
          "ensemble.json": "the members and their figures",
          "checkpoints": "to resume the run from"}


def document(content: Content, out: Path) -> str:
    """The HTML page; its links to the run's files are relative to its own path ``out``."""
    records = content.records
    of_members = members.section(content, out)
    sections = [("Learning curves", course.curves(content)) if of_members is None else
                ("Members", of_members)]
    sections += [(f"{part.name.capitalize()} part", results(content, part))
                 for part in content.parts]
    shown = next(((part.name, part.predictions) for part in content.parts
                  if part.predictions is not None), None)
    if shown is not None:
        name, predictions = shown
        feature = str(records.summary.get("feature", records.config.get("feature", "")))
        sections.append(("Examples", join([
            paragraph(f"Of the {name} part."),
            pictures.gallery(predictions, records.threshold, content.header, feature,
                             1.0 if content.card is None else content.card.temperature)])))
        if content.located is not None and content.header is not None:
            sections.append(("Where they were changed",
                             where.section(content.located, predictions, content.header)))
    sections.append(("What the model was trained on", trained_on.section(content.card)))
    if of_members is None:  # they have pages of their own
        sections.append(("Time", course.time(content)))
    sections += [("Settings", _settings(content)), ("Environment", _environment(content)),
                 ("Repeat the run", commands(repeat.commands(content))),
                 ("Files", _files(records.path, out))]
    return page(f"Run {records.path.resolve().name}", head(content), sections)


def _settings(content: Content) -> Html:
    config = content.records.config
    if not config:
        return paragraph("config.json is missing.")
    return _pairs({f"--{key.replace('_', '-')}": _value(value) for key, value in config.items()
                   if value is not None})


def _environment(content: Content) -> Html:
    environment = content.records.environment
    if not environment:
        return paragraph("environment.json is missing.")
    pairs = {"MPI": environment.get("mpi"), "platform": environment.get("platform"),
             "source": environment.get("git") or "not a git clone",
             "started": environment.get("started"),
             "gradients reduced by": content.records.summary.get("allreduce")}
    parts = [_pairs({**dictionary(environment.get("versions")),
                     **{key: value for key, value in pairs.items() if value is not None}})]
    if variables := dictionary(environment.get("variables")):
        parts.append(details("Environment variables", table(
            "Variables that affect MPI, Horovod and TensorFlow", (),
            variables.items(), "words")))
    return join(parts)


def _pairs(values: dict[str, Any]) -> Html:
    return tag("dl", join(Html(f"<div>{tag('dt', key)}{tag('dd', value)}</div>")
                          for key, value in values.items()), class_="pairs")


def _value(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _files(run: Path, out: Path) -> Html:
    """Links to the run's existing files, relative to the folder of the page."""
    folder = Path(os.path.relpath(run.resolve(), out.resolve().parent))
    links = join(Html(f'<li><a href="{quote(os.fsencode(folder / name))}">{text(name)}</a>: '
                      f"{text(meaning)}</li>")
                 for name, meaning in _FILES.items() if (run / name).exists())
    return Html(f"<ul>{links}</ul>")
