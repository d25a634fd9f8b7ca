"""The audit: right where the answer is known, and quiet on the sample data."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from hpc_deepfake import cli
from hpc_deepfake.audit import container_baseline, duplicates, facts, findings, leaks, shortcuts
from hpc_deepfake.audit.rows import counted, facts_of, files_of, open_rows
from preprocessing import ela, store
from preprocessing.catalogue import scan
from preprocessing.names import parse
from preprocessing.sample import generate
from preprocessing.split import by_group, by_image, parse_fractions


def picture(seed: int, width: int = 96, height: int = 64) -> np.ndarray:
    """A picture like no other, in muted colours, uint8 (height, width, 3)."""
    rough = np.random.default_rng(seed).integers(70, 190, (6, 8, 3), np.uint8)
    return cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)


def save(path: Path, pixels: np.ndarray, **how) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **how)


def data_file(folder: Path, split: str = "60/40", by: str = "group",
              features: tuple[str, ...] = ("raw",), parts: np.ndarray | None = None,
              reencode: int | None = None) -> Path:
    """The data file of the pictures in ``folder``, beside it, as preprocessing writes it."""
    out = folder.with_suffix(".h5")
    catalogue = scan(folder)
    fractions = parse_fractions(split)
    if parts is None:
        parts = by_group(catalogue.labels, catalogue.groups, fractions, 0) if by == "group" \
            else by_image(catalogue.labels, fractions, 0)
    store.create(out, catalogue, parts, store.Recipe(
        features, ela.Parameters(reencode=reencode), split, by, 0, catalogue.digest(),
        len(catalogue)))
    header = store.open_header(out)
    status = header.array("status", "r+")
    for row, path in enumerate(catalogue.paths):
        values = ela.features_of_file(os.path.join(os.fsencode(folder), path), features,
                                      header.parameters)
        for name, value in zip(features, values, strict=True):
            header.array(name, "r+")[row] = value
    status[:] = store.DONE
    Path(f"{out}.json").write_text(json.dumps({"roots": {"": str(folder)}}))
    return out


def audit(capsys: pytest.CaptureFixture, *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command."""
    before, sys.argv = sys.argv, ["hpc-deepfake", "audit", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as left:
            cli.main()
    finally:
        sys.argv = before
    return left.value.code, *capsys.readouterr()


def line(text: str, what: str) -> str:
    """The record of ``what`` in the table, without line breaks."""
    match = re.search(rf"^  (?:ok|info|warn|FAIL) +{re.escape(what)} .*(?:\n {{10,}}.*)*", text,
                      re.MULTILINE)
    assert match, f"no line '{what}' in\n{text}"
    return " ".join(match[0].split())


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data file of 60 + 60 pictures with all faults at once: tampered ones are TIFF, copies lie on
    two sides of the split and in both classes, a tampered picture in the authentic folder."""
    folder = tmp_path_factory.mktemp("bad") / "pictures"
    for number in range(1, 61):
        save(folder / "Au" / f"Au_ani_{number:05}.jpg", picture(number), quality=90)
        save(folder / "Tp" / f"Tp_S_NNN_S_N_ani{number:05}_ani{number:05}_{number:05}.tif",
             picture(number + 1000))
    # other ids than the first picture's, so the groups don't know
    shutil.copy(folder / "Au" / "Au_ani_00001.jpg", folder / "Au" / "Au_art_00001.jpg")
    save(folder / "Au" / "Au_art_00002.jpg", picture(2), quality=70)
    scene = picture(3)
    scene[20:40, 20:40] = 255 - scene[20:40, 20:40]
    save(folder / "Au" / "Au_art_00003.jpg", scene, quality=90)
    shutil.copy(folder / "Au" / "Au_ani_00004.jpg",
                folder / "Tp" / "Tp_S_NNN_S_N_art00004_art00004_00004.jpg")
    save(folder / "Tp" / "Tp_S_NNN_S_N_art00005_art00005_00005.jpg", picture(5), quality=75)
    save(folder / "Au" / "Tp_S_NNN_S_N_art00006_art00006_00006.jpg", picture(6006), quality=90)
    catalogue = scan(folder)
    late = np.array([b"_art" in path for path in catalogue.paths])
    return data_file(folder, parts=late.astype(np.uint8))


# facts of one file


def test_facts_of_a_jpeg_file(tmp_path):
    exif = Image.Exif()
    exif[305] = "Brush\n 2.0"
    save(tmp_path / "a.jpg", picture(1), quality=83, subsampling="4:2:2", progressive=True,
         exif=exif, comment=b"made \x00 by me", icc_profile=b"profile")
    found = facts.read(tmp_path / "a.jpg")
    size = (tmp_path / "a.jpg").stat().st_size
    assert found == facts.Facts(
        "JPEG", "progressive", "RGB", "quality 83", "4:2:2", "jfif exif icc_profile comment",
        "Brush 2.0", "made by me", 83, 96, 64, size, size / (96 * 64))


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_chroma_subsampling(tmp_path, subsampling):
    save(tmp_path / "a.jpg", picture(1), subsampling=subsampling)
    assert facts.read(tmp_path / "a.jpg").subsampling == subsampling


def test_a_grey_jpeg_file_has_no_chroma(tmp_path):
    save(tmp_path / "a.jpg", picture(1)[..., 0], quality=61)
    found = facts.read(tmp_path / "a.jpg")
    assert (found.mode, found.subsampling, found.quantisation) == ("L", "none", "quality 61")


def test_tables_of_another_encoder_are_told_apart(tmp_path):
    names = set()
    for step in (0, 1):
        tables = [[6 + step] * 64, [9] * 64]
        save(tmp_path / f"{step}.jpg", picture(1), qtables=tables)
        found = facts.read(tmp_path / f"{step}.jpg")
        assert re.fullmatch(rf"own [0-9a-f]{{6}}, near quality {found.quality:.0f}",
                            found.quantisation)
        assert 85 <= found.quality <= 97  # all its steps about 6
        names.add(found.quantisation)
    assert len(names) == 2


@pytest.mark.parametrize("kind, how, coding", [
    ("TIFF", {"compression": "tiff_lzw"}, "tiff_lzw"), ("TIFF", {}, "raw"), ("PNG", {}, "none"),
    ("BMP", {}, "0"), ("GIF", {}, "none"), ("WEBP", {}, "none")])
def test_the_format_is_that_of_the_content(tmp_path, kind, how, coding):
    save(tmp_path / "a.jpg", picture(1), format=kind, **how)
    found = facts.read(tmp_path / "a.jpg")
    assert (found.format, found.width, found.height) == (kind, 96, 64)
    assert (found.coding, found.quantisation) == (coding, "none") and np.isnan(found.quality)


@pytest.mark.parametrize("start, name", [
    (b"\0\0\0\x18ftypisom", "MP4"), (b"\x1a\x45\xdf\xa3", "Matroska"),
    (b"RIFF\0\0\0\0AVI LIST", "AVI"), (b"\0\0\x01\xba", "MPEG")])
def test_videos_count_by_container_and_size(tmp_path, start, name):
    (tmp_path / "a.mp4").write_bytes(start + bytes(100))
    found = facts.read(tmp_path / "a.mp4")
    assert found.format == name and found.size == len(start) + 100 and np.isnan(found.width)


def test_broken_files_have_a_format_of_their_own(tmp_path):
    save(tmp_path / "good.jpg", picture(1))
    good = (tmp_path / "good.jpg").read_bytes()
    for number, content in enumerate([b"", b"\xff", b"\xff\xd8", good[:100], b"II*\0", b"GIF89a",
                                      b"\x89PNG\r\n\x1a\n" + bytes(50), bytes(999)]):
        (tmp_path / "a.jpg").write_bytes(content)
        found = facts.read(tmp_path / "a.jpg")
        assert found.format == facts.UNREADABLE and found.size == len(content), number


def test_any_cut_or_flipped_byte_of_the_headers_gives_facts(tmp_path):
    """Nothing that a damaged file holds gets out of ``read`` as an exception."""
    random = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP"):
        save(tmp_path / "whole", picture(1, 24, 16), format=kind)
        whole = bytearray((tmp_path / "whole").read_bytes())
        for _ in range(60):
            damaged = whole.copy()
            for at in random.integers(0, min(len(whole), 700), 3):
                damaged[at] = random.integers(256)
            (tmp_path / "a").write_bytes(damaged[:random.integers(1, len(whole))])
            assert isinstance(facts.read(tmp_path / "a"), facts.Facts)


def test_what_is_no_file_has_no_facts(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "pipe"):
        assert facts.read(path) is None


def test_a_jpeg_file_full_of_nothing_is_not_searched_to_its_end(tmp_path):
    with open(tmp_path / "a.jpg", "wb") as file:
        file.write(b"\xff\xd8")
        file.truncate(400 << 20)
    start = time.process_time()
    assert facts.read(tmp_path / "a.jpg").format == facts.UNREADABLE
    assert time.process_time() - start < 10  # all of it takes a minute


# how well facts predict labels


def measured(facts_: dict[str, np.ndarray], labels: np.ndarray,
             groups: np.ndarray | None = None) -> dict[str, shortcuts.Finding]:
    groups = np.arange(len(labels)) if groups is None else groups
    coded = {name: shortcuts.code(values) for name, values in facts_.items()}
    return {one.fact: one for one in shortcuts.measure(coded, labels.astype(np.uint8), groups)}


def test_a_fact_that_is_the_label_predicts_it():
    labels = np.arange(200) % 2
    found = measured({"format": np.where(labels, "TIFF", "JPEG")}, labels)["format"]
    assert (found.auc, found.accuracy, found.majority, found.values) == (1, 1, 0.5, 2)


def test_facts_that_say_nothing_stay_at_one_half():
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 3000)
    found = measured({"text": random.choice(["a", "b", "c"], 3000), "number": random.random(3000),
                      "many": np.array([str(one) for one in range(3000)])}, labels)
    assert found["many"].auc == 0.5, "values seen once say nothing of others"
    for one in found.values():
        assert abs(one.auc - 0.5) < 1.5 * shortcuts.chance(labels), one


def test_rare_values_share_of_the_majority_is_not_exceeded_by_chance():
    labels = (np.random.default_rng(2).random(1000) < 0.865).astype(int)
    found = measured({"f": np.random.default_rng(3).choice(["a", "b"], 1000)}, labels)["f"]
    assert found.accuracy == found.majority == max(labels.mean(), 1 - labels.mean())


def test_what_only_tells_the_group_does_not_predict_the_label():
    """All pictures of a group have one label and one dimension: across groups that says nothing."""
    groups = np.repeat(np.arange(100), 10)
    labels = groups % 2
    names = {"dimensions": np.char.add("size ", groups.astype(str))}
    assert measured(names, labels, groups)["dimensions"].auc == 0.5
    assert measured(names, labels)["dimensions"].auc > 0.99, "folds that cut groups would leak"


def test_a_number_may_rise_and_fall_with_the_label():
    random = np.random.default_rng(4)
    labels = np.arange(1000) % 2
    middle = np.where(labels, random.normal(0, 1, 1000), random.choice([-5, 5], 1000))
    middle[:100] = np.nan
    found = measured({"size": middle}, labels)["size"]
    assert found.auc > 0.9, "no threshold tells the middle from both ends"


def test_missing_numbers_are_a_value_of_their_own():
    labels = np.arange(100) % 2
    assert measured({"quality": np.where(labels, np.nan, 90.0)}, labels)["quality"].auc == 1


def test_facts_add_up():
    random = np.random.default_rng(5)
    labels = random.integers(0, 2, 4000)
    hints = {f"hint {number}": np.where(random.random(4000) < 0.65, labels, 1 - labels).astype(str)
             for number in range(5)}
    found = measured(hints, labels)
    together = found.pop(shortcuts.ALL)
    assert together.auc > 0.80 > 0.68 > max(one.auc for one in found.values())
    # five independent hints, right in 65%: the majority of them is right in 76.5% (binomial)
    assert together.accuracy == pytest.approx(0.765, abs=0.03)


def test_logistic_regression_finds_the_penalised_maximum():
    random = np.random.default_rng(6)
    x = np.concatenate([np.ones((300, 1)), random.integers(0, 2, (300, 4))], 1)
    y = (random.random(300) < 1 / (1 + np.exp(-x @ [0.5, 1, -2, 0, 1]))).astype(np.uint8)
    said = shortcuts._logistic(x, y, np.ones(300, bool))
    logit = np.linalg.lstsq(x, np.log(said / (1 - said)), rcond=None)[0]
    gradient = x.T @ (y - said) - np.array([0, 1, 1, 1, 1]) * logit  # zero at the maximum
    assert np.abs(gradient).max() < 1e-3


def test_too_few_groups_are_no_error():
    labels = np.array([0, 1, 0, 1], np.uint8)
    found = measured({"f": np.array(list("abab"))}, labels, np.zeros(4, int))["f"]
    assert found.auc is None
    records = findings.facts([found], {"f": shortcuts.code(np.array(list("abab")))}, labels)
    assert "two groups" in records[0].value


@pytest.mark.parametrize("auc, verdict", [(0.4, "ok"), (0.6, "ok"), (0.61, "warn"), (0.75, "warn"),
                                          (0.76, "FAIL")])
def test_verdicts(auc, verdict):
    labels = np.array([0, 1])
    one = shortcuts.Finding("format", auc, 0.7, 0.5, 2)
    record = findings.facts([one], {"format": shortcuts.code(np.array(["a", "b"]))}, labels)[0]
    assert record.verdict == verdict and bool(record.todo) == (verdict != "ok")
    assert ("gives the label away" in record.value) == (verdict == "FAIL")


# duplicates


def test_near_pairs_are_those_of_a_plain_count():
    random = np.random.default_rng(7)
    bits = random.random((2500, 64)) < 0.5
    bits[1::5] = bits[0::5] ^ (random.random((500, 64)) < 0.12)  # some near DISTANCE bits away
    found = np.concatenate(list(duplicates._near(bits)))
    expected = [(one, other) for one in range(2500) for other in
                one + 1 + np.flatnonzero((bits[one + 1:] != bits[one]).sum(1)
                                         <= duplicates.DISTANCE)]
    assert 200 < len(expected) < 500 and sorted(map(tuple, found.tolist())) == expected


def test_more_like_pictures_than_can_be_compared_are_said(monkeypatch):
    monkeypatch.setattr(duplicates, "MOST", 100)
    plain = np.full((60, 32, 32, 3), 7, np.uint8)
    found = duplicates.alike(plain, np.ones(60, bool), np.arange(60))
    assert len(found.copies) == 100 and not found.complete
    found = duplicates.alike(plain, np.ones(60, bool), np.zeros(60))
    assert not len(found.copies) and found.complete, "of the same group, part and label"


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_a_picture_saved_again_is_a_copy_and_a_forgery_is_not(pictures, quality):
    """On sample pictures: copies are found, and no authentic picture is a copy of its forgery."""
    files = [os.fsencode(path) for path in sorted(pictures.rglob("*.jpg"))]
    small = np.stack([cv2.resize(ela.features_of_file(file, ("raw",), ela.Parameters())[0],
                                 (32, 32), interpolation=cv2.INTER_AREA) for file in files])
    again = []
    for file in files:
        pixels = cv2.imdecode(cv2.imencode(".jpg", cv2.imread(os.fsdecode(file)),
                                           (cv2.IMWRITE_JPEG_QUALITY, quality))[1], 1)
        again.append(cv2.resize(ela.resize(pixels)[..., ::-1], (32, 32),
                                interpolation=cv2.INTER_AREA))
    count = len(files)
    found = duplicates.alike(np.concatenate([small, np.stack(again)]), np.ones(2 * count, bool),
                             np.arange(2 * count))
    assert set(map(tuple, found.copies.tolist())) == {(row, row + count) for row in range(count)}
    assert len(found.scenes) > count / 2, "a forgery shows its target's scene"


# the whole command


def test_known_faults_are_found(bad, capsys):
    code, out, err = audit(capsys, bad)
    assert code == 0 and not err, "a finding is no fault of the program"
    assert "AUC 1.000" not in line(out, "file format")  # three JPEG files are tampered
    for fact in ("file format", "coding", "quantisation tables", "chroma subsampling"):
        assert "FAIL" in line(out, fact) and "gives the label away" in line(out, fact)
    assert "TIFF: 100% of 60 tampered" in line(out, "file format")
    assert "--reencode 90" in line(out, "file format")
    assert line(out, "dimensions") == "ok dimensions the same in all files: 96×64"
    assert "4 pictures in 2 sets" in line(out, "byte-identical")
    across = line(out, "identical, across")
    assert "2 sets" in across and "Au_ani_00001.jpg = Au/Au_art_00001.jpg" in across
    again = line(out, "saved again, across")
    assert "2 pairs" in again and "Au/Au_ani_00002.jpg ~ Au/Au_art_00002.jpg" in again
    scene = line(out, "same scene, across")
    assert "1 pair: " in scene and "Au/Au_ani_00003.jpg ~ Au/Au_art_00003.jpg" in scene
    assert "1 say another class than the folder: Au/Tp_S_NNN_S_N_art00006" in line(out, "names")
    assert "1 set with both labels: Au/Au_ani_00004.jpg = Tp/" in line(out, "same bytes")
    assert "1 pair with both labels: Au/Au_ani_00005.jpg ~ Tp/" in line(out, "same picture")
    assert "proves nothing" in out.splitlines()[-1]
    assert max(map(len, out.splitlines()[1:])) <= 105  # unless a name is long
    assert out.count("--reencode 90") == 1, "said once"


def test_json_has_all_that_was_found(bad, tmp_path, capsys):
    code, _, _ = audit(capsys, bad, "--strict", "--json", tmp_path / "a.json")
    assert code == 1, "--strict"
    found = json.loads((tmp_path / "a.json").read_text())
    records = {one["what"]: one for some in found["sections"].values() for one in some}
    assert found["fails"] == sum(one["verdict"] == "FAIL" for one in records.values()) > 3
    assert records["file format"]["figures"]["auc"] > 0.9
    assert records["identical, across"]["figures"]["sets"] == [
        ["Au/Au_ani_00001.jpg", "Au/Au_art_00001.jpg"],
        ["Au/Au_ani_00004.jpg", "Tp/Tp_S_NNN_S_N_art00004_art00004_00004.jpg"]]
    code, _, err = audit(capsys, bad, "--json", tmp_path / "no" / "a.json")
    assert code == 2 and "cannot write --json" in err


def test_without_raw_pixels_in_the_file_the_pictures_themselves_are_compared(bad, tmp_path, capsys):
    """The same duplicates are found through the files."""
    folder = bad.parent / "pictures"
    shutil.copytree(folder, tmp_path / "pictures")
    catalogue = scan(folder)
    parts = np.array([b"_art" in path for path in catalogue.paths]).astype(np.uint8)
    _, by_file, _ = audit(capsys, data_file(tmp_path / "pictures", features=("ela",), parts=parts))
    _, by_raw, _ = audit(capsys, bad)
    for what in ("byte-identical", "saved again", "saved again, across", "same scene, across"):
        assert line(by_file, what) == line(by_raw, what)


def test_missing_and_broken_files_are_named(bad, tmp_path, capsys):
    shutil.copytree(bad.parent / "pictures", tmp_path / "pictures")
    (tmp_path / "pictures" / "Au" / "Au_ani_00007.jpg").unlink()
    (tmp_path / "pictures" / "Au" / "Au_ani_00008.jpg").write_bytes(b"\xff\xd8")
    code, out, _ = audit(capsys, bad, "--data", tmp_path / "pictures")
    assert code == 0
    assert "warn missing 1 left out" in line(out, "missing")
    assert "Au/Au_ani_00007.jpg" in line(out, "missing")
    assert "Au/Au_ani_00008.jpg" in line(out, "unreadable")
    assert "AUC" in line(out, "file format")


def test_pictures_saved_alike_are_judged_by_their_files_all_the_same(tmp_path, capsys):
    for number in range(20):
        save(tmp_path / "pictures" / "real" / f"{number}.jpg", picture(number), quality=90)
        save(tmp_path / "pictures" / "fake" / f"{number}.jpg", picture(number), quality=80)
    _, out, _ = audit(capsys, data_file(tmp_path / "pictures", reencode=85))
    assert "quality 85 once more" in line(out, "saved alike")
    assert line(out, "quantisation tables").startswith("FAIL quantisation tables AUC 1.000")


def test_errors_say_what_to_do(bad, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    shutil.copy(bad, tmp_path / "alone.h5")
    for arguments, words in (
            ((bad, "--data", tmp_path / "empty"), "none of the 126 files"),
            ((bad, "--data", tmp_path / "absent"), "no folder of pictures"),
            ((tmp_path / "alone.h5",), "name their folder with --data DIR"),
            ((bad, "--authentic", tmp_path), "go together"),
            ((bad, "--authentic", tmp_path, "--tampered", tmp_path), "--data DIR"),
            ((tmp_path / "absent.h5",), "there is no data file")):
        code, out, err = audit(capsys, *arguments)
        assert code == 2 and err.startswith("error: ") and words in err, (arguments, err)
        assert not out, "nothing is said before an error"


def test_pictures_on_two_sides_of_a_split_by_image(tmp_path, capsys):
    """Ten pictures of each of ten sources: split by image every validation picture leaks, by group
    none does."""
    for number in range(100):
        source = f"ani{number // 10:05}"
        save(tmp_path / "pictures" / "Tp" / f"Tp_S_NNN_S_N_{source}_{source}_{number:05}.jpg",
             picture(number))
    for number in range(10):
        save(tmp_path / "pictures" / "Au" / f"Au_ani_{number:05}.jpg", picture(number + 500))
    code, out, _ = audit(capsys, data_file(tmp_path / "pictures", "50/50", "image"), "--strict")
    assert code == 1
    found = line(out, "train and validation")
    assert "FAIL" in found and "55 of 55 validation pictures" in found and "--split-by" in found
    (tmp_path / "pictures.h5").unlink()
    _, out, _ = audit(capsys, data_file(tmp_path / "pictures", "50/50", "group"))
    assert line(out, "train and validation").startswith("ok train and validation 0 of ")


def test_leaks_of_casia_1_are_those_of_its_names(casia_names):
    """The figures of docs/data.md, from the complete lists of names."""
    names = casia_names["casia1_Au"] + casia_names["casia1_Sp"]
    parsed = leaks.names([name.encode() for name in names])
    labels = np.array([name.startswith("Sp") for name in names], np.uint8)
    assert all(parsed) and not len(leaks.contradicting(parsed, labels))
    assert len(leaks.without_source(parsed)) == 3
    shares = []
    for seed in range(20):
        parts = by_image(labels, (0.8, 0.2), seed)
        leaking = leaks.shared(parsed, np.arange(len(names)), parts)[("train", "validation")]
        shares.append(len(leaking) / (parts == 1).sum())
    assert min(shares) > 0.825 and max(shares) < 0.915  # 83 to 91%
    assert np.mean(shares) == pytest.approx(0.88, abs=0.01)


def test_pictures_without_casias_names_leak_by_group():
    parsed = [None, None, None, parse("Au_ani_00001")]
    leaking = leaks.shared(parsed, np.array([0, 0, 1, 2]), np.array([0, 2, 2, 1]))
    assert {pair: rows.tolist() for pair, rows in leaking.items()} == {
        ("train", "validation"): [], ("train", "test"): [1], ("validation", "test"): []}


def test_frames_count_by_their_video(tmp_path):
    """Rows of one video have its facts, read once, and aren't copies of each other."""
    for name in ("real/a.jpg", "fake/b.jpg"):
        save(tmp_path / "pictures" / name, picture(1))
    rows = open_rows(data_file(tmp_path / "pictures"))
    (tmp_path / "v.mp4").write_bytes(b"\0\0\0\x18ftypisom")
    frames = [b"v.mp4#frame=1of2", b"v.mp4#frame=2of2"]
    for at, path in enumerate(frames):
        rows.paths[at] = path
    files = files_of(rows, {"": tmp_path})
    assert files == [os.fsencode(tmp_path / "v.mp4")] * 2
    found = facts_of(files)
    assert found[0] is found[1] and found[0].format == "MP4"
    assert not duplicates.identical(files, np.array([one.size for one in found]))


def test_long_work_says_how_far_it_is(capsys):
    assert list(counted("abc", 3, "files read", interval=0)) == ["a", "b", "c"]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and lines[-1].startswith("2 of 3 files read (67%)")


# the container's accuracy, beside a network's


def test_container_baseline(bad, tmp_path):
    folder = tmp_path / "pictures"
    for number in range(40):
        save(folder / "real" / f"{number:02}.jpg", picture(number), quality=90)
        save(folder / "fake" / f"{number:02}.jpg", picture(number), quality=80)
    data = data_file(folder)
    found = container_baseline(data)
    assert found == {"accuracy": 1.0, "auc": 1.0, "majority": 0.5, "rows": 32,
                     "fact": "quantisation"}
    assert container_baseline(data, folder) == found
    assert container_baseline(data, tmp_path) is None, "the files aren't there"
    Path(f"{data}.json").unlink()
    assert container_baseline(data) is None
    assert container_baseline(bad)["majority"] == pytest.approx(4 / 6)


def test_container_baseline_is_fitted_on_the_training_part(tmp_path):
    """Quality tells the classes apart the other way round in the validation part: all wrong."""
    folder = tmp_path / "pictures"
    for number in range(40):
        for label, name in enumerate(("real", "fake")):
            save(folder / name / f"{number:02}.jpg", picture(number),
                 quality=90 if label ^ (number >= 20) else 80)
    late = np.array([int(path.rpartition(b"/")[2][:2]) >= 20 for path in scan(folder).paths])
    found = container_baseline(data_file(folder, parts=late.astype(np.uint8)))
    assert (found["accuracy"], found["auc"]) == (0, 0)


@pytest.mark.slow
def test_no_trivial_fact_tells_the_label_of_sample_data(tmp_path, capsys):
    """Each fact, cross-validated by group, stays at an AUC of 0.6 or less; nothing else is found.

    800 pictures: chance alone moves an AUC by 0.04."""
    generate(tmp_path / "pictures", 800, 0)
    code, out, _ = audit(capsys, data_file(tmp_path / "pictures", "80/20"), "--strict",
                         "--json", tmp_path / "a.json")
    found = json.loads((tmp_path / "a.json").read_text())
    records = [one for some in found["sections"].values() for one in some]
    aucs = {one["what"]: one["figures"]["auc"] for one in records
            if "values" in (one["figures"] or {})}
    assert len(aucs) == len(findings.TITLES) + 1
    assert max(aucs.values()) <= 0.6, {name: auc for name, auc in aucs.items() if auc > 0.55}
    assert code == 0, out
