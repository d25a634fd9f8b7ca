"""A folder of photographs: ``predict`` and ``evaluate`` against the usual script.

    python benchmarks/folder.py --model RUN --folder FOLDER [--pictures N] [--rounds N]

"The usual script" opens each picture with Pillow, computes error levels as notebooks on CASIA do
(saved at quality 90, difference, brightened, resized), stacks them and calls ``model.predict`` with
32 at a time; "our error levels" is the same with this project's decoding and error levels instead.
Each is a process that has started TensorFlow; measured is what comes after: loading the model,
tracing, all pictures, and the lines on standard output. On one core, on all, and on two ranks; then
whole commands, start included.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from common import arguments, finish, interleave, ratio, table

USUAL, OWN = "the usual script", "our error levels, model.predict"
KINDS = ("usual", "own", "predict", "evaluate")
TEXT = {"usual": USUAL, "own": OWN, "predict": "predict", "evaluate": "evaluate"}
SIZE = 128


def usual(path: str) -> object:
    """Error levels as in the notebooks."""
    import numpy as np
    from PIL import Image, ImageChops, ImageEnhance

    image = Image.open(path).convert("RGB")
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        image.save(file.name, "JPEG", quality=90)
        difference = ImageChops.difference(image, Image.open(file.name))
    largest = max(high for _, high in difference.getextrema()) or 1
    bright = ImageEnhance.Brightness(difference).enhance(255 / largest)
    return np.array(bright.resize((SIZE, SIZE)))


def own(path: str) -> object:
    from preprocessing.ela import Parameters, features_of_file

    return features_of_file(path, ("ela",), Parameters(size=SIZE))[0]


def script(feature: Callable[[str], object], model: str, folder: str) -> None:
    """Load, prepare, predict, print."""
    import keras
    import numpy as np

    network = keras.saving.load_model(model, compile=False)
    paths = sorted(os.path.join(parent, name) for parent, _, names in os.walk(folder)
                   for name in names)
    rows = np.stack([feature(path) for path in paths])
    for path, (_, tampered) in zip(paths, network.predict(rows, batch_size=32, verbose=0),
                                   strict=True):
        print(f"{tampered:8.1%} {path}")


def work(kind: str, model: str, folder: str) -> None:
    """What is measured."""
    if kind in ("usual", "own"):
        script(usual if kind == "usual" else own, model, folder)
        return
    comm = None
    if "OMPI_COMM_WORLD_SIZE" in os.environ:
        from mpi4py import MPI

        comm = MPI.COMM_WORLD
    from hpc_deepfake import evaluate, predict

    with contextlib.redirect_stderr(io.StringIO()):
        if kind == "predict":
            predict.main(["--model", model, folder], comm)
        else:
            evaluate.main(["--model", model, "--data", folder], comm)


def serve(kind: str, model: str, folder: str, cores: str) -> None:
    """A process that does the work whenever it is told to, and prints the seconds."""
    if cores:
        os.sched_setaffinity(0, set(map(int, cores.split(","))))
    from hpc_deepfake.core.surroundings import settle

    settle()
    from hpc_deepfake.network import device

    comm = None
    if "OMPI_COMM_WORLD_SIZE" in os.environ:
        from mpi4py import MPI

        comm = MPI.COMM_WORLD
    known = device.start("cpu", *((0, 1) if comm is None else device.local_ranks(comm)))
    device.start = lambda *_, **__: known
    real = sys.stdout
    while True:
        line = sys.stdin.readline() if comm is None or comm.rank == 0 else ""
        if not (line if comm is None else comm.bcast(line)):
            return
        began = time.perf_counter()
        with open(os.devnull, "w", encoding="utf-8") as sys.stdout:
            work(kind, model, folder)
        sys.stdout = real
        if comm is None or comm.rank == 0:
            print("seconds", time.perf_counter() - began, flush=True)


class Server:
    def __init__(self, kind: str, model: str, folder: str, cores: str, ranks: int) -> None:
        launch = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np",
                  str(ranks)] if ranks > 1 else []
        self._process = subprocess.Popen(
            [*launch, sys.executable, __file__, "--serve", kind, model, folder, cores],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self) -> None:
        """Wait for one piece of work."""
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        if not self._process.stdout.readline().startswith("seconds"):
            raise SystemExit("a contestant failed")

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


@contextlib.contextmanager
def servers(model: str, folder: str) -> Iterator[dict[str, Server]]:
    """Each contestant by its name."""
    first = str(min(os.sched_getaffinity(0)))
    found = {}
    for place, cores, ranks in (("one core", first, 1), ("all cores", "", 1), ("2 ranks", "", 2)):
        for kind in KINDS if ranks == 1 else KINDS[2:]:
            found[f"{TEXT[kind]}, {place}"] = Server(kind, model, folder, cores, ranks)
    try:
        yield found
    finally:
        for server in found.values():
            server.close()


def main() -> None:
    options = arguments(__doc__, model="", folder="", pictures=200, rounds=3)
    run, given = Path(options.model), Path(options.folder)
    model = os.fspath(run / "model.keras" if run.is_dir() else run)
    with tempfile.TemporaryDirectory() as folder:
        paths = sorted(path for path in given.rglob("*")
                       if path.suffix.lower() in (".jpg", ".jpeg"))[:options.pictures]
        for number, path in enumerate(paths):  # the names of classes, which evaluate needs
            place = Path(folder, ("real", "fake")[number % 2])
            place.mkdir(exist_ok=True)
            (place / f"{number:05}.jpg").write_bytes(path.read_bytes())
        with servers(model, folder) as contestants:
            seconds = interleave({name: server.run for name, server in contestants.items()},
                                 options.rounds)
        commands = {f"{TEXT[kind]}, command": [sys.executable, __file__, "--command", kind, model,
                                               folder] for kind in ("usual", "own")}
        for kind, words in (("predict", [folder]), ("evaluate", ["--data", folder])):
            commands[f"{kind}, command"] = [sys.executable, "-m", "hpc_deepfake.cli", kind,
                                            "--model", model, *words]
        seconds |= interleave({
            name: lambda command=command: subprocess.run(command, check=True, capture_output=True)
            for name, command in commands.items()}, max(1, options.rounds // 3))
    rates = {name: [len(paths) / duration for duration in values]
             for name, values in seconds.items()}
    table(rates, "images/s")
    ratios, targets = {}, {}
    for place in ("one core", "all cores", "command"):
        for kind in KINDS[2:]:
            for other in (USUAL, OWN):
                name = f"{kind} over {other}, {place}"
                ratios[name] = ratio(rates, f"{kind}, {place}", f"{other}, {place}")
                targets[name] = "2" if other == USUAL else "–"
    for kind in KINDS[2:]:
        name = f"{kind} on 2 ranks over {USUAL}, all cores"
        ratios[name] = ratio(rates, f"{kind}, 2 ranks", f"{USUAL}, all cores")
        targets[name] = "2"
    finish(options, rates, ratios, targets)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:])
    elif sys.argv[1:2] == ["--command"]:
        work(*sys.argv[2:])
    else:
        main()
