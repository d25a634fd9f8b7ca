"""Hand-made sweeps: run directories of trials whose figures are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from data_files import LABELS

from hpc_deepfake.data.rows import open_data
from hpc_deepfake.sweep import plan as plans
from hpc_deepfake.train import predictions

RIGHT = np.where(np.array(LABELS) == 1, 0.9, 0.1)  # of the test part


def certain(p: float) -> np.ndarray:
    """Predictions for the two validation pictures, right with this probability each: their loss is
    -log p."""
    return np.array([1 - p, p])


def finish(folder: Path, number: int, validation: np.ndarray, test: np.ndarray = RIGHT,
           **config: object) -> Path:
    """Leave the files of a trial that is done, and took 4 seconds."""
    sweep = plans.read(folder)
    trial = sweep.trial(number)
    run = plans.path(folder, trial)
    (run / "jobs").mkdir(parents=True, exist_ok=True)
    epochs = [{"epoch": 1, "step": 2, "loss": 1.0, "wall_s": 1.0},
              {"epoch": 2, "step": 4, "loss": 0.5, "wall_s": 3.0}]
    content = {"config": {**trial.settings, **config}, "environment": {}, "model": {},
               "summary": {"ranks": sweep.ranks, "epochs": 2, "best_epoch": 2, "seconds": 4.5,
                           "images_per_s": 100.0, "train_rows": 2}}
    for name, value in content.items():
        (run / f"{name}.json").write_text(json.dumps(value))
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in epochs))
    predictions.write(run, open_data(Path(sweep.data), trial.settings["feature"]),
                      {"validation": validation, "test": test})
    return run


def ended(folder: Path, number: int, code: int, error: str = "") -> Path:
    """Leave what a job leaves of a trial that ended with this exit code and no results."""
    run = plans.path(folder, plans.read(folder).trial(number))
    (run / "jobs").mkdir(parents=True, exist_ok=True)
    (run / "jobs" / "outcome").write_text(f"{code}\n")
    (run / "jobs" / "12.error").write_text(error)
    return run
