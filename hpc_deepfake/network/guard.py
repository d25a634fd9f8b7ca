"""What a model can say about a picture beside its probability: whether it is unlike the training
pictures, or one of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network.card import Card
from hpc_deepfake.network.likeness import Profile
from hpc_deepfake.network.pictures import COPIED, OF_SCENE, RELATIONS, Pictures, row_digest
from preprocessing.ela import features_of_pixels
from preprocessing.faces import Box
from preprocessing.facts import Facts

RAW = "raw"
UNLIKE = "unlike training"  # the verdict
NO_LIST = ("has no list of the pictures that it was trained on (model.pictures.h5, beside "
           "model.keras): whether these are among them can't be told")
NOT_DRAWN = "not drawn by hpc-deepfake sample, as all training pictures are"


@dataclass(frozen=True)
class Guard:
    """What a model knows of its training pictures.

    Attributes:
        profile: what they have in common; without figures if the model doesn't say.
        sample: whether all of them were drawn by ``hpc-deepfake sample``.
        pictures: the pictures themselves; None: the model doesn't say.
        feature: that the model reads.
        known: whether the card says what pictures the model was trained on.
    """

    profile: Profile
    sample: bool = False
    pictures: Pictures | None = None
    feature: str = ""
    known: bool = False

    @property
    def caveats(self) -> tuple[str, ...]:
        """What must be said of the model beside ``card.caveats``."""
        return (NO_LIST,) if self.pictures is None and self.known else ()

    @classmethod
    def of(cls, card: Card, model: Path, pictures: bool = True) -> Guard:
        """Of a model and its card.

        Args:
            card: of the model.
            model: its file or run directory.
            pictures: whether to read the list of its training pictures.

        Raises:
            InputError: the card or the file of training pictures is damaged.
        """
        known = card.trained_on or {}
        stored = known.get("likeness")
        try:
            profile = Profile(0) if stored is None else Profile.from_dict(stored)
        except ValueError as error:
            raise InputError(f"the card of the model {model}: {error}; copy model.json from the "
                             "training again") from None
        return cls(profile, card.only_sample, Pictures.read(model) if pictures else None,
                   card.feature, bool(known) and not known.get("random"))

    def features(self, pixels: np.ndarray, card: Card,
                 box: Box | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """The model's feature of a picture, and its feature ``raw``, each uint8 (S, S, 3); None
        where that is the model's.

        Args:
            pixels: uint8 (height, width, 3), blue-green-red.
            card: of the model.
            box: the part of the picture that they show, where it is known, as of ``ela.box_of``.

        Raises:
            Rejected: the picture can't be used.
        """
        feature, *raw = features_of_pixels(
            pixels, tuple(dict.fromkeys((card.feature, RAW))), card.parameters, box)
        return feature, raw[0] if raw else None

    def unlike(self, row: np.ndarray, raw: np.ndarray | None = None, facts: Facts | None = None,
               drawn: bool | None = None) -> tuple[str, ...]:
        """Reasons why a picture is unlike the training pictures; empty: it is like them.

        Args:
            row: the model's feature, uint8 (S, S, 3).
            raw: the feature ``raw``.
            facts: of its file.
            drawn: whether it says that ``hpc-deepfake sample`` drew it; None: unknown.
        """
        reasons = [NOT_DRAWN] if self.sample and drawn is False else []
        return (*reasons, *self.profile.unlike(row, facts, raw))

    def seen(self, digest: bytes | None, row: np.ndarray,
             raw: np.ndarray | None = None) -> tuple[str, ...]:
        """What the model's training has to do with a picture, as notes; empty: nothing known.

        Args:
            digest: ``facts.digest`` of its file, or of its video's; None: unknown.
            row: the model's feature, uint8 (S, S, 3).
            raw: the feature ``raw``.
        """
        found = RELATIONS[self.relation(digest, row, raw)]
        if not found:
            return ()
        return (f"it {'' if found.startswith((COPIED, OF_SCENE)) else 'was '}{found}",)

    def relation(self, digest: bytes | None, row: np.ndarray, raw: np.ndarray | None = None) -> int:
        """As ``seen``, as an index into ``pictures.RELATIONS``."""
        shown = row if self.feature == RAW else raw
        return 0 if self.pictures is None else \
            self.pictures.relation(digest, row_digest(row), shown)
