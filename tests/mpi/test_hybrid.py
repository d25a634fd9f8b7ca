"""The large layer's rows dealt to groups of ranks: the same training, other bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import read_lines, run_program
from gradients import FULL, PLACES, SMALL, check_float32, gradient_error
from worlds import Worlds

from hpc_deepfake.strategies import traffic

CASES = {"2": (2, ()), "3": (3, ()), "4": (4, ("4",)), "4 in groups of 2": (4, ("2",))}
MORE = ("2", "4 in groups of 2")
pytestmark = [pytest.mark.mpi, pytest.mark.slow]


WHOLE = "2 in full size"
Found = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def results(found: Callable[..., Found]) -> dict[str, Found]:
    """What strategies.py found, by case, of the small network but for one."""
    return {WHOLE: found("strategies.py", 2, FULL, "hybrid"), **{
        name: found("strategies.py", ranks, SMALL, "hybrid", *group)
        for name, (ranks, group) in CASES.items()}}


@pytest.fixture(scope="module")
def wanted(found: Callable[..., Found]) -> Found:
    """What sequential training found of the small network."""
    return found("strategies.py", 1, SMALL)


@pytest.mark.parametrize("case", [*CASES, WHOLE])
@pytest.mark.parametrize("rows", [10, 3])
def test_first_gradients_are_equal(found: Callable[..., Found], results: dict, wanted: Found,
                                   case: str, rows: int) -> None:
    """As for sync; 3 rows leave a rank of 4 without any."""
    want = found("strategies.py", 1, FULL) if case == WHOLE else wanted
    for place in PLACES:
        assert gradient_error(results[case], want, f"float64/gradient{rows}",
                              places=[place]) <= 1e-10, place
    check_float32(results[case], want, f"float32/gradient{rows}")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("what", ["float64", "accumulate"])
def test_sgd_in_float64_is_equal(results: dict, wanted: Found, case: str, what: str) -> None:
    for part in ("loss", "weights"):
        want, got = wanted[f"{what}/{part}"], results[case][f"{what}/{part}"]
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", MORE)
def test_lamb_and_averages_are_equal(results: dict, wanted: Found, case: str) -> None:
    """By the norm of the whole kernel: with that of each rank's own rows they differ by more than a
    thousand tolerances."""
    for part in ("loss", "state", "averaged"):
        np.testing.assert_allclose(results[case][f"lamb/{part}"], wanted[f"lamb/{part}"],
                                   rtol=1e-9, atol=1e-8)  # as for sync
    assert np.abs(results["2"]["unsummed_norms/state"] - wanted["lamb/state"]).max() > 1e-5


@pytest.mark.parametrize("case", CASES)
def test_adam_in_float32_has_the_same_losses(results: dict, wanted: Found, case: str) -> None:
    np.testing.assert_allclose(results[case]["adam/loss"], wanted["adam/loss"],
                               rtol=1e-3)
    assert results[case]["adam/spread"] == 0


@pytest.mark.parametrize("case", CASES)
def test_all_ranks_learn_that_one_has_diverged(results: dict, case: str) -> None:
    """As for sync; ranks that hold the kernel together have the same numbers, and so find it."""
    found, ranks = results[case], CASES[case][0]
    assert found["diverged/weights"].tolist() == [*[True] * (ranks - 1), False]
    assert found["diverged/done"].tolist() == [True] * ranks
    assert found["diverged/at"][-1] == 41


@pytest.mark.parametrize(("mistake", "case"), [
    ("unexchanged_sums", "2"), ("unexchanged_backward", "2"),
    ("unreduced_kernel", "4 in groups of 2")])
def test_mistakes_are_found(results: dict, wanted: Found, mistake: str, case: str) -> None:
    """By more than a thousand tolerances of the comparison above."""
    want, got = wanted["float64/loss"][:6], results[case][f"{mistake}/loss"]
    assert np.abs(got / want - 1).max() > 1e-6


@pytest.mark.parametrize("case", [*CASES, WHOLE])
def test_only_rank_0_has_a_whole_kernel(results: dict, case: str) -> None:
    """In its Keras model; moments of a whole kernel are nowhere."""
    ranks = CASES.get(case, CASES["2"])[0]
    assert results[case]["kernels"].tolist() == [1] + [0] * (ranks - 1)


@pytest.mark.parametrize("case", [*CASES, WHOLE])
def test_bytes_are_those_of_the_formula(results: dict, case: str) -> None:
    """Counted where they are sent, of all ranks, 8 rows in all; the sums of --sync-bn come on top:
    count, mean, squares forward and two sums backward, in float64."""
    ranks, groups = CASES.get(case, CASES["2"])
    group = int((*groups, ranks)[0])
    size = FULL if case == WHOLE else SMALL
    want = traffic.hybrid(ranks, group, 8 / ranks, sizes=traffic.table(size))
    want["allreduce"] += traffic.allreduce(8 * (2 + 4 * (32 + 64)), ranks)
    for kind, sent in want.items():
        assert results[case].get(f"bytes/{kind}", 0) == pytest.approx(ranks * sent, abs=2), kind


@pytest.mark.parametrize("case", MORE)
def test_bf16_changes_little(results: dict, case: str) -> None:
    """The loss curve stays within 1%, and isn't the very same: something was rounded."""
    want, got = results[case]["bf16/reference"], results[case]["bf16/loss"]
    np.testing.assert_allclose(got, want, rtol=1e-2)
    assert not np.array_equal(got, want)


@pytest.mark.parametrize("case", MORE)
def test_a_state_is_the_same_everywhere(results: dict, case: str) -> None:
    """Gathered, taken up by one process and by groups of another size, bit for bit, with its next
    step; and probabilities, of fewer pictures than ranks too, are the Keras model's."""
    found = results[case]
    assert all(found[name] for name in ("state/same", "regrouped/same", "model/same", "model/own"))
    assert found["regrouped/kernel"][0] != 2304 / int((*CASES[case][1], CASES[case][0])[0])
    here, there = found["regrouped/losses"]
    assert here == pytest.approx(there, rel=1e-12)
    assert found["probabilities/5"] < 1e-7 and found["probabilities/1"] < 1e-7


def test_unequal_widths(worlds: Worlds, tmp_path: Path) -> None:
    """Of the dealt rows, with unequal numbers of pictures: exact in float64, rounded in 16 bits,
    and every byte that leaves a rank is counted."""
    answer = worlds.run(3, "sharded.py", cwd=tmp_path)
    assert answer.code == 0, answer.output
    found = json.loads(answer.output)
    assert max(found["float64"]) < 1e-12
    for kind in ("bf16", "bfloat16"):
        assert 1e-4 < max(found[kind]) < 0.2, kind
    widths, rows, outputs = (4, 3, 3), (2, 1, 3), 5
    for width, count, exact, brief, both in zip(widths, rows, found["float64/sent"],
                                                found["bf16/sent"], found["bfloat16/sent"]):
        activations = count * (sum(widths) - width) + (sum(rows) - count) * width
        sums, gradient = (sum(rows) - count) * outputs, 2 * count * outputs
        assert exact == [8 * (activations + sums), 8 * gradient]
        assert brief == [2 * activations + 8 * sums, 8 * gradient]
        assert both == [2 * activations + 4 * sums, 4 * gradient]


def test_a_run_changes_strategy_and_ranks(worlds: Worlds, small_file: Path,
                                          tmp_path: Path) -> None:
    """hybrid on 2 ranks, on one process, hybrid on 3 ranks in other groups: one run."""
    folder = tmp_path / "run"
    for epochs, ranks, more in ((1, 2, ("--strategy", "hybrid")), (2, 1, ()),
                                (3, 3, ("--strategy", "hybrid", "--shard-group", "3"))):
        answer = worlds.run(ranks, "train", "--data", small_file, "--run", folder, "--resume",
                            "--batch-size", 6, "--device", "cpu", "--threads", 1, "--no-report",
                            "--epochs", epochs, *more, cwd=tmp_path)
        assert answer.code == 0, answer.output
        assert ("resuming " in answer.output) == (epochs > 1)
    lines = read_lines(folder / "metrics.jsonl")
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert [line.get("bytes", {}).get("alltoall", 0) > 0 for line in lines] == [True, False, True]
    assert all(np.isfinite(line["val_loss"]) for line in lines)
    assert lines[0]["seconds"]["communication"] > 0


@pytest.mark.parametrize(("options", "words"), [
    (("--strategy", "hybrid", "--shard-group", "2"), "use one of 1, 3"),
    (("--strategy", "hybrid", "--compression", "fp16"), "use --compression bf16"),
    (("--compression", "bf16"), "use fp16"),
    (("--shard-group", "3"), "does not support --shard-group 3")])
def test_options_that_dont_fit_are_refused(data_file: Path, tmp_path: Path,
                                           options: tuple[str, ...], words: str) -> None:
    done = run_program("hpc_deepfake.train", "--data", data_file, *options, ranks=3, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1 and words in done.stderr
