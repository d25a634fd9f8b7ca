"""The files that describe the project agree with each other and with the package."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from conftest import ROOT
from speed import limit

from hpc_deepfake import __version__


def test_citation_is_valid_and_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    required = {"cff-version", "message", "title", "authors"}  # of the schema of CFF 1.2.0
    assert required <= set(citation) and citation["cff-version"] == "1.2.0"
    assert citation["version"] == __version__
    assert citation["license"] == "Apache-2.0" and citation["type"] == "software"


def test_changelog_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)[0] == __version__


def test_licence_is_the_one_that_is_named() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "the hpc_deepfake authors" in text
    assert 'license_expression="Apache-2.0"' in (ROOT / "setup.py").read_text(encoding="utf-8")


def requirements() -> dict[str, set[str]]:
    """Names of the packages that setup.py requires: always, as ``""``, and by extra."""
    calls = [node for node in ast.walk(ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")))
             if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup"]
    values = {keyword.arg: keyword.value for keyword in calls[0].keywords}
    extras = values["extras_require"]
    assert isinstance(extras, ast.Dict)
    lists = {"": values["install_requires"],
             **{ast.literal_eval(key): value for key, value in zip(extras.keys, extras.values)}}
    return {extra: {re.split(r"[^\w-]", node.value)[0] for node in ast.walk(packages)
                    if isinstance(node, ast.Constant)} for extra, packages in lists.items()}


def test_every_imported_package_is_required() -> None:
    """Third-party packages of the code. TensorFlow has two packages, and setup.py chooses; Horovod
    is compiled by env/setup.sh."""
    distributions = {"cv2": "opencv-python-headless", "PIL": "pillow", "pillow_heif": "pillow-heif"}
    imported = set()
    for package in ("hpc_deepfake", "preprocessing"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    imported |= {name.name.split(".")[0] for name in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    imported.add(node.module.split(".")[0])
    third_party = {distributions.get(name, name) for name in imported - sys.stdlib_module_names
                   - {"hpc_deepfake", "preprocessing", "tensorflow", "horovod", "_typeshed"}}
    required = requirements()
    of_keras = required.pop("export")  # imported by Keras, or by name
    assert third_party == set().union(*required.values()) and not third_party & of_keras
    assert not required[""] & {"mpi4py", "horovod"}, "without MPI and a compiler"
    assert "pillow-heif" not in required[""], "its wheels contain x265, under the GPL"


def test_the_package_of_tensorflow_can_be_chosen(tmp_path: Path) -> None:
    """pip check fails in an environment that has the one and where the other is required."""
    for chosen in ("", "tensorflow"):
        done = subprocess.run(
            [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", tmp_path], cwd=ROOT,
            env={**os.environ, "HPC_DEEPFAKE_TENSORFLOW": chosen}, capture_output=True, text=True,
            timeout=limit(60))
        assert done.returncode == 0, done.stderr
        text = (tmp_path / "hpc_deepfake.egg-info" / "requires.txt").read_text(encoding="utf-8")
        assert bool(re.search(r"^tensorflow-cpu", text, re.MULTILINE)) == (not chosen)
        assert bool(re.search(r"^tensorflow$", text, re.MULTILINE)) == bool(chosen)
    assert "export HPC_DEEPFAKE_TENSORFLOW=tensorflow" in (ROOT / "env" / "setup.sh").read_text(
        encoding="utf-8")


def test_setup_py_keeps_the_metadata() -> None:
    """pyproject.toml has no [project] table, which would silently replace that of setup.py."""
    assert "project" not in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_module_is_installed() -> None:
    """A folder without ``__init__.py`` would be left out, and nobody would miss it in a clone."""
    folders = {file.parent.relative_to(ROOT) for package in ("hpc_deepfake", "preprocessing")
               for file in (ROOT / package).rglob("*.py")}
    assert folders
    assert [str(folder) for folder in folders if not (ROOT / folder / "__init__.py").exists()] == []
