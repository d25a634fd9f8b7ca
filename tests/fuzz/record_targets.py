"""The records of runs, studies and comparisons: JSON, JSON lines and CSV, edited or damaged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scaling_records
from mutations import Choices, damaged_bytes, damaged_json, damaged_text
from targets import Target

from hpc_deepfake import compare, evaluate, sweep
from hpc_deepfake.audit.rows import stored_roots
from hpc_deepfake.compare import folder as compare_folder
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import write_json
from hpc_deepfake.jobs.accounting import account, table
from hpc_deepfake.network import decision, ensemble, model
from hpc_deepfake.network.guard import Guard
from hpc_deepfake.report import summary, write
from hpc_deepfake.scaling import model as models
from hpc_deepfake.scaling import predicting, reporting, study, tables
from hpc_deepfake.scaling.records import rows
from hpc_deepfake.scaling.series import all_series
from hpc_deepfake.sweep import plan as plans
from hpc_deepfake.train import predictions, records, start
from hpc_deepfake.train.rundir import RunDir
from preprocessing.facts import Facts

RUN: dict[str, Any] = json.loads((Path(__file__).parent / "seeds" / "run.json").read_text())
CSV = ["0", "validation", "test", "row", "part", "path", "label", "probability", ",", '"', "\n",
       "nan", "1.0", "2", "-5", "99999999999999999999"]
MICROBENCH = {"ranks": 4, "rows": [
    *({"what": what, "size": size, "latency_us": {"mean": 5.0 + size / 1e3}}
      for what in ("allreduce", "alltoall", "sendrecv") for size in (8, 1 << 20)),
    {"what": "files", "read_mb_per_s": 900.0}]}
ROWS = (np.zeros((128, 128, 3), np.uint8),
        np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8))
BEGUN = {"data": "0" * 64, "threads": 2}
TRAINED = sorted(set(RUN) - {"features.h5.json"})


def content(name: str) -> bytes:
    """A file of the run as training writes it."""
    value = RUN[name]
    if name == "metrics.jsonl":
        return b"".join(json.dumps(line).encode() + b"\n" for line in value)
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


def damaged_run(choose: Choices, names: Sequence[str] = TRAINED) -> dict[str, bytes | None]:
    """Files of a run by name, one or two of them damaged, and perhaps one missing."""
    files: dict[str, bytes | None] = {name: content(name) for name in names}
    for _ in range(choose.integer(1, 2)):
        name = choose.one_of(names)
        if name == "metrics.jsonl":
            line = damaged_json(choose, RUN[name])
            first, second = content(name).splitlines(keepends=True)
            files[name] = choose.one_of((line + b"\n" + second, first + line))
        elif name.endswith(".csv"):
            files[name] = damaged_bytes(choose, [RUN[name].encode()]) if choose.integer(0, 1) \
                else damaged_text(choose, [RUN[name]], CSV).encode("utf-8", "replace")
        else:
            files[name] = damaged_json(choose, [RUN[name]])
    if choose.integer(0, 9) == 0:
        files[choose.one_of(names)] = None
    return files


def lay(files: dict[str, bytes | None], folder: Path, near: Path | None = None) -> None:
    """Write files into a folder that exists or not; what is None there is removed.

    ``near`` stands for the data file that the run names, so that its record is read too."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        if data is None:
            (folder / name).unlink(missing_ok=True)
        else:
            if near is not None:
                data = data.replace(b"/data/features.h5", os.fsencode(near))
            (folder / name).write_bytes(data)


def as_run(use: Callable[[Path], object]) -> Callable[[dict[str, bytes | None], Path], None]:
    """A reader of a damaged run directory."""
    def read(files: dict[str, bytes | None], folder: Path) -> None:
        (folder / "gone").mkdir(exist_ok=True)
        lay(files, folder / "run", folder / "gone" / "features.h5")
        (folder / "gone" / "features.h5.json").write_bytes(
            files.get("features.h5.json") or content("features.h5.json"))
        use(folder / "run")

    return read


def read_run(run: Path) -> None:
    found = records.read(run)
    _ = found.data, found.unfinished
    predictions.read(run)


def read_card(run: Path) -> None:
    (run / "model.keras").write_bytes(b"")
    evaluate.material.trained_on(run, run / "features.h5")
    card = model.read_card(run)
    card.parameters.as_dict()
    assert 0 <= card.threshold <= 1 and 1 <= card.parameters.quality <= 100
    assert card.temperature > 0 and all(card.caveats + [card.source]) and card.as_dict()
    for calibration in ("stored", "off"):
        used = decision.in_use(card, calibration=calibration)
        assert all(map(str.isprintable, decision.caveats(used)))
        assert decision.verdict(used, float(decision.calibrated(used, np.array(0.7))))
    guard = Guard.of(card, run)
    for row in ROWS:
        reasons = guard.unlike(row, row, Facts(20, 4000, "PNG"), drawn=False)
        assert all(map(str.isprintable, reasons))


def report_job(run: Path) -> None:
    for subject in (run, run.parent / "gone" / "features.h5.jobs"):
        subject.mkdir(exist_ok=True)
        report = account(str(subject))
        table.text(report)
        write_json(run / "report.json.out", report.as_dict())


def report_run(run: Path) -> None:
    write(run, run / "page.html", model=False)


def summarise(run: Path) -> None:
    print(summary.table([summary._read(run)]))


def resume(run: Path) -> None:
    RunDir(run, resume=True).forget_from(2)


def compared(files: dict[str, bytes | None], folder: Path) -> None:
    """A comparison of two methods, one of them with damaged records."""
    data = folder / "gone.h5"
    data.unlink(missing_ok=True)
    arguments = ["--data", str(data), "--methods", "sequential,sync", "--features", "ela",
                 "--epochs", "2", "--batch-size", "32", "--out", str(folder / "compare"),
                 "--threads", "1", "--report-only"]
    options = compare.command.parse(arguments)
    for training in compare.trainings(options, folder / "compare", 1):
        whole = {name: content(name) for name in TRAINED}
        whole["config.json"] = json.dumps(training.settings).encode()
        changed = files if training.method == "sync" else {}
        lay({**whole, **{name: value for name, value in changed.items()
                         if name != "config.json" or value is None
                         or value != content(name)}}, training.path)
    compare.main(arguments)


def read_begun(text: bytes, folder: Path) -> None:
    (folder / "begun.json").write_bytes(text)
    compare_folder.begun(folder), compare_folder.check_same_data(folder, "0" * 64)
    (folder / "features.h5.json").write_bytes(text)
    stored_roots(folder / "features.h5")


OPTIONS = predicting.parser().parse(["study", "--max-ranks", "8"])
PLAN = scaling_records.plan(("strong", "weak"), nodes=2)


def damaged_study(choose: Choices) -> tuple[bytes | None, dict[str, bytes | None]]:
    """``study.json``, damaged or None, and the files of its runs that are damaged."""
    if choose.integer(0, 1):
        plan = json.loads(json.dumps({"runs": [vars(run) for run in PLAN.runs],
                                      "ranks_per_node": 1, "limit": 1800, "skipped": []}))
        return damaged_json(choose, [plan]), {}
    return None, damaged_run(choose, ["config.json", "environment.json", "metrics.jsonl",
                                      "summary.json"])


def read_study(case: tuple[bytes | None, dict[str, bytes | None]], folder: Path) -> None:
    """The table of a study, its report and prediction, without their charts."""
    text, files = case
    path = folder / "study"
    if not (path / "whole").exists():
        scaling_records.whole(path, PLAN, lambda run: 100.0 * run.ranks**0.9)
        (path / "whole").write_bytes((path / study.NAME).read_bytes())
    (path / study.NAME).write_bytes((path / "whole").read_bytes() if text is None else text)
    plan = study.read(path)
    if text is not None:
        study.table(path, plan)
        study.write(folder / "again", plan)
        return
    own = {file.name: file.read_bytes() for file in (path / PLAN.runs[-1].name).iterdir()
           if file.is_file()}
    try:
        lay({name: value for name, value in files.items()
             if value is None or value != content(name)}, path / PLAN.runs[-1].name)
        runs = rows(path, plan)
        groups = all_series(runs)
        sentences, shown = tables.answer(groups, runs, 0.7), tables.tables(groups, runs, 0.7)
        reporting.page("study", sentences, groups, shown)
        reporting.markdown("study", sentences, shown)
        for group in (group for group in groups if len(group.sizes) > 1):
            predicting.predict(group, None, OPTIONS, runs)
    finally:
        lay({**own}, path / PLAN.runs[-1].name)


SWEEP = plans.make("/data/gone.h5", "0" * 64, 2, 1, ["--epochs", "2"],
                   [{"learning_rate": 0.1, "optimizer": "adam"},
                    {"learning_rate": 0.2, "optimizer": "sgd"}], 1, 0)


def damaged_sweep(choose: Choices) -> tuple[bytes | None, dict[str, bytes | None]]:
    """``sweep.json``, damaged or None, and the files of its second trial that are damaged."""
    if choose.integer(0, 1):
        return damaged_json(choose, [asdict(SWEEP)]), {}
    return None, damaged_run(choose)


def read_sweep(case: tuple[bytes | None, dict[str, bytes | None]], folder: Path) -> None:
    """The table of a sweep, and its report."""
    text, changed = case
    path = folder / "sweep"
    path.mkdir(exist_ok=True)
    plans.write(path, SWEEP)
    for trial in SWEEP.trials:
        whole = {name: content(name) for name in TRAINED}
        whole["config.json"] = json.dumps(trial.settings).encode()
        lay({**whole, **{name: value for name, value in changed.items() if trial.number == 2
                         and (name != "config.json" or value is None or value != content(name))}},
            plans.path(path, trial))
    if text is not None:
        (path / plans.NAME).write_bytes(text)
    sweep.main(["plan", str(path)])
    sweep.main(["report", str(path)])


def read_microbench(text: bytes, folder: Path) -> None:
    (folder / "mb.json").write_bytes(text)
    net = models.network(predicting._read(folder / "mb.json"), "mb.json")
    assert net.allreduce.alpha >= 0 and net.allreduce.beta > 0 and not np.isnan(net.read or 0)


def read_ensemble(case: tuple[bytes, bytes], folder: Path) -> None:
    """An ensemble's list of members and its page; a run's record of its initial weights."""
    run = folder / "ensemble"
    lay({name: content(name) for name in ("summary.json", "config.json", "predictions.csv")}, run)
    listed, begun = case
    (run / ensemble.NAME).write_bytes(listed)
    (run / start.RECORD).write_bytes(begun)
    start.summary(run)
    try:
        assert all(path.parent == run for path in ensemble.members(run) or ())
    finally:
        write(run, run / "report.html", model=False)


def damaged_ensemble(choose: Choices) -> tuple[bytes, bytes]:
    return damaged_json(choose, [ENSEMBLE]), damaged_json(choose, [INITIAL])


ENSEMBLE: dict[str, Any] = {
    "members": ["seed-0", "seed-1"], "seeds": [0, 1], "figures": {"validation": {
        "members": [{"accuracy": 0.5, "auc": None, "loss": 0.7}] * 2,
        "ensemble": {"accuracy": 0.5, "auc": 0.5, "loss": 0.7}}}}
INITIAL = {"source": "runs/first", "path": "/x", "taken": 3, "layers": 5, "seen": 1}


TARGETS = [
    Target("a run's records", damaged_run, as_run(read_run), share=0.5),
    Target("a model's card", partial(damaged_run, names=["model.json", "config.json"]),
           as_run(read_card)),
    Target("a run in its report", damaged_run, as_run(report_run), seconds=20, share=0.1),
    Target("a run in the summary", partial(damaged_run, names=[
        "summary.json", "config.json", "features.h5.json"]),
           as_run(summarise), share=0.5),
    Target("a run in job report", partial(damaged_run, names=sorted(RUN)), as_run(report_job),
           share=0.5),
    Target("a run in a comparison", damaged_run, compared, seconds=20, share=0.03),
    Target("a run being resumed", partial(damaged_run, names=["metrics.jsonl"]), as_run(resume),
           share=0.5),
    Target("a scaling study", damaged_study, read_study, seconds=20, share=0.05),
    # SystemExit: options of a damaged plan that train refuses
    Target("a sweep", damaged_sweep, read_sweep, (InputError, SystemExit), seconds=20, share=0.03),
    Target("records of data and comparison", partial(damaged_json, seeds=[
        BEGUN, RUN["features.h5.json"]]),
           read_begun),
    Target("an ensemble", damaged_ensemble, read_ensemble, seconds=20, share=0.3),
    Target("micro-benchmarks", partial(damaged_json, seeds=[MICROBENCH]), read_microbench,
           share=2),
]
