"""The copy of the environment on a node's own disk."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from conftest import ROOT
from speed import limit

SCRIPT = ROOT / "env" / "stage.sh"


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Looks like a finished environment: links to Python, a program of it, the stamp of setup."""
    env = tmp_path / "env"
    for folder in ("bin", "stamps", "wheels", "lib"):
        (env / folder).mkdir(parents=True)
    (env / "stamps" / "selfcheck").write_text("0123456789abcdef\n")
    python = Path(os.path.realpath(sys.executable))
    (env / "bin" / "python").symlink_to(python)
    (env / "bin" / "python3").symlink_to("python")
    (env / "bin" / "hello").write_text(f"#!{env}/bin/python\nprint('hello')\n")
    (env / "bin" / "hello").chmod(0o755)
    (env / "wheels" / "large").write_bytes(bytes(1000))
    (env / "pyvenv.cfg").write_text(f"home = {python.parent}\nversion = 3\n")
    return env


@pytest.fixture
def small(environment: Path) -> Path:
    """The same without a Python of its own to copy, as where that is the system's."""
    (environment / "bin" / "python").unlink()
    (environment / "bin" / "python").symlink_to("/usr/bin/env")
    return environment


def script(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *map(str, arguments)], text=True, capture_output=True,
                          env={**os.environ, **variables}, timeout=limit(120))


def test_an_environment_is_packed_once_and_works_elsewhere(environment: Path,
                                                           tmp_path: Path) -> None:
    first = script("pack", HPC_DEEPFAKE_ENV=str(environment))
    assert first.returncode == 0, first.stderr
    tar = Path(first.stdout.strip())
    made = tar.stat()
    assert script("pack", HPC_DEEPFAKE_ENV=str(environment)).stdout == first.stdout
    assert tar.stat().st_ino == made.st_ino
    local = tmp_path / "local disk"
    done = script("unpack", tar, local)
    assert done.returncode == 0, done.stderr
    target = Path(done.stdout.strip())
    assert target.parent == local and script("where", tar, local).stdout == done.stdout
    assert not (target / "wheels").exists()
    shutil.rmtree(environment / "bin")  # nothing of the original is needed
    run = subprocess.run([target / "bin" / "python", "-c", "import sys; print(sys.prefix)"],
                         text=True, capture_output=True, env={
                             **os.environ, "LD_LIBRARY_PATH": f"{target}/python/lib"})
    assert run.stdout.strip() == str(target), run.stderr
    assert (target / "bin" / "hello").read_text().startswith(f"#!{target}/bin/python\n")
    assert script("unpack", tar, local).stdout == done.stdout
    assert list(local.iterdir()) == [target]


def test_another_environment_has_another_tar(small: Path) -> None:
    one = Path(script("pack", HPC_DEEPFAKE_ENV=str(small)).stdout.strip())
    (small / "stamps" / "selfcheck").write_text("fedcba9876543210\n")
    other = Path(script("pack", HPC_DEEPFAKE_ENV=str(small)).stdout.strip())
    assert one != other and one.exists() and other.exists()  # a job may be unpacking it
    for file in (one, small / "stage-0123.tar.killed"):
        file.touch()
        os.utime(file, (0, 0))
    script("pack", HPC_DEEPFAKE_ENV=str(small))
    assert list(small.glob("stage-*")) == [other]


def test_without_room_nothing_is_left_behind(small: Path, tmp_path: Path) -> None:
    tar = script("pack", HPC_DEEPFAKE_ENV=str(small)).stdout.strip()
    done = script("unpack", tar, tmp_path / "local",
                  PATH=tools(tmp_path, df="echo head; echo x 1 1 0 100% /"))
    assert done.returncode == 3
    assert "not enough space in" in done.stderr and "0 MB are free" in done.stderr
    assert not list((tmp_path / "local").iterdir())


def tools(tmp_path: Path, **programs: str) -> str:
    """A PATH with these programs, in shell, first."""
    folder = tmp_path / "tools"
    folder.mkdir(exist_ok=True)
    for name, body in programs.items():
        (folder / name).write_text(f"#!/bin/sh\nPATH='{os.environ['PATH']}'\n{body}\n")
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_of_two_packers_one_packs_and_the_other_waits(small: Path, tmp_path: Path) -> None:
    path = tools(tmp_path, sleep=f"touch '{tmp_path}/waits'; exec sleep 0.1", tar=f"""
        echo >>'{tmp_path}/calls'
        until [ -e '{tmp_path}/waits' ]; do sleep 0.1; done
        exec tar "$@"
        """)
    command = {"args": [SCRIPT, "pack"], "text": True, "stdout": subprocess.PIPE,
               "env": {**os.environ, "PATH": path, "HPC_DEEPFAKE_ENV": str(small)}}
    packers = [subprocess.Popen(**command) for _ in range(2)]  # type: ignore[call-overload]
    printed = {packer.communicate(timeout=limit(60))[0] for packer in packers}
    tar = Path(printed.pop().strip())
    assert not printed and [packer.returncode for packer in packers] == [0, 0]
    assert list(small.glob("stage-*")) == [tar]
    assert (tmp_path / "calls").read_text() == "\n"


def test_a_packer_that_was_killed_is_not_waited_for(small: Path, tmp_path: Path) -> None:
    (small / "stage-0123456789ab.tar.packing").touch()
    (small / "stage-0123456789ab.tar.x1").write_text("half")
    done = script("pack", HPC_DEEPFAKE_ENV=str(small), STAGE_PATIENCE="3",
                  PATH=tools(tmp_path, sleep=":"))
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).stat().st_size > 1000
    assert not list(small.glob("*.packing"))


@pytest.mark.parametrize("verb", ["pack", "unpack"])
def test_a_failure_says_so_and_leaves_nothing(small: Path, tmp_path: Path,
                                              verb: str) -> None:
    """The disk is full all of a sudden."""
    local, arguments = tmp_path / "local", ["pack"]
    if verb == "unpack":
        tar = script("pack", HPC_DEEPFAKE_ENV=str(small)).stdout.strip()
        arguments = ["unpack", tar, str(local)]
    before = sorted(small.iterdir())
    done = script(*arguments, HPC_DEEPFAKE_ENV=str(small),
                  PATH=tools(tmp_path, tar="echo 'tar: No space left on device' >&2; exit 2"))
    assert done.returncode == 3
    assert done.stderr.splitlines()[0] == "tar: No space left on device"
    assert f"cannot {verb}" in done.stderr and "unbound" not in done.stderr
    assert sorted(small.iterdir()) == before
    assert verb == "pack" or not list(local.iterdir())


def test_copies_in_memory_are_a_jobs_own_and_go_with_it(small: Path, tmp_path: Path) -> None:
    tar = script("pack", HPC_DEEPFAKE_ENV=str(small)).stdout.strip()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        made = [script("unpack", tar, folder, **{name: job}) for name, job in (
            ("SLURM_JOB_ID", "7"), ("SLURM_JOB_ID", "77"), ("PBS_JOBID", "7[3].server"))]
        if "noexec" in made[0].stderr:
            pytest.skip("no program can be started in /dev/shm here")
        copies = [Path(done.stdout.strip()) for done in made]
        assert len(set(copies)) == 3 and all((copy / "bin").is_dir() for copy in copies)
        assert copies[0].name.endswith("-job-7") and copies[2].name.endswith("-job-7_3_.server")
        used, left = (Path(folder, f"casia-{os.geteuid()}-0123456{number}.h5") for number in "78")
        other = Path(folder, f"casia-{os.geteuid() + 1}-01234567.h5")
        for file in (used, left, other):
            file.touch()
        with open(used) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            done = script("clean", folder, SLURM_JOB_ID="7")
        assert done.returncode == 0, done.stderr
        assert sorted(Path(folder).iterdir()) == sorted([copies[1], copies[2], used, other])
        # copies of jobs that SLURM no longer knows, and of others that were killed long ago
        copies.append(Path(script("unpack", tar, folder, SLURM_JOB_ID="5").stdout.strip()))
        squeue = tools(tmp_path, squeue="""
            case $2 in
                --jobs=77) echo RUNNING ;;
                --jobs=5) echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1 ;;
                *) echo "Unable to contact slurm controller" >&2; exit 1 ;;
            esac""")
        script("unpack", tar, folder, SLURM_JOB_ID="6", PATH=squeue)
        copies[3] = Path(f"{copies[3]}".replace("-job-5", "-job-6"))
        assert sorted(Path(folder).glob("hpc_*")) == sorted(copies[1:])
        for copy in copies[1:]:  # unless a rank uses them
            os.utime(copy, (0, 0))
        descriptor = os.open(copies[2], os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        again = Path(script("unpack", tar, folder, SLURM_JOB_ID="8").stdout.strip())
        os.close(descriptor)
        assert sorted(Path(folder).glob("hpc_*")) == sorted([copies[2], again])


def test_on_a_disk_copies_stay_until_unused_for_a_week(small: Path, tmp_path: Path) -> None:
    kind = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], text=True, capture_output=True)
    if kind.stdout.strip() == "tmpfs":
        pytest.skip("the tests' folder is in memory")
    tar = script("pack", HPC_DEEPFAKE_ENV=str(small)).stdout.strip()
    copy = Path(script("unpack", tar, tmp_path / "local", SLURM_JOB_ID="7").stdout.strip())
    script("clean", copy.parent, SLURM_JOB_ID="7")
    assert copy.is_dir() and "-job-" not in copy.name
    other = copy.with_name(f"hpc_deepfake-{os.geteuid()}-stage-of-another")
    for days, kept in ((6, True), (8, False)):
        other.mkdir(exist_ok=True)
        os.utime(other, (time.time() - days * 86400,) * 2)
        assert script("unpack", tar, copy.parent).stdout.strip() == str(copy)
        assert other.exists() == kept


def test_a_noexec_folder_is_refused_before_unpacking(small: Path, tmp_path: Path) -> None:
    tar = script("pack", HPC_DEEPFAKE_ENV=str(small)).stdout.strip()
    local = tmp_path / "local"
    local.mkdir()
    done = subprocess.run(["unshare", "--mount", "sh", "-c", """
        mount -t tmpfs -o noexec tmpfs "$2" || exit 77
        "$0" unpack "$1" "$2"; code=$?; ls -A "$2"; exit $code""", SCRIPT, tar, local],
        text=True, capture_output=True, timeout=limit(60))
    if done.returncode in (1, 77):
        pytest.skip(f"no file system can be mounted here: {done.stderr}")
    assert done.returncode == 3 and not done.stdout
    assert f"no program can be started in {local}, which is mounted noexec" in done.stderr


@pytest.mark.parametrize(("arguments", "code"), [
    (("unpack", "/nonexistent.tar", "/tmp"), 3), (("unpack", "x"), 2), (("pack", "x"), 2), ((), 2),
    (("unpack", "x.tar", "relative"), 3)])
def test_wrong_usage(arguments: tuple[str, ...], code: int) -> None:
    done = script(*arguments)
    assert done.returncode == code and done.stderr


def test_an_unfinished_environment_is_not_packed(small: Path) -> None:
    (small / "stamps" / "selfcheck").unlink()
    done = script("pack", HPC_DEEPFAKE_ENV=str(small))
    assert done.returncode == 3 and "env/setup.sh" in done.stderr
