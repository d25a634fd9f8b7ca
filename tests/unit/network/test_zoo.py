"""The networks in the box are those of their papers; their own layers do what they say."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from hpc_deepfake.network import model as files
from hpc_deepfake.network import registry
from hpc_deepfake.network.card import Card
from hpc_deepfake.network.zoo import srm
from hpc_deepfake.network.zoo.layers import ConstrainedConv2D
from preprocessing.ela import Parameters

pytestmark = pytest.mark.slow  # TensorFlow starts
SMALL = ("meso4", "mesoinception4", "bayar", "srm")


def trained(model: keras.Model) -> int:
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


@pytest.mark.parametrize(("name", "published"), [("meso4", 27_977), ("mesoinception4", 28_615)])
def test_mesonet_has_the_published_number_of_parameters(name: str, published: int) -> None:
    """At its size of 256, with 17 more for the second output."""
    assert trained(registry.build(name, 256)) == published + 17


def test_bayar_has_the_layers_of_the_paper() -> None:
    """Weights at its size of 256, where the last maps are 8 × 8, and were 7 × 7."""
    expected = 3 * 25 * 3 + (49 * 3 + 1) * 96 + (25 * 96 + 1) * 64 + (25 * 64 + 1) * 64 \
        + (64 + 1) * 128 + 2 * (96 + 64 + 64 + 128) \
        + (8 * 8 * 128 + 1) * 200 + 201 * 200 + 201 * 2
    model = registry.build("bayar", 256)
    assert trained(model) == expected
    assert [model.get_layer(name).output.shape[1:] for name in (
        "constrained", "conv2", "pool2", "pool5")] == [
        (252, 252, 3), (126, 126, 96), (63, 63, 96), (8, 8, 128)]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [64, 1024])
def test_smallest_and_largest_pictures(name: str, size: int) -> None:
    model = registry.build(name, size)
    assert (model.input_shape, model.output_shape) == ((None, size, size, 3), (None, 2))


@pytest.mark.parametrize("name", SMALL)
def test_a_trained_file_is_loaded_in_safe_mode(name: str, tmp_path) -> None:
    """Without code from the file; probabilities stay the same."""
    model = registry.build(name, 64)
    files.save(model, Card("raw", Parameters(size=64), network=name), tmp_path / "model.keras")
    loaded = files.load(tmp_path)
    assert files.read_card(tmp_path).network == name
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    expected = np.asarray(model(pictures))
    np.testing.assert_array_equal(np.asarray(loaded(pictures)), expected)
    np.testing.assert_allclose(expected.sum(1), 1, rtol=1e-6)


def constraint(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The centres, and the sums of all other weights."""
    centre = kernel[2, 2]
    return centre, kernel.sum((0, 1)) - centre


@pytest.mark.parametrize("kind", ["float32", "mixed_bfloat16", "float64"])
def test_the_constraint_holds_whatever_the_weights_are(kind: str) -> None:
    """Before and after a step of training, which changes the weights freely."""
    random = np.random.default_rng(0)
    layer = ConstrainedConv2D(3, dtype=kind)
    pictures = tf.constant(random.uniform(0, 255, (2, 16, 16, 3)), layer.compute_dtype)
    layer(pictures)
    digits = 1e-12 if kind == "float64" else 1e-5
    layer.kernel.assign(random.normal(0, 3, layer.kernel.shape))
    for _ in range(2):
        centre, others = constraint(layer.constrained().numpy())
        np.testing.assert_array_equal(centre, np.full((3, 3), -1))
        np.testing.assert_allclose(others, np.ones((3, 3)), atol=10 * digits)
        with tf.GradientTape() as tape:
            errors = layer(pictures)
            loss = tf.reduce_mean(tf.cast(errors, layer.variable_dtype) ** 2)
        layer.kernel.assign_sub(1e-5 * tape.gradient(loss, layer.kernel.value))
    assert errors.dtype.name == layer.compute_dtype and errors.shape == (2, 12, 12, 3)
    # where all pixels are the same, each is predicted without an error
    even = np.asarray(layer(tf.fill((1, 9, 9, 3), tf.constant(200, pictures.dtype))), np.float64)
    assert abs(even).max() < 200 * 10 * digits


def test_the_constrained_filter_is_the_nearest_one() -> None:
    """The weights' neighbours are moved by the same number each, and the centre to -1."""
    layer = ConstrainedConv2D(2)
    layer.build((None, 8, 8, 3))
    weights = np.random.default_rng(1).normal(size=layer.kernel.shape)
    layer.kernel.assign(weights)
    moved = np.delete((layer.constrained().numpy() - weights).reshape(25, -1), 12, 0)
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0], moved.shape), atol=1e-6)
    layer.kernel.assign(layer.constrained())
    np.testing.assert_allclose(layer.constrained().numpy(), layer.kernel.numpy(), atol=1e-6)


@pytest.mark.parametrize("width", [2, 4, 1])
def test_a_filter_has_a_centre(width: int) -> None:
    with pytest.raises(ValueError, match="must be odd"):
        ConstrainedConv2D(3, width)


def test_the_30_filters() -> None:
    """Each kind with its orders: what it makes of polynomials, and how often it occurs."""
    filters = srm.filters()
    assert filters.shape == (5, 5, 30)
    assert len({filters[..., i].tobytes() for i in range(30)}) == 30
    np.testing.assert_array_equal(filters, np.round(filters))
    np.testing.assert_array_equal(filters[2, 2], [-1] * 8 + [-2] * 4 + [-3] * 8 + [-4] * 5
                                  + [-12] * 5)
    y, x = np.mgrid[-2:3, -2:3]
    # number of filters that give 0 for pictures that are constant, a ramp, and curved
    blind = [np.count_nonzero(np.all([np.einsum("yx,yxf->f", picture, filters) == 0
                                      for picture in pictures], 0))
             for pictures in ([np.ones((5, 5))], [x, y], [x, y, x * x, y * y, x * y])]
    # the last: third order, both SQUARE, EDGE 5 × 5
    assert blind == [30, 30 - 8, 8 + 2 + 4]


def test_residuals_are_truncated_and_never_trained() -> None:
    model = registry.build("srm", 64)
    residuals = model.get_layer("residuals")
    assert residuals.trainable_weights == [] and not any(
        "residuals" in weight.path for weight in model.trainable_weights)
    seen = keras.Model(model.inputs[0], model.get_layer("truncation").output)
    pictures = np.zeros((2, 64, 64, 3), np.uint8)
    pictures[0, 30, 30] = 1  # one step of grey
    pictures[1, 30, 30] = 255
    values = np.asarray(seen(pictures))
    assert values.shape == (2, 60, 60, 30)
    # in steps of half the truncation: the centre of every filter gives -1 / 2
    np.testing.assert_array_equal(values[0, 28, 28], np.full(30, -0.5))
    assert values[1].min() == -1 and values[1].max() == 1
    assert not values[:, :20].any()


def test_residuals_are_exact_in_bfloat16() -> None:
    """Where the picture is even they are 0, however bright it is."""
    model = registry.build("srm", 64, "bfloat16")
    even = np.asarray(model.get_layer("residuals")(np.full((1, 9, 9, 3), 251, np.float32)))
    assert not even.astype(np.float32).any()
