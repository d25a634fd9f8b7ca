"""Which rank is to blame, by what the ranks say of themselves; with a clock that the tests set."""

from __future__ import annotations

from hpc_deepfake.core.stalls import EITHER, WAITS, WORKS, Ranks, State


def told(*states: tuple[int, int, int], seconds: float = 100, silent: tuple[int, ...] = (),
         patience: float = 60) -> str | None:
    """What is said after ``seconds`` in which each rank repeated its phase, progress and kind."""
    ranks = Ranks(len(states), 0.0, 2.0)
    for now in range(int(seconds) + 1):
        for rank, (phase, progress, kind) in enumerate(states):
            if not now or rank not in silent:
                ranks.hear(rank, State(phase, progress, kind, f"node{rank}", f"busy with {phase}",
                                       f"file.py:{rank}"), now)
    stall = ranks.stall(seconds, patience)
    return stall and stall.text


def test_a_rank_in_an_earlier_phase_is_to_blame() -> None:
    assert told((5, 0, WAITS), (4, 2, WORKS), (5, 0, WAITS)) == \
        "rank 1 on node1 has been busy with 4 for 100 s while others wait (in file.py:1)"
    assert told((5, 0, WORKS), (4, 2, WORKS), (5, 0, WORKS)), "the others need not wait yet"
    assert told((5, 0, WAITS), (4, 2, WORKS), patience=101) is None
    # rank 0 waits for a rank, too, and one that is in front may have something to do
    said = told((4, 0, WAITS), (4, 0, WORKS), (6, 0, WORKS))
    assert said.count("rank") == 1 and said.startswith("rank 1")


def test_within_a_phase_the_rank_that_works_is_to_blame() -> None:
    for kind in (WAITS, EITHER):
        assert told((5, 1, kind), (5, 0, kind), (5, 0, WORKS)).startswith("rank 2 on node2 has ")
    assert told((5, 0, WORKS), (5, 0, WORKS)) is None, "work that takes all ranks long is no stall"


def test_a_rank_without_a_sign_of_life_is_to_blame_whatever_the_others_do() -> None:
    assert told((5, 0, WORKS), (5, 0, WORKS), silent=(1,)) == (
        "rank 1 on node1 gives no sign of life for 100 s; it was last seen busy with 5 "
        "(in file.py:1)")


def test_where_all_ranks_wait_all_are_listed() -> None:
    assert told((5, 0, WAITS), (5, 0, EITHER), (5, 0, EITHER)) == (
        "no rank has got any further for 100 s:\n  rank 0: busy with 5 (in file.py:0)\n"
        "  rank 1: busy with 5 (in file.py:1)\n  rank 2: busy with 5 (in file.py:2)")


def test_many_ranks_are_one_message_of_a_few_lines() -> None:
    said = told((6, 0, WAITS), *[(5, 0, WORKS)] * 9).splitlines()
    assert len(said) == 5 and said[-1] == "and so do 5 more ranks: 5, 6, 7, 8, 9"


def test_unequal_numbers_of_batches_are_no_stall() -> None:
    """A rank with more of them, or slower ones, makes progress while the others wait; a rank that
    makes none is named though nobody waits for it yet."""
    ranks = Ranks(3, 0.0, 2.0)
    for now in range(301):
        ranks.hear(0, State(5, 0, WAITS), now)
        ranks.hear(1, State(4, now // 50, WORKS), now)
        ranks.hear(2, State(4, now // 10, WORKS), now)
        assert ranks.stall(now, 60) is None
    for now in range(301, 371):
        ranks.hear(1, State(4, 6, WORKS), now)
        for rank in (0, 2):
            ranks.hear(rank, State(4, now, WORKS), now)
    assert ranks.stall(370, 60).text == \
        "rank 1 on an unknown node has been starting for 70 s without progress"


def test_time_in_which_the_judge_itself_was_stopped_does_not_count() -> None:
    ranks = Ranks(2, 0.0, 2.0)
    for rank in range(2):
        ranks.hear(rank, State(4 + rank, 0, WORKS), 10)
    ranks.skip(1000)
    assert ranks.stall(1020, 60) is None
    assert ranks.stall(1080, 60) is not None


def test_the_last_rank_watches_rank_0() -> None:
    ranks = Ranks(3, 0.0, 2.0)
    ranks.hear(0, State(4, 0, WORKS, "node0", "evaluating"), 0)
    assert ranks.stall_of_root(50, 60) is None
    assert ranks.stall_of_root(61, 60).text == \
        "rank 0 on node0 gives no sign of life for 61 s; it was last seen evaluating"
    ranks.hear(0, State(4, 0, WORKS, "node0", "evaluating"), 61)
    assert ranks.stall_of_root(70, 60) is None, "rank 0 judges itself while it lives"
