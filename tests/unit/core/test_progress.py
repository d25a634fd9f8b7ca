"""Progress lines, on a terminal and elsewhere."""

from __future__ import annotations

import sys
import time

import pytest

from hpc_deepfake.core.progress import Line, counted


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that ``progress`` sees; tests change its only element."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_plain_line_is_due_after_the_interval(clock: list[float]) -> None:
    line = Line(interval=10)
    assert not line.due()
    clock[0] += 9.9
    assert not line.due()
    clock[0] += 0.2
    assert line.due() and not line.due()
    clock[0] += 10
    assert line.due()


def test_plain_lines_are_printed_one_below_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    line = Line()
    line.show("1 of 2")
    line.show("2 of 2")
    line.clear()
    assert capsys.readouterr() == ("", "1 of 2\n2 of 2\n")


def test_on_a_terminal_the_line_is_rewritten_and_removed(
        clock: list[float], monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    line = Line(interval=10)
    clock[0] += 0.6
    assert line.due(), "twice a second"
    line.show("1 of 2")
    line.show("2 of 2")
    assert capsys.readouterr().err == "\r\033[K1 of 2\r\033[K2 of 2"
    line.clear()
    line.clear()
    assert capsys.readouterr().err == "\r\033[K", "removed once"


@pytest.mark.parametrize(("shown", "interval"), [(False, 10.0), (True, 0.0)])
def test_a_line_that_is_off_shows_nothing(clock: list[float], shown: bool, interval: float,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    """Of another rank, or with interval 0 where there is no terminal."""
    line = Line(shown, interval)
    clock[0] += 1000
    assert not line.due()
    line.show("1 of 2")
    line.clear()
    assert capsys.readouterr() == ("", "")


def test_interval_0_still_shows_the_line_on_a_terminal(
        clock: list[float], monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    line = Line(interval=0)
    clock[0] += 0.6
    assert line.due()
    line.show("1 of 2")
    assert capsys.readouterr().err


def test_counted_passes_all_items_on(clock: list[float],
                                     capsys: pytest.CaptureFixture[str]) -> None:
    numbers = []
    for number in counted(range(4), 4, "pictures"):
        numbers.append(number)
        clock[0] += 6
    assert numbers == [0, 1, 2, 3]
    assert capsys.readouterr().err == "2 of 4 pictures (50%)  0/s  12 s left\n"
