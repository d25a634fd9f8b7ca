"""``hpc-deepfake networks``: what networks cost, and how they are listed."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import pytest
from keras import layers
from small_networks import located

from hpc_deepfake import networks
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network import device, registry, table
from hpc_deepfake.networks import speed
from hpc_deepfake.networks.cost import activations, cost, flop

pytestmark = pytest.mark.slow  # TensorFlow starts
# with two outputs, in place of 1,000; those of Keras' applications from their documentation
PARAMETERS = {
    "table": 7_392_962, "meso4": 15_802, "mesoinception4": 16_454, "bayar": 730_691, "srm": 67_484,
    "resnet50": 25_636_712 - 998 * 2_049, "efficientnetv2b0": 7_200_312 - 998 * 1_281,
    "xception": 22_910_480 - 998 * 2_049, "mobilenetv3": 5_507_432 - 998 * 1_281, "unet": 397_097}


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow has started already, with other tests of this process."""
    monkeypatch.setattr(device, "start", lambda *_, threads=0, **__: device.Device(
        "CPU", "a processor", threads or 1))


def test_all_networks_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """The only test that builds the large ones."""
    assert networks.main(["--json", "--batch-size", "16"]) == 0
    rows = {row["network"]: row for row in json.loads(capsys.readouterr().out)}
    assert tuple(rows) == registry.NAMES
    assert {name: row["parameters"] for name, row in rows.items()} == PARAMETERS
    for row in rows.values():
        assert row["images_per_s"] is None and row["batch_size"] == 16 and row["size"] == 128
        assert row["training_bytes"] == row["weights_bytes"] + 12 * row["trainable"] \
            + 16 * row["activation_bytes"]
    # He et al. 2016, table 1: 3.8 · 10⁹ multiplications and additions at 224 × 224
    assert rows["resnet50"]["flop"] / 2 == pytest.approx(3.8e9 * (128 / 224)**2, rel=0.03)


def test_the_operations_of_the_default_network_by_hand() -> None:
    model = table.build()
    places = {"conv1": 126 * 126, "conv2": 61 * 61}
    expected = 2 * (places["conv1"] * 9 * 3 * 32 + places["conv2"] * 9 * 32 * 64
                    + 30 * 30 * 64 * 128 + 128 * 2)
    assert flop(model) == expected
    assert activations(model) == 128 * 128 * 3 + 2 * places["conv1"] * 32 + 63 * 63 * 32 \
        + 2 * places["conv2"] * 64 + 30 * 30 * 64 + 128 + 128 + 2
    assert cost(model).training_bytes(10) == 4 * (7_392_962 + 3 * (7_392_962 - 192)
                                                  + 10 * activations(model))


def test_operations_of_other_layers_by_hand() -> None:
    """Each layer's terms; a layer that is used twice counts twice."""
    start = keras.Input((8, 8, 4))
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(start)  # (8, 8, 8)
    x = layers.Conv2D(6, 3, groups=2, padding="same")(x)
    shared = layers.Conv2D(6, 3, dilation_rate=2, padding="same")
    x = shared(shared(x))
    x = layers.Conv2DTranspose(5, 2, strides=2)(x)  # (16, 16, 5)
    x = layers.SeparableConv2D(7, 3)(x)  # (14, 14, 7)
    x = layers.Reshape((196, 7))(x)
    x = layers.EinsumDense("abc,cd->abd", (None, 3))(x)
    x = layers.Dot((1, 1))([x, x])  # (3, 3)
    x = layers.Dense(2)(layers.Flatten()(x))
    terms = (64 * 8 * 9 + 64 * 6 * 9 * 4 + 2 * 64 * 6 * 9 * 6 + 64 * 6 * 4 * 5
             + 196 * (5 * 9 + 5 * 7) + 196 * 7 * 3 + 3 * 3 * 196 + 9 * 2)
    assert flop(keras.Model(start, x)) == 2 * terms


def test_the_table_of_measured_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a name, a function and a file, in the order of the command line."""
    monkeypatch.setattr(speed, "LEAST_STEPS", 1)
    monkeypatch.setattr(speed, "LEAST_SECONDS", 0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from keras import Input, Sequential, layers\n"
        "def build(shape):\n"
        "    return Sequential([Input(shape), layers.Rescaling(1 / 255),\n"
        "        layers.GlobalAveragePooling2D(), layers.Dense(2, activation='softmax')])\n")
    registry.build("mine.py:build", 64).save("trained.keras")
    assert networks.main(["trained.keras", "meso4", "mine.py:build", "--size", "64", "--measure",
                          "--batch-size", "2"]) == 0
    head, *rows, _, _, _, last = capsys.readouterr().out.splitlines()
    assert head.split() == ["network", "parameters", "GFLOP", "weights", "memory", "train/s",
                            "predict/s", "source"]
    assert [row.split()[:2] for row in rows] == [["trained.keras", "8"], ["meso4", "12,730"],
                                                 ["mine.py:build", "8"]]
    assert rows[1].endswith("Afchar et al. 2018, MesoNet") and rows[2].endswith("your own")
    assert all(float(number.replace(",", "")) > 0 for row in rows for number in row.split()[7:9])
    assert "batches of 2 pictures" in last


def test_the_speed_of_a_network_that_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    """With masks, which its steps need."""
    monkeypatch.setattr(speed, "LEAST_STEPS", 1)
    monkeypatch.setattr(speed, "LEAST_SECONDS", 0)
    assert min(speed.images_per_s("mine.py:build", located((16, 16, 3)), 2).values()) > 0


def test_what_a_network_does_not_take(capsys: pytest.CaptureFixture[str],
                                      caplog: pytest.LogCaptureFixture,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """Among all names it is left out and said; named, it is an error."""
    monkeypatch.setattr(registry, "NAMES", ("meso4", "xception"))
    assert networks.main(["--size", "64"]) == 0
    assert "xception takes pictures of 71 × 71" in caplog.text
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:2]] == ["meso4"]
    with pytest.raises(InputError, match="71 × 71"):
        networks.main(["xception", "--size", "64"])
    with pytest.raises(SystemExit):
        networks.main(["vgg"])
