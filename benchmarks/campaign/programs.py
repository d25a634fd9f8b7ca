"""The programs that are disturbed: how each is started, its moments, and what it must preserve.

A moment is an event and a fraction of the time that an undisturbed run needs from this event to the
next one. Events are seen from outside, by files and printed lines.
"""

from __future__ import annotations

import os
import re
import sys
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from hpc_deepfake.train import checkpoint
from preprocessing.integrity import damaged_rows
from preprocessing.store import DONE, open_header

from .digests import Broken, parsed, read, read_json, sha, weights
from .jobs import Job

ROOT = Path(__file__).resolve().parent.parent.parent
STALL_LIMIT = 20  # seconds, where a rank is stopped for ever


@dataclass(frozen=True)
class Place:
    """Where one program runs.

    Attributes:
        folder: holds nothing but what the program writes: a data file, or a run directory.
        pictures: link to the pictures.
        data: link to the data file that is trained on.
    """

    folder: Path
    pictures: Path
    data: Path

    @property
    def out(self) -> Path:
        return self.folder / "features.h5"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def temporaries(self) -> list[Path]:
        """Files that a program which ended in order has renamed or removed."""
        return [path for pattern in (".new*", "*in-use.json") for path in
                sorted(self.folder.rglob(pattern))]


@dataclass(frozen=True)
class Program:
    """A program with its options on a number of ranks."""

    name: str
    ranks: int
    options: tuple[str, ...] = ()

    group: ClassVar[str] = ""
    events: ClassVar[tuple[str, ...]] = ()

    def __str__(self) -> str:
        return f"{self.name} on {self.ranks}"

    def command(self, place: Place, *more: str) -> list[str]:
        """The command line; always the same, whether it starts or resumes."""
        launcher = ["mpirun", "-np", str(self.ranks)] if self.ranks > 1 else []
        return [*launcher, sys.executable, *self._arguments(place), *self.options, *more]

    def environment(self) -> dict[str, str]:
        """More environment variables."""
        return {}

    def happened(self, event: str, place: Place, job: Job) -> bool:
        """Whether an event of ``events`` has happened in this job."""
        if event == "start":
            return all(job.rank(rank) for rank in range(self.ranks))
        return any(map(_fresh(job), self._files(event, place))) or self._printed(event, job)

    def _arguments(self, place: Place) -> list[str]:
        raise NotImplementedError

    def _files(self, event: str, place: Place) -> Iterable[Path]:
        raise NotImplementedError

    def _printed(self, event: str, job: Job) -> bool:
        raise NotImplementedError

    def progress(self, place: Place) -> int:
        """How much is finished: rows, or steps of the newest checkpoint.

        Raises:
            Broken: something finished is damaged.
        """
        raise NotImplementedError

    def claimed(self, output: str, place: Place) -> int | None:
        """The progress that a stopped program says it has kept; None if it says nothing."""
        raise NotImplementedError

    def result(self, place: Place) -> dict[str, str]:
        """Digests of everything that must not depend on what happened, of a finished program.

        Raises:
            Broken: a file is missing or can't be read.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Preprocessing(Program):
    """Pictures to one data file. With ``often`` rows are synced and marked every MiB, not every
    32 MiB, so that few pictures have many marks."""

    often: bool = False

    group = "preprocessing"
    events = ("start", "creating", "writing", "ending")

    def _arguments(self, place: Place) -> list[str]:
        program = [str(Path(__file__).with_name("often.py"))] if self.often \
            else ["-m", "preprocessing"]
        return [*program, "--data", str(place.pictures), "--out", str(place.out)]

    def _files(self, event: str, place: Place) -> list[Path]:
        if event == "creating":
            return [*place.out.parent.glob(f".new-*-{place.out.name}"), place.out]
        return [Path(f"{place.out}.rejects.csv")] if event == "ending" else []

    def _printed(self, event: str, job: Job) -> bool:
        return event in ("creating", "writing") and "groups of common source" in job.output()

    def progress(self, place: Place) -> int:
        if not place.out.exists():
            return 0
        header = open_header(place.out)
        rows = np.flatnonzero(header.array("status") == DONE)
        damaged = damaged_rows(header, rows)
        if len(damaged):
            raise Broken(f"{len(damaged)} rows marked done have a wrong checksum")
        return len(rows)

    def claimed(self, output: str, place: Place) -> int | None:
        left = re.search(r"([\d,]+) images? left", output)
        return left and open_header(place.out).rows - int(left[1].replace(",", ""))

    def result(self, place: Place) -> dict[str, str]:
        found = {place.out.name: sha(read(place.out)),
                 "rejects.csv": sha(read(Path(f"{place.out}.rejects.csv")))}
        read_json(Path(f"{place.out}.json"))
        return found


@dataclass(frozen=True)
class Training(Program):
    """Training with a strategy; ``exact``: a resumed run ends with the same bits. Else only the
    number of updates is the same."""

    exact: bool = True

    group = "training"
    events = ("start", "records", "epoch", "model", "saving", "epoch 2", "ending")

    def _arguments(self, place: Place) -> list[str]:
        return ["-m", "hpc_deepfake.train", "--data", str(place.data), "--run", str(place.run),
                "--resume", "--epochs", "3", "--patience", "0", "--checkpoint-minutes", "0.02",
                "--threads", "1"]

    def _files(self, event: str, place: Place) -> Iterable[Path]:
        run = place.run
        if event == "saving":
            return [*(run / "checkpoints").glob(".new*"), *checkpoint.found(run / "checkpoints")]
        return {"records": [run / "environment.json"],
                "model": [*run.glob(".new-*-model.keras"), run / "model.keras"],
                "ending": [run / "summary.json"]}.get(event, [])

    def _printed(self, event: str, job: Job) -> bool:
        epochs = len(re.findall(r"^epoch \d+/", job.output(), re.MULTILINE))
        return epochs >= {"epoch": 1, "epoch 2": 2}.get(event, 1_000)

    def progress(self, place: Place) -> int:
        steps = [0]
        for path in checkpoint.found(place.run / "checkpoints"):
            try:
                steps.append(checkpoint.load(path)[1]["state"]["step"])
            except ValueError as error:
                raise Broken(str(error)) from None
        return max(steps)

    def claimed(self, output: str, place: Place) -> int | None:
        stopped = re.search(r"^stopped by .* after step (\d+)", output, re.MULTILINE)
        return stopped and int(stopped[1])

    def result(self, place: Place) -> dict[str, str]:
        run = place.run
        lines = [parsed(line, run / "metrics.jsonl")
                 for line in read(run / "metrics.jsonl").decode().splitlines()]
        summary = read_json(run / "summary.json")
        for name in ("config.json", "environment.json", "model.json"):
            read_json(run / name)
        predictions, model = read(run / "predictions.csv"), weights(run / "model.keras")
        if b"</html>" not in read(run / "report.html"):
            raise Broken("report.html has no end")
        counts = {"epochs": summary["epochs"], "steps": summary["steps"],
                  "lines": [line["epoch"] for line in lines]}
        if not self.exact:
            return {"counts": sha(counts)}
        figures = [{name: value for name, value in line.items() if name.startswith("val_")
                    or name in ("epoch", "step", "loss", "accuracy", "best")} for line in lines]
        scores = {name: summary.get(name) for name in ("best_epoch", "validation", "test")}
        newest = checkpoint.found(run / "checkpoints")[0]
        with zipfile.ZipFile(newest) as archive:
            arrays = [(entry.filename, entry.CRC) for entry in archive.infolist()
                      if entry.filename.startswith("array")]
        return {"counts": sha(counts), "metrics": sha(figures), "scores": sha(scores),
                "predictions": sha(predictions), "weights": model,
                "checkpoint": sha([newest.name, arrays])}


@dataclass(frozen=True)
class Toy(Training):
    """The strategy of a few numbers of tests/toy: it starts in a second."""

    group = "toy"

    def environment(self) -> dict[str, str]:
        paths = [str(ROOT / "tests" / "toy"), os.environ.get("PYTHONPATH", "")]
        return {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "TOY_STEP_SECONDS": "0.03"}


def _fresh(job: Job) -> Callable[[Path], bool]:
    def fresh(path: Path) -> bool:
        try:
            return path.stat().st_mtime > job.began
        except OSError:
            return False

    return fresh


def _strategy(name: str, ranks: int, *options: str, strategy: str = "",
              exact: bool = True) -> Training:
    return Training(name, ranks, ("--strategy", strategy or name, "--batch-size",
                                  "8" if ranks < 4 else "4", *options), exact)


PROGRAMS: tuple[Program, ...] = (
    Preprocessing("preprocessing", 2, often=True),
    Preprocessing("preprocessing", 3, ("--writer", "mpi-io")),
    Preprocessing("preprocessing", 4, ("--writer", "mpi-io"), often=True),
    Preprocessing("preprocessing", 2),
    Preprocessing("preprocessing", 4),
    Preprocessing("preprocessing", 3, often=True),
    _strategy("sequential", 1),
    _strategy("sync", 2), _strategy("sync", 3),
    _strategy("hybrid", 2), _strategy("hybrid", 4, "--shard-group", "2"),
    _strategy("tensor", 2, "--mesh", "tensor=2", strategy="mesh"),
    _strategy("pipeline", 2, "--mesh", "pipeline=2", "--micro-batches", "2", strategy="mesh"),
    _strategy("mesh", 4, "--mesh", "tensor=2,pipeline=2", "--micro-batches", "2"),
    _strategy("local-sgd", 2, "--sync-every", "2"), _strategy("local-sgd", 3),
    _strategy("async", 2, exact=False), _strategy("async", 3, exact=False),
    _strategy("async", 4, "--servers", "2", exact=False),
    Toy("toy", 2, ("--batch-size", "2")), Toy("toy", 4, ("--batch-size", "1")),
)
