"""Rows for training: selection, order, shares and ways of reading."""

from __future__ import annotations

import errno
import threading
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import psutil
import pytest
from speed import limit

from hpc_deepfake.core import memory
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.data import inputs
from hpc_deepfake.data.inputs import INPUTS, MappedRows, PositionedRows, file_system
from hpc_deepfake.data.rows import (
    check_trainable,
    epoch_order,
    open_data,
    prefetch,
    share,
)
from hpc_deepfake.strategies.base import Done, Strategy
from preprocessing import store
from preprocessing.catalogue import Catalogue
from preprocessing.ela import Parameters
from preprocessing.store import DONE, PENDING, REJECTED

ROWS = 30


@pytest.fixture
def make(tmp_path):
    """A complete data file of small pictures, all different; 18 rows train, 6 validation, 6
    test."""
    def file(status: dict[int, int] | None = None, features: tuple[str, ...] = ("ela", "raw"),
             labels: np.ndarray | None = None, masks: str = "") -> Path:
        path = tmp_path / "features.h5"
        numbers = np.arange(ROWS, dtype=np.int32)
        labels = (numbers % 2).astype("u1") if labels is None else labels
        catalogue = Catalogue({"": Path("/nowhere")}, [b"Au/%05d.jpg" % n for n in numbers],
                              labels, numbers // 2)
        parts = np.repeat(np.array([0, 1, 2], "u1"), [18, 6, 6])
        store.create(path, catalogue, parts, store.Recipe(
            features, Parameters(size=8), "60/20/20", "group", 0, "abc", ROWS, masks=masks))
        header = store.open_header(path)
        random = np.random.default_rng(0)
        for name in header.summed:
            pictures = header.array(name, "r+")
            pictures[:] = random.integers(0, 256, pictures.shape)
        marks = header.array("status", "r+")
        marks[:] = DONE
        for row, value in (status or {}).items():
            marks[row] = value
        return path

    return file


def test_a_missing_file_is_an_input_error_with_the_command_to_make_one(tmp_path):
    with pytest.raises(InputError, match=r"(?s)no data file.*-m preprocessing"):
        open_data(tmp_path / "none.h5", "ela")


def test_another_kind_of_file_is_an_input_error(tmp_path):
    (tmp_path / "x.h5").write_bytes(b"no HDF5 at all" * 100)
    with pytest.raises(InputError, match="not a data file"):
        open_data(tmp_path / "x.h5", "ela")


def test_an_unknown_feature_is_rejected_with_those_of_the_file(make):
    for name, missing, advice in (("gray", "gray", "name one of them with --feature"),
                                  ("ela+gray", "gray", "name one of them with --feature"),
                                  ("gray_bits", "gray_bits", "--features gray_bits and another"),
                                  ("ela+gray_bits", "gray_bits", "--features ela gray_bits and")):
        with pytest.raises(InputError, match=f"no feature '{missing}', only ela, raw.*{advice}"):
            open_data(make(), name)


def test_a_dataset_that_is_not_a_feature_is_rejected(make):
    """``label`` and ``path`` are in the file, but are not pictures."""
    for name in ("label", "path", ""):
        with pytest.raises(InputError, match="no feature"):
            open_data(make(), name)


def test_an_unfinished_file_is_rejected(make):
    """With the number of pending rows and what to do."""
    with pytest.raises(InputError, match=r"2 of 30 pictures are pending; run the same"):
        open_data(make({3: PENDING, 20: PENDING, 4: REJECTED}), "ela")


def test_rejected_rows_are_left_out(make):
    """Of their own part and of all; the other rows keep their numbers."""
    data = open_data(make({0: REJECTED, 17: REJECTED, 18: REJECTED, 29: REJECTED}), "ela")
    assert data.rows("train").tolist() == list(range(1, 17))
    assert data.rows("validation").tolist() == list(range(19, 24))
    assert data.rows("test").tolist() == list(range(24, 29))
    assert data.rows("all").tolist() == [r for r in range(30) if r not in (0, 17, 18, 29)]
    assert data.rows("train").dtype == np.int64


@pytest.mark.parametrize("feature", ["ela", "raw"])
def test_all_ways_of_reading_give_the_same_pictures(make, feature):
    """mmap, read and memory: rows in any order, repeated rows, the last row and no rows."""
    path = make()
    whole = np.array(store.open_header(path).array(feature))
    for mode in INPUTS[1:]:
        data = open_data(path, feature, mode)
        assert data.input == mode
        for rows in ([5, 0, 29, 5], [29], [], list(range(30))):
            pictures, labels = data.batch(np.array(rows, np.int64))
            assert pictures.dtype == np.uint8 and pictures.shape == (len(rows), 8, 8, 3)
            assert np.array_equal(pictures, whole[rows]), (mode, rows)
            assert labels.tolist() == [row % 2 for row in rows]


def test_masks_are_read_like_the_pictures(make):
    """Held in memory only if they are used; a file without them has none."""
    path = make(masks="digest")
    whole = np.array(store.open_header(path).array("mask"))
    for mode, used, kind in (("mmap", True, MappedRows), ("read", True, PositionedRows),
                             ("memory", True, np.ndarray), ("memory", False, PositionedRows)):
        masks = open_data(path, "raw", mode, masks=used).masks
        assert isinstance(masks, kind)
        for rows in ([5, 0, 29, 5], []):
            found = masks[np.array(rows, np.int64)]
            assert found.dtype == np.uint8 and np.array_equal(found, whole[rows])
    assert open_data(make(), "raw", masks=True).masks is None


def test_ways_of_reading_differ_in_what_they_hold(make):
    """mmap maps the file, memory holds a copy, read holds no pictures."""
    path = make()
    kinds = [type(open_data(path, "ela", mode).pictures) for mode in ("mmap", "memory", "read")]
    assert kinds == [MappedRows, np.ndarray, PositionedRows]


@pytest.mark.parametrize("mode", ["read", "nfs", "mmap"])
def test_reading_a_file_that_was_cut_off_fails(make, mode, monkeypatch):
    """Between opening and reading, also by several threads: a message, not invented pixels or a
    signal."""
    path = make(features=("ela",))
    if mode == "nfs":
        monkeypatch.setattr(inputs, "file_system", lambda path: "nfs")
        mode = "read"
    data = open_data(path, "ela", mode)
    with open(path, "rb+") as file:
        file.truncate(data.header.offsets["ela"] + 20 * 192 + 5)
    if mode == "read":
        data.batch(np.array([19]))
    with pytest.raises(InputError, match=r"features\.h5 was cut off while it was in use"):
        data.batch(np.array([3, 20]))


def test_rows_of_a_network_file_system_are_read_at_once_and_adjacent_ones_together(
        make, monkeypatch):
    """Four reads wait for each other; 3, 4, 5 is one of them."""
    path = make(features=("ela",))
    whole = np.array(store.open_header(path).array("ela"))
    monkeypatch.setattr(inputs, "file_system", lambda path: "nfs")
    data = open_data(path, "ela", "read")
    together, read, sizes = threading.Barrier(4), inputs.os.preadv, []

    def preadv(descriptor, buffers, place, flags=0):
        if flags:
            raise OSError(errno.EOPNOTSUPP, "as NFS")
        together.wait(limit(10))  # BrokenBarrierError unless four threads come
        sizes.append(sum(map(len, buffers)))
        return read(descriptor, buffers, place)

    monkeypatch.setattr(inputs.os, "preadv", preadv)
    rows = np.array([9, 3, 4, 5, 20, 0])
    assert np.array_equal(data.batch(rows)[0], whole[rows])
    row = whole[0].nbytes
    assert sorted(sizes) == [row, row, row, 3 * row]


@pytest.mark.parametrize("mode", ["read", "mmap"])
def test_the_system_is_told_of_all_absent_rows_before_the_first_is_waited_for(
        make, mode, monkeypatch):
    """Where they are in the file, so that all of them are under way at once."""
    path = make(features=("ela",))
    data = open_data(path, "ela", mode)
    told, read = [], inputs.os.preadv

    def preadv(descriptor, buffers, place, flags=0):
        if flags:
            raise BlockingIOError(errno.EAGAIN, "not in the page cache")
        assert len(told) == 3
        return read(descriptor, buffers, place)

    monkeypatch.setattr(inputs.os, "preadv", preadv)
    monkeypatch.setattr(inputs.os, "posix_fadvise", lambda _, *place: told.append(place))
    whole = np.array(data.header.array("ela"))
    rows = np.array([7, 8, 29, 2])
    assert np.array_equal(data.batch(rows)[0], whole[rows])
    start, row = data.header.offsets["ela"], whole[0].nbytes
    assert told == [(start + number * row, count * row, inputs.os.POSIX_FADV_WILLNEED)
                    for number, count in ((7, 2), (29, 1), (2, 1))]


def test_rows_in_the_page_cache_are_read_by_one_call_each(make, monkeypatch):
    """Without hints and threads, which take longer than to copy them."""
    data = open_data(make(features=("ela",)), "ela", "read")
    calls, read = [], inputs.os.preadv

    def preadv(*args):
        calls.append(args)
        return read(*args[:3])

    monkeypatch.setattr(inputs.os, "preadv", preadv)
    monkeypatch.setattr(inputs.os, "posix_fadvise", None)
    whole = np.array(data.header.array("ela"))
    rows = np.array([7, 29, 2])
    assert np.array_equal(data.batch(rows)[0], whole[rows])
    assert len(calls) == 3


@pytest.mark.parametrize("mode", INPUTS[1:])
def test_a_file_that_another_replaces_stays_the_one_that_was_opened(make, mode):
    """Pictures, labels and paths."""
    path = make()
    data = open_data(path, "ela", mode)
    before = data.batch(np.arange(ROWS))[0].copy()
    path.rename(path.with_name("old.h5"))
    header = store.open_header(make(labels=np.ones(ROWS, "u1")))
    header.array("ela", "r+")[:] = 0
    header.array("path", "r+")[:] = b"Tp/else.jpg"
    pictures, labels = data.batch(np.arange(ROWS))
    assert np.array_equal(pictures, before) and labels.tolist() == [0, 1] * (ROWS // 2)
    assert data.paths[29] == b"Au/00029.jpg"


@pytest.mark.parametrize(("kind", "free", "chosen"), [
    ("ext4", 10**9, "mmap"), ("xfs", 0, "mmap"), ("tmpfs", 10**9, "mmap"), ("", 10**9, "mmap"),
    ("lustre", 10**9, "memory"), ("nfs4", 10**9, "memory"), ("lustre", 4 * ROWS * 192, "read"),
    ("nfs", 4 * ROWS * 192 + 4, "memory"), ("fuse", 0, "read")])
def test_auto_chooses_by_the_file_system(make, monkeypatch, kind, free, chosen):
    """A local file is mapped; a remote one is held in memory if it needs less than a quarter of the
    free memory, else read."""
    monkeypatch.setattr(inputs, "file_system", lambda path: kind)
    monkeypatch.setattr(memory, "available", lambda: free)
    assert open_data(make(), "ela").input == chosen


def test_auto_counts_the_masks_that_are_used(make, monkeypatch):
    monkeypatch.setattr(inputs, "file_system", lambda path: "nfs")
    monkeypatch.setattr(memory, "available", lambda: 4 * ROWS * 192 + 4)
    path = make(masks="digest")
    assert [open_data(path, "ela", masks=used).input for used in (False, True)] == [
        "memory", "read"]


def test_file_system_is_that_of_the_innermost_mount(monkeypatch, tmp_path):
    """Through symbolic links; ``fuse.sshfs`` counts as ``fuse``."""
    here = tmp_path.resolve()
    (here / "scratch" / "me").mkdir(parents=True)
    (here / "link").symlink_to(here / "scratch" / "me")
    part = namedtuple("Part", "mountpoint fstype")
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: [
        part("/", "overlay"), part(str(here / "scratch"), "lustre"),
        part(str(here / "scratch" / "me"), "fuse.sshfs"), part(str(here / "scra"), "nfs")])
    assert file_system(here / "scratch" / "x.h5") == "lustre"
    assert file_system(here / "link" / "x.h5") == "fuse"
    assert file_system(here / "x.h5") == "overlay"
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: [])
    assert file_system(here) == ""


@pytest.mark.parametrize(("change", "message"), [
    (range(0, 18, 2), "the train part .* one class only"),
    (range(19, 24, 2), "the validation part .* one class only"),
    (range(18, 24), "the validation part .* has none")])
def test_training_needs_both_classes_in_both_parts(make, change, message):
    """Rejected rows don't count."""
    check_trainable(open_data(make({25: REJECTED}), "ela"))
    with pytest.raises(InputError, match=message):
        check_trainable(open_data(make(dict.fromkeys(change, REJECTED)), "ela"))


def test_epoch_order_is_a_function_of_seed_and_epoch():
    """A permutation of the rows; the same again, another for another seed or epoch."""
    rows = np.arange(100, 400, 3)
    order = epoch_order(rows, 5, 2)
    assert sorted(order.tolist()) == rows.tolist()
    assert np.array_equal(order, epoch_order(rows, 5, 2))
    others = [epoch_order(rows, seed, epoch) for seed, epoch in ((5, 3), (6, 2), (2, 5), (0, 1))]
    assert not any(np.array_equal(order, other) for other in others)
    # not the order of the file, either: about half of all pairs are turned around
    turned = (np.subtract.outer(order, order) * np.subtract.outer(rows, rows) < 0).mean()
    assert 0.4 < turned < 0.6


def test_epoch_order_does_not_change_its_input():
    rows = np.arange(50)
    epoch_order(rows, 0, 1)
    assert np.array_equal(rows, np.arange(50))


@pytest.mark.parametrize("count", [0, 1, 3, 7, 96, 97])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
def test_shares_are_all_rows_in_near_equal_sizes(count, ranks):
    """Joined in rank order they are the list; sizes differ by at most one."""
    rows = np.arange(1000, 1000 + count)
    parts = [share(rows, rank, ranks) for rank in range(ranks)]
    assert np.concatenate(parts).tolist() == rows.tolist()
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


class Recorder(Strategy):
    """A strategy that only records the rows it is given."""

    def __init__(self, comm) -> None:
        super().__init__(comm)
        self.seen: list[list[np.ndarray]] = []
        self.rows: list[int] = []

    def step(self, batches, rows, step, wishes):
        self.seen.append([batch.pictures for batch in batches])
        self.rows.append(rows)
        return Done(1, rows, waited=float("nan"))


def epoch_of(rank: int, ranks: int, batch_size: int, accumulate: int, rows: int,
             done: int = 0) -> Recorder:
    """The rows that one rank gets in an epoch of the real training loop. A picture is its row."""
    pytest.importorskip("tensorflow")
    from hpc_deepfake.network.settings import Settings
    from hpc_deepfake.train.loop import Limits, State, Trainer

    part = namedtuple("Data", "rows batch")(lambda part: np.arange(rows),
                                            lambda numbers: (numbers, numbers % 2))
    comm = namedtuple("Comm", "rank size")(rank, ranks)
    strategy = Recorder(comm)
    trainer = Trainer(comm, strategy, part, Settings(batch_size=batch_size, accumulate=accumulate),
                      Limits(1, 0, 0.0, 1), None, False)
    trainer.state = State(rows_done=done)
    assert trainer._epoch()
    assert trainer.state.rows_done == rows
    return strategy


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize(("batch_size", "accumulate", "rows"), [
    (4, 1, 48), (4, 1, 49), (3, 1, 40), (2, 2, 49), (5, 3, 31), (50, 1, 7)])
def test_an_epoch_has_each_row_once_and_equal_steps_on_all_ranks(ranks, batch_size, accumulate,
                                                                 rows):
    """By the training loop itself, with whole and ragged last batches, fewer rows than ranks
    among them; each rank is told the global number of rows of every step."""
    recorders = [epoch_of(rank, ranks, batch_size, accumulate, rows) for rank in range(ranks)]
    steps = -(-rows // (batch_size * ranks * accumulate))
    assert {len(recorder.seen) for recorder in recorders} == {steps}
    seen = np.concatenate([part for recorder in recorders for step in recorder.seen
                           for part in step])
    assert sorted(seen.tolist()) == list(range(rows))
    for number in range(steps):
        total = sum(len(part) for recorder in recorders for part in recorder.seen[number])
        assert {recorder.rows[number] for recorder in recorders} == {total}
        assert all(len(recorder.seen[number]) == accumulate for recorder in recorders)
        assert all(len(part) <= batch_size for recorder in recorders
                   for part in recorder.seen[number])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_global_batch_has_the_same_rows_at_any_rank_count(accumulate):
    """For the same global batch of 24 rows, in the same order; also each micro-batch, and the last
    batch of 13 rows."""
    def micro_batches(ranks: int) -> list[list[int]]:
        recorders = [epoch_of(rank, ranks, 24 // ranks // accumulate, accumulate, 61)
                     for rank in range(ranks)]
        return [np.concatenate([recorder.seen[step][micro] for recorder in recorders]).tolist()
                for step in range(3) for micro in range(accumulate)]

    alone = micro_batches(1)
    assert [len(rows) for rows in alone] == ([24, 24, 13] if accumulate == 1
                                             else [12, 12, 12, 12, 7, 6])
    for ranks in (2, 3, 4):
        assert micro_batches(ranks) == alone


def test_an_epoch_is_resumed_in_the_middle():
    """After 24 rows the rest is the same as without the stop; with another number of ranks each
    remaining row still comes once."""
    whole = [part.tolist() for (part,) in epoch_of(0, 1, 12, 1, 61).seen]
    rest = [part.tolist() for (part,) in epoch_of(0, 1, 12, 1, 61, done=24).seen]
    assert rest == whole[2:]
    other = [part for rank in range(3) for (part,) in epoch_of(rank, 3, 7, 1, 61, 24).seen]
    assert sorted(np.concatenate(other).tolist()) == sorted(
        np.concatenate(rest).tolist())


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_prefetch_keeps_the_order(count):
    items = list(range(count))
    assert list(prefetch(lambda item: item * 10, items)) == [item * 10 for item in items]


def test_prefetch_works_ahead_by_one():
    """The next item is loaded while this one is used; the one after that is not loaded yet."""
    loaded, second = [], threading.Event()

    def load(item):
        loaded.append(item)
        if item == 1:
            second.set()
        return item

    items = prefetch(load, range(4))
    assert next(items) == 0
    assert second.wait(limit(10)), "nothing was loaded ahead"
    time.sleep(0.05)
    assert loaded == [0, 1]
    assert list(items) == [1, 2, 3]


def test_prefetch_raises_what_loading_raised_in_its_turn():
    """Items before the bad one arrive; its exception, with its message, comes in its place."""
    def load(item):
        if item == 2:
            raise OSError("row 2 of file is cut off")
        return item

    items = []
    with pytest.raises(OSError, match="row 2 of file is cut off"):
        for item in prefetch(load, range(5)):
            items.append(item)
    assert items == [0, 1]


def test_prefetch_with_several_threads_works_ahead_and_keeps_the_order():
    """While the first item is used, three others are loaded at the same time, and no fourth one;
    they come in order though the last of them is ready first."""
    begun, together, ready = [], threading.Barrier(3), threading.Event()

    def load(item):
        begun.append(item)
        if item in (1, 2, 3):
            together.wait(limit(10))  # BrokenBarrierError unless all three are under way
        if item == 1:
            assert ready.wait(limit(10))
        if item == 3:
            ready.set()
        return item

    items = prefetch(load, range(9), ahead=3, threads=3)
    assert next(items) == 0
    assert ready.wait(limit(10)), "three items weren't loaded at once"
    time.sleep(0.05)
    assert sorted(begun) == [0, 1, 2, 3]
    assert list(items) == list(range(1, 9))


def test_prefetch_is_left_without_loading_what_was_still_to_come():
    """Closing waits for the load under way, and drops those behind it."""
    begun, under_way = [], threading.Event()

    def load(item):
        begun.append(item)
        if item:
            under_way.set()
            while not items.gi_running:  # until it is being closed
                time.sleep(0.001)
            time.sleep(0.05)
        return item

    items = prefetch(load, range(100), ahead=50)
    next(items)
    assert under_way.wait(limit(10))
    items.close()
    assert begun == [0, 1]


def test_prefetch_leaves_no_thread():
    """Also when it is not used to its end."""
    before = threading.active_count()
    items = prefetch(lambda item: item, range(5))
    next(items)
    items.close()
    assert list(prefetch(lambda item: item, range(3))) == [0, 1, 2]
    assert threading.active_count() == before
