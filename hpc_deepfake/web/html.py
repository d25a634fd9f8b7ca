"""HTML from untrusted text: escaping, elements, tables, and the page around the sections."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape

from hpc_deepfake.core.text import printable
from hpc_deepfake.web.style import STYLE

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Html(str):
    """Text that is HTML already; anything else is escaped by ``text``."""

    __slots__ = ()


def text(value: object) -> Html:
    """``value`` as HTML. Invisible characters and those that change the writing direction are shown
    as escapes."""
    if isinstance(value, Html):
        return value
    return Html(escape(printable(str(value))))


def name(value: object) -> Html:
    """A file name, with its own writing direction; lines may break anywhere in it."""
    return Html(f"<bdi class=name>{text(value)}</bdi>")


def join(parts: Iterable[object], between: str = "") -> Html:
    """The parts as HTML, one after another."""
    return Html(between.join(text(part) for part in parts))


def tag(kind: str, content: object, **attributes: object) -> Html:
    """An element with attributes; ``class_`` is the attribute ``class``, None leaves one out."""
    pairs = "".join(f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
                    for key, value in attributes.items() if value is not None)
    return Html(f"<{kind}{pairs}>{text(content)}</{kind}>")


def table(caption: object, head: Sequence[object], rows: Iterable[Sequence[object]],
          kind: str = "numbers") -> Html:
    """A table with a caption.

    Args:
        caption: shown above the table.
        head: column headings; may be empty.
        rows: cells of each row; the first one is the heading of the row.
        kind: a class of the page's style: ``numbers``, ``figures`` (a number, then words) or
            ``words``.
    """
    top = join(tag("th", cell, scope="col") for cell in head)
    body = join(Html(f"<tr>{tag('th', first, scope='row')}"
                     f"{join(tag('td', cell) for cell in rest)}</tr>") for first, *rest in rows)
    return Html(f'<div class=scroll><table class="{kind}">'
                f"<caption>{text(caption)}</caption>"
                + (f"<thead><tr>{top}</tr></thead>" if head else "")
                + f"<tbody>{body}</tbody></table></div>")


def section(title: str, *content: object) -> Html:
    """A section with a heading, to which the list of contents links."""
    return Html(f'<section id="{anchor(title)}"><h2>{text(title)}</h2>{join(content)}</section>')


def anchor(title: str) -> str:
    """The id of the section with this title."""
    return "".join(letter if letter.isalnum() else "-" for letter in title.lower())


def paragraph(*content: object, class_: str | None = None) -> Html:
    """A paragraph."""
    return tag("p", join(content), class_=class_)


def details(summary: str, content: object) -> Html:
    """Content that is hidden until its summary is clicked."""
    return Html(f"<details><summary>{text(summary)}</summary>{text(content)}</details>")


def commands(lines: Sequence[str]) -> Html:
    """Lines to paste into a shell."""
    return Html(f"<pre><code>{join(lines, chr(10))}</code></pre>")


def page(title: str, head: object, sections: Sequence[tuple[str, Html]], *, style: str = "",
         script: str = "") -> str:
    """The whole document. It fetches nothing and has no script but the given one; its content
    security policy forbids any other.

    Args:
        title: shown by the browser.
        head: shown above the list of contents.
        sections: title and content of each section.
        style: more rules for the style sheet.
        script: JavaScript of this project, run when the page is there.
    """
    policy = _POLICY
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{digest}'"
    contents = join((Html(f'<a href="#{anchor(name)}">{text(name)}</a>') for name, _ in sections),
                    " ")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{text(title)}</title>
<style>
{STYLE}{style}</style>
</head>
<body>
<header>{text(head)}<nav aria-label="Sections">{contents}</nav></header>
<main>
{join((section(name, content) for name, content in sections), chr(10))}
</main>{f"<script>{script}</script>" if script else ""}
</body>
</html>
"""
