"""One holder at a time: two jobs must not write into one run directory, data file or study.

The holder is recorded in ``in-use.json``, in the folder or beside the file: it creates the record,
touches it every ``BEAT`` seconds, and removes it. That works wherever files do, on NFS and Lustre
too, where locks may be missing, and would not tell who holds them.

A holder that was killed leaves its record. On the same machine its process shows whether it is
alive; a job that the scheduler has started again knows that its former processes have ended.
Any other holder is watched: with no touch for ``SILENT`` seconds it is dead. Clocks of two machines
are not compared, except that a record last touched ``OLD`` seconds ago isn't watched first.

A record is replaced or removed under a guard, which is such a record itself, named by the content
to be replaced: of several processes that take over from a dead holder exactly one succeeds.
"""

from __future__ import annotations

import atexit
import errno
import hashlib
import json
import os
import platform
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.log import log
from hpc_deepfake.core.text import printable

P = ParamSpec("P")
T = TypeVar("T")

NAME = "in-use.json"
BEAT = 20.0  # seconds between two signs of life
SILENT = 120.0  # seconds without one, after which a holder out of sight is dead
OLD = 900.0  # the same by the file system's clock; clocks of a cluster agree within minutes
GRACE = 5.0  # seconds for a holder in sight that is about to end, like the ranks of a killed mpirun
_POLL = 0.1
_LARGEST = 1 << 16  # bytes of a record
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True)
class Holder:
    """The process that holds a place, as its record says.

    Attributes:
        program: what it does there.
        host: name of its machine.
        boot: id of the machine's current start.
        namespace: of process numbers; a container may have its own.
        pid: process number.
        start: when the process was started, in clock ticks since the machine's start.
        job: the scheduler's id of its job, or empty.
        restarts: how often the scheduler has started this job again.
        since: when it took the place.
        path: the place.
        nonce: makes the record unique.
    """

    program: str
    host: str
    boot: str
    namespace: str
    pid: int
    start: int
    job: str
    restarts: int
    since: str
    path: str
    nonce: str

    @classmethod
    def parse(cls, content: bytes) -> Holder | None:
        """The holder in a record; None if it is empty or damaged."""
        try:
            values = json.loads(content)
            holder = cls(**{field.name: values[field.name] for field in fields(cls)})
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        right = all(type(getattr(holder, field.name)).__name__ == field.type
                    for field in fields(cls))
        return holder if right and 0 < holder.pid < 1 << 31 else None

    def record(self) -> bytes:
        """The content of its record."""
        return json.dumps(asdict(self), indent=2).encode() + b"\n"

    def __str__(self) -> str:
        job = f", job {self.job}" if self.job else ""
        text = f"{self.program} (pid {self.pid} on {self.host}{job}, since {self.since})"
        return printable(text[:500])

    def is_same(self, other: Holder) -> bool:
        """Whether both are one process."""
        return (self._machine, self.pid, self.start) == (other._machine, other.pid, other.start)

    def alive(self, seen_by: Holder) -> bool | None:
        """Whether it is running; None if the other process can't know."""
        if self.boot and self._machine == seen_by._machine:
            return _running(self.pid, self.start)
        if self.job and self.job == seen_by.job and self.restarts < seen_by.restarts:
            return False
        return None

    @property
    def _machine(self) -> tuple[str, str]:
        return self.boot, self.namespace


class _Busy(Exception):
    """Another process holds the record.

    Attributes:
        holder: who; None if its record is damaged.
        in_sight: whether its process was seen, not only its signs of life.
    """

    def __init__(self, holder: Holder | None, in_sight: bool) -> None:
        super().__init__()
        self.holder, self.in_sight = holder, in_sight


@dataclass(frozen=True)
class _Claim:
    """A place that this process holds."""

    path: str
    is_folder: bool
    record: Path
    content: bytes
    pid: int

    def covers(self, file: str) -> bool:
        """Whether the file lies in the folder, or is the held file or named after it."""
        return file.startswith(self.path + os.sep * self.is_folder)

    def lost(self) -> str | None:
        """How another process has taken the place; None if this one holds it."""
        try:
            content = _read(self.record)[0]
        except FileNotFoundError:
            return f"{self.record} was deleted"
        except OSError:  # a file system that doesn't answer does so to others, too
            return None
        if content == self.content:
            return None
        return f"it was taken over by {Holder.parse(content) or 'another process'}"


_claims: list[_Claim] = []
_heart: list[threading.Thread] = []


def hold(path: Path, program: str, option: str, pid: int | None = None) -> None:
    """Hold a place until ``release`` or the end of this process.

    Waits ``GRACE`` seconds for a holder that may be about to end, and up to ``SILENT`` seconds for
    a sign of life of one that is out of sight.

    Args:
        path: an existing folder, or a file in one.
        program: what holds it, for the messages of other processes, such as ``a training``.
        option: that names the place, for messages.
        pid: hold it for this process instead, which removes the record itself or just ends.

    Raises:
        InputError: another process holds it, or the record can't be written.
    """
    record = _record(path)
    if any(claim.record == record and not claim.lost() for claim in _claims):
        return
    me = _process(program, path, pid or os.getpid())
    try:
        dead = _take(record, me)
    except _Busy as busy:
        raise InputError(_refusal(path, record, busy, option)) from None
    except OSError as error:
        what = record if os.path.lexists(record) else path
        raise InputError(f"cannot write {what}: {error.strerror}; choose another place with "
                         f"{option}") from None
    if dead:
        log.info(f"{path} is taken over from {dead}, which was killed")
    if pid is None:
        _claims.append(_Claim(os.path.abspath(path), path.is_dir(), record, me.record(), me.pid))
        if not any(thread.is_alive() for thread in _heart):  # none after a fork
            _heart[:] = [threading.Thread(target=_beat, name="holder", daemon=True)]
            _heart[0].start()


def verify(file: Path) -> None:
    """To be called before a file is written: a process that was suspended for minutes may have been
    taken for dead.

    Raises:
        InputError: the file lies in a place that this process held, and another one has taken.
    """
    for claim in list(_claims):
        if claim.covers(os.path.abspath(file)) and (how := claim.lost()):
            raise InputError(f"this process no longer holds {claim.path}: {how}. It ends here and "
                             "writes nothing more there")


def release() -> None:
    """Give back all places that this process holds."""
    while _claims:
        claim = _claims.pop()
        if claim.pid == os.getpid():  # not a copy by fork
            with suppress(OSError, _Busy):
                _give_back(claim)


def _give_back(claim: _Claim) -> None:
    try:
        _exchange(claim.record, claim.content, None,
                  _process("ending", Path(claim.path), claim.pid))
    except OSError:  # no room for a guard
        if not claim.lost():
            claim.record.unlink()


def releases(program: Callable[P, T]) -> Callable[P, T]:
    """Decorator of a program: it gives back what it holds, however it ends."""
    @wraps(program)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return program(*args, **kwargs)
        finally:
            release()

    return run


atexit.register(release)  # what a program held that has no end of its own


def _record(path: Path) -> Path:
    """The record of a folder or a file."""
    if path.exists():
        path = path.resolve()
    return path / NAME if path.is_dir() else path.with_name(f"{path.name}.{NAME}")


def _process(program: str, path: Path, pid: int) -> Holder:
    """A process of this machine, as a holder."""
    job = os.environ.get("SLURM_JOB_ID") or os.environ.get("PBS_JOBID") or ""
    if cluster := job and os.environ.get("SLURM_CLUSTER_NAME"):
        job += f" of {cluster}"
    restarts = os.environ.get("SLURM_RESTART_COUNT") or os.environ.get("HPC_DEEPFAKE_RERUNS", "")
    return Holder(program, platform.node(), *_machine(), pid, _started(pid) or 0, job,
                  int(restarts) if restarts.isdecimal() else 0,
                  time.strftime("%Y-%m-%d %H:%M:%S %z"), os.path.abspath(path),
                  os.urandom(8).hex())


def _machine() -> tuple[str, str]:
    """Ids of the machine's start and of the space of process numbers; empty where unknown."""
    with suppress(OSError):
        return (Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
                os.readlink("/proc/self/ns/pid"))
    return "", ""


def _started(pid: int) -> int | None:
    """When a process was started, in clock ticks; None if it has ended or is hidden."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *values = text.rpartition(")")[2].split()
    return None if state in "ZX" else int(values[18])


def _running(pid: int, start: int) -> bool:
    """Whether this process of this machine is running, and not another with the same number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, which may be hidden
        return _started(pid) in (start, None)
    return _started(pid) == start


def _take(record: Path, me: Holder) -> Holder | str | None:
    """Create the record, or replace that of a dead holder.

    Returns:
        The dead holder; None if there was none.

    Raises:
        _Busy: the holder is alive.
    """
    watch: _Watch | None = None
    while (now := _create(record, me.record())) is not None:
        try:
            content, touched = _read(record)
        except FileNotFoundError:  # just removed
            continue
        if watch is None or watch.content != content:
            watch = _Watch(content, touched, now, me)
        if watch.is_dead(touched) and _exchange(record, content, me.record(), me):
            return None if watch.holder and watch.holder.is_same(me) \
                else watch.holder or "a process that left a damaged record"
        time.sleep(_POLL)
    return None


class _Watch:
    """Finds out whether a record's holder is alive."""

    def __init__(self, content: bytes, touched: float, now: float, me: Holder) -> None:
        """
        Args:
            content: of the record.
            touched: when it was last touched, by the file system's clock.
            now: by the same clock.
            me: the process that watches.
        """
        self.content, self.holder = content, Holder.parse(content)
        self._touched, self._me = touched, me
        self._is_old = now - touched >= OLD
        self._since = time.monotonic()
        self._told = False

    def is_dead(self, touched: float) -> bool:
        """Whether the holder is dead; False while that isn't certain.

        Args:
            touched: when the record was last touched.

        Raises:
            _Busy: it is alive.
        """
        waited = time.monotonic() - self._since
        alive = self.holder.alive(self._me) if self.holder else None
        if alive is False or (self.holder and self.holder.is_same(self._me)):
            return True
        if alive:
            if waited >= GRACE:
                raise _Busy(self.holder, in_sight=True)
            return False
        if touched != self._touched:
            raise _Busy(self.holder, in_sight=False)
        if self._is_old or waited >= SILENT:
            return True
        if not self._told:
            self._told = True
            log.info(f"{self._me.path} is in use by {self.holder or 'another process'}: waiting up "
                     f"to {SILENT:.0f} s for a sign of life")
        return False


def _exchange(record: Path, old: bytes, new: bytes | None, me: Holder) -> bool:
    """Replace the record, or with None remove it, if its content is still ``old``."""
    guard = record.with_name(f".new-in-use-{hashlib.sha256(old).hexdigest()[:16]}")
    _take(guard, me)
    try:
        if _read(record)[0] != old:
            return False
        if new is None:
            record.unlink()
        else:
            os.replace(_temporary(record, new)[0], record)
        return True
    except FileNotFoundError:
        return False
    finally:
        guard.unlink(missing_ok=True)


def _create(record: Path, content: bytes) -> float | None:
    """Create the record, unless there is one; then the time by the file system's clock."""
    temporary, now = _temporary(record, content)
    try:
        os.link(temporary, record)
        created = True
    except FileExistsError:
        # NFS repeats a request whose answer was lost, and then finds what the first one made
        created = temporary.stat().st_nlink > 1
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        created = _create_without_link(record, content)
    finally:
        temporary.unlink()
    return None if created else now


def _create_without_link(record: Path, content: bytes) -> bool:
    try:
        with open(record, "xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


def _temporary(record: Path, content: bytes) -> tuple[Path, float]:
    """A new file beside the record, and the time at which the file system wrote it."""
    path = record.with_name(f".new-in-use-{os.urandom(8).hex()}")
    try:
        path.write_bytes(content)
    except OSError:  # the disk is full: nothing may be left
        path.unlink(missing_ok=True)
        raise
    return path, path.stat().st_mtime


def _read(record: Path) -> tuple[bytes, float]:
    """Content of a record, and when it was last touched. Opening a file makes NFS ask the server
    for both."""
    descriptor = os.open(record, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        return file.read(_LARGEST), status.st_mtime


def _beat() -> None:
    while True:
        time.sleep(BEAT)
        for claim in list(_claims):
            with suppress(OSError):
                if not claim.lost():
                    os.utime(claim.record)


def _refusal(path: Path, record: Path, busy: _Busy, option: str) -> str:
    holder = busy.holder
    text = f"{path} is in use by {holder or 'another process'}"
    if holder and holder.path != os.path.abspath(path):
        text += f", there called {printable(holder.path[:500])}"
    if busy.in_sight:
        return f"{text}: wait until it has ended, end it, or choose another {option}"
    return f"{text}, which gave a sign of life just now: wait until it has ended, or choose " \
           f"another {option}. If it is certainly dead, delete {record} and run this command again"
