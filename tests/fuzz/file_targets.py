"""Binary files: data files, checkpoints, models, and folders of pictures by their names."""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import h5py
import numpy as np
from mutations import Choices, damaged_bytes, damaged_json, damaged_tree
from targets import MIB, Target

from hpc_deepfake.audit.rows import open_rows
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.data import verify
from hpc_deepfake.data.rows import DataFile, check_trainable, open_data
from hpc_deepfake.network.pictures import Pictures, beside
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.train import checkpoint, resume
from hpc_deepfake.train.checkpoint import load_newest
from preprocessing import catalogue, facts, names, protocol, split, store
from preprocessing.catalogue import Catalogue
from preprocessing.ela import Parameters
from preprocessing.integrity import damaged_rows
from preprocessing.store import Recipe, open_header

ROWS, SIZE = 6, 8
RECIPE = Recipe(("ela", "raw"), Parameters(size=SIZE), "50/50", "group", 0, "0" * 64, ROWS,
                masks="1" * 64)
ATTRIBUTES = {name: json.loads(value) for name, value in RECIPE.attributes().items()}
META = {"state": {"epoch": 3, "rows_done": 0, "step": 10, "loss": 0.0, "right": 0.0,
                  "seconds": {"input": 0.0, "compute": 0.5}, "counts": {}, "best": 0.55,
                  "best_epoch": 2, "rates": [113.9, 148.8]},
        "settings": Settings().as_dict(), "data": ATTRIBUTES, "ranks": 2, "tensors": 2}


@cache
def data_file() -> bytes:
    """A finished data file of six rows, of small pictures so that it is small."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.h5"
        labels = np.arange(ROWS, dtype=np.uint8) % 2
        files = Catalogue({"": Path(folder)}, [b"Au/%d.jpg" % row for row in range(ROWS)], labels,
                          np.arange(ROWS, dtype=np.int32))
        store.create(path, files, np.arange(ROWS, dtype=np.uint8) // 3, RECIPE)
        header = open_header(path)
        header.array("status", "r+")[:] = store.DONE
        zeros = store.checksum([np.zeros(header.shapes[name][1:], np.uint8)
                                for name in header.summed])
        header.array("crc32", "r+")[:] = zeros
        return path.read_bytes()


def read_data(data: bytes, folder: Path) -> None:
    path = folder / "data.h5"
    path.write_bytes(data)
    use(path)


def use(path: Path) -> None:
    """Everything that programs take from a data file before they compute."""
    header = open_header(path)
    assert header.rows >= 0 and header.parameters.as_dict()
    store.check_same(header, Recipe(header.features, header.parameters, "50/50", "group", 0,
                                    "0" * 64, header.rows, masks=header.attributes.get("masks")))
    facts.stored(header, np.arange(min(header.rows, 3)))
    rows = open_rows(path)
    protocol.warn(rows.paths, rows.labels)
    damaged_rows(header, np.arange(min(header.rows, 3)))
    verify.main([str(path)])
    for feature in header.features:
        for how in ("mmap", "read", "memory"):
            data = open_data(path, feature, how)
            check_trainable(data)
            pictures, labels = data.batch(data.rows("train")[:2])
            assert pictures.shape[1:] == (SIZE, SIZE, 3) and len(labels) == len(pictures)
            masks = data.masks[data.rows("train")[:2]] if data.masks is not None else pictures
            assert len(masks) == len(pictures) and masks.dtype == np.uint8


def other_layout(choose: Choices) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Attributes of a file, damaged as JSON, and changes of its data sets."""
    attributes = damaged_tree(choose, [ATTRIBUTES]) if choose.integer(0, 1) else ATTRIBUTES
    names = ("ela", "raw", "label", "group", "split", "path", "status", "crc32", "digest", "width",
             "mask", "more")
    changes = [(choose.one_of(names), choose.one_of(sorted(CHANGES)))
               for _ in range(choose.integer(0, 2))]
    return attributes if isinstance(attributes, dict) else {"schema": attributes}, changes


CHANGES: dict[str, Callable[[h5py.File, str], object]] = {
    "missing": lambda file, name: None,
    "float": lambda file, name: file.create_dataset(name, data=np.zeros(ROWS)),
    "longer": lambda file, name: file.create_dataset(name, data=np.zeros(ROWS + 9, "u1")),
    "shorter": lambda file, name: file.create_dataset(name, data=np.zeros(1, "u1")),
    "scalar": lambda file, name: file.create_dataset(name, data=7),
    "empty": lambda file, name: file.create_dataset(name, data=h5py.Empty("f")),
    "no rows": lambda file, name: file.create_dataset(name, data=np.zeros(0, "u1")),
    "other sides": lambda file, name: file.create_dataset(
        name, data=np.zeros((ROWS, SIZE, 3, SIZE), "u1")),
    "huge": lambda file, name: file.create_dataset(name, (1 << 50,), "u1", chunks=(1 << 20,)),
    "chunked": lambda file, name: file.create_dataset(
        name, data=np.zeros((ROWS, SIZE, SIZE, 3), "u1"), chunks=True, compression="gzip"),
    "texts": lambda file, name: file.create_dataset(
        name, data=["x" * 9] * ROWS, dtype=h5py.string_dtype()),
    "compound": lambda file, name: file.create_dataset(
        name, data=np.zeros(ROWS, [("a", "u1"), ("b", "f4")])),
    "large labels": lambda file, name: file.create_dataset(
        name, data=np.full(ROWS, 200, "u1")),
    "negative": lambda file, name: file.create_dataset(name, data=np.full(ROWS, -5, "i4")),
    "group": lambda file, name: file.create_group(name),
    "link": lambda file, name: file.__setitem__(name, h5py.SoftLink("/nowhere")),
    "loop": lambda file, name: file.__setitem__(name, h5py.SoftLink(f"/{name}")),
    "external link": lambda file, name: file.__setitem__(
        name, h5py.ExternalLink("/etc/passwd", "/x")),
    "external bytes": lambda file, name: file.create_dataset(
        name, (ROWS,), "u1", external=[("/etc/passwd", 0, ROWS)]),
}


def read_layout(case: tuple[dict[str, Any], list[tuple[str, str]]], folder: Path) -> None:
    attributes, changes = case
    path = folder / "layout.h5"
    path.write_bytes(data_file())
    with h5py.File(path, "r+") as file:
        for key in list(file.attrs):
            del file.attrs[key]
        for key, value in attributes.items():
            key = key.encode("utf-8", "replace").decode().replace("\0", "?") or "x"
            file.attrs[key] = np.bytes_(json.dumps(value))
        for name, change in changes:
            if name in file:
                del file[name]
            CHANGES[change](file, name)
    use(path)


@cache
def saved() -> bytes:
    """A small checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        return checkpoint.save(Path(folder), 10, [np.ones((2, 3), np.float32), np.zeros(4),
                                                  np.ones(2)], META).read_bytes()


def read_checkpoint(data: bytes, folder: Path) -> None:
    (folder / "step-000000010.npz").write_bytes(data)
    found = load_newest(folder)
    assert found is not None
    json.dumps(found[1])


def read_meta(text: bytes, folder: Path) -> None:
    """A whole archive whose description of the run is damaged."""
    packed = io.BytesIO()
    np.savez(packed, meta=np.frombuffer(text, np.uint8), array0=np.ones(2), array1=np.ones(3))
    (folder / "step-000000010.npz").write_bytes(packed.getvalue())
    arrays, meta, _ = load_newest(folder)  # type: ignore[misc] # there is a checkpoint
    if not resume._is_complete(meta, len(arrays)):
        return
    data = DataFile(store.Header(folder / "data.h5", ATTRIBUTES, {}, {}, {}), "ela", np.zeros(0),
                    np.zeros(0), np.zeros(0), np.zeros(0), "mmap", np.zeros(0, "S1"))
    resume._check_same(folder, meta, Settings(), data)


NAMES = [b"Au_ani_00001.jpg", b"Tp_D_CRN_S_N_cha00063_art00014_11818.tif", b"0001.png", b"a_gt.png",
         b"000_003.mp4", b"clip.avi#frame=1of2", b"x.jpg", b".hidden.jpg", b"%41.jpg", b"\xff.bmp",
         b"0002.png", b"1.tif", b"1t.tif", b"a_orig.jpg", b"a_mask.png", b"au_ani_00001 (1).jpg",
         b"v1_frame_2.png", b"id0_id1_0000.mp4", b"metadata.json", b"0_000000000071.tif"]
FOLDERS = ["Au", "Tp", "real", "fake", "Au ", "authentic", "TAMPERED", "x", "\udcff", "train",
           "test", "masks", "image", "mask", "000", "000_003", "splicing_1_img", "reference",
           "Celeb-real"]


def tree_of_names(choose: Choices) -> list[tuple[str, bytes, int]]:
    """Folder, file name and kind (file, link to the top, dangling link, pipe, folder)."""
    return [("/".join(choose.one_of(FOLDERS) for _ in range(choose.integer(1, 3))),
             damaged_bytes(choose, NAMES, [b"_", b"0", b".jpg"]) if choose.integer(0, 1)
             else choose.one_of(NAMES), choose.one_of((0, 0, 0, 0, 1, 2, 3, 4)))
            for _ in range(choose.integer(1, 8))]


def read_names(files: list[tuple[str, bytes, int]], folder: Path) -> None:
    top = folder / "pictures"
    shutil.rmtree(top, ignore_errors=True)
    for home, name, kind in files:
        place = top / home
        place.mkdir(parents=True, exist_ok=True)
        name = name.replace(b"/", b"_").replace(b"\0", b"_")[:200]
        path = os.path.join(os.fsencode(place), name)
        if name in (b"", b".", b"..") or os.path.lexists(path):
            continue
        if kind == 0:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        elif kind == 4:
            os.mkdir(path)
        elif kind == 3:
            os.mkfifo(path)
        else:
            os.symlink(top if kind == 1 else "/nowhere", path)
    listed = catalogue.with_copies(catalogue.scan(top))
    assert " by " in listed.grouped() and len(listed.rules) == len(listed)
    assert set(listed.masks) <= {names.parse_path(path)[0] for path in listed.paths}
    for path, stored in zip(listed.paths, listed.encoded(), strict=True):
        assert unquote_to_bytes(stored) == path and stored.isascii()
        catalogue.locate(listed.roots, path)
    assert len(listed.digest()) == 64 and len(listed.groups) == len(listed)
    split.by_group(listed.labels, listed.groups, (0.8, 0.2), 0)
    protocol.warn(listed.paths, listed.labels)


@cache
def model_file() -> bytes:
    """A network of the right shapes, without the weights that make a real one large."""
    import keras

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        keras.Sequential([keras.Input((128, 128, 3)), keras.layers.Conv2D(2, 3, strides=9),
                          keras.layers.GlobalAveragePooling2D(),
                          keras.layers.Dense(2, activation="softmax")]).save(path)
        return path.read_bytes()


def read_model(data: bytes, folder: Path) -> None:
    from hpc_deepfake.network import model

    (folder / "model.keras").write_bytes(data)
    model.load(folder / "model.keras")


@cache
def training_pictures() -> list[bytes]:
    """Lists of training pictures, with and without thumbnails."""
    rows = np.random.default_rng(0).integers(0, 256, (ROWS, SIZE, SIZE, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        model, made = Path(folder) / "model.keras", []
        for raw in (rows, None):
            Pictures.of(rows, raw, None, np.arange(ROWS, dtype=np.uint8) % 2).write(model)
            made.append(beside(model).read_bytes())
    return made


def read_training_pictures(data: bytes, folder: Path) -> None:
    model = folder / "model.keras"
    beside(model).write_bytes(data)
    known = Pictures.read(model)
    assert known is not None
    known.seen(bytes(16), b"x" * 16, np.arange(SIZE * SIZE * 3, dtype=np.uint8).reshape(
        SIZE, SIZE, 3))


TARGETS = [
    Target("lists of training pictures", partial(damaged_bytes, seeds=training_pictures, tokens=[
        b"OHDR", b"TREE", b"SNOD", b"HEAP", b"\x89HDF"]), read_training_pictures,
        memory=1024 * MIB),
    Target("bytes of data files", partial(damaged_bytes, seeds=lambda: [data_file()], tokens=[
        b"OHDR", b"TREE", b"SNOD", b"HEAP", b"GCOL", b"\x89HDF"]), read_data,
        memory=1024 * MIB, share=2),
    Target("layout of data files", other_layout, read_layout, memory=1024 * MIB, share=0.5),
    Target("bytes of checkpoints", partial(damaged_bytes, seeds=lambda: [saved()], tokens=[
        b"PK\x01\x02", b"PK\x05\x06", b"\x93NUMPY", b"'|O'", b"(999999999,)"]),
           read_checkpoint, (ValueError,), share=2),
    Target("meta data of checkpoints", partial(damaged_json, seeds=[META]), read_meta,
           (InputError, ValueError), share=2),
    Target("folders of pictures", tree_of_names, read_names, share=0.3),
    Target("model files", partial(damaged_bytes, seeds=lambda: [model_file()], tokens=[
        b'"units": 999999', b"PK\x01\x02", b"OHDR", b'"class_name"', b"Lambda"]),
           read_model, seconds=60, memory=2048 * MIB, share=0.01),
]
