"""A run directory on a disk without room, or that fills: one message, nothing half written."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest
from conftest import ROOT
from speed import limit

from hpc_deepfake.train import checkpoint
from preprocessing.store import open_header

pytestmark = [pytest.mark.mpi, pytest.mark.slow]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", place], capture_output=True,
        check=False).returncode == 0
    if not mounted:
        pytest.skip("needs root and the right to mount")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def start(data: Path, run: Path, *more: object) -> subprocess.Popen[str]:
    """The toy on 2 ranks."""
    return subprocess.Popen(
        ["mpirun", "-np", "2", sys.executable, "-m", "hpc_deepfake.train", "--data", data, "--run",
         run, "--batch-size", "3", "--patience", "0", "--no-report", "--device", "cpu",
         *map(str, more)], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests" / "toy"), "TOY_STEP_SECONDS": "0.05"})


def end(process: subprocess.Popen[str]) -> str:
    """Standard error of a run that must end with one message and code 2."""
    try:
        _, err = process.communicate(timeout=limit(60))
    finally:
        process.kill()
    assert process.returncode == 2, err
    assert err.count("error:") == 1 and "Traceback" not in err
    return err


def fill(disk: Path, left: int) -> Path:
    """Fill the disk except for ``left`` bytes, also while a run writes to it."""
    path = disk / "filler"
    with open(path, "wb") as file:
        while True:
            system = os.statvfs(disk)
            free = system.f_bavail * system.f_frsize - left
            if free <= 0:
                return path
            with contextlib.suppress(OSError):  # the run was faster
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, free)


def test_a_full_disk_ends_the_run_with_the_last_checkpoint(data_file: Path, disk: Path) -> None:
    """Before the first step, with the bytes that are needed and free; and when it fills later, with
    the file. No partial file stays, and the run is resumed when there is room again."""
    filler = fill(disk, 4 << 20)
    err = end(start(data_file, disk / "run", "--epochs", 1))
    assert f"error: not enough room in {disk / 'run'}: 8 MB needed, 4 MB free" in err
    assert not (disk / "run" / "metrics.jsonl").exists()
    filler.unlink()

    run = disk / "run"
    process = start(data_file, run, "--epochs", 500, "--checkpoint-minutes", 0)
    deadline = time.monotonic() + limit(60)
    while not checkpoint.found(run / "checkpoints") and time.monotonic() < deadline:
        time.sleep(0.02)
    filler = fill(disk, 0)
    err = end(process)
    assert f"error: cannot write {run}/" in err and "No space left on device; make room" in err
    assert not [path for path in run.rglob("*") if path.name.startswith(".new-")]
    loaded = checkpoint.load_newest(run / "checkpoints")
    assert loaded is not None and not loaded[2]
    epoch = loaded[1]["state"]["epoch"]
    filler.unlink()
    process = start(data_file, run, "--epochs", epoch, "--resume")
    out, err = process.communicate(timeout=limit(60))
    assert process.returncode == 0 and f"in epoch {epoch} after step" in out, err


ROWS = """
import os, sys
import numpy as np
from mpi4py import MPI
from pathlib import Path
from hpc_deepfake.core.errors import OutputError
from preprocessing import store

header = store.open_header(Path(sys.argv[1]))
for name in ("hdf5", "mpi-io") if store.h5py.get_config().mpi else ("mpi-io",):
    output = store.open_writer(header, MPI.COMM_WORLD, name)
    try:
        output.write("ela", 0, np.ones((4, *header.shapes["ela"][1:]), np.uint8))
        output.sync()
    except OutputError as error:
        print(error)
"""


def test_rows_that_a_full_disk_does_not_take_are_an_error(data_file: Path, disk: Path) -> None:
    """MPI-IO itself says nothing, and HDF5 doesn't say why."""
    path = disk / "rows.h5"
    subprocess.run(["cp", "--sparse=always", data_file, path], check=True)
    header = open_header(path)
    # as preprocessing creates it: its rows take no room yet
    subprocess.run(["fallocate", "--punch-hole", "--offset", str(header.offsets["ela"]), "--length",
                    str(header.bytes_of("ela")), path], check=True)
    fill(disk, 4096)
    done = subprocess.run([sys.executable, "-c", ROWS, path], cwd=ROOT, text=True, check=True,
                          capture_output=True, timeout=limit(60))
    lines = done.stdout.splitlines()
    assert lines == len(lines) * [f"cannot write {path}: No space left on device; make room "
                                  "there, or choose another place"]
    assert len(lines) == 1 + h5py.get_config().mpi
