"""What a model's card and its list of pictures say of the training."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from hpc_deepfake.data.rows import DataFile, open_data
from hpc_deepfake.data.synthetic import synthetic
from hpc_deepfake.network.likeness import Profile
from hpc_deepfake.network.pictures import Pictures
from hpc_deepfake.train import provenance
from hpc_deepfake.train.saving import Later
from preprocessing import facts, store
from preprocessing.catalogue import SAMPLE_MARK, Catalogue
from preprocessing.ela import Parameters
from preprocessing.facts import Facts

ROWS = 24
PATHS = [b"CASIA2/Au/%d.jpg" % row if row % 2 == 0 else b"CASIA2/Tp/%d.jpg" % row
         for row in range(ROWS)]
LABELS = np.arange(ROWS, dtype=np.uint8) % 2
PARTS = np.array([0] * 16 + [1] * 6 + [2] * 2, np.uint8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A data file of 16 training, 6 validation and 2 test rows, with facts."""
    file = tmp_path / "data.h5"
    store.create(file, Catalogue({"": tmp_path}, PATHS, LABELS,
                                 np.arange(ROWS, dtype=np.int32) // 2),
                 PARTS, store.Recipe(("ela", "raw"), Parameters(size=16), "67/25/8", "group", 0,
                                     "abc", ROWS))
    header, random = store.open_header(file), np.random.default_rng(0)
    known = [(Facts(640, 480, "PNG") if row == 3 else Facts(100 + row, 50, "JPEG", 70 + row),
              bytes([row + 1] * 16)) for row in range(ROWS)]
    for name, values in facts.columns(known).items():
        header.array(name, "r+")[:] = values
    for feature in header.features:
        header.array(feature, "r+")[:] = random.integers(0, 256, header.shapes[feature], np.uint8)
    header.array("status", "r+")[:] = store.DONE
    Path(f"{file}.json").write_text(json.dumps({"roots": {"": str(tmp_path / "pictures")}}))
    return file


def of(path: Path) -> dict[str, Any]:
    data = open_data(path, "ela", "mmap")
    return provenance.trained_on(data, path, data.rows("train"), data.rows("validation"))


def test_what_a_model_was_trained_on(path: Path) -> None:
    known = of(path)
    likeness = known.pop("likeness")
    assert known == {
        "data": [{"name": "CASIA2", "pictures": 22, "authentic": 11, "tampered": 11}],
        "sample": False, "train": 16, "validation": 6, "width": [100, 108, 640],
        "height": [50, 50, 480], "formats": {"JPEG": 15, "PNG": 1},
        "qualities": {"min": 70, "median": 78, "max": 85}}
    profile = Profile.from_dict(json.loads(json.dumps(likeness)))
    assert (profile.pictures, profile.qualities) == (16, (70, 85))


def test_of_a_data_file_from_before_facts_are_unknown(path: Path, tmp_path: Path) -> None:
    """Whether the pictures are drawn is seen in their folder, as long as it is there."""
    with h5py.File(path, "r+") as file:
        for name in facts.COLUMNS:
            del file[name]
    known = of(path)
    assert [known[name] for name in ("width", "height", "formats", "qualities", "sample")] \
        == [None] * 5
    assert known["data"][0]["name"] == "CASIA2"
    (tmp_path / "pictures" / "CASIA2").mkdir(parents=True)
    assert of(path)["sample"] is False
    (tmp_path / "pictures" / "CASIA2" / SAMPLE_MARK).touch()
    assert of(path)["sample"] is True


def test_drawn_pictures_are_known_without_their_folder(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["sample"] = np.bytes_(b"true")
    Path(f"{path}.json").unlink()
    assert of(path)["sample"] is True


def test_forgeries_of_photographs_are_known_without_their_folder(path: Path) -> None:
    assert "forged" not in of(path)
    with h5py.File(path, "r+") as file:
        file.attrs["forged"] = np.bytes_(b"true")
    known = of(path)
    assert known["forged"] is True and known["sample"] is False


def test_random_data_are_called_so() -> None:
    data = synthetic(8, "ela", 0)
    known = provenance.trained_on(data, None, data.rows("train"), data.rows("validation"))
    assert known == {"random": True, "train": 8, "validation": 64}
    card = provenance.card(data, data.rows("validation"), np.full(64, 0.5), 1, known)
    assert card.validation is not None and card.validation["auc"] == 0.5
    assert len(card.caveats) == 2


def listed(data: DataFile, ranks: int, monkeypatch: pytest.MonkeyPatch) -> Pictures | None:
    """The list as gathered by rank 0 of ``ranks``, which are called one after another."""
    monkeypatch.setattr(provenance.mpi, "together", lambda comm, work: work())
    monkeypatch.setattr(provenance.mpi, "meet", lambda comm, what: None)
    sent: list[Pictures] = []
    for rank in reversed(range(ranks)):
        def gather(value: Pictures, rank: int = rank) -> list[Pictures] | None:
            sent.insert(0, value)
            return sent if rank == 0 else None

        comm: Any = SimpleNamespace(rank=rank, size=ranks, gather=gather)
        result = provenance.pictures(comm, data, data.rows("train"), data.rows("validation"))
        assert (result is None) == (rank > 0)
    return result


@pytest.mark.parametrize("feature", ["ela", "raw"])
def test_the_list_is_the_same_with_any_number_of_ranks(
        path: Path, feature: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_data(path, feature, "mmap")
    monkeypatch.setattr(provenance, "_BLOCK", 5)
    alone, many = listed(data, 1, monkeypatch), listed(data, 30, monkeypatch)
    raw = np.array(data.header.array("raw"))[:22]
    expected = Pictures.of(data.batch(np.arange(22))[0], raw, np.array(
        data.header.array("digest"))[:22], PARTS[:22])
    for field in fields(Pictures):
        for found in (alone, many):
            assert np.array_equal(getattr(found, field.name), getattr(expected, field.name))
    monkeypatch.setattr(provenance, "MOST_THUMBNAILS", 21)
    without = listed(data, 2, monkeypatch)
    assert without is not None and not len(without.thumb) and len(without) == 22


def test_rows_are_read_in_turn(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many at a time as have room; the profile is that of all of them."""
    data = open_data(path, "ela", "mmap")
    rows = data.rows("train"), data.rows("validation")
    expected = provenance.trained_on(data, path, *rows)
    monkeypatch.setattr(provenance, "_BLOCK", 3)
    assert provenance.trained_on(data, path, *rows) == expected
    read = [*provenance._in_turn(data.pictures, rows[0], 3)]
    assert np.array_equal(read, data.batch(rows[0])[0])


def test_the_card_of_an_epoch(path: Path) -> None:
    data = open_data(path, "ela", "mmap")
    validation = data.rows("validation")
    assert provenance.card(data, validation, None, 0, None).validation is None
    probabilities = np.array([0.1, 0.9, 0.2, 0.4, 0.3, 0.8])
    card = provenance.card(data, validation, probabilities, 7, {"sample": True})
    assert card.validation is not None and card.temperature != 1
    assert (card.validation["epoch"], card.validation["fn"], card.validation["auc"]) == (7, 1, 1)
    assert card.validation["intervals"]["auc"] == [1, 1]
    assert card.trained_on == {"sample": True} and card.parameters == Parameters(size=16)
    diverged = provenance.card(data, validation, np.full(6, np.nan), 0, None)
    assert diverged.temperature == 1


def test_what_a_thread_computes_is_waited_for_and_its_error_raised() -> None:
    assert Later(lambda: 3)() == 3
    later = Later(lambda: 1 // 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            later()
