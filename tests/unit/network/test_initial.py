"""Weights to start from: what is taken of which file, and which files are refused."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network import initial, weights_file


def network(units: int = 6, last: str = "answer") -> keras.Model:
    """With a model in it, batch normalisation, and the state of a generator."""
    within = keras.Sequential([keras.Input((8,)), layers.Dense(units, name="first"),
                               layers.BatchNormalization(name="norm")], name="within")
    return keras.Sequential([keras.Input((8,)), within, layers.Dropout(0.5, seed=1),
                             layers.Dense(4, name="middle"), layers.Dense(2, name=last)])


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    made = network()
    random = np.random.default_rng(0)
    made.set_weights([random.random(array.shape) if array.dtype.kind == "f" else array
                      for array in made.get_weights()])
    return made


@pytest.fixture(scope="module", params=["x.keras", "x.weights.h5", "x.h5"])
def file(request: pytest.FixtureRequest, trained: keras.Model,
         tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / request.param
    (trained.save_weights if ".weights" in path.name else trained.save)(path)
    return path


def layers_of(file: Path) -> dict[str, list[weights_file.Arrays]]:
    """As ``weights_file.read``, in this process, for files that are intact."""
    found: dict[str, list[weights_file.Arrays]] = {}
    for name, arrays in weights_file._layers(file.read_bytes()):
        if arrays:
            found.setdefault(name, []).append(arrays)
    return found


def test_layers_are_taken_by_name_and_shapes(file: Path, trained: keras.Model) -> None:
    """Also those of a model within the model, whatever of Keras' formats the file has; what wasn't
    taken is told apart."""
    weights = initial.Weights("x", layers_of(file), "")
    same = network()
    assert initial.take(same, weights).taken == ["first", "norm", "middle", "answer"]
    for own, theirs in zip(same.weights, trained.weights, strict=True):
        assert np.array_equal(own, theirs)
    other = network(units=4, last="other")
    with pytest.raises(InputError, match=r"none of its layers .* has the name and shapes of one "
                                         r"here \(first, norm, middle, other\)"):
        initial.take(other, weights)


def test_layers_of_one_name_are_told_apart_by_the_models_that_they_are_in() -> None:
    """They are taken in their order."""
    parts = [keras.Sequential([keras.Input((4,)), layers.Dense(4, name="c")], name=name)
             for name in ("inner", "other", "third")]
    model = keras.Sequential([keras.Input((4,)), *parts, layers.Dense(2, name="answer")])
    arrays = [np.ones((4, 4), np.float32), np.zeros(4, np.float32)]
    taken = initial.take(model, initial.Weights("x", {"c": [arrays, [np.ones(3)]]}, ""))
    assert (taken.taken, list(taken.other_shape), taken.missing) == (
        ["inner/c"], ["other/c"], ["third/c", "answer"])


def test_files_of_keras_2_are_read(tmp_path: Path) -> None:
    """Their layout, by hand: names as bytes, in pieces where there are many, with ``:0``, also in
    the older form without a folder; a model within the model, whose moving statistics come last."""
    values = {"conv1/kernel:0": [1.0], "conv1/bias:0": [2.0]}
    nested = {"a/kernel:0": [3.0], "norm/gamma:0": [4.0], "a/moving_mean:0": [5.0],
              "norm/moving_mean:0": [6.0]}
    old = {"dense_W_1:0": [7.0], "dense_b_1:0": [8.0]}
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name, arrays in (("conv1", values), ("base", nested), ("dense", old)):
            for path, array in arrays.items():
                file[f"{name}/{path}"] = np.array(array, np.float32)
            file[name].attrs["weight_names"] = [path.encode() for path in arrays]
        file.create_group("flatten").attrs["weight_names"] = np.zeros(0)
        file.attrs["layer_names0"] = [b"conv1", b"flatten"]
        file.attrs["layer_names1"] = [b"base", b"dense"]
    found = {name: [float(array[0]) for array in each[0]]
             for name, each in layers_of(tmp_path / "x.h5").items()}
    assert found == {"conv1": [1, 2], "a": [3, 5], "norm": [4, 6], "dense": [7, 8]}


def test_what_was_not_taken_is_said(trained: keras.Model, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    trained.save(tmp_path / "run" / "model.keras")
    model = keras.Sequential([keras.Input((8,)), layers.Dense(6, name="first"),
                              layers.Dense(4, name="middle", use_bias=False),
                              layers.Dense(2, name="new")])
    taken = initial.take(model, initial.read(tmp_path / "run"))
    assert str(taken) == f"""\
initial weights: 1 of 3 layers from {tmp_path / "run"}
  taken                   1  first
  of other shape          1  middle (2 arrays there, 1 here)
  not in the file         1  new
  of the file not used    2  answer, norm"""
    assert taken.as_dict()["layers"] == 3 and len(taken.as_dict()["sha256"]) == 64


def test_weights_that_refer_to_another_file_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a/vars/0", (2,), "f4", external=[("secret", 0, 8)])
    with pytest.raises(ValueError, match="a/vars/0 lies in another file"):
        layers_of(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_group("a/vars")["0"] = h5py.ExternalLink("secret.h5", "/x")
    with pytest.raises(ValueError, match="0 lies in another file"):
        layers_of(tmp_path / "x.h5")


def test_files_that_are_no_weights_are_refused(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.py").write_text("print(1)")
    with h5py.File(tmp_path / "nan.h5", "w") as file:
        file["a/vars/0"] = [1.0, np.nan]
        file["a/vars"].attrs["name"] = "conv\n1"
    (tmp_path / "cut.h5").write_bytes((tmp_path / "nan.h5").read_bytes()[:900])
    (tmp_path / "run").mkdir()
    for name, message in {"none": "there is no file", "run": "holds no trained model",
                          "x.py": "it is no file of Keras", "cut.h5": "can't be read: .*truncated",
                          "nan.h5": r"layer conv\\n1 in .* are not finite"}.items():
        with pytest.raises(InputError, match=f"--init: .*{message}"):
            initial.read(tmp_path / name)
    # HDF5 crashes on some damaged files
    monkeypatch.setattr(weights_file.subprocess, "run", lambda *_, **__: SimpleNamespace(
        returncode=-11, stderr=b"", stdout=b""))
    with pytest.raises(InputError, match=r"can't be read: it is damaged\. Copy it"):
        initial.read(tmp_path / "nan.h5")


def test_a_file_that_hdf5_reads_for_ever_ends_by_itself(
        trained: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that reading may take is limited where the file is read."""
    trained.save_weights(tmp_path / "x.weights.h5")
    original = subprocess.run

    def run(command: list[str], **others: object) -> object:
        endless = ("import sys; from hpc_deepfake.network import weights_file as w\n"
                   "def forever(content):\n    while True: pass\n"
                   "w._SECONDS, w._layers = 1, forever\n"
                   "from pathlib import Path; w.main(Path(sys.argv[-1]))")
        return original([command[0], "-c", endless, *map(str, command[3:])], **others)

    monkeypatch.setattr(weights_file.subprocess, "run", run)
    with pytest.raises(InputError, match="it is damaged"):
        initial.read(tmp_path / "x.weights.h5")
