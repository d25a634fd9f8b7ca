"""A picture under other pictures of the same place, with a slider between them.

Which one lies on top, the whole of it, and the full size are chosen by radio buttons and checkboxes
in plain CSS; the slider, which also follows the mouse and the arrow keys, needs ``SCRIPT``. Without
it the top picture covers the right half.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from hpc_deepfake.web.html import Html, join, text


@dataclass(frozen=True)
class Layer:
    """What can lie on the picture.

    Attributes:
        name: of its button.
        content: an ``img``, or an ``svg`` of the picture's size.
        legend: a sentence below the picture.
    """

    name: str
    content: Html
    legend: Html


def image(jpeg: bytes, alternative: str, size: tuple[int, int] | None = None) -> Html:
    """A JPEG file as an ``img`` element that needs no other file.

    Args:
        jpeg: contents of the file.
        alternative: text for who can't see it.
        size: width and height, by which the browser keeps its place.
    """
    place = f' width="{size[0]}" height="{size[1]}"' if size else ""
    return Html(f'<img src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" '
                f'alt="{text(alternative)}"{place}>')


def slider(picture: Html, size: tuple[int, int], layers: Sequence[Layer]) -> Html:
    """The picture with its layers, the first one chosen. One on a page.

    Args:
        picture: an ``img``.
        size: its width and height in pixels. It is shown as large as the window, or, if that is
            larger, at twice its size.
        layers: what can lie on it.
    """
    choices = join(Html(f'<label><input type="radio" name="layer" id="layer-{number}"'
                        f'{" checked" if number == 0 else ""}> {text(layer.name)}</label>')
                   for number, layer in enumerate(layers))
    tops = join(Html(f'<div class="top of-{number}">{layer.content}</div>')
                for number, layer in enumerate(layers))
    legends = join(Html(f'<p class="soft legend of-{number}">{layer.legend}</p>')
                   for number, layer in enumerate(layers))
    return Html(f"""<div class="compare">
<fieldset class="choices"><legend>On the picture</legend>{choices}</fieldset>
<div class="window">\
<div class="stage" style="--w: {size[0]}; --h: {size[1]}">{picture}{tops}\
<div class="handle"></div></div></div>
<div class="controls"><label class="slide">picture <input type="range" min="0" max="100" \
value="50" step="1" aria-label="Share of the picture, from the left, that nothing covers"> \
map</label>
<label><input type="checkbox" class="all"> whole map</label>
<label><input type="checkbox" class="full"> full size</label></div>
{legends}</div>""")


def style(layers: int) -> str:
    """The rules for a slider with so many layers."""
    shown = ",\n".join(f".compare:has(#layer-{number}:checked) .of-{number}"
                       for number in range(layers))
    return _STYLE + f"{shown} {{ display: block; }}\n"


_STYLE = """
.compare { --at: 50%; margin: 1rem 0; }
.compare fieldset { border: 0; padding: 0; margin: 0 0 .6rem; display: flex; flex-wrap: wrap;
  gap: .4rem; }
.compare legend { float: left; padding: .3rem .5rem .3rem 0; color: var(--soft); font-size: .9rem; }
.choices label { border: 1px solid var(--line); border-radius: 1rem; padding: .22rem .75rem;
  font-size: .9rem; cursor: pointer; position: relative; background: var(--paper); }
.choices label:hover { border-color: var(--blue); }
.choices label:has(:checked) { background: var(--blue); border-color: var(--blue);
  color: var(--paper); }
.choices label:has(:focus-visible) { outline: 2px solid var(--blue); outline-offset: 2px; }
.choices input { position: absolute; opacity: 0; inset: 0; margin: 0; cursor: pointer; }
.window { overflow: auto; max-height: 88vh; background: var(--raised); border-radius: .4rem;
  display: flex; }
.stage { position: relative; margin: 0 auto; flex: none; cursor: ew-resize;
  user-select: none; -webkit-user-select: none;
  width: min(100%, calc(88vh * var(--w) / var(--h)),
    max(calc(var(--w) * 1px), min(calc(var(--w) * 2px), 48rem))); }
.stage > img { display: block; width: 100%; height: auto; }
.stage > img, .top img { -webkit-user-drag: none; }
.top { display: none; position: absolute; inset: 0; clip-path: inset(0 0 0 var(--at)); }
.top img, .top svg { display: block; width: 100%; height: 100%; }
.handle { position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px; margin-left: -1px;
  background: #fff; box-shadow: 0 0 0 1px rgb(0 0 0 / .55); pointer-events: none; }
.compare:has(.all:checked) { --at: 0% !important; }
.compare:has(.all:checked) .handle { display: none; }
.compare:has(.full:checked) .window { display: block; max-height: 92vh; }
.compare:has(.full:checked) .stage { width: calc(var(--w) * 1px); }
.controls { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; align-items: center;
  margin: .6rem 0 0; font-size: .9rem; }
.slide { display: none; flex: 1 1 14rem; align-items: center; gap: .6rem; color: var(--soft); }
.moving .slide { display: flex; }
.slide input { flex: 1; min-width: 6rem; margin: 0; accent-color: var(--blue); }
.legend { display: none; }
@media print { .controls, .choices { display: none; } .window { max-height: none; } }
"""

SCRIPT = """
for (const figure of document.querySelectorAll(".compare")) {
  const range = figure.querySelector("input[type=range]");
  const stage = figure.querySelector(".stage");
  const all = figure.querySelector(".all");
  const show = value => {
    range.value = value;
    all.checked = false;
    figure.style.setProperty("--at", range.value + "%");
  };
  figure.classList.add("moving");
  range.addEventListener("input", () => show(range.value));
  const follow = event => {
    const box = stage.getBoundingClientRect();
    show(100 * (event.clientX - box.left) / box.width);
  };
  stage.addEventListener("pointerdown", event => {
    if (event.pointerType === "mouse" && event.button === 0) {
      stage.setPointerCapture(event.pointerId);
    }
    follow(event);
  });
  stage.addEventListener("pointermove", event => { if (event.buttons & 1) follow(event); });
  stage.addEventListener("dragstart", event => event.preventDefault());
}
"""
