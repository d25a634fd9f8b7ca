"""What other work leaves in the environment: set aside, in real processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import run_program
from speed import limit

from hpc_deepfake.core import launcher, surroundings

PROGRAM = """
import json, os, sys, warnings
from hpc_deepfake.core.surroundings import decisions, settle
settle()
import numpy, psutil
warnings.warn("of another package")
print(json.dumps({"environ": dict(os.environ), "decisions": dict(decisions),
                  "numpy": numpy.__file__}))
"""
LEFT = {"KERAS_BACKEND": "torch", "TF_USE_LEGACY_KERAS": "1", "KERAS_MAX_EPOCHS": "many",
        "KERAS_NNX_ENABLED": "1", "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "HOROVOD_RANK": "3", "HOROVOD_GLOO_RENDEZVOUS_ADDR": "n01", "HOROVOD_CONTROLLER": "gloo",
        "MPI4PY_RC_INITIALIZE": "0", "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "cpp",
        "OPENCV_IO_MAX_IMAGE_PIXELS": "x", "OMP_NUM_THREADS": "all", "TF_XLA_FLAGS": "--nonsense",
        "MPICH_GPU_SUPPORT_ENABLED": "1", "PYTHONWARNINGS": "error"}
NOW = {"MPICH_GPU_SUPPORT_ENABLED": "0", "KERAS_BACKEND": "tensorflow", "KERAS_HOME": os.devnull,
       "MPLBACKEND": "agg"}
KEPT = {"HOROVOD_CYCLE_TIME": "5", "HDF5_USE_FILE_LOCKING": "FALSE", "TF_CPP_MIN_LOG_LEVEL": "1"}


def python(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Without what this process has decided for its own Keras."""
    inherited = {name: value for name, value in os.environ.items()
                 if not name.startswith("KERAS_")}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, text=True, timeout=limit(60),
                          env={**inherited, **environ}, capture_output=True)


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What a program finds that started among all of these settings."""
    folder = tmp_path_factory.mktemp("surroundings")
    for package in ("modules/numpy", "here/psutil"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text("raise ImportError('of another version')")
    (folder / "modules" / "only_there.py").touch()
    (folder / ".keras").mkdir()
    (folder / ".keras" / "keras.json").write_text('{"image_data_format": "channels_first"}')
    done = python("-c", PROGRAM + "import only_there", cwd=folder / "here", **LEFT, **KEPT,
                  HOME=str(folder), PYTHONPATH=str(folder / "modules"))
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "folder": folder}


@pytest.mark.parametrize("name", LEFT)
def test_a_setting_of_other_work_is_set_aside_and_recorded(settled: dict, name: str) -> None:
    assert settled["decisions"][name] == LEFT[name]
    if name != "PYTHONWARNINGS":  # Python has read that one already
        assert settled["environ"].get(name) == NOW.get(name)


def test_other_settings_stay(settled: dict) -> None:
    assert KEPT.items() <= settled["environ"].items()
    assert not KEPT.keys() & settled["decisions"].keys()


def test_gpu_support_of_cray_mpich_stays_on_where_its_library_is_linked(tmp_path: Path) -> None:
    """Here by LD_PRELOAD. MPI isn't started by looking, nor kept from starting."""
    library = tmp_path / "libmpi_gtl_cuda.so"
    shutil.copy(next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()
                     if re.search(r"/libz\S*\.so", line)), library)
    done = python("-c", PROGRAM + "from mpi4py import MPI; assert MPI.Is_initialized()",
                  cwd=tmp_path, LD_PRELOAD=str(library), MPICH_GPU_SUPPORT_ENABLED="1")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["environ"]["MPICH_GPU_SUPPORT_ENABLED"] == "1"
    assert "MPICH_GPU_SUPPORT_ENABLED" not in found["decisions"]


def test_a_package_on_a_noexec_file_system_is_named() -> None:
    error = ImportError("/nx/numpy/core.so: failed to map segment from shared object", name="numpy")
    message = surroundings.explain(error)
    assert message and "mounted noexec" in message and "HPC_DEEPFAKE_ENV" in message


def test_the_environments_packages_come_before_those_of_modules(settled: dict) -> None:
    """Of PYTHONPATH and of the current folder; what only they have can be imported."""
    assert settled["numpy"].startswith(sys.prefix)
    assert settled["decisions"]["PYTHONPATH"] == f"{settled['folder']}/modules (numpy)"


def test_no_settings_of_keras_are_read(settled: dict) -> None:
    file = str(settled["folder"] / ".keras" / "keras.json")
    assert "channels_first" in settled["decisions"][file]
    assert settled["environ"]["KERAS_HOME"] == os.devnull


@pytest.mark.slow
def test_a_library_finds_its_own_keras_too(tmp_path: Path) -> None:
    """Without ``settle``, which only programs call."""
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(
        {"floatx": "float16", "epsilon": 0.5, "backend": "torch",
         "image_data_format": "channels_first"}))
    done = python("-c", "import hpc_deepfake.network; from keras import config; print(config."
                  "backend(), config.floatx(), config.epsilon(), config.image_data_format())",
                  cwd=tmp_path, HOME=str(tmp_path), KERAS_BACKEND="jax", TF_USE_LEGACY_KERAS="1")
    assert done.stdout == "tensorflow float32 1e-07 channels_last\n", done.stderr


@pytest.mark.parametrize(("name", "value"), [
    ("OMP_NUM_THREADS", "4"), ("OMP_NUM_THREADS", "4, 2"), ("OMP_NUM_THREADS", ""),
    ("TF_XLA_FLAGS", "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit"), ("TF_XLA_FLAGS", "")])
def test_valid_values_stay(name: str, value: str) -> None:
    assert surroundings._SHAPES[name].fullmatch(value)


@pytest.mark.parametrize("value", ["-3", "0", "2.5", "4,,2", "4;2", "99999999999", "all"])
def test_no_number_of_threads(value: str) -> None:
    assert not surroundings._SHAPES["OMP_NUM_THREADS"].fullmatch(value)


SLURM = {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "8", "SLURM_NODELIST": "n01",
         "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_TASK_PID": "1"}
STEP = {**SLURM, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"}


@pytest.mark.parametrize("environ", [SLURM, STEP], ids=["job script", "shell in a step"])
def test_one_process_needs_no_launcher(tmp_path: Path, environ: dict[str, str]) -> None:
    """Inside a SLURM job, and with the temporary folder of PBS for an array job. A debug log has
    what was found and what isn't followed."""
    folder = tmp_path / "pbs.1234[7].server"
    folder.mkdir()
    done = run_program("preprocessing.make_sample", "--out", "sample", "--count", "2",
                       cwd=tmp_path, env={**environ, "TMPDIR": str(folder),
                                          "HOROVOD_RANK": "3", "HPC_DEEPFAKE_LOG": "debug"})
    assert done.returncode == 0, done.stderr
    assert "2 sample pictures" in done.stdout
    messages = done.stderr.splitlines()
    assert all(message.startswith("rank 0: ") for message in messages)
    assert "MPI" in messages[0] and ", 1 rank, on " in messages[0]
    assert any(message.endswith("not followed: HOROVOD_RANK: 3") for message in messages)


def test_only_a_process_of_its_own_leaves_slurm_alone() -> None:
    assert launcher.alone_in_slurm(SLURM) and launcher.alone_in_slurm(STEP)
    assert not launcher.alone_in_slurm({})
    assert not launcher.alone_in_slurm({**STEP, "SLURM_STEP_NUM_TASKS": "8"})
    for name in ("PMIX_NAMESPACE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"):
        assert not launcher.alone_in_slurm({**STEP, name: "1"})


def test_the_environment_is_as_before_once_mpi_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**STEP, "TMPDIR": "/nowhere[1]"}.items():
        monkeypatch.setenv(name, value)
    for name in ("PMIX_NAMESPACE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    with surroundings.for_mpi():
        assert os.environ["TMPDIR"] != "/nowhere[1]" and "SLURM_NODELIST" not in os.environ
    assert dict(os.environ) == before


@pytest.mark.parametrize(("statement", "words"), [
    ("import no_such_package", "error: the package no_such_package can't be loaded: No module"),
    ("from sysconfig import get_path; raise ImportError('libhdf5.so.103: undefined symbol: x', "
     "name='_errors', path=get_path('purelib') + '/h5py/_errors.so')",
     "error: the package h5py can't be loaded: libhdf5.so.103: undefined symbol: x. What other "
     "modules have set may be the cause: LD_LIBRARY_PATH=/opt/hdf5/lib. In a new shell")])
def test_a_package_that_does_not_load_is_one_message(tmp_path: Path, statement: str,
                                                     words: str) -> None:
    done = python("-c", "from hpc_deepfake.core.surroundings import settle; settle()\n" + statement,
                  cwd=tmp_path, LD_LIBRARY_PATH="/opt/hdf5/lib", PYTHONPATH="")
    assert done.returncode == 2
    assert done.stderr.startswith(words) and done.stderr.count("\n") == 1


def test_a_folder_that_is_gone_is_one_message(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", 'mkdir gone && cd gone && rmdir ../gone && "$0" -m hpc_deepfake.cli --help',
         sys.executable], cwd=tmp_path, capture_output=True, text=True, timeout=limit(60))
    assert done.returncode == 2 and not done.stdout
    assert done.stderr == ("error: the current folder can't be used: No such file or directory; it "
                           "may have been deleted or moved: cd to another one\n")


def test_a_mistake_of_ours_has_its_traceback() -> None:
    assert surroundings.explain(ImportError("cannot import name 'x'", name="hpc_deepfake.x")) \
        is None


@pytest.mark.parametrize(("module", "words"), [
    ("mpi4py", ("env/setup.sh", "pip install mpi4py")), ("horovod.tensorflow", ("env/setup.sh",))])
def test_what_pip_install_leaves_out_is_named_with_the_way_to_get_it(monkeypatch, module, words):
    """A package that is there and doesn't load is another matter."""
    package = module.partition(".")[0]
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError) as missing:
        __import__(module)
    message = surroundings.explain(missing.value)
    assert message and f"isn't installed in {sys.prefix}: " in message
    assert all(word in message for word in words)
    assert "can't be loaded" in str(surroundings.explain(ImportError("libmpi.so", name=package)))
