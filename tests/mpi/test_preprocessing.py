"""Preprocessing under mpirun: the same bytes with any number of ranks, and after any failure."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from conftest import run_program, start_program
from data_files import seal
from speed import limit

from preprocessing import facts
from preprocessing.ela import Parameters, features_of_file
from preprocessing.store import DONE, PENDING, REJECTED, checksum, open_header

pytestmark = pytest.mark.mpi
HERE = Path(__file__).parent
HELPERS = {"PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), str(HERE.parent.parent),
                                                       os.environ.get("PYTHONPATH"))))}


def preprocess(*options: str | os.PathLike, ranks: int = 2, cwd: Path, code: int | None = 0,
               module: str = "preprocessing") -> subprocess.CompletedProcess[str]:
    done = run_program(module, *options, ranks=ranks, cwd=cwd, env=HELPERS, timeout=120)
    if code is not None:
        assert done.returncode == code, done.stdout + done.stderr
    return done


def output(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def error_lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in output(done).splitlines() if re.search(r"\berror\b.*:", line)]


@pytest.fixture(scope="module")
def reference(pictures, tmp_path_factory) -> bytes:
    """The data file of ``pictures``, from one process without mpirun."""
    folder = tmp_path_factory.mktemp("reference")
    preprocess("--data", pictures, "--out", "x.h5", ranks=0, cwd=folder)
    return (folder / "x.h5").read_bytes()


def few(pictures: Path, folder: Path, count: int) -> Path:
    """A copy of the first ``count`` pictures, half of each class."""
    for name in ("Au", "Tp"):
        (folder / name).mkdir(parents=True)
        for file in sorted((pictures / name).iterdir())[:(count + (name == "Au")) // 2]:
            shutil.copy(file, folder / name)
    return folder


@pytest.mark.parametrize(("ranks", "writer"), [
    (1, "hdf5"), (2, "mpi-io"), (3, "hdf5"), (4, "mpi-io")])
def test_any_number_of_ranks_and_both_writers_give_the_same_bytes(
        pictures, reference, tmp_path, ranks, writer):
    done = preprocess("--data", pictures, "--out", "x.h5", "--writer", writer, ranks=ranks,
                      cwd=tmp_path)
    assert (tmp_path / "x.h5").read_bytes() == reference
    assert {"hdf5": "parallel HDF5", "mpi-io": "MPI-IO"}[writer] in done.stdout
    assert done.stdout.count("images/s") == 1, "one table, from rank 0"
    made = json.loads((tmp_path / "x.h5.json").read_text())
    assert (made["ranks"], made["images"], made["rejected"]) == (ranks, 60, 0)
    assert re.search(r"^masks +30$", done.stdout, re.MULTILINE) and made["unknown_masks"] == 0
    assert len(made["seconds"]["by_rank"]) == ranks


def test_rows_are_the_features_of_their_pictures(pictures, reference, tmp_path):
    """Every row: status, checksum, label, facts, and both features of the file at its path, with
    its mask: cells of 3×2 pixels for a picture of 384×256."""
    (tmp_path / "x.h5").write_bytes(reference)
    header = open_header(tmp_path / "x.h5")
    assert (header.array("status") == DONE).all()
    for row in range(header.rows):
        path = header.array("path")[row].decode()
        expected = features_of_file(pictures / path, header.features, Parameters())
        stored = [header.array(name)[row] for name in header.summed]
        assert all(np.array_equal(*pair) for pair in zip(stored, expected, strict=False))
        changed = np.zeros((256, 384), bool)
        if path.startswith("Tp/"):
            name = path[3:].rpartition(".")[0]
            changed = cv2.imread(os.fspath(pictures / f"Gt/{name}_gt.png"), 0) > 0
        if changed.shape == (256, 384):
            share = changed.reshape(128, 2, 128, 3).mean((1, 3))
            assert np.array_equal(stored[2], share >= 0.5)
            assert stored[2].any() == path.startswith("Tp/")
        assert header.array("crc32")[row] == checksum(stored)
        assert header.array("label")[row] == path.startswith("Tp/")
        data = (pictures / path).read_bytes()
        assert facts.stored(header, np.array([row])) == [facts.of(data)] != [facts.Facts()]
        assert header.array("digest")[row].tobytes() == facts.digest(data)


def test_a_file_of_an_earlier_version_is_completed(pictures, reference, tmp_path):
    """It has no columns for facts of pictures, and no masks."""
    file = tmp_path / "x.h5"
    file.write_bytes(reference)
    with h5py.File(file, "r+", locking=False) as stored:
        for name in (*facts.COLUMNS, "mask"):
            del stored[name]
        del stored.attrs["masks"]
        stored["status"][20:40] = PENDING
        stored["raw"][20:40] = 0
    seal(file)
    done = preprocess("--data", pictures, "--out", "x.h5", ranks=0, cwd=tmp_path)
    assert "x.h5 has no masks, and is completed without the" in done.stderr
    assert re.search(r"images +20 ", done.stdout)
    (tmp_path / "whole.h5").write_bytes(reference)
    made, whole = open_header(file), open_header(tmp_path / "whole.h5")
    assert not made.has_facts and whole.has_facts and whole.has_masks and not made.has_masks
    assert all(np.array_equal(made.array(name), whole.array(name)) for name in made.offsets
               if name != "crc32")


def test_fewer_images_than_ranks_and_ranks_without_work(pictures, tmp_path):
    """And in another size than the usual one."""
    data = few(pictures, tmp_path / "data", 3)
    preprocess("--data", data, "--out", "one.h5", "--size", "96", ranks=0, cwd=tmp_path)
    expected = (tmp_path / "one.h5").read_bytes()
    assert open_header(tmp_path / "one.h5").shapes["raw"] == (3, 96, 96, 3)
    for writer in ("hdf5", "mpi-io"):
        preprocess("--data", data, "--out", f"{writer}.h5", "--writer", writer, "--size", "96",
                   ranks=4, cwd=tmp_path)
        assert (tmp_path / f"{writer}.h5").read_bytes() == expected


def test_a_file_killed_at_many_points_ends_with_the_same_bytes(pictures, reference, tmp_path):
    """kill -9 of one rank at every stage of a block, one after another on the same file."""
    def run(*faults: str, ranks: int = 2, code: int | None = None, writer: str = "hdf5"):
        return preprocess(*faults, "--", "--data", pictures, "--out", "x.h5", "--writer", writer,
                          ranks=ranks, cwd=tmp_path, module="faulty", code=code)

    file = tmp_path / "x.h5"
    before = 0
    # one rank dies; the other waits, so that it does not finish before mpirun ends it
    for fault, other, writer in (
            ("1:features:4", "0:hold:13", "hdf5"), ("0:torn:3", "1:hold:3", "hdf5"),  # masks
            ("1:torn:90", "0:hold:3", "mpi-io"),  # a checksum; 88 writes of rows before it
            ("1:status:5", "0:hold:3", "hdf5"), ("0:sync:2", "1:hold:3", "hdf5"),
            ("0:crc32:3", "1:hold:3", "mpi-io")):
        died = run(fault, other, writer=writer)
        assert died.returncode != 0, f"{fault} did not happen: {output(died)}"
        status = open_header(file).array("status")
        assert set(np.unique(status).tolist()) <= {PENDING, DONE}
        done = int((status == DONE).sum())
        assert before <= done < 60, f"{fault}: {done} done after {before}"
        before = done
    assert before > 10, "the killed runs did some of the work"
    assert file.read_bytes() != reference
    # after the rows, before the reports; the first one takes over from the killed run
    assert run("0:replace:2", ranks=3).returncode != 0
    assert file.read_bytes() == reference
    record = Path(f"{file}.json")
    assert not record.exists()
    for damage in (None, "", '{"images": 6'):  # then it is written again
        if damage is not None:
            record.write_text(damage)
        final = run(code=0)
        assert "nothing left to do" in final.stdout
        assert json.loads(record.read_text())["images"] == 0
    assert file.read_bytes() == reference


def test_all_ranks_killed_in_the_middle(pictures, reference, tmp_path, kill):
    """Both ranks are in the middle of their rows when all of the job dies at once."""
    started = start_program("faulty", "*:hold:25", "--", "--data", pictures, "--out", "x.h5",
                            ranks=2, cwd=tmp_path, env=HELPERS)
    until = time.monotonic() + limit(60)
    while not all((tmp_path / f"held.{rank}").exists() for rank in range(2)):
        assert started.poll() is None, started.communicate()
        assert time.monotonic() < until, "the ranks never reached that point"
        time.sleep(0.02)
    kill(started)
    done = int((open_header(tmp_path / "x.h5").array("status") == DONE).sum())
    assert 0 < done < 50
    resumed = preprocess("--data", pictures, "--out", "x.h5", ranks=3, cwd=tmp_path)
    assert re.search(rf"images +{60 - done} ", resumed.stdout), "only what was left"
    assert re.search(rf"done before +{done} +checksums correct", resumed.stdout)
    assert (tmp_path / "x.h5").read_bytes() == reference


@pytest.mark.parametrize("signalled", [("*:signal:5",), ("1:signal:5", "0:signal:1000")])
def test_a_signal_stops_it_in_order_and_the_command_resumes(pictures, reference, tmp_path,
                                                            signalled):
    """Signalled ranks, all or one, skip the blocks not begun; exit code 75; nothing is lost."""
    stopped = preprocess(*signalled, "--", "--data", pictures, "--out", "x.h5", cwd=tmp_path,
                         module="faulty", code=75)
    status = open_header(tmp_path / "x.h5").array("status")
    done = int((status == DONE).sum())
    assert 5 <= done < 60 and set(np.unique(status).tolist()) == {PENDING, DONE}
    assert f"stopped by a signal; {60 - done} images left" in stopped.stdout
    resumed = preprocess("--data", pictures, "--out", "x.h5", ranks=3, cwd=tmp_path)
    assert re.search(rf"done before +{done} +checksums correct", resumed.stdout)
    assert (tmp_path / "x.h5").read_bytes() == reference


def test_killed_as_soon_as_the_file_exists(pictures, reference, tmp_path, kill):
    """The plain program, killed at any point after its file appears."""
    started = start_program("preprocessing", "--data", pictures, "--out", "x.h5", ranks=2,
                            cwd=tmp_path)
    while not list(tmp_path.glob("*x.h5*")):
        assert started.poll() is None, started.communicate()
        time.sleep(0.001)
    kill(started)
    preprocess("--data", pictures, "--out", "x.h5", cwd=tmp_path)
    assert (tmp_path / "x.h5").read_bytes() == reference


def test_only_damaged_rows_are_repaired(pictures, reference, tmp_path):
    file = tmp_path / "x.h5"
    file.write_bytes(reference)
    header = open_header(file)
    header.array("ela", "r+")[7, 64, 64, 1] ^= 0x10
    header.array("raw", "r+")[59, 0, 0, 0] ^= 1
    header.array("crc32", "r+")[30] ^= 1
    header.array("mask", "r+")[45, 3, 9] ^= 1
    done = preprocess("--data", pictures, "--out", "x.h5", cwd=tmp_path)
    assert re.search(r"repaired +4 ", done.stdout)
    assert re.search(r"images +4 ", done.stdout)
    assert file.read_bytes() == reference


def test_another_list_or_other_parameters_for_the_same_file_are_rejected(pictures, tmp_path):
    data = few(pictures, tmp_path / "data", 4)
    preprocess("--data", data, "--out", "x.h5", ranks=0, cwd=tmp_path)
    before = (tmp_path / "x.h5").read_bytes()
    refused = preprocess("--data", data, "--out", "x.h5", "--quality", "80", "--seed", "3",
                         "--size", "64", cwd=tmp_path, code=2)
    assert len(error_lines(refused)) == 1
    assert ("differs in: ELA parameters (--quality 90 --size 128 in the file, --quality 80 --size "
            "64 now), seed. Choose another --out") in refused.stderr
    shutil.copy(data / "Au" / sorted(os.listdir(data / "Au"))[0], data / "Au" / "more.jpg")
    refused = preprocess("--data", data, "--out", "x.h5", ranks=0, cwd=tmp_path, code=2)
    assert "list of pictures (1 only in the list: Au/more.jpg). Choose" in refused.stderr
    (data / "Au" / "more.jpg").unlink()
    shutil.copytree(pictures / "Gt", data / "Gt")
    more = preprocess("--data", data, "--out", "x.h5", ranks=0, cwd=tmp_path)
    assert "x.h5 has no masks, and is completed without the" in more.stderr
    assert (tmp_path / "x.h5").read_bytes() == before


def test_folders_as_they_come_at_any_number_of_ranks(pictures, tmp_path):
    """An author's train and test folders, a copy under another name, a mask: the same bytes from
    one process and three ranks, which look for copies together; --split replaces that split."""
    for part, first in (("train", 0), ("test", 12)):
        for label, folder in (("real", "Au"), ("fake", "Tp")):
            (tmp_path / "data" / part / label).mkdir(parents=True)
            for at, name in enumerate(sorted(os.listdir(pictures / folder))[first:first + 6]):
                shutil.copy(pictures / folder / name,
                            tmp_path / "data" / part / label / f"{label}{at}.jpg")
    data = tmp_path / "data"
    shutil.copy(data / "train/real/real3.jpg", data / "train/real/holiday.jpg")
    shutil.copy(data / "train/real/real4.jpg", data / "test/real/again.jpg")
    (data / "test/fake/fake1_mask.png").write_bytes(b"")
    alone = preprocess("--data", data, "--out", "1.h5", ranks=0, cwd=tmp_path)
    many = preprocess("--data", data, "--out", "3.h5", ranks=3, cwd=tmp_path)
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "3.h5").read_bytes()
    for done in (alone, many):
        assert "author's split, by folder: 13 train, 13 test" in \
            done.stderr
        assert "1 group of common source is in several parts" in done.stderr
        assert "4 files in 2 sets of the same bytes" in done.stderr
        assert "ela, raw and 1 mask on" in done.stdout
        assert "no validation part, which selects the best epoch, so it is taken from" in \
            done.stderr
        assert "groups: 22 images in 22 groups by name, 4 images in 2 groups by equal bytes" in \
            done.stdout
    header = open_header(tmp_path / "3.h5")
    assert header.attributes["split"] == "author's train/test, rest 80/20"
    paths = header.array("path").tolist()
    part = dict(zip(paths, header.array("split").tolist(), strict=True))
    group = dict(zip(paths, header.array("group").tolist(), strict=True))
    assert {path for path in paths if path.startswith(b"test/")} == {
        path for path in paths if part[path] == 2}
    assert 2 <= list(part.values()).count(1) <= 4
    assert group[b"train/real/holiday.jpg"] == group[b"train/real/real3.jpg"]
    assert part[b"train/real/holiday.jpg"] == part[b"train/real/real3.jpg"]
    other = preprocess("--data", data, "--out", "s.h5", "--split", "70/10/20", "--group-by", "name",
                       ranks=0, cwd=tmp_path)
    assert "the split 70/10/20 replaces the author's" in other.stderr
    assert "same bytes" not in other.stderr
    assert open_header(tmp_path / "s.h5").attributes["split"] == "70/10/20"


def test_rejected_pictures(pictures, tmp_path):
    """Reasons are listed and kept on a resume, and a repaired picture is included; likewise of a
    mask, whose picture is used."""
    clean = few(pictures, tmp_path / "clean", 10)
    shutil.copytree(pictures / "Gt", clean / "Gt")
    data = tmp_path / "data"
    shutil.copytree(clean, data)
    names = [f"{folder}/{name}" for folder in ("Au", "Tp")
             for name in sorted(os.listdir(data / folder))]
    cut, text, pipe, wrong = names[1], names[4], names[6], names[9]
    (data / cut).write_bytes((clean / cut).read_bytes()[:5000])
    (data / text).write_text("no picture")
    (data / pipe).unlink()
    os.mkfifo(data / pipe)
    (data / wrong).write_bytes(b"")
    mask = f"Gt/{Path(names[7]).stem}_gt.png"
    (data / mask).write_bytes(b"")

    def reasons(report: str = "rejects") -> dict[str, str]:
        with open(tmp_path / f"x.h5.{report}.csv", encoding="utf-8", newline="") as file:
            head, *rows = csv.reader(file)
        assert head == ["path", *["mask"] * (report == "masks"), "reason"]
        return {path: reason for path, *_, reason in rows}

    command = ("--data", data, "--out", "x.h5")
    done = preprocess(*command, cwd=tmp_path, code=2)
    assert len(error_lines(done)) == 1
    assert "4 pictures rejected, more than --max-rejects 1% allows (0)" in done.stderr
    first = reasons()
    assert list(first) == [cut, text, pipe, wrong]
    assert "runcated" in first[cut]
    assert first[text] == "text, neither a picture nor a video"
    assert first[pipe].startswith("not a regular file, but a named pipe: save")
    assert first[wrong] == "empty file: copy or download it again"
    header = open_header(tmp_path / "x.h5")
    status = header.array("status").copy()
    assert (status == DONE).sum() == 6 and (status == REJECTED).sum() == 4
    for name in ("ela", "raw", "digest", "width"):  # nothing of the rows before
        assert (header.array(name).reshape(10, -1).any(1) == (status == DONE)).all(), name
    assert reasons("masks") == {names[7]: "empty file: copy or download it again"}
    assert re.search(r"^masks +2 +1 can't be used$", done.stdout, re.MULTILINE)
    stored = open_header(tmp_path / "x.h5").array("mask")
    assert [(stored[row] == 255).all() for row in (0, 5, 6, 7, 8)] == [
        False, False, True, True, False]

    again = preprocess(*command, "--max-rejects", "40%", ranks=3, cwd=tmp_path, code=0)
    assert reasons() == first, "reasons are kept on a resume"
    assert re.search(r"images +0 ", again.stdout) and list(reasons("masks")) == [names[7]]
    refused = preprocess(*command, "--max-rejects", "3", ranks=0, cwd=tmp_path, code=2)
    assert "more than --max-rejects 3 allows (3)" in refused.stderr

    for name in (cut, text, pipe, wrong, mask):
        (data / name).unlink()
        shutil.copy(clean / name, data / name)
    done = preprocess(*command, cwd=tmp_path)
    assert re.search(r"images +5 ", done.stdout)
    assert reasons() == reasons("masks") == {}
    preprocess("--data", clean, "--out", "y.h5", ranks=0, cwd=tmp_path)
    assert (tmp_path / "x.h5").read_bytes() == (tmp_path / "y.h5").read_bytes()


def test_no_data_is_one_message_from_rank_0_with_a_line_to_paste(tmp_path):
    done = run_program("preprocessing", ranks=3, cwd=tmp_path, timeout=60,
                       env={"HPC_DEEPFAKE_DATA": ""})
    assert done.returncode == 2
    assert len(error_lines(done)) == 1
    assert "there is no folder of pictures 'data'" in done.stderr
    assert "\n  hpc-deepfake sample --out data/sample\n" in done.stderr
    assert "Traceback" not in output(done)
    assert list(tmp_path.iterdir()) == []


def test_help_prints_once(tmp_path):
    done = preprocess("--help", ranks=3, cwd=tmp_path)
    assert done.stdout.count("usage:") == 1
    assert done.stdout.count("exit codes: 0 done; 2 wrong usage") == 1


def test_config_file(pictures, tmp_path):
    """Its keys are taken, the command line wins; a bad key is one message from rank 0."""
    data = few(pictures, tmp_path / "data", 2)
    config = tmp_path / "run.toml"
    config.write_text(f'data = "{data}"\nout = "from-file.h5"\nfeatures = ["ela"]\nquality = 80\n')
    preprocess("--config", config, "--quality", "70", ranks=0, cwd=tmp_path)
    header = open_header(tmp_path / "from-file.h5")
    assert header.features == ("ela",) and header.parameters.quality == 70
    config.write_text("qualty = 80\n")
    done = preprocess("--config", config, cwd=tmp_path, code=2)
    assert len(error_lines(done)) == 1
    assert "unknown option 'qualty'; valid options: authentic, crop, data, " in done.stderr


def test_names_that_are_not_utf_8_are_kept_everywhere(pictures, tmp_path):
    """In the file, the list of rejected pictures and the notes on the screen."""
    data = few(pictures, tmp_path / "data", 2)
    for folder, name in ((b"Au", b"caf\xe9.jpg"), (b"Tp", b"caf\xe9.jpg"),
                         (b"Tp", b"Au_ani_00001.jpg"), (b"Au", b"x.\xff")):
        with open(os.path.join(os.fsencode(data), folder, name), "wb") as file:
            file.write(b"no picture")
    os.mkdir(os.path.join(os.fsencode(data), b"mask\xff"))
    done = preprocess("--data", data, "--out", "x.h5", "--max-rejects", "9", cwd=tmp_path)
    assert "left out mask\\udcff" in done.stderr
    listed = (tmp_path / "x.h5.rejects.csv").read_text(encoding="utf-8")
    assert 'Au/caf\\xe9.jpg,"text, neither a picture nor a video"' in listed
    assert b"Au/caf%E9.jpg" in open_header(tmp_path / "x.h5").array("path").tolist()


def test_pair_of_data_sets(pictures, tmp_path):
    """The mixed protocol: rows come from two roots."""
    one, two = few(pictures, tmp_path / "one", 4), few(pictures, tmp_path / "two", 6)
    preprocess("--authentic", one, "--tampered", two, "--out", "x.h5", cwd=tmp_path)
    header = open_header(tmp_path / "x.h5")
    assert header.array("label").tolist() == [0, 0, 1, 1, 1]
    assert (header.array("status") == DONE).all()
    refused = preprocess("--authentic", one, "--out", "y.h5", ranks=0, cwd=tmp_path, code=2)
    assert "--authentic and --tampered go together" in refused.stderr


def test_places_that_cannot_be_written(pictures, tmp_path):
    """A read-only folder and a read-only file: exit 2 with one message, no traceback."""
    data = few(pictures, tmp_path / "data", 2)
    preprocess("--data", data, "--out", "done.h5", ranks=0, cwd=tmp_path)
    (tmp_path / "done.h5").chmod(0o444)
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked").chmod(0o555)
    drop = []
    if os.geteuid() == 0:  # root may write anywhere, unless it drops that capability
        drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
        if shutil.which("setpriv") is None or subprocess.run(
                [*drop, "touch", tmp_path / "locked" / "x"], capture_output=True).returncode == 0:
            pytest.skip("root cannot drop its capability to write anywhere here")
    for out in ("locked/x.h5", "done.h5"):
        done = subprocess.run([*drop, "mpirun", "-np", "2", sys.executable, "-m", "preprocessing",
                               "--data", data, "--out", out], cwd=tmp_path, text=True,
                              capture_output=True, timeout=limit(60))
        assert done.returncode == 2, output(done)
        assert error_lines(done) == [f"error: cannot write {out}: Permission denied; "
                                     "choose another place with --out"]
    done = preprocess("--data", data, "--out", "data", ranks=0, cwd=tmp_path, code=2)
    assert ("--out data is a folder: name the data file to write, like --out data/features.h5"
            in done.stderr)
