"""One verdict for a video from those of its frames, and a plot of the frames over time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import whole
from hpc_deepfake.core.text import printable

_SIZE = (8, 3)  # inches
_LINE, _COLUMNS = 0.13, 120  # of remarks: height in inches, characters
_BELOW, _ABOVE, _BETWEEN = "#1b6ca8", "#c8553d", "#8a8a8a"


def verdict(probabilities: Sequence[float]) -> float:
    """Probability of "tampered" of a video: the mean of its frames'.

    A single outlier among ten frames moves the mean by a tenth at most, whereas a maximum would
    follow it; and unlike a vote, the mean uses how certain each frame is. A video of which only a
    small part was altered gets a low probability: that part shows in the plot.

    Raises:
        ValueError: no frames.
    """
    if not probabilities:
        raise ValueError("a verdict needs at least one frame")
    return float(sum(probabilities) / len(probabilities))


def plot(seconds: Sequence[float], probabilities: Sequence[float], threshold: float,
         path: str | os.PathLike[str], title: str, remarks: Sequence[str] = (),
         lower: float | None = None) -> None:
    """Draw the frames' probabilities over time, with the video's mean and the thresholds.

    Args:
        seconds: of the frames, in order.
        probabilities: of the frames.
        threshold: probability from which a picture is called tampered.
        path: of the plot; its extension determines the format.
        title: usually the video's name.
        remarks: lines below the plot, such as the caveats of the model.
        lower: probability from which to below ``threshold`` a picture is undecided; None: there is
            no such zone.

    Raises:
        InputError: the file can't be written there, or not in that format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(_SIZE, layout="constrained")
    FigureCanvasAgg(figure)  # needs no screen
    axes = figure.subplots()
    mean = verdict(probabilities)

    def colour(probability: float) -> str:
        if probability >= threshold:
            return _ABOVE
        return _BELOW if probability < (threshold if lower is None else lower) else _BETWEEN

    if lower is not None:
        axes.axhspan(lower, threshold, color="grey", alpha=0.12, linewidth=0, label="undecided")
    axes.axhline(threshold, color="grey", linestyle="--", linewidth=1,
                 label=f"threshold {threshold:.1%}")
    axes.axhline(mean, color=colour(mean), linewidth=1, label=f"mean {mean:.1%}")
    axes.plot(seconds, probabilities, color="black", linewidth=0.8, zorder=2)
    axes.scatter(seconds, probabilities, 22, zorder=3, color=[*map(colour, probabilities)])
    axes.set(xlabel="time, s", ylabel="probability of tampered", ylim=(-0.03, 1.03))
    # parse_math=False: a file name is not a formula
    axes.set_title(printable(title), fontsize=10, parse_math=False)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    if remarks:
        lines = [line for remark in remarks for line in wrap(printable(remark), _COLUMNS)]
        figure.set_size_inches(_SIZE[0], _SIZE[1] + _LINE * len(lines))
        figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=8, parse_math=False)
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".") or "png"
    kinds = figure.canvas.get_supported_filetypes()
    if kind not in kinds:
        raise InputError(f"cannot write the plot {path}: its extension must be one of "
                         f"{', '.join(sorted(kinds))}")
    try:
        with whole(path) as temporary:
            temporary.unlink(missing_ok=True)
            with open(temporary, "xb") as file:  # "x" follows no link
                figure.savefig(file, format=kind, dpi=100)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
