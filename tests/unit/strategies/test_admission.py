"""The bound on staleness holds whatever the workers do, and never blocks them for ever."""

from __future__ import annotations

import random

import pytest

from hpc_deepfake.strategies.asynchronous.admission import Admission


def run(bound: int | None, workers: int, jobs: int, seed: int, ahead: int,
        slow: float = 1.0) -> list[int]:
    """The staleness of each update of a simulated run.

    Workers finish in random order, worker 0 ``slow`` times as rarely as the others. Each may have
    ``ahead`` jobs at a time: with 2 it asks for the next one while it computes."""
    chance = random.Random(seed)
    admission, staleness = Admission(bound), []
    running: list[list[int]] = [[] for _ in range(workers)]  # in the order of computing
    arrived: list[int] = []
    granted = 0
    while len(staleness) < jobs:
        moved = False
        for worker in chance.sample(range(workers), workers):
            if granted < jobs and len(running[worker]) < ahead and admission.may_begin():
                admission.begin(granted)
                running[worker].append(granted)
                granted, moved = granted + 1, True
        busy = [worker for worker in range(workers) if running[worker]]
        weights = [1 / slow if worker == 0 else 1.0 for worker in busy]
        if busy:
            arrived.append(running[chance.choices(busy, weights)[0]].pop(0))
            moved = True
        for job in list(arrived):
            if admission.may_apply(job):
                arrived.remove(job)
                staleness.append(admission.apply(job))
                moved = True
        assert moved, "no worker can continue"
    assert not admission.begun and not arrived
    return staleness


@pytest.mark.parametrize("ahead", [1, 2])
@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize("bound", [0, 1, 2, 3, 7, 20])
def test_no_update_is_staler_than_the_bound(bound: int, workers: int, ahead: int) -> None:
    """And all jobs are done: no worker waits for ever."""
    for seed in range(20):
        assert max(run(bound, workers, 60, seed, ahead, slow=10)) <= bound


def test_without_a_bound_a_slow_worker_is_as_stale_as_it_is_slow() -> None:
    assert max(run(None, 4, 300, 0, 1, slow=20)) > 20


def test_bound_0_allows_one_job_at_a_time() -> None:
    admission = Admission(0)
    assert admission.may_begin()
    admission.begin(0)
    assert not admission.may_begin()
    assert admission.may_apply(0) and admission.apply(0) == 0
    assert admission.may_begin()


def test_a_job_at_its_deadline_goes_first() -> None:
    """With bound 1, of two jobs that begin together one is applied with staleness 0 and the other
    with 1, and no third one may be applied between them."""
    admission = Admission(1)
    admission.begin(0)
    assert admission.may_begin()
    admission.begin(1)
    assert not admission.may_begin()
    assert admission.apply(1) == 0
    admission.begin(2)
    assert not admission.may_apply(2), "it would make job 0 too stale"
    assert admission.apply(0) == 1
    assert admission.may_apply(2)
