"""Networks that say where: their map, its loss, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras.src.utils.naming import reset_uids
from small_networks import branched, located

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.data.synthetic import synthetic
from hpc_deepfake.network import ensemble, maps, model, registry
from hpc_deepfake.network.base import Pass
from hpc_deepfake.network.card import Card
from hpc_deepfake.network.general import General
from hpc_deepfake.network.loss import map_losses
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.train import described
from preprocessing.ela import Parameters

SIZE = 64
FILE = """
from keras import Input, Model, Sequential, layers


def sigmoid(shape):
    return Sequential([Input(shape), layers.Rescaling(1 / 255),
                       layers.Conv2D(1, 3, padding="same", activation="sigmoid")])


def linear(shape):
    return Sequential([Input(shape), layers.Rescaling(1 / 255),
                       layers.Conv2D(1, 3, padding="same")])


def half(shape):
    return Sequential([Input(shape), layers.Conv2D(1, 2, 2)])


def taken(shape):
    return Sequential([Input(shape), layers.Conv2D(1, 3, padding="same", name="verdict")])
"""


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 6), dtype=np.uint8)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "mine.py"
    path.write_text(FILE)
    return path


def test_which_networks_have_a_map() -> None:
    assert maps.has(located())
    assert not maps.has(branched())
    picture = keras.Input((8, 8, 3))
    assert not maps.has(keras.Model(picture, layers.Flatten(name="map")(picture)))


def test_maps_in_levels() -> None:
    values = np.array([0, 0.001, 0.5, 0.999, 1], np.float32).reshape(1, 1, 5, 1)
    assert maps.quantised(values).tolist() == [[[0, 0, 128, 255, 255]]]


def test_a_map_goes_through_files(tmp_path: Path, rows: np.ndarray) -> None:
    """With the channels that its card says, in Keras' safe mode; and another card is refused."""
    made = registry.build("unet", SIZE, channels=6)
    card = Card("ela+raw", Parameters(size=SIZE), network="unet", mask_threshold=77)
    model.save(made, card, tmp_path / "model.keras")
    stored = model.read_card(tmp_path)
    assert (stored.feature, stored.mask_threshold) == ("ela+raw", 77)
    loaded = model.load(tmp_path)
    for want, got in zip(maps.both(made).predict_on_batch(rows),
                         maps.both(loaded).predict_on_batch(rows), strict=True):
        np.testing.assert_array_equal(got, want)
    model.save(made, Card("ela", Parameters(size=SIZE)), tmp_path / "model.keras")
    with pytest.raises(InputError, match=r"takes 6 channels, and its card .* says 3"):
        model.load(tmp_path)
    with pytest.raises(ValueError, match="mask_threshold 256"):
        Card.of(card.as_dict() | {"mask_threshold": 256})


def test_an_ensembles_map_is_the_mean_of_its_members(rows: np.ndarray) -> None:
    members = [registry.build("unet", SIZE, channels=6) for _ in range(2)]
    reset_uids()  # as in a program that has built no network before
    want = [maps.both(member).predict_on_batch(rows) for member in members]
    joined = ensemble.joined(members, [1.0, 1.0])
    assert maps.has(joined)
    outputs, found = maps.both(joined).predict_on_batch(rows)
    np.testing.assert_allclose(outputs, np.mean([one for one, _ in want], 0), atol=1e-6)
    np.testing.assert_allclose(found, np.mean([one for _, one in want], 0), atol=1e-6)
    assert [part.shape for part in ensemble.with_members(joined).predict_on_batch(rows)] \
        == [(3, 2)] * 3
    assert maps.has(ensemble.joined([located()], [2.0]))
    assert not maps.has(ensemble.joined([branched(), branched()], [1.0, 1.0]))


def test_a_users_map_gets_a_verdict(file: Path, rows: np.ndarray,
                                    caplog: pytest.LogCaptureFixture) -> None:
    """A sigmoid's output is the map itself; without one, values are log-odds, which is told."""
    for function, told in (("sigmoid", False), ("linear", True)):
        caplog.clear()
        with caplog.at_level("INFO", "hpc_deepfake"):
            made = registry.build(f"{file}:{function}", SIZE, channels=6)
        assert maps.has(made) and made.output_shape == (None, 2)
        assert ("taken for log-odds" in caplog.text) is told
        convolution = next(layer for layer in made.layers if isinstance(layer, layers.Conv2D))
        given = np.asarray(convolution(rows / np.float32(255)))
        want = given if function == "sigmoid" else 1 / (1 + np.exp(-given))
        np.testing.assert_allclose(maps.both(made).predict_on_batch(rows)[1], want, atol=1e-5)


@pytest.mark.parametrize(("function", "words"), [
    ("half", r"output \(None, 32, 32, 1\).*to say where"),
    ("taken", "a layer named verdict")])
def test_what_is_no_map(file: Path, function: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        registry.build(f"{file}:{function}", SIZE)


@pytest.mark.parametrize(("spec", "size", "words"), [
    ("unet", 100, "a multiple of 8"), ("table", 64, "one feature of three channels, not 2"),
    ("srm", 64, "one feature of three channels"), ("resnet50", 64, "one feature")])
def test_sizes_and_channels_that_a_network_does_not_take(spec: str, size: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        registry.build(spec, size, channels=6)


def test_a_training_pass_computes_the_map_of_keras() -> None:
    """The log-odds behind the sigmoid, in the type of the weights, also where layers compute in
    bfloat16; the gradient of the map's loss reaches the first layer."""
    keras.utils.set_random_seed(1)
    own = located()
    network = General(own)
    assert network.channels == 6 and network.located is not None
    pictures = tf.constant(np.random.default_rng(2).integers(0, 256, (4, 16, 16, 6)), tf.uint8)
    masks = tf.constant(np.random.default_rng(3).integers(0, 2, (4, 16, 16)), tf.uint8)

    def computed(compute: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
        how = Pass(compute, 0.0, False, tf.ones(()), lambda value, _: value)

        @tf.function(autograph=False)
        def both() -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape() as tape:
                out = network.forward(pictures, tf.constant([0, 1]), how)
                loss = tf.reduce_mean(map_losses(out.map, masks))
            return out.map, tape.gradient(loss, network.trainable[0])

        return both()

    found, gradient = computed(tf.float32)
    for layer in own.layers:
        if isinstance(layer, layers.Dropout):
            layer.rate = 0.0
    want = keras.Model(own.input, own.get_layer(maps.LOG_ODDS).output)(pictures, training=True)
    np.testing.assert_allclose(found, want[..., 0], rtol=1e-4, atol=1e-4)
    assert float(tf.norm(gradient)) > 0
    half, _ = computed(tf.bfloat16)
    assert half.dtype == tf.float32
    np.testing.assert_allclose(half, found, atol=0.1)


def test_unknown_pixels_and_rows_count_for_nothing() -> None:
    """Cross-entropy, changed and unchanged pixels half each, and with changed ones half the Dice
    loss, by their formulas; the gradient of what is unknown is exactly 0."""
    random = np.random.default_rng(0)
    odds = tf.constant(random.normal(0, 2, (4, 8, 8)))
    masks = random.integers(0, 2, (4, 8, 8)).astype(np.uint8)
    masks[0, :3] = 255
    masks[1] = 255
    masks[2] = 0
    with tf.GradientTape() as tape:
        tape.watch(odds)
        losses = map_losses(odds, tf.constant(masks))
    gradient = tape.gradient(losses, odds).numpy()
    assert losses.dtype == tf.float64
    assert losses[1] == 0 and np.isfinite(losses).all()
    assert not gradient[masks == 255].any() and gradient[masks != 255].all()
    p = 1 / (1 + np.exp(-odds.numpy()))
    for row in (0, 2, 3):
        known, changed = masks[row] < 2, masks[row] == 1
        entropy = np.mean([-np.log(values).mean() for values in (
            p[row][changed], 1 - p[row][known & ~changed]) if values.size])
        dice = 1 - 2 * p[row][changed].sum() / (p[row][known].sum() + changed.sum()) \
            if changed.any() else 0
        assert float(losses[row]) == pytest.approx(entropy + dice / 2, rel=1e-9)


@pytest.mark.parametrize(("strategy", "changes", "masks", "words"), [
    ("mesh", {}, True, "--strategy mesh can't train"), ("hybrid", {}, True, "hybrid can't train"),
    ("sync", {"augment": "mixup"}, True, "leave mixup out"),
    ("sync", {}, False, "learns from masks, and rows.h5 has none"), ("sync", {}, True, None)])
def test_how_a_map_can_not_be_trained(strategy: str, changes: dict[str, str], masks: bool,
                                      words: str | None) -> None:
    data = SimpleNamespace(masks=np.zeros(1) if masks else None,
                           header=SimpleNamespace(path="rows.h5"))
    settings = Settings(network="unet", **changes)
    if words is None:
        described.check_map(strategy, settings, located(), data)
        return
    with pytest.raises(InputError, match=words):
        described.check_map(strategy, settings, located(), data)


def test_training_rows_without_usable_masks_are_refused_or_told() -> None:
    """Those of the training part alone count."""
    data = synthetic(20, "ela", 0, 64)
    assert described.check_masks(Settings(network="unet"), data) is None
    few = np.full((100, 4, 4), 255, np.uint8)
    few[1] = 0
    assert described.check_masks(Settings(network="unet"), replace(data, masks=few)) == \
        ("note: 1 of 10 tampered training pictures looked at has a usable mask; the others count "
         "with their label only")
    with pytest.raises(InputError, match="val_pixel_f1: no tampered validation picture"):
        described.check_masks(Settings(network="unet", monitor="val_pixel_f1"),
                              replace(data, masks=few))
    few[1], few[20:] = 255, 1
    with pytest.raises(InputError, match=r"none of the 10 tampered .*masks\.csv"):
        described.check_masks(Settings(network="unet"), replace(data, masks=few))


def test_pixels_can_not_be_monitored_without_a_map() -> None:
    with pytest.raises(InputError, match="--monitor val_pixel_auc: --network meso4 has no map"):
        described.check_map("sync", Settings(network="meso4", monitor="val_pixel_auc"), branched(),
                            SimpleNamespace(masks=None))


def test_the_u_net_sees_each_channel_relative_to_its_picture(rows: np.ndarray) -> None:
    """Error levels twice as high, and raw pixels darker, are the same picture to it; a region that
    alone is higher isn't."""
    keras.utils.set_random_seed(0)
    network = maps.both(registry.build("unet", SIZE, channels=6))
    pictures = rows[:2].astype(np.float32)
    verdict, found = network(pictures)
    again = network(pictures * np.array([2, 2, 2, 1, 1, 1]) + np.array([0, 0, 0, 9, 9, 9]))
    np.testing.assert_allclose(again[1], found, atol=1e-3)
    np.testing.assert_allclose(verdict, 0.5)  # undecided before it has learned
    pictures[:, :20, :20, :3] *= 2
    assert np.abs(network(pictures)[1] - found).max() > 0.01
