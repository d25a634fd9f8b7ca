"""What people need who only use a model runs without MPI and Horovod, and the notebook runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from speed import limit

from hpc_deepfake.cli import COMMANDS

# no module of these packages can be imported, as after pip install
MISSING = """
import sys

class Missing:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ("mpi4py", "horovod"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing)
"""
COMMAND = MISSING + "from hpc_deepfake.cli import main; main()"
# Makes a model, calls commands, then runs the notebook; prints the end and output of each, what is
# loaded after the first one, and the notebook's outputs.
PROGRAM = MISSING + """
import contextlib, io, json, runpy
from pathlib import Path
from hpc_deepfake.core.surroundings import settle
settle()
from hpc_deepfake import cli
from hpc_deepfake.network import device, model
from preprocessing.ela import Parameters

def called(arguments):
    sys.argv, out, err = ["hpc-deepfake", *arguments], io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as leave:
            return leave.code, out.getvalue(), err.getvalue()

run, notebook, values, *commands = json.loads(sys.argv[1])
device.start("cpu")
import keras
keras.utils.set_random_seed(0)
Path(run).mkdir()
model.save(keras.Sequential([
    keras.Input((128, 128, 3)), keras.layers.Rescaling(1 / 255),
    keras.layers.AveragePooling2D(32), keras.layers.Flatten(),
    keras.layers.Dense(2, activation="softmax")]),
    model.Card("ela", Parameters()), Path(run) / "model.keras")
ends, loaded = [], []
for arguments in commands:
    ends.append(called(arguments))
    loaded.append(sorted({name.partition(".")[0] for name in sys.modules}))
cells = runpy.run_path(notebook[0])["run"](Path(notebook[1]), values)
print(json.dumps({"ends": ends, "loaded": loaded[0], "cells": cells}), file=sys.__stdout__)
"""
NOTEBOOK = ROOT / "examples" / "predict.ipynb"
NAMES = ("predict", "evaluate", "evaluate a folder", "inspect", "audit", "verify")


@pytest.fixture(scope="module")
def done(data_file: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory
         ) -> dict[str, Any]:
    """Ends of the commands by name, and the rest of what the program prints."""
    folder = tmp_path_factory.mktemp("user")
    run, cpu = str(folder / "run"), ["--device", "cpu"]
    commands = [["predict", "--model", run, *cpu, "--format", "json", str(pictures / "Tp")],
                ["evaluate", "--model", run, *cpu, "--data", str(data_file), "--part", "test"],
                ["evaluate", "--model", run, *cpu, "--data", str(pictures)],
                ["inspect", "--model", run, str(min((pictures / "Tp").iterdir()))],
                ["audit", str(data_file)], ["verify", str(data_file)]]
    words = [run, [str(ROOT / "docs" / "run_notebook.py"), str(NOTEBOOK)],
             {"RUN": run, "PICTURES": str(pictures)}, *commands]
    process = subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(words)], cwd=folder,
                             capture_output=True, text=True, timeout=limit(120),
                             env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.returncode == 0, process.stderr
    results: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return {**results, **dict(zip(NAMES, results["ends"], strict=True))}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "words"), [
    ("predict", '"probability": 0.'), ("evaluate", "ROC-AUC"), ("evaluate a folder", "ROC-AUC"),
    ("inspect", ".html"), ("audit", "0 FAIL"), ("verify", "0 damaged")])
def test_a_command_runs(done, name, words):
    code, out, err = done[name]
    assert code == 0 and words in out, err


@pytest.mark.slow
def test_predicting_pictures_loads_no_more_than_it_needs(done):
    """Each of these takes a noticeable part of the start."""
    assert "tensorflow" in done["loaded"]
    assert not {"matplotlib", "mpi4py", "horovod", "pandas", "scipy", "IPython"} & set(
        done["loaded"])


@pytest.mark.slow
def test_the_notebook_runs_and_its_stored_outputs_are_of_this_form(done):
    """Cell by cell: the same kinds of output, with numbers of another model."""
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
             if cell["cell_type"] == "code"]
    assert len(done["cells"]) == len(cells)
    for cell, outputs in zip(cells, done["cells"], strict=True):
        stored, now = ([sorted(output.get("data", ["text"])) for output in found]
                       for found in (cell["outputs"], outputs))
        assert now == stored, "".join(cell["source"])
    assert NOTEBOOK.stat().st_size < 300_000


@pytest.mark.parametrize("command", [name for name, (_, ranks, _) in COMMANDS.items()
                                     if ranks is True])
def test_a_command_that_needs_ranks_says_what_is_missing(command, tmp_path):
    words = {"train": ["--data", "x.h5", "--run", "x"], "preprocess": ["--data", "x"],
             "sample": ["--out", "x"]}.get(command, [])
    process = subprocess.run([sys.executable, "-c", COMMAND, command, *words], cwd=tmp_path,
                             capture_output=True, text=True, timeout=limit(60),
                             env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.returncode == 2 and not process.stdout
    assert process.stderr.startswith("error: this command runs on the ranks of MPI, and the package"
                                     " mpi4py isn't installed in ")
    assert "env/setup.sh" in process.stderr and process.stderr.count("\n") == 1


def test_mpi4py_without_an_mpi_library_is_one_message(tmp_path):
    """As its wheel, which looks for one when ``mpi4py.MPI`` is imported, says it."""
    command = COMMAND.replace('name.partition(".")[0] in ("mpi4py", "horovod")',
                              'name == "mpi4py.MPI"').replace(
        'ModuleNotFoundError(f"No module named {name!r}", name=name)',
        'RuntimeError("cannot load MPI library\\nlibmpi.so.40: cannot open shared object file")')
    process = subprocess.run([sys.executable, "-c", command, "sample", "--out", "x"], cwd=tmp_path,
                             capture_output=True, text=True, timeout=limit(60),
                             env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (process.returncode, process.stderr) == (2, (
        "error: mpi4py finds no MPI to start (cannot load MPI library): install one, such as with "
        "apt-get install openmpi-bin, or load its module\n"))
