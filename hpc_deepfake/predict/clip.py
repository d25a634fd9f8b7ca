"""What the frames of a video say together: one verdict, and a plot over time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import printable

_SIZE = (8, 3)  # inches
_BELOW, _ABOVE = "#1b6ca8", "#c8553d"


def verdict(probabilities: Sequence[float]) -> float:
    """Probability of "tampered" of a clip: the mean of its frames'.

    One odd frame of ten moves it by a tenth at most, which a maximum would not withstand, and it
    uses how sure the frames are, which a vote would not. A clip of which only a small part was
    altered comes out low: that part shows in the plot.

    Raises:
        ValueError: no frames.
    """
    if not probabilities:
        raise ValueError("a verdict needs at least one frame")
    return float(sum(probabilities) / len(probabilities))


def plot(seconds: Sequence[float], probabilities: Sequence[float], threshold: float,
         path: str | os.PathLike, title: str) -> None:
    """Draw the frames' probabilities over time, with the clip's mean and the threshold.

    Args:
        seconds: of the frames, in order. path: of the picture; its ending decides the format.

    Raises:
        InputError: it can't be written there, or not in that format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(_SIZE, layout="constrained")
    FigureCanvasAgg(figure)  # needs no screen
    axes = figure.subplots()
    mean = verdict(probabilities)
    axes.axhline(threshold, color="grey", linestyle="--", linewidth=1,
                 label=f"threshold {threshold:.1%}")
    axes.axhline(mean, color=_ABOVE if mean >= threshold else _BELOW, linewidth=1,
                 label=f"clip {mean:.1%}")
    axes.plot(seconds, probabilities, color="black", linewidth=0.8, zorder=2)
    axes.scatter(seconds, probabilities, 22, zorder=3, color=[
        _ABOVE if one >= threshold else _BELOW for one in probabilities])
    axes.set(xlabel="seconds", ylabel="probability of tampered", ylim=(-0.03, 1.03))
    # a file name is not for Matplotlib's formulas, nor for line ends
    shown = printable(title)
    axes.set_title(shown, fontsize=10, parse_math=False)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".") or "png"
    kinds = figure.canvas.get_supported_filetypes()
    if kind not in kinds:
        raise InputError(f"cannot write {path}: a plot is {', '.join(sorted(kinds))}, by its "
                         "name's ending")
    new = path.with_name(f".{path.name}.new")
    try:
        new.unlink(missing_ok=True)
        with open(new, "xb") as file:  # "x" follows no link
            figure.savefig(file, format=kind, dpi=100)
        os.replace(new, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
