"""``hpc-deepfake summary``: finished runs in a table, with the majority class below them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpc_deepfake.core import json_data
from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.json_data import dictionary, finite
from hpc_deepfake.core.options import Parser
from hpc_deepfake.core.text import count, number, percent, plural
from hpc_deepfake.network import model
from hpc_deepfake.network.card import Card
from hpc_deepfake.train import divergence, records

_TEXTS, _NUMBERS = ("feature", "strategy"), ("ranks", "epochs", "images_per_s")
_EXAMPLES = """examples:
  hpc-deepfake summary runs/first
  hpc-deepfake summary runs/*

exit codes: 0 done; 2 wrong usage, or a run hasn't finished or can't be read (all others are
shown)"""


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake summary", config=False, epilog=_EXAMPLES, description=(
        "Print finished runs as a table: accuracy and AUC of each part beside the majority\n"
        "class, and the speed of training and preprocessing; below it what the models were\n"
        "trained on, and what they are not to be used for."))
    cli.add_argument("runs", nargs="+", type=Path, metavar="RUN",
                     help="run directory of a finished training")
    return cli


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    runs: list[dict[str, Any]] = []
    errors: list[InputError] = []
    for path in parser().parse(argv).runs:
        try:
            runs.append(_read(path))
        except InputError as error:
            errors.append(error)
    if runs:
        print(table(runs), flush=True)
    elif len(errors) == 1:
        raise errors[0]
    for problem in errors:
        print(f"error: {problem}", file=sys.stderr)
    return 2 if errors else 0


def _read(path: Path) -> dict[str, Any]:
    try:
        summary, config = (dictionary(json_data.read(path / name))
                           for name in ("summary.json", "config.json"))
        missing = [name for name in _TEXTS if not isinstance(summary.get(name), str)] \
            + [name for name in _NUMBERS if finite(summary.get(name)) is None]
        if missing:
            raise ValueError(f"summary.json has no {missing[0]}")
    except (OSError, ValueError) as error:
        diverged = divergence.recorded(path)
        if diverged is not None:
            raise InputError(f"{path}: {diverged[1]}") from None
        why = _how_far(path) or f" ({reason(error)}): name the directory of a training that has " \
            "finished"
        raise InputError(f"{path} holds no finished run{why}") from None
    run: dict[str, Any] = {
        "run": path, "data": str(config.get("data")), "made": {}, "card": None,
        "members": finite(summary.get("members")),
        **{name: summary[name] for name in (*_TEXTS, *_NUMBERS)},
        **{part: dictionary(summary[part]) for part in ("validation", "test") if part in summary}}
    with suppress(OSError, ValueError):  # not a file of the run
        run["made"] = dictionary(json_data.read(Path(f"{run['data']}.json")))
    with suppress(InputError):
        run["card"] = model.read_card(path)
    return run


def _how_far(path: Path) -> str:
    """The end of a message about a training that has begun and has no results; else empty."""
    if (path / "summary.json").exists() or not (path / "config.json").is_file():
        return ""
    epochs: list[float | None] = []
    planned = None
    with suppress(InputError):  # no epoch is done
        known = records.read(path)
        epochs = [finite(line.get("epoch")) for line in known.epochs]
        planned = finite(known.config.get("epochs"))
    done = max((epoch for epoch in epochs if epoch is not None), default=0)
    of = f" of {planned:.0f}" if planned else ""
    return (f": {f'epoch {done:.0f}{of} is' if done else 'no epoch is'} done; wait for it, or "
            "continue it with --resume")


def table(runs: list[dict[str, Any]]) -> str:
    """Validation and, if there is a test part, test figures of runs, as lines to read."""
    located = any("pixel_auc" in run.get(part, {}) for run in runs
                  for part in ("validation", "test"))
    form = "{:<26.26} {:>8} {:>6}" + " {:>9}" * located + "  {:<10} {:>6} {:>5} {:>8}"

    def row(name: str, accuracy: str, auc: str, pixels: object, *rest: str) -> str:
        return form.format(name, accuracy, auc, *[number(pixels)] * located, *rest)

    lines = [form.format("", "accuracy", "AUC", *["pixel AUC"] * located, "part", "epochs", "ranks",
                         "images/s")]
    baselines: list[str] = []
    for run in runs:
        for part in (part for part in ("validation", "test") if part in run):
            figures = run[part]
            whose = f" ×{run['members']:.0f}" if run["members"] else ""
            lines.append(row(f"{run['run'].name}: {run['feature']}, {run['strategy']}{whose}",
                             percent(figures.get("accuracy")), number(figures.get("auc")),
                             figures.get("pixel_auc"), part, count(run["epochs"]),
                             count(run["ranks"]), count(run["images_per_s"])))
            baselines.append(row("majority class", percent(figures.get("majority")), number(0.5),
                                 0.5, part, "", "", ""))
    lines += dict.fromkeys(baselines)
    lines.append("The validation part also selected the epoch; a test part (--split 70/10/20) "
                 "didn't.")
    lines += _models(runs)
    for data in dict.fromkeys(run["data"] for run in runs):
        made = next(run["made"] for run in runs if run["data"] == data)
        images, wall, ranks = (finite(value) for value in (
            made.get("images"), dictionary(made.get("seconds")).get("wall"), made.get("ranks")))
        if images is not None and wall and ranks is not None:
            lines.append(f"preprocessing: {count(images)} images, {count(images / wall)} images/s "
                         f"on {plural(round(ranks), 'rank')} ({made.get('writer')}), "
                         f"{Path(data).name}")
    return "\n".join(lines)


def _models(runs: list[dict[str, Any]]) -> list[str]:
    """What the models were trained on, and their caveats; once for runs of which the same holds."""
    names: dict[tuple[str, ...], list[str]] = {}
    for run in runs:
        card: Card | None = run["card"]
        if card is not None:
            names.setdefault((card.source, *card.caveats), []).append(run["run"].name)
    lines = []
    for (source, *caveats), of in names.items():
        lines.append(f"{', '.join(of)}: trained on {source}")
        lines += [f"  {caveat}" for caveat in caveats]
    return lines
