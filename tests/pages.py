"""Reading the HTML pages that the project writes, and the checks that every page must pass."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "img", "input"}
_INLINE = ("data:image/jpeg;base64,", "data:image/png;base64,")


class Page(HTMLParser):
    """The elements and text of a page; fails if tags are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.sections: dict[str, list[str]] = {}
        self.cells: list[list[str]] = []
        self.feed(html)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), f"an attribute twice in <{tag}>"
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.words = self.sections.setdefault(attributes["id"], [])
        elif tag == "tr":
            self.cells.append([])
        elif tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title", "script"):
            self.words.append(data)
            if "td" in self.open or "th" in self.open:
                self.cells[-1][-1] += data

    def text(self, section: str | None = None) -> str:
        parts = self.sections[section] if section else \
            [word for words in self.sections.values() for word in words]
        return " ".join(" ".join(parts).split())

    def attributes(self, tag: str, name: str) -> list[str]:
        return [attributes[name] for kind, attributes in self.elements
                if kind == tag and name in attributes]


def check_alone(page: Page, html: str, also: frozenset[str] = frozenset()) -> None:
    """The page has no scripts, loads nothing from outside, and all its internal links resolve; its
    elements are the usual ones, and those in ``also``."""
    kinds = {tag for tag, _ in page.elements}
    assert kinds <= {
        "html", "head", "meta", "title", "style", "body", "header", "nav", "a", "main", "section",
        "h1", "h2", "h3", "p", "ul", "li", "b", "span", "bdi", "figure", "figcaption", "div", "svg",
        "path", "text", "circle", "rect", "table", "caption", "thead", "tbody", "tr", "th", "td",
        "details", "summary", "img", "br", "dl", "dt", "dd", "pre", "code"} | also
    for _, attributes in page.elements:
        assert not {name for name in attributes if name.startswith("on")}
        assert attributes.get("src", _INLINE[0]).startswith(_INLINE)
    for link in page.attributes("a", "href"):
        assert link.startswith("#") or not re.match(r"[a-z]+:|//", link, re.IGNORECASE)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    ids = [name for name in ids if not name.startswith("layer-")]  # of controls
    assert {f"#{name}" for name in ids} == {link for link in page.attributes("a", "href")
                                           if link.startswith("#")}
    assert "url(" not in html and "@import" not in html and "://" not in html
    assert "default-src 'none'" in html
    assert len(html.encode()) < 2_000_000
    for tag, attributes in page.elements:
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or \
                (attributes["role"] == "img" and attributes["aria-label"])
        if tag == "img":
            assert attributes["alt"]
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
