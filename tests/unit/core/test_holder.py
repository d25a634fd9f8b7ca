"""One holder at a time: processes of this machine, of others by their records, and dead ones."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT
from speed import limit

from hpc_deepfake.core import files, holder
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.holder import Holder, hold, release, releases, verify


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for name, seconds in (("GRACE", 0.05), ("SILENT", 0.15), ("_POLL", 0.01)):
        monkeypatch.setattr(holder, name, seconds)
    caplog.set_level(logging.INFO, "hpc_deepfake")
    for name in ("SLURM_JOB_ID", "PBS_JOBID", "SLURM_CLUSTER_NAME", "SLURM_RESTART_COUNT",
                 "HPC_DEEPFAKE_RERUNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def running() -> Iterator[int]:
    """The number of a process that runs."""
    process = subprocess.Popen(["sleep", "100"])
    yield process.pid
    process.kill()
    process.wait()


@pytest.fixture
def ended() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def held(folder: Path, pid: int, **values: object) -> Holder:
    """Write the record of a training, and return what it says."""
    who = replace(holder._process("a training", folder, pid), **values)
    (folder / "in-use.json").write_bytes(who.record())
    return who


def is_mine(folder: Path) -> bool:
    return Holder.parse((folder / "in-use.json").read_bytes()).pid == os.getpid()


ELSEWHERE = {"host": "node7", "boot": "another", "job": "4711"}
CONTAINER = {"host": "box", "namespace": "pid:[1]"}


def test_of_processes_that_start_at_once_exactly_one_holds(tmp_path, ended):
    """Also where they take over from a dead holder, and from one that died while taking over."""
    folders = [tmp_path / str(number) for number in range(60)]
    for number, folder in enumerate(folders):
        folder.mkdir()
        if number % 3:
            dead = held(folder, ended)
        if number % 3 == 2:
            guard = hashlib.sha256(dead.record()).hexdigest()[:16]
            (folder / f".new-in-use-{guard}").write_bytes(replace(dead, nonce="x").record())
    done = subprocess.run([sys.executable, ROOT / "tests" / "contenders.py", *folders],
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
                          capture_output=True, timeout=limit(60))
    assert done.stdout.split() == ["1"] * len(folders), done.stderr
    assert done.stderr.count("which was killed") == 40
    assert not [path for folder in folders for path in folder.iterdir()]


def test_a_running_holder_is_named(tmp_path, running, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "big")
    who = held(tmp_path, running, host="node1", since="2026-11-29 03:41:22 +0000")
    with pytest.raises(InputError) as error:
        hold(tmp_path, "a training", "--run")
    assert str(error.value) == (
        f"{tmp_path} is in use by a training (pid {running} on node1, job 123 of big, since "
        "2026-11-29 03:41:22 +0000): wait until it has ended, end it, or choose another --run")
    assert Holder.parse((tmp_path / "in-use.json").read_bytes()) == who
    assert os.listdir(tmp_path) == ["in-use.json"]


def test_a_holder_that_is_about_to_end_is_waited_for(tmp_path, running, monkeypatch):
    monkeypatch.setattr(holder, "GRACE", limit(20))
    held(tmp_path, running)
    threading.Timer(0.1, (tmp_path / "in-use.json").unlink).start()
    hold(tmp_path, "a training", "--run")
    assert is_mine(tmp_path)


@pytest.mark.parametrize("values", [{}, {"start": 1}])
def test_a_killed_holder_is_replaced_at_once(tmp_path, ended, running, caplog, values):
    """Also where its process number belongs to another process by now."""
    who = held(tmp_path, running if values else ended, **values)
    hold(tmp_path, "a training", "--run")
    assert is_mine(tmp_path) and f"is taken over from {who}, which was killed" in caplog.text
    assert os.listdir(tmp_path) == ["in-use.json"]


def test_a_zombie_is_dead(tmp_path):
    process = subprocess.Popen(["true"])
    who = held(tmp_path, process.pid)
    while holder._started(process.pid):
        time.sleep(0.01)
    hold(tmp_path, "a training", "--run")
    assert is_mine(tmp_path) and who.pid == process.pid
    process.wait()


def test_a_hidden_process_of_another_user_is_alive(tmp_path, running, monkeypatch):
    """As with /proc mounted with hidepid."""
    def forbidden(pid: int, number: int) -> None:
        raise PermissionError

    held(tmp_path, running)
    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", forbidden)
        patch.setattr(holder, "_started", lambda pid: None)
        with pytest.raises(InputError, match="is in use by a training"):
            hold(tmp_path, "a training", "--run")


@contextmanager
def beating(record: Path, hours: float) -> Iterator[None]:
    """A holder on a machine whose clock differs by some hours."""
    end = threading.Event()

    def beat() -> None:
        while not end.wait(0.02):
            now = time.time() + hours * 3600
            os.utime(record, (now, now))

    thread = threading.Thread(target=beat)
    thread.start()
    yield
    end.set()
    thread.join()


@pytest.mark.parametrize("place", [ELSEWHERE, CONTAINER, {"boot": ""}])
@pytest.mark.parametrize("hours", [5, -0.1])
def test_a_holder_out_of_sight_is_known_by_its_signs_of_life(tmp_path, ended, monkeypatch, place,
                                                             hours):
    """Whatever its clock says; its process number means nothing here."""
    monkeypatch.setattr(holder, "SILENT", limit(20))
    held(tmp_path, ended, **place)
    with beating(tmp_path / "in-use.json", hours), \
            pytest.raises(InputError, match=r"sign of life just now.* delete .*in-use\.json"):
        hold(tmp_path, "a training", "--run")


@pytest.mark.parametrize("place", [ELSEWHERE, CONTAINER])
@pytest.mark.parametrize("hours", [0, 5])
def test_a_silent_holder_out_of_sight_is_dead(tmp_path, running, caplog, place, hours):
    """Even if its last sign of life lies in the future."""
    held(tmp_path, running, **place)
    then = time.time() + hours * 3600
    os.utime(tmp_path / "in-use.json", (then, then))
    began = time.monotonic()
    hold(tmp_path, "a training", "--run")
    assert is_mine(tmp_path) and time.monotonic() - began >= holder.SILENT
    assert f"{tmp_path} is in use by a training" in caplog.messages[0]
    assert "for a sign of life" in caplog.messages[0]


def test_a_record_of_yesterday_is_not_watched(tmp_path, running, monkeypatch):
    monkeypatch.setattr(holder, "SILENT", 1e6)
    held(tmp_path, running, **ELSEWHERE)
    os.utime(tmp_path / "in-use.json", (time.time() - 86400,) * 2)
    hold(tmp_path, "a training", "--run")
    assert is_mine(tmp_path)


@pytest.mark.parametrize("names", [("SLURM_JOB_ID", "SLURM_RESTART_COUNT"),
                                   ("PBS_JOBID", "HPC_DEEPFAKE_RERUNS")])
@pytest.mark.parametrize(("job", "restarts", "own"), [
    ("4711", "1", True), ("4711", "0", False), ("4712", "1", False), ("", "", False)])
def test_a_job_started_again_takes_over_its_own(tmp_path, running, monkeypatch, names, job,
                                                restarts, own):
    """On another node, at once: the scheduler has ended its former processes."""
    monkeypatch.setattr(holder, "SILENT", 1e6 if own else 0.1)
    for name, value in zip(names, (job, restarts), strict=True):
        monkeypatch.setenv(name, value)
    held(tmp_path, running, **ELSEWHERE, restarts=0)
    began = time.monotonic()
    hold(tmp_path, "a training", "--run")
    assert own or time.monotonic() - began >= 0.1


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"[" * 10000, b'{"pid": 1}', b"\xff\0"])
def test_a_damaged_record_is_watched_like_any_other(tmp_path, monkeypatch, content):
    (tmp_path / "in-use.json").write_bytes(content)
    with monkeypatch.context() as patch, beating(tmp_path / "in-use.json", 0), \
            pytest.raises(InputError, match="is in use by another process"):
        patch.setattr(holder, "SILENT", limit(20))
        hold(tmp_path, "a training", "--run")
    hold(tmp_path, "a training", "--run")
    assert is_mine(tmp_path)


def test_wrong_types_are_no_holder(tmp_path):
    who = holder._process("x", tmp_path, 1)
    assert Holder.parse(who.record()) == who
    for values in ({"pid": "1"}, {"pid": True}, {"pid": -1}, {"pid": 1 << 40}, {"host": 3}):
        assert Holder.parse(replace(who, **values).record()) is None


def test_messages_show_no_control_characters(tmp_path, running):
    held(tmp_path, running, host="\x1b[2J\n")
    with pytest.raises(InputError, match=r"on \\x1b\[2J\\n"):
        hold(tmp_path, "a training", "--run")


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("precious"),
                                  lambda path: os.mkfifo(path)])
def test_what_is_no_file_is_an_input_error(tmp_path, make):
    (tmp_path / "precious").write_text("untouched")
    make(tmp_path / "in-use.json")
    with pytest.raises(InputError, match=r"cannot write .*in-use\.json"):
        hold(tmp_path, "a training", "--run")
    assert (tmp_path / "precious").read_text() == "untouched"


def test_a_place_that_cannot_be_written_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"cannot write .*x\.h5: .*with --out"):
        hold(tmp_path / "none" / "x.h5", "preprocessing", "--out")


def test_a_data_file_is_held_beside_it_and_by_links_too(tmp_path, running, monkeypatch):
    data, link = tmp_path / "a.h5", tmp_path / "sub" / "link.h5"
    data.write_bytes(b"")
    link.parent.mkdir()
    link.symlink_to(data)
    hold(link, "preprocessing", "--out")
    record = tmp_path / "a.h5.in-use.json"
    assert Holder.parse(record.read_bytes()).pid == os.getpid()
    release()
    assert not record.exists()
    who = holder._process("preprocessing", data, running)
    record.write_bytes(who.record())
    with pytest.raises(InputError, match=rf"link.h5 is in use .*there called {data}"):
        hold(link, "preprocessing", "--out")


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: held(path.parent, os.getppid())])
def test_who_has_lost_the_place_writes_nothing_more(tmp_path, lose):
    """A process that was suspended, while another one took over or somebody deleted the record."""
    run, other = tmp_path / "run", tmp_path / "run2"
    for folder in (run, other):
        folder.mkdir()
    hold(run, "a training", "--run")
    files.write_text(run / "a", "before")
    verify(run / "sub" / "b")
    lose(run / "in-use.json")
    for path in (run / "a", run / "b"):
        with pytest.raises(InputError, match=r"no longer holds .*writes nothing more"):
            files.write_text(path, "after")
    files.write_text(other / "a", "elsewhere")
    assert (run / "a").read_text() == "before"
    assert {path.name for path in run.iterdir()} <= {"a", "in-use.json"}
    record = run / "in-use.json"
    content = record.read_bytes() if record.exists() else None
    release()
    assert (record.read_bytes() if record.exists() else None) == content


def test_a_data_file_covers_what_is_named_after_it(tmp_path):
    hold(tmp_path / "x.h5", "preprocessing", "--out")
    (tmp_path / "x.h5.in-use.json").unlink()
    for name in ("x.h5", "x.h5.json", "x.h5.rejects.csv"):
        with pytest.raises(InputError, match="no longer holds"):
            verify(tmp_path / name)
    verify(tmp_path / "y.h5")


def test_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(holder, "BEAT", 0.01)
    monkeypatch.setattr(holder, "_heart", [])
    hold(tmp_path, "a training", "--run")
    os.utime(tmp_path / "in-use.json", (1, 1))
    until = time.monotonic() + limit(20)
    while (tmp_path / "in-use.json").stat().st_mtime == 1:
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("end", [lambda: 0, lambda: sys.exit(3), lambda: 1 / 0])
def test_a_program_gives_back_what_it_holds(tmp_path, end):
    @releases
    def program() -> int:
        hold(tmp_path, "a training", "--run")
        hold(tmp_path, "a training", "--run")  # its own
        assert is_mine(tmp_path)
        return end()

    with suppress(SystemExit, ZeroDivisionError):
        program()
    assert not os.listdir(tmp_path)


def test_for_another_process(tmp_path, running, ended):
    """As for the shell that submits a study: held until that one ends."""
    hold(tmp_path, "the submission of a study", "RUN", running)
    hold(tmp_path, "the submission of a study", "RUN", running)
    release()
    with pytest.raises(InputError, match=f"the submission of a study .pid {running} on"):
        hold(tmp_path, "the submission of a study", "RUN")
    (tmp_path / "in-use.json").unlink()
    hold(tmp_path, "the submission of a study", "RUN", ended)
    hold(tmp_path, "the submission of a study", "RUN")
    assert is_mine(tmp_path)


def no_links(source: Path, target: Path) -> None:
    raise OSError(errno.EPERM, "no hard links here")


def answer_lost(source: Path, target: Path, link: Callable[..., None] = os.link) -> None:
    link(source, target)
    raise FileExistsError


@pytest.mark.parametrize("link", [no_links, answer_lost])
def test_file_systems_without_links_and_that_repeat_a_request(tmp_path, running, monkeypatch,
                                                              link):
    monkeypatch.setattr(os, "link", link)
    hold(tmp_path, "a training", "--run")
    assert is_mine(tmp_path)
    release()
    if link is no_links:
        held(tmp_path, running)
        with pytest.raises(InputError, match="is in use"):
            hold(tmp_path, "a training", "--run")


def test_on_a_full_disk_the_record_is_removed_too(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    hold(tmp_path, "a training", "--run")
    monkeypatch.setattr(holder, "_temporary", full)
    release()
    assert not os.listdir(tmp_path)
    with pytest.raises(InputError, match="No space left on device; choose another"):
        hold(tmp_path, "a training", "--run")


def test_temporary_files_of_killed_writers(tmp_path):
    """Those of the files named, and no others: somebody may be writing these."""
    gone = {".new-01234567-model.keras", ".new-model.keras", ".new-abcdef01-x.json"}
    kept = {".new-01234567-report.html", "model.keras", ".new-0123456-model.keras",
            ".new-01234567-model.keras.bak"}
    for name in gone | kept:
        (tmp_path / name).write_text("")
    removed = files.remove_temporary(tmp_path, "model.keras", "x.json")
    assert {path.name for path in removed} == gone and set(os.listdir(tmp_path)) == kept
    files.remove_temporary(tmp_path)
    assert os.listdir(tmp_path) == ["model.keras"]
    assert files.remove_temporary(tmp_path / "none") == []
