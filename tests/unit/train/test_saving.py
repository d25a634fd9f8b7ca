"""Writing beside the training, and the room that a run needs."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from speed import limit

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.train import checkpoint, room
from hpc_deepfake.train.saving import Saver

ALONE = SimpleNamespace(rank=0, size=1, bcast=lambda value: value)


def test_writes_run_beside_the_caller_one_after_the_other():
    saver, free, order = Saver(ALONE), threading.Event(), []
    saver.start(lambda: free.wait(limit(60)), lambda: order.append("first"))
    assert saver.busy and not order, "start doesn't wait"
    free.set()
    saver.start(lambda: order.append("second"))
    saver.settle()
    assert order == ["first", "second"] and not saver.busy


def test_an_error_is_kept_until_all_ranks_meet_and_ends_the_writing():
    """As an InputError of all ranks; what was to be written later isn't."""
    saver, later = Saver(ALONE), []

    def full() -> None:
        raise OSError(28, "No space left on device", "x/step-1.npz")

    saver.start(full, lambda: later.append(1))
    saver.join()
    assert saver.failed
    saver.start(lambda: later.append(2))
    saver.now(lambda: later.append(3))
    with pytest.raises(InputError, match=r"cannot write x/step-1\.npz: No space left") as caught:
        saver.settle()
    assert caught.value.everywhere and not later


def test_a_mistake_of_the_program_is_not_taken_for_the_users():
    saver = Saver(ALONE)
    saver.start(lambda: [][0])
    with pytest.raises(IndexError):
        saver.settle()


def variable(*shape: int) -> SimpleNamespace:
    return SimpleNamespace(shape=shape, dtype="float32")


TRAINED = [variable(300, 100), variable(100)]
MODEL = SimpleNamespace(weights=[*TRAINED, variable(100)], trainable_weights=TRAINED)


@pytest.mark.parametrize(("optimizer", "copies"), [("adam", 2), ("sgd", 0)])
def test_the_bytes_of_a_checkpoint_by_arithmetic(tmp_path, optimizer, copies):
    """As many as it takes, to within the names of its arrays."""
    one, total = room.needed(MODEL, Settings(optimizer=optimizer), keep=2)
    arrays = [np.zeros(one.shape, np.float32) for one in
              (*MODEL.weights, *copies * TRAINED, *MODEL.weights)]
    size = checkpoint.save(tmp_path, 1, arrays, {}).stat().st_size
    assert one <= size <= one + 400 * (len(arrays) + 1)
    assert total > 3 * one


def test_a_run_without_room_is_refused_with_the_bytes(tmp_path, monkeypatch):
    """What it has itself counts as room: a resumed run replaces it."""
    def check(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
        room.check(tmp_path, MODEL, Settings(), 2)

    _, total = room.needed(MODEL, Settings(), 2)
    check(total)
    with pytest.raises(InputError, match=rf"not enough room in {tmp_path}: {total / 1e6:,.0f} MB "
                       r"needed, 1 MB free \(3 checkpoints of .* --run"):
        check(1_000_000)
    own = checkpoint.save(tmp_path / "checkpoints", 1, [np.zeros(1_000_000)], {}).stat().st_size
    check(total - own)
    with pytest.raises(InputError):
        check(total - own - 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=r"cannot write .*step-000000001\.npz: Permission denied"):
        checkpoint.save(tmp_path, 1, [np.zeros(3)], {})
    tmp_path.chmod(0o700)


def test_a_vanished_folder_is_named(tmp_path):
    from hpc_deepfake.train.rundir import RunDir

    run = RunDir(tmp_path / "run")
    shutil.rmtree(run.path)
    for write in (lambda: run.write("summary.json", {}),
                  lambda: checkpoint.save(run.path / "checkpoints", 1, [np.zeros(3)], {})):
        with pytest.raises(InputError, match=rf"{run.path}"):
            write()
    assert not run.path.exists() and isinstance(run.path, Path)
