"""Files of a program that are damaged before it is started."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hpc_deepfake.train import checkpoint
from preprocessing.store import DONE, open_header

from .acts import Expected, Scene


def newest_checkpoint(cut: bool) -> Callable[[Scene], Expected | None]:
    def act(scene: Scene) -> Expected | None:
        paths = checkpoint.found(scene.place.run / "checkpoints")
        if not paths:
            return None
        _damage(scene, paths[0], cut)
        try:
            checkpoint.load(paths[0])
        except ValueError:
            if len(paths) > 1:
                return Expected([0], paths[0].name)
            return Expected([2], "no checkpoint .* can be used", again=True)
        return Expected([0])  # a byte that means nothing

    return act


def data_file(cut: bool) -> Callable[[Scene], Expected | None]:
    """A copy of the data file with one byte of a validation row flipped, or cut off."""
    def act(scene: Scene) -> Expected | None:
        link = scene.place.data
        original = link.readlink()
        link.unlink()
        shutil.copyfile(original, link)
        scene.mend += [link.unlink, lambda: link.symlink_to(original)]
        if cut:
            _damage(scene, link, True)
            return Expected([2], "cut off|damaged")
        header = open_header(link)
        row = scene.random.choice(np.flatnonzero(header.array("split") == 1).tolist())
        size = header.bytes_of("ela") // header.rows
        _flip(link, header.offsets["ela"] + row * size + scene.random.randrange(size))
        scene.notes.append(f"row {row}")
        return Expected([2], rf"(?s)row.*\b{row}\b")

    return act


def finished_rows(scene: Scene) -> Expected | None:
    """Flip a byte of a row that is done: of a feature, its checksum or its status."""
    out = scene.place.out
    if not out.exists():
        return None
    header = open_header(out)
    done = np.flatnonzero(header.array("status") == DONE).tolist()
    if not done:
        return None
    row, name = scene.random.choice(done), scene.random.choice(["crc32", "ela", "raw", "status"])
    size = header.bytes_of(name) // header.rows
    _flip(out, header.offsets[name] + row * size + scene.random.randrange(size))
    scene.notes.append(f"{name} of row {row}")
    return Expected([0], "" if name == "status" else r"repaired +1 ")


def unfinished_file(scene: Scene) -> Expected | None:
    """Cut off the data file that is being written, or flip a byte of its signature."""
    if not scene.place.out.exists():
        return None
    if scene.random.random() < 0.7:
        _damage(scene, scene.place.out, True)
    else:
        _flip(scene.place.out, scene.random.randrange(8))
    return Expected([2], "cut off|damaged|not a(n)? HDF5", again=True)


def record(scene: Scene) -> Expected | None:
    names = ["features.h5.json", "features.h5.rejects.csv"] \
        if scene.program.group == "preprocessing" else [
            "run/metrics.jsonl", "run/metrics.jsonl", "run/config.json", "run/environment.json",
            "run/model.json", "run/model.keras", "run/model.pictures.h5"]
    paths = [path for name in names if (path := scene.place.folder / name).exists()
             and path.stat().st_size]
    if not paths:
        return None
    path = scene.random.choice(paths)
    before = path.read_bytes()
    _damage(scene, path, scene.random.random() < 0.5)
    if path.name != "metrics.jsonl" or path.read_bytes().splitlines() == before.splitlines():
        return Expected([0])
    return Expected([0], "metrics.jsonl", excused=frozenset({"counts", "metrics"}))


def _damage(scene: Scene, path: Path, cut: bool) -> None:
    """Cut a file off, or flip one of its bytes."""
    size = path.stat().st_size
    place = scene.random.randrange(size)
    if cut:
        os.truncate(path, place)
    else:
        _flip(path, place, 1 << scene.random.randrange(8))
    scene.notes.append(f"{path.name} {'cut' if cut else 'flipped'} at {place}")


def _flip(path: Path, place: int, bits: int = 0x41) -> None:
    with open(path, "r+b") as file:
        file.seek(place)
        value = file.read(1)[0]
        file.seek(place)
        file.write(bytes([value ^ bits]))
