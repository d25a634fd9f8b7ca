"""CSV for line-based tools: the same fields back, and no carriage return that isn't a name's."""

from __future__ import annotations

import csv
import io

import pytest

from hpc_deepfake.core import csv_lines

NAMES = ["plain.jpg", "a,b.jpg", 'a"b.jpg', "a\nb.jpg", "a\rb.jpg", "a\r\nb.jpg", "a\r\n", "",
         " a ", "\\udcff.jpg", "ü\u2028x.jpg", "'=1+1.jpg"]


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_read_back(name):
    """Also where Python's writer with ``lineterminator="\\n"`` writes what no reader accepts."""
    out = io.StringIO(newline="")
    lines = csv_lines.writer(out)
    lines.writerow((name, 0.5, "last"))
    lines.writerows([("next", 1, "last")])
    text = out.getvalue()
    assert list(csv.reader(io.StringIO(text, newline=""), strict=True)) == [
        [name, "0.5", "last"], ["next", "1", "last"]]
    assert text.endswith(",last\nnext,1,last\n")
    assert "\r" not in text.replace(name, "")
