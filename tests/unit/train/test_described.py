"""A user's network in the run directory: the same one on all ranks, and when a run is resumed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import keras
import pytest
from keras import layers

from hpc_deepfake.core import mpi
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network import registry
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.train import described
from hpc_deepfake.train.rundir import RunDir

pytestmark = pytest.mark.slow  # TensorFlow starts
SPEC = "/somewhere/mine.py:build"


def network(width: int = 3) -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 3), name="in"),
                             layers.Conv2D(2, width, padding="same", name="conv")],
                            name="mine")


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "run")


def test_a_resumed_run_has_the_network_that_it_began_with(run: RunDir) -> None:
    described.check(None, SPEC, network(), run, False)
    before = (run.path / "network.json").read_text()
    assert json.loads(before)["class_name"] == "Sequential"
    described.check(None, SPEC, network(), run, True)
    with pytest.raises(InputError, match=r"mine\.py:build: the file has changed since"):
        described.check(None, SPEC, network(5), run, True)
    assert (run.path / "network.json").read_text() == before
    described.check(None, SPEC, network(5), run, False)  # from the beginning
    described.check(None, SPEC, network(5), run, True)
    (run.path / "network.json").unlink()  # nothing to compare with
    described.check(None, SPEC, network(), run, True)


def test_a_network_in_the_box_needs_no_description(run: RunDir) -> None:
    described.check(None, "meso4", network(), run, False)
    assert not (run.path / "network.json").exists()


def test_options_of_layers_that_the_network_does_not_have_are_refused() -> None:
    """Dropout of 0 and what others have is no matter."""
    model, none = network(), Settings(network="meso4", dropout=None)
    described.refuse_idle(replace(none, dropout=0.0), model)
    with pytest.raises(InputError, match=r"--dropout 0\.3: --network meso4 has no Dropout layer"):
        described.refuse_idle(replace(none, dropout=0.3), model)
    with pytest.raises(InputError, match="--sync-bn: --network meso4 has no batch normalisation"):
        described.refuse_idle(replace(none, sync_bn=True), model)
    inner = keras.Sequential([layers.SpatialDropout2D(0.5), layers.BatchNormalization()])
    described.refuse_idle(replace(none, dropout=0.3, sync_bn=True),
                          keras.Sequential([keras.Input((8, 8, 3)), inner]))


def test_ranks_with_different_networks(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank without a model, as of a pipeline, agrees with all."""
    for others, wrong in (([None], ""), (["another"], "rank 1"), ([None, "another"], "rank 2")):
        monkeypatch.setattr(mpi, "gather", lambda comm, own, others=others: [own, *others])
        if wrong:
            with pytest.raises(InputError, match=f"{wrong} has another network than rank 0") as e:
                described.check(None, SPEC, network(), run, False)
            assert e.value.everywhere
        else:
            described.check(None, SPEC, network(), run, False)


def test_layers_are_named_alike_whatever_was_built_before(tmp_path: Path) -> None:
    """Random numbers of a layer follow its name: in an ensemble each member must draw its own."""
    (tmp_path / "mine.py").write_text(
        "from keras import Input, Sequential, layers\n"
        "def build(shape):\n"
        "    return Sequential([Input(shape), layers.GlobalAveragePooling2D(),\n"
        "        layers.Dropout(0.5), layers.Dense(2, activation='softmax')])\n")
    names = [[layer.name for layer in registry.build(f"{tmp_path}/mine.py:build", 32).layers]
             for _ in range(2)]
    assert names[0] == names[1] and names[0][1] == "dropout"
