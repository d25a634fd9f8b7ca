"""What version 0.1.0 left behind is still read: a data file, a run, its checkpoint and its model.

``tests/data/version-0.1`` was written by that version (commit 663e505) from 16 sample pictures, on
one rank, with arrays that pack well in place of the trained weights; ``expected.json`` has what
that version then computed from them.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import read_lines
from worlds import Worlds

from hpc_deepfake.core.json_data import finite
from hpc_deepfake.data import verify
from hpc_deepfake.network.card import UNKNOWN
from hpc_deepfake.network.model import read_card
from hpc_deepfake.network.pictures import Pictures
from hpc_deepfake.report import write as write_report
from hpc_deepfake.train import checkpoint, predictions, records
from preprocessing.integrity import damaged_rows
from preprocessing.store import DONE, open_header

FILES = Path(__file__).resolve().parents[1] / "data" / "version-0.1"
EXPECTED = json.loads((FILES / "expected.json").read_text())
pytestmark = [pytest.mark.mpi, pytest.mark.slow]


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that held the data file and the run; not to be changed."""
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(FILES / "files.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_the_data_file(earlier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Header, every row's checksum, and the command that verifies them."""
    header = open_header(earlier / "features.h5")
    assert (header.rows, list(header.features)) == (16, ["ela"])
    assert (header.array("status") == DONE).all()
    assert not len(damaged_rows(header, np.arange(16)))
    assert verify.main([str(earlier / "features.h5")]) == 0
    assert "16" in capsys.readouterr().out


def test_the_run(earlier: Path, tmp_path: Path) -> None:
    """Records, predictions, checkpoint bit by bit, and a report of it all."""
    run = earlier / "run"
    run_records = records.read(run)
    assert not run_records.unfinished
    assert [line["epoch"] for line in run_records.epochs] == [1]
    assert finite(run_records.summary["validation"]["accuracy"]) == 0.5
    assert len(predictions.read(run)["validation"].probabilities) == 4
    arrays, meta, problems = checkpoint.load_newest(run / "checkpoints")
    assert [zlib.crc32(array.tobytes()) for array in arrays] == EXPECTED["arrays_crc32"]
    assert (meta["state"]["epoch"], meta["tensors"], problems) == (2, 40, [])
    write_report(run, tmp_path / "report.html", model=False)
    assert "50.0%" in (tmp_path / "report.html").read_text()


def test_its_card_says_that_it_knows_nothing(earlier: Path) -> None:
    card = read_card(earlier / "run")
    assert card.caveats == [UNKNOWN] and card.temperature == 1
    assert Pictures.read(earlier / "run") is None


def test_the_model(earlier: Path, found: Callable[..., dict[str, np.ndarray]]) -> None:
    """It gives the same pictures the same probabilities, on any processor."""
    probabilities = found("scores.py", 1, str(earlier / "features.h5"),
                          str(earlier / "run"))["probabilities"]
    np.testing.assert_allclose(probabilities, EXPECTED["probabilities"], atol=1e-4)


def test_the_run_is_resumed(earlier: Path, worlds: Worlds) -> None:
    """With the optimizer's state: the second epoch has the losses that version 0.1.0 had."""
    run = earlier / "run"
    answer = worlds.run(1, "train", "--data", earlier / "features.h5", "--run", run, "--epochs", 2,
                        "--batch-size", 4, "--device", "cpu", "--threads", 1, "--no-report",
                        "--resume", cwd=earlier)
    assert answer.code == 0, answer.output
    assert "in epoch 2 after step 2" in answer.output
    *_, line = read_lines(run / "metrics.jsonl")
    assert {name: line[name] for name in EXPECTED["epoch_2"]} \
        == pytest.approx(EXPECTED["epoch_2"], rel=1e-3)
    card = read_card(run)  # of that version's best epoch, or of a new one
    assert card.trained_on is not None and card.trained_on["formats"] is None, "not in the file"
    assert card.validation is not None and card.validation["rows"] == 4
    listed = Pictures.read(run)
    assert listed is not None and len(listed) == card.trained_on["train"] + 4
    assert not listed.digest.any() and listed.row.any()
