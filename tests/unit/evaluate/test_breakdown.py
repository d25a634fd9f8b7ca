"""Breakdowns of an evaluation, with figures computed by hand."""

from __future__ import annotations

import os

import numpy as np

from hpc_deepfake.evaluate import breakdown, text
from hpc_deepfake.evaluate.material import Material


def material(*rows: tuple[str, int, float, int]) -> Material:
    """From (path, label, probability, group)."""
    paths, labels, p, groups = zip(*rows, strict=True)
    groups = np.array(groups)
    return Material([os.fsencode(path) for path in paths], np.array(labels, np.uint8), groups,
                    np.bincount(groups)[groups], np.array(p))


MIXED = material(
    ("Au/Au_ani_00001.jpg", 0, 0.1, 0), ("Au/Au_ani_00002.JPEG", 0, 0.7, 1),
    ("Au/Au_ani_00003.bmp", 0, 0.2, 2),
    ("Tp/Tp_D_CRN_S_N_ani00001_art00014_11818.tif", 1, 0.9, 0),
    ("Tp/Tp_D_NNN_S_N_ani00003_art00014_11819.tiff", 1, 0.3, 2),
    ("Tp/Tp_S_CRN_M_N_ani00002_ani00002_11820.jpg", 1, 0.8, 1),
    ("Tp/strange.tif", 1, 0.6, 3))


def test_formats_by_hand():
    """Extensions in any case and spelling; a format of one class has no AUC and a majority of
    100%."""
    subsets = breakdown.all_of(MIXED, 0.5)["format"]
    assert {name: figures["rows"] for name, figures in subsets.items()} == {
        ".jpg": 3, ".tif": 3, ".bmp": 1}
    assert (subsets[".jpg"]["accuracy"], subsets[".jpg"]["majority"]) == (2 / 3, 2 / 3)
    assert subsets[".tif"]["majority"] == 1 and subsets[".tif"]["auc"] is None
    assert subsets[".tif"]["recall"] == 2 / 3


def test_kinds_of_tampering_by_hand():
    """Each compared with all authentic pictures; names other than CASIA's have no kind."""
    breakdowns = breakdown.all_of(MIXED, 0.5)
    assert {name: figures["tampered"] for name, figures in breakdowns["origin"].items()} == {
        "from another picture": 2, "from the same picture": 1}
    other = breakdowns["origin"]["from another picture"]
    assert (other["rows"], other["recall"], other["auc"]) == (5, 0.5, 5 / 6)
    assert {name: (figures["tampered"], figures["recall"])
            for name, figures in breakdowns["operation"].items()} == {
        "CRN": (2, 1), "NNN": (1, 0)}


def test_group_sizes_by_hand():
    subsets = breakdown.all_of(MIXED, 0.5)["group size"]
    assert {name: figures["rows"] for name, figures in subsets.items()} == {
        "alone": 1, "2 to 9 pictures": 6}


def test_small_parts_are_marked():
    """Fewer than 30 pictures of a class, if the class occurs at all."""
    many = material(*((f"a{i}.jpg", i % 2, 0.5, i) for i in range(60)))
    assert not breakdown.all_of(many, 0.5)["format"][".jpg"]["few"]
    fewer = material(*((f"a{i}.jpg", i % 2, 0.5, i) for i in range(59)))
    assert breakdown.all_of(fewer, 0.5)["format"][".jpg"]["few"]
    one_class = material(*((f"a{i}.jpg", 1, 0.5, i) for i in range(30)))
    assert not breakdown.all_of(one_class, 0.5)["format"][".jpg"]["few"]
    lines = text._breakdowns(breakdown.all_of(fewer, 0.5))
    assert ".jpg *" in lines and "fewer than 30 pictures of a class: mostly chance" in lines


def test_frames_have_the_format_of_their_video():
    breakdowns = breakdown.all_of(material(("real/a.mp4#frame=1of2", 0, 0.1, 0),
                                           ("fake/b.mp4#frame=2of2", 1, 0.9, 1)), 0.5)
    assert list(breakdowns["format"]) == [".mp4"] and "origin" not in breakdowns
