"""No module imports from a room above its own: the table in docs/architecture.md holds."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("hpc_deepfake", "preprocessing")
# What puts the rooms together, and may import any of them.
ENTRY_POINTS = {"hpc_deepfake", "hpc_deepfake.cli", "hpc_deepfake.train.__main__"}
COMMANDS = {"audit", "compare", "crosseval", "doctor", "evaluate", "export", "inspect", "jobs",
            "networks", "predict", "report", "scaling", "sweep"}


def modules() -> dict[str, Path]:
    """All modules of both packages by name; a package is named like its folder."""
    files = (file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
            for file in files}


def room(module: str) -> str:
    """``core`` of ``hpc_deepfake.core.errors``; ``preprocessing`` of all in it; empty for the
    package itself."""
    package, *rest = module.split(".")
    return package if package == "preprocessing" else rest[0] if rest else ""


def imports(module: str, file: Path, known: dict[str, Path]) -> set[str]:
    """Modules of the project that a file imports, wherever the statement stands."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for name in node.names:
                full = f"{node.module}.{name.name}"
                found.add(full if full in known else node.module)
        elif isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
    return {name for name in found if name.split(".")[0] in PACKAGES} - {module}


def directions() -> dict[str, set[str]]:
    """The table of docs/architecture.md: the rooms that each room may import from."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.split("| room | may import from |")[1].split("\n\n")[0]
    return {name: set(re.findall(r"`(\w+)`", allowed))
            for name, allowed in re.findall(r"^\| `(\w+)` \| (.*?) \|", table, re.MULTILINE)}


def violations(known: dict[str, Path], allowed: dict[str, set[str]]) -> list[str]:
    """Imports that the table forbids, and those of a command that pass by its face."""
    wrong = []
    for module, file in sorted(known.items()):
        own = room(module)
        for target in sorted(imports(module, file, known)):
            other = room(target)
            if module in ENTRY_POINTS or other in ("", own):
                continue
            if other not in allowed[own]:
                wrong.append(f"{module} imports {target}: {own} may not use {other}")
            elif other in COMMANDS and target != f"hpc_deepfake.{other}":
                wrong.append(f"{module} imports {target}, not from the face hpc_deepfake.{other}")
    return wrong


def test_every_room_is_in_the_table() -> None:
    assert {room(module) for module in modules()} - {"", "cli"} == set(directions())


def test_the_table_has_no_circle() -> None:
    above: dict[str, set[str]] = {}
    for name, allowed in directions().items():  # in the order of the table: only what came before
        assert allowed <= set(above), f"{name} may import from a room below it in the table"
        above[name] = allowed


def test_imports_go_downward() -> None:
    assert violations(modules(), directions()) == []


@pytest.mark.parametrize("line", [
    "from hpc_deepfake.train import loop",
    "import hpc_deepfake.strategies.sync",
    "def later():\n    from hpc_deepfake import report",
    "from hpc_deepfake.jobs.script import DIALECTS"])
def test_an_import_upward_is_found(line: str, tmp_path: Path) -> None:
    """The test would see a mistake: an upward import, and one that passes by a command's face."""
    file = tmp_path / "planted.py"
    file.write_text(line + "\n")
    known = {**modules(), "hpc_deepfake.compare.planted": file} if "jobs" in line else \
        {**modules(), "hpc_deepfake.network.planted": file}
    assert len(violations(known, directions())) == 1


def test_preprocessing_runs_without_tensorflow_and_training() -> None:
    """Of ``hpc_deepfake``, preprocessing imports only ``core``, which imports no room."""
    assert directions()["preprocessing"] == {"core"} and not directions()["core"]
