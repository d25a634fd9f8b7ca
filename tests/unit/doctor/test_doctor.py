"""The doctor's verdicts on other machines, given as texts, numbers and small file trees."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpc_deepfake import doctor
from hpc_deepfake.core import surroundings
from hpc_deepfake.core.nodes import label, ranges
from hpc_deepfake.doctor import (
    clock,
    gpu,
    launch,
    machine,
    memory,
    software,
    storage,
    training,
)
from hpc_deepfake.doctor.report import FAIL, INFO, OK, WARN, Record, attempt, line, merge, problem
from hpc_deepfake.network.gpus import parse

HOSTS, NODES = ("n01", "n01", "n02", "n02"), (0, 0, 2, 2)  # four ranks on two nodes
UNLIMITED = -1


# --- names and the table ------------------------------------------------------------------------

@pytest.mark.parametrize(("ranks", "name"), [
    ([0, 1], "n01"), ([3], "rank 3 on n02"), ([0, 1, 3], "n01, rank 3 on n02"),
    ([0, 1, 2, 3], "n01, n02")])
def test_whole_nodes_go_by_their_name_and_single_ranks_by_number(ranks, name):
    assert label(ranks, HOSTS, NODES) == name


def test_many_nodes_are_counted_not_listed():
    hosts = tuple(f"n{i}" for i in range(9))
    assert label(range(9), hosts, tuple(range(9))) == "n0, n1, n2, n3 and 5 more nodes"


def test_consecutive_numbers_become_ranges():
    assert ranges([7, 0, 1, 2, 3, 9, 10]) == "0-3, 7, 9-10"


def test_ranks_that_agree_make_one_line():
    record = Record("open files", "1,024 at most")
    assert merge([[record]] * 4, HOSTS, NODES) == [record]


def test_the_rank_that_differs_is_named_and_decides_the_verdict():
    good, bad = Record("cores", "16"), Record("cores", "1", WARN, "bind less")
    merged, = merge([[good], [good], [good], [bad]], HOSTS, NODES)
    assert (merged.verdict, merged.todo) == (WARN, "bind less")
    assert merged.value == "rank 3 on n02: 1; n01, rank 2 on n02: 16"


def test_a_failure_that_only_some_ranks_report_is_named():
    """A rank that got no further than this check, while the others continued."""
    failure = Record("Horovod", "ImportError", FAIL)
    assert merge([[], [], [], [failure]], HOSTS, NODES)[0].value == "rank 3 on n02: ImportError"
    failure = Record("memory", "0 GB", FAIL, scope="node")
    assert merge([[], [], [failure], []], HOSTS, NODES)[0].value == "n02: 0 GB"
    failure = Record("clocks", "9 s", FAIL, scope="all")
    assert merge([[failure], [], [], []], HOSTS, NODES)[0].value == "9 s"


def test_of_varying_amounts_the_smallest_is_shown():
    merged, = merge([[Record("memory", f"{free} GB", OK, "", free, "node")] if free else []
                     for free in (9, 0, 7, 0)], HOSTS, NODES)
    assert merged.value == "n02: 7 GB (the smallest of 2)"
    merged, = merge([[Record("memory", "9 GB", FAIL, "buy", 9)],
                     [Record("memory", "7 GB", OK, "", 7)]], ("a", "b"), (0, 1))
    assert (merged.verdict, merged.value) == (FAIL, "a: 9 GB (the smallest of 2)")


def test_many_differing_values_are_cut():
    hosts = tuple(f"n{i}" for i in range(9))
    merged, = merge([[Record("shm", str(i))] for i in range(9)], hosts, tuple(range(9)))
    assert merged.value == "n0: 0; n1: 1; n2: 2; n3: 3; and 5 other values"


def test_lines_end_at_column_100_and_commands_stay_whole():
    command = "  " + "srun --mpi=pmix " * 9
    text = line(Record("what", "word " * 40, WARN, f"do {'this ' * 30}:\n{command}\nor that"))
    lines = text.splitlines()
    assert max(map(len, (text for text in lines if "srun" not in text))) <= 100
    assert sum("srun" in text for text in lines) == 1 and command.strip() in text
    assert lines[0].startswith("  warn  what              word word")
    assert text.count("→") == 1
    assert "do this" not in line(Record("what", "value", OK, "do this"))


def test_an_exception_in_a_check_is_a_failure_in_one_line():
    def check():
        raise OSError(28, "No space left on device", "/scratch")

    record, = attempt("free space", check)
    assert (record.what, record.value, record.verdict) == (
        "free space", "OSError: No space left on device", FAIL)
    assert attempt("nothing", lambda: None) == []
    assert problem(ValueError("{{function_node __wrapped__}} a\nb")) == "ValueError: a b"
    assert len(problem(ValueError("x " * 999))) <= 300


# --- how the ranks were started -----------------------------------------------------------------

@pytest.mark.parametrize(("size", "environ"), [
    (1, {}), (4, {"SLURM_NTASKS": "4"}), (1, {"SLURM_NTASKS": "1"}),
    (2, {"OMPI_COMM_WORLD_SIZE": "2", "SLURM_NTASKS": "4"}),  # mpirun -np 2 in a job of 4 tasks
    (1, {"OMPI_COMM_WORLD_SIZE": "1", "SLURM_STEP_NUM_TASKS": "3", "SLURM_NTASKS": "4"}),
    (2, {"SLURM_NTASKS": "4"}),  # a launcher that doesn't set the number
    (1, {"SLURM_NTASKS": ""})])
def test_a_world_as_large_as_the_launcher_says_passes(size, environ):
    assert launch.started(size, environ) is None


@pytest.mark.parametrize(("size", "environ", "words"), [
    (1, {"SLURM_NTASKS": "4"}, "SLURM_NTASKS is 4: each process is alone"),
    (1, {"SLURM_STEP_NUM_TASKS": "4"}, "SLURM_STEP_NUM_TASKS is 4"),
    (1, {"PMI_SIZE": "8"}, "PMI_SIZE is 8"),
    (1, {"OMPI_COMM_WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_SIZE is 2"),
    (2, {"PMI_SIZE": "4"}, "MPI sees 2 ranks, but PMI_SIZE is 4: the processes are not one")])
def test_processes_without_a_common_world_fail(size, environ, words):
    record = launch.started(size, environ)
    assert record.verdict == FAIL and words in record.value
    ranks = words.split(" is ")[1][0]
    assert f"  mpirun -np {ranks} hpc-deepfake doctor" in record.todo
    assert ("srun --mpi=pmix" in record.todo) == any("SLURM" in name for name in environ)


def test_other_settings_are_listed_and_a_bad_temporary_folder_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(surroundings, "decisions", [])
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    record, = software.other_settings()
    assert (record.verdict, record.what) == (OK, "other settings")
    monkeypatch.setattr(surroundings, "decisions", [surroundings.Decision("MPLBACKEND", "x")])
    for folder, why in (("/nowhere", "doesn't exist"), (str(tmp_path / "a[7]"), "characters")):
        if "[" in folder:
            os.mkdir(folder)
        monkeypatch.setenv("TMPDIR", folder)
        settings, temporary = software.other_settings()
        assert settings.verdict == INFO and "MPLBACKEND: x" in settings.value
        assert temporary.verdict == WARN and why in temporary.value
        assert "  export TMPDIR=/tmp" in temporary.todo


def test_gpu_aware_mpi_is_mentioned_where_it_was_asked_for():
    name = surroundings.GPU_SUPPORT
    assert software.judge_gpu_support([], {}) == software.judge_gpu_support([], {name: "0"}) == []
    record, = software.judge_gpu_support([], {name: "1"})
    assert record.value.startswith("on")
    record, = software.judge_gpu_support([surroundings.Decision(name, "1")], {name: "0"})
    assert record.value.startswith("off") and "libmpi_gtl" in record.value


def test_which_of_several_lone_processes_prints():
    assert launch.number({}) == launch.number({"SLURM_PROCID": "3"}) == 0  # a batch script's own
    assert launch.number({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}) == 3
    assert launch.number({"PMI_SIZE": "4", "PMI_RANK": "2", "SLURM_STEP_NUM_TASKS": "2",
                          "SLURM_PROCID": "1"}) == 2


def test_uneven_nodes_are_a_warning():
    assert launch.describe("Open MPI v5", HOSTS, NODES).verdict == OK
    record = launch.describe("Open MPI v5", ("n01", "n01", "n01", "n02"), (0, 0, 0, 3))
    assert record.verdict == WARN and "3 on n01, 1 on n02" in record.value
    assert "--ntasks-per-node=3" in record.todo


@pytest.mark.parametrize(("level", "verdict"), [(0, WARN), (1, WARN), (2, WARN), (3, OK)])
def test_only_full_thread_support_passes(level, verdict):
    assert launch.judge_level(level).verdict == verdict


def test_scheduler_job_restarts_and_places(tmp_path):
    record, = launch.scheduler(4, {"SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": "2"})
    assert (record.verdict, record.value) == (INFO, "SLURM job 17, restarted 2 times")
    nodes = tmp_path / "nodefile"
    nodes.write_text("n01\nn01\nn02\nn02\n")
    environ = {"PBS_JOBID": "9.server", "PBS_NODEFILE": str(nodes)}
    assert [record.verdict for record in launch.scheduler(4, environ)] == [INFO]
    _, record = launch.scheduler(2, environ)
    assert record.verdict == WARN and "4 lines in PBS_NODEFILE for 2 ranks" in record.value
    environ["PBS_NODEFILE"] = str(tmp_path / "gone")  # on the other nodes of a job
    assert len(launch.scheduler(2, environ)) == 1


def test_clocks_two_seconds_apart_are_a_warning():
    assert clock.judge({"n01": 0.0, "n02": 0.001}).value == "less than 0.01 s apart"
    assert clock.judge({"n01": 0.0, "n02": 1.9}).verdict == OK
    record = clock.judge({"n01": 0.0, "n02": 1.5, "n03": -1.0})
    assert record.verdict == WARN
    assert record.value == "up to 2.50 s apart: n02 is ahead of n03"


# --- versions -----------------------------------------------------------------------------------

def test_versions_that_differ_between_ranks_fail_and_are_named():
    versions = {"Python": "3.12.1", "NumPy": "2.4", "h5py": "3.14", "HDF5": "1.14"}
    found, same = software.judge([versions] * 4, HOSTS, NODES)
    assert found.value == "Python 3.12.1, NumPy 2.4, h5py 3.14 (HDF5 1.14)" and found.verdict == OK
    assert (same.verdict, same.value) == (OK, "yes, 4 ranks")
    _, differ = software.judge([versions] * 3 + [{**versions, "HDF5": "1.10"}], HOSTS, NODES)
    assert differ.verdict == FAIL and "rank 3 on n02: HDF5 1.10" in differ.value
    missing, _ = software.judge([{**versions, "NumPy": software.MISSING}] * 4, HOSTS, NODES)
    assert missing.verdict == FAIL and "env/setup.sh" in missing.todo


def test_versions_are_those_of_the_loaded_libraries():
    import h5py
    import numpy

    versions = software.installed("train")
    assert (versions["NumPy"], versions["h5py"], versions["HDF5"]) == (
        numpy.__version__, h5py.__version__, h5py.version.hdf5_version)
    assert software.MISSING not in versions.values()
    assert set(software.installed("preprocess")) & {"TensorFlow", "Keras", "Horovod"} == set()


def test_other_than_tested_versions_are_a_warning(tmp_path):
    import numpy

    pins = tmp_path / "versions.txt"
    assert software.pinned(pins) is None
    pins.write_text(f"# tested\nNumPy=={numpy.__version__}\nnot-there==1.0\n")
    assert software.pinned(pins) == Record("tested versions",
                                           "1 package as in env/versions.txt")
    pins.write_text("numpy==1.0\n")
    record = software.pinned(pins)
    assert record.verdict == WARN and f"numpy {numpy.__version__} (not 1.0)" in record.value


# --- cores, memory, limits ----------------------------------------------------------------------

@pytest.mark.parametrize(("sets", "total", "verdict", "words"), [
    ([(0, 1, 2, 3)], 4, OK, "4 cores"),
    ([(0, 1)] * 2, 2, OK, "2 cores, shared by 2 ranks"),
    ([(0, 1)] * 3, 2, WARN, "3 ranks share cores 0-1"),
    ([(0, 1), (2, 3)], 8, OK, "2 ranks with 2 of their own each (the node has 8)"),
    ([(0,), (0,)], 8, WARN, "2 ranks share core 0 (the node has 8)"),
    ([(0, 1, 2), (0,), (0,)], 3, WARN, "2 ranks share core 0 (the node has 3)"),
    ([(0, 1), (1, 2)], 3, OK, "2 ranks on 3 cores, some in common"),
    ([(0,), (1,)], 2, OK, "2 ranks with 1 of their own each"),
    ([(0,), (1,)], 8, WARN, "2 ranks with 1 of their own each (the node has 8)")])
def test_ranks_that_share_a_core_are_a_warning(sets, total, verdict, words):
    """So are ranks bound to one core each, in training, if the node has more cores."""
    record = machine.judge_cores(sets, total, training=True)
    assert (record.verdict, record.value) == (verdict, words)


def test_what_gives_mpirun_one_ranks_cores_is_named(monkeypatch):
    """As seen in SLURM 22.05: ranks of the other nodes share one core."""
    node = SimpleNamespace(allgather=lambda own: [(0,), (0,)])
    place = SimpleNamespace(meet=lambda: None, node=node)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    monkeypatch.delenv("SRUN_CPUS_PER_TASK", raising=False)
    record = machine.cores(place, training=True)
    assert record.verdict == WARN and "unset" not in record.todo
    assert "export SRUN_CPUS_PER_TASK" not in record.todo
    monkeypatch.setenv("SRUN_CPUS_PER_TASK", "1")
    assert "\n  unset SRUN_CPUS_PER_TASK\n" in machine.cores(place, training=True).todo


def test_one_core_per_rank_is_enough_for_preprocessing():
    assert machine.judge_cores([(0,), (1,)], 8, training=False).verdict == OK


@pytest.mark.parametrize(("by_rank", "rank", "verdict", "advice"), [
    ([(4, (0, 1, 2, 3))], 0, OK, ""),
    ([(2, (0, 1, 2, 3))] * 2, 0, OK, ""),
    ([(4, (0, 1, 2, 3))] * 2, 0, WARN, "OMP_NUM_THREADS=2"),
    ([(1, (0, 1, 2, 3)), (1, (4, 5, 6, 7))], 1, WARN, "OMP_NUM_THREADS=4"),
    ([(4, (0, 1, 2, 3)), (4, (4, 5, 6, 7))], 1, OK, ""),
    ([(1, (0, 1))] * 3, 0, OK, "")])  # one thread each is the minimum; 'cores' warns
def test_threads_fit_the_cores(by_rank, rank, verdict, advice):
    record = training.judge_threads(by_rank, rank)
    assert record.verdict == verdict and advice in record.todo


@pytest.mark.parametrize(("threads", "requested", "verdict", "advice"), [
    (1, 1, OK, ""), (2, 1, WARN, "OMP_NUM_THREADS=1"), (1, 2, WARN, "OMP_NUM_THREADS=2"),
    (4, 4, OK, ""), (1, None, WARN, "OMP_NUM_THREADS=4")])
def test_no_more_threads_than_the_job_has_asked_for(threads, requested, verdict, advice):
    """On eight cores that two ranks may use, most of them for other jobs."""
    record = training.judge_threads([(threads, tuple(range(8)))] * 2, 0, requested)
    assert record.verdict == verdict and advice in record.todo


@pytest.mark.parametrize(("environ", "ranks", "requested"), [
    ({}, 2, None), ({"HPC_DEEPFAKE_RANK_CPUS": "3", "SLURM_CPUS_ON_NODE": "64"}, 2, 3),
    ({"SLURM_CPUS_ON_NODE": "64"}, 4, 16), ({"SLURM_CPUS_ON_NODE": "1"}, 4, 1),
    ({"HPC_DEEPFAKE_RANK_CPUS": ""}, 1, None)])
def test_cpus_of_a_rank_by_job_script_or_scheduler(environ, ranks, requested):
    assert training.cpus_requested(environ, ranks) == requested


@pytest.mark.parametrize(("free", "allowed", "verdict", "words"), [
    (100e9, None, OK, "100.0 GB free for 4 ranks, each needs 1.3 GB"),
    (100e9, 200e9, OK, "100.0 GB free for"), (7e9, None, WARN, "7.0 GB free for"),
    (5e9, None, FAIL, "5.0 GB free for"),
    (100e9, 3e9, FAIL, "3.0 GB free within the job's limit for 4 ranks")])
def test_available_memory_is_the_smaller_of_free_and_allowed(free, allowed, verdict, words):
    record = memory.judge(free, allowed, 4, 1.3)
    assert record.verdict == verdict and words in record.value


def group(root: Path, **files: object) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / name.replace("_", ".", 1)).write_text(f"{text}\n")


def test_limits_of_control_groups_version_2(tmp_path):
    """The tightest limit of all parents counts; cached files don't count as used."""
    job = tmp_path / "slurm" / "job_17"
    group(tmp_path)
    group(job, memory_max=8_000, memory_current=3_000, memory_stat="anon 1\ninactive_file 500")
    group(job / "step_0", memory_max="max", memory_current=3_000)
    assert memory.cgroup_free("0::/slurm/job_17/step_0\n", tmp_path) == 5_500
    group(job / "step_0", memory_max=3_500)
    assert memory.cgroup_free("0::/slurm/job_17/step_0\n", tmp_path) == 500
    group(job, memory_current=9_000)
    assert memory.cgroup_free("0::/slurm/job_17/step_0\n", tmp_path) == 0
    assert memory.cgroup_free("0::/elsewhere\n", tmp_path) is None


def test_limits_of_control_groups_version_1(tmp_path):
    """Also in a container, which sees its own group as the root; a huge number means no limit."""
    root = tmp_path / "memory"
    root.mkdir()
    (root / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (root / "memory.usage_in_bytes").write_text("1000\n")
    lines = "5:cpu,cpuacct:/docker/1f\n4:memory:/docker/1f\n0::/\n"
    assert memory.cgroup_free(lines, tmp_path) is None
    (root / "memory.limit_in_bytes").write_text("5000\n")
    (root / "memory.stat").write_text("cache 9\ntotal_inactive_file 100\n")
    assert memory.cgroup_free(lines, tmp_path) == 4_100


def test_few_open_files_are_a_warning():
    assert machine.judge_files(1024, 4096).verdict == OK
    assert machine.judge_files(UNLIMITED, UNLIMITED).value == "unlimited"
    for most, advice in ((UNLIMITED, "ulimit -n 4096"), (2048, "ulimit -n 2048")):
        record = machine.judge_files(256, most)
        assert record.verdict == WARN and record.todo.endswith(advice)


def test_locked_memory_matters_for_infiniband_between_nodes():
    assert machine.judge_locked(UNLIMITED, True).verdict == OK
    assert machine.judge_locked(8 << 20, False).verdict == INFO
    record = machine.judge_locked(8 << 20, True)
    assert record.verdict == WARN and "ulimit -l unlimited" in record.todo


def test_limits_of_this_process(monkeypatch):
    values = {machine.resource.RLIMIT_NOFILE: (256, 512), machine.resource.RLIMIT_CORE: (0, 0),
              machine.resource.RLIMIT_MEMLOCK: (65_536, 65_536)}
    monkeypatch.setattr(machine.resource, "getrlimit", values.get)
    for leaders, infiniband, locked in (([0, 4], True, WARN), ([0], True, INFO),
                                        ([0, 4], False, INFO)):
        records = machine.limits(SimpleNamespace(leaders=leaders), infiniband)
        assert [(record.what, record.verdict) for record in records] == [
            ("open files", WARN), ("locked memory", locked), ("core dumps", INFO)]


def test_shared_memory_is_reported_once_per_node(monkeypatch):
    place = SimpleNamespace(first=True)
    assert machine.shared_memory(SimpleNamespace(first=False)) is None
    for blocks, verdict in ((15_000, WARN), (20_000, OK)):
        monkeypatch.setattr(os, "statvfs", lambda path, blocks=blocks: SimpleNamespace(
            f_bavail=blocks, f_frsize=4096))
        assert machine.shared_memory(place).verdict == verdict
    monkeypatch.undo()
    record = machine.shared_memory(place, "/nowhere")
    assert record.verdict == WARN and "No such file" in record.value


# --- storage ------------------------------------------------------------------------------------

@pytest.mark.parametrize(("free", "files", "verdict"), [
    (80e9, None, OK), (80e9, 10**6, OK), (4e9, 10**6, WARN), (0.1e9, 10**6, FAIL),
    (80e9, 5_000, WARN), (80e9, 0, FAIL), (0.1e9, 5_000, FAIL)])
def test_little_space_for_bytes_or_files(free, files, verdict):
    assert storage.judge_space(free, 100e9, files).verdict == verdict


@pytest.mark.parametrize(("setting", "kind", "refused", "verdict"), [
    ("FALSE", "nfs4", "No locks available", OK), ("0", "lustre", None, OK),
    ("BEST_EFFORT", "lustre", "Function not implemented", OK),
    (None, "ext4", None, OK), (None, "nfs4", None, WARN), ("TRUE", "lustre", None, WARN),
    (None, "lustre", "Function not implemented", FAIL), ("TRUE", "ext4", "No locks", FAIL)])
def test_file_locking_by_setting_and_file_system(setting, kind, refused, verdict):
    record = storage.judge_locking(setting, kind, kind in ("nfs4", "lustre"), refused)
    assert record.verdict == verdict
    if verdict != OK:
        assert record.todo.endswith("  export HDF5_USE_FILE_LOCKING=FALSE")


def test_a_refused_lock_is_found_by_trying(tmp_path, monkeypatch):
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    assert storage._locking(tmp_path).verdict == OK
    monkeypatch.setattr(storage.fcntl, "flock", lambda *_: (_ for _ in ()).throw(
        OSError(38, "Function not implemented")))
    record = storage._locking(tmp_path)
    assert record.verdict == FAIL and "refuses locks: Function not implemented" in record.value
    assert list(tmp_path.iterdir()) == []


def test_nfs_is_a_warning_from_several_nodes_only():
    assert storage.judge_file_system("nfs4", 1).verdict == OK
    assert storage.judge_file_system("nfs4", 2).verdict == WARN
    assert storage.judge_file_system("lustre", 2).verdict == OK


PLAIN = "stripe_count:  {} stripe_size:   1048576 pattern:       raid0 stripe_offset: -1\n"
PROGRESSIVE = """\
  lcm_layout_gen:    0
  lcm_mirror_count:  1
  lcm_entry_count:   2
    lcme_id:             N/A
    lcme_extent.e_start: 0
    lcme_extent.e_end:   268435456
      stripe_count:  1       stripe_size:   1048576       pattern:       raid0
    lcme_id:             N/A
    lcme_extent.e_start: 268435456
    lcme_extent.e_end:   EOF
      stripe_count:  8       stripe_size:   4194304       pattern:       raid0
"""


@pytest.mark.parametrize(("text", "verdict", "words"), [
    (PLAIN.format(1), WARN, "1 stripe of 1 MiB: one server handles all writes"),
    (PLAIN.format(0), WARN, "1 stripe of 1 MiB"), (PLAIN.format(8), OK, "8 stripes of 1 MiB"),
    (PLAIN.format(-1), OK, "all servers of 1 MiB"), (PROGRESSIVE, OK, "8 stripes of 4 MiB"),
    ("what?", INFO, "unknown")])
def test_one_stripe_is_a_warning_with_the_command(text, verdict, words):
    record = storage.judge_striping(text, Path("/lustre/my runs"))
    assert record.verdict == verdict and words in record.value
    if verdict == WARN:
        assert "before the data file is created" in record.todo
        assert record.todo.endswith("  lfs setstripe -c 8 -S 4M '/lustre/my runs'")


def program(folder: Path, name: str, text: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{textwrap.dedent(text)}")
    file.chmod(0o755)


def test_lfs_is_called_for_the_folder(tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert storage._striping(folder).verdict == INFO
    program(tmp_path, "lfs", f"""\
        [ "$*" = "getstripe -d {folder}" ] && echo "stripe_count:  1 stripe_size:   1048576"
        """)
    assert storage._striping(folder).verdict == WARN
    program(tmp_path, "lfs", "echo 'not a Lustre' >&2; exit 2\n")
    record = storage._striping(folder)
    assert (record.verdict, record.value) == (INFO, "unknown: not a Lustre")


def test_a_folder_that_cannot_be_written(tmp_path):
    record = storage.writable(tmp_path / "gone")
    assert record.verdict == FAIL and f"  mkdir -p {tmp_path / 'gone'}" in record.todo
    file = tmp_path / "file"
    file.touch()
    assert storage.writable(file).verdict == FAIL
    record = storage.writable(Path("/proc"))  # for root too
    assert record.verdict == FAIL and record.value.startswith("cannot write in /proc: ")
    assert storage.writable(tmp_path).verdict == OK
    assert list(tmp_path.iterdir()) == [file]


# --- GPUs, from recorded texts --------------------------------------------------------------------

SMI = """\
0, GPU-1f3a7c52-0000, 00000000:07:00.0, NVIDIA A100-SXM4-80GB, 535.104.05, 81920, 3
1, GPU-2b9d0e11-0000, 00000000:0F:00.0, NVIDIA A100-SXM4-80GB, 535.104.05, 81920, 20480
2, GPU-2b9d77aa-0000, 00000000:47:00.0, NVIDIA A100-SXM4-80GB, 535.104.05, 81920, [N/A]
"""
CARDS = parse(SMI)


def test_a_visible_gpu_that_others_use_is_a_warning():
    assert gpu.busy(CARDS, "0,2") is None
    record = gpu.busy(CARDS, None)
    assert record.verdict == WARN and "GPU 1 (00000000:0F:00.0) has 20,480" in record.value


@pytest.mark.parametrize(("version", "cuda", "computes", "verdict"), [
    ("525.60.13", "12.5.1", True, OK), ("525.60.12", "12.5.1", False, FAIL),
    ("535.104.05", "12.9", True, OK), ("575.57.08", "13.0", False, FAIL),
    ("580.65.06", "13.0", True, OK), ("580", "13", True, OK), ("470.82.01", "11.8", True, OK),
    ("96.43.23", "12.5.1", False, FAIL),
    ("525.125.06", "13.0", True, WARN), ("999.1", "21.0", True, INFO)])
def test_the_driver_is_new_enough_for_cuda(version, cuda, computes, verdict):
    """An older driver that works nevertheless does so through compatibility libraries."""
    assert gpu.judge_driver(version, cuda, computes).verdict == verdict


@pytest.mark.parametrize(("text", "version"), [
    ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023\n"
     "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n", "535.129.03"),
    ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs)\n",
     "580.65.06"), ("", None)])
def test_the_driver_version_from_proc(tmp_path, text, version):
    file = tmp_path / "version"
    file.write_text(text)
    assert gpu.driver([], file) == version
    assert gpu.driver(CARDS, file) == "535.104.05"
    assert gpu.driver([], tmp_path / "none") is None


def test_gpu_direct_matters_between_nodes_with_infiniband(tmp_path):
    modules, version = tmp_path / "modules", tmp_path / "version"
    modules.write_text("nvidia_uvm 1 2 - Live 0x0\n")
    files = (modules, version)
    assert gpu.direct(1, ["mlx5_0"], *files) is None
    assert gpu.direct(2, [], *files).verdict == INFO
    record = gpu.direct(2, ["mlx5_0"], *files)
    assert record.verdict == WARN and "NCCL_DEBUG=INFO" in record.todo
    version.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06\n")
    assert gpu.direct(2, ["mlx5_0"], *files).verdict == INFO
    modules.write_text("nvidia_peermem 16384 0 - Live 0x0\n")
    assert gpu.direct(2, ["mlx5_0"], *files).verdict == OK


def test_gpus_that_stay_unused_are_a_warning():
    assert gpu.judge_none("cpu", CARDS, "").verdict == INFO
    assert gpu.judge_none("auto", [], "no driver").verdict == INFO
    record = gpu.judge_none("auto", CARDS, "built without CUDA")
    assert record.verdict == WARN and "3 GPUs: built without CUDA" in record.value


@pytest.mark.parametrize(("code", "version"), [(23202, "2.32.2"), (21803, "2.18.3"),
                                               (2804, "2.8.4")])
def test_nccl_numbers(code, version):
    assert gpu.nccl_version(code) == version


@pytest.mark.parametrize(("code", "cuda", "used", "verdict"), [
    (0, False, False, OK), (21803, True, True, OK), (0, True, True, FAIL), (0, True, False, WARN),
    (21803, False, False, WARN)])
def test_horovod_has_nccl_where_tensorflow_has_cuda(code, cuda, used, verdict):
    assert gpu.judge_nccl(code, cuda, used).verdict == verdict


# --- Horovod ------------------------------------------------------------------------------------

def test_horovod_that_sees_other_ranks_than_mpi_fails():
    ranks, threads = training.judge_ranks((3, 4), (3, 4), True)
    assert (ranks.verdict, threads.verdict) == (OK, OK)
    record, = training.judge_ranks((0, 1), (3, 4), True)
    assert record.verdict == FAIL and "rank 0 of 1, but MPI sees 3 of 4" in record.value
    assert training.judge_ranks((3, 4), (3, 4), False)[1].verdict == WARN


MAPS = """\
7f10-7f20 r-xp 00000000 08:01 11 {}
7f20-7f30 rw-p 00000000 08:01 11 {}
7f30-7f40 r-xp 00000000 08:01 12 /opt/lib/libmpi_mpifh.so.40
7f40-7f50 r-xp 00000000 08:01 13 /opt/lib/libhdf5_openmpi.so.103
"""


def test_two_mpi_libraries_in_one_process_fail():
    openmpi, mpich = "/opt/openmpi/lib/libmpi.so.40.30.4", "/opt/mpich/lib/libmpich.so.12"
    assert training.judge_libraries(MAPS.format(openmpi, openmpi)).verdict == OK
    record = training.judge_libraries(MAPS.format(openmpi, mpich))
    assert record.verdict == FAIL and openmpi in record.value and mpich in record.value


def test_cray_mpich_is_one_library_whatever_its_compiler():
    for name in ("gnu_123", "cray", "nvidia", "amd", "aocc"):
        path = f"/opt/cray/pe/mpich/8.1.28/ofi/lib/libmpi_{name}.so.12.0.0"
        record = training.judge_libraries(MAPS.format(path, "/opt/cray/libmpi_gtl_cuda.so.0.0.0"))
        assert record.verdict == OK and path in record.value


def test_on_one_rank_horovods_faults_are_warnings(monkeypatch):
    failure = [Record("Horovod", "ImportError", FAIL, "build"), Record("NCCL", "fits")]
    monkeypatch.setattr(training, "_horovod", lambda *_: failure)
    for size, verdict in ((1, WARN), (2, FAIL)):
        place = SimpleNamespace(comm=SimpleNamespace(size=size))
        assert [record.verdict for record in training.horovod(place, None, None)] == [verdict, OK]


# --- the command --------------------------------------------------------------------------------

def test_help_needs_neither_mpi_nor_tensorflow(tmp_path):
    for name in ("mpi4py", "tensorflow", "h5py", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not for --help')")
    done = subprocess.run([sys.executable, "-m", "hpc_deepfake.cli", "doctor", "--help"],
                          cwd=tmp_path, text=True, capture_output=True,
                          env={**os.environ, "PYTHONPATH": str(tmp_path)}, check=False)
    assert done.returncode == 0, done.stderr
    assert "srun --mpi=pmix hpc-deepfake doctor" in done.stdout


def test_options_from_a_file_go_by_their_names(tmp_path):
    file = tmp_path / "doctor.toml"
    file.write_text('for = "preprocess"\ndir = "/scratch"\nthreads = 2\n')
    options = doctor.parser().parse(["--config", str(file)])
    assert vars(options)["for"] == "preprocess" and options.dir == Path("/scratch")
    assert options.threads == 2


def test_missing_compiled_operations_are_a_warning_with_the_command_that_builds_them():
    assert training.operations("", "AVX2") == Record("operations", "compiled, for AVX2")
    record = training.operations("they are not built", "")
    assert record.verdict == WARN and "not built" in record.value
    assert record.todo.endswith("\n  python -m hpc_deepfake.network.blocks")
