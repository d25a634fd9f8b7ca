"""Training methods side by side: the plan, figures with known answers, and refused input."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from data_files import LABELS, make_data
from pages import Page, check_alone

import hpc_deepfake.audit
from hpc_deepfake import compare, strategies
from hpc_deepfake.compare import command, plan, submitting, tables
from hpc_deepfake.compare.plan import Training, layout
from hpc_deepfake.core import holder
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.data.rows import open_data
from hpc_deepfake.jobs.script import DIALECTS, render
from hpc_deepfake.metrics import mcnemar
from hpc_deepfake.train import planned, predictions

RIGHT = np.where(np.array(LABELS) == 1, 0.9, 0.1)
CONTAINER = {"accuracy": 0.625, "auc": 0.6, "majority": 0.5, "fact": "quantisation", "rows": 4}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(hpc_deepfake.audit, "container_baseline", lambda path: CONTAINER)
    monkeypatch.chdir(tmp_path)
    return make_data(tmp_path / "features.h5")


def arguments(*more: str) -> list[str]:
    """A small comparison of two methods and two features."""
    return ["--data", "features.h5", "--out", "out", "--methods", "sequential,sync", "--epochs",
            "3", "--threads", "2", *more]


def trainings(*more: str) -> list[Training]:
    options = command.parse(arguments(*more))
    return plan.trainings(options, options.out, options.threads)


def finish(training: Training, *, seconds: Sequence[float] = (2, 1, 1),
           accuracy: Sequence[float] = (0.5, 0.7, 0.75), right: np.ndarray = RIGHT,
           host: str = "n1", versions: str = "1", staleness: dict[str, int] | None = None,
           finished: bool = True, **config: object) -> None:
    """Leave the files of a run that took these seconds; each epoch a quarter of it to evaluate."""
    training.path.mkdir(parents=True)
    settings = {**training.settings, "data": str(Path(training.settings["data"]).absolute()),
                **config}
    ranks = [{"host": host, "device": "CPU", "name": "Xeon", "threads": training.layout.threads}
             for _ in range(training.layout.processes)]
    lines = [{"epoch": number, "step": 4 * number, "loss": 2 / number, "val_loss": 3 / number,
              "seconds": {"compute": 0.75 * each, "evaluate": 0.25 * each},
              "val_accuracy": reached, "val_majority": 0.5, "images_per_s": 2 / (0.75 * each),
              **({"staleness": staleness} if staleness else {})}
             for number, (each, reached) in enumerate(zip(seconds, accuracy, strict=True), 1)]
    files = {"config": settings, "environment": {
        "ranks": ranks, "versions": {"keras": versions}, "mpi": "MPI", "git": "abc"},
        "model": {"threshold": 0.5}}
    if finished:
        files["summary"] = {"epochs": len(lines), "steps": 4 * len(lines), "train_rows": 2,
                            "images_per_s": 2.0, "seconds": 0.1 + sum(seconds), "best_epoch": 3,
                            "test": {}}
        predictions.write(training.path, open_data(Path("features.h5"), training.feature),
                          {"validation": np.array([0.1, 0.9]), "test": right})
    for name, content in files.items():
        (training.path / f"{name}.json").write_text(json.dumps(content))
    (training.path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def report(*more: str) -> tuple[dict, Page, str]:
    """JSON, checked page and Markdown of what is finished."""
    assert compare.main(arguments(*more, "--report-only")) == 0
    html = Path("out/compare.html").read_text()
    page = Page(html)
    check_alone(page, html)
    return (json.loads(Path("out/compare.json").read_text()), page,
            Path("out/compare.md").read_text())


# --- plan --------------------------------------------------------------------------------------


def test_repeats_are_outermost_and_every_method_has_the_same_seed(data):
    runs = trainings("--repeats", "2", "--seed", "7", "--features", "raw,ela")
    assert [run.name for run in runs] == [
        f"{name}-r{repeat}" for repeat in (1, 2)
        for name in ("sequential-ela", "sync-ela", "sync-raw")]
    assert [run.seed for run in runs] == [7] * 3 + [8] * 3
    assert runs[0].command("mpirun -np {ranks}", ("python",)) == [
        "python", "-m", "hpc_deepfake.train", *runs[0].arguments]
    assert runs[1].command("srun -n {ranks}", ("python",))[:4] == ["srun", "-n", "2", "python"]
    for run in runs:
        assert run.settings["patience"] == 0 and run.settings["epochs"] == 3
        assert run.settings["resume"] and run.settings["no_report"]
        assert (run.settings["strategy"], run.settings["feature"]) == (run.method, run.feature)


@pytest.mark.parametrize(("method", "options", "expected"), [
    ("sequential", {}, (1, 1, 0, 6, 8, 8)),
    ("sequential", {"same_batch": True}, (1, 1, 0, 6, 24, 24)),
    ("sequential", {"nodes": 2}, (1, 1, 0, 4, 8, 8)),
    ("sync", {}, (3, 3, 0, 2, 8, 24)),
    ("sync", {"same_batch": True}, (3, 3, 0, 2, 8, 24)),
    ("async", {}, (4, 3, 1, 2, 8, 8)),
    ("async", {"servers": 2}, (5, 3, 2, 2, 8, 8)),
    ("async", {"within": True}, (3, 2, 1, 2, 8, 8)),
    ("async", {"same_batch": True}, (4, 3, 1, 2, 24, 24)),
    ("local-sgd", {"same_batch": True}, (3, 3, 0, 2, 8, 8)),
    ("hybrid", {"same_batch": True}, (3, 3, 0, 2, 8, 24)),
    ("mesh", {}, (3, 3, 0, 2, 8, None)),
])
def test_every_method_has_the_same_hardware(method, options, expected):
    """Three ranks with two threads and batches of eight."""
    ranks = layout(method, 3, 2, 8, **options)
    assert (ranks.processes, ranks.computing, ranks.servers, ranks.threads, ranks.batch,
            ranks.rows) == expected


def test_servers_within_must_leave_a_worker():
    with pytest.raises(InputError, match="with 1 rank and 1 server, async has no rank left"):
        layout("async", 1, 1, 8, within=True)


def test_options_of_one_method_are_passed_to_it_alone(data):
    options = ["--learning-rate", "0.1", "--mesh", "data=2", "--sync-every=4", "--staleness-rate",
               "--dropout", "0"]
    for method, own in (("mesh", options[2:4]), ("local-sgd", options[4:5]),
                        ("async", options[5:6]), ("sync", [])):
        assert plan._for_method(method, options) == [*options[:2], *own, *options[6:]]
    runs = trainings("--", "--learning-rate", "0.1", "--accumulate", "2", "--device", "cpu")
    assert all(run.settings["learning_rate"] == 0.1 and run.settings["device"] == "cpu"
               for run in runs)
    assert [run.layout.rows for run in runs[:2]] == [64, 128]


@pytest.mark.parametrize(("more", "message"), [
    (["--methods", "sync,best"], "unknown method 'best'; choose from sequential"),
    (["--methods", "sync,sync"], "--methods sync,sync: a name is given twice"),
    (["--features", "ela,hsv"], "no feature 'hsv'; it has ela, raw"),
    (["--networks", "meso4,meso4"], "meso4 is given twice, or two files have the same name"),
    (["--networks", "a/mine.py:build,b/mine.py:build"], "two files have the same name"),
    (["--", "--network", "meso4"], "--network after -- is set by compare itself: use --networks"),
    (["--launcher", "mpirun -np 2"], "give a command that contains {ranks}"),
    (["--", "--epochs", "5"], "--epochs after -- is set by compare itself: use --epochs before"),
    (["--", "--patience=5"], "leave it out, all methods train the same epochs$"),
    (["--report-only"], "no training of this comparison is finished in out"),
])
def test_impossible_options_are_refused(data, more, message):
    with pytest.raises(InputError, match=message):
        compare.main(arguments(*more))
    assert not Path("out").exists()


def test_names_of_a_list_may_be_separated_by_spaces_for_qsub(data):
    assert command.parse(arguments("--features", "raw ela")).features == ["ela", "raw"]
    assert command.parse(arguments("--features", "raw+ela,ela")).features == ["ela", "ela+raw"]
    with pytest.raises(SystemExit):
        command.parse(arguments("--features", "../x"))
    assert command.parser().get_default("methods") == ",".join(
        name for name in strategies.NAMES if name != "mesh")


def test_it_does_not_run_under_mpirun(data, monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    with pytest.raises(InputError, match="run it without mpirun"):
        compare.main(arguments("--plan"))


def test_the_plan_is_printed_with_states_and_nothing_is_written(data, capsys):
    assert compare.main(arguments("--plan")) == 0
    assert not Path("out").exists()
    finish(trainings()[0])
    finish(trainings()[1], finished=False)
    capsys.readouterr()
    assert compare.main(arguments("--plan")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [
        ["done", "sequential-ela-r1"], ["started", "sync-ela-r1"]]
    assert lines[2].startswith("to do    sync-raw-r1") and "mpirun -np 2 python" in lines[2]
    assert lines[3] == "3 trainings, 1 of them done"
    assert not Path("out/begun.json").exists()


def test_next_prints_the_next_unfinished_training_and_finally_nothing(data, capsys):
    for training in trainings():
        assert compare.main(arguments("--next")) == 0
        assert capsys.readouterr().out.splitlines() == [
            training.name, str(training.layout.processes), *training.arguments]
        finish(training)
    assert compare.main(arguments("--next")) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("mode", [[], ["--next"], ["--submit", "slurm"]])
def test_a_folder_that_another_comparison_holds_is_refused(data, monkeypatch, capsys, mode):
    monkeypatch.setattr(holder, "GRACE", 0.0)
    Path("out").mkdir()
    holder.hold(Path("out"), "a comparison", "--out", os.getppid())
    with pytest.raises(InputError, match=f"out is in use by a comparison .pid {os.getppid()} "):
        compare.main(arguments(*mode))
    assert os.listdir("out") == ["in-use.json"]
    assert compare.main(arguments("--plan")) == 0  # reads only
    Path("out/in-use.json").unlink()
    assert compare.main(arguments("--next")) == 0
    assert os.listdir("out") == ["begun.json"]  # given back


def test_the_threads_of_the_first_call_are_kept(data, capsys):
    """On another machine, with other cores, the same command is the same comparison."""
    assert compare.main(arguments("--next")) == 0
    first = capsys.readouterr().out
    without = arguments("--next")
    del without[without.index("--threads"):without.index("--threads") + 2]
    assert compare.main(without) == 0
    assert capsys.readouterr().out == first


def test_the_command_that_resumes_names_the_folder_and_no_mode():
    words = ["--data", "a b", "--submit", "slurm", "--", "--device", "cpu"]
    assert command.command_line(words, Path("runs/x")) == \
        "hpc-deepfake compare --data 'a b' --out runs/x -- --device cpu"
    assert command.command_line(["--out", "o", "--plan"], Path("o"), "--report-only") == \
        "hpc-deepfake compare --out o --report-only"


# --- runs under other conditions ---------------------------------------------------------------


@pytest.mark.parametrize(("config", "shown"), [
    ({"epochs": 5}, "--epochs 5"), ({"learning_rate": 0.5}, "--learning-rate 0.5"),
    ({"threads": 7}, "--threads 7"), ({"patience": 5}, "--patience 5")])
@pytest.mark.parametrize("mode", ["--next", "--plan", "--report-only"])
def test_a_run_with_other_settings_is_refused(data, config, shown, mode):
    finish(trainings()[1], **config)
    with pytest.raises(InputError, match=f"out/sync-ela-r1 holds a run with {shown}, unlike"):
        compare.main(arguments(mode))


def test_settings_without_influence_on_the_result_may_differ(data):
    training = trainings()[0]
    finish(training, stage="/tmp", checkpoint_minutes=1.0)
    assert training.state() == planned.DONE
    config = json.loads((training.path / "config.json").read_text())
    del config["compression"]  # as an older version without it
    (training.path / "config.json").write_text(json.dumps(config))
    assert training.state() == planned.DONE


def test_another_data_file_is_refused(data):
    assert compare.main(arguments("--next")) == 0
    data.unlink()
    make_data(data, seed=6)
    for mode in ("--next", "--plan", "--report-only"):
        with pytest.raises(InputError, match="used another data file than --data"):
            compare.main(arguments(mode))


def test_differences_are_marked_in_note_table_and_sentence(data):
    sequential, sync, raw = trainings()
    finish(sequential)
    finish(sync, host="n2")
    finish(raw, versions="2")
    figures, page, markdown = report()
    assert set(figures["differences"]) == {"hardware", "software"}
    assert figures["differences"]["hardware"] == {
        "Xeon on n1": ["sequential-ela-r1", "sync-raw-r1"], "Xeon on n2": ["sync-ela-r1"]}
    assert {cell["method"] + cell["feature"]: cell["unlike"] for cell in figures["methods"]} == {
        "sequentialela": "", "syncela": "other hardware", "syncraw": "other software"}
    assert [row[-1] for row in page.cells if row[0] == "sync" and len(row) == 8
            and row[-1].startswith("other")] == ["other hardware"]
    assert ["conditions", "same", "other hardware"] in page.cells
    assert "the same hardware in all runs: Xeon on n1, but sync-ela-r1: Xeon on n2" in markdown
    assert "not under the same conditions: other hardware" in markdown
    assert "on the same hardware" not in markdown


def test_other_epochs_are_marked(data):
    """Even though config.json says three."""
    sequential, sync, _ = trainings()
    finish(sequential)
    finish(sync, seconds=(1,) * 5, accuracy=(0.5,) * 5)
    figures, page, _ = report()
    assert figures["differences"]["epochs"] == {"3": ["sequential-ela-r1"], "5": ["sync-ela-r1"]}
    assert ["epochs", "3", "5"] in page.cells
    assert ["conditions", "same", "other epochs"] in page.cells


# --- figures with known answers ----------------------------------------------------------------


def test_times_speed_up_and_target_by_hand(data):
    """Sequential takes 8 and 10 s, sync 4 and 4 s: 2 and 2.5 times as fast."""
    for training, seconds, accuracy in zip(trainings("--repeats", "2"), (
            (4, 2, 2), (2, 1, 1), (1, 1, 1), (4, 3, 3), (2, 1, 1), (1, 1, 1)), (
            (0.6, 0.799, 0.9), (0.6, 0.7, 0.795), (0.1, 0.1, 0.1),
            (0.85, 0.8, 0.7), (0.8, 0.9, 0.9), (0.1, 0.1, 0.1)), strict=True):
        finish(training, seconds=seconds, accuracy=accuracy)
    figures, page, markdown = report("--repeats", "2")
    by_name = {(cell["method"], cell["feature"]): cell for cell in figures["methods"]}
    sequential, sync = by_name["sequential", "ela"], by_name["sync", "ela"]
    assert sequential["seconds"] == {"median": 9, "lowest": 8, "highest": 10}
    assert sync["speedup"] == [2, 2.5] and sequential["speedup"] == [1, 1]
    assert by_name["sync", "raw"]["speedup"] == []  # no sequential run has that feature
    # the lowest best accuracy is 79.5%: raw doesn't count
    assert (figures["target"], figures["target_chosen"]) == (0.79, False)
    assert sequential["seconds_to_target"] == {"median": 5, "lowest": 4, "highest": 6}
    assert sync["seconds_to_target"] == {"median": 3, "lowest": 2, "highest": 4}
    assert ["sync", "3", "2", "4.0 (4.0–4.0)", "3.0 (2.0–4.0)", "2.0 (2.0–2.0)",
            "2.25 (2.00–2.50)", "same"] in page.cells
    assert ["training time, s", "9.0 (8.0–10.0)", "4.0 (4.0–4.0)"] in page.cells
    assert ["sync", "2", "2", "4", "32", "64", "4", "Xeon on n1"] in page.cells
    assert "2.25 (2.00–2.50) times as fast as sequential training on the same hardware" in markdown
    lines = list(csv.DictReader(Path("out/compare.csv").read_text().splitlines()))
    assert [line["run"] for line in lines] == [
        training.name for training in trainings("--repeats", "2")]
    assert [line["speedup"] for line in lines] == ["1.0", "2.0", "", "1.0", "2.5", ""]
    assert {line["state"] for line in lines} == {"done"}


def test_a_chosen_target_may_not_be_reached(data):
    sequential, sync, _ = trainings()
    finish(sequential, accuracy=(0.5, 0.8, 0.8))
    finish(sync, accuracy=(0.5, 0.6, 0.7))
    figures, page, _ = report("--target", "0.8")
    assert (figures["target"], figures["target_chosen"]) == (0.8, True)
    assert [row[4] for row in page.cells if row[0] in ("sequential", "sync") and len(row) == 8][
        :2] == ["3.0", "not reached in 1 of 1"]


def test_a_target_below_the_majority_class_is_called_meaningless(data):
    finish(trainings()[0], accuracy=(0.5, 0.45, 0.4))
    figures, _, markdown = report()
    assert figures["target"] == 0.5 and "the time to it is meaningless" in markdown
    assert figures["missing"] == ["sync-ela-r1", "sync-raw-r1"]
    assert "2 of 3 trainings are not finished: sync" in markdown


def test_interrupted_runs_count_all_their_epochs(data):
    """The summary's seconds are those since the last start."""
    training = trainings()[0]
    finish(training, seconds=(5, 5, 5))
    summary = json.loads((training.path / "summary.json").read_text())
    for seconds, suspicious in ((1.5, False), (60, True)):
        (training.path / "summary.json").write_text(json.dumps({**summary, "seconds": seconds}))
        figures, _, markdown = report()
        assert figures["methods"][0]["seconds"]["median"] == 15
        assert ("its times may be too short" in markdown) == suspicious


def test_accuracies_are_shown_with_both_baselines(data):
    """Eight test pictures, half of them tampered: one classified wrongly with ELA, three on raw."""
    sequential, sync, raw = trainings()
    wrong = RIGHT.copy()
    wrong[[0, 1, 2]] = 1 - wrong[[0, 1, 2]]
    finish(sequential)
    finish(sync, right=np.where(np.arange(8) == 5, 1 - RIGHT, RIGHT))
    finish(raw, right=wrong)
    figures, page, markdown = report()
    cells = {(cell["method"], cell["feature"]): cell for cell in figures["methods"]}
    assert cells["sync", "ela"]["accuracy"]["median"] == 7 / 8
    low, high = cells["sync", "ela"]["intervals"]["accuracy"]
    assert low < 7 / 8 < high == 1
    assert figures["part"] == "test" and figures["majority"] == 0.5
    row = next(row for row in page.cells if row[0] == "sync, ela")
    assert row[1:3] == ["3", "87.5"] and row[4] == "87.5"
    assert ["majority class", "–", "50.0", "–", "50.0", "–", "0.500", "–", "–"] in page.cells
    assert ["container alone", "–", "62.5", "–", "–", "–", "0.600", "–", "–"] in page.cells
    assert ["accuracy", "87.5%", "62.5%"] in page.cells  # with ELA, without
    assert ["container alone", "62.5%", "62.5%"] in page.cells
    # ELA alone is right on rows 0, 1, 2 and raw alone on row 5
    assert figures["mcnemar"] == [{"method": "sync", "features": ["ela", "raw"], "repeat": 1,
                                 "both": 4, "first": 3, "second": 1, "neither": 0, "p": 0.625}]
    assert ["ela against raw", "1", "87.5%", "62.5%", "+25.0", "4", "3", "1", "0",
            "0.625"] in page.cells
    assert "those of one group of common source are not independent" in markdown
    # above each of the original project's tables are the commands of its numbers
    section = markdown[markdown.index("## The original project's tables"):]
    for title, names in (("Training time", ("sequential-ela-r1", "sync-ela-r1")),
                         ("HPC and non-HPC", ("sequential-ela-r1", "sync-ela-r1")),
                         ("with and without ELA", ("sync-ela-r1", "sync-raw-r1"))):
        above = section[:section.index(title)].rpartition("```\n\n**")[0].rpartition("```\n")[2]
        assert [line.split("--run out/")[1].split()[0] for line in above.splitlines()] == \
            list(names)
        assert all("python -m hpc_deepfake.train --strategy" in line
                   for line in above.splitlines())


@pytest.mark.parametrize(("only_first", "only_second", "p"), [
    (0, 0, 1), (1, 0, 1), (6, 0, 0.03125), (10, 10, 1), (5, 15, 0.04138947), (15, 5, 0.04138947),
    (121, 59, 4.43445e-6), (3000, 2000, 1.30023e-45)])
def test_exact_mcnemar(only_first, only_second, p):
    """Known values: 6 to 0 is 2 / 2^6; 5 to 15 as in tables of the binomial distribution; the
    last two from its sums in fractions."""
    assert mcnemar.exact(only_first, only_second) == pytest.approx(p, rel=1e-5, abs=0)


NETWORKS = ["--networks", "meso4,table"]


def test_one_method_trains_every_network_on_every_feature(data, tmp_path):
    """The others train the default one; its runs have the names of before."""
    runs = trainings(*NETWORKS)
    assert [run.name for run in runs] == ["sequential-ela-r1", "sync-ela-r1", "sync-ela-meso4-r1",
                                          "sync-raw-r1", "sync-raw-meso4-r1"]
    assert [run.settings["network"] for run in runs] == ["table", "table", "meso4"] + [
        "table", "meso4"]
    assert "--network" not in runs[1].arguments
    run, = trainings("--networks", "mine.py:build", "--methods", "sync", "--features", "ela")
    assert run.name == "sync-ela-mine.py-build-r1"
    assert run.settings["network"] == f"{tmp_path}/mine.py:build"
    with pytest.raises(SystemExit):
        command.parse(arguments("--networks", "vgg"))


def test_networks_in_the_tables(data):
    """With ELA meso4 classifies rows 0 and 1 wrongly, which the default classifies correctly."""
    wrong = RIGHT.copy()
    wrong[[0, 1]] = 1 - wrong[[0, 1]]
    for training in trainings(*NETWORKS):
        meso4 = training.network == "meso4"
        finish(training, seconds=(1, 1, 1) if meso4 else (2, 1, 1),
               right=wrong if meso4 and training.feature == "ela" else RIGHT)
    figures, page, markdown = report(*NETWORKS)
    assert [(cell["method"], cell["feature"], cell["network"]) for cell in figures["methods"]] == [
        ("sequential", "ela", "table"), ("sync", "ela", "table"), ("sync", "ela", "meso4"),
        ("sync", "raw", "table"), ("sync", "raw", "meso4")]
    assert figures["base_network"] == "table"
    # no sequential run has that network
    assert [cell["speedup"] for cell in figures["methods"]] == [[1], [1], [], [], []]
    assert [row[0] for row in page.cells if len(row) == 8 and row[-1] == "same"] == [
        "sequential, table", "sync, table", "sync, meso4"]
    assert next(row for row in page.cells if row[0] == "sync, ela, meso4")[2] == "75.0"
    # each of two rows is right with the default alone: 2 to 0
    counts = {"both": 6, "first": 2, "second": 0, "neither": 0, "p": 0.5}
    assert figures["mcnemar_networks"][0] == {
        "method": "sync", "feature": "ela", "networks": ["table", "meso4"], "repeat": 1, **counts}
    assert ["table against meso4, ela", "1", "100.0%", "75.0%", "+25.0", "6", "2", "0", "0",
            "0.500"] in page.cells
    assert [(test["network"], test["first"], test["second"]) for test in figures["mcnemar"]] == [
        ("table", 0, 0), ("meso4", 0, 2)]
    assert any(row[0] == "ela against raw, meso4" for row in page.cells)
    assert "sync on raw with meso4 classified 100.0%" in markdown
    lines = list(csv.DictReader(Path("out/compare.csv").read_text().splitlines()))
    assert [line["network"] for line in lines] == ["table", "table", "meso4", "table", "meso4"]
    # the original project's tables: one network
    assert ["accuracy", "100.0%", "100.0%"] in page.cells


def test_staleness_is_summed_over_epochs(data):
    sequential, sync, _ = trainings()
    finish(sequential)
    finish(sync, staleness={"0": 2, "1": 6, "4": 2})  # in each of three epochs
    figures, page, _ = report()
    assert figures["trainings"][1]["staleness"] == {"0": 6, "1": 18, "4": 6}
    assert ["sync-ela-r1", "30", "1.40", "1", "4", "4"] in page.cells
    assert tables.quantile({0: 5, 1: 5}, 0.5) == 0 and tables.quantile({0: 5, 1: 5}, 0.51) == 1


def test_one_method_and_one_feature(data):
    training, = trainings("--methods", "sequential", "--features", "raw")
    finish(training)
    figures, page, _ = report("--methods", "sequential", "--features", "raw")
    assert figures["base_feature"] == "raw" and figures["feature_method"] == "sequential"
    assert "staleness" not in page.sections and len(figures["methods"]) == 1


def test_without_the_data_file_only_figures_that_need_it_are_missing(data):
    finish(trainings()[0])
    data.unlink()
    figures, page, markdown = report()
    assert figures["container"] is None and "Container alone: unknown, there is no" in markdown
    row = next(row for row in page.cells if row[0] == "sequential, ela")
    assert row[2:4] == ["100.0", "unknown"]


def test_predictions_of_other_pictures_are_refused(data):
    training = trainings()[0]
    finish(training)
    file = training.path / "predictions.csv"
    file.write_text(file.read_text().replace("5.jpg", "other.jpg"))
    with pytest.raises(InputError, match="are for other pictures than those of"):
        report()


def test_names_with_markup_are_shown_as_text(data):
    markup = "<script>alert(1)</script>|`\u202e"
    finish(trainings()[0], host=markup, versions="</td>")
    _, page, markdown = report()
    assert "script" not in {tag for tag, _ in page.elements}
    assert "<script>" in page.text() and "\u202e" not in page.text()
    assert "<script>" not in markdown and "\\|\\`" in markdown


# --- jobs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", DIALECTS)
@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_a_job_for_each_unfinished_training(data, monkeypatch, capsys, scheduler, device):
    calls = []
    monkeypatch.setattr(submitting, "submit", lambda options, dialect, name, text, request:
                        calls.append(SimpleNamespace(
                            name=name, script=render(text, dialect, request),
                            request=request)))
    more = ["--submit", scheduler, "--", "--device", device]
    finish(trainings("--", "--device", device)[1])
    assert compare.main(arguments(*more)) == 0
    assert [call.name for call in calls] == [{"cpu": "train_cpu", "gpu": "train_4gpu"}[device]] * 2
    first, second = (call.request for call in calls)
    assert first.variables["RUN"] == "out/sequential-ela-r1"
    assert {"--run", "--resume"}.isdisjoint(first.arguments)
    ranks = {"cpu": "ranks_per_node", "gpu": "gpus_per_node"}[device]
    assert [(getattr(request.portable, ranks), request.portable.cpus_per_rank)
            for request in (first, second)] == [(1, 4), (2, 2)]
    assert "--strategy sequential" in calls[0].script
    assert capsys.readouterr().out.endswith(
        "hpc-deepfake compare --data features.h5 --out out --methods sequential,sync --epochs 3 "
        f"--threads 2 --report-only -- --device {device}\n")
