"""The configuration files of configs/ are valid, and the default one holds the defaults."""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT

from hpc_deepfake.train.options import parser as train_parser
from preprocessing.__main__ import parser as preprocessing_parser

CONFIGS = sorted((ROOT / "configs").glob("*.toml"))
DEFAULT = ROOT / "configs" / "train-default.toml"


def parse(config: Path | None) -> argparse.Namespace:
    """Options of a configuration file, read by the program that its name begins with."""
    training = config is None or config.name.startswith("train-")
    parser = train_parser() if training else preprocessing_parser()
    return parser.parse([] if config is None else ["--config", str(config)])


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_configuration_is_accepted(config: Path) -> None:
    options = vars(parse(config))
    for key, value in tomllib.loads(config.read_text(encoding="utf-8")).items():
        parsed = options[key.replace("-", "_")]
        assert (str(parsed) if isinstance(parsed, Path) else parsed) == value, key


def test_default_configuration_equals_the_defaults() -> None:
    assert vars(parse(DEFAULT)) == {**vars(parse(None)), "config": DEFAULT}


def test_default_configuration_names_every_option_that_has_a_default() -> None:
    with_default = {name for name, value in vars(parse(None)).items() if value is not None}
    keys = tomllib.loads(DEFAULT.read_text(encoding="utf-8"))
    assert {key.replace("-", "_") for key in keys} == with_default


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_comments_name_the_file_itself(config: Path) -> None:
    """The command in a file's comment reads that file, not the one it was copied from."""
    named = {word for word in config.read_text(encoding="utf-8").split()
             if word.startswith("configs/")}
    assert named <= {f"configs/{config.name}"}
