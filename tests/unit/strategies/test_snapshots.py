"""What a strategy gives to be written is its own: training goes on beside it."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from hpc_deepfake.network.settings import Settings

pytestmark = pytest.mark.slow  # TensorFlow


def test_copies_and_the_model_for_files_keep_their_values_while_training_changes_the_weights():
    """The model that is written is built in the writing thread, and isn't the trained one. Ranks
    other than 0 copy nothing."""
    import keras

    from hpc_deepfake.network import table
    from hpc_deepfake.network.fused import Weights
    from hpc_deepfake.strategies.sequential import Sequential

    keras.utils.set_random_seed(0)
    trained = table.build()
    strategy = Sequential(trained, Settings())
    state, whole = strategy.state(), strategy.whole()
    before = [value.copy() for value in whole]
    for variable in (*strategy.variables, *strategy.slots):
        variable.assign_add(variable * 0 + 1)
    models: list[keras.Model] = []
    thread = threading.Thread(target=lambda: models.append(strategy.keras_model(whole)))
    thread.start()
    thread.join()
    model, = models
    for kept in (state[:len(before)], whole, [value.numpy() for value in Weights(model).all]):
        assert all(np.array_equal(one, other) for one, other in zip(kept, before, strict=True))
    assert not np.array_equal(trained.get_weights()[0], model.get_weights()[0])
    assert model.name == trained.name and model.dtype_policy == trained.dtype_policy
    strategy.restore(whole)
    assert all(np.array_equal(one, other) for one, other in zip(
        trained.get_weights(), model.get_weights(), strict=True))
    strategy.comm = SimpleNamespace(rank=1)
    assert strategy.state() == strategy.whole() == []
