"""HTML from untrusted text."""

from __future__ import annotations

from hpc_deepfake.web.html import Html, details, join, name, page, section, table, tag, text

HOSTILE = '<script>alert("x")</script>\u202egpj.exe\x1b'
ESCAPED = "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;\\u202egpj.exe\\x1b"


def test_text_is_escaped_once() -> None:
    """Markup as entities; what is invisible or changes the writing direction as escapes."""
    assert text(HOSTILE) == ESCAPED
    assert text(text(HOSTILE)) == ESCAPED
    assert join([HOSTILE, Html("<br>")], ", ") == f"{ESCAPED}, <br>"


def test_every_element_escapes_its_content_and_attributes() -> None:
    assert tag("td", HOSTILE, title=HOSTILE, class_=None) == f'<td title="{ESCAPED}">{ESCAPED}</td>'
    assert tag("p", 1, class_="soft", data_x=2) == '<p class="soft" data-x="2">1</p>'
    for html in (name(HOSTILE), details(HOSTILE, HOSTILE), section(HOSTILE, HOSTILE),
                 table(HOSTILE, [HOSTILE], [(HOSTILE, HOSTILE)]),
                 page(HOSTILE, HOSTILE, [(HOSTILE, text(HOSTILE))])):
        assert "<script" not in html and ESCAPED in html and "\u202e" not in html


def test_the_first_cell_of_a_row_is_its_heading() -> None:
    html = table("runs", ["run", "AUC"], [("first", 0.9)])
    assert '<th scope="row">first</th><td>0.9</td>' in html
    assert '<th scope="col">AUC</th>' in html
    assert "<thead>" not in table("runs", [], [("first", 0.9)])


def test_a_page_links_to_its_sections_and_allows_no_scripts() -> None:
    html = page("title", "head", [("Where time went", Html("<p>here</p>"))])
    assert '<a href="#where-time-went">Where time went</a>' in html
    assert '<section id="where-time-went"><h2>Where time went</h2><p>here</p></section>' in html
    assert "default-src 'none'" in html
