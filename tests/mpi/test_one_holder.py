"""A second job in the same place: refused, and neither it nor the first one loses anything."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable

import psutil
import pytest
from conftest import ROOT, read_lines, run_program, start_program
from speed import limit

pytestmark = [pytest.mark.mpi, pytest.mark.slow]
TOY = {"PYTHONPATH": str(ROOT / "tests" / "toy"), "TOY_STEP_SECONDS": "0.05"}


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + limit(60)
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_two_trainings_in_one_run_directory(data_file, tmp_path, kill):
    run = tmp_path / "run"
    metrics, record = run / "metrics.jsonl", run / "in-use.json"
    job = ("hpc_deepfake.train", "--data", data_file, "--run", run, "--no-report", "--patience",
           "0", "--resume", "--epochs")
    first = start_program(*job, "100000", ranks=2, cwd=tmp_path, env=TOY)
    wait_for(metrics.exists)
    pid = json.loads(record.read_text())["pid"]
    second = run_program(*job, "1", ranks=2, cwd=tmp_path, env=TOY)
    assert second.returncode == 2 and not second.stdout
    assert second.stderr.count(f"error: {run} is in use by a training (pid {pid} on ") == 1
    assert first.poll() is None and json.loads(record.read_text())["pid"] == pid

    # killed; what a save would have left of it is removed
    kill(first)
    assert json.loads(record.read_text())["pid"] == pid
    (run / "checkpoints").mkdir(exist_ok=True)
    left = [run / "checkpoints" / ".new-01234567-step-000000001.npz",
            run / ".new-01234567-model.keras"]
    for path in left:
        path.write_bytes(b"half")
    third = start_program(*job, "100000", ranks=2, cwd=tmp_path, env=TOY)
    lines = len(read_lines(metrics))
    wait_for(lambda: len(metrics.read_text().splitlines()) > lines)
    assert not any(path.exists() for path in left)

    # it loses the directory, as if it had been suspended for long
    record.unlink()
    out, err = third.communicate(timeout=limit(60))
    assert third.returncode == 2, out + err
    assert f"is taken over from a training (pid {pid} on " in err
    assert f"no longer holds {run}: {record} was deleted. It ends here" in err
    epochs = [line["epoch"] for line in read_lines(metrics)]
    assert epochs == list(range(1, len(epochs) + 1))


def test_two_preprocessings_into_one_file(pictures, tmp_path):
    out, record = tmp_path / "x.h5", tmp_path / "x.h5.in-use.json"
    job = ("preprocessing", "--data", pictures, "--out", out)

    def started() -> subprocess.Popen[str]:
        """A preprocessing that holds the file and is suspended."""
        process = start_program(*job, cwd=tmp_path)
        wait_for(lambda: record.exists()
                 and json.loads(record.read_text())["pid"] == process.pid)
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        return process

    killed = started()
    killed.kill()
    killed.communicate()
    first = started()
    second = run_program(*job, ranks=2, cwd=tmp_path)
    assert second.returncode == 2
    assert second.stderr.count(f"error: {out} is in use by preprocessing (pid {first.pid} on ") == 1
    first.send_signal(signal.SIGCONT)
    _, err = first.communicate(timeout=limit(60))
    assert first.returncode == 0, err
    assert f"is taken over from preprocessing (pid {killed.pid} on " in err
    assert {path.name for path in tmp_path.iterdir()} == {
        "x.h5", "x.h5.json", "x.h5.rejects.csv", "x.h5.masks.csv"}
