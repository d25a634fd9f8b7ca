"""The bound on staleness holds whatever the workers do, and never stops them for good."""

from __future__ import annotations

import random

import pytest

from hpc_deepfake.strategies.asynchronous.admission import Admission


def run(bound: int | None, workers: int, jobs: int, seed: int, ahead: int,
        slow: float = 1.0) -> list[int]:
    """Staleness of each update. Workers finish in random order, worker 0 ``slow`` times as
    seldom, and may ask for their next job while they compute (``ahead`` 2)."""
    chance = random.Random(seed)
    admission, found = Admission(bound), []
    running: list[list[int]] = [[] for _ in range(workers)]  # begun, in the order of computing
    arrived: list[int] = []
    given = 0
    while len(found) < jobs:
        moved = False
        for worker in chance.sample(range(workers), workers):
            if given < jobs and len(running[worker]) < ahead and admission.may_begin():
                admission.begin(given)
                running[worker].append(given)
                given, moved = given + 1, True
        busy = [worker for worker in range(workers) if running[worker]]
        weights = [1 / slow if worker == 0 else 1.0 for worker in busy]
        if busy:
            arrived.append(running[chance.choices(busy, weights)[0]].pop(0))
            moved = True
        for job in list(arrived):
            if admission.may_apply(job):
                arrived.remove(job)
                found.append(admission.apply(job))
                moved = True
        assert moved, "nobody can go on"
    assert not admission.begun and not arrived
    return found


@pytest.mark.parametrize("ahead", [1, 2])
@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize("bound", [0, 1, 2, 3, 7, 20])
def test_no_update_is_staler_than_the_bound(bound: int, workers: int, ahead: int) -> None:
    """And all jobs are done: nobody waits for ever."""
    for seed in range(20):
        assert max(run(bound, workers, 60, seed, ahead, slow=10)) <= bound


def test_without_a_bound_a_slow_worker_is_as_stale_as_it_is_slow() -> None:
    assert max(run(None, 4, 300, 0, 1, slow=20)) > 20


def test_bound_0_is_one_after_the_other() -> None:
    admission = Admission(0)
    assert admission.may_begin()
    admission.begin(0)
    assert not admission.may_begin()
    assert admission.may_apply(0) and admission.apply(0) == 0
    assert admission.may_begin()


def test_a_job_at_its_deadline_goes_first() -> None:
    """Two begin together under bound 1: one is applied at staleness 0, the other at 1, and no
    third may be applied between them."""
    admission = Admission(1)
    admission.begin(0)
    assert admission.may_begin()
    admission.begin(1)
    assert not admission.may_begin()
    assert admission.apply(1) == 0
    admission.begin(2)
    assert not admission.may_apply(2), "it would make the first one too stale"
    assert admission.apply(0) == 1
    assert admission.may_apply(2)
