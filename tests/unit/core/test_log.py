"""The log: levels, and who shows what."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.log import log, start


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The logger as it was before."""
    before = log.handlers[:], log.level, log.propagate
    yield
    log.handlers[:], log.level, log.propagate = before
    log.setLevel(before[1])


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines that one message of each level gives."""
    for level in ("debug", "info", "warning", "error"):
        getattr(log, level)("a message of level %s", level)
    out, err = capsys.readouterr()
    assert not out
    return err.splitlines()


@pytest.mark.parametrize(("rank", "level", "levels"), [
    (0, None, "info warning error"), (0, "info", "info warning error"),
    (0, "WARNING", "warning error"), (0, "error", "error"),
    (3, None, "warning error"), (3, "warning", "warning error"), (3, "error", "error")])
def test_levels(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: int,
                level: str | None, levels: str) -> None:
    """Of other ranks only warnings and errors, with the rank; rank 0's messages stand alone."""
    monkeypatch.delenv("HPC_DEEPFAKE_LOG", raising=False)
    if level is not None:
        monkeypatch.setenv("HPC_DEEPFAKE_LOG", level)
    start(rank)
    prefix = f"rank {rank}: " if rank else ""
    assert shown(capsys) == [f"{prefix}a message of level {name}" for name in levels.split()]


@pytest.mark.parametrize("rank", [0, 3])
def test_a_debug_log_has_all_messages_with_rank_and_time(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: int) -> None:
    monkeypatch.setenv("HPC_DEEPFAKE_LOG", "debug")
    start(rank)
    lines = shown(capsys)
    assert len(lines) == 4
    assert all(line.startswith(f"rank {rank}: 20") and " a message of level " in line
               for line in lines)


def test_an_empty_level_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPC_DEEPFAKE_LOG", "")
    start()
    assert log.level == logging.INFO


@pytest.mark.parametrize("level", ["loud", "0", "notset", "info "])
def test_a_wrong_level_is_an_input_error_of_all_ranks(monkeypatch: pytest.MonkeyPatch,
                                                      level: str) -> None:
    monkeypatch.setenv("HPC_DEEPFAKE_LOG", level)
    with pytest.raises(InputError, match="set it to debug, info, warning or error") as error:
        start(1)
    assert error.value.everywhere


def test_starting_twice_shows_each_message_once(capsys: pytest.CaptureFixture[str]) -> None:
    start()
    start()
    log.info("once")
    assert capsys.readouterr().err == "once\n"
    assert len(log.handlers) == 1


def test_messages_follow_a_redirected_stderr(monkeypatch: pytest.MonkeyPatch,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    start()
    monkeypatch.setattr(sys, "stderr", sys.stdout)
    log.info("moved")
    assert capsys.readouterr() == ("moved\n", "")


def test_the_root_logger_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """TensorFlow and others log through it."""
    handlers = logging.getLogger().handlers[:]
    start()
    assert logging.getLogger().handlers == handlers and not log.propagate
