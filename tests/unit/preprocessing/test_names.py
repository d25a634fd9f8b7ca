"""All file names of CASIA 1 and CASIA 2."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from preprocessing.names import AUTHENTIC, TAMPERED, like_casia, parse


def test_every_casia_name_gives_its_label_and_plausible_ids(casia_names):
    assert {name: len(all_) for name, all_ in casia_names.items()} == {
        "casia1_Au": 800, "casia1_Sp": 921, "casia2_Au": 7491, "casia2_Tp": 5123}
    for which, names in casia_names.items():
        label = AUTHENTIC if which.endswith("Au") else TAMPERED
        for name in names:
            parsed = parse(name.rpartition(".")[0])
            assert parsed is not None, name
            assert parsed.label == label, name
            assert len(parsed.sources) == (1 if label == AUTHENTIC else 2), name
            for source in parsed.sources:  # found in the name, zeros aside
                assert any(f"{source[:3]}{zeros}{source[3:]}" in name.replace("Au_", "").replace(
                    f"{source[:3]}_", source[:3]) for zeros in ("", "0", "00", "000", "0000")), name


def test_ids_are_unique_among_the_authentic_pictures_of_each_set(casia_names):
    for which in ("casia1_Au", "casia2_Au"):
        ids = {parse(PurePath(name).stem).sources for name in casia_names[which]}
        assert len(ids) == len(casia_names[which])


@pytest.mark.parametrize(("stem", "label", "sources"), [
    ("Au_ani_0087", AUTHENTIC, ("ani87",)),  # CASIA 1 and 2 write the same picture's id …
    ("Au_ani_00087", AUTHENTIC, ("ani87",)),  # … with four and five digits
    ("Tp_D_CRN_S_N_cha00063_art00014_11818", TAMPERED, ("cha63", "art14")),
    ("Tp_S_NRN_S_O_sec00036_sec00036_00764", TAMPERED, ("sec36", "sec36")),
    ("Sp_D_CND_A_pla0005_pla0023_0281", TAMPERED, ("pla5", "pla23")),
    ("Sp_D_NNN_A_ani0099_ani0100.0288", TAMPERED, ("ani99", "ani100")),  # dot before the number
    ("Sp_S_NRD_A_ani0040_ani0054.0257", TAMPERED, ("ani40", "ani54")),
    ("Tp_S_CnN_S_N_txt00071_txt00071_01297", TAMPERED, ("txt71", "txt71")),  # lower-case letter
    ("Tp_S_NNN_N_N_nat00001_nat00001_00001", TAMPERED, ("nat1", "nat1")),  # N for S or M
    ("Tp_D_CRN_L_N_art00028_xxx00002_11282", TAMPERED, ("art28", "xxx2")),  # no such picture
])
def test_special_names(stem, label, sources):
    parsed = parse(stem)
    assert (parsed.label, parsed.sources) == (label, sources)


def test_the_special_names_are_casia_s(casia_names):
    assert "Sp_D_NNN_A_ani0099_ani0100.0288.jpg" in casia_names["casia1_Sp"]
    assert "Sp_S_NRD_A_ani0040_ani0054.0257.jpg" in casia_names["casia1_Sp"]
    assert "Tp_S_CnN_S_N_txt00071_txt00071_01297.tif" in casia_names["casia2_Tp"]
    assert sum("_N_N_" in name for name in casia_names["casia2_Tp"]) == 1
    assert sum(name.endswith(".JPG") for name in casia_names["casia1_Au"]) == 10
    assert sum(name.endswith(".bmp") for name in casia_names["casia2_Au"]) == 54
    assert sum(name.endswith(".tif") for name in casia_names["casia2_Tp"]) == 3059


@pytest.mark.parametrize(("stem", "label", "sources"), [
    ("Tp_D_CNN_M_N_ind00001_10601", TAMPERED, ("ind1", "ind1")),  # one id instead of two
    ("Tp_D_CRN_S_N_cha00063_art00014", TAMPERED, ("cha63", "art14")),  # without serial number
    ("au_ani_00087", AUTHENTIC, ("ani87",)), ("TP_D_CRN_S_N_CHA00063_ART00014_11818", TAMPERED,
                                              ("cha63", "art14")),
    ("Au_ani_00001 (1)", AUTHENTIC, ("ani1",)), ("Copy of Au_ani_00001", AUTHENTIC, ("ani1",)),
    ("Copy of Au_ani_00001 (2)", AUTHENTIC, ("ani1",)), ("Au_ani_00001 - Copy", AUTHENTIC,
                                                        ("ani1",)),
    ("Au_ani_00001 copy 2", AUTHENTIC, ("ani1",)), ("au_ani_00001_copy", AUTHENTIC, ("ani1",)),
    ("Au_ind00001", AUTHENTIC, ("ind1",))])
def test_names_of_copies_are_understood(stem, label, sources):
    """As archives, file managers and downloads change CASIA's names."""
    parsed = parse(stem)
    assert (parsed.label, parsed.sources) == (label, sources)


@pytest.mark.parametrize(("stem", "like"), [
    ("Au_anim_0001", True), ("tp_d_crn_x", True), ("Sp_D_CND_A_pla05", True), ("Au_ani_001", True),
    ("Copy of Au_anim_0001", True), ("Austria_1", False), ("Tp_1", False), ("0001", False)])
def test_names_that_only_begin_like_casia_s(stem, like):
    assert parse(stem) is None
    assert like_casia(stem) == like


@pytest.mark.parametrize("stem", [
    "", "0001", "Au_ani_001", "Au_ani_000001", "Au_anim_0001", "xAu_ani_0001", "Au_ani_0001 sky",
    "Tp_D_CRN_S_N_cha00063_", "Tp_X_CRN_S_N_cha00063_art00014_11818", "Au_ani_0001(a)",
    "Tp_D_CRN_S_N_cha00063_art00014_11818_gt", "Au_ani_0001\n", "Au_ani_\u0661\u0661\u0661\u0661"])
def test_other_names_are_not_casia_s(stem):
    assert parse(stem) is None
