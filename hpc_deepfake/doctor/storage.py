"""The folder for data and runs: its file system, free space, locks and stripes."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import subprocess
import tempfile
from pathlib import Path

from hpc_deepfake.core.text import plural
from hpc_deepfake.doctor import quota, shared
from hpc_deepfake.doctor.place import Place
from hpc_deepfake.doctor.report import FAIL, INFO, OK, WARN, Record, attempt, failed

_LITTLE, _NOTHING = 5e9, 200e6  # free bytes
_FEW, _NONE = 10_000, 100  # files that can still be created
_ELSEWHERE = "choose another folder:\n  hpc-deepfake doctor --dir DIR"
_OFF = "export HDF5_USE_FILE_LOCKING=FALSE"


def checks(place: Place, folder: Path) -> list[Record]:
    """All of this rank's records; collective."""
    usable = attempt("folder", writable, folder)
    records = list(usable)
    if not failed(usable):
        kind = attempt("file system", _file_system, folder, len(place.leaders))
        records += kind + attempt("free space", free_space, folder)
        if place.comm.rank == 0:
            records += attempt("quota", _quota, folder)
            if kind[0].value.startswith("lustre"):
                records += attempt("striping", _striping, folder)
        records += attempt("file locking", _locking, folder)
    records += attempt("parallel HDF5", hdf5)
    if place.agreed(not failed(usable)):
        records += shared.write(place, folder)
    return records


def writable(folder: Path) -> Record:
    """Whether a file can be created in the folder; it is removed again."""
    where = shlex.quote(str(folder))
    if not folder.exists():
        return Record("folder", f"{folder.absolute()} doesn't exist", FAIL,
                      f"create it, on a file system that all nodes mount:\n  mkdir -p {where}")
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=shared.PREFIX):
            pass
    except OSError as error:
        return Record("folder", f"cannot write in {folder.resolve()}: {error.strerror}", FAIL,
                      f"to find out why:\n  ls -ld {where}; df -h {where}\nor {_ELSEWHERE}")
    return Record("folder", f"{folder.resolve()}, writable")


def _quota(folder: Path) -> Record | None:
    from hpc_deepfake.data.inputs import file_system

    return quota.judge(quota.of(folder, file_system(folder)), folder)


def _file_system(folder: Path, nodes: int) -> Record:
    from hpc_deepfake.data.inputs import file_system

    return judge_file_system(file_system(folder), nodes)


def judge_file_system(kind: str, nodes: int) -> Record:
    """The verdict on a type of file system in mount's terms."""
    if kind.startswith("nfs") and nodes > 1:
        return Record("file system", f"{kind}, written by {nodes} nodes", WARN,
                      "NFS is slow with a shared file, and a node's cache may have outdated bytes "
                      "(tested by the shared write below). Prefer the parallel file system, often "
                      "$SCRATCH or $WORK:\n  hpc-deepfake doctor --dir $SCRATCH")
    return Record("file system", kind or "of unknown type")


def free_space(folder: Path) -> Record:
    """Free space and number of files, without quotas."""
    system = os.statvfs(folder)
    return judge_space(system.f_bavail * system.f_frsize, system.f_blocks * system.f_frsize,
                       system.f_favail if system.f_files else None)


def judge_space(free: float, total: float, files: int | None) -> Record:
    """The verdict on free and total bytes, and on the number of files that can still be created;
    None without a limit."""
    text = f"{free / 1e9:,.1f} GB of {total / 1e9:,.1f} GB"
    verdict = FAIL if free < _NOTHING else WARN if free < _LITTLE else OK
    if files is not None and files < _FEW:
        text += f", only {plural(files, 'more file')}"
        verdict = FAIL if files < _NONE else max(verdict, WARN, key=(OK, WARN, FAIL).index)
    return Record("free space", text, verdict,
                  "a data file takes 49 KB per picture and feature of the usual size, 128 × 128 "
                  "pixels, and a checkpoint of the network for it 89 MB. Remove old checkpoints "
                  f"and other files that aren't needed, or {_ELSEWHERE}",
                  amount=free)


def _locking(folder: Path) -> Record:
    from hpc_deepfake.data.inputs import REMOTE, file_system

    kind, refused = file_system(folder), None
    with tempfile.NamedTemporaryFile(dir=folder, prefix=shared.PREFIX) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            refused = error.strerror
    return judge_locking(os.environ.get("HDF5_USE_FILE_LOCKING"), kind, kind in REMOTE, refused)


def judge_locking(setting: str | None, kind: str, remote: bool, refused: str | None) -> Record:
    """Whether HDF5 can open files.

    Args:
        setting: of HDF5_USE_FILE_LOCKING.
        kind: type of the file system.
        remote: whether it is on the network.
        refused: error message of a lock; None if it succeeded.
    """
    shown = f"HDF5_USE_FILE_LOCKING={setting}" if setting else "HDF5_USE_FILE_LOCKING is unset"
    todo = ("locks aren't needed, since each row has one writer; env/activate.sh sets this, or:\n"
            f"  {_OFF}")
    if (setting or "").upper() in ("FALSE", "0"):
        return Record("file locking", f"off ({shown})")
    if (setting or "").upper() == "BEST_EFFORT":
        return Record("file locking", f"where possible ({shown})")
    if refused:
        return Record("file locking", f"on ({shown}), but {kind} refuses locks: {refused}", FAIL,
                      f"HDF5 can't open files there; {todo}")
    if remote:
        return Record("file locking", f"on ({shown}), over the network to {kind}", WARN,
                      f"HDF5 files may fail to open if the lock server is slow or down; {todo}")
    return Record("file locking", f"on ({shown}), and works on {kind}")


def hdf5() -> Record:
    """How the shared file will be written."""
    import h5py

    version = f"h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}"
    if h5py.get_config().mpi:
        return Record("parallel HDF5", f"yes: {version}")
    return Record("parallel HDF5", f"no: {version}; ranks write the same bytes through MPI.File",
                  INFO)


def _striping(folder: Path) -> Record:
    try:
        done = subprocess.run(["lfs", "getstripe", "-d", folder], capture_output=True, text=True,
                              timeout=30, check=False)
    except FileNotFoundError:
        return Record("striping", "unknown: no command lfs on this node", INFO)
    except subprocess.TimeoutExpired:
        return Record("striping", "unknown: no answer from lfs for 30 s", WARN,
                      "the file system may have a problem:\n  lfs check servers", scope="all")
    if done.returncode:
        return Record("striping", f"unknown: {done.stderr.strip()}", INFO)
    return judge_striping(done.stdout, folder)


def judge_striping(text: str, folder: Path) -> Record:
    """The verdict on the output of ``lfs getstripe -d``; of a progressive layout, on its widest
    part."""
    counts = [int(number) for number in re.findall(r"stripe_count:\s*(-?\d{1,9})\b", text)]
    sizes = [int(number) for number in re.findall(r"stripe_size:\s*(\d{1,18})\b", text)]
    if not counts:
        return Record("striping", f"unknown: output of lfs '{' '.join(text.split())[:60]}'", INFO)
    widest = -1 if min(counts) < 0 else max(counts)
    size = f" of {max(sizes) / (1 << 20):.0f} MiB" if any(sizes) else ""
    if widest in (0, 1):  # 0: the file system's default, which is 1 nearly everywhere
        return Record("striping", f"{plural(max(1, widest), 'stripe')}{size}: "
                      "one server handles all writes", WARN,
                      "new files get the folder's striping, so set it before the data file is "
                      "created; existing files keep theirs:\n"
                      f"  lfs setstripe -c 8 -S 4M {shlex.quote(str(folder))}", scope="all")
    number = "all servers" if widest < 0 else plural(widest, "stripe")
    return Record("striping", f"{number}{size}")
