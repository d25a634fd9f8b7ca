"""The top of the page: how good the run is, beside baselines that need no network."""

from __future__ import annotations

from hpc_deepfake.core.json_data import finite, items
from hpc_deepfake.core.text import count, number, percent
from hpc_deepfake.report.collect import Content, Part
from hpc_deepfake.web.html import Html, join, name, paragraph, text


def baselines(content: Content, part: Part) -> str:
    """The baselines that stand beside each accuracy."""
    return f"majority class {percent(part.figures.get('majority'))}; {container(content, part)}"


def container(content: Content, part: Part) -> str:
    """The container baseline in words."""
    if content.container is None:
        return f"container alone unknown ({content.no_container})"
    where = "" if part.name == "validation" else ", over the validation part"
    return f"container alone {percent(content.container.get('accuracy'))}{where}"


def head(content: Content) -> Html:
    """Title, the result in a sentence, tiles, and notes to read before the figures."""
    records = content.records
    summary = records.summary
    feature = summary.get("feature", records.config.get("feature", "unknown feature"))
    ranks = count(summary.get("ranks", len(items(records.environment.get("ranks"))) or 1))
    strategy = summary.get("strategy", records.config.get("strategy", "unknown strategy"))
    title = Html(f"<h1>Run {name(records.path.resolve().name)}</h1>")
    what = paragraph(f"Trained on the feature “{feature}”; {strategy} on {ranks} "
                     f"rank{'s' * (ranks != '1')}; started ",
                     records.environment.get("started", "at an unknown time"), ".", class_="soft")
    if not content.parts:
        answer = paragraph("There are no figures of a validation or test part yet.",
                           class_="answer")
        return join([title, what, answer, _notes(content)])
    part = content.parts[0]
    return join([title, what, paragraph(_sentence(content, part), class_="answer"),
                 _tiles(content, part), _notes(content)])


def _sentence(content: Content, part: Part) -> str:
    figures = part.figures
    rows, accuracy = finite(figures.get("rows")), finite(figures.get("accuracy"))
    if rows is None or rows < 1 or accuracy is None:
        return f"The accuracy on the {part.name} part is unknown."
    low, high = part.interval or (accuracy, accuracy)
    between = f" (95% interval {low:.1%} to {high:.1%})" if part.interval else ""
    sentence = (f"The model classified {accuracy:.1%} of {rows:,.0f} {part.name} pictures correctly"
                f"{between}. Always predicting “{part.majority_class}” "
                f"is correct for {percent(figures.get('majority'))}; ")
    if content.container is None:
        sentence += f"the container baseline is unknown: {content.no_container}. "
    else:
        where = "" if part.name == "validation" else " of the validation part"
        sentence += ("a prediction from the file's container alone, without any pixel, for "
                     f"{percent(content.container.get('accuracy'))}{where}. ")
    best = max(finite(figures.get("majority")) or 0,
               finite((content.container or {}).get("accuracy")) or 0)
    if low <= best:
        sentence += "These pictures don't show that the model is better than both baselines. "
    sentence += f"ROC-AUC is {number(figures.get('auc'))}, where 0.5 is chance. "
    return sentence + ("The validation part also selected the epoch, so figures of a fresh test "
                       "part would be slightly lower." if part.name == "validation" else
                       "Nothing in this run was chosen on the test part.")


def _tiles(content: Content, part: Part) -> Html:
    figures, base = part.figures, content.container or {}
    fact = f", by {base['fact']}" if base.get("fact") not in (None, "all") else ""
    where = "" if part.name == "validation" else ", validation part"
    tiles = [("main", percent(figures.get("accuracy")), f"accuracy, {part.name} part"),
             ("", percent(figures.get("majority")), f"always “{part.majority_class}”"),
             ("", percent(base.get("accuracy")), f"container alone{fact}{where}" if base
              else "container alone: unknown"),
             ("main", number(figures.get("auc")), "ROC-AUC; 0.5 is chance"),
             ("", count(figures.get("rows")), f"{part.name} pictures")]
    return Html("<ul class=tiles>" + join(
        Html(f'<li class="{kind}"><b>{text(value)}</b> <span>{text(meaning)}</span></li>')
        for kind, value, meaning in tiles) + "</ul>")


def _notes(content: Content) -> Html:
    return join(paragraph(f"{note[:1].upper()}{note[1:].removesuffix('.')}.", class_="note")
                for note in content.notes)
