"""Training courses: values that ``--recipe`` gives to other options, unless the user does."""

from __future__ import annotations

from typing import Any

# by name, the options that differ from the defaults of train; docs/augment.md has the measurement
RECIPES: dict[str, dict[str, Any]] = {
    "original": {},
    "best": {"augment": "flip", "patience": 15, "epochs": 50},
}
