"""``hpc-deepfake report``: one run as an HTML page that stands alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.options import Parser

_EXAMPLES = """examples:
  hpc-deepfake report runs/first
  hpc-deepfake report runs/first --part test --out first.html

Training writes the same page at its end. Probabilities that an older run did not note are computed
with its model."""
NAME = "report.html"
MOST_ROWS = 20_000  # of the data file: more would hold up the end of training


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake report", epilog=_EXAMPLES, description=(
        "Write a page about a run: its figures beside trivial baselines, curves, pictures, where "
        "the time went, and how to repeat it."))
    cli.add_argument("run", type=Path, metavar="RUN", help="run directory of training")
    cli.add_argument("--out", type=Path, metavar="FILE", help="the page (default: RUN/report.html)")
    cli.add_argument("--part", choices=("validation", "test", "both"), default="both",
                     help="which part's results; both: as far as there are")
    return cli


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = parser().parse(argv)
    out = options.out or options.run / NAME
    out = out / NAME if out.is_dir() else out
    write(options.run, out, options.part)
    print(f"report: {out}")
    return 0


def write(run: Path, out: Path, part: str = "both", *, model: bool = True,
          most_rows: int | None = None) -> None:
    """Write the page of a run to ``out``, whole or not at all.

    Args:
        part, model, most_rows: as for ``collect``.

    Raises:
        InputError: no run, damaged records, no such part, or ``out`` can't be written.
    """
    from hpc_deepfake.report.collect import collect
    from hpc_deepfake.report.document import document

    text = document(collect(run, part, model=model, most_rows=most_rows), out)
    new = out.with_name(f".new-{out.name}")
    try:
        new.write_text(text, encoding="utf-8")
        os.replace(new, out)
    except OSError as error:
        raise InputError(f"cannot write the report {out}: {error.strerror}; choose another place "
                         "with --out") from None


def write_at_the_end(run: Path) -> str:
    """The page of a run that has just finished, and a line about it; never fails."""
    try:
        write(run, run / NAME, model=False, most_rows=MOST_ROWS)
        return f"report: {run / NAME}"
    except Exception as error:  # the training is done and its files are written
        return (f"note: {NAME} could not be written ({type(error).__name__}: {error}); "
                f"hpc-deepfake report {run} tries again")
