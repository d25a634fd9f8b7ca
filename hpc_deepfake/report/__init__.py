"""``hpc-deepfake report``: a run as an HTML page in a single file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import write_text
from hpc_deepfake.core.options import Parser
from hpc_deepfake.core.outputs import check_file
from hpc_deepfake.core.streams import work_matters

_EXAMPLES = """examples:
  hpc-deepfake report runs/first
  hpc-deepfake report runs/first --part test --out first.html

Training writes the same page at its end. For a run of an older version, which has no
predictions.csv, the probabilities are computed with its model.
exit codes: 0 done; 2 wrong usage or input"""
NAME = "report.html"
MOST_ROWS = 20_000  # of the data file; reading more files would delay the end of training


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake report", epilog=_EXAMPLES, description=(
        "Write a page about a run, for the browser: its figures beside trivial baselines,\n"
        "curves, pictures, where the time went, and the commands that repeat it."))
    cli.add_argument("run", type=Path, metavar="RUN", help="run directory of a training")
    cli.add_argument("--out", type=Path, metavar="FILE",
                     help="page to write, or an existing folder for it "
                          "(default: RUN/report.html)")
    cli.add_argument("--part", choices=("validation", "test", "both"), default="both",
                     help="part whose results to show; both: both, whichever exist")
    return cli


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    work_matters()
    options = parser().parse(argv)
    out = options.out or options.run / NAME
    out = out / NAME if out.is_dir() else out
    check_file("--out", out, "HTML")
    write(options.run, out, options.part)
    print(f"report: {out}", flush=True)
    return 0


def write(run: Path, out: Path, part: str = "both", *, model: bool = True,
          most_rows: int | None = None) -> None:
    """Write the page of a run whole.

    Args:
        run: the run directory.
        out: the page.
        part: as for ``collect``.
        model: as for ``collect``.
        most_rows: as for ``collect``.

    Raises:
        InputError: no run, damaged records, no such part, or ``out`` can't be written.
    """
    from hpc_deepfake.report.collect import collect
    from hpc_deepfake.report.document import document

    text = document(collect(run, part, model=model, most_rows=most_rows), out)
    try:
        write_text(out, text)
    except OSError as error:
        raise InputError(f"cannot write the report {out}: {error.strerror}; choose another place "
                         "with --out") from None


def write_at_the_end(run: Path) -> str:
    """Write the page of a run that has just finished; never fails. Returns a line about it."""
    try:
        write(run, run / NAME, model=False, most_rows=MOST_ROWS)
        return f"report: {run / NAME}"
    except Exception as error:  # the training is done and its files are written
        return (f"note: {NAME} could not be written ({type(error).__name__}: {error}); try again "
                f"with hpc-deepfake report {run}")
