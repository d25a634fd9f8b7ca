"""Training courses: values that ``--recipe`` gives to other options, unless the user does."""

from __future__ import annotations

from typing import Any

# by name, the options that differ from the defaults of train; docs/augment.md measures best,
# docs/where.md where
RECIPES: dict[str, dict[str, Any]] = {
    "original": {},
    "best": {"augment": "flip", "patience": 15, "epochs": 50},
    "where": {"network": "unet", "feature": "ela+raw", "batch_size": 8, "optimizer": "adamw",
              "learning_rate": 0.002, "rate_schedule": "cosine", "augment": "flip=both,rotate",
              "ema": 0.99, "patience": 0, "epochs": 40},
}
