"""Random pictures in place of a data file, and training on some of the rows."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.data.rows import check_trainable, class_weights, first_rows
from hpc_deepfake.data.synthetic import VALIDATION, synthetic


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_any_number_of_pictures(rows):
    """Of few distinct ones; the same from the same seed; what identifies them is JSON."""
    data = synthetic(rows, "ela", 7)
    assert len(data.rows("train")) == rows and len(data.rows("validation")) == VALIDATION
    assert not len(data.rows("test"))
    pictures, labels = data.batch(np.array([0, rows - 1, rows + VALIDATION - 1]))
    assert pictures.shape == (3, 128, 128, 3) and pictures.dtype == np.uint8
    assert labels.tolist() == [0, (rows - 1) % 2, (rows + VALIDATION - 1) % 2]
    again = synthetic(rows, "ela", 7).batch(np.array([0]))[0]
    assert np.array_equal(again[0], pictures[0])
    assert not np.array_equal(synthetic(rows, "ela", 8).batch(np.array([0]))[0], again)
    attributes = data.header.attributes
    assert json.loads(json.dumps(attributes)) == attributes
    assert attributes != synthetic(rows + 1, "ela", 7).header.attributes
    assert len(data.header.array("path")) == rows + VALIDATION
    assert data.header.parameters.quality == 90


def test_pictures_of_other_sizes():
    """Fewer distinct ones where they are larger."""
    for size, distinct in ((64, 256), (512, 16)):
        data = synthetic(1000, "raw", 7, size)
        pictures, _ = data.batch(np.array([3, 3 + distinct, 4]))
        assert pictures.shape == (3, size, size, 3) and data.header.parameters.size == size
        assert np.array_equal(*pictures[:2]) and not np.array_equal(*pictures[1:])


def test_synthetic_pictures_can_be_trained_on():
    check_trainable(synthetic(2, "raw", 0))


def test_a_selection_of_rows():
    """It depends on the seed, includes any smaller one, and is in the order of the file."""
    rows = np.arange(100, 300, 2)
    few, many = first_rows(rows, 10, 3), first_rows(rows, 40, 3)
    assert len(few) == 10 and set(few) < set(many) <= set(rows)
    assert np.array_equal(few, np.sort(few))
    assert np.array_equal(few, first_rows(rows, 10, 3))
    assert not np.array_equal(few, first_rows(rows, 10, 4))
    assert np.array_equal(first_rows(rows, 0, 3), rows)
    assert np.array_equal(first_rows(rows, 100, 3), rows)
    with pytest.raises(InputError, match="--rows 101: the training part has 100 rows"):
        first_rows(rows, 101, 3)


def test_weights_of_classes_balance_them():
    labels = np.array([0, 0, 0, 1], np.uint8)
    weights = class_weights(labels)
    assert weights == pytest.approx((4 / 6, 2))
    per_row = np.array(weights)[labels]
    assert per_row.mean() == 1 and per_row[labels == 0].sum() == per_row[labels == 1].sum()
    with pytest.raises(InputError, match="all training rows are of one class") as error:
        class_weights(np.zeros(5, np.uint8))
    assert error.value.everywhere
