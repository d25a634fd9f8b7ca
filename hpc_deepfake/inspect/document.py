"""The page of one picture."""

from __future__ import annotations

from hpc_deepfake import __version__
from hpc_deepfake.core.text import percent
from hpc_deepfake.inspect import sections, view
from hpc_deepfake.inspect.analysis import Analysis
from hpc_deepfake.inspect.findings import (
    CLONES,
    COMPRESSION,
    FILE,
    GHOSTS,
    VERDICT,
    findings,
)
from hpc_deepfake.inspect.layers import layers
from hpc_deepfake.inspect.verdict import Verdict
from hpc_deepfake.inspect.view import View
from hpc_deepfake.web import html
from hpc_deepfake.web.html import Html, join, paragraph, text
from hpc_deepfake.web.slider import SCRIPT, image, slider, style

PICTURE, NOISE, ABOUT = "The picture", "Noise", "About this page"


def document(name: str, analysis: Analysis, verdict: Verdict | None = None,
             digest: str = "") -> str:
    """The page as HTML.

    Args:
        name: of the picture, as the user gave it.
        analysis: of the picture.
        verdict: of a model; None: there is none.
        digest: of the file, for the reader to know it by.
    """
    said = analysis.said
    height, width = analysis.pixels.shape[:2]
    shown = View(width, height, said.orientation)
    lying = layers(analysis, shown, verdict)
    parts = [(PICTURE, join([slider(
        image(shown.picture(analysis.pixels), "The picture", shown.shown), shown.shown, lying),
        sections.error_levels()]))]
    if verdict is not None:
        parts.append((VERDICT, sections.of_model(verdict)))
    parts += [(FILE, sections.of_file(analysis)),
              (COMPRESSION, sections.compression(analysis, shown)),
              (GHOSTS, sections.ghosts(analysis, shown)), (CLONES, sections.clones(analysis)),
              (NOISE, sections.noise(analysis, shown)), (ABOUT, _about(analysis, shown, digest))]
    head = join([Html(f"<h1>{html.name(name)}</h1>"), _head(analysis, verdict)])
    return html.page(name, head, parts, style=style(len(lying)) + _STYLE, script=SCRIPT)


_STYLE = """
.stands-out { margin: .6rem 0 .4rem; padding-left: 1.2rem; max-width: 80ch; }
.stands-out li { margin: .25rem 0; }
.maps { display: grid; gap: .8rem; margin: .8rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(46%, 11rem), 1fr)); }
.beside { display: grid; gap: 0 2.4rem; align-items: start; margin: .8rem 0 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
.beside .grid > *, #jpeg-ghosts .grid > * { margin-bottom: .6rem; }
.map { max-width: 30rem; margin-bottom: .8rem; }
.map figcaption { margin-bottom: .4rem; }
.map img, .maps img, .side img { display: block; width: 100%; height: auto; border-radius: 3px;
  outline: 1px solid var(--line); }
.maps figcaption { font-size: .85rem; margin-top: .25rem; }
.side { display: grid; grid-template-columns: repeat(2, minmax(0, 16rem)); gap: .8rem;
  margin: .8rem 0; }
.step-table { font-variant-numeric: tabular-nums; font-size: .8rem; }
.step-table td { text-align: right; padding: .12rem .45rem; border: 0; }
.top svg .area { fill: none; stroke-width: 2.5; vector-effect: non-scaling-stroke; }
.top svg .pair { stroke-width: 1; opacity: .75; vector-effect: non-scaling-stroke; }
.top svg .back { fill: #000; opacity: .45; }
.p-0 { stroke: #ff9d2e; } .p-1 { stroke: #43c6ff; } .p-2 { stroke: #8be04e; }
.p-3 { stroke: #ff77c8; }
.about-it { color: var(--soft); font-size: .93rem; max-width: 80ch; }
"""


def _head(analysis: Analysis, verdict: Verdict | None) -> Html:
    said = analysis.said
    width, height = View(said.width, said.height, said.orientation).size
    facts = [said.format or "unknown format", f"{width:,} × {height:,} pixels", _bytes(said.size)]
    if analysis.quality is not None:
        facts.append(f"quality {'' if analysis.quality.exact else 'about '}"
                     f"{analysis.quality.quality}")
    found = findings(analysis, verdict)
    if found:
        items = join(Html(f'<li>{text(one.text)} <a href="#{html.anchor(one.section)}">'
                          f"{text(one.section)}</a></li>") for one in found)
        stands = Html(f'<p class="answer">What stands out:</p><ul class="stands-out">{items}</ul>')
    else:
        nothing = "Apart from that, nothing stands out." if verdict else "Nothing stands out."
        stands = paragraph(f"{nothing} That doesn't say that the picture is authentic: many "
                           "changes leave none of the traces that are looked for here.",
                           class_="answer")
    verdicts = [] if verdict is None else [_said(verdict)]
    drawn = [paragraph(sections.DRAWN, class_="note")] if analysis.drawn.mostly else []
    return join([paragraph(" · ".join(facts), class_="soft"), *verdicts, stands, *drawn, paragraph(
        "These are measurements, not proofs. Honest pictures are saved twice, cropped and "
        "brightened too; each section says what its measurement can't show.", class_="note")])


def _said(verdict: Verdict) -> Html:
    """The verdict in a line, with what it follows from."""
    why = "no probability is shown" if verdict.probability is None else \
        f"{percent(verdict.probability)} probability of tampered; {verdict.threshold}"
    return Html(f'<p class="answer">The model says: {text(verdict.verdict)} ({text(why)}). '
                f'<a href="#{html.anchor(VERDICT)}">{VERDICT}</a></p>')


def _about(analysis: Analysis, shown: View, digest: str) -> Html:
    height, width = analysis.pixels.shape[:2]
    notes = ["The picture is shown as JPEG of quality 90; all analyses use the pixels of the file."]
    if shown.shown != shown.size:
        notes.append(f"It is shown at {shown.shown[0]:,} × {shown.shown[1]:,} pixels instead of "
                     f"{shown.size[0]:,} × {shown.size[1]:,}; so are its error levels, which were "
                     "computed at full size.")
    if analysis.step > 1:
        notes.append(f"Of the 8×8 blocks every {_ordinal(analysis.step)} in both directions was "
                     "analysed for double compression and ghosts.")
    if height * width > view.MOST_OF_MAP:
        notes.append("The noise residual is shown reduced.")
    if digest:
        notes.append(Html(f"SHA-256 of the file: {html.name(digest)}"))
    notes.append(f"Written by hpc-deepfake inspect, version {__version__}. The page holds a copy "
                 "of the picture and of its metadata.")
    return join(paragraph(note) for note in notes)


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third", 4: "fourth", 5: "fifth"}.get(number, f"{number}th")


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
