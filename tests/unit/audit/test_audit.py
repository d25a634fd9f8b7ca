"""The audit command on files with known faults, on the sample data, and on invalid input."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from data_files import seal
from picture_files import picture, save

from hpc_deepfake import audit as audit_module
from hpc_deepfake import cli
from hpc_deepfake.audit import container_baseline, duplicates, findings, leaks, shortcuts
from hpc_deepfake.audit.rows import facts_of, files_of, open_rows
from hpc_deepfake.core import progress
from preprocessing import ela, store
from preprocessing.catalogue import scan
from preprocessing.names import parse
from preprocessing.sample import generate
from preprocessing.split import by_group, by_image, parse_fractions


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
    return seal(out)


def audit(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command."""
    before, sys.argv = sys.argv, ["hpc-deepfake", "audit", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as leave:
            cli.main()
    finally:
        sys.argv = before
    return leave.value.code, *capsys.readouterr()


def line(text: str, what: str) -> str:
    """The record of ``what`` in the table, without line breaks."""
    match = re.search(rf"^  (?:ok|info|warn|FAIL) +{re.escape(what)} .*(?:\n {{10,}}.*)*", text,
                      re.MULTILINE)
    assert match, f"no line '{what}' in\n{text}"
    return " ".join(match[0].split())


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data file of 60 + 60 pictures with all faults at once: tampered pictures are TIFF files,
    copies lie in both parts of the split and in both classes, a tampered picture is in the
    authentic folder."""
    folder = tmp_path_factory.mktemp("bad") / "pictures"
    for number in range(1, 61):
        save(folder / "Au" / f"Au_ani_{number:05}.jpg", picture(number), quality=90)
        save(folder / "Tp" / f"Tp_S_NNN_S_N_ani{number:05}_ani{number:05}_{number:05}.tif",
             picture(number + 1000))
    # with other source ids, so that grouping by name misses the copy
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


def test_known_faults_are_reported(bad, capsys):
    code, out, err = audit(capsys, bad)
    assert code == 0 and not err, "findings are not errors of the program"
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
    assert "1 imply another class than the folder: Au/Tp_S_NNN_S_N_art00006" in line(out, "names")
    assert "1 set with both labels: Au/Au_ani_00004.jpg = Tp/" in line(out, "same bytes")
    assert "1 pair with both labels: Au/Au_ani_00005.jpg ~ Tp/" in line(out, "same picture")
    assert "proves nothing" in out.splitlines()[-1]
    assert max(map(len, out.splitlines()[1:])) <= 105  # unless a name is long
    assert out.count("--reencode 90") == 1, "shared advice is printed once"


def test_json_has_all_findings(bad, tmp_path, capsys):
    code, _, _ = audit(capsys, bad, "--strict", "--json", tmp_path / "a.json")
    assert code == 1, "--strict"
    written = json.loads((tmp_path / "a.json").read_text())
    records = {record["what"]: record for records in written["sections"].values()
               for record in records}
    assert written["fails"] == sum(
        record["verdict"] == "FAIL" for record in records.values()) > 3
    assert {title.partition(" (")[0] for title in written["sections"]} == {
        "files", "what a file's outside tells about its label",
        "what to hold a network's accuracy against", "sources on two sides of the split",
        "duplicates", "labels"}, "keys that programs may read"
    assert records["file format"]["figures"]["auc"] > 0.9
    assert records["identical, across"]["figures"]["sets"] == [
        ["Au/Au_ani_00001.jpg", "Au/Au_art_00001.jpg"],
        ["Au/Au_ani_00004.jpg", "Tp/Tp_S_NNN_S_N_art00004_art00004_00004.jpg"]]
    code, _, err = audit(capsys, bad, "--json", tmp_path / "no" / "a.json")
    assert code == 2 and "cannot write --json" in err


def test_without_the_raw_feature_the_picture_files_are_compared(bad, tmp_path, capsys):
    """With the same duplicates as result."""
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
    assert "warn missing 1 not included" in line(out, "missing")
    assert "Au/Au_ani_00007.jpg" in line(out, "missing")
    assert "Au/Au_ani_00008.jpg" in line(out, "unreadable")
    assert "AUC" in line(out, "file format")


def test_reencoded_pictures_are_still_audited_by_their_files(tmp_path, capsys):
    for number in range(20):
        save(tmp_path / "pictures" / "real" / f"{number}.jpg", picture(number), quality=90)
        save(tmp_path / "pictures" / "fake" / f"{number}.jpg", picture(number), quality=80)
    _, out, _ = audit(capsys, data_file(tmp_path / "pictures", reencode=85))
    assert "again at quality 85" in line(out, "saved alike")
    assert line(out, "quantisation tables").startswith("FAIL quantisation tables AUC 1.000")


def test_errors_say_what_to_do(bad, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    shutil.copy(bad, tmp_path / "alone.h5")
    damaged = shutil.copy(bad, tmp_path / "damaged.h5")
    store.open_header(damaged).array("raw", "r+")[9, 0, 0, 0] ^= 1
    for arguments, words in (
            ((bad, "--data", tmp_path / "empty"), "none of the 126 files"),
            ((bad, "--data", tmp_path / "absent"), "no folder of pictures"),
            ((tmp_path / "alone.h5",), "name their folder with --data DIR"),
            ((bad, "--authentic", tmp_path), "must be given together"),
            ((bad, "--authentic", tmp_path, "--tampered", tmp_path), "--data DIR"),
            ((damaged, "--data", bad.with_suffix("")), "1 of 126 rows of"),
            ((tmp_path / "absent.h5",), "there is no data file")):
        code, out, err = audit(capsys, *arguments)
        assert code == 2 and err.startswith("error: ") and words in err, (arguments, err)
        assert not out, "no output before an error"


def test_leaks_of_a_split_by_image(tmp_path, capsys):
    """Ten pictures of each of ten sources: split by image, every validation picture shares a source
    with the training part; split by group, none does."""
    for number in range(100):
        source = f"ani{number // 10:05}"
        save(tmp_path / "pictures" / "Tp" / f"Tp_S_NNN_S_N_{source}_{source}_{number:05}.jpg",
             picture(number))
    for number in range(10):
        save(tmp_path / "pictures" / "Au" / f"Au_ani_{number:05}.jpg", picture(number + 500))
    code, out, _ = audit(capsys, data_file(tmp_path / "pictures", "50/50", "image"), "--strict")
    assert code == 1
    record = line(out, "train and validation")
    assert "FAIL" in record and "55 of 55 validation pictures" in record and "--split-by" in record
    (tmp_path / "pictures.h5").unlink()
    _, out, _ = audit(capsys, data_file(tmp_path / "pictures", "50/50", "group"))
    assert line(out, "train and validation").startswith("ok train and validation 0 of ")


def test_leaks_of_casia_1_follow_from_its_names(casia_names):
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


def test_pictures_without_casia_names_leak_by_group():
    parsed = [None, None, None, parse("Au_ani_00001")]
    leaking = leaks.shared(parsed, np.array([0, 0, 1, 2]), np.array([0, 2, 2, 1]))
    assert {pair: rows.tolist() for pair, rows in leaking.items()} == {
        ("train", "validation"): [], ("train", "test"): [1], ("validation", "test"): []}


def test_names_that_are_not_understood_do_not_agree(tmp_path, capsys):
    """Those like CASIA's are a warning; without them and others, the names agree."""
    folder = tmp_path / "pictures"
    for at, name in enumerate(("Au/Au_ani_00001.jpg", "Au/au_ani_00002 (1).jpg",
                               "Tp/Tp_D_CNN_M_N_ani00001_10601.jpg")):
        save(folder / name, picture(at))
    _, out, _ = audit(capsys, data_file(folder))
    assert line(out, "names") == "ok names 3 CASIA names agree with their folders"
    save(folder / "Au/Au_animal_3.jpg", picture(4))
    save(folder / "Tp/holiday.jpg", picture(5))
    (tmp_path / "pictures.h5").unlink()
    _, out, _ = audit(capsys, data_file(folder))
    assert line(out, "names").startswith("info names 3 CASIA names agree with their folders; 2 ")
    warning = line(out, "like CASIA's")
    assert warning.startswith("warn like CASIA's 1 not understood, so what")
    assert "Au/Au_animal_3.jpg" in warning and "--manifest" in warning


def test_frames_have_the_facts_of_their_video(tmp_path):
    """The file is read once for all its rows, and they aren't copies of each other."""
    for name in ("real/a.jpg", "fake/b.jpg"):
        save(tmp_path / "pictures" / name, picture(1))
    rows = open_rows(data_file(tmp_path / "pictures"))
    (tmp_path / "v.mp4").write_bytes(b"\0\0\0\x18ftypisom")
    frames = [b"v.mp4#frame=1of2", b"v.mp4#frame=2of2"]
    for at, path in enumerate(frames):
        rows.paths[at] = path
    files = files_of(rows, {"": tmp_path})
    assert files == [os.fsencode(tmp_path / "v.mp4")] * 2
    file_facts = facts_of(files)
    assert file_facts[0] is file_facts[1] and file_facts[0].format == "MP4"
    assert not duplicates.identical(files, np.array([file.size for file in file_facts]))


def test_a_video_counts_once_among_facts(tmp_path, monkeypatch):
    """However many frames it has: they are no independent pictures."""
    names = [b"r.mp4"] * 9 + [b"a.jpg", b"b.jpg"] + [b"f.mp4"] * 9
    rows = SimpleNamespace(labels=np.repeat(np.array([0, 1], "u1"), 10), groups=np.arange(20))
    table = {name: np.arange(20.0) for name in findings.TITLES}
    seen = []
    monkeypatch.setattr(audit_module.shortcuts, "measure", lambda coded, labels, groups, seed: (
        seen.append((labels.tolist(), groups.tolist())), [])[1])
    missing = [None if name == b"b.jpg" else object() for name in names]
    monkeypatch.setattr(audit_module.baseline, "from_facts", lambda *given: None)
    monkeypatch.setattr(findings, "baselines", lambda *given: [])
    audit_module._predictors(audit_module.Report(), rows, names, missing, table, 0)
    assert seen == [([0, 0, 1], [0, 9, 11])]


@pytest.mark.parametrize(("accuracy", "words"), [
    (0.9, "gives the label away"), (0.49, "predicts no label better than the majority")])
def test_a_fact_that_ranks_but_predicts_nothing_is_told_so(accuracy, words):
    fact = shortcuts.code(np.array(["a", "b"]))
    record, = findings.facts([shortcuts.Finding("size", 0.81, accuracy, 0.58, 2)], {"size": fact},
                             np.array([0, 1]))
    assert record.verdict == "FAIL" and words in record.value


def test_reading_many_files_shows_progress(tmp_path, monkeypatch, capsys):
    for number in range(3):
        save(tmp_path / f"{number}.png", picture(number))
    files = [os.fsencode(tmp_path / f"{number}.png") for number in range(3)]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=count(0, 20).__next__))
    assert None not in facts_of(files)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and lines[-1].startswith("2 of 3 files read (67%)")
    facts_of(files, show_progress=False)
    assert not capsys.readouterr().err


def test_container_baseline(bad, tmp_path):
    folder = tmp_path / "pictures"
    for number in range(40):
        save(folder / "real" / f"{number:02}.jpg", picture(number), quality=90)
        save(folder / "fake" / f"{number:02}.jpg", picture(number), quality=80)
    data = data_file(folder)
    figures = container_baseline(data)
    assert figures == {"accuracy": 1.0, "auc": 1.0, "majority": 0.5, "rows": 32,
                       "fact": "quantisation"}
    assert container_baseline(data, folder) == figures
    assert container_baseline(data, tmp_path) is None, "the files don't exist"
    Path(f"{data}.json").unlink()
    assert container_baseline(data) is None
    assert container_baseline(bad)["majority"] == pytest.approx(4 / 6)


def test_container_baseline_is_fitted_on_the_training_part(tmp_path):
    """The classes swap their qualities in the validation part: all predictions are wrong."""
    folder = tmp_path / "pictures"
    for number in range(40):
        for label, name in enumerate(("real", "fake")):
            save(folder / name / f"{number:02}.jpg", picture(number),
                 quality=90 if label ^ (number >= 20) else 80)
    late = np.array([int(path.rpartition(b"/")[2][:2]) >= 20 for path in scan(folder).paths])
    figures = container_baseline(data_file(folder, parts=late.astype(np.uint8)))
    assert (figures["accuracy"], figures["auc"]) == (0, 0)


@pytest.mark.slow
def test_no_trivial_fact_predicts_the_label_of_sample_data(tmp_path, capsys):
    """Each fact, cross-validated by group, has an AUC of at most 0.6; there are no other warnings.

    800 pictures: chance alone moves an AUC by 0.04."""
    generate(tmp_path / "pictures", 800, 0)
    code, out, _ = audit(capsys, data_file(tmp_path / "pictures", "80/20"), "--strict",
                         "--json", tmp_path / "a.json")
    sections = json.loads((tmp_path / "a.json").read_text())["sections"]
    aucs = {record["what"]: record["figures"]["auc"]
            for records in sections.values() for record in records
            if "values" in (record["figures"] or {})}
    assert len(aucs) == len(findings.TITLES) + 1
    assert max(aucs.values()) <= 0.6, {name: auc for name, auc in aucs.items() if auc > 0.55}
    assert code == 0, out
