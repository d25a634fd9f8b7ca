"""The files that describe the project agree with each other and with the package."""

from __future__ import annotations

import ast
import re
import sys
import tomllib

import yaml
from conftest import ROOT

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


def test_every_imported_package_is_required() -> None:
    """Third-party packages of the code, without TensorFlow and Horovod (env/setup.sh)."""
    distributions = {"cv2": "opencv-python-headless", "PIL": "pillow"}
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
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    required = set(re.findall(r'"([\w-]+)"', setup.split("install_requires=")[1].split("]")[0]))
    assert third_party == required


def test_setup_py_keeps_the_metadata() -> None:
    """pyproject.toml has no [project] table, which would silently replace that of setup.py."""
    assert "project" not in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
