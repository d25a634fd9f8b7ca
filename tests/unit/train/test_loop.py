"""The decisions of the training loop, and the run directory that it writes."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import read_lines
from speed import limit

from hpc_deepfake.core.errors import InputError, OutputError
from hpc_deepfake.core.files import write_json
from hpc_deepfake.core.stop import SIGNALS, StopFlag
from hpc_deepfake.metrics import masks
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies.base import SAVE, STOP, Done, Strategy
from hpc_deepfake.train import checkpoint, divergence, loop, messages, timing
from hpc_deepfake.train.loop import Limits, State, Trainer, dropout_seed
from hpc_deepfake.train.resume import run_directory
from hpc_deepfake.train.rundir import RunDir, default_run
from hpc_deepfake.train.validation import Predicted


@pytest.mark.parametrize(("monitor", "best", "better", "worse"), [
    ("val_loss", 0.5, 0.4, 0.6), ("val_auc", 0.5, 0.6, 0.4), ("val_accuracy", 0.5, 0.6, 0.4),
    ("val_pixel_auc", 0.5, 0.6, 0.4), ("val_pixel_f1", 0.5, 0.6, 0.4)])
def test_better_for_each_monitor(monitor, best, better, worse):
    """Lower loss, higher AUC and accuracy; an equal value is not better; any value is better than
    none."""
    state = State(best=best)
    assert state.better(better, monitor)
    assert not state.better(worse, monitor)
    assert not state.better(best, monitor)
    assert State().better(worse, monitor)


@pytest.mark.parametrize("monitor", sorted(loop.MONITORS))
@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("best", [None, 0.5])
def test_none_nan_and_infinity_are_never_the_best(monitor, value, best):
    assert not State(best=best).better(value, monitor)


def test_every_monitor_is_a_figure_and_an_option():
    """``--monitor`` offers what validation computes."""
    from hpc_deepfake import metrics
    from hpc_deepfake.train.options import parser

    figures = metrics.evaluate(np.array([0.2, 0.8]), np.array([0, 1]))
    figures |= Predicted(np.array([0.5]), np.ones((1, 2, 256), np.int32)).pixel(np.array([1]))
    assert all(name.removeprefix("val_") in figures for name in loop.MONITORS)
    action, = (action for action in parser()._actions if action.dest == "monitor")
    assert set(action.choices) == set(loop.MONITORS)


def test_the_threshold_of_maps_is_validations_on_the_test_part_too():
    """The best one of the test part itself would be another."""
    levels = np.array([[[40, 90], [150, 200]]], np.uint8)
    mask = np.array([[[0, 1], [1, 1]]], np.uint8)
    maps = Predicted(np.array([0.5]), masks.histograms(levels, mask))
    trainer = SimpleNamespace(
        state=State(mask_threshold=160), settings=Settings(), rows=[0], _before=0,
        validated=None, _figures=None,
        limits=Limits(1, 0, 0, 1), comm=SimpleNamespace(size=1),
        _predict=lambda rows: (maps, Done()),
        strategy=SimpleNamespace(name="sequential", class_weights=None),
        data=SimpleNamespace(rows=lambda part: np.array([0]), labels=np.array([1]), size=2))
    trainer.state.rates.append(1.0)
    summary = Trainer._summary(trainer)
    assert summary["test"]["pixel_f1"] == summary["validation"]["pixel_f1"] == 0.5
    assert maps.pixel(np.array([1]))["pixel_f1"] == 1


class Variable:
    def __init__(self, value: float) -> None:
        self.value = np.array(value)

    def numpy(self) -> np.ndarray:
        return self.value.copy()

    def assign(self, value: np.ndarray) -> None:
        self.value = np.array(value)


class Scripted(Strategy):
    """A strategy whose only weight is the number of its steps, and whose validation gives the
    correct class of every row the probability that ``quality`` has for the epoch."""

    name = "scripted"

    def __init__(self, quality: list[float], steps_per_epoch: int) -> None:
        super().__init__()
        self.quality, self.steps_per_epoch = quality, steps_per_epoch
        self.weight = Variable(0.0)
        self.variables = [self.weight]

    def step(self, batches, rows, step, wishes):
        self.weight.assign(self.weight.value + 1)
        return Done(1, rows, 2.0 * rows, rows / 2, wishes,
                    counts={"rows": {"seen": float(rows)}})

    def probabilities(self, labels):
        right = self.quality[round(float(self.weight.value) / self.steps_per_epoch) - 1]
        return np.where(labels == 1, right, 1 - right)


@pytest.fixture
def train(monkeypatch, tmp_path):
    """Make a trainer of ``Scripted``: 12 training rows in 3 steps per epoch, 6 validation rows."""
    monkeypatch.setattr(loop.mpi, "concatenate", lambda comm, values: values)
    monkeypatch.setattr(Trainer, "_write_model", lambda self: list)

    def make(quality: list[float], epochs: int = 10, patience: int = 0, monitor: str = "val_loss",
             stop: object = False, run: RunDir | None = None) -> Trainer:
        labels = np.arange(18) % 2
        parts = {"train": np.arange(12), "validation": np.arange(12, 18), "test": np.arange(0)}
        data = SimpleNamespace(rows=parts.get, labels=labels, header=SimpleNamespace(attributes={}),
                               size=128, batch=lambda rows: (labels[rows], labels[rows]))
        comm = SimpleNamespace(rank=0, size=1, bcast=lambda value: value)
        return Trainer(comm, Scripted(quality, 3), data,
                       Settings(batch_size=4, monitor=monitor),
                       Limits(epochs, patience, 0.0, 2), run, stop)

    return make


QUALITY = [0.5, 0.6, 0.55, 0.7, 0.6, 0.65, 0.69, 0.9, 0.9, 0.9]


@pytest.mark.parametrize(("patience", "epochs", "best"), [
    (1, 3, 2), (2, 6, 4), (3, 7, 4), (4, 10, 8), (0, 10, 8)])
def test_patience_ends_the_run_with_the_best_weights(train, patience, epochs, best):
    """Training ends that many epochs after the best one (an equal one is not better); 0: never."""
    trainer = train(QUALITY, patience=patience)
    summary = trainer.train()
    assert (summary["epochs"], summary["best_epoch"]) == (epochs, best)
    assert summary["stopped_early"] == (epochs < 10)
    assert trainer.strategy.weight.value == 3 * best
    assert summary["validation"]["loss"] == pytest.approx(-math.log(QUALITY[best - 1]))
    assert summary["steps"] == 3 * epochs


def test_the_best_weights_validation_is_not_repeated_at_the_end(train, tmp_path, monkeypatch):
    """Its figures and probabilities are those of their epoch; a later process, which has not
    computed them, validates once."""
    asked = []
    predict = loop.predict
    monkeypatch.setattr(loop, "predict", lambda *arguments: (
        asked.append(arguments[3].tolist()), predict(*arguments))[1])
    run = RunDir(tmp_path / "run")
    trainer = train(QUALITY, 5, run=run)
    summary = trainer.train()
    assert asked == [[*range(12, 18)]] * 5 and summary["best_epoch"] == 4
    line = read_lines(run.path / "metrics.jsonl")[3]
    assert {f"val_{name}": figure for name, figure in summary["validation"].items()}.items() \
        <= line.items()
    assert trainer.probabilities["validation"].tolist() == pytest.approx([0.3, 0.7] * 3)
    arrays, meta, _ = checkpoint.load_newest(run.path / "checkpoints")
    later = train(QUALITY, 5, run=RunDir(tmp_path / "run", resume=True))
    later.restore((arrays, meta))
    assert later.train()["validation"] == summary["validation"] and len(asked) == 6
    assert later.probabilities["validation"].tobytes() \
        == trainer.probabilities["validation"].tobytes()


def test_epochs_with_nan_use_up_the_patience(train):
    """The best epoch before them is kept."""
    trainer = train([0.6, *[math.nan] * 9], patience=3)
    assert trainer.train()["epochs"] == 4
    assert trainer.strategy.weight.value == 3


def test_monitors_can_choose_another_epoch(train):
    """The lowest loss and the best accuracy are in different epochs."""
    quality = [0.501, 0.9, 0.499]
    assert train(quality, 3, monitor="val_loss").train()["best_epoch"] == 2
    assert train(quality, 3, monitor="val_accuracy").train()["best_epoch"] == 1


def test_metrics_of_an_epoch(train, tmp_path):
    """A line per epoch with the sums over the epoch's rows divided by their number."""
    run = RunDir(tmp_path / "run")
    train(QUALITY, 3, run=run).train()
    lines = read_lines(run.path / "metrics.jsonl")
    assert [(line["epoch"], line["step"], line["best"]) for line in lines] == [
        (1, 3, True), (2, 6, True), (3, 9, False)]
    for line, quality in zip(lines, QUALITY, strict=False):
        assert (line["loss"], line["accuracy"]) == (2.0, 0.5)
        assert line["val_loss"] == pytest.approx(-math.log(quality))
        assert set(line["seconds"]) == set(loop.STAGES)
        assert line["rows"] == {"seen": 12.0}, "counts belong to the epoch"


@pytest.mark.parametrize("steps", [1, 3, 5, 9])  # 3 and 9: in an epoch's last step
def test_a_stopped_run_resumes_from_its_checkpoint(train, tmp_path, steps):
    """Stopped after ``steps`` steps, the run returns None and leaves a checkpoint; resumed from it,
    it ends like an undisturbed run, with the same best epoch and number of steps."""
    class After:
        """A stop flag that is set in step number ``steps``."""

        def __bool__(self):
            return bool(trainer.strategy.weight.value >= steps - 1)

    whole = train(QUALITY, 5).train()
    run = RunDir(tmp_path / "run")
    trainer = train(QUALITY, 5, run=run, stop=After())
    assert trainer.train() is None
    assert trainer.state.step == steps
    arrays, meta, problems = checkpoint.load_newest(run.path / "checkpoints")
    assert not problems and meta["state"]["step"] == steps
    trainer = train(QUALITY, 5, run=RunDir(tmp_path / "run", resume=True))
    trainer.restore((arrays, meta))
    assert trainer.strategy.weight.value == steps
    summary = trainer.train()
    for result in (whole, summary):
        result.pop("images_per_s"), result.pop("wall_images_per_s")
    assert summary.pop("epochs_before") == meta["state"]["epoch"] - 1
    assert whole.pop("epochs_before") == 0
    assert summary == whole
    quality = QUALITY[whole["best_epoch"] - 1]  # of the best epoch's probabilities, in the card
    assert trainer.validated.tolist() == pytest.approx([1 - quality, quality] * 3)


def test_a_checkpoint_of_an_earlier_version_has_no_probabilities(train, tmp_path):
    """They are computed at the end, with the best weights."""
    run = RunDir(tmp_path / "run")
    train(QUALITY, 4, run=run).train()
    arrays, meta, _ = checkpoint.load_newest(run.path / "checkpoints")
    assert meta.pop("validated")
    trainer = train(QUALITY, 5, run=RunDir(tmp_path / "run", resume=True))
    trainer.restore((arrays[:-1], meta))
    assert trainer.validated is None and len(trainer.best) == 1
    trainer.train()
    assert trainer.validated.tolist() == pytest.approx([0.3, 0.7] * 3)


def test_dropout_seed_is_a_function_of_its_arguments():
    """Two int32: reproducible, and different for another seed, micro-batch or rank."""
    first = dropout_seed(1, 2, 3)
    assert first.dtype == np.int32 and first.shape == (2,)
    np.random.seed(0)
    assert np.array_equal(first, dropout_seed(1, 2, 3))
    seeds = {dropout_seed(seed, number, rank).tobytes()
             for seed in range(4) for number in range(50) for rank in range(8)}
    assert len(seeds) == 4 * 50 * 8


def test_a_used_run_directory_is_refused(tmp_path):
    """A directory with metrics or checkpoints needs ``resume``; an empty one is accepted."""
    for name in ("metrics.jsonl", "checkpoints"):
        path = tmp_path / name / "run"
        path.mkdir(parents=True)
        RunDir(path)
        (path / name).mkdir()
        with pytest.raises(InputError, match=r"already holds a run.*--resume"):
            RunDir(path)
        RunDir(path, resume=True)


def test_an_impossible_run_directory_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("")
    for path, message in ((tmp_path / "file", r"is a file: name a folder for the run"),
                          (tmp_path / "file" / "run", r"cannot create the run directory")):
        with pytest.raises(InputError, match=message):
            RunDir(path)


LINES = [{"epoch": epoch, "seconds": {"input": 0.1}, "best": True} for epoch in (1, 2, 3)]


@pytest.mark.parametrize("tail", ["", "{", '{"epoch": 4, "seconds": {"input"',
                                  '{"epoch": 4, "seconds": {"input": 0.1}', "\0\0\0", "{}", "3",
                                  '{"epoch": 4, "name": "\udcc3'])
def test_later_epochs_and_an_incomplete_last_line_are_dropped(tmp_path, tail):
    """After a killed run: the lines of epochs that will run again, and an incomplete line, even one
    that happens to end in a brace."""
    run = RunDir(tmp_path)
    for line in LINES:
        run.append("metrics.jsonl", line)
    with open(tmp_path / "metrics.jsonl", "a", errors="surrogateescape") as file:
        file.write(tail)
    run.forget_from(3)
    run.append("metrics.jsonl", LINES[2])
    assert read_lines(tmp_path / "metrics.jsonl") == LINES
    run.forget_from(1)
    assert (tmp_path / "metrics.jsonl").read_text() == ""
    assert set(os.listdir(tmp_path)) == {"metrics.jsonl", "in-use.json"}


def test_a_damaged_line_of_an_epoch_that_stays_is_reported(tmp_path, caplog):
    run = RunDir(tmp_path)
    for line in LINES:
        run.append("metrics.jsonl", line)
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"epoch": 2', b'"epoch": ~'))
    run.forget_from(4)
    assert read_lines(file) == [LINES[0], LINES[2]]
    assert "no readable line of 1 epoch (2); it continues without" in caplog.text


def test_dropping_epochs_without_metrics(tmp_path):
    RunDir(tmp_path).forget_from(1)
    assert os.listdir(tmp_path) == ["in-use.json"]


def test_files_are_replaced_whole(tmp_path, monkeypatch):
    """A failing write leaves the previous file, complete."""
    run = RunDir(tmp_path)
    run.write("summary.json", {"path": Path("a"), "x": 1})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"path": "a", "x": 1}

    def full(self, *_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError):
        run.write("summary.json", {"x": 2})
    assert json.loads((tmp_path / "summary.json").read_bytes())["x"] == 1


def test_default_run_is_named_by_the_job(monkeypatch):
    for name in ("SLURM_JOB_ID", "PBS_JOBID"):
        monkeypatch.delenv(name, raising=False)
    assert default_run().parent == Path("runs") and default_run().name[:2] == "20"
    monkeypatch.setenv("PBS_JOBID", "12.server")
    assert default_run() == Path("runs/12.server")
    monkeypatch.setenv("SLURM_JOB_ID", "345")
    assert default_run() == Path("runs/345")


def test_environment_is_an_allow_list(monkeypatch):
    """Settings of MPI, Horovod and the scheduler are recorded, but no tokens, addresses or names of
    people."""
    from hpc_deepfake.train import rundir

    allowed = {"OMPI_MCA_btl_vader_x": "1", "HOROVOD_CYCLE_TIME": "2", "SLURM_JOB_ID": "7"}
    secret = {"OMPI_MCA_orte_hnp_uri": "1.2.3.4", "MY_TOKEN": "t", "USER": "me", "HOME": "/home/me",
              "SLURM_JOB_USER": "me", "TF_TOKEN": "t", "AWS_SECRET_ACCESS_KEY": "k",
              "PMIX_SERVER_URI2": "u", "SLURM_JWT": "j"}
    for name, value in {**allowed, **secret}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=SimpleNamespace(
        Get_library_version=lambda: "Open MPI v4.1.4, package: Debian\n\0")))
    recorded = rundir.environment([{"host": "n1"}])
    assert allowed.items() <= recorded["variables"].items()
    assert not set(secret) & set(recorded["variables"])
    assert recorded["mpi"] == "Open MPI v4.1.4, package: Debian"
    assert recorded["ranks"] == [{"host": "n1"}]
    versions = recorded["versions"]
    assert {"hpc_deepfake", "python", "keras", "numpy", "h5py", "mpi4py"} <= set(versions)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_only_sets_the_flag(number):
    before = {name: signal.getsignal(name) for name in SIGNALS}
    try:
        flag = StopFlag()
        assert not flag
        os.kill(os.getpid(), number)
        assert flag and flag.name == number.name
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def test_limits_of_mid_epoch_checkpoints(train, tmp_path, monkeypatch):
    """At an interval, by rank 0's clock; none with 0; never on other ranks."""
    clock = [100.0]
    monkeypatch.setattr(loop, "time", SimpleNamespace(
        monotonic=lambda: clock[0], perf_counter=lambda: clock[0]))
    trainer = train(QUALITY, run=RunDir(tmp_path / "run"))
    other = train(QUALITY)
    for each in (trainer, other):
        each.limits = Limits(1, 0, 60.0, 2)
    assert not trainer._checkpoint_due()
    clock[0] += 60
    assert trainer._checkpoint_due() and not other._checkpoint_due()
    trainer.state.rows_done = 4
    trainer.save_checkpoint()
    assert not trainer._checkpoint_due()
    clock[0] += 1e6
    trainer.limits = Limits(1, 0, 0.0, 2)
    assert not trainer._checkpoint_due()


def test_a_checkpoint_is_the_state_at_its_step(train, tmp_path, monkeypatch):
    """Though it is written while training continues."""
    saved, written = threading.Event(), []
    quick = checkpoint.save

    def slow(folder, step, arrays, *more):
        saved.wait(limit(60))
        written.append((step, arrays[0].item()))
        return quick(folder, step, arrays, *more)

    def step(self, batches, rows, step, wishes):
        if self.weight.value == 4:
            saved.set()
        return original(self, batches, rows, step, wishes)

    original = Scripted.step
    monkeypatch.setattr(checkpoint, "save", slow)
    monkeypatch.setattr(Scripted, "step", step)
    train(QUALITY, 2, run=RunDir(tmp_path / "run")).train()
    assert written == [(3, 3.0), (6, 6.0)]


def test_a_full_disk_ends_the_training_with_the_last_checkpoint(train, tmp_path, monkeypatch):
    """A message that names the file, and nothing is left of it. Training ends at the next step."""
    run = RunDir(tmp_path / "run")
    trainer = train(QUALITY, 9, run=run)
    quick = np.savez

    def full(file, **contents):  # in a thread beside the next steps
        if "step-000000003" in file.name:
            return quick(file, **contents)
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(InputError, match=r"cannot write .*step-000000006\.npz: No space left"):
        trainer.train()
    assert 6 <= trainer.state.step <= 9
    assert os.listdir(run.path / "checkpoints") == ["step-000000003.npz"]
    assert checkpoint.load_newest(run.path / "checkpoints")[1]["state"]["step"] == 3


def test_full_metrics_end_the_training_too(train, tmp_path, monkeypatch):
    """Though only rank 0 writes them, and no checkpoint is due."""
    trainer = train(QUALITY, 9, run=RunDir(tmp_path / "run"))
    trainer.limits = Limits(9, 0, 1e6, 2)
    monkeypatch.setattr(RunDir, "append", lambda *_: (_ for _ in ()).throw(
        OSError(122, "Disk quota exceeded", "metrics.jsonl")))
    with pytest.raises(InputError, match=r"cannot write metrics\.jsonl: Disk quota exceeded"):
        trainer.train()
    assert trainer.state.step <= 6


def test_checkpoint_minutes_govern_ends_of_epochs(train, tmp_path):
    """The last state is saved whatever they are; 0: each epoch's."""
    saved = {}
    for minutes in (0.0, 1e6):
        run = RunDir(tmp_path / str(minutes))
        trainer = train(QUALITY, 3, run=run)
        trainer.limits = Limits(3, 0, minutes, 9)
        trainer.train()
        saved[minutes] = [int(path.stem[5:]) for path in checkpoint.found(run.path / "checkpoints")]
    assert saved == {0.0: [9, 6, 3], 1e6: [9]}


def test_the_wall_clock_counts_validation_and_saving(train, tmp_path, monkeypatch):
    """Of each epoch from the end of the one before; what was lost to an interruption doesn't."""
    now = [100.0]
    monkeypatch.setattr(loop, "time", SimpleNamespace(
        monotonic=lambda: now[0], perf_counter=lambda: now[0]))

    def passing(seconds, function):
        def wrapped(self, *inputs):
            now[0] += seconds
            return function(self, *inputs)
        return wrapped

    run = RunDir(tmp_path / "run")
    monkeypatch.setattr(Scripted, "step", passing(2.0, Scripted.step))
    monkeypatch.setattr(Scripted, "probabilities", passing(1.0, Scripted.probabilities))
    monkeypatch.setattr(Scripted, "state", passing(4.0, Scripted.state))
    trainer = train(QUALITY, 2, run=run)
    now[0] += 50  # since the trainer was made
    trainer.train()
    lines = read_lines(run.path / "metrics.jsonl")
    # three steps and one validation; the second epoch also waited for the first one's saving
    assert [line["wall_s"] for line in lines] == [7.0, 11.0]
    assert [line["wall_images_per_s"] for line in lines] == [12 / 7, 12 / 11]
    assert lines[1]["seconds"]["checkpoint"] == 4.0


def test_a_state_is_saved_once(train, tmp_path):
    """A second save of the same state writes nothing."""
    run = RunDir(tmp_path / "run")
    trainer = train(QUALITY, run=run)
    trainer.save_checkpoint()
    assert not (run.path / "checkpoints").exists(), "the initial state needs no checkpoint"
    trainer.state.rows_done = trainer.state.step = 4
    trainer.save_checkpoint()
    trainer._saver.join()
    saved, = (run.path / "checkpoints").iterdir()
    saved.unlink()
    trainer.save_checkpoint()
    trainer._saver.join()
    assert not list((run.path / "checkpoints").iterdir())


def test_the_line_of_an_epoch_without_figures():
    """With a single class in validation, or no finite figure: dashes."""
    figures = dict.fromkeys(("val_loss", "val_accuracy", "val_auc"))
    line = {"epoch": 3, "loss": 0.5, "accuracy": 0.75, "images_per_s": 12.0, "best": False,
            "wall_images_per_s": 10.4, **figures}
    text = messages.epoch(line, 10)
    assert text.startswith("epoch  3/10  loss 0.5000  accuracy 75.0%")
    assert text.count("–") == 3
    assert text.endswith("| 12 images/s, wall clock 10")


def test_a_diverged_loss_is_null_in_the_record(tmp_path: Path) -> None:
    """JSON has no NaN, and strict readers of metrics.jsonl would fail."""
    run = RunDir(tmp_path / "run")
    run.append("metrics.jsonl", {"loss": float("nan"), "seconds": {"input": float("inf")},
                                 "rates": [1.0, float("-inf")]})
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == (
        '{"loss": null, "seconds": {"input": null}, "rates": [1.0, null]}\n')


def test_the_epoch_continues_after_a_checkpoint_within_it(train, tmp_path, monkeypatch):
    """When one is due by rank 0's clock, the later steps are the same as without it."""
    run = RunDir(tmp_path / "run")
    trainer = train(QUALITY, 2, run=run)
    monkeypatch.setattr(Trainer, "_checkpoint_due", lambda self: self.state.step in (1, 4))
    summary = trainer.train()
    assert (summary["epochs"], summary["steps"], trainer.strategy.weight.value) == (2, 6, 6)
    saved = sorted(path.name for path in (run.path / "checkpoints").iterdir())
    assert saved == ["step-000000005.npz", "step-000000006.npz"], "the last two of four"


def test_requests_of_many_ranks_can_be_distinguished():
    """A million ranks request to stop, with and without rank 0's request to save."""
    ranks = 1_000_000
    assert Done(wishes=ranks * STOP).stopped and not Done(wishes=ranks * STOP).save
    assert Done(wishes=ranks * STOP + SAVE).stopped and Done(wishes=ranks * STOP + SAVE).save
    assert not Done(wishes=SAVE).stopped
    assert np.float32(ranks * STOP + SAVE) == ranks * STOP + SAVE, "exact in float32"


def test_a_slow_rank_sleeps_in_proportion(monkeypatch):
    """With a factor of 3 for twice the time of its own step, from the third step on; the sleep
    counts as computing, but does not prolong the next sleep."""
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(timing.time, "sleep", sleep)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    clock = timing.StepClock(3.0)
    clock.begin()
    for step, seconds in enumerate((9.0, 0.25, 0.5)):
        clock.loaded()
        clock.dawdle()
        now[0] += seconds
        clock.launched(step, 0.0)
        clock.landed(0.0)
        clock.ready()
    assert slept == [0.5]
    assert clock.end()["compute"] == 9.0 + 0.25 + 1.0


def test_a_finished_run_that_is_continued_has_no_results_until_it_ends(train, tmp_path):
    """Those of the epochs before would be taken for its own; without further epochs they stay."""
    run = RunDir(tmp_path / "run")
    train(QUALITY, 2, run=run).train()
    run.write("summary.json", {"strategy": "sync", "ranks": 8, "epochs": 2})
    loaded = checkpoint.load_newest(run.path / "checkpoints")[:2]

    again = train(QUALITY, 2, run=run)
    again.restore(loaded)
    summary = again.train()
    assert summary["epochs"] == summary["epochs_before"] == 2
    assert run.computed() == {"strategy": "sync", "ranks": 8}

    longer = train(QUALITY, 3, run=run)
    longer.restore(loaded)
    assert longer.train()["epochs_before"] == 2
    assert not (run.path / "summary.json").exists() and run.computed() == {}


@pytest.mark.parametrize(("counts", "answer"), [
    ((0, 0, 5, 3), "authentic"), ((4, 4, 0, 0), "tampered"), ((1, 0, 5, 2), None)])
def test_a_model_with_always_the_same_answer_is_reported(counts, answer):
    """Its accuracy may look fine where one class is the larger."""
    figures = dict(zip(("tp", "fp", "tn", "fn"), counts, strict=True))
    lines = messages.same_answer({"validation": figures})
    assert bool(lines) == bool(answer)
    if answer:
        assert f"predicts {answer} for each of the 8 pictures of the validation part" in lines[0]


def test_the_resumed_run_of_a_diverged_one_says_so(tmp_path, caplog):
    """And once it has been told, the record is gone: the run is one like others again."""
    from mpi4py import MPI

    write_json(tmp_path / divergence.RECORD, {"step": 1234, "message": "the training diverged: x"})
    options = Namespace(run=tmp_path, resume=True, epochs=3)
    run_directory(MPI.COMM_SELF, options, Settings(), None)
    assert "this run diverged at step 1,234" in caplog.text
    assert divergence.recorded(tmp_path) is None


def test_a_board_that_cannot_be_written_ends_the_run(train, tmp_path):
    """As any file of the run: all ranks learn of it where they meet."""
    calls = []

    class Board:
        def begin(self, course):
            assert (course.epochs, course.per_epoch) == (course.step // 3, 12)

        def steps(self, step, done):
            calls.extend([step] * bool(done.rows))
            if step == 5:
                raise OutputError("events", OSError(28, ""))

        def epoch(self, line, probabilities, labels):
            assert probabilities.shape == labels.shape == (6,) and line["epoch"] == 1

        def flush(self):
            raise AssertionError("after an error nothing more is written")

        close = flush

    trainer = train(QUALITY, 4, run=RunDir(tmp_path / "run"))
    trainer.board = Board()
    with pytest.raises(InputError, match="cannot write events: No space left"):
        trainer.train()
    assert calls == [1, 2, 3, 4, 5]
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints")[1]["state"]["epoch"] == 2


def test_a_plateau_lowers_the_rate_once_for_its_epochs():
    """As Keras' ReduceLROnPlateau with the same patience; other schedules have no factor."""
    settings, state, factors = Settings(rate_schedule="plateau", rate_epochs=2), State(), []
    for best in (True, False, True, False, False, False, False, False, True, False):
        state.wait(best, settings)
        state.next_epoch()
        factors.append(round(state.rate_factor, 9))
    assert factors == [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01]
    state = State(epoch=9)
    assert not state.wait(False, Settings()) and state.rate_factor == 1
