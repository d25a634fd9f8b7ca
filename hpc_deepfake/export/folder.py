"""The folder of an exported model: model, description, example, and a picture to check with."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

import hpc_deepfake
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import write_json, write_text
from hpc_deepfake.core.quiet import quiet_stderr
from hpc_deepfake.core.text import plural
from hpc_deepfake.export import readme, recipe
from hpc_deepfake.export.portable import INPUT, MAP, OUTPUT, portable
from hpc_deepfake.export.runtimes import RUNTIMES, Outputs, Runtime, version
from hpc_deepfake.network import decision, maps
from hpc_deepfake.network.card import Card
from hpc_deepfake.network.scoring import BATCH, Scores, require_finite
from preprocessing import sample
from preprocessing.ela import at_once, channels, features

if TYPE_CHECKING:
    import keras

TOLERANCE = 1e-5  # largest difference of a probability between Keras and a runtime
_PICTURES = 8  # drawn for the comparison
_SHADES = (1, 0.5, 0.25, 0.12, 0.06, 0.03, 0)  # their features darkened, for other probabilities
_CHECK = 1  # which of them is kept in the folder: a tampered one
UNGUARDED = "the exported model gives a number for any picture"
GUARDED = "; hpc-deepfake predict also says which are unlike those that it was trained on"


@dataclass(frozen=True)
class Made:
    """What was written.

    Attributes:
        runtime: where it runs.
        size: of the model, in bytes.
        comparison: with the original (see ``compare``); None if the runtime isn't installed.
        caveats: what must be said wherever its predictions are shown.
    """

    runtime: Runtime
    size: int
    comparison: dict[str, Any] | None
    caveats: list[str]

    def lines(self, out: Path) -> list[str]:
        """To print."""
        found = self.comparison
        return [f"{out / self.runtime.file}: for {self.runtime.title}, {self.size / 1e6:.1f} MB",
                "not compared with the original: pip install "
                f"{self.runtime.package}, and export again" if found is None else
                f"compared in {found['with']}: largest difference {found['largest_difference']:.1g}"
                f" over {plural(found['pictures'], 'picture')}, whose probabilities are "
                f"{found['probabilities'][0]:.4f} to {found['probabilities'][1]:.4f}"
                + (f"; of the map {found['largest_difference_of_map']:.1g}, of values "
                   f"{found['map'][0]:.4f} to {found['map'][1]:.4f}" if "map" in found else ""),
                f"how to use it: {out / readme.NAME}, {out / 'card.json'}",
                f"to try it: python {out / 'predict.py'} PICTURE"]


def write(place: Path, target: str, network: keras.Model, card: Card, source: Path) -> Made:
    """Write a model and what belongs to it into a folder.

    Args:
        place: the folder.
        target: a key of ``RUNTIMES``.
        network: the trained model.
        card: its card, as it is used.
        source: its file.

    Raises:
        InputError: the network can't be converted, or computes other probabilities there.
    """
    runtime = RUNTIMES[target]
    file = place / runtime.file
    if not maps.has(network):
        card = replace(card, mask_threshold=None)
    with quiet_stderr():
        runtime.write(portable(network, card.temperature, card.mask_threshold is not None), file)
    rows = _rows(place, card)
    expected = computed_by_keras(network, card, rows)
    with quiet_stderr():
        comparison = compare(runtime, file, rows, expected) if runtime.reader else None
    described = describe(target, card, source, float(expected[OUTPUT][_CHECK]), comparison)
    write_json(place / "card.json", described)
    write_text(place / "predict.py", recipe.script(runtime, card))
    write_text(place / readme.NAME, readme.text(runtime, card, described))
    size = sum(part.stat().st_size for part in (file, *file.rglob("*")) if part.is_file())
    return Made(runtime, size, comparison, described["caveats"])


def computed_by_keras(network: keras.Model, card: Card, rows: np.ndarray) -> Outputs:
    """What the exported model should compute: probabilities with the card's temperature, float64
    (n), and the map, float32 (n, S, S), if its card says how to read one.

    Args:
        network: the original.
        card: of it, as it is used.
        rows: uint8 (n, S, S, channels).
    """
    says_where = card.mask_threshold is not None
    model, most = maps.both(network) if says_where else network, at_once(BATCH, rows.shape[1])
    given = [model.predict_on_batch(rows[start:start + most])
             for start in range(0, len(rows), most)]
    found = [Scores.of(batch[0] if says_where else batch) for batch in given]
    expected = {OUTPUT: decision.calibrated(card, require_finite(Scores.joined(found)))}
    return expected | ({MAP: np.concatenate([batch[1][..., 0] for batch in given])}
                       if says_where else {})


def compare(runtime: Runtime, file: Path, rows: np.ndarray, expected: Outputs) -> dict[str, Any]:
    """Run a written model in its runtime.

    Args:
        runtime: one that is installed.
        file: the model.
        rows: uint8 (n, S, S, channels).
        expected: from ``computed_by_keras``.

    Returns:
        ``with`` (the package and its version), ``largest_difference``, ``pictures``,
        ``probabilities`` (the lowest and the highest one); of a network with a map
        ``largest_difference_of_map`` and ``map`` (its lowest and highest value).

    Raises:
        InputError: a probability, or one of the map, differs by more than ``TOLERANCE``.
    """
    computed = runtime.run(file, rows)
    differences = {}
    for name, values in expected.items():
        found = computed.get(name)
        difference = float(np.abs(found - values).max()) \
            if found is not None and found.shape == values.shape else np.inf
        if not difference <= TOLERANCE:  # or NaN
            raise InputError(
                f"the model computes other probabilities{' of the map' * (name == MAP)} in "
                f"{runtime.title} than in Keras (largest difference {difference:.2g}, allowed "
                f"{TOLERANCE:g}), and is not written; choose another runtime with --to")
        differences[name] = difference
    probabilities = expected[OUTPUT]
    said = {"with": f"{runtime.reader} {version(runtime.reader or '')}",
            "largest_difference": differences[OUTPUT], "pictures": len(rows),
            "probabilities": [float(probabilities.min()), float(probabilities.max())]}
    if MAP in expected:
        said |= {"largest_difference_of_map": differences[MAP],
                 "map": [float(expected[MAP].min()), float(expected[MAP].max())]}
    return said


def _rows(place: Path, card: Card) -> np.ndarray:
    """Features of drawn pictures in several shades, uint8 (n, S, S, channels); one of the pictures
    and its feature, of a stacked one its parts side by side, are kept in the folder."""
    with tempfile.TemporaryDirectory() as folder:
        sample.generate(Path(folder), _PICTURES)
        data = [Path(folder, picture.path).read_bytes() for picture in sample.plan(_PICTURES)]
    rows = np.stack([features(file, (card.feature,), card.parameters)[0] for file in data])
    (place / "check.jpg").write_bytes(data[_CHECK])
    parts = [rows[_CHECK][..., start:start + 3] for start in range(0, rows.shape[3], 3)]
    cv2.imwrite(str(place / "check-feature.png"), np.concatenate(parts, axis=1)[..., ::-1])
    return np.concatenate([(rows * shade).astype(np.uint8) for shade in _SHADES])


def describe(target: str, card: Card, source: Path, expected: float,
             comparison: dict[str, Any] | None) -> dict[str, Any]:
    """The content of ``card.json``.

    Args:
        target: a key of ``RUNTIMES``.
        card: of the model, as it is used.
        source: the model's file.
        expected: probability of the picture to check with.
        comparison: as of ``compare``.
    """
    runtime, size = RUNTIMES[target], card.parameters.size
    known = {name: value for name, value in (card.trained_on or {}).items() if name != "likeness"}
    where = {} if card.mask_threshold is None else {"map": {
        "name": MAP, "dtype": "float32", "shape": ["n", size, size],
        "meaning": "probability that a pixel was changed, of the picture resized to "
                   f"{size} × {size}",
        "threshold_level": card.mask_threshold, "levels": 255}}
    return {
        "runtime": target, "file": runtime.file,
        "input": {"name": INPUT, "dtype": "uint8",
                  "shape": ["n", size, size, channels(card.feature)],
                  "range": [0, 255], "feature": card.feature,
                  "preprocessing": recipe.steps(card.feature, card.parameters)},
        "output": {"name": OUTPUT, "dtype": "float32", "shape": ["n"],
                   "meaning": "probability that the picture was tampered with"},
        **where,
        "temperature": {"value": card.temperature, "inside": True},
        "threshold": card.threshold, "undecided_from": card.lower,
        "threshold_chosen": card.threshold_chosen,
        "caveats": [*card.caveats, UNGUARDED
                    + GUARDED * bool((card.trained_on or {}).get("likeness"))],
        "trained_on": known or None, "validation": card.validation,
        "check": {"picture": "check.jpg", "feature": "check-feature.png", "probability": expected},
        "comparison": comparison,
        "source": {"model": source.name, "sha256": hashlib.sha256(source.read_bytes()).hexdigest()},
        "made_by": {"hpc_deepfake": hpc_deepfake.__version__, **{
            name: version(name) for name in ("keras", "tensorflow", *runtime.writers)}},
    }
