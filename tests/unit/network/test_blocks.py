"""The compiled operations of the table network's blocks compute what TensorFlow's do in float64."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network import blocks, table
from hpc_deepfake.network.base import Pass
from hpc_deepfake.network.batchnorm import EPSILON
from hpc_deepfake.network.blocks import library
from hpc_deepfake.network.blocks.features import features
from hpc_deepfake.network.freezing import freeze
from hpc_deepfake.network.fused import Weights
from hpc_deepfake.network.settings import Settings

pytestmark = pytest.mark.slow  # TensorFlow starts
SHAPES = [(3, 3, 3, 32), (32,), (32,), (32,), (3, 3, 32, 64), (64,), (64,), (64,)]


@pytest.fixture(autouse=True)
def built(monkeypatch):
    """They are built, which the tests of this file need; nothing of another test switched them
    off."""
    monkeypatch.setattr(library, "_off", [])
    own = library.loaded()
    assert own is not None, library.missing()
    yield own
    own.lanes = 0


def drawn(size: int = 24, rows: int = 3, seed: int = 0) -> tuple[np.ndarray, list[np.ndarray],
                                                                   np.ndarray]:
    """Pictures, weights of all signs, and a gradient of the features."""
    random = np.random.default_rng(seed)
    side = ((size - 2) // 2 - 2) // 2
    weights = [random.normal(0, 0.2, shape).astype(np.float32) for shape in SHAPES]
    for place in (2, 6):
        weights[place] += 0.3  # gamma: most are positive
    return (random.integers(0, 256, (rows, size, size, 3), dtype=np.uint8), weights,
            random.normal(size=(rows, side, side, 64)).astype(np.float32))


def how(compute: tf.DType = tf.float32, present: float = 1, sync_bn: bool = False,
        allreduce=lambda value, _: value) -> Pass:
    return Pass(compute, None, sync_bn, tf.constant(present), allreduce)


def compiled(pictures: np.ndarray, weights: list[np.ndarray], upstream: np.ndarray,
             passed: Pass | None = None) -> dict[str, np.ndarray]:
    """Features, statistics and gradients."""
    passed = passed or how()
    variables = [tf.Variable(value) for value in weights]
    grouped = [variables[place:place + 2] for place in (0, 2, 4, 6)]
    with tf.GradientTape() as tape:
        y, statistics = features(tf.constant(pictures), pictures.shape[1], grouped, passed)
        total = tf.reduce_sum(tf.cast(y, tf.float32) * upstream)
    assert y.dtype == passed.compute
    return named(y, statistics, tape.gradient(total, variables))


def expected(pictures: np.ndarray, weights: list[np.ndarray], upstream: np.ndarray,
             compute: str = "float64") -> dict[str, np.ndarray]:
    """The same with TensorFlow's operations one after the other, in float64, on the definition of
    batch normalisation."""
    variables = [tf.Variable(value, dtype=compute) for value in weights]
    statistics = []
    with tf.GradientTape() as tape:
        x = tf.cast(pictures, compute) / 255
        for place in (0, 4):
            kernel, bias, gamma, beta = variables[place:place + 4]
            x = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "VALID") + bias)
            mean, variance = tf.nn.moments(x, [0, 1, 2])
            statistics.append((mean, variance))
            x = tf.nn.max_pool2d((x - mean) / tf.sqrt(variance + EPSILON) * gamma + beta, 2, 2,
                                 "VALID")
        total = tf.reduce_sum(x * tf.cast(upstream, compute))
    return named(x, statistics, tape.gradient(total, variables))


def named(y, statistics, gradients) -> dict[str, np.ndarray]:
    names = [f"d_{kind}{block}" for block in "12" for kind in ("kernel", "bias", "gamma", "beta")]
    values = [y, *statistics[0], *statistics[1], *gradients]
    return dict(zip(["y", "mean1", "variance1", "mean2", "variance2", *names],
                    (np.asarray(tf.cast(value, tf.float64)) for value in values), strict=True))


def differences(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> dict[str, float]:
    """Largest difference of each, relative to its largest value."""
    return {name: float(np.abs(one[name] - other[name]).max() / np.abs(other[name]).max())
            for name in one}


@pytest.mark.parametrize("size", [24, 25, 26, 27, 64])
def test_features_statistics_and_gradients_are_those_of_float64(size):
    """For widths that leave every remainder of the loops' tiles and rows that no pooling reads."""
    data = drawn(size)
    assert max(differences(compiled(*data), expected(*data)).values()) < 5e-6


def test_the_size_of_photographs():
    """Of so many numbers, two of four are so close that float32 may choose the other one."""
    data = drawn(128, 2)
    found = differences(compiled(*data), expected(*data))
    assert max(found.values()) < 1e-4
    assert max(found[name] for name in ("y", "mean1", "variance1", "mean2", "variance2")) < 5e-6


def test_means_far_from_zero_keep_their_digits():
    """Variances of channels whose bias is a thousand times their spread, which sums of squares in
    float32 would lose."""
    pictures, weights, upstream = drawn()
    weights[1] += 500
    assert differences(compiled(pictures, weights, upstream), expected(pictures, weights, upstream)
                       )["variance1"] < 1e-3


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_vectors_of_all_kinds(built, lanes):
    """Those that this processor has: correct, and with fused multiply-add the same bits."""
    own = {"AVX-512": 16, "AVX2": 8}.get(built.vectors, 4)
    data = drawn(30)
    if lanes > own:
        built.lanes = lanes
        with pytest.raises(tf.errors.InvalidArgumentError, match="no vectors"):
            compiled(*data)
        return
    best = compiled(*data)
    built.lanes = lanes
    found = compiled(*data)
    assert max(differences(found, expected(*data)).values()) < 5e-6
    if lanes > 4:
        for name, values in best.items():
            assert values.tobytes() == found[name].tobytes(), name


def test_the_same_bits_for_any_number_of_threads(monkeypatch):
    data = drawn(30, rows=7)
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads",
                            lambda threads=threads: threads)
        found.append(compiled(*data))
    for other in found[1:]:
        assert all(found[0][name].tobytes() == other[name].tobytes() for name in found[0])


def test_gamma_of_any_sign_and_zero():
    """A negative gamma makes the smallest of four the largest. With 0 all four are equal, and which
    one gives gamma its gradient is open: here it is that of a small positive gamma."""
    pictures, weights, upstream = drawn()
    weights[2][:8], weights[6][:8] = -0.5, -0.5
    data = pictures, weights, upstream
    assert max(differences(compiled(*data), expected(*data)).values()) < 5e-6
    weights[2][8] = weights[6][8] = 1e-4
    near = compiled(*data)
    weights[2][8] = weights[6][8] = 0
    assert max(differences(compiled(*data), near).values()) < 1e-2


def test_equal_numbers_are_pooled_as_tensorflow_does():
    """The first of equal ones takes the gradient: in pictures of one colour all four are equal."""
    pictures, weights, upstream = drawn()
    pictures[:] = 200
    pictures[:, ::5] = 90  # so that variances aren't zero
    data = pictures, weights, upstream
    assert max(differences(compiled(*data), expected(*data)).values()) < 1e-5


def test_bfloat16_is_near_float64():
    """The types that are written are bfloat16's: 8 bits."""
    data = drawn(64)
    found = differences(compiled(*data, how(tf.bfloat16)), expected(*data))
    assert 1e-4 < found["y"] < 2e-2
    assert max(found[name] for name in ("mean1", "variance1", "mean2", "variance2")) < 5e-3
    cosines = [np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) for a, b in (
        (compiled(*data, how(tf.bfloat16))[name], expected(*data)[name])
        for name in ("d_kernel1", "d_kernel2", "d_gamma1", "d_beta2"))]
    assert min(cosines) > 0.99


def test_no_rows():
    """A rank without rows."""
    pictures, weights, upstream = drawn()
    found = compiled(pictures[:0], weights, upstream[:0])
    assert found["y"].shape == (0, 4, 4, 64)


def test_a_number_that_is_none_stays_one():
    """So that a training that diverged is noticed."""
    pictures, weights, upstream = drawn()
    weights[0][1, 1, 1, 3] = np.nan
    assert np.isnan(compiled(pictures, weights, upstream)["y"]).any()


def test_normalisation_over_two_ranks():
    """Each has half of the rows: together they are one with all rows, in features, statistics and
    the sum of gradients. A third one, which is absent, has no part in it."""
    pictures, weights, upstream = drawn(rows=6)
    parts = [(pictures[:2], upstream[:2], 1), (pictures[2:], upstream[2:], 1),
             (pictures[:2], np.zeros_like(upstream[:2]), 0)]
    sums: dict[str, np.ndarray] = {}
    # the sums in their order, each computed from all ranks' shares before the next one is asked for
    for name in ("bn1_forward", "bn2_forward", "bn2_backward", "bn1_backward"):
        shares = []

        def asked(value: tf.Tensor, own: str, name=name, shares=shares) -> tf.Tensor:
            if own == name:
                shares.append(value.numpy())
            return tf.constant(sums.get(own, value.numpy()))

        for rows, dy, present in parts:
            compiled(rows, weights, dy, how(present=present, sync_bn=True, allreduce=asked))
        sums[name] = np.sum(shares, 0)
    found = [compiled(rows, weights, dy, how(
        present=present, sync_bn=True, allreduce=lambda _, own: tf.constant(sums[own])))
        for rows, dy, present in parts]
    whole = expected(pictures, weights, upstream)
    together = {"y": np.concatenate([part["y"] for part in found[:2]])}
    for name in whole:
        if name.startswith("d_"):
            together[name] = np.sum([part[name] for part in found], 0)
        elif name != "y":
            together[name] = found[0][name]
    assert max(differences(together, whole).values()) < 1e-5


@pytest.mark.parametrize(("change", "text"), [
    (lambda a: a.update(kernel=tf.zeros((3, 3, 3, 16))), r"\(3, 3, 3, 32\) or"),
    (lambda a: a.update(bias=tf.zeros(31)), "one for each"),
    (lambda a: a.update(x=tf.zeros((1, 3, 8, 3), tf.uint8)), "height, width"),
    (lambda a: a.update(x=tf.zeros((8, 8, 3), tf.uint8)), "height, width"),
    (lambda a: a.update(x=tf.zeros((1, 8, 8, 3))), "must be bytes"),
    (lambda a: a.update(x=tf.zeros((1, 8, 8, 32)), kernel=tf.zeros((3, 3, 32, 64))),
     "normalisation is missing|one for each")])
def test_shapes_that_do_not_fit_are_refused(built, change, text):
    """By an error, not by reading memory that isn't theirs."""
    arguments = {"x": tf.zeros((1, 8, 8, 3), tf.uint8), "kernel": tf.zeros((3, 3, 3, 32)),
                 "bias": tf.zeros(32), "gamma": tf.zeros(32)}
    change(arguments)
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        built.call("convolution", normalisation=[], T=tf.float32, threads=1, **arguments)


# --- when they are used ------------------------------------------------------------------------


def operations(weights: Weights, compute: tf.DType = tf.float32) -> set[str]:
    """The names of the operations in the graph of a pass."""
    graph = tf.function(lambda pictures: weights.forward(
        pictures, tf.zeros(2, tf.int32), how(compute)).logits).get_concrete_function(
            tf.TensorSpec((4, 32, 32, 3), tf.uint8)).graph
    return {operation.type for operation in graph.get_operations()}


def used(weights: Weights, compute: tf.DType = tf.float32) -> bool:
    return any(name.startswith("HpcDeepfake") for name in operations(weights, compute))


def test_a_pass_uses_them_for_float32_on_a_cpu(monkeypatch):
    """And TensorFlow's for float64, for frozen convolutions, with a GPU, or switched off."""
    weights = Weights(table.build(size=32))
    assert used(weights) and used(weights, tf.bfloat16)
    assert not used(Weights(table.build("float64", 32)), tf.float64)
    keras.config.set_dtype_policy("float32")
    frozen = table.build(size=32)
    freeze(frozen, "bn2")
    assert not used(Weights(frozen))
    head = table.build(size=32)
    freeze(head, "dense1")
    assert used(Weights(head))
    assert blocks.vectors(Settings(), "sync") == library.loaded().vectors
    assert not blocks.vectors(Settings(), "mesh")
    assert not blocks.vectors(Settings(network="meso4"), "sync")
    assert not blocks.vectors(Settings(freeze="dense*,bn?"), "sync")
    assert blocks.vectors(Settings(freeze="dense*"), "sync")
    with monkeypatch.context() as patch:
        patch.setattr(tf.config, "get_visible_devices", lambda kind: [f"a {kind}"])
        assert not used(weights) and not blocks.vectors(Settings(), "sync")
    library.switch_off("--no-compiled")
    assert not used(weights) and not blocks.vectors(Settings(), "sync")
    assert blocks.missing() == "--no-compiled"


def test_both_ways_compute_the_same():
    """Logits and gradients of the network, with TensorFlow's operations and with these."""
    keras.utils.set_random_seed(3)
    weights = Weights(table.build(size=32))
    pictures, labels = drawn(32, 8)[0], np.arange(8) % 2
    found = []
    for off in (False, True):
        if off:
            library.switch_off("test")
        with tf.GradientTape() as tape:
            logits = weights.forward(tf.constant(pictures), tf.zeros(2, tf.int32),
                                     how()._replace(dropout=0.0)).logits
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        found.append([logits, *tape.gradient(loss, weights.trainable)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * np.abs(other).max())


class Ranks:
    """What the other ranks say, instead of a communicator."""

    def __init__(self, *reasons: str) -> None:
        self.reasons = reasons

    def gather(self, _, own: tuple[str, str]) -> list[tuple[str, str]]:
        return [own, *((reason, "n02") for reason in self.reasons)]


def test_ranks_agree(monkeypatch):
    """One that has none switches them off on all."""
    ranks = Ranks("")
    monkeypatch.setattr(library.mpi, "gather", ranks.gather)
    blocks.agree(ranks, True)
    assert not blocks.missing()
    ranks.reasons = "", "they are not built"
    blocks.agree(ranks, True)
    assert blocks.missing() == "rank 2 on n02: they are not built"
    ranks.reasons = ("--no-compiled",)
    blocks.agree(ranks, False)
    assert blocks.missing() == "--no-compiled"
    ranks.reasons = ("",)  # another training in the same process
    blocks.agree(ranks, True)
    assert not blocks.missing() and library.loaded() is not None


# --- building -----------------------------------------------------------------------------------


def build(**environ: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "hpc_deepfake.network.blocks"], text=True,
                          capture_output=True, check=False, env={**os.environ, **environ})


@pytest.mark.parametrize(("environ", "text"), [
    ({"CXX": "false"}, "(exit code 1)"), ({"CXX": "true"}, "(exit code 0, no 16.o)"),
    ({"CXX": 'g++ "'}, "No closing quotation"),
    ({"CXX": "no-such-compiler"}, "no C++ compiler 'no-such-compiler'"),
    ({"PATH": "/nowhere", "CXX": ""}, "no C++ compiler")])
def test_a_build_that_fails_says_what_to_do(environ, text):
    """Exit code 2, no traceback, and the library that is there stays."""
    before = library.built()
    done = build(**environ)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and text in done.stderr
    assert "CXX=" in done.stderr
    assert library.built() == before


@pytest.fixture
def copied(monkeypatch, tmp_path):
    """The sources and the library in another folder, from which nothing was loaded so far."""
    for name in library.SOURCES:
        shutil.copy(library.HERE / name, tmp_path)
    file = library.built()
    (tmp_path / "built").mkdir()
    copy = Path(shutil.copy(file, tmp_path / "built"))
    monkeypatch.setattr(library, "HERE", tmp_path)
    library._load.cache_clear()
    yield copy
    library._load.cache_clear()


def test_a_build_leaves_another_one_alone(copied, monkeypatch):
    """And removes what is left of one that was ended long ago."""
    beside, ended = (copied.with_name(f"tmp{name}") for name in ("beside", "ended"))
    for folder in (beside, ended):
        folder.mkdir()
    os.utime(ended, (0, 0))
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(InputError, match="could not compile"):
        library.build()
    assert beside.exists() and not ended.exists()


def test_another_source_is_another_library(copied):
    """A library of older sources is not used, and it is said."""
    assert library.built() == copied
    with (library.HERE / "loops.cc").open("a") as file:
        file.write("// changed\n")
    assert library.built() is None and library.loaded() is None
    assert library.COMMAND in blocks.missing()


def test_a_damaged_library_is_not_loaded(copied):
    """Such as one that was cut off, whose loading would end the process by a signal."""
    whole = copied.read_bytes()
    for content in (whole[:5000], whole[:len(whole) // 2], b"", whole[:-1] + b"x"):
        library._load.cache_clear()
        copied.write_bytes(content)
        assert library.loaded() is None
        assert f"{copied} is damaged" in blocks.missing() and library.COMMAND in blocks.missing()


def test_a_library_that_cannot_be_loaded_is_said(copied):
    """Such as one that was linked with another TensorFlow."""
    content = b"no library"
    copied.unlink()
    other = copied.with_name(f"{library._key()}-{library._digest(content)}.so")
    other.write_bytes(content)
    assert library.loaded() is None
    assert f"{other} can't be loaded: " in blocks.missing()
    other.unlink()
    other.mkdir()
    library._load.cache_clear()
    assert "can't be loaded: [Errno 21] Is a directory" in blocks.missing()


def test_a_folder_that_cannot_be_written_is_said(monkeypatch, tmp_path):
    """Such as that of an installation by somebody else."""
    monkeypatch.setattr(library, "HERE", tmp_path)
    (tmp_path / "built").write_text("")
    with pytest.raises(InputError, match=r"can't be written .*remove .* if it is"):
        library.build()


def test_memory_is_used_again():
    """Steps after the first two take no more of it."""
    data = drawn(64, rows=16)
    run = partial(compiled, *data)

    def resident() -> int:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    for _ in range(3):
        run()
    before = resident()
    for _ in range(12):
        run()
    assert resident() - before < 24 << 20
