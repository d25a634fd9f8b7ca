"""Quotas of a folder: how much this user, the group and the project may still store there.

Read from ``lfs quota`` and ``quota``; other file systems have commands of their own. Tested with
recorded texts.
"""

from __future__ import annotations

import getpass
import grp
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hpc_deepfake.core.text import plural, whole_number
from hpc_deepfake.doctor.report import FAIL, INFO, OK, WARN, Record

_PATIENCE = 30  # seconds
_LITTLE, _NOTHING = 5e9, 200e6  # bytes
_FEW, _NONE = 10_000, 100  # files


@dataclass(frozen=True)
class Quota:
    """What may still be stored.

    Attributes:
        whose: ``user``, ``group NAME`` or ``project NUMBER``.
        bytes_left: bytes; None without a limit. Negative if it is exceeded.
        files_left: number of files; None without a limit.
    """

    whose: str
    bytes_left: int | None
    files_left: int | None


def parse(whose: str, text: str) -> Quota | None:
    """A line of ``lfs quota -q`` or ``quota -wp``: file system, KiB, soft and hard limit, grace
    time, files, soft and hard limit, grace time. None if it is none.

    ``*`` marks what is exceeded, ``[ ]`` what is only approximately known; a limit of 0 is none.
    """
    words = text.translate({ord(mark): None for mark in "*[]"}).split()
    if len(words) < 9:
        return None
    amounts = [whole_number(word) for word in words[-8:]]
    space, files = amounts[:3], amounts[4:7]
    if None in space or None in files:
        return None
    used = _left(*space)
    return Quota(whose, None if used is None else used * 1024, _left(*files))


def _left(used: int | None, soft: int | None, hard: int | None) -> int | None:
    limit = hard or soft
    return limit - (used or 0) if limit else None


def of(folder: Path, kind: str) -> list[Quota]:
    """The quotas of a folder on a file system of this type; empty if no command tells them."""
    if kind.startswith("lustre"):
        return _lustre(folder)
    if shutil.which("quota") is None:
        return []
    device = (_output("df", "-P", str(folder)).splitlines() or [""])[-1].split(" ")[0]
    lines = [line for line in _output("quota", "-wp").splitlines() if line.split()[:1] == [device]]
    return [quota for line in lines if (quota := parse("user", line))]


def _lustre(folder: Path) -> list[Quota]:
    if shutil.which("lfs") is None:
        return []
    group = grp.getgrgid(folder.stat().st_gid).gr_name
    asked = [("user", "-u", getpass.getuser()), (f"group {group}", "-g", group)]
    project = _output("lfs", "project", "-d", str(folder)).split()[:1]
    if project and project[0].isdecimal() and project[0] != "0":
        asked.append((f"project {project[0]}", "-p", project[0]))
    texts = ((whose, _output("lfs", "quota", "-q", option, name, str(folder)))
             for whose, option, name in asked)
    return [quota for whose, text in texts if (quota := parse(whose, text))]


def _output(*command: str) -> str:
    """Standard output; empty if the command fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE,
                              check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def judge(quotas: list[Quota], folder: Path) -> Record | None:
    """The verdict; None without a quota."""
    limited = [quota for quota in quotas if (quota.bytes_left, quota.files_left) != (None, None)]
    if not limited:
        return None
    verdicts, texts = [INFO], []
    for quota in limited:
        parts = []
        if quota.bytes_left is not None:
            parts.append(f"{quota.bytes_left / 1e9:,.1f} GB")
            verdicts.append(FAIL if quota.bytes_left < _NOTHING else
                            WARN if quota.bytes_left < _LITTLE else OK)
        if quota.files_left is not None:
            parts.append(plural(max(0, quota.files_left), "file"))
            verdicts.append(FAIL if quota.files_left < _NONE else
                            WARN if quota.files_left < _FEW else OK)
        texts.append(f"{' and '.join(parts)} ({quota.whose})")
    worst = max(verdicts, key=(INFO, OK, WARN, FAIL).index)
    return Record("quota", "left: " + ", ".join(texts), worst,
                  "remove old checkpoints and files that aren't needed, or choose another folder "
                  "with --dir. An environment has about 40,000 files, 55,000 for GPUs; what uses "
                  f"them up:\n  du --inodes -d 2 {shlex.quote(str(folder))} | sort -n | tail",
                  scope="all")
