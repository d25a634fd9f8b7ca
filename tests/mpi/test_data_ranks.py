"""Ranks that open a data file together: one copy per node, one way of reading, one message."""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path

import pytest
from conftest import run_program
from worlds import Worlds

from preprocessing.store import DONE, open_header

pytestmark = [pytest.mark.mpi, pytest.mark.slow]
TOY = {"PYTHONPATH": str(Path(__file__).parent.parent / "toy")}
RANKS = 3


@pytest.fixture(scope="module")
def damaged(data_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rows of the data file with a wrong bit, in a feature that training doesn't read."""
    copy = Path(shutil.copy(data_file, tmp_path_factory.mktemp("damaged") / "features.h5"))
    for row in (7, 51):
        open_header(copy).array("raw", "r+")[row, 100, 3, 1] ^= 1
    return copy


@pytest.fixture(scope="module")
def answers(worlds: Worlds, data_file: Path, damaged: Path) -> dict[str, list]:
    answer = worlds.run(RANKS, "held.py", data_file, damaged, cwd=damaged.parent)
    assert answer.code == 0, answer.output
    return {**json.loads(answer.output.splitlines()[-1]), "messages": answer.output.splitlines()}


def test_all_ranks_of_a_node_share_one_copy(answers: dict[str, list]) -> None:
    """The same file in memory, whole, and without a name."""
    modes, sums, places = zip(*answers["held"], strict=True)
    assert set(modes) == {"memory"}
    assert len(set(places)) == 1 and places[0] not in ("", "0")
    assert sums == tuple(crc for _, crc, _ in answers["mapped"])
    assert answers["left"] == [[]] * RANKS
    assert "3 MB of pictures are held in memory, once on each node" in answers["messages"]


def test_masks_are_held_once_too(answers: dict[str, list], data_file: Path) -> None:
    sums, places = zip(*answers["masks"], strict=True)
    assert set(sums) == {zlib.crc32(open_header(data_file).array("mask"))}
    assert len(set(places)) == 1 and places[0] not in ("", "0")
    assert "1 MB of masks are held in memory, once on each node" in answers["messages"]


@pytest.mark.parametrize(("case", "mode"), [
    ("one node of another kind", "memory"), ("one node without memory", "read"),
    ("small /dev/shm", "read"), ("full while it is filled", "read"), ("no /dev/shm", "read")])
def test_all_ranks_read_in_the_same_way(answers: dict[str, list], case: str, mode: str) -> None:
    """And the same pictures, if the nodes differ or memory is too small on one of them."""
    assert {answer[0] for answer in answers[case]} == {mode}
    assert {answer[1] for answer in answers[case]} == {answers["mapped"][0][1]}
    assert sum("so each batch is read from the file (--input read)" in line
               for line in answers["messages"]) == 3, "a note for each case that falls back"


def test_damaged_rows_are_one_message_of_all_ranks(answers: dict[str, list]) -> None:
    assert len(set(answers["damaged"])) == 1
    message = answers["damaged"][0]
    assert "2 of 60 rows of" in message and "row 7 (Au/" in message and "row 51 (" in message
    assert "Run the same preprocessing command again" in message


def test_training_on_damaged_rows_is_refused(damaged: Path, tmp_path: Path) -> None:
    """Before the first step, with no run directory; also an unused row is no reason."""
    done = run_program("hpc_deepfake.train", "--data", damaged, "--run", "run", "--no-report",
                       "--epochs", "1", ranks=2, cwd=tmp_path, env=TOY)
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1 and "2 of 60 rows" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "run").exists()
    assert (open_header(damaged).array("status") == DONE).all()
