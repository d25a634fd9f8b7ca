"""What ``hpc-deepfake scaling predict`` predicts of a study, and the files that show it."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.scaling import model as models
from hpc_deepfake.scaling.charts import grid, panels, prediction, prediction_picture
from hpc_deepfake.scaling.model import Model, Network
from hpc_deepfake.scaling.reporting import csv_text, markdown, table_html
from hpc_deepfake.scaling.series import Series
from hpc_deepfake.scaling.tables import Table
from hpc_deepfake.web import html
from hpc_deepfake.web.html import join, paragraph


@dataclass(frozen=True)
class Point:
    """One size: images/s as measured (None where it was not run) and as predicted.

    Attributes:
        rows: of a rank and step. terms: predicted seconds of a step. efficiency: predicted, over
        the smallest size that was run. used: whether the model of ``rate`` was fitted to it.
    """

    ranks: int
    rows: float
    measured: float | None
    rate: float
    efficiency: float
    terms: dict[str, float]
    used: bool = False

    @property
    def error(self) -> float | None:
        return None if self.measured is None else self.rate / self.measured - 1


@dataclass(frozen=True)
class Prediction:
    """Of one series.

    Attributes:
        tested: the sizes that were run, by the model fitted to the smaller ones. points: predicted
        by the model fitted to all. stop: the first of them below the wanted efficiency, and why.
        measured: the series whose computing it has, if its strategy was not run.
    """

    series: Series
    model: Model
    tested: tuple[Point, ...]
    points: tuple[Point, ...]
    stop: str
    measured: str = ""

    @property
    def worst(self) -> float | None:
        """Largest relative error at a size that the model was not fitted to."""
        errors = [abs(point.error) for point in self.tested if not point.used]
        return max(errors, default=None)


def sentences(made: Sequence[Prediction], net: Network | None, options: Namespace,
              skipped: Sequence[str]) -> list[str]:
    lines = []
    for one in made:
        if one.measured:
            lines.append(f"{one.series.name}: {one.stop}. It was not run: computing as measured "
                         f"for {one.measured}, none of the communication hidden.")
            continue
        if one.worst is None:
            lines.append(f"{one.series.name}: {one.stop}. No size is left to test the model on; "
                         "run one more, or give fewer --fit-ranks.")
            continue
        good = one.worst <= options.bound
        tested = [point.ranks for point in one.tested if not point.used]
        lines.append(f"{one.series.name}: {one.stop}. Fitted to "
                     f"{_ranks([point.ranks for point in one.tested if point.used])}, wrong "
                     f"by {one.worst:.1%} at most on {_some(tested)}, "
                     + (f"within the bound of {options.bound:.0%}." if good else
                        f"outside the bound of {options.bound:.0%}: don't trust what it says of "
                        "larger sizes."))
    lines.append(f"Latency and bandwidth by {net.source}." if net else
                 "No micro-benchmark: bandwidth is what explains the runs, latency is taken for "
                 "nothing, so large sizes come out too fast. Run hpc-deepfake scaling microbench.")
    if skipped:
        lines.append(f"Not modelled, with runs of one size only: {', '.join(skipped)}.")
    return lines


def _some(numbers: Sequence[int]) -> str:
    return " and ".join(filter(None, (", ".join(map(str, numbers[:-1])), str(numbers[-1]))))


def _ranks(numbers: Sequence[int]) -> str:
    return f"{_some(numbers)} rank{'s' * (list(numbers) != [1])}"


def tables(made: Sequence[Prediction], net: Network | None) -> list[Table]:
    """Test, prediction and coefficients."""
    found = [Table(
        "Test of the model", ("series", "ranks", "measured images/s", "predicted", "error",
                              "the model"),
        tuple((one.series.name, str(point.ranks), f"{point.measured:,.1f}", f"{point.rate:,.1f}",
               f"{point.error:+.1%}", "was fitted to it" if point.used else "had not seen it")
              for one in made for point in one.tested),
        "Error: predicted over measured, less one.")]
    for one in made:
        found.append(Table(
            f"Prediction: {one.series.name}",
            ("ranks", "rows of a rank", "images/s", "measured", "efficiency", "step ms",
             *(f"{name} ms" for name in models.TERMS)),
            tuple((f"{point.ranks:,}", f"{point.rows:,.4g}", f"{point.rate:,.0f}",
                   "–" if point.measured is None else f"{point.measured:,.0f}",
                   f"{point.efficiency:.1%}", f"{sum(point.terms.values()) * 1e3:,.2f}",
                   *(f"{point.terms[name] * 1e3:,.2f}" for name in models.TERMS))
                  for point in one.points),
            "By the model fitted to all sizes that were run." * (one is made[0])))
    found.append(Table(
        "The model's coefficients",
        ("series", "computing a row, ms", "fixed, ms", "slower for each rank of a node",
         "γ, communication waited for over the network's",
         "input, ms a row", "α of allreduce, µs", "β of allreduce, MB/s"),
        tuple((one.series.name, f"{one.model.per_row * 1e3:.4f}", f"{one.model.fixed * 1e3:.3f}",
               f"{one.model.crowd:.0%}", f"{one.model.hidden:.3f}" if net else "–",
               f"{one.model.waiting * 1e3:.4f}",
               f"{net.allreduce.alpha * 1e6:.2f}" if net else "–",
               f"{net.allreduce.beta / 1e6:,.0f}" if net else
               f"{1 / one.model.hidden / 1e6:,.0f}" if one.model.hidden else "–")
              for one in made),
        "Without a micro-benchmark β is that which explains the runs, waiting included."))
    return found


def write(made: Sequence[Prediction], net: Network | None, options: Namespace, out: Path,
          skipped: Sequence[str]) -> list[str]:
    """Write all files, each whole or not at all; returns what there is to say in short.

    Raises:
        InputError: they can't be written there.
    """
    said, shown = sentences(made, net, options, skipped), tables(made, net)
    name = options.study.resolve().name
    text = markdown(f"{name}: prediction", said, shown)
    head = join([html.tag("h1", f"Scaling study {name}: prediction"),
                 *(paragraph(one, class_="answer") for one in said)])
    curves = [(one.series, [(point.ranks, point.rate) for point in one.points],
               [(point.ranks, point.measured) for point in one.points]) for one in made]
    sections = [("Images per second", grid([prediction(group) for group in panels(curves)]))]
    first, *each, last = shown
    sections += [(first.title, table_html(first)), ("Predictions", join(map(table_html, each))),
                 (last.title, table_html(last))]
    lines = [[one.series.kind, one.series.input, one.series.strategy, point.ranks, point.rows,
              point.rate, point.measured, point.efficiency, *point.terms.values()]
             for one in made for point in one.points]
    columns = ["kind", "input", "strategy", "ranks", "rows_of_a_rank", "images_per_s",
               "measured_images_per_s", "efficiency",
               *(f"{term.replace(' ', '_')}_s" for term in models.TERMS)]
    result = {"series": [{"name": one.series.name, "worst_error": one.worst,
                          "bound": options.bound, "stop": one.stop,
                          "tested": [{"ranks": point.ranks, "measured": point.measured,
                                      "predicted": point.rate, "error": point.error,
                                      "fitted_to": point.used} for point in one.tested]}
                         for one in made]}
    try:
        out.mkdir(parents=True, exist_ok=True)
        pictures = [out / ".new-predict.png", out / ".new-predict.svg"]
        prediction_picture(curves, pictures)
        for one in pictures:
            os.replace(one, out / one.name.removeprefix(".new-"))
        for file, content in (
                ("predict.html", html.page(f"Scaling study {name}: prediction", head, sections)),
                ("predict.md", text), ("predict.csv", csv_text(columns, lines)),
                ("predict.json", json.dumps(result, indent=1) + "\n")):
            new = out / f".new-{file}"
            new.write_text(content, encoding="utf-8", errors="backslashreplace", newline="")
            os.replace(new, out / file)
    except OSError as error:
        raise InputError(f"cannot write the prediction in {out}: {error.strerror}; choose another "
                         "place with --out") from None
    return said
