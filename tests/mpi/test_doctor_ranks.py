"""``hpc-deepfake doctor`` on real ranks: one table, correct verdicts, and no hanging ranks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import run_program
from speed import limit

pytestmark = [pytest.mark.mpi, pytest.mark.slow]

# The doctor with a fault on rank 1 (or 0, if alone), named by the first argument.
BROKEN = """
import errno, os, sys, time, types
from hpc_deepfake.core import mpi

def main(comm):
    from hpc_deepfake import doctor
    from hpc_deepfake.doctor import (clock, deadline, launch, memory, place, shared, software,
                                     storage, training)
    from preprocessing import store
    what, *arguments = sys.argv[1:]
    bad = comm.rank == min(1, comm.size - 1)

    class Full(store.open_writer.__globals__["HDF5Writer"]):
        def write(self, *_):
            raise OSError(errno.ENOSPC, "No space left on device")

    class Lying(Full):
        def write(self, dataset, first, values):
            store.HDF5Writer.write(self, dataset, first, values ^ 1)

    class Deaf:
        Sum = None
        def allreduce(self, *_, **__):
            raise RuntimeError("out of GPU memory")

    def raising(*_):
        raise OSError(errno.ESTALE, "Stale file handle") if what == "nodes" else ValueError(
            "broken\\nover lines")

    allreduce, training._STALL = training._allreduce, 2
    if what == "nodes":
        place.node_of = lambda comm: comm.Split(comm.rank)
        place.host_name = lambda: f"n{comm.rank + 1:02}"
        if bad:
            clock.skew.__defaults__ = (lambda: time.time() + 5,)
            shared.os = types.SimpleNamespace(**{**vars(os), "open": raising})
    if what.startswith("stuck"):
        deadline.LIMIT, deadline._GRACE = 8.0, 4.0
    if bad and what != "nodes":
        {"full": lambda: setattr(store, "open_writer", Full),
         "lying": lambda: setattr(store, "open_writer", Lying),
         "raising": lambda: (setattr(storage, "free_space", raising),
                             setattr(launch, "thread_level", raising)),
         "version": lambda: setattr(software, "installed", lambda purpose, found=software.installed(
             "preprocess"): {**found, "NumPy": "1.0"}),
         "unloadable": lambda: setattr(software, "installed", raising),
         "stuck": lambda: setattr(storage, "free_space", lambda _: time.sleep(60)),
         "stuck holding": lambda: setattr(storage, "free_space", lambda _: __import__(
             "ctypes").PyDLL(None).sleep(60)),
         "compute": lambda: setattr(training, "compute", raising),
         "allreduce": lambda: setattr(training, "_allreduce", lambda place, hvd, device: allreduce(
             place, Deaf(), device))}[what]()
    code = doctor.main(comm, arguments)
    print(f"<rank {comm.rank}: {code}>", flush=True)
    return code

mpi.run(main)
"""
SHORT = ("--for", "preprocess")


def doctor(*options: object, ranks: int = 0, cwd: Path, **env: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the doctor."""
    done = run_program("hpc_deepfake.cli", "doctor", *map(str, options), ranks=ranks, cwd=cwd,
                       timeout=120, env=env)
    return done.returncode, done.stdout, done.stderr


def mpirun(*arguments: object, cwd: Path, **env: str) -> tuple[int, str]:
    """Exit code and all output."""
    done = subprocess.run(["mpirun", *map(str, arguments)], cwd=cwd, text=True, timeout=limit(120),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, env={**os.environ, **env})
    return done.returncode, done.stdout


def broken(what: str, *options: object, ranks: int = 3, cwd: Path, **env: str) -> tuple[int, str]:
    return mpirun("-np", ranks, sys.executable, "-c", BROKEN, what, *options, cwd=cwd, **env)


def findings(text: str) -> dict[str, tuple[str, str]]:
    """Verdict and value of each subject; wrapped lines are joined."""
    table, name = {}, ""
    for line in text.splitlines():
        verdict, what = line[2:6].strip(), line[8:25].strip()
        if line.startswith("  ") and verdict in ("ok", "info", "warn", "FAIL"):
            assert what not in table, f"{what} occurs twice"
            name = what
            table[name] = (verdict, line[26:])
        elif line.startswith(" " * 26) and line[26] not in "→ " and name:
            table[name] = (table[name][0], f"{table[name][1]} {line.strip()}")
        else:
            name = ""
    return table


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_sound_machine_passes_in_one_table(tmp_path: Path, ranks: int) -> None:
    """No messages on stderr, not even TensorFlow's; no files left behind; the same in JSON."""
    folder = tmp_path / "runs"
    folder.mkdir()
    code, out, err = doctor("--device", "cpu", "--dir", folder, "--json", "found.json",
                            ranks=ranks, cwd=tmp_path, HDF5_USE_FILE_LOCKING="FALSE")
    assert code == 0, out + err
    assert err == ""
    assert out.count("doctor for train") == out.count("\ndoctor: ") == 1
    without_path = out.replace(str(folder), "/runs")  # paths are not broken
    assert max(map(len, without_path.splitlines())) <= 100
    assert "FAIL" not in out and f" 0 failures on {ranks} rank" in out
    table = findings(out)
    assert {"versions", "MPI", "MPI threads", "cores", "memory", "open files", "folder",
            "free space", "parallel HDF5", "shared write", "computation", "threads", "Horovod",
            "NCCL", "allreduce"} <= set(table)
    assert table["GPU"] == ("info", "not used (--device cpu)")
    assert table["shared write"][1].startswith(f"{ranks} rank")
    if ranks > 1:
        assert table["Horovod"] == ("ok", f"sees the same {ranks} ranks as MPI")
        assert "29.6 MB" in table["allreduce"][1] and " ms" in table["allreduce"][1]
    assert list(folder.iterdir()) == []
    written = json.loads((tmp_path / "found.json").read_text())
    assert written["hosts"] == [os.uname().nodename] * ranks
    assert {record["what"]: record["verdict"] for record in written["records"]} == {
        what: verdict for what, (verdict, _) in table.items()}
    assert all(set(record) == {"what", "value", "verdict", "todo"}
               for record in written["records"])


def test_preprocessing_needs_no_tensorflow_and_is_quick(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('not to be imported')")
    code, out, err = doctor(*SHORT, ranks=2, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert (code, err) == (0, ""), out + err
    assert "TensorFlow" not in out and "OpenCV" in findings(out)["versions"][1]
    assert float(out.rsplit(" in ", 1)[1].split()[0]) < limit(4)  # 0.3 on a quiet machine


def test_no_gpu_where_one_is_asked_for_fails_with_the_reason(tmp_path: Path) -> None:
    """Although nvidia-smi lists one, on one rank of two: both ranks end, without a reduction."""
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho '0, GPU-1f3a, 00000000:07:00.0, NVIDIA A100, 535.54.03, "
                   "81920, 30000'\n")
    smi.chmod(0o755)
    command = ["-np", 1, sys.executable, "-m", "hpc_deepfake.cli", "doctor", "--device"]
    code, out = mpirun(*command, "cpu", ":", *command, "gpu", cwd=tmp_path,
                       PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert code == 1
    assert out.count("doctor for train") == 1 and out.count("\ndoctor: ") == 1
    table = findings(out)
    host = os.uname().nodename
    assert table["GPU"] == ("FAIL", f"rank 1 on {host}: none for --device gpu: this TensorFlow was "
                            "built without CUDA (tensorflow-cpu); build the GPU environment with "
                            "env/setup.sh --gpu")
    assert table["GPU memory"] == ("warn", f"rank 1 on {host}: GPU 0 (00000000:07:00.0) has 30,000 "
                                           "of 81,920 MiB in use")
    assert "allreduce" not in table


def test_a_folder_that_only_some_ranks_have(tmp_path: Path) -> None:
    """Named with its rank; no shared write is tried."""
    (tmp_path / "a" / "runs").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    command = [sys.executable, "-m", "hpc_deepfake.cli", "doctor", *SHORT, "--dir", "runs"]
    code, out = mpirun("-np", 1, "-wdir", tmp_path / "a", *command,
                       ":", "-np", 2, "-wdir", tmp_path / "b", *command, cwd=tmp_path)
    assert code == 1
    verdict, value = findings(out)["folder"]
    assert verdict == "FAIL"
    assert f"ranks 1-2 on {os.uname().nodename}: {tmp_path / 'b' / 'runs'} doesn't exist" in value
    assert "mkdir -p runs" in out and "shared write" not in out


def test_a_folder_of_the_same_name_elsewhere_is_not_shared(tmp_path: Path) -> None:
    """Each rank can write in its own; only a file of rank 0 shows it. No files are left behind."""
    for name in "ab":
        (tmp_path / name / "runs").mkdir(parents=True)
    command = [sys.executable, "-m", "hpc_deepfake.cli", "doctor", *SHORT, "--dir", "runs"]
    code, out = mpirun("-np", 2, "-wdir", tmp_path / "a", *command,
                       ":", "-np", 1, "-wdir", tmp_path / "b", *command, cwd=tmp_path)
    assert code == 1
    verdict, value = findings(out)["shared write"]
    assert verdict == "FAIL" and value.startswith(f"rank 2 on {os.uname().nodename}: not shared")
    assert list(tmp_path.glob("*/runs/*")) == list(tmp_path.glob("*/runs/.*")) == []


def test_a_missing_folder_fails_on_all_ranks_as_one_line(tmp_path: Path) -> None:
    code, out, _ = doctor(*SHORT, "--dir", tmp_path / "nowhere", ranks=3, cwd=tmp_path)
    assert code == 1
    assert findings(out)["folder"] == ("FAIL", f"{tmp_path / 'nowhere'} doesn't exist")
    assert f"mkdir -p {tmp_path / 'nowhere'}" in out
    assert " 1 failure on 3 ranks, 1 node" in out


def test_a_single_process_of_a_larger_job_fails(tmp_path: Path) -> None:
    """As with srun without a common MPI: nothing else is checked."""
    code, out, _ = doctor(cwd=tmp_path, SLURM_NTASKS="4")
    assert code == 1
    assert findings(out)["start"] == ("FAIL", "MPI sees 1 rank, but SLURM_NTASKS is 4: each "
                                              "process is alone")
    assert "  srun --mpi=pmix -n 4 hpc-deepfake doctor" in out
    assert "versions" not in out and "allreduce" not in out


def test_processes_that_are_each_alone_print_one_table(tmp_path: Path) -> None:
    """Worlds of one rank, although the launcher started two processes."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    started = [
        [subprocess.Popen([sys.executable, "-m", "hpc_deepfake.cli", "doctor"], text=True,
                          env={**kept, size: "2", number: str(rank)}, cwd=tmp_path,
                          stdout=subprocess.PIPE) for rank in range(2)]
        for size, number in (("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
                             ("PMI_SIZE", "PMI_RANK"),
                             ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"))]
    for first, second in started:
        assert findings(first.communicate(timeout=limit(60))[0])["start"][0] == "FAIL"
        assert second.communicate(timeout=limit(60))[0] == ""
        assert (first.returncode, second.returncode) == (1, 1)


def test_nodes_are_distinguished(tmp_path: Path) -> None:
    """Each rank as its own node, one with a clock 5 s ahead that can't open the file."""
    code, out = broken("nodes", *SHORT, ranks=2, cwd=tmp_path)
    assert code == 1
    table = findings(out)
    assert table["MPI"][1].endswith("2 ranks on 2 nodes, 1 on each")
    assert table["clocks"] == ("warn", "up to 5.00 s apart: n02 is ahead of n01")
    assert table["shared write"] == ("FAIL", "n02: opening: OSError: Stale file handle; n01: "
                                             "no fault on this rank")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("what", "line", "verdict", "words"), [
    ("full", "shared write", "FAIL", "writing: OSError: No space left on device"),
    ("lying", "shared write", "FAIL", "other bytes than rank 1 wrote"),
    ("raising", "free space", "FAIL", "ValueError: broken over lines"),
    ("version", "the same on all", "FAIL", "NumPy 1.0"),
    ("unloadable", "versions", "FAIL", "ValueError: broken over lines")])
def test_what_breaks_on_one_rank_is_one_line(tmp_path: Path, what: str, line: str, verdict: str,
                                            words: str) -> None:
    """With its rank; the other checks continue; all ranks exit with 1; no files are left behind."""
    code, out = broken(what, *SHORT, cwd=tmp_path)
    assert code == 1
    assert "Traceback" not in out and "\ndoctor: " in out
    finding = findings(out)[line]
    assert finding[0] == verdict and words in finding[1]
    host = os.uname().nodename
    assert (f"ranks 0-1 on {host}" if what == "lying" else f"rank 1 on {host}") in finding[1]
    assert "folder" in findings(out)
    assert all(f"<rank {rank}: 1>" in out for rank in range(3))
    assert list(tmp_path.iterdir()) == []


def test_broken_training_on_one_rank_is_one_line(tmp_path: Path) -> None:
    """After a failed computation, no rank reduces; the others stop waiting for a rank that can't
    reduce."""
    code, out = broken("compute", "--device", "cpu", ranks=2, cwd=tmp_path)
    assert code == 1
    table = findings(out)
    assert table["computation"][0] == "FAIL" and "Horovod" not in table
    assert f"rank 1 on {os.uname().nodename}: ValueError: broken" in table["computation"][1]
    code, out = broken("allreduce", "--device", "cpu", ranks=2, cwd=tmp_path)
    assert code == 1
    verdict, value = findings(out)["allreduce"]
    assert verdict == "FAIL"
    assert f"rank 1 on {os.uname().nodename}: RuntimeError: out of GPU memory" in value


def test_a_check_that_never_ends_ends_the_job(tmp_path: Path) -> None:
    """The rank that is stuck is named; SIGALRM ends a single process whose library holds Python's
    lock. Earlier findings have been printed."""
    doctor_of = [sys.executable, "-c", BROKEN]
    started = [subprocess.Popen(
        [*launcher, *doctor_of, what, *SHORT], cwd=tmp_path, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for launcher, what in ((["mpirun", "-np", "3"], "stuck"), ([], "stuck holding"))]
    many, alone = (process.communicate(timeout=limit(90))[0] for process in started)
    assert [process.returncode for process in started] == [1, -signal.SIGALRM]
    for out in (many, alone):
        assert "\nnodes\n" in out and "\nstorage\n" not in out
    assert many.count(" has been stuck ") == 1
    assert f"rank 1 on {os.uname().nodename} has been stuck for 8 s: storage" in many


def test_weaker_thread_support_is_a_warning(tmp_path: Path) -> None:
    code, out, _ = doctor(*SHORT, ranks=2, cwd=tmp_path, MPI4PY_RC_THREAD_LEVEL="serialized")
    assert code == 0
    assert findings(out)["MPI threads"] == ("warn", "MPI_THREAD_SERIALIZED, not MULTIPLE")


def test_wrong_options_are_not_a_finding(tmp_path: Path) -> None:
    code, _, err = doctor("--for", "lunch", cwd=tmp_path)
    assert code == 2 and "invalid choice: 'lunch'" in err
    code, out, err = doctor(*SHORT, "--json", tmp_path / "no" / "file", ranks=2, cwd=tmp_path)
    assert (code, out) == (2, "")  # before the work
    assert err.count("error: cannot write") == 1


# --- separate nodes: own host name, /tmp and /dev/shm, started by mpirun as if by ssh -----------

AGENT = """#!/bin/bash
mkdir -p "{nodes}/$1" && exec unshare --uts --mount --propagation private sh -c '
    hostname "$0" && mount --bind "{nodes}/$0" "{local}" &&
    mount -t tmpfs -o size=8m shm /dev/shm && exec sh -c "$*"' "$@"
"""


@pytest.mark.skipif(subprocess.run(["unshare", "--uts", "--mount", "true"], check=False,
                                   capture_output=True).returncode != 0,
                    reason="nodes need root and namespaces")
@pytest.mark.skipif("Open MPI" not in subprocess.run(["mpirun", "--version"], capture_output=True,
                                                     text=True, check=False).stdout,
                    reason="the variables for mpirun's remote shell are Open MPI's")
def test_two_nodes(tmp_path: Path) -> None:
    """Uneven ranks, a small /dev/shm, and a folder that is local to each node."""
    agent, local = tmp_path / "agent", tmp_path / "local"
    local.mkdir()
    agent.write_text(AGENT.format(nodes=tmp_path / "nodes", local=local))
    agent.chmod(0o755)
    agents = dict.fromkeys(("OMPI_MCA_plm_rsh_agent", "PRTE_MCA_plm_ssh_agent"), str(agent))
    command = ["-H", "n01:2,n02:1", "-np", 3, sys.executable, "-m", "hpc_deepfake.cli", "doctor",
               *SHORT, "--dir"]
    code, out = mpirun(*command, local, cwd=tmp_path, **agents)
    assert code == 1, out
    table = findings(out)
    assert table["MPI"][0] == "warn"
    assert table["MPI"][1].endswith("3 ranks on 2 nodes: 2 on n01, 1 on n02")
    assert table["clocks"][0] == "ok"
    assert table["shared memory"][0] == "warn" and "8 MB" in table["shared memory"][1]
    verdict, value = table["shared write"]
    assert verdict == "FAIL" and value.startswith(f"n02: not shared: doesn't see in {local} what")
    assert [list(node.iterdir()) for node in (tmp_path / "nodes").iterdir()] == [[], []]
    code, out = mpirun(*command, tmp_path, cwd=tmp_path, **agents)
    assert code == 0, out
    assert findings(out)["shared write"][0] == "ok"
