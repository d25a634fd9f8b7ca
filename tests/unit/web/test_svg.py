"""Charts as SVG."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from hpc_deepfake.web.charts import staleness, whole_ticks
from hpc_deepfake.web.svg import Chart, figure, ticks


@pytest.mark.parametrize(("low", "high", "expected"), [
    (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 10, [0, 2, 4, 6, 8, 10]), (3, 3, [3]),
    (0, 7, [0, 2, 4, 6]), (1, 12, [5, 10]), (0.4, 1, [0.4, 0.6, 0.8, 1]),
    (0.13, 0.17, [0.13, 0.14, 0.15, 0.16, 0.17]), (-1e6, 1e6, [-1e6, -5e5, 0, 5e5, 1e6])])
def test_ticks_are_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def chart() -> Chart:
    return Chart("a < b", (0, 10), (0, 1), "epoch", "share")


def paths(drawn: Chart) -> list[str]:
    """The lines and dots of a chart."""
    return re.findall(r'<path class="line [^>]*>|<circle[^>]*>', drawn.svg())


def test_the_chart_is_well_formed_and_has_a_text_alternative() -> None:
    drawn = chart()
    drawn.line([(0, 0.5), (10, 1)], "blue dashed")
    drawn.bar(1, 2, 0, 0.5, "grey", "title & text")
    drawn.dot(3, 0.2, "orange", "a dot")
    root = ElementTree.fromstring(drawn.svg())
    assert root.attrib["aria-label"] == "a < b" and root.attrib["role"] == "img"
    assert {element.text for element in root.iter("title")} == {"title & text", "a dot"}
    html = figure("title", drawn, [("blue dashed", "loss"), ("bar grey", "rows")], "caption")
    assert html.count("<li>") == 2 and "<b>title</b> caption" in html


def test_a_line_is_interrupted_where_a_point_is_missing() -> None:
    """A lone point between two gaps is a dot."""
    drawn = chart()
    drawn.line([(0, 0.1), (1, 0.2), (2, None), (3, 0.3), (4, float("nan")), (5, 0.4), (6, 0.5)],
               "blue")
    drawn.across(None, "grey")
    drawn.dot(None, 0.5, "grey")
    kinds = [path.split()[0] for path in paths(drawn)]
    assert kinds == ["<path", "<circle", "<path"]


def test_points_inside_straight_runs_are_left_out() -> None:
    drawn = chart()
    drawn.line([(0, 0), (1, 0), (2, 0), (2, 0.5), (2, 1), (10, 1)], "blue")
    (path,) = paths(drawn)
    assert path.count("L") == 3, "four corners"


def test_a_range_without_extent_is_widened() -> None:
    drawn = Chart("one epoch", (1, 1), (0.5, 0.5), "epoch", "loss")
    drawn.dot(1, 0.5, "blue")
    assert "nan" not in drawn.svg() and "inf" not in drawn.svg()


def test_ticks_of_epochs_are_whole_numbers() -> None:
    assert whole_ticks([1, 2, 3]) == [1, 2, 3]
    assert whole_ticks([5]) == [5]
    assert all(tick == round(tick) for tick in whole_ticks(range(1, 40)))


def test_staleness_is_shown_as_shares() -> None:
    html = staleness({0: 3, 1: 1}, "run first")
    assert "staleness 0: 3 updates, 75.0%" in html and "staleness 1: 1 update, 25.0%" in html
    assert "4 updates." in html and "share of updates by staleness, run first" in html
