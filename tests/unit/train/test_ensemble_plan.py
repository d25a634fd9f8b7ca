"""Which trainings an ensemble has, and which folders it refuses."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import pytest

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network.ensemble import NAME
from hpc_deepfake.train import ensemble, rundir
from hpc_deepfake.train.options import check, parser


def options(*words: str) -> Namespace:
    made = parser().parse(["--data", "x.h5", "--run", "runs", "--seeds", "3", *words])
    made.data = Path("x.h5")
    return made


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def finished(member: ensemble.Member, given: Namespace) -> None:
    """Its run directory, as after its training."""
    member.path.mkdir(parents=True)
    own = {name: str(value) if isinstance(value, Path) else value
           for name, value in vars(member.options(given)).items()}
    (member.path / "config.json").write_text(json.dumps({**own, "data": str(Path.cwd() / "x.h5")}))
    (member.path / "summary.json").write_text("{}")


def test_members_are_trainings_of_their_own() -> None:
    """With consecutive seeds, in folders named by them; curves in a folder for each."""
    made = ensemble.plan(options("--seed", "4", "--tensorboard", "board"))
    assert [(member.seed, str(member.path)) for member in made.due] == [
        (4, "runs/seed-4"), (5, "runs/seed-5"), (6, "runs/seed-6")]
    own = made.due[1].options(options("--seed", "4", "--tensorboard", "board"))
    assert (own.seed, own.seeds, own.member, str(own.run), str(own.tensorboard)) == (
        5, 1, None, "runs/seed-5", "board/seed-5")
    assert [member.seed for member in ensemble.plan(options("--member", "2")).due] == [2]
    assert not Path("runs").exists()


def test_a_member_is_finished_by_the_same_options_only() -> None:
    given = options("--resume")
    made = ensemble.plan(given)
    ensemble.begin(made, {"data": "x.h5"})
    finished(made.members[0], given)
    finished(made.members[2], options("--resume", "--epochs", "2"))
    assert [member.finished for member in ensemble.plan(given).members] == [True, False, False]
    given.data = Path("y.h5")
    assert not any(member.finished for member in ensemble.plan(given).members)
    more = options("--resume", "--seeds", "5")
    assert len(ensemble.plan(more).due) == 5


def test_folders_that_are_refused() -> None:
    ensemble.begin(ensemble.plan(options()), {})
    assert json.loads((Path("runs") / NAME).read_text())["members"] == [
        "seed-0", "seed-1", "seed-2"]
    for words, message in (((), "already holds an ensemble: continue it with --resume"),
                           (("--resume", "--seeds", "2"), "members seed-0, seed-1, seed-2: give"),
                           (("--resume", "--seed", "1"), "members seed-0, seed-1, seed-2: give")):
        with pytest.raises(InputError, match=message):
            ensemble.plan(options(*words))
    with pytest.raises(InputError, match="--run runs holds an ensemble"):
        rundir.check(Path("runs"), True)
    Path("single/checkpoints").mkdir(parents=True)
    with pytest.raises(InputError, match="single holds a single run"):
        ensemble.plan(options("--run", "single", "--resume"))
    Path("array/seed-3/jobs").mkdir(parents=True)  # of a job that is about to train a member
    assert ensemble.plan(options("--run", "array")).folder == Path("array")
    with pytest.raises(InputError, match="--resume: name the folder of the ensemble"):
        ensemble.plan(Namespace(**{**vars(options("--resume")), "run": None}))


@pytest.mark.parametrize(("words", "message"), [
    (("--member", "3"), "the members are 0 to 2"), (("--timeline",), "--timeline is for one"),
    (("--synthetic", "9"), "--synthetic is for one")])
def test_options_that_an_ensemble_cannot_have(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(options(*words), 1)
