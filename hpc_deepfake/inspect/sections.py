"""The sections of a page: what each analysis found, what it shows and what it doesn't."""

from __future__ import annotations

import cv2
import numpy as np

from hpc_deepfake.core.text import percent, plural
from hpc_deepfake.inspect import view
from hpc_deepfake.inspect.analysis import LOSSY, SMALLEST, Analysis
from hpc_deepfake.inspect.double import FOUND, Frequency
from hpc_deepfake.inspect.layers import large
from hpc_deepfake.inspect.tables import quality_of
from hpc_deepfake.inspect.verdict import Verdict
from hpc_deepfake.inspect.view import View
from hpc_deepfake.web import html
from hpc_deepfake.web.html import Html, join, paragraph, tag, text
from hpc_deepfake.web.slider import image
from hpc_deepfake.web.svg import Chart, figure

_SHOWN_GHOSTS = (40, 50, 60, 70, 80, 90, 96)  # qualities whose maps are always shown
DRAWN = ("Most of it was drawn by a program (text, lines, flat colours). What it was before, and "
         "whether areas were copied, can't be told of such a picture: of equal letters none is a "
         "copy. A photograph in it can be analysed alone: cut it out and save it as PNG.")


def _words(shows: str, not_shown: str, source: str, subject: str = "Shows") -> Html:
    """What an analysis shows and what not, with its source."""
    return Html(f'<p class="about-it"><b>{subject}</b> {text(shows)} <b>Doesn\'t show</b> '
                f"{text(not_shown)} <b>Source:</b> {text(source)}</p>")


def error_levels() -> Html:
    return _words(
        "how much each place changes by one more JPEG compression. An area that differs from other "
        "areas of the same texture may have another history.",
        "which area was changed: edges, texture and saturated colours are bright in every picture, "
        "and after a coarse save or resizing nothing is left to see.",
        "N. Krawetz, A Picture's Worth, Black Hat 2007.", "Error levels show")


def of_model(verdict: Verdict) -> Html:
    figure_ = [] if verdict.probability is None else \
        [Html(f"<li class=main><b>{percent(verdict.probability)}</b><span>probability of tampered, "
              "as the model gives it</span></li>")]
    tiles = join([Html(f"<li><b>{text(verdict.verdict)}</b><span>verdict: "
                       f"{text(verdict.threshold)}</span></li>"), *figure_])
    said = [] if verdict.where is None or verdict.unlike else [
        f"It calls {percent(verdict.where.area)} of "
        f"{'the picture' if verdict.where.box is None else 'the face'} changed: see “the model's "
        "map” on the picture. Areas are called changed in authentic pictures too; how often, and "
        "how much of the changed ones is found, hpc-deepfake evaluate says."]
    said += [f"Unlike its training pictures: {reason}." for reason in verdict.unlike]
    said += [f"{_upper(note)}." for note in verdict.notes]
    said += [f"The model: {caveat}." for caveat in verdict.caveats]
    return join([
        Html(f"<ul class=tiles>{tiles}</ul>"), *(paragraph(one, class_="note") for one in said),
        paragraph(f"Model {verdict.model}, trained on {verdict.source}. Thresholds are "
                  "of its probability.", class_="soft"),
        _words("what a network concludes from the "
               f"{verdict.feature} feature of pictures like those that it was trained on.",
               "anything about pictures of another kind, and never a proof. Evaluate it on your "
               "kind of pictures first.", "docs/predict.md, docs/evaluate.md.")])


def _upper(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def of_file(analysis: Analysis) -> Html:
    said = analysis.said
    rows: list[tuple[object, object]] = [
        ("Format", said.format or "unknown"), ("Size", f"{said.size:,} bytes"),
        ("Pixels", f"{said.width:,} × {said.height:,}, {said.mode}, {said.bits} bits each")]
    if said.bits > 8:
        rows.append(("Bits", "the upper 8 of each value were analysed"))
    if said.mode == "CMYK":
        rows.append(("Colours", "CMYK, converted to red, green and blue to be analysed"))
    if said.frames > 1:
        rows.append(("Frames", f"{said.frames}; only the first was analysed"))
    if said.orientation != 1:
        rows.append(("Orientation", f"{said.orientation}: shown turned, analysed as stored"))
    if analysis.quality is not None:
        rows += _jpeg_rows(analysis)
    rows.append(("Software", "; ".join(said.software[:6]) or "not named"))
    rows += [(f"Date {what}", date) for what, date in said.dates.items()]
    if said.position:
        latitude, longitude = said.position
        rows.append(("Position (GPS)", f"{abs(latitude):.5f}° {'S' if latitude < 0 else 'N'}, "
                     f"{abs(longitude):.5f}° {'W' if longitude < 0 else 'E'}"))
    if said.profile:
        rows.append(("ICC profile", said.profile))
    if said.credentials:
        rows.append(("Content credentials", "present (C2PA); their signature was not verified"))
    rows += [("Problem", problem) for problem in said.problems]
    details = [html.details(_upper(f"{title} ({plural(len(values), 'value')})"), html.table(
        "", (), values, "words")) for title, values in said.groups.items()]
    if said.segments:
        details.append(html.details("Segments of the file", paragraph(" · ".join(
            said.segments[:80]) + " · …" * (len(said.segments) > 80))))
    if said.tables:
        details.append(html.details("Quantisation tables", join(
            _steps(number, table) for number, table in said.tables.items())))
    return join([html.table("", (), rows, "words"), *details, *_thumbnail(analysis), _words(
        "how the file was written, and what programs wrote into it.",
        "the truth: all of it can be removed or written by anyone. Social networks remove it; "
        "cameras and editors differ.",
        "ITU-T T.81 (JPEG), CIPA DC-008 (Exif); tables and quality as in the software of the "
        "Independent JPEG Group (IJG).")])


def _jpeg_rows(analysis: Analysis) -> list[tuple[object, object]]:
    said, quality = analysis.said, analysis.quality
    assert quality is not None
    exact = f"{quality.quality}: luminance table of the IJG's software, as most programs have it"
    near = (f"about {quality.quality}: not a table of the IJG's software, as with many cameras and "
            f"Adobe's programs; the nearest differs by {quality.away:.1f} a step")
    rows: list[tuple[object, object]] = [
        ("JPEG quality", exact if quality.exact else near),
        ("Coding", "progressive" if said.progressive else "sequential")]
    if len(said.tables) > 1:
        chroma = quality_of(said.tables.get(1, said.tables[max(said.tables)]), chroma=True)
        if chroma.quality != quality.quality or chroma.exact != quality.exact:
            rows.insert(1, ("Quality of chrominance", f"{'' if chroma.exact else 'about '}"
                            f"{chroma.quality}"))
    rows.append(("Chroma subsampling", said.subsampling or "none: grey"))
    return rows


def _steps(number: int, table: np.ndarray) -> Html:
    rows = join(Html(f"<tr>{join(tag('td', step) for step in row)}</tr>") for row in table.tolist())
    return Html(f'<div class=scroll><table class="step-table"><caption>Table {number}: steps by '
                f"vertical (down) and horizontal frequency</caption>{rows}</table></div>")


def _thumbnail(analysis: Analysis) -> list[Html]:
    small = analysis.thumbnail
    if small is None:
        return []
    if isinstance(small, str):
        return [paragraph(f"It has a thumbnail that can't be compared: {small}.")]
    sides = join(Html(f"<figure>{image(view.jpeg(view.turn(pixels, orientation), 90), what)}"
                      f"<figcaption>{what}</figcaption></figure>")
                 for pixels, what, orientation in (
                     (small.thumbnail, "Embedded thumbnail", analysis.said.orientation),
                     (small.picture, "The picture at its size", analysis.said.orientation)))
    words = {"same": "They show the same.", "changed": "They don't show the same.",
             "unclear": "They differ in places or in their colours: look at them."}[small.verdict]
    turned = " It had to be turned to fit." if small.turned else ""
    return [Html("<h3>Thumbnail against picture</h3>"), Html(f'<div class="side">{sides}</div>'),
            paragraph(f"{words}{turned} Correlation {small.alike:.2f}, largest difference of a "
                      f"small area {small.local:.0f} of 255 levels, proportions "
                      f"{'equal' if small.share > 0.97 else f'differ ({small.share:.2f})'}."),
            _words("whether the picture was changed after the camera or a program had stored its "
                   "thumbnail.", "changes by programs that renew the thumbnail, as most do.",
                   "E. Kee and H. Farid, Digital Image Authentication from Thumbnails, SPIE 2010.")]


def compression(analysis: Analysis, shown: View) -> Html:
    history = analysis.double
    words = _words(
        "by periodic gaps in the histograms of DCT coefficients that the picture was compressed "
        "with other steps before, and which blocks lack these gaps: they were changed or pasted "
        "after the first compression.",
        "an earlier compression with nearly the same or finer steps, on another grid (after "
        "cropping) or before resizing. An editor that opens and saves an honest picture leaves the "
        "same traces in all of it.",
        "Popescu and Farid 2004; Lin et al. 2009; Bianchi and Piva 2012 "
        "(doi:10.1109/TIFS.2012.2187516).")
    if history is None:
        return join([paragraph(_why_not(analysis)), words])
    jpeg = analysis.quality is not None
    if not history.found:
        answer = "No traces of an earlier compression with other steps were found." if jpeg else \
            "No traces of an earlier JPEG compression were found."
    else:
        which = f", those of the IJG's quality {history.quality}" if history.quality else \
            ", which are no table of the IJG's software"
        steps = ", ".join(f"{one.first}" for one in history.frequencies if one.gain >= FOUND)
        answer = (f"Traces of an earlier compression: the first steps were {steps}{which}. "
                  f"{percent(history.share)} of the blocks fit them.")
        if not jpeg:
            down, across = analysis.grid
            answer += f" Its grid begins {down} rows down and {across} columns across."
        if history.likely is None:
            answer += " They are too faint to say where."
        if history.without is not None:
            answer += " One area lacks them: see “earlier compression” on the picture."
    best = max(history.frequencies, key=lambda one: one.gain)
    charts = [Html(f'<div class="grid">{_histogram(best, history.found)}</div>')]
    if history.likely is not None:
        charts.append(_map(shown.map(large(view.grey(history.likely, 0, 1), analysis), 300_000),
                           "Blocks with traces (white) and without (black)"))
    return join([paragraph(answer), Html(f'<div class="beside">{join(charts)}</div>'), words])


def _why_not(analysis: Analysis) -> str:
    """Why compression, or copies, could not be analysed."""
    if analysis.drawn.mostly:
        return DRAWN
    if analysis.said.format in LOSSY:
        return (f"The compression of {analysis.said.format} itself covers traces of JPEG, or looks "
                "like them: not analysed.")
    if min(analysis.pixels.shape[:2]) < SMALLEST:
        return "The picture is too small to be analysed."
    return "It has too few grey levels to be analysed: a drawing, or a palette of few colours."


def _histogram(one: Frequency, found: bool) -> Html:
    middle = len(one.counts) // 2
    filled = np.flatnonzero(one.counts > max(one.counts[middle + 1:].max(initial=0) * 0.01, 1))
    reach = int(np.abs(filled - middle).max()) if filled.size else 4
    reach = min(max(reach, 6), 40, middle)
    part = slice(middle - reach, middle + reach + 1)
    counts = one.counts[part].astype(float)
    counts[reach] = 0
    top = max(counts.max(), 1) * 1.08
    chart = Chart("histogram of DCT coefficients", (-reach - 0.6, reach + 0.6), (0, top),
                  f"coefficient / {one.step}" if one.step > 1 else "coefficient", "blocks",
                  yform=lambda value: f"{value:,.0f}", size=(520, 260))
    keys = [("bar blue", "counted")]
    places = range(-reach, reach + 1)
    for place, count in zip(places, counts, strict=True):
        if place:
            chart.bar(place - 0.42, place + 0.42, 0, count, "blue", f"{place}: {count:,.0f}")
    curves = [(one.single, "grey", "after one compression")]
    if found:
        curves.append((one.double, "orange", f"after two, the first with step {one.first}"))
    outside = one.counts.sum() - one.counts[middle]
    for expected, colour, meaning in curves:
        scale = outside / max(expected.sum() - expected[middle], 1e-9)
        for side in (slice(0, reach), slice(reach + 1, None)):
            chart.line(list(zip(list(places)[side], (expected[part] * scale)[side].tolist(),
                                strict=True)), colour)
        keys.append((colour, meaning))
    return figure("DCT histogram", chart, keys, f"of the frequency {one.place[0]} down, "
                  f"{one.place[1]} across, where they show most; the tall bar at 0 is left out.")


def _map(data: bytes, caption: str) -> Html:
    return Html(f'<figure class="map"><figcaption>{text(caption)}</figcaption>'
                f"{image(data, caption)}</figure>")


def ghosts(analysis: Analysis, shown: View) -> Html:
    words = _words(
        "an area that was once compressed at a lower quality than the rest: it is darker than its "
        "surroundings in the map of that quality.",
        "areas on another 8×8 grid than the picture's, which 63 of 64 pasted areas are unless they "
        "were aligned, areas of higher quality, and what a coarse last save covers. Smooth areas "
        "are dark by nature.", "H. Farid, Exposing Digital Forgeries from JPEG Ghosts, IEEE TIFS "
        "2009 (doi:10.1109/TIFS.2008.2012215); here of luminance, on one grid.")
    if analysis.ghosts is None:
        return join([paragraph(_why_not(analysis)), words])
    ghosts = analysis.ghosts
    answer = "No area has a dip at a quality at which the rest has none."
    if ghosts.ghost is not None:
        answer = (f"At quality {ghosts.ghost.quality} an area of "
                  f"{percent(ghosts.ghost.share)} of the picture changes much less than at the "
                  "qualities around it, and the rest does not.")
    chosen = sorted({*_SHOWN_GHOSTS, *([ghosts.ghost.quality] if ghosts.ghost else [])})
    maps = []
    for quality in chosen:
        data = shown.map(large(view.grey(ghosts.maps[ghosts.qualities.index(quality)], 0, 1),
                                analysis), 80_000)
        mark = ghosts.ghost is not None and quality == ghosts.ghost.quality
        maps.append(Html(f"<figure>{image(data, f'Ghost map at quality {quality}')}<figcaption>"
                         f"{'<b>' if mark else ''}quality {quality}{'</b>' if mark else ''}"
                         "</figcaption></figure>"))
    chart = Chart("mean difference by quality", (ghosts.qualities[0], ghosts.qualities[-1]),
                  (0, float(np.sqrt(ghosts.mean).max()) * 1.05), "quality of the recompression",
                  "RMS difference, levels", size=(520, 240))
    chart.line(list(zip(map(float, ghosts.qualities), np.sqrt(ghosts.mean).tolist(), strict=True)),
               "blue")
    if analysis.quality is not None:
        chart.upright(analysis.quality.quality, "grey dashed")
    keys = [("blue", "whole picture")]
    if analysis.quality is not None:
        keys.append(("grey dashed", "the file's own quality"))
    course = figure("Difference by quality", chart, keys,
                    "A dip of the whole picture: it was compressed at that quality.")
    return join([paragraph(answer), Html(f'<div class="maps">{join(maps)}</div>'),
                 Html(f'<div class="grid">{course}</div>'), words])


def clones(analysis: Analysis) -> Html:
    clones = analysis.clones
    words = _words(
        "areas of the picture that were copied to another place of it, also turned or resized.",
        "copies of smooth areas, which have no keypoints, and small ones. Things that are "
        "manufactured alike and lie in the same light (windows, tiles, letters, patterns) can be "
        "reported though nothing was copied.",
        "SIFT matches and RANSAC: Amerini et al. 2011 (doi:10.1109/TIFS.2011.2129512); comparison "
        "of the areas: Christlein et al. 2012 (doi:10.1109/TIFS.2012.2218597).")
    if clones is None:
        return join([paragraph(_why_not(analysis)), words])
    rows = [(f"Pair {number}", plural(len(clone.first), "matching point"),
             f"{clone.angle:+.0f}°", f"{clone.scale:.2f}", f"{clone.alike:.2f}",
             f"{clone.fine:.2f}") for number, clone in enumerate(clones.found, 1)]
    parts = [paragraph(
        (f"{plural(len(rows), 'pair')} of areas: see “copy-move” on the picture."
         if rows else "None were found.")
        + f" {plural(clones.keypoints, 'keypoint')} were compared"
        + ("." if clones.scale == 1 else f", of the picture at {percent(clones.scale)} of its "
           "width."))]
    if clones.repeated:
        parts.append(paragraph(f"{plural(clones.repeated, 'group')} of matches were rejected: "
                               "patterns that repeat, but not in detail.", class_="soft"))
    if clones.drawn:
        parts.append(paragraph(f"{plural(clones.drawn, 'group')} of matches can't be told: the "
                               "same letters or signs occur again.", class_="soft"))
    if rows:
        parts.append(html.table("", ("", "matches", "turned", "size", "correlation",
                                     "of the residual"), rows))
    return join([*parts, words])


def noise(analysis: Analysis, shown: View) -> Html:
    words = _words(
        "areas whose noise differs from that of similar areas: they may come from another picture, "
        "or were smoothed.",
        "which differences matter: texture counts as noise, dark and saturated places have less, "
        "sharp ones more than blurred ones, and JPEG compression removes most of it.",
        "B. Mahdian and S. Saic, Using noise inconsistencies for blind image forensics, Image and "
        "Vision Computing 2009 (doi:10.1016/j.imavis.2009.02.001).")
    if analysis.noise is None:
        return join([paragraph("The picture is too small to be analysed."), words])
    noise = analysis.noise
    scaled = view.grey(np.log2(noise.levels + 0.25), -2, float(np.log2(
        max(np.percentile(noise.levels, 99), 2))))
    map_ = shown.map(cv2.resize(scaled, None, fx=8, fy=8, interpolation=cv2.INTER_NEAREST), 300_000)
    return join([
        paragraph(f"Typical standard deviation {noise.typical:.1f} levels; between the quietest "
                  f"and the noisiest twentieth of the places a factor of {noise.spread:.1f}. No "
                  "verdict is drawn from it."),
        _map(map_, "Noise level of blocks, logarithmic: bright is noisy"), words])
