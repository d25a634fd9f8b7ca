"""evaluate on several ranks: the figures of one process, bit by bit, and one message on errors."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, run_program
from worlds import Worlds

from preprocessing.split import PARTS
from preprocessing.store import open_header

pytestmark = [pytest.mark.mpi, pytest.mark.slow]
RANKS = 3


@pytest.fixture(scope="module")
def answers(worlds: Worlds, data_file: Path, pictures: Path,
            tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], list]]:
    """By case: the answer of one process, and those of the ranks (see evaluated.py)."""
    folder = tmp_path_factory.mktemp("evaluated")
    with tarfile.open(ROOT / "tests" / "data" / "version-0.1" / "files.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    damaged = Path(shutil.copy(data_file, folder / "damaged.h5"))
    header = open_header(damaged)
    rows = np.flatnonzero(np.array(header.array("split")) == PARTS.index("train"))
    for row in rows[[1, -1]]:  # of the first and of the last rank
        header.array("ela", "r+")[row, 5, 5, 0] ^= 1
    bad = folder / "bad"
    shutil.copytree(pictures, bad)
    for number, file in enumerate(sorted(bad.glob("*/*.jpg"))):
        if number % 20 == 3:
            file.write_text("no picture")
    model = ["--model", str(folder / "run")]
    unknown = folder / "unknown"  # it may have been trained on any data file
    shutil.copytree(folder / "run", unknown, ignore=shutil.ignore_patterns("config.json"))
    cases = {"part": ["--data", str(data_file), "--part", "train", *model],
             "few": ["--data", str(data_file), "--part", "test", "--no-container", "--perturb",
                     "crop=0.8", "resize=0.5+noise=3", *model],
             "auto": ["--data", str(data_file), "--threshold", "auto", *model],
             "folder": ["--data", str(pictures), *model],
             "halves": ["--data", str(pictures), "--threshold", "fnr=0.2,fpr=0.2", "--perturb",
                        "jpeg=50", *model],
             "archive": ["--authentic", str(pictures / "Au"), "--threshold", "fpr=0.2", *model],
             "bad": ["--data", str(bad), *model],
             "where": ["--data", str(data_file), "--part", "train", "--no-container", "--model",
                       str(folder / "located")],
             "where in a folder": ["--data", str(pictures), "--model", str(folder / "located")],
             "damaged": ["--data", str(damaged), "--part", "train", *model],
             "other part": ["--data", str(data_file), "--threshold", "auto", "--part", "train",
                            "--model", str(unknown)],
             "no model": ["--data", str(data_file), "--model", "nowhere"],
             "one rank": ["broken", "--data", str(data_file), *model]}
    (folder / "requests.json").write_text(json.dumps(list(cases.values())))
    answer = worlds.run(RANKS, "evaluated.py", folder / "requests.json", cwd=folder)
    assert answer.code == 0, answer.output
    return dict(zip(cases, json.loads(answer.output.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("case", ["part", "few", "auto", "folder", "halves", "archive",
                                  "bad", "where", "where in a folder"])
def test_the_figures_are_those_of_one_process(answers: dict, case: str) -> None:
    """The same output and the same file, to the last bit; printed by rank 0 only."""
    alone, ranks = answers[case]
    assert alone["error"] is None and len(alone["file"]) > 1000
    assert alone["code"] == (2 if case == "bad" else 0)
    assert ranks[0] == alone
    assert [rank["output"] for rank in ranks[1:]] == [""] * (RANKS - 1)
    assert {rank["code"] for rank in ranks} == {alone["code"]}
    assert ("where changed" in alone["output"]) == case.startswith("where")
    assert ("container alone" in alone["output"]) == (case in ("part", "auto"))


def test_pictures_that_cannot_be_read_are_named_in_their_order(answers: dict) -> None:
    (alone, ranks) = answers["bad"]
    assert alone["output"].count("not read: ") == 3
    assert "3 of 60 pictures could not be read" in ranks[0]["output"]
    assert json.loads(ranks[0]["file"])["rows"] == 57


@pytest.mark.parametrize(("case", "message"), [
    ("damaged", "2 of 36 rows of "), ("other part", "not on --part train"),
    ("no model", "there is no trained model 'nowhere"),
    ("one rank", "this rank can't load it (rank 1 on ")])
def test_an_error_is_one_message_on_all_ranks(answers: dict, case: str, message: str) -> None:
    """The same as of one process, where that sees it."""
    alone, ranks = answers[case]
    errors = {rank["error"] for rank in ranks}
    assert len(errors) == 1 and message in errors.pop()
    assert all(rank["output"] == rank["file"] == "" for rank in ranks)
    assert alone["error"] == (None if case == "one rank" else ranks[0]["error"])


def test_the_command_under_mpirun(tmp_path: Path) -> None:
    """One message and exit code 2; help starts no MPI."""
    done = run_program("hpc_deepfake.cli", "evaluate", "--model", "nowhere", ranks=2, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("there is no trained model 'nowhere'") == 1
    assert "Traceback" not in done.stderr
