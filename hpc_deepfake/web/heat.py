"""Heat maps: tables whose cells are coloured by their values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpc_deepfake.web.html import Html, join, tag, text


@dataclass(frozen=True)
class Heat:
    """A cell of a heat map.

    Attributes:
        value: the figure, as text.
        below: a line below it.
        share: strength of the colour, from -1 (orange) over 0 (none) to 1 (blue); None: the figure
            isn't known.
        marked: whether it is outlined.
    """

    value: str
    below: str = ""
    share: float | None = None
    marked: bool = False

    def html(self) -> Html:
        """The cell."""
        share = min(max(self.share or 0.0, -1.0), 1.0)
        kinds = ["right-answer" if share >= 0 else "wrong-answer"] + ["own"] * self.marked
        return tag("td", join([tag("b", self.value), self.below]), class_=" ".join(kinds),
                   style=f"--share:{abs(share) * 70:.0f}%")


def heat(caption: object, corner: str, columns: Sequence[str],
         rows: Sequence[tuple[str, Sequence[Heat]]]) -> Html:
    """A heat map.

    Args:
        caption: above it.
        corner: what rows and columns are.
        columns: headings.
        rows: heading and cells of each row.
    """
    head = join(tag("th", column, scope="col") for column in (corner, *columns))
    body = join(Html(f"<tr>{tag('th', name, scope='row')}{join(cell.html() for cell in cells)}"
                     "</tr>") for name, cells in rows)
    return Html('<div class=scroll><table class="matrix heat">'
                f"<caption>{text(caption)}</caption><thead><tr>{head}</tr></thead>"
                f"<tbody>{body}</tbody></table></div>")
