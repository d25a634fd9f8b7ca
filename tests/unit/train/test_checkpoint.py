"""Checkpoints: what was saved is loaded, or the checkpoint before it."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hpc_deepfake.train import checkpoint

META = {"state": {"epoch": 3, "loss": 0.1 + 0.2, "best": None}, "name": "ü"}


def arrays(seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.normal(size=(50, 40)).astype(np.float32), random.normal(size=7),
            np.array(seed, np.int64), np.empty((0, 3), np.float32),
            np.array([-0.0, 1e-45, 3e38], np.float32),
            *(np.full(2, number) for number in range(12))]  # array10 comes after array9


def save(folder: Path, *steps: int, keep: int = 9) -> list[Path]:
    return [checkpoint.save(folder, step, arrays(step), {**META, "step": step}, keep)
            for step in steps]


def test_round_trip_is_bit_for_bit(tmp_path):
    """Types, shapes, values (NaN and -0 too) and order; also the floats of meta."""
    saved = [*arrays(), np.array([np.nan, np.inf], np.float32)]
    path = checkpoint.save(tmp_path / "checkpoints", 12, saved, META)
    loaded, meta = checkpoint.load(path)
    assert meta == META
    for array, expected in zip(loaded, saved, strict=True):
        assert array.dtype == expected.dtype and array.shape == expected.shape
        assert array.tobytes() == expected.tobytes()
    assert path.name == "step-000000012.npz"


def test_no_temporary_file_is_left(tmp_path):
    save(tmp_path, 1, 2)
    assert sorted(os.listdir(tmp_path)) == ["step-000000001.npz", "step-000000002.npz"]


def test_the_newest_are_kept(tmp_path):
    """By step, not by name or time, newest first; a step saved again replaces the older file."""
    save(tmp_path, 9, 10, 100, 99_999, keep=2)
    assert [path.name for path in checkpoint.found(tmp_path)] == [
        "step-000099999.npz", "step-000000100.npz"]
    path, = save(tmp_path, 100, keep=2)
    assert len(checkpoint.found(tmp_path)) == 2
    assert checkpoint.load(path)[1]["step"] == 100
    save(tmp_path, 200_000, keep=1)
    assert [path.name for path in checkpoint.found(tmp_path)] == ["step-000200000.npz"]


def test_the_last_whole_one_stays_until_there_is_another(tmp_path):
    """With ``keep=1`` and a damaged newer one: set aside, it neither counts nor is deleted."""
    good, bad = save(tmp_path, 1, 9)
    cut(bad)
    aside = checkpoint.set_aside(bad)
    assert checkpoint.found(tmp_path) == [good]
    new, = save(tmp_path, 5, keep=1)
    assert checkpoint.found(tmp_path) == [new] and aside.exists()
    # even where nobody has set it aside: what was just written is whole, and stays
    good, bad = save(tmp_path, 6, 9)
    cut(bad)
    new, = save(tmp_path, 7, keep=1)
    assert checkpoint.load_newest(tmp_path)[1]["step"] == 7


def test_other_files_are_neither_listed_nor_deleted(tmp_path):
    others = {".new-step-000000009.npz", "step-9.npz", "notes.txt", "step-000000009.npz.bak"}
    for name in others:
        (tmp_path / name).write_text("other")
    save(tmp_path, 1, 2, 3, keep=1)
    assert [path.name for path in checkpoint.found(tmp_path)] == ["step-000000003.npz"]
    assert others < set(os.listdir(tmp_path))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_checkpoint_of_a_diverged_training_is_passed_over(tmp_path, bad):
    """As a damaged one: the one before it is used, and without one there is an error."""
    save(tmp_path, 1)
    checkpoint.save(tmp_path, 2, [*arrays(), np.array([1.0, bad], np.float32)], META)
    loaded, meta, problems = checkpoint.load_newest(tmp_path)
    assert meta["step"] == 1 and len(loaded) == len(arrays())
    problem, = problems
    assert "step-000000002.npz has numbers that are not finite" in problem
    checkpoint.found(tmp_path)[1].unlink()
    with pytest.raises(ValueError, match="not finite"):
        checkpoint.load_newest(tmp_path)


def test_no_folder_and_no_checkpoint(tmp_path):
    assert checkpoint.found(tmp_path / "none") == []
    assert checkpoint.load_newest(tmp_path / "none") is None
    assert checkpoint.load_newest(tmp_path) is None


def test_a_failing_save_leaves_the_older_ones(tmp_path, monkeypatch):
    """If the disk is full, there is no new or temporary file, and nothing is deleted; the next save
    works."""
    save(tmp_path, 1, 2, keep=2)

    def full(file, **_):
        file.write(b"PK half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="No space"):
            save(tmp_path, 3, keep=2)
    assert sorted(path.name[-5:] for path in tmp_path.iterdir()) == ["1.npz", "2.npz"]
    assert checkpoint.load_newest(tmp_path)[1]["step"] == 2
    save(tmp_path, 3, keep=2)
    assert sorted(os.listdir(tmp_path)) == ["step-000000002.npz", "step-000000003.npz"]


def test_it_is_synced_to_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    """First fsync of the file, then rename, then fsync of the folder; only then are older ones
    deleted."""
    calls = []
    originals = {name: getattr(os, name) for name in ("fsync", "replace")}

    def note(name):
        def function(*arguments):
            calls.append((name, len(checkpoint.found(tmp_path))))
            return originals[name](*arguments)
        return function

    save(tmp_path, 1)
    for name in originals:
        monkeypatch.setattr(os, name, note(name))
    save(tmp_path, 2, keep=1)
    assert calls == [("fsync", 1), ("replace", 1), ("fsync", 2)]
    assert len(checkpoint.found(tmp_path)) == 1


def flip(path: Path, place: int, bit: int = 0x10) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= bit
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3000])


def inside(path: Path, name: str) -> int:
    """Position of an array's values in the file."""
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo(f"{name}.npy").header_offset
    return path.read_bytes().index(b"NUMPY", start) + 300


def shorten(path: Path) -> None:
    """A flipped bit turns the 50 rows of the first array into 10, which still fit the file."""
    flip(path, path.read_bytes().index(b"(50, 40)") + 1, 4)


def write_array(path: Path) -> None:
    with open(path, "wb") as file:
        np.save(file, np.zeros(9))


DAMAGES = {
    "cut": cut,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no checkpoint"),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "array": lambda path: flip(path, inside(path, "array0")),
    "last array": lambda path: flip(path, path.read_bytes().rindex(b"NUMPY") + 125),
    "meta": lambda path: flip(path, path.read_bytes().index(b'"epoch"') + 2),
    "header": lambda path: flip(path, path.read_bytes().index(b"descr")),
    "directory": lambda path: flip(path, path.read_bytes().rindex(b"PK\x01\x02") + 20),
    "zip's method": lambda path: flip(path, path.read_bytes().index(b"PK\x01\x02") + 10),
    "zip's flags": lambda path: flip(path, path.read_bytes().index(b"PK\x01\x02") + 8, 1),
    "shape": shorten,
    "another file": write_array,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_is_skipped(tmp_path, damage):
    """Whatever the damage, even one flipped bit: the checkpoint before it is loaded, and the reason
    is returned."""
    good, bad = save(tmp_path, 1, 2)
    DAMAGES[damage](bad)
    with pytest.raises(ValueError, match=r"step-000000002\.npz is damaged"):
        checkpoint.load(bad)
    loaded, meta, problems = checkpoint.load_newest(tmp_path)
    assert meta["step"] == 1 and np.array_equal(loaded[0], arrays(1)[0])
    assert len(problems) == 1 and "step-000000002.npz is damaged" in problems[0]
    assert good.exists() and bad.exists(), "loading must delete nothing"


def test_every_flipped_bit_is_detected_or_harmless(tmp_path):
    """For one bit at each of 300 places in a small file: either ValueError, or everything is loaded
    as it was saved."""
    values = [np.arange(100, dtype=np.float32), np.arange(3)]
    path = checkpoint.save(tmp_path, 1, values, META)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for place in random.integers(0, len(whole), 300).tolist():
        content = bytearray(whole)
        content[place] ^= 1 << int(random.integers(8))
        path.write_bytes(content)
        try:
            loaded, meta = checkpoint.load(path)
        except ValueError as error:
            assert "is damaged" in str(error)
            continue
        assert meta == META, place
        assert len(loaded) == 2
        for array, expected in zip(loaded, values, strict=True):
            assert np.array_equal(array, expected), place


def test_all_damaged_is_an_error_that_names_all(tmp_path):
    """Starting from the beginning without a message would throw the run away."""
    for path in save(tmp_path, 1, 2, 3):
        cut(path)
    with pytest.raises(ValueError) as caught:
        checkpoint.load_newest(tmp_path)
    assert [number for number in (1, 2, 3) if f"step-00000000{number}" in str(caught.value)] \
        == [1, 2, 3]


class Harmful:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["array0", "meta"])
def test_nothing_is_unpickled(tmp_path, name):
    """A file with a Python object inside counts as damaged, and the object is not created."""
    mark = tmp_path / "called"
    values = {"meta": np.frombuffer(json.dumps(META).encode(), np.uint8), "array0": np.zeros(3)}
    values[name] = np.array([Harmful(mark)], object)
    np.savez(tmp_path / "step-000000001.npz", **values)
    with pytest.raises(ValueError, match="is damaged"):
        checkpoint.load_newest(tmp_path)
    assert not mark.exists()


def test_an_intact_file_with_other_content_is_damaged(tmp_path):
    """An npz without meta or with broken meta, or with a gap in its arrays."""
    np.savez(tmp_path / "step-000000001.npz", array0=np.zeros(3))
    np.savez(tmp_path / "step-000000002.npz", array1=np.zeros(3),
             meta=np.frombuffer(b"{}", np.uint8))
    np.savez(tmp_path / "step-000000003.npz", meta=np.frombuffer(b"[1", np.uint8))
    for path in checkpoint.found(tmp_path):
        with pytest.raises(ValueError, match="is damaged"):
            checkpoint.load(path)
