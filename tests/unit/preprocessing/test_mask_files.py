"""Files of masks: what they mark, whatever their format, colours and size; cells of features."""

from __future__ import annotations

import os
import re

import cv2
import numpy as np
import pytest
from picture_trees import fill, mask, scene
from PIL import Image

from preprocessing import mask as module
from preprocessing.catalogue import Catalogue, scan, scan_manifest, scan_pair
from preprocessing.ela import resize
from preprocessing.listing.masks import in_place, matched, two_valued
from preprocessing.mask import CHANGED, SAME, UNKNOWN, Film, read, shrink
from preprocessing.picture import Rejected

REGION = np.zeros((24, 32), np.uint8)
REGION[4:14, 5:15] = 1


def coloured(*colours: tuple[int, int, int]) -> np.ndarray:
    """The region with one colour outside and one inside, RGB."""
    return np.array(colours, np.uint8)[REGION]


def palette(outside: int = 0) -> Image.Image:
    """Colours of a palette, as of annotation programs: 0 is black, 1 dark red."""
    image = Image.fromarray(REGION + outside)
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    return image


def cut_out() -> np.ndarray:
    """The changed part in its own colours on black, dark ones included, RGB."""
    inside = np.stack([9 * np.arange(32), np.full(32, 30), np.full(32, 40)], 1)
    return (REGION[..., None] * np.minimum(inside, 200)[None]).astype(np.uint8)


FORMS = {
    "cut_out.png": Image.fromarray(cut_out()),
    "levels.png": Image.fromarray(255 * REGION), "soft.jpg": Image.fromarray(255 * REGION),
    "labels.png": Image.fromarray(REGION), "labels.bmp": Image.fromarray(3 * REGION),
    "grey.png": Image.fromarray(100 * REGION), "bits.png": Image.fromarray(REGION == 1),
    "red.png": Image.fromarray(coloured((0, 0, 0), (255, 0, 0))), "palette.png": palette(),
    "deep.png": Image.fromarray(65535 * REGION.astype(np.uint16)),
    "deep_labels.png": Image.fromarray(REGION.astype(np.uint16)),
    "deep_labels.tif": Image.fromarray(REGION.astype(np.uint16)),
    "alpha.png": Image.fromarray(np.dstack((np.zeros((24, 32, 3), np.uint8), 255 * REGION))),
    "opaque.png": Image.fromarray(np.dstack((coloured((0, 0, 0), (255, 255, 255)),
                                             np.full((24, 32), 255, np.uint8))))}


@pytest.mark.parametrize("name", FORMS)
def test_the_same_region_in_every_format(tmp_path, name):
    FORMS[name].save(tmp_path / name, quality=95)
    found = read(os.fsencode(tmp_path / name), 24, 32)
    assert found.dtype == np.uint8 and np.array_equal(found, REGION)


@pytest.mark.parametrize(("image", "reason"), [
    (Image.fromarray(0 * REGION), "marks nothing"), (Image.new("1", (32, 24)), "marks nothing"),
    (Image.fromarray(scene(5)), "looks like a picture"),
    (palette(1), "no black"), (Image.fromarray(coloured((255, 0, 0), (0, 0, 255))), "no black"),
    (Image.fromarray(REGION.astype(np.float32)), "8 or 16 bits")])
def test_what_says_nothing_is_unknown(tmp_path, image, reason):
    image.save(tmp_path / "a.tif")
    with pytest.raises(Rejected, match=reason):
        read(os.fsencode(tmp_path / "a.tif"), 24, 32)


def test_a_mask_may_mark_everything(tmp_path):
    Image.new("L", (32, 24), 255).save(tmp_path / "a.png")
    assert (read(os.fsencode(tmp_path / "a.png"), 24, 32) == CHANGED).all()


def test_black_marks_in_masks_like_those_of_nist(tmp_path):
    """Everything that isn't white, such as grey edges."""
    pixels = 255 - 255 * REGION
    pixels[4, 5:15] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(read(os.fsencode(tmp_path / "a.png"), 24, 32, inverted=True), REGION)


def test_edge_masks_of_columbia(tmp_path):
    """Green is spliced, red is not, dark or bright; what is neither is unknown."""
    pixels = coloured((200, 0, 0), (0, 200, 0))
    pixels[4:14, 3:5], pixels[4:14, 5:7] = (255, 0, 0), (0, 255, 0)
    pixels[10:16] = 0, 0, 255  # a quarter
    expected = REGION.copy()
    expected[10:16] = UNKNOWN
    for name in ("a_edgemask.png", "a_mask.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    assert np.array_equal(read(os.fsencode(tmp_path / "a_edgemask.png"), 24, 32), expected)
    with pytest.raises(Rejected, match="no black"):
        read(os.fsencode(tmp_path / "a_mask.png"), 24, 32)
    assert two_valued(os.fsencode(tmp_path / "a_edgemask.png"))


# height and width of pictures and masks of CASIA 2, as SunnyHaze/CASIA2.0-Corrected-Groundtruth
# lists them
@pytest.mark.parametrize(("shape", "of_mask", "reason"), [
    ((256, 384), (384, 256), "turned by 90°"), ((638, 336), (336, 638), "turned by 90°"),
    ((387, 581), (382, 581), ""), ((600, 600), (475, 600), "another aspect ratio"),
    ((384, 256), (384, 255), ""), ((600, 450), (800, 600), ""), ((647, 416), (636, 416), "")])
def test_masks_of_other_sizes(tmp_path, shape, of_mask, reason):
    """They are resized where the aspect ratio is that of the picture within 2%."""
    pixels = np.zeros(of_mask, np.uint8)
    pixels[of_mask[0] // 2:] = 255
    cv2.imwrite(os.fspath(tmp_path / "a.png"), pixels)
    if reason:
        with pytest.raises(Rejected, match=reason):
            read(os.fsencode(tmp_path / "a.png"), *shape)
        return
    found = read(os.fsencode(tmp_path / "a.png"), *shape)
    assert found.shape == shape and set(np.unique(found)) == {SAME, CHANGED}
    assert abs(found.mean() - 0.5) < 0.01 and not found[0].any() and found[-1].all()


def test_cells_are_changed_from_half_of_their_area_on():
    """The same cells as those of the features: of 3 × 2 pixels here."""
    full = np.zeros((256, 384), np.uint8)
    full[20:22, 30:33] = CHANGED  # one cell, (10, 10)
    full[40, 60:63] = CHANGED  # half of (20, 20)
    full[60, 90:92] = CHANGED  # a third of (30, 30)
    full[80:82, 120:123] = UNKNOWN
    full[81, 120] = CHANGED
    small = shrink(full, 128)
    assert small[10, 10] == small[20, 20] == CHANGED and small[40, 40] == UNKNOWN
    assert int((small == CHANGED).sum()) == 2 and int((small == UNKNOWN).sum()) == 1
    shown = resize(np.repeat(full[..., None] == CHANGED, 3, 2).astype(np.uint8) * 255)
    assert np.array_equal(small == CHANGED, shown[..., 0] > 127)


@pytest.mark.parametrize("shape", [(1000, 900), (50, 60), (90, 2000)])
def test_a_region_keeps_its_place_at_any_size(shape):
    full = np.zeros(shape, np.uint8)
    full[shape[0] // 2:, shape[1] // 4:shape[1] // 2] = CHANGED
    small = shrink(full, 64)
    assert small[34:, 17:31].all() and not small[:30].any() and not small[:, 34:].any()
    assert abs(small.mean() - full.mean()) < 0.02


def test_a_region_smaller_than_a_cell_keeps_its_fullest_cells():
    full = np.zeros((1280, 1280), np.uint8)
    full[100:103, 205:212] = CHANGED  # 3 × 5 in one cell, 3 × 2 in the next
    small = shrink(full, 128)
    assert np.argwhere(small).tolist() == [[10, 20]]
    assert not shrink(np.zeros((10, 10), np.uint8), 16).any()
    assert (shrink(np.full((10, 10), UNKNOWN, np.uint8), 16) == UNKNOWN).all()


def test_one_picture_is_the_mask_of_all_frames(tmp_path):
    Image.fromarray(255 * REGION).save(tmp_path / "a.png")
    with Film(module.File(os.fsencode(tmp_path / "a.png")), b"/nowhere.mp4") as film:
        assert np.array_equal(film.at(0, 24, 32), REGION)
        assert np.array_equal(film.at(9, 24, 32), REGION)


def renamed(name: str) -> str:
    """A name as the public ground truth corrects them: the kind, the order of the sources."""
    kind, rest = name[:3], name[3:].rsplit(".", 1)[0]
    head, first, second, number = rest.rsplit("_", 3)
    return f"{kind}{'S' if head[0] == 'D' else 'D'}{head[1:]}_{second}_{first}_{number}_gt.png"


@pytest.mark.parametrize(("tampered", "listed"), [("Sp", "casia1_Sp"), ("Tp", "casia2_Tp")])
def test_masks_of_casia_with_corrected_names_are_found_by_the_running_number(
        casia_names, tampered, listed):
    """All of them, though CASIA 1 uses numbers twice; none for a picture that has none."""
    names = [name for name in casia_names[listed]
             if re.fullmatch(r".p_[DS](_[A-Z]+)+_\w{7,8}_\w{7,8}_\d+\.\w+", name)]
    pictures = [f"{tampered}/{name}".encode() for name in names[:-1]]
    gt = [f"CASIA Groundtruth/{renamed(name) if at % 3 else name[:-4] + '_gt.png'}".encode()
          for at, name in enumerate(names[1:])]
    found = matched([in_place(path) for path in gt], pictures)
    assert len(found) == len(pictures) - 1 > 900 and pictures[0] not in found
    for path, of in found.items():
        assert path.rpartition(b"_")[2][:-4] == of[:-7].rpartition(b"_")[2]
        assert {*path.split(b"_")[-3:-1]} == {*of.split(b"_")[-4:-2]}


def test_masks_beside_the_folder_of_the_data_set(tmp_path):
    """As archives unpack: the set, and its ground truth beside it; other folders of such names keep
    their pictures, which are counted as left out."""
    listing = scan(fill(tmp_path, {
        "CASIA2/Au/1.jpg": scene(1), "CASIA2/Tp/2.jpg": scene(2), "CASIA2/Tp/3.jpg": scene(3),
        "CASIA2_Groundtruth/2_gt.png": mask(), "masks/venice.jpg": scene(4)}))
    assert listing.masks == {b"CASIA2/Tp/2.jpg": b"CASIA2_Groundtruth/2_gt.png"}
    assert len(listing) == 3
    assert any("1 picture in no class left out (1 in " in note for note in listing.notes)


def test_masks_beside_a_class_of_the_mixed_protocol(tmp_path):
    fill(tmp_path, {"a/Au/1.jpg": scene(1), "a/Tp/9.jpg": scene(9), "b/Au/1.jpg": scene(1),
                    "b/Tp/2.jpg": scene(2), "b/Gt/2_gt.png": mask()})
    listing = scan_pair(tmp_path / "a", tmp_path / "b")
    assert listing.masks == {b"tampered/Tp/2.jpg": b"tampered/Gt/2_gt.png"}
    found = module.of(listing, 1)
    assert module.of(listing, 0) is None and found is not None
    assert np.array_equal(found.read(24, 32), mask()[..., 0] > 0)


def test_masks_of_a_list_of_files(tmp_path):
    fill(tmp_path, {"a.jpg": scene(1), "b.jpg": scene(2), "c.jpg": scene(3), "x/b.png": mask(),
                    "list.csv": "path,label,mask\na.jpg,0,\nb.jpg,1,x/b.png\nc.jpg,1,\n"})
    listing = scan_manifest(tmp_path / "list.csv")
    assert [module.of(listing, row) for row in range(3)] == [
        None, module.File(os.fsencode(tmp_path.resolve() / "x/b.png")), module.File(b"")]


def test_nist_s_masks_are_black_where_something_was_changed(tmp_path):
    listing = scan(fill(tmp_path, {
        "reference/manipulation/NC2016-manipulation-ref.csv":
            "TaskID|ProbeFileName|IsTarget|ProbeMaskFileName|BaseFileName\n"
            "m|probe/a.jpg|Y|reference/manipulation/mask/a.png|world/b.jpg\n"
            "m|probe/c.jpg|N||\n",
        "probe/a.jpg": scene(1), "probe/c.jpg": scene(2), "world/b.jpg": scene(3),
        "reference/manipulation/mask/a.png": 255 - mask()}))
    row = listing.paths.index(b"probe/a.jpg")
    found = module.of(listing, row)
    assert found is not None and found.inverted
    assert np.array_equal(found.read(24, 32), mask()[..., 0] > 0)


def test_the_digest_of_masks_tells_which_picture_has_which(tmp_path):
    def digest(masks: dict[bytes, bytes], inverted: frozenset[bytes] = frozenset()) -> str:
        zeros = np.zeros(2, np.uint8)
        return Catalogue({"": tmp_path}, [b"a", b"b"], zeros + 1, zeros.astype(np.int32),
                         masks=masks, inverted=inverted).masks_digest()

    both = {b"a": b"m", b"b": b"n"}
    assert digest({}) == "" and digest(both) == digest(dict(reversed(both.items())))
    assert len({digest(both), digest({b"a": b"n", b"b": b"m"}), digest({b"a": b"m"}),
                digest(both, frozenset({b"m"})), digest({b"a": b"m", b"b": b"o"})}) == 5
