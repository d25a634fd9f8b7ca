"""Training options that change what is learned: how good the model of the best epoch is.

    python benchmarks/recipes.py a.h5 b.h5 --seeds 0 1 --epochs 40 --out courses.jsonl \\
        --options "" --options "--augment flip" --options "--augment flip --label-smoothing 0.1"

Each data file needs a test part. A course ends by the largest patience, and the test part is
evaluated after each epoch that is the best so far: the table shows what early stopping with smaller
patiences would have chosen, without training again. The differences are paired, by data file and
seed, with the first options at the first patience; ± is their standard error. Courses that are in
the file are not repeated.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from pathlib import Path

import numpy as np
from mpi4py import MPI

from hpc_deepfake import metrics, strategies
from hpc_deepfake.data.rows import open_data
from hpc_deepfake.network import device
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies.base import Done
from hpc_deepfake.strategies.layout import Layout
from hpc_deepfake.train.options import parser

FIGURES = ("accuracy", "auc", "loss")
Course = list[tuple[float, dict[str, float] | None]]  # validation loss, test figures of the best


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("data", type=Path, nargs="+", help="data files with a test part")
    cli.add_argument("--out", type=Path, required=True, help="file of the courses, continued")
    cli.add_argument("--options", action="append", default=[], help="of train, to be compared")
    cli.add_argument("--seeds", type=int, nargs="+", default=[0])
    cli.add_argument("--epochs", type=int, default=40)
    cli.add_argument("--patience", type=int, nargs="+", default=[5, 10, 15])
    options = cli.parse_args()
    done = read(options.out)
    for seed, data, text in itertools.product(options.seeds, options.data, options.options):
        key = (text, data.name, seed)
        if key not in done:
            done[key] = train(data, seed, text, options.epochs, max(options.patience))
            with options.out.open("a") as out:
                out.write(json.dumps([*key, done[key]]) + "\n")
    show(done, options)


def read(path: Path) -> dict[tuple[str, str, int], Course]:
    """The courses of a file by options, data and seed."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {(text, data, seed): course for text, data, seed, course in map(json.loads, lines)}


def train(path: Path, seed: int, text: str, epochs: int, patience: int) -> Course:
    """Train on one core."""
    options = parser().parse([*text.split(), "--data", str(path), "--seed", str(seed)])
    device.start("cpu", threads=1)
    import keras

    from hpc_deepfake.network import registry
    from hpc_deepfake.train.loop import Limits, Trainer

    comm, settings = MPI.COMM_SELF, Settings.of(options)
    data = open_data(path, options.feature)
    keras.utils.set_random_seed(seed)
    model = registry.build(settings.network, data.size, "float32")
    strategy = strategies.get("sequential")(model, settings, comm, Layout())
    course: Course = []

    class Observed(Trainer):
        def _end_of_epoch(self) -> bool:
            more = super()._end_of_epoch()
            loss = figures(self.seen, data.labels[self.validation])["loss"]
            best = self.state.best_epoch == self.state.epoch - 1
            rows = data.rows("test")
            course.append((loss, figures(self._probabilities(rows)[0], data.labels[rows])
                           if best else None))
            return more

        def _probabilities(self, rows: np.ndarray) -> tuple[np.ndarray, Done]:
            self.seen, done = super()._probabilities(rows)
            return self.seen, done

    trainer = Observed(comm, strategy, data, settings, Limits(epochs, patience, 1e9, 1), None,
                       False)  # type: ignore[arg-type] # a signal ends this program
    trainer.restore(None)
    trainer.train()
    return course


def figures(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    values = metrics.evaluate(probabilities, labels)
    return {name: values[name] for name in FIGURES}


def chosen(course: Course, patience: int) -> tuple[int, dict[str, float]]:
    """Epochs until early stopping by the validation loss, and the best epoch's test figures."""
    best = 0
    for number, (_, test) in enumerate(course):
        if test is not None:
            best = number
        elif number - best >= patience:
            break
    return number + 1, course[best][1]


def show(done: dict[tuple[str, str, int], Course], options: argparse.Namespace) -> None:
    cases = list(itertools.product([data.name for data in options.data], options.seeds))
    first = [chosen(done[options.options[0], *case], options.patience[0])[1] for case in cases]
    print("| options | patience | epochs | accuracy, % | AUC | loss |\n|---|---|---|---|---|---|")
    for text, patience in itertools.product(options.options, options.patience):
        results = [chosen(done[text, *case], patience) for case in cases]
        row = [f"`{text}`" if text else "(defaults)", str(patience),
               f"{statistics.mean(epochs for epochs, _ in results):.0f}"]
        for name, scale in (("accuracy", 100), ("auc", 1), ("loss", 1)):
            values = [scale * test[name] for _, test in results]
            gains = [value - scale * base[name] for value, base in zip(values, first, strict=True)]
            error = statistics.stdev(gains) / len(gains)**0.5 if len(gains) > 1 else 0.0
            digits = 1 if scale == 100 else 3
            row.append(f"{statistics.mean(values):.{digits}f} "
                       f"({statistics.mean(gains):+.{digits}f} ± {error:.{digits}f})")
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
