"""Two workers, one of them three times slower: async and local SGD against synchronous training.

    python benchmarks/slow_rank.py [--json FILE]

All trainings have the same pictures and epochs, 32 rows per step, float32 and one thread per rank.
The rates are those of whole epochs after the first, which builds the graph. "Without a slow rank"
are the same trainings at full speed. The parameter server of async is a third process on the same
cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from common import arguments, finish, ratio, table

ROOT = Path(__file__).resolve().parent.parent
PICTURES, EPOCHS = 1600, 2
SLOW = ("--slow-factor", "3")
# strategy, ranks, options
VARIANTS = {
    "sync": ("sync", 2, (*SLOW, "--slow-rank", "1")),
    "async": ("async", 3, (*SLOW, "--slow-rank", "2")),
    "async, staleness at most 3": ("async", 3, (*SLOW, "--slow-rank", "2",
                                                "--max-staleness", "3")),
    "local-sgd, average after 8": ("local-sgd", 2, (*SLOW, "--slow-rank", "1")),
    "sync without a slow rank": ("sync", 2, ()),
    "async without a slow rank": ("async", 3, ()),
}


def run(strategy: str, ranks: int, options: tuple[str, ...], data: Path,
        folder: Path) -> list[dict]:
    """Train, and return the records of the epochs after the first."""
    subprocess.run(
        ["mpirun", "-np", str(ranks), sys.executable, "-m", "hpc_deepfake.train", "--data", data,
         "--run", folder, "--strategy", strategy, "--epochs", str(EPOCHS), "--patience", "0",
         "--threads", "1", "--device", "cpu", "--no-report", *options],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    return [json.loads(line) for line in (folder / "metrics.jsonl").open()][1:]


def main() -> None:
    options = arguments(__doc__, rounds=3)
    rates: dict[str, list[float]] = {name: [] for name in VARIANTS}
    ages: dict[str, dict[int, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        pictures, data = Path(folder) / "pictures", Path(folder) / "features.h5"
        for command in (["preprocessing.make_sample", "--out", pictures, "--count", PICTURES],
                        ["preprocessing", "--data", pictures, "--out", data]):
            subprocess.run([sys.executable, "-m", *map(str, command)], check=True, cwd=ROOT,
                           stdout=subprocess.DEVNULL)
        for number in range(options.rounds):
            for name, variant in VARIANTS.items():
                lines = run(*variant, data, Path(folder) / f"{number}-{name}")
                rates[name].append(sum(line["images_per_s"] for line in lines) / len(lines))
                for line in lines:
                    for age, count in line.get("staleness", {}).items():
                        counts = ages.setdefault(name, {})
                        counts[int(age)] = counts.get(int(age), 0) + count
    table(rates, "images/s")
    for name, counts in ages.items():
        print(f"{name}: updates by staleness "
              + ", ".join(f"{age}: {counts[age]}" for age in sorted(counts)))
    finish(options, rates, {f"{name} over sync": ratio(rates, name, "sync")
                            for name in list(VARIANTS)[1:4]},
           {"async over sync": "at least 1.5"})


if __name__ == "__main__":
    main()
