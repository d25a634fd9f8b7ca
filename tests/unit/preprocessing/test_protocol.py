"""The mixed protocol: the warning about authentic and tampered pictures of different CASIA sets."""

from __future__ import annotations

import os

import pytest

from preprocessing import protocol


def labelled(casia_names: dict[str, list[str]], authentic: list[str],
             tampered: list[str]) -> tuple[list[bytes], list[int]]:
    first = [name for which in authentic for name in casia_names[which]]
    second = [name for which in tampered for name in casia_names[which]]
    return ([f"authentic/Au/{name}".encode() for name in first]
            + [f"tampered/Tp/{name}".encode() for name in second],
            [0] * len(first) + [1] * len(second))


def test_the_mixed_protocol_gets_a_warning(casia_names):
    """CASIA 1 authentic and CASIA 2 tampered, and vice versa."""
    text = protocol.warning(*labelled(casia_names, ["casia1_Au"], ["casia2_Tp"]))
    assert "CASIA 1's" in text and "CASIA 2's" in text and "86.5%" in text
    assert "CASIA 2's" in protocol.warning(*labelled(casia_names, ["casia2_Au"], ["casia1_Sp"]))


@pytest.mark.parametrize(("authentic", "tampered"), [
    (["casia1_Au"], ["casia1_Sp"]), (["casia2_Au"], ["casia2_Tp"]),
    (["casia1_Au", "casia2_Au"], ["casia1_Sp", "casia2_Tp"])])
def test_complete_sets_get_no_warning(casia_names, authentic, tampered):
    assert protocol.warning(*labelled(casia_names, authentic, tampered)) is None


def test_the_set_of_a_copys_name_is_known():
    for stem, which in (("AU_ANI_00001", 2), ("Copy of Au_ani_0001 (1)", 1),
                        ("Tp_D_CNN_M_N_ind00001_10601", 2), ("Au_anim_00001", None)):
        assert protocol.casia_set(stem) == which


def test_other_pictures_get_no_warning():
    assert protocol.warning([b"real/0001.png", b"fake/00001.png"], [0, 1]) is None
    assert protocol.warning([b"Au/Au_ani_0001.jpg", b"fake/x.png"], [0, 1]) is None
    assert protocol.warning([], []) is None


def test_every_casia_name_belongs_to_its_set(casia_names):
    for which, names in casia_names.items():
        sets = {protocol.casia_set(os.path.splitext(name)[0]) for name in names}
        assert sets == {int(which[5])}
