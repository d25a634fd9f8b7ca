"""The verdict of a trained model, with everything that must be said beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hpc_deepfake.core.text import percent, printable

if TYPE_CHECKING:
    from hpc_deepfake.predict import Model, Where


@dataclass(frozen=True)
class Verdict:
    """What a model says of a picture.

    Attributes:
        verdict: ``authentic``, ``tampered``, ``undecided`` or ``unlike training``.
        probability: of tampered; None where it is no verdict: the picture is unlike the training
            pictures.
        unlike: reasons why it is.
        notes: what else the model knows of the picture.
        caveats: what must be said beside every verdict of the model.
        feature: what the network reads.
        source: what it was trained on.
        threshold: in words, such as ``tampered from 71.2%``.
        model: its path.
        where: its map of the picture; None: it doesn't say where.
    """

    verdict: str
    probability: float | None
    unlike: tuple[str, ...]
    notes: tuple[str, ...]
    caveats: tuple[str, ...]
    feature: str
    source: str
    threshold: str
    model: str
    where: Where | None = field(default=None, compare=False, repr=False)


def of(model: Model, data: bytes) -> Verdict:
    """The verdict on the contents of a picture file that can be decoded."""
    prediction = next(iter(model.predict(data)))
    card = model.card
    threshold = f"tampered from {percent(card.threshold)}"
    if card.lower is not None:
        threshold = f"authentic below {percent(card.lower)}, {threshold}"
    return Verdict(prediction.verdict, None if prediction.unlike else prediction.probability,
                   prediction.unlike, prediction.notes, model.caveats, card.feature, card.source,
                   threshold, printable(str(model.path)), prediction.where)


def load(run: Path) -> Model:
    """The model of a run directory or ``.keras`` file; starts TensorFlow.

    Raises:
        InputError: there is none, or it is damaged.
    """
    import hpc_deepfake

    return hpc_deepfake.load(run)
