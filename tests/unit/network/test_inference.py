"""Trained networks for inference: what is folded, and that the results stay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from hpc_deepfake.network import ensemble, inference, maps, registry  # noqa: E402
from hpc_deepfake.network.folding import fold  # noqa: E402
from hpc_deepfake.network.scoring import launched  # noqa: E402

layers = keras.layers
SIZE = 64


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)


def trained(model: keras.Model, negative: bool = False) -> keras.Model:
    """With statistics as of a training; ``negative``: with scales of both signs."""
    rng = np.random.default_rng(1)
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, layers.BatchNormalization):
            for weight in layer.weights:
                positive = weight.path.endswith("variance") or (
                    weight.path.endswith("gamma") and not negative)
                weight.assign(rng.uniform(0.5 if positive else -1, 1.5, weight.shape))
    return model


def check(model: keras.Model, pictures: np.ndarray, skipped: int) -> None:
    """Its outputs and what is folded; the model itself computes as before."""
    before, weights = model.predict_on_batch(pictures), model.get_weights()
    found = inference.of(model)(pictures)
    for want, got in zip(before if isinstance(before, list) else [before],
                         found if isinstance(found, list) else [found], strict=True):
        np.testing.assert_allclose(np.asarray(got), want, rtol=2e-5, atol=1e-6)
    assert len(fold(model).skipped) == skipped
    again = model.predict_on_batch(pictures)
    assert all(np.array_equal(a, b) for a, b in zip(
        [before, *weights] if not isinstance(before, list) else [*before, *weights],
        [again, *model.get_weights()] if not isinstance(again, list)
        else [*again, *model.get_weights()], strict=True))


@pytest.mark.parametrize(("name", "skipped"), [("table", 3), ("bayar", 4)])
def test_networks_give_the_same(name: str, skipped: int, pictures: np.ndarray) -> None:
    check(trained(registry.build(name, SIZE, "float32", 3)), pictures, skipped)


def test_an_ensemble_with_maps_gives_the_same(pictures: np.ndarray) -> None:
    members = [trained(registry.build("unet", SIZE, "float32", 3)) for _ in range(2)]
    check(maps.both(ensemble.joined(members, [1.0, 1.7])), pictures, 28)


@pytest.mark.parametrize(("between", "negative", "skipped"), [
    ([layers.MaxPooling2D(2)], False, 1),
    ([layers.MaxPooling2D(2)], True, 0),  # the maximum of what gets smaller is a minimum
    ([layers.AveragePooling2D(3, padding="same"), layers.Dropout(0.5)], True, 1),
    ([layers.ZeroPadding2D()], False, 0),
    ([layers.ReLU()], False, 0)])
def test_what_stands_before_a_convolution(between: Sequence[keras.layers.Layer], negative: bool,
                                          skipped: int, pictures: np.ndarray) -> None:
    model = keras.Sequential([
        keras.Input((SIZE, SIZE, 3)), layers.ReLU(), layers.BatchNormalization(), *between,
        layers.Conv2D(4, 3, use_bias=False, activation="relu"),
        layers.GlobalAveragePooling2D(), layers.Dense(2, "softmax")])
    check(trained(model, negative), pictures, skipped)


def test_padding_with_zeros_only_takes_a_scale(pictures: np.ndarray) -> None:
    for offset, skipped in ((0.0, 1), (-1.0, 0)):
        model = keras.Sequential([
            keras.Input((SIZE, SIZE, 3)), layers.Rescaling(1 / 127, offset),
            layers.Conv2D(4, 3, padding="same"), layers.GlobalMaxPooling2D(), layers.Dense(2)])
        check(model, pictures, skipped)


@pytest.mark.parametrize("kind", ["depthwise", "separable", "twice", "also an output"])
def test_what_stands_behind_a_linear_layer(kind: str, pictures: np.ndarray) -> None:
    picture = keras.Input((SIZE, SIZE, 3))
    linear = {"depthwise": layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False),
              "separable": layers.SeparableConv2D(4, 3)}.get(
                  kind, layers.Conv2D(3, 3, padding="same"))
    x = given = linear(picture)
    if kind == "twice":
        x = linear(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.BatchNormalization()(x)))
    outputs = [layers.Dense(2)(x), given] if kind == "also an output" else layers.Dense(2)(x)
    check(trained(keras.Model(picture, outputs), negative=True), pictures,
          int(kind in ("depthwise", "separable")))


@pytest.mark.parametrize(("ahead", "events"), [
    (0, "l0 r0 l1 r1 l2 r2"), (1, "l0 l1 r0 l2 r1 r2"), (5, "l0 l1 l2 r0 r1 r2")])
def test_the_next_batch_is_launched_before_the_last_is_read(ahead: int, events: str) -> None:
    seen: list[str] = []

    def launch(number: int) -> int:
        seen.append(f"l{number}")
        return number

    for number in launched(launch, range(3), ahead):
        seen.append(f"r{number}")
    assert " ".join(seen) == events
