"""The guides: their links and the paths and scripts that they name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT

from hpc_deepfake.core.options import Parser
from hpc_deepfake.train.options import parser as train_parser
from preprocessing.__main__ import parser as preprocessing_parser

PAGES = sorted(page for folder in ("", "docs/", "env/", "examples/")
               for page in ROOT.glob(f"{folder}*.md"))


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as code hosts make them."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = (re.sub(r"[`*]|\[(.*?)\]\(.*?\)", r"\1", title).lower() for title in titles)
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def test_scripts_named_in_the_cluster_guide_are_all_there_are() -> None:
    text = (ROOT / "docs" / "cluster.md").read_text()
    named = set(re.findall(r"^\| `(\w+\.sh)` \|", text, re.MULTILINE))
    assert named == {path.name for path in (ROOT / "jobs" / "slurm").glob("*.sh")}


def test_variables_named_in_the_cluster_guide_are_those_of_the_scripts() -> None:
    text = (ROOT / "docs" / "cluster.md").read_text()
    table = text.split("| variable | meaning |")[1].split("\n\n")[0]
    named = set(re.findall(r"`([A-Z_]+)`", "".join(
        row.split("|")[1] for row in table.splitlines() if row.count("|") > 2)))
    written = (ROOT / "jobs" / "slurm" / "train_cpu.sh").read_text()
    assert named == {"PICTURES", *re.findall(r"^([A-Z_]+)=\$\{", written, re.MULTILINE)}


FOLDERS = "hpc_deepfake|preprocessing|jobs|benchmarks|tests|env|docs|configs|examples"
PATHS = re.compile(rf"(?<![\w/.-])((?:{FOLDERS})/[\w./-]+)")


def missing_paths(text: str) -> list[str]:
    """Paths of the project that a text names and that do not exist.

    Names that the reader chooses are exempt: ``env/sites/mine.sh``, and capitals as in
    ``env/sites/NAME.sh``."""
    named = (path.rstrip(".") for path in PATHS.findall(text))
    return [path for path in named
            if not (ROOT / path).exists() and not re.search(r"[A-Z]{3,}|/mine\.", path)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_named_exist(page: Path) -> None:
    assert missing_paths(page.read_text()) == []


def test_missing_path_is_detected() -> None:
    assert missing_paths("`hpc_deepfake/nowhere.py`, `jobs/slurm/` and env/sites/NAME.sh.") == [
        "hpc_deepfake/nowhere.py"]


@pytest.mark.parametrize(("guide", "parser"), [
    ("training.md", train_parser()), ("preprocessing.md", preprocessing_parser())],
    ids=("train", "preprocess"))
def test_guide_lists_every_option(guide: str, parser: Parser) -> None:
    text = (ROOT / "docs" / guide).read_text()
    rows = re.findall(r"^\| (`--.*?) \|", text.split("\n## Options")[1], re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"--[\w-]+", row)}
    options = {name for action in parser._actions for name in action.option_strings
               if name.startswith("--")}
    assert listed - {"--help"} == options - {"--help"}


def test_tests_named_in_the_guides_exist() -> None:
    defined = {name for path in (ROOT / "tests").rglob("test_*.py")
               for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)}
    defined |= {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    named = {(page.name, name) for page in PAGES
             for name in re.findall(r"\b(test_\w+)\b(?!\*)", page.read_text())}
    assert {name for name in named if name[1] not in defined} == set()
