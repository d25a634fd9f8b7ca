"""What env/setup.sh refuses on clusters before it builds anything, with played commands."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from job_scripts import command
from speed import limit
from test_env import SETUP, TOOLS, bare_path, setup

__all__ = ["bare_path"]  # a fixture
NO_PYTHON = {"PYTHON": "none"}  # so that nothing is built in any case, nor the network asked


@pytest.fixture
def tools(bare_path: Path) -> Path:
    """``bare_path`` with a compiler and make, which do nothing."""
    for name in ("chmod", "id", "mktemp", "timeout", "tr"):
        if name not in TOOLS.split():
            bare_path.joinpath(name).symlink_to(str(shutil.which(name)))
    for name in ("g++", "make"):
        command(bare_path, name, "exit 0")
    return bare_path


def refused(tools: Path, tmp_path: Path, *options: str, **environment: str) -> str:
    """What is missing, one line each; nothing has been made."""
    done = setup(tools, tmp_path, *options, **{**NO_PYTHON, **environment})
    assert done.returncode == 2, done.stdout + done.stderr
    assert not (tmp_path / "env").exists()
    assert all(line.startswith("setup.sh: ") for line in done.stderr.splitlines()), done.stderr
    return str(done.stderr)


@pytest.mark.parametrize("sign", ["sbatch", "qsub", "SLURM_JOB_ID", "PBS_O_WORKDIR",
                                  "CRAYPE_VERSION"])
def test_no_open_mpi_from_pypi_on_a_cluster_unless_told_so(tools: Path, tmp_path: Path,
                                                           sign: str) -> None:
    environment = {sign: "1"} if sign.isupper() else {}
    if not environment:
        command(tools, sign, "exit 1")
    text = refused(tools, tmp_path, **environment)
    line, = (line for line in text.splitlines() if "MPI (mpicxx and mpirun)" in line)
    assert sign in line and "env/setup.sh --mpi pypi" in line
    assert ("PrgEnv-gnu and cray-mpich" if sign == "CRAYPE_VERSION" else "module avail") in line
    assert "mpicxx" not in refused(tools, tmp_path, "--mpi", "pypi", **environment)


def test_elsewhere_open_mpi_comes_from_pypi(tools: Path, tmp_path: Path) -> None:
    assert "mpicxx" not in refused(tools, tmp_path)


def test_an_mpi_without_mpirun_needs_a_launcher(tools: Path, tmp_path: Path) -> None:
    """As built for SLURM alone."""
    command(tools, "mpicxx", "echo g++ 13")
    command(tools, "sbatch", "exit 1")
    text = refused(tools, tmp_path)
    assert "MPIRUN='srun -n 2' env/setup.sh" in text and "MPIRUN=none" in text
    assert "MPIRUN=" not in refused(tools, tmp_path, MPIRUN="none")


def test_cray_mpich_is_used_through_cc_with_gcc(tools: Path, tmp_path: Path) -> None:
    cray = {"CRAYPE_VERSION": "2.7.30", "CRAY_MPICH_DIR": "/opt/cray/pe/mpich/8.1.28/ofi/gnu/12.3"}
    for name in ("cc", "CC"):
        command(tools, name, "exit 0")
    text = refused(tools, tmp_path, **cray, PE_ENV="NVIDIA")
    assert "this is PrgEnv-nvidia): module load PrgEnv-gnu" in text
    assert "a Cray has no mpirun): within an allocation, MPIRUN='srun -n 2'" in text
    text = refused(tools, tmp_path, **cray, PE_ENV="GNU", MPIRUN="srun -n 2")
    assert "MPI" not in text and "PrgEnv" not in text


def test_no_build_for_gpus_on_aarch64(tools: Path, tmp_path: Path) -> None:
    (tools / "uname").unlink()
    command(tools, "uname", "echo aarch64")
    text = refused(tools, tmp_path, "--gpu")
    assert "TensorFlow with CUDA for aarch64" in text and "nvcc" not in text
    assert "HPC_DEEPFAKE_PYTHON=site" in text and "HPC_DEEPFAKE_IMAGE" in text
    assert "CUDA" not in refused(tools, tmp_path, "--cpu")


LFS = """
    [[ $2 == -q ]] || exit 1
    echo /scratch/of/a/very/long/name
    echo "               812345* 0 900000 - {files} {soft} {hard} -"
"""


@pytest.mark.parametrize(("played", "left"), [
    ({"lfs": LFS.format(files="45000*", soft=0, hard=50000)}, "5000 more (left of the quota)"),
    ({"lfs": LFS.format(files=45000, soft=50000, hard=0)}, "5000 more"),
    ({"lfs": LFS.format(files=45000, soft=0, hard=0)}, ""),
    ({"lfs": LFS.format(files=45000, soft=0, hard=1000000)}, ""),
    ({"quota": "echo '/dev/sda 12 0 0 0 95000 0 100000 0'; echo '/dev/sdb 1 0 0 0 9 0 9 0'",
      "df": "echo head; echo /dev/sda 9 9 9000000 1% /"}, "5000 more"),
    ({"df": "echo head; [[ $1 == -Pi ]] && echo x 100 90 777 99% / || echo x 1 1 999999 1% /"},
     "777 more (free inodes of the file system)"),
    ({"df": "echo head; [[ $1 == -Pi ]] && echo x 0 0 0 - / || echo x 1 1 999999 1% /"}, "")])
def test_room_for_its_many_files(tools: Path, tmp_path: Path, played: dict[str, str],
                                 left: str) -> None:
    """Quotas of Lustre (a long line in two) and of others; a file system without a number."""
    for name, body in played.items():
        (tools / name).unlink(missing_ok=True)
        command(tools, name, body)
    text = refused(tools, tmp_path)
    assert ("room for files" in text) == bool(left) and left in text


def in_noexec(folder: Path, script: str, *arguments: object,
              **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script of bash where ``folder``, its ``$0``, is empty and mounted noexec."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c",
         f'mount -t tmpfs -o noexec tmpfs "$0" || exit 77\n{script}', folder,
         *map(str, arguments)],
        env={"HOME": "/nonexistent", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **variables},
        text=True, capture_output=True, timeout=limit(60))
    if done.returncode in (1, 77):
        pytest.skip(f"no file system can be mounted here: {done.stderr}")
    return done


@pytest.mark.parametrize("where", ["HPC_DEEPFAKE_ENV", "TMPDIR"])
def test_a_noexec_file_system_is_refused(tools: Path, tmp_path: Path, where: str) -> None:
    folder = tmp_path / "noexec"
    variables = {"HPC_DEEPFAKE_ENV": str(tmp_path / "env"), **NO_PYTHON, where: str(folder)}
    done = in_noexec(folder, 'PATH=$2 exec bash "$1"', SETUP, tools, **variables)
    assert done.returncode == 2
    assert "a folder in which programs can be started" in done.stderr
    assert f"{folder} is on a file system mounted noexec: choose another folder with {where}" \
        in done.stderr


@pytest.mark.parametrize("program", ["python", "hpc-deepfake"])
def test_an_environment_on_a_noexec_file_system_is_not_activated(tmp_path: Path,
                                                                 program: str) -> None:
    """A link to the system's Python can be started, the programs beside it can't."""
    done = in_noexec(tmp_path / "noexec", """
        mkdir "$0/bin"; ln -s "$(command -v bash)" "$0/bin/python"; rm -f "$0/bin/$2"
        printf '#!/bin/sh' >"$0/bin/$2"; chmod 755 "$0/bin/$2"
        source "$1"; echo "code $?\"""", SETUP.with_name("activate.sh"), program,
        HPC_DEEPFAKE_ENV=str(tmp_path / "noexec"))
    assert done.stdout == "code 2\n"
    assert f"no program can be started from {tmp_path}/noexec" in done.stderr
    assert "mounted noexec" in done.stderr
