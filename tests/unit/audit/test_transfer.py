"""What properties of one data set's files predict of another's, with planted shortcuts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hpc_deepfake import metrics
from hpc_deepfake.audit import Container
from hpc_deepfake.audit.facts import Facts
from hpc_deepfake.audit.rows import Rows
from preprocessing.split import TRAIN, VALIDATION

COUNT = 80
LABELS = np.arange(COUNT) % 2


def container(tampered: str, authentic: str, missing: int = 0) -> Container:
    """Files whose quantisation tells the class; half of them in the training part."""
    header: Any = None
    parts = np.where(np.arange(COUNT) < COUNT // 2, TRAIN, VALIDATION)
    rows = Rows(header, np.arange(COUNT), LABELS, np.arange(COUNT) // 2, parts, [b""] * COUNT)
    facts: list[Facts | None] = [
        Facts("jpeg", quantisation=tampered if label else authentic) for label in LABELS]
    return Container(rows, [None] * missing + facts[missing:])


@pytest.mark.parametrize(("tampered", "authentic", "auc"), [
    ("75", "95", 1.0), ("95", "75", 0.0), ("60", "60", 0.5), ("60", "95", 1.0)])
def test_a_shortcut_carries_over_where_it_means_the_same(tampered: str, authentic: str,
                                                         auc: float) -> None:
    """And misleads where it means the opposite; a value that it doesn't know tells nothing."""
    other = container(tampered, authentic)
    found = container("75", "95").onto(other)
    assert found is not None and len(found.probabilities) == COUNT
    assert metrics.auc(found.probabilities, LABELS) == auc
    within = other.within()
    assert within is not None and within == (0.5 if tampered == authentic else 1)


def test_too_many_missing_files_predict_nothing() -> None:
    assert container("75", "95", missing=2).onto(container("75", "95")) is None
    assert container("75", "95", missing=2).within() is None
    tampered = container("75", "95").take(LABELS == 1)
    assert tampered.onto(container("75", "95")) is None and tampered.within() is None
