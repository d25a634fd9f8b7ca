"""What a run that begins, or is resumed, does with ``--init``."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from hpc_deepfake.core import holder
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network import initial
from hpc_deepfake.network.pictures import Pictures
from hpc_deepfake.train import start
from hpc_deepfake.train.rundir import RunDir
from preprocessing.split import TRAIN, VALIDATION


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunDir]:
    monkeypatch.chdir(tmp_path)
    yield RunDir(tmp_path / "run")
    holder.release()


def taken(run: RunDir, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if its weights had been taken."""
    monkeypatch.setattr(initial, "take", lambda model, found: initial.Taken(
        found.source, "d1", ["conv"], missing=["answer"]))
    start.take(None, initial.Weights(source, {}, "d1"), run)


def test_a_run_that_begins_reads_the_weights(run: RunDir) -> None:
    """A damaged file is refused; a record of an earlier try is forgotten."""
    assert start.weights(Namespace(init=None), run, False) is None
    with h5py.File("x.h5", "w") as file:
        file["conv/vars/0"] = [1.0, 2.0]
    (run.path / start.RECORD).write_text('{"source": "before"}')
    assert [*start.weights(Namespace(init=Path("x.h5")), run, False).layers] == ["conv"]
    assert start.record(run.path) is start.summary(run.path) is None
    Path("x.h5").write_bytes(Path("x.h5").read_bytes()[:500])
    with pytest.raises(InputError, match=r"weights of x\.h5 can't be read: .* Copy it again"):
        start.weights(Namespace(init=Path("x.h5")), run, False)


def test_a_resumed_run_keeps_what_it_started_from(
        run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the file, which may be gone; other weights are refused."""
    with pytest.raises(InputError, match=r"was started without --init: leave --init x\.h5 out"):
        start.weights(Namespace(init=Path("x.h5")), run, True)
    taken(run, "x.h5", monkeypatch)
    for given in (None, Path("x.h5"), Path("../") / run.path.parent.name / "x.h5"):
        options = Namespace(init=given)
        assert start.weights(options, run, True) is None and options.init == Path("x.h5")
    with pytest.raises(InputError, match=r"was started from the weights of x\.h5: leave --init y"):
        start.weights(Namespace(init=Path("y")), run, True)
    assert start.summary(run.path) == {"source": "x.h5", "sha256": "d1", "taken": 1, "layers": 2}


def test_validation_pictures_that_the_weights_know_are_told(
        run: RunDir, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Their figures are better than on new ones; nothing is said where the source doesn't know."""
    def listed(folder: Path, parts: dict[int, int]) -> None:
        digest = np.array([[number] * 16 for number in parts], np.uint8)
        Pictures(digest, digest, np.array([*parts.values()], np.uint8),
                 np.zeros((0, 8), np.uint8), np.zeros((0, 16, 16, 3), np.uint8)).write(
            folder / "model.keras")

    source = Path("source")
    source.mkdir()
    listed(run.path, {1: TRAIN, 2: VALIDATION, 3: VALIDATION, 4: VALIDATION})
    taken(run, "source", monkeypatch)
    assert "seen" not in start.summary(run.path)
    listed(source, {1: TRAIN, 2: TRAIN, 3: VALIDATION})
    taken(run, "source", monkeypatch)
    known = start.summary(run.path)
    assert (known["seen"], known["validation"]) == (1, 3)
    assert "were trained on 1 of the 3 validation pictures" in caplog.text
