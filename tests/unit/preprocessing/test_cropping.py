"""``--crop faces`` from the folder to the data file, and from a model's card to its predictions."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import cv2
import drawn_faces
import numpy as np
import pytest
from conftest import alone
from mean_network import MapNetwork, MeanNetwork

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.evaluate.pictures import Asked, prepared
from hpc_deepfake.network.model import Card
from hpc_deepfake.predict import maps, scoring
from preprocessing.__main__ import main
from preprocessing.ela import Parameters, box_of, features_of_pixels, resize
from preprocessing.listing.catalogue import Catalogue
from preprocessing.names import evenly, frame_path
from preprocessing.picture import Rejected, decode
from preprocessing.store import DONE, PENDING, REJECTED, open_header
from preprocessing.tracks import frames

CROP = Parameters(size=64, crop="faces", margin=1.3)
CARD = Card("raw", CROP, trained_on={}, mask_threshold=128)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures with a face, one of them changed, a picture without, a clip in which the face is
    gone in frame 7 and from frame 16 on, and a list of them."""
    folder = tmp_path_factory.mktemp("cropping")
    picture = drawn_faces.picture((60, 20, 70))
    cv2.imwrite(os.fspath(folder / "a.png"), picture)
    cv2.imwrite(os.fspath(folder / "b.png"), picture[:, ::-1])
    cv2.imwrite(os.fspath(folder / "none.png"), drawn_faces.picture())
    mask = np.zeros(picture.shape[:2], np.uint8)
    mask[:80] = 255
    cv2.imwrite(os.fspath(folder / "mask.png"), mask)
    drawn_faces.film(folder / "clip.avi", (drawn_faces.picture(
        *[(50 + number, 20, 50)] * (number != 7 and number < 16)) for number in range(25)))
    (folder / "list.csv").write_text(
        "path,label,mask\na.png,authentic,\nnone.png,authentic,\nclip.avi,authentic,\n"
        "b.png,tampered,mask.png\n")
    return folder


def preprocess(data: Path, out: Path, *words: str) -> int:
    return main(alone(), ["--manifest", os.fspath(data / "list.csv"), "--out", os.fspath(out),
                          "--features", "ela", "raw", "--size", "64", "--crop", "faces",
                          "--frames-per-video", "5", *words])


def test_rows_show_faces_and_masks_are_cut_with_them(data: Path, tmp_path: Path,
                                                     capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.h5"
    assert preprocess(data, out) == 2
    assert "raise --max-rejects: in 3 of them no face is found, which --crop faces needs" in \
        capfd.readouterr().err
    assert preprocess(data, out, "--max-rejects", "50%") == 0  # those of an earlier run are done
    header = open_header(out)
    assert header.parameters == CROP
    rows = {path.decode(): row for row, path in enumerate(header.array("path").tolist())}
    status, raw = header.array("status"), header.array("raw")
    missing = ["none.png", "clip.avi#frame=4of5", "clip.avi#frame=5of5"]
    assert {path for path, row in rows.items() if status[row] == REJECTED} == set(missing)
    with open(f"{out}.rejects.csv", newline="") as file:
        assert [line["reason"] for line in csv.DictReader(file)] == ["no face found"] * 3
    pixels = decode((data / "b.png").read_bytes())
    box = box_of(pixels, CROP)
    assert box is not None
    assert np.array_equal(raw[rows["b.png"]], resize(box.of(pixels), 64)[..., ::-1])
    mask = header.array("mask")[rows["b.png"]]
    changed = 64 * (80 - box.top) / (box.bottom - box.top)  # the upper half of the picture
    assert mask[:int(changed)].all() and not mask[int(changed) + 1:].any()
    assert not header.array("mask")[rows["a.png"]].any()
    clip = os.fspath(data / "clip.avi")
    for number, frame in enumerate(frames(clip, evenly(5), CROP), 1):
        if number < 4:  # the second is frame 7: the box of its neighbours
            assert not isinstance(frame, Rejected)
            expected, = features_of_pixels(frame.pixels, ("raw",), CROP, frame.box)
            assert np.array_equal(raw[rows[f"clip.avi#frame={number}of5"]], expected)


def test_a_resumed_video_has_the_same_bytes(data: Path, tmp_path: Path) -> None:
    """Its face is followed through all frames again, not only through those that are left."""
    import h5py

    out = tmp_path / "x.h5"
    assert preprocess(data, out, "--max-rejects", "3") == 0
    before = out.read_bytes()
    header = open_header(out)
    row = header.array("path").tolist().index(b"clip.avi#frame=2of5")
    assert header.array("status")[row] == DONE
    with h5py.File(out, "r+") as file:
        file["status"][row], file["raw"][row] = PENDING, 0
    assert preprocess(data, out, "--max-rejects", "3") == 0
    assert out.read_bytes() == before


def test_a_margin_needs_a_crop_and_belongs_to_the_file(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--margin 1.5 is the margin .* add --crop"):
        main(alone(), ["--data", os.fspath(data), "--margin", "1.5"])
    out = tmp_path / "x.h5"
    preprocess(data, out)
    with pytest.raises(InputError, match=r"--margin 1.3 in the file, --margin 1.5 now"):
        preprocess(data, out, "--margin", "1.5")


def test_a_model_of_faces_sees_the_face_of_a_picture(data: Path) -> None:
    card, path = CARD, os.fsencode(data / "a.png")
    found = scoring.of_file(path, card)
    pixels = decode((data / "a.png").read_bytes())
    box = box_of(pixels, CROP)
    assert box is not None and found.box == box and found.size == pixels.shape[:2]
    assert np.array_equal(found.feature, resize(box.of(pixels), 64)[..., ::-1])
    none = scoring.prepare(os.fsencode(data / "none.png"), card)
    assert isinstance(none, Rejected) and str(none) == "no face found"
    row, = scoring.pictures(MapNetwork(size=64), card, [path], [found])
    assert row.where is not None
    whole = row.where.at_own_size()
    assert box.of(whole).any()
    assert not whole[:, :box.left].any() and not whole[:, box.right:].any()
    panel = np.asarray(maps.explanation(pixels, row, card, MeanNetwork(size=64)))[
        maps._HEAD:maps._HEAD + maps.SIDE, maps._MARGIN:maps._MARGIN + maps.SIDE]
    assert np.array_equal(panel[..., ::-1], maps._scaled(box.of(pixels)))
    assert any("largest" in caveat for caveat in card.caveats)


def test_frames_without_the_face_do_not_count_for_a_video(data: Path, tmp_path: Path) -> None:
    network, clip = MeanNetwork(size=64), os.fsencode(data / "clip.avi")
    *rows, whole = scoring.video(network, CARD, clip, 5, None)
    assert [row.verdict for row in rows[3:]] == ["not read: no face found"] * 2
    assert [row.seconds for row in rows] == pytest.approx([0.08, 0.28, 0.48, 0.68, 0.88])
    known = [row.probability for row in rows[:3]]
    assert whole.probability == pytest.approx(np.mean(np.array(known, float)))
    drawn_faces.film(tmp_path / "empty.avi", [drawn_faces.picture()] * 6)
    *_, whole = scoring.video(network, CARD, os.fsencode(tmp_path / "empty.avi"), 5, None)
    assert (whole.kind, whole.verdict) == ("video", "not read: no face found")


def test_evaluation_follows_a_face_through_a_video_that_is_read_in_parts(data: Path) -> None:
    paths = [b"a.png", *(frame_path(b"clip.avi", moment) for moment in evenly(5))]
    catalogue = Catalogue({"": data}, paths, np.ones(6, np.uint8), np.zeros(6, np.int32),
                          masks={b"a.png": b"mask.png"})

    def read(rows: list[int]) -> list[object]:
        return [str(found) if isinstance(found, Rejected) else found.row.tobytes()
                for found in prepared(CARD, None, catalogue, np.array(rows), Asked(False, False))]

    assert read([0, 1]) + read([2, 3]) + read([4, 5]) == read([*range(6)])
    picture, = prepared(CARD, None, catalogue, np.array([0]), Asked(True, True))
    assert not isinstance(picture, Rejected) and 0 < picture.mask.mean() < 0.6
    assert picture.errors.shape == (64, 64, 3)
