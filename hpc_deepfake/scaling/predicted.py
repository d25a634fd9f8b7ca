"""What ``hpc-deepfake scaling predict`` predicts for a study, and the files that show it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import write_json
from hpc_deepfake.scaling import model as models
from hpc_deepfake.scaling.charts import Curve, grid, panels, prediction, prediction_picture
from hpc_deepfake.scaling.model import Model, Network
from hpc_deepfake.scaling.reporting import csv_text, markdown, table_html, write_text
from hpc_deepfake.scaling.series import Series
from hpc_deepfake.scaling.tables import Table
from hpc_deepfake.web import html
from hpc_deepfake.web.html import join, paragraph


@dataclass(frozen=True)
class Point:
    """One size.

    Attributes:
        ranks: number of ranks.
        rows: rows of a rank and step.
        measured: images/s; None if it was not run.
        rate: predicted images/s.
        efficiency: predicted, over the smallest size that was run.
        terms: predicted seconds of a step by term.
        fitted: whether the model was fitted to this size.
        low: lower end of the 95% band of ``rate``; None: too few sizes were run.
        high: upper end.
    """

    ranks: int
    rows: float
    measured: float | None
    rate: float
    efficiency: float
    terms: dict[str, float]
    fitted: bool = False
    low: float | None = None
    high: float | None = None

    @property
    def error(self) -> float | None:
        """Relative error of the prediction; None if the size was not run."""
        return None if self.measured is None else self.rate / self.measured - 1


@dataclass(frozen=True)
class Prediction:
    """The prediction of one series.

    Attributes:
        series: the series.
        model: the model fitted to all sizes that were run.
        tested: the sizes that were run, predicted by a model fitted to the smaller ones.
        points: all sizes, predicted by ``model``.
        stop: where scaling stops, and why.
        measured: if the strategy was not run, the series whose computing time was used.
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
        errors = [abs(point.error) for point in self.tested
                  if not point.fitted and point.error is not None]
        return max(errors, default=None)


def sentences(predictions: Sequence[Prediction], net: Network | None, options: Namespace,
              skipped: Sequence[str]) -> list[str]:
    """The result in a few sentences.

    Args:
        predictions: one for each series.
        net: latency and bandwidth by the micro-benchmark, if there is one.
        options: the command's options.
        skipped: names of series with too few sizes.
    """
    lines = []
    for made in predictions:
        name, worst = made.series.name, made.worst
        if made.measured:
            lines.append(f"{name}: {made.stop}. Not run: computing time as measured for "
                         f"{made.measured}, with no communication hidden.")
        elif worst is None:
            lines.append(f"{name}: {made.stop}. No size is left to test the model on; run another "
                         "size, or give fewer --fit-ranks.")
        else:
            fitted = [point.ranks for point in made.tested if point.fitted]
            tested = [point.ranks for point in made.tested if not point.fitted]
            lines.append(f"{name}: {made.stop}. Fitted to {_ranks(fitted)}; largest error on "
                         f"{_ranks(tested)} {worst:.1%}, "
                         + (f"within the bound of {options.bound:.0%}."
                            if worst <= options.bound else
                            f"outside the bound of {options.bound:.0%}: predictions for larger "
                            "sizes are unreliable."))
    lines.append(f"Latency and bandwidth from {net.source}." if net else
                 "No micro-benchmark: the bandwidth is the one that explains the runs and latency "
                 "is assumed to be zero, so predictions for many ranks are too fast. Run "
                 "hpc-deepfake scaling microbench and give its file with --microbench.")
    if skipped:
        lines.append(f"Not modelled, with runs of one size only: {', '.join(skipped)}.")
    return lines


def _ranks(numbers: Sequence[int]) -> str:
    """Such as ``1, 2 and 4 ranks``."""
    listed = " and ".join(filter(None, (", ".join(map(str, numbers[:-1])), str(numbers[-1]))))
    return f"{listed} rank{'s' * (list(numbers) != [1])}"


def tables(predictions: Sequence[Prediction], net: Network | None) -> list[Table]:
    """Test, predictions and coefficients."""
    shown = [Table(
        "Test of the model", ("series", "ranks", "measured images/s", "predicted", "error",
                              "fitted to this size"),
        tuple((made.series.name, str(point.ranks), f"{point.measured:,.1f}", f"{point.rate:,.1f}",
               f"{point.error:+.1%}", "yes" if point.fitted else "no")
              for made in predictions for point in made.tested),
        "Error: predicted over measured images/s, minus one.")]
    for number, made in enumerate(predictions):
        shown.append(Table(
            f"Prediction: {made.series.name}",
            ("ranks", "rows per rank", "images/s", "95% band", "measured", "efficiency",
             "step ms",
             *(f"{name} ms" for name in models.TERMS)),
            tuple((f"{point.ranks:,}", f"{point.rows:,.4g}", f"{point.rate:,.0f}",
                   "–" if point.low is None else f"{point.low:,.0f}–{point.high:,.0f}",
                   "–" if point.measured is None else f"{point.measured:,.0f}",
                   f"{point.efficiency:.1%}", f"{sum(point.terms.values()) * 1e3:,.2f}",
                   *(f"{point.terms[name] * 1e3:,.2f}" for name in models.TERMS))
                  for point in made.points),
            ("By the model fitted to all sizes that were run. Bands, from three numbers of ranks "
             "above 1 on: two standard errors of the fit, by leaving out one size after the other, "
             "and of the sizes around it; what the network does beyond them is not in it."
             ) * (number == 0)))
    shown.append(Table(
        "Coefficients of the model",
        ("series", "computing a row, ms", "fixed, ms", "slowdown per additional rank of a node",
         "γ, time waited for communication over the network's time",
         "input, ms per row", "α of allreduce, µs", "β of allreduce, MB/s"),
        tuple((made.series.name, f"{made.model.per_row * 1e3:.4f}",
               f"{made.model.fixed * 1e3:.3f}", f"{made.model.crowd:.0%}",
               f"{made.model.hidden:.3f}" if net else "–", f"{made.model.waiting * 1e3:.4f}",
               f"{net.allreduce.alpha * 1e6:.2f}" if net else "–",
               f"{net.allreduce.beta / 1e6:,.0f}" if net else
               f"{1 / made.model.hidden / 1e6:,.0f}" if made.model.hidden else "–")
              for made in predictions),
        "Without a micro-benchmark, β is the bandwidth that explains the runs, waiting included."))
    return shown


def write(predictions: Sequence[Prediction], net: Network | None, options: Namespace, out: Path,
          skipped: Sequence[str]) -> list[str]:
    """Write all files, and return the result in a few sentences.

    Args:
        predictions: one for each series.
        net: latency and bandwidth by the micro-benchmark, if there is one.
        options: the command's options.
        out: folder to write to.
        skipped: names of series with too few sizes.

    Raises:
        InputError: the files can't be written there.
    """
    result, shown = sentences(predictions, net, options, skipped), tables(predictions, net)
    title = f"{options.study.resolve().name}: prediction"
    curves: list[Curve] = [
        (made.series, [(point.ranks, point.rate) for point in made.points],
         [(point.ranks, point.measured) for point in made.points],
         [(point.ranks, point.low, point.high) for point in made.points
          if point.low is not None and point.high is not None]) for made in predictions]
    lines = [[made.series.kind, made.series.input, made.series.strategy, point.ranks, point.rows,
              point.rate, point.measured, point.efficiency, *point.terms.values(), point.low,
              point.high]
             for made in predictions for point in made.points]
    columns = ["kind", "input", "strategy", "ranks", "rows_of_a_rank", "images_per_s",
               "measured_images_per_s", "efficiency",
               *(f"{term.replace(' ', '_')}_s" for term in models.TERMS), "low_images_per_s",
               "high_images_per_s"]
    data = {"series": [{"name": made.series.name, "worst_error": made.worst,
                        "bound": options.bound, "stop": made.stop,
                        "tested": [{"ranks": point.ranks, "measured": point.measured,
                                    "predicted": point.rate, "error": point.error,
                                    "fitted_to": point.fitted} for point in made.tested]}
                       for made in predictions]}
    texts = {"predict.html": _page(f"Scaling study {title}", result, shown, curves),
             "predict.md": markdown(title, result, shown), "predict.csv": csv_text(columns, lines)}
    try:
        out.mkdir(parents=True, exist_ok=True)
        prediction_picture(curves, [out / "predict.png", out / "predict.svg"])
        for file, text in texts.items():
            write_text(out / file, text)
        write_json(out / "predict.json", data)
    except OSError as error:
        raise InputError(f"cannot write the prediction in {out}: {error.strerror}; choose another "
                         "place with --out") from None
    return result


def _page(title: str, result: Sequence[str], shown: Sequence[Table],
          curves: Sequence[Curve]) -> str:
    """The HTML document."""
    head = join([html.tag("h1", title),
                 *(paragraph(sentence, class_="answer") for sentence in result)])
    test, *predictions, coefficients = shown
    return html.page(title, head, [
        ("Images per second", grid([prediction(group) for group in panels(curves)])),
        (test.title, table_html(test)), ("Predictions", join(map(table_html, predictions))),
        (coefficients.title, table_html(coefficients))])
