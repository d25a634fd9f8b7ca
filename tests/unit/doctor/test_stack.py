"""A site's own Python stack: what is new enough, and what to do if it isn't."""

from __future__ import annotations

import pytest

from hpc_deepfake.doctor import software, stack
from hpc_deepfake.doctor.report import FAIL, OK

NEW = {"hpc_deepfake": "0.2.0", "Python": "3.12.3", "NumPy": "1.26.4", "mpi4py": "4.0.0",
       "h5py": "3.11.0", "TensorFlow": "2.17.0+nv25.1", "Keras": "3.4.1", "Horovod": "0.28.1",
       "HDF5": "1.14.3"}


@pytest.mark.parametrize(("changed", "words"), [
    ({}, "new enough"), ({"TensorFlow": "2.15.1", "Keras": "2.15.0"},
                         "TensorFlow 2.15.1 (at least 2.16), Keras 2.15.0 (at least 3.0)"),
    ({"Horovod": software.UNKNOWN}, "new enough"), ({"Horovod": software.MISSING}, "new enough"),
    ({"h5py": "3.9"}, "new enough"), ({"h5py": "3.10.0"}, "new enough"),
    ({"Python": "3.9.18"}, "Python 3.9.18 (at least 3.11)")])
def test_a_stack_must_be_new_enough(changed: dict[str, str], words: str) -> None:
    record = stack.judge({**NEW, **changed})
    assert words in record.value
    assert record.verdict == (OK if words == "new enough" else FAIL)
    assert record.verdict == OK or "unset HPC_DEEPFAKE_PYTHON" in record.todo


def test_the_environment_itself_is_new_enough() -> None:
    for purpose in ("train", "preprocess"):
        assert stack.judge(software.installed(purpose)).verdict == OK


def test_the_advice_is_the_sites() -> None:
    assert stack.remedy("env/setup.sh", {}) == "env/setup.sh"
    assert "module" in stack.remedy("env/setup.sh", {"HPC_DEEPFAKE_PYTHON": "site"})


def test_a_package_without_metadata_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "_version", lambda package: None)
    found = software.installed("train")
    assert found["TensorFlow"] == software.UNKNOWN
    monkeypatch.setattr(stack, "_MODULES", {"TensorFlow": "tensorflow_of_nobody"})
    assert software.installed("train")["TensorFlow"] == software.MISSING


def test_horovod_needs_mpi() -> None:
    assert stack.judge_horovod(True) is None
    record = stack.judge_horovod(False)
    assert record is not None and record.verdict == FAIL and "without MPI" in record.value
