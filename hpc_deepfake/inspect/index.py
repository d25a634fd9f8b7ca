"""The list of several pictures' pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from hpc_deepfake.core.text import plural
from hpc_deepfake.web import html
from hpc_deepfake.web.html import Html, join, paragraph, text
from hpc_deepfake.web.slider import image


@dataclass(frozen=True)
class Entry:
    """A picture in the list.

    Attributes:
        name: as the user gave it.
        page: file name of its page; empty: it couldn't be read.
        thumbnail: as JPEG.
        words: what stands out, in a few words each; or why it couldn't be read.
        verdict: of a model; empty: there is none.
    """

    name: str
    page: str
    thumbnail: bytes
    words: Sequence[str]
    verdict: str = ""


def index(entries: Sequence[Entry]) -> str:
    """The page that lists all pictures, as HTML."""
    read = [entry for entry in entries if entry.page]
    failed = [entry for entry in entries if not entry.page]
    cards = join(Html(f'<li><a href="{text(quote(entry.page))}">'
                      f'{image(entry.thumbnail, "Picture")}{html.name(entry.name)}</a>'
                      f"<p>{_verdict(entry)}{text(', '.join(entry.words) or 'nothing stands out')}"
                      "</p></li>") for entry in read)
    sections = [("Pictures", Html(f'<ul class="pictures">{cards}</ul>'))]
    if failed:
        sections.append(("Not read", html.table("", ("picture", "reason"), [
            (html.name(entry.name), ", ".join(entry.words)) for entry in failed], "words")))
    count = plural(len(read), "picture") + (f", {len(failed):,} not read" if failed else "")
    head = join([Html("<h1>Inspected pictures</h1>"), paragraph(count, class_="soft"), paragraph(
        "What stands out is a measurement, not a proof; each page says what it can't show.",
        class_="note")])
    return html.page("Inspected pictures", head, sections,
                     style=_STYLE + "nav { display: none; }\n" * (len(sections) == 1))


def _verdict(entry: Entry) -> Html:
    return Html(f"model: <b>{text(entry.verdict)}</b><br>") if entry.verdict else Html("")


_STYLE = """
.pictures { list-style: none; margin: 1rem 0; padding: 0; display: grid; gap: 1.6rem 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 13rem), 1fr)); }
.pictures a { text-decoration: none; display: block; }
.pictures img { display: block; width: 100%; height: 10rem; object-fit: contain;
  background: var(--raised); border-radius: .4rem; margin-bottom: .45rem; }
.pictures p { margin: .2rem 0 0; font-size: .88rem; color: var(--soft); }
"""
