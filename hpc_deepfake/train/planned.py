"""A training that another program plans: its settings, whether a run directory has it, and how its
last job ended."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from hpc_deepfake.core import json_data
from hpc_deepfake.core.errors import EXIT_DIVERGED, InputError, reason
from hpc_deepfake.core.json_data import dictionary
from hpc_deepfake.train.options import parser

# Options that are not meant to change a run's result or speed.
IRRELEVANT = frozenset({
    "config", "recipe", "data", "run", "resume", "no_report", "checkpoint_minutes", "keep", "stage",
    "stall_warning", "stall_limit", "tensorboard"})
DONE, STARTED, TO_DO = "done", "started", "to do"
DIVERGED = "diverged.json"  # of a training that ended because its numbers were no longer finite


def settings(options: Namespace) -> dict[str, Any]:
    """Values of options, as ``config.json`` of a run has them."""
    return {key: _json_value(value) for key, value in vars(options).items()}


def changed_options(planned: Mapping[str, Any], config: Mapping[str, Any],
                    irrelevant: Collection[str] = IRRELEVANT) -> list[str]:
    """Options of a run's ``config.json`` that differ from the plan, with the run's values.

    Options that an older version did not have count as their defaults.

    Args:
        planned: as of ``settings``.
        config: content of ``config.json``.
        irrelevant: options that may differ.
    """
    defaults = vars(parser().parse([]))
    return [f"--{key.replace('_', '-')} {config.get(key, defaults[key])}" for key in planned
            if key not in irrelevant
            and config.get(key, _json_value(defaults[key])) != planned[key]]


def config(run: Path) -> dict[str, Any] | None:
    """Content of a run's ``config.json``; None before it has started.

    Raises:
        InputError: it can't be read.
    """
    content = _read(run / "config.json")
    return None if content is None else dictionary(content)


def state(run: Path, planned: Mapping[str, Any]) -> str:
    """``DONE``, ``STARTED`` or ``TO_DO``.

    Args:
        run: the run directory.
        planned: as of ``settings``.

    Raises:
        InputError: it holds a run with other settings.
    """
    stored = config(run)
    if stored is None:
        return TO_DO
    if changed := changed_options(planned, stored):
        raise InputError(f"{run} holds a run with {' '.join(changed)}, unlike the options given "
                         "now: runs with different options are not compared. Give the same "
                         "options, or choose another --out")
    return DONE if finished(run) else STARTED


def finished(run: Path) -> bool:
    """Whether a run has its results.

    Raises:
        InputError: they can't be read.
    """
    return _read(run / "summary.json") is not None


def divergence(run: Path) -> str | None:
    """The message of a run that diverged, and has not been continued since; None for any other."""
    try:
        return str(dictionary(json_data.read(run / DIVERGED)).get("message", "it diverged"))
    except (OSError, ValueError):
        return first_error(run / "jobs") or "it diverged" \
            if outcome(run / "jobs") == str(EXIT_DIVERGED) else None


def outcome(records: Path) -> str:
    """Exit code of the last job, from the folder of its records; empty if none has ended."""
    try:
        return (records / "outcome").read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def first_error(records: Path) -> str:
    """First line of the newest error that a job left."""
    files = sorted(records.glob("*.error"), key=lambda file: file.stat().st_mtime)
    for file in reversed(files):
        lines = file.read_text("utf-8", "replace").strip().splitlines()
        if lines:  # a traceback names its error in the last line
            line = lines[-1] if "Traceback" in "".join(lines[:2]) else lines[0]
            return line.strip()[:300]
    return ""


def _json_value(value: object) -> object:
    """The value as config.json has it."""
    return str(value) if isinstance(value, Path) else value


def _read(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json_data.read(path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {reason(error)}. Move its folder away; the training "
                         "is then repeated") from None
