"""Program for tests: evaluate on all ranks beside evaluate by rank 0 alone.

    mpirun -np N python tests/mpi/evaluated.py REQUESTS.json

REQUESTS.json holds a list of command lines. The answer, on the last line of the output, has for
each of them what one process and what the ranks printed, wrote (--json) and returned, and the
messages of each rank's InputError.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

from mpi4py.MPI import Comm

from hpc_deepfake import evaluate
from hpc_deepfake.core import log, mpi
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.evaluate import material
from hpc_deepfake.network import maps, model
from preprocessing.ela import SIZE, Parameters

# what a slow machine prints in between: notes of the watchdog, and progress
STALLS = re.compile(r"^(rank \d+ on \S+ (continues|is waited for|has been starting)"
                    r"|\d+ of \d+ images(, \S+)? \(\d+%\)).*\n", re.MULTILINE)


def answer(arguments: list[str], comm: Comm | None) -> dict[str, Any]:
    """Exit code, output, file and error of an evaluation."""
    out, file = io.StringIO(), Path("figures.json")
    code, error = None, None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        log.start(0 if comm is None else comm.rank)
        try:
            code = evaluate.main([*arguments, "--json", str(file), "--device", "cpu"], comm)
        except InputError as problem:
            error = str(problem)
            assert comm is None or problem.everywhere
    mpi.wait(mpi_comm.Ibarrier())
    written = file.read_text() if file.exists() else ""
    mpi.wait(mpi_comm.Ibarrier())
    if mpi_comm.rank == 0:
        file.unlink(missing_ok=True)
    output = STALLS.sub("", out.getvalue())
    return {"code": code, "output": output, "error": error, "file": written}


def main(comm: Comm) -> int:
    global mpi_comm
    mpi_comm = comm
    os.environ["OMP_NUM_THREADS"] = "1"  # as TensorFlow was started in this world
    logger, load = logging.getLogger("hpc_deepfake"), model.load
    before = logger.handlers[:], logger.propagate, logger.level
    material.BATCH, batch = 8, material.BATCH  # several blocks for each rank
    if comm.rank == 0:
        save_located(Path("located"))
    mpi.wait(comm.Ibarrier())
    answers = []
    for request in json.loads(Path(sys.argv[1]).read_text()):
        if request[0] == "broken":  # a model that only rank 1 can't load
            request = request[1:]
            if comm.rank == 1:
                model.load = _fail
        alone = answer(request, None) if comm.rank == 0 else answer(["--model", "none"], None)
        together = comm.gather(answer(request, comm))
        answers.append((alone, together))
        model.load = load
    material.BATCH = batch
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])
    if comm.rank == 0:
        print(json.dumps(answers))
    return 0


def save_located(folder: Path) -> None:
    """A model that says where pictures were changed: by the first channel of its feature."""
    import keras

    picture = keras.Input((SIZE, SIZE, 3), name="picture")
    first = keras.layers.Rescaling(1 / 255)(picture)[..., :1]
    folder.mkdir()
    model.save(maps.with_verdict(picture, first, "first", found=first),
               model.Card("ela", Parameters(), mask_threshold=40), folder / "model.keras")


def _fail(_: Path) -> None:
    raise InputError("this rank can't load it")


mpi.run(main)
