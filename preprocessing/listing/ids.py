"""What the names of videos in published sets of deepfakes say about their originals."""

from __future__ import annotations

import re
from typing import NamedTuple


class Ids(NamedTuple):
    """The originals of a video.

    Attributes:
        source: the data set that names videos like this.
        ids: of the originals; videos that share one are of a common source.
    """

    source: str
    ids: tuple[str, ...]


# 000 and 000_003: dataset/README.md of FaceForensics++, "<target sequence>_<source sequence>"
_SEQUENCES = re.compile(r"(\d{3})(?:_(\d{3}))?", re.ASCII)
# 01__walking_outside and 01_02__walking_outside__ABCDEFGH: the DeepFakeDetection part of
# FaceForensics++, "<target actor>_<source actor>__<scene>__<id>"
_ACTORS = re.compile(r"(\d{2})(?:_\d{2})?__([a-z_]+?)(?:__[A-Z0-9]{8})?", re.ASCII)
# id0_0000 and id0_id1_0000: Celeb-DF, the target's video with the face of another person
_CELEBRITIES = re.compile(r"id(\d+)_(?:id\d+_)?(\d{4})", re.ASCII)


def of_video(name: str) -> Ids | None:
    """Ids of the originals of a video, from its name without extension; None if it has none.

    Those of FaceForensics++ are target and source; those of Celeb-DF and DeepFakeDetection are the
    target alone, since through the persons of the sources nearly all videos would be one group.
    """
    if match := _SEQUENCES.fullmatch(name):
        return Ids("FaceForensics++", tuple(f"sequence {number}" for number in match.groups()
                                            if number))
    if match := _CELEBRITIES.fullmatch(name):
        return Ids("Celeb-DF", (f"celebrity {match[1]} {match[2]}",))
    if match := _ACTORS.fullmatch(name):
        return Ids("DeepFakeDetection", (f"actor {match[1]} {match[2]}",))
    return None
