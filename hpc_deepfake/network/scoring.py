"""Probabilities computed by a trained model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network import maps
from preprocessing.ela import at_once

LEAST = 1e-37  # of an output; below, float32 loses digits, and some runtimes have zero
T = TypeVar("T")
R = TypeVar("R")
BATCH = 64  # pictures of 128 × 128 at a time: what a network's layers take grows with both
_NEAR = 1e-3  # below this, the other probability as float32 has too few digits


class Scores(NamedTuple):
    """What a network says of pictures.

    Attributes:
        probabilities: of tampered, float64 (n).
        odds: log(tampered / authentic), float64 (n): they tell pictures apart whose probability is
            1.
        members: probabilities of tampered by each of the m members of an ensemble, float64 (n, m);
            None: they weren't asked for.
    """

    probabilities: np.ndarray
    odds: np.ndarray
    members: np.ndarray | None = None

    @classmethod
    def of(cls, outputs: np.ndarray | list[np.ndarray]) -> Scores:
        """From the softmax output (n, 2), or a list of an ensemble's and its members'. Of its two
        numbers the smaller one is exact: 1 - 1e-9 is 1 as a float32, but 1e-9 beside it is not 0.
        """
        if isinstance(outputs, list):
            whole, *members = map(cls.of, outputs)
            return whole._replace(members=np.stack(
                [member.probabilities for member in members], axis=1))
        authentic, tampered = np.asarray(outputs, np.float64).reshape(-1, 2).T
        return cls(np.where(authentic < _NEAR, 1 - authentic, tampered),
                   np.log(np.maximum(tampered, LEAST)) - np.log(np.maximum(authentic, LEAST)))

    @classmethod
    def joined(cls, parts: Sequence[Scores]) -> Scores:
        """Those of all parts, one after the other."""
        empty = np.empty(0)
        members = [part.members for part in parts if part.members is not None]
        return cls(np.concatenate([empty, *(part.probabilities for part in parts)]),
                   np.concatenate([empty, *(part.odds for part in parts)]),
                   np.concatenate(members) if members else None)


def launcher(network: Any) -> Callable[[np.ndarray], Any]:
    """What computes a network's outputs for a batch: ``inference.of`` of a Keras model, and
    ``predict_on_batch`` of anything else that has it."""
    if not hasattr(network, "layers"):
        plain: Callable[[np.ndarray], Any] = network.predict_on_batch
        return plain
    from hpc_deepfake.network import inference  # TensorFlow

    return inference.of(network)


def launched(launch: Callable[[T], R], items: Iterable[T], ahead: int = 1) -> Iterator[R]:
    """``launch(item)`` of each item, in order, where the next ``ahead`` items are launched before a
    result is handed out.

    A launch returns tensors, which a GPU is still computing: whoever reads one (``.numpy()``) waits
    for it alone, while the GPU already has its next work. On a CPU a launch is the computation.
    """
    pending: deque[R] = deque()
    for item in items:
        pending.append(launch(item))
        if len(pending) > ahead:
            yield pending.popleft()
    yield from pending


def scores(network: Any, features: Sequence[np.ndarray]) -> Scores:
    """What the network says of each feature, uint8 (S, S, 3) each.

    Args:
        network: the trained Keras model, for S × S.
        features: of the pictures; taken ``BATCH`` at a time, larger ones in smaller batches.

    Raises:
        InputError: a probability is not finite.
    """
    return require_finite(Scores.joined([
        Scores.of(outputs) for _, outputs in _outputs(network, features)]))


def located(network: Any, features: Sequence[np.ndarray]) -> tuple[Scores, np.ndarray]:
    """``scores``, and where the network says that each picture was changed.

    Args:
        network: of two outputs, from ``maps.both``.
        features: as for ``scores``.

    Returns:
        The scores, and the maps in levels of 1/255, uint8 (n, S, S).

    Raises:
        InputError: as ``scores``.
    """
    if not len(features):
        return Scores.joined([]), np.empty((0, 0, 0), np.uint8)
    levels, found = np.empty((len(features), *features[0].shape[:2]), np.uint8), []
    for first, (probabilities, where) in _outputs(network, features):
        found.append(require_finite(Scores.of(probabilities)))
        levels[first:first + len(where)] = maps.quantised(where)
    return Scores.joined(found), levels


def _outputs(network: Any, features: Sequence[np.ndarray]) -> Iterator[tuple[int, Any]]:
    """What the network gives for ``BATCH`` pictures at a time, after the place of the first."""
    if not len(features):
        return
    launch, most = launcher(network), at_once(BATCH, len(features[0]))
    yield from launched(lambda first: (first, launch(np.stack(features[first:first + most]))),
                        range(0, len(features), most))


def require_finite(found: Scores) -> Scores:
    """The argument itself.

    Raises:
        InputError: a probability is not finite.
    """
    if not np.isfinite(found.probabilities).all():
        raise InputError("the model's probabilities are not finite numbers: its training diverged, "
                         "or its file was damaged; use another --model")
    return found
