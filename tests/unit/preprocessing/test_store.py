"""The data file: its layout, what it must not contain, and what is rejected."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
from pathlib import Path
from urllib.parse import unquote_to_bytes

import h5py
import numpy as np
import pytest

from hpc_deepfake.core.errors import InputError
from preprocessing import facts, store
from preprocessing.catalogue import Catalogue
from preprocessing.ela import Parameters
from preprocessing.integrity import damaged_rows
from preprocessing.store import ALIGNMENT, Recipe, check_same, checksum, open_header


def catalogue(rows: int) -> Catalogue:
    paths = [b"Au/%05d \xff.jpg" % row for row in range(rows)]
    numbers = np.arange(rows, dtype=np.int32)
    return Catalogue({"": Path("/nowhere")}, paths, (numbers % 2).astype("u1"), numbers // 2)


def recipe(rows: int, **changes) -> Recipe:
    values = {"features": ("ela", "raw"), "parameters": Parameters(), "split": "80/20",
              "split_by": "group", "seed": 0, "digest": "abc", "rows": rows}
    return Recipe(**{**values, **changes})


def create(path: Path, rows: int = 5, **changes) -> Path:
    store.create(path, catalogue(rows), np.zeros(rows, np.uint8), recipe(rows, **changes))
    return path


@pytest.mark.parametrize("rows", [1, 5, 40_000])
def test_schema(tmp_path, rows):
    """Types, shapes, layout and alignment of docs/file-format.md, also where labels fill a MiB."""
    path = create(tmp_path / "x.h5", rows, parameters=Parameters(size=8))
    expected = {"ela": ("u1", (rows, 8, 8, 3)), "raw": ("u1", (rows, 8, 8, 3)),
              "label": ("u1", (rows,)), "group": ("i4", (rows,)), "split": ("u1", (rows,)),
              "status": ("u1", (rows,)), "crc32": ("u4", (rows,)), "path": (None, (rows,)),
              "digest": ("u1", (rows, 16)), "width": ("u4", (rows,)), "height": ("u4", (rows,)),
              "format": ("u1", (rows,)), "quality": ("u1", (rows,))}
    with h5py.File(path) as file:
        assert set(file) == set(expected)
        for name, (kind, shape) in expected.items():
            data = file[name]
            assert data.shape == shape
            assert data.dtype.kind == "S" if kind is None else data.dtype == kind
            how = data.id.get_create_plist()
            assert how.get_layout() == h5py.h5d.CONTIGUOUS
            assert how.get_alloc_time() == h5py.h5d.ALLOC_TIME_EARLY
            assert how.get_fill_time() == h5py.h5d.FILL_TIME_NEVER
            assert h5py.h5g.get_objinfo(data.id).mtime == 0
            if data.nbytes >= 1 << 15:
                assert data.id.get_offset() % ALIGNMENT == 0
        assert file.id.get_create_plist().get_version()[0] == 0, "the old superblock"
        assert file["path"][0] == b"Au/00000%20%FF.jpg"
        assert not any(file[name][:].any() for name in ("status", "crc32", *facts.COLUMNS))
        assert np.array_equal(file["label"][:], catalogue(rows).labels)
        assert np.array_equal(file["group"][:], catalogue(rows).groups)
        assert {key: json.loads(bytes(value)) for key, value in file.attrs.items()} == {
            "schema": 1, "rows": rows, "features": ["ela", "raw"], "split": "80/20",
            "split_by": "group", "seed": 0, "files": "abc",
            "ela": {"quality": 90, "size": 8, "subsampling": "4:2:0"}}


def test_a_file_with_masks(tmp_path):
    """One more dataset and attribute, both or none; the checksum covers it."""
    path = create(tmp_path / "x.h5", masks="digest")
    header = open_header(path)
    assert header.has_masks and header.summed == ("ela", "raw", "mask")
    assert header.shapes["mask"] == (5, 128, 128) and header.offsets["mask"] % ALIGNMENT == 0
    assert header.attributes["masks"] == "digest"
    header.array("crc32", "r+")[:] = checksum([np.zeros(7 * 128 * 128, np.uint8)])
    assert damaged_rows(header, np.arange(5)).tolist() == []
    header.array("mask", "r+")[2, 127, 127] = 255
    assert damaged_rows(header, np.arange(5)).tolist() == [2]
    for change in ({}, {"masks": "other"}):
        with pytest.raises(InputError, match=r"differs in: ground-truth masks \("):
            check_same(header, recipe(5, **change))
    with pytest.raises(InputError, match=r"differs in: ground-truth masks \("):
        check_same(open_header(create(tmp_path / "y.h5")), recipe(5, masks="digest"))
    with h5py.File(path, "r+") as file:
        del file["mask"]
    with pytest.raises(InputError, match="damaged: it has no dataset mask"):
        open_header(path)


def test_features_of_full_size_are_aligned(tmp_path):
    header = open_header(create(tmp_path / "x.h5"))
    assert header.shapes["ela"] == (5, 128, 128, 3)
    assert header.offsets["ela"] % ALIGNMENT == header.offsets["raw"] % ALIGNMENT == 0
    assert header.rows == 5 and header.features == ("ela", "raw")
    assert header.parameters == Parameters()


def test_the_file_does_not_depend_on_time_host_or_folder(tmp_path, monkeypatch):
    first = create(tmp_path / "x.h5").read_bytes()
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert create(Path("deep/other name.h5")).read_bytes() == first
    assert platform.node().encode() not in first
    assert b"/nowhere" not in first and bytes(tmp_path) not in first


def test_rows_are_where_the_header_says(tmp_path):
    """Mapped from the page cache, without HDF5."""
    path = create(tmp_path / "x.h5")
    rows = np.random.default_rng(0).integers(0, 256, (5, 128, 128, 3), np.uint8)
    header = open_header(path)
    header.array("raw", "r+")[...] = rows
    with h5py.File(path) as file:
        assert np.array_equal(file["raw"][:], rows)
        assert not file["ela"][:].any()


def test_a_wrong_byte_is_detected(tmp_path):
    header = open_header(create(tmp_path / "x.h5"))
    rows = np.random.default_rng(0).integers(0, 256, (2, 5, 128, 128, 3), np.uint8)
    sums = [checksum([rows[0, row], rows[1, row]]) for row in range(5)]
    header.array("ela", "r+")[...], header.array("raw", "r+")[...] = rows
    header.array("crc32", "r+")[...] = sums
    assert damaged_rows(header, np.arange(5)).tolist() == []
    header.array("raw", "r+")[3, 127, 127, 2] ^= 1
    header.array("crc32", "r+")[1] ^= 1 << 31
    assert damaged_rows(header, np.arange(5)).tolist() == [1, 3]
    assert damaged_rows(header, np.array([0, 3])).tolist() == [3]
    assert checksum([rows[0, 0], rows[1, 0]]) != checksum([rows[1, 0], rows[0, 0]])
    assert checksum([rows[0, 0][..., ::-1]]) == checksum([rows[0, 0][..., ::-1].copy()])


def test_a_file_left_by_a_killed_run_is_overwritten(tmp_path):
    clean = create(tmp_path / "a.h5").read_bytes()
    for name in (".new-b.h5", ".new-01234567-b.h5"):
        (tmp_path / name).write_bytes(b"half a file" * 10**6)
    assert create(tmp_path / "b.h5").read_bytes() == clean
    assert {file.name for file in tmp_path.iterdir()} == {"a.h5", "b.h5"}


def kill_at(owner: object, name: str, count: int) -> None:
    """SIGKILL for this process when ``owner.name`` is called for the ``count``-th time."""
    real, calls = getattr(owner, name), iter(range(1, 100))

    def instead(*args, **kwargs):
        if next(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    setattr(owner, name, instead)


@pytest.mark.parametrize(("owner", "name", "counts"), [
    (store, "allocate", range(1, 9)), (os, "fsync", [1]), (os, "replace", [1]),
    (h5py.File, "__exit__", [1])])
def test_killed_during_creation(tmp_path, owner, name, counts):
    """kill -9 at any step: no incomplete data file, and the next run creates the same one."""
    clean = create(tmp_path / "clean.h5").read_bytes()
    path = tmp_path / "x.h5"
    for count in counts:
        child = os.fork()
        if child == 0:
            kill_at(owner, name, count)
            create(path)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        assert not path.exists(), f"{name} {count}"
    left = list(tmp_path.glob(".new-*-x.h5"))
    assert len(left) == 1
    assert create(path).read_bytes() == clean
    assert not left[0].exists()


def test_too_little_space_is_reported_before_anything_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    with pytest.raises(InputError, match=r"not enough space for .*x\.h5: 0\.1 GB needed, 0\.0 GB "
                                         r"free; choose another place with --out"):
        create(tmp_path / "x.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_data_file(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot write .*: No space left on device; choose"):
        create(tmp_path / "x.h5")
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "x.h5", Path("/proc/nowhere/x.h5")):
        with pytest.raises(InputError, match=r"cannot write [^\n]{1,150}; choose another place"):
            create(path)


def test_other_files_are_rejected(tmp_path):
    with pytest.raises(InputError, match=r"no data file(.|\n)*--data DIR --out '.*my file.h5'"):
        open_header(tmp_path / "my file.h5")
    text = tmp_path / "text.h5"
    text.write_text("no HDF5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["ela"] = np.zeros(3)
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file.attrs["x"] = [1, 2]
        file.create_group("label")
    for name in ("text.h5", "other.h5", "odd.h5"):
        with pytest.raises(InputError, match="not a data file of this project"):
            open_header(tmp_path / name)


def test_another_schema_a_missing_dataset_and_a_truncated_file_are_rejected(tmp_path):
    path = create(tmp_path / "x.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["schema"] = np.bytes_(b"2")
    with pytest.raises(InputError, match="has schema 2, not 1"):
        open_header(path)
    path = create(tmp_path / "y.h5")
    with h5py.File(path, "r+") as file:
        del file["crc32"]
    with pytest.raises(InputError, match="schema"):
        open_header(path)
    path = create(tmp_path / "z.h5")
    with open(path, "rb+") as file:
        file.truncate(path.stat().st_size - 10)
    with pytest.raises(InputError, match=r"damaged|cut off"):
        open_header(path)


def test_drawn_pictures_are_recorded_and_a_file_from_before_is_continued(tmp_path):
    drawn = create(tmp_path / "x.h5", sample=True)
    assert open_header(drawn).attributes["sample"] is True
    check_same(open_header(drawn), recipe(5, sample=True))
    check_same(open_header(create(tmp_path / "y.h5")), recipe(5, sample=True))


def test_facts_are_read_back_and_a_file_from_before_has_none(tmp_path):
    path = create(tmp_path / "x.h5")
    header = open_header(path)
    known = (facts.Facts(640, 480, "JPEG", 87), bytes(range(16)))
    for name, values in facts.columns([*[facts.NOTHING] * 3, known, facts.NOTHING]).items():
        assert (values[:3] == facts.empty(3)[name]).all() and values.dtype == header.types[name]
        header.array(name, "r+")[...] = values
    header.array("format", "r+")[4] = 200  # of a later version
    assert facts.stored(header, np.array([3, 0, 4])) == [
        facts.Facts(640, 480, "JPEG", 87), facts.Facts(), facts.Facts()]
    assert header.array("digest")[3].tobytes() == bytes(range(16))
    with h5py.File(path, "r+") as file:
        del file["height"]
    header = open_header(path)
    assert not header.has_facts and facts.stored(header, np.arange(5)) is None


@pytest.mark.parametrize("name", sorted(facts.COLUMNS))
def test_facts_of_another_form_are_rejected(tmp_path, name):
    path = create(tmp_path / "x.h5")
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = np.zeros(4, "u2")
    with pytest.raises(InputError, match=f"damaged: {name} is uint16"):
        open_header(path)


@pytest.mark.parametrize(("changes", "named"), [
    ({"features": ("ela",)}, "features"), ({"parameters": Parameters(80)}, "ELA parameters"),
    ({"split": "70/30"}, "split"), ({"split_by": "image"}, "split_by"), ({"seed": 1}, "seed"),
    ({"digest": "abd"}, "list of pictures"), ({"rows": 6}, "number of pictures")])
def test_another_recipe_is_rejected_with_the_differences(tmp_path, changes, named):
    header = open_header(create(tmp_path / "x.h5"))
    check_same(header, recipe(5))
    expected = {"rows": 5, **changes}
    with pytest.raises(InputError, match=f"differs in: {named}.*another --out"):
        check_same(header, recipe(**expected))


def test_pictures_that_make_a_list_another_are_named(tmp_path):
    header = open_header(create(tmp_path / "x.h5"))
    paths, labels = (header.array(name).tolist() for name in ("path", "label"))
    found = []
    for rows in ([*range(5), 0], range(3), [4, 3, 2, 1, 0], range(5)):
        listing = Catalogue({}, [*map(unquote_to_bytes, (paths[row] for row in rows))],
                            np.array([labels[row] for row in rows], np.uint8), np.arange(len(rows)))
        if len(rows) > 5:
            listing.paths[5] = b"new one.jpg"
        if rows == range(5):
            listing.labels[1] ^= 1
        with pytest.raises(InputError) as caught:
            check_same(header, recipe(len(rows), digest="abd"), listing)
        found.append(str(caught.value).partition("list of pictures (")[2].partition(")")[0])
    assert found == [
        "1 only in the list: new%20one.jpg", f"2 only in the file: {paths[3].decode()} …",
        "in another order", f"1 with another label: {paths[1].decode()}"]


@pytest.mark.parametrize(("rare", "named"), [({"group_by": "name"}, "--group-by"),
                                             ({"given": "ab"}, "groups and parts of the list")])
def test_attributes_that_few_files_have_are_compared_both_ways(tmp_path, rare, named):
    plain, other = (open_header(create(tmp_path / f"{len(changes)}.h5", **changes))
                    for changes in ({}, rare))
    check_same(other, recipe(5, **rare))
    for header, changes in ((plain, rare), (other, {})):
        with pytest.raises(InputError, match=f"differs in: {named}"):
            check_same(header, recipe(5, **changes))


def test_an_unavailable_writer_is_rejected(tmp_path, monkeypatch):
    header = open_header(create(tmp_path / "x.h5"))
    monkeypatch.setattr(h5py, "get_config", lambda: type("Config", (), {"mpi": False}))
    with pytest.raises(InputError, match="use --writer mpi-io") as caught:
        store.open_writer(header, None, "hdf5")
    assert caught.value.everywhere
