"""The style sheet of the pages: light and dark, wide and narrow, screen and print."""

STYLE = """
:root {
  --paper: #ffffff; --raised: #f5f6f8; --ink: #1b1f24; --soft: #57606a; --line: #d5dae0;
  --blue: #1763a6; --orange: #b5460f; --green: #1d7044; --violet: #7443b8; --grey: #6b7682;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --raised: #1e2228; --ink: #e6e9ed; --soft: #a5aeb9; --line: #3a424c;
    --blue: #6cb4ee; --orange: #ff9d6b; --green: #6fcf97; --violet: #c3a6f5; --grey: #97a1ad;
  }
}
* { box-sizing: border-box; }
html { color-scheme: light dark; -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 1.5rem clamp(1rem, 3vw, 2.5rem) 3rem; max-width: 1320px;
  background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
h1 { font-size: 1.55rem; line-height: 1.25; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .75rem; padding-bottom: .3rem;
  border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.6rem 0 .6rem; }
p { margin: .5rem 0; max-width: 75ch; }
a { color: var(--blue); }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; margin-top: 1rem; font-size: .92rem; }
.soft, caption, figcaption { color: var(--soft); font-size: .9rem; }
.answer { font-size: 1.12rem; }
.name { overflow-wrap: anywhere; font-family: ui-monospace, "DejaVu Sans Mono", monospace;
  font-size: .92em; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem;
  margin: 1.1rem 0; padding: 0; list-style: none; }
.tiles li { background: var(--raised); border-radius: .5rem; padding: .7rem .9rem; }
.tiles b { display: block; font-size: 1.55rem; line-height: 1.2;
  font-variant-numeric: tabular-nums; }
.tiles span { display: block; font-size: .84rem; color: var(--soft); line-height: 1.35; }
.tiles .main b { color: var(--blue); }
.grid { display: grid; gap: 0 2.2rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
.grid > *, .grid > .scroll { grid-row: span 4; min-width: 0; margin: 0 0 1.8rem; }
figure { margin: 0; min-width: 0; }
figure.chart { display: grid; grid-template-rows: subgrid; gap: 0; max-width: 33rem; }
figure.chart details { margin: 0; }
figcaption b { color: var(--ink); }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font: 11.5px system-ui, "DejaVu Sans", sans-serif; }
svg .grid-line { stroke: var(--line); stroke-width: 1; }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
svg .dashed { stroke-dasharray: 5 4; }
svg .dotted { stroke-dasharray: 1.5 4; }
svg .thin { stroke-width: 1.3; }
.s-blue { stroke: var(--blue); } .f-blue { fill: var(--blue); }
.s-orange { stroke: var(--orange); } .f-orange { fill: var(--orange); }
.s-green { stroke: var(--green); } .f-green { fill: var(--green); }
.s-violet { stroke: var(--violet); } .f-violet { fill: var(--violet); }
.s-ink { stroke: var(--ink); }
.s-grey { stroke: var(--grey); } .f-grey { fill: var(--grey); }
.f-faint { fill: var(--line); }
.keys { display: flex; flex-wrap: wrap; align-content: start; gap: .1rem 1rem;
  margin: 0 0 .2rem; padding: 0; list-style: none; font-size: .86rem; color: var(--soft); }
.keys svg { display: inline-block; width: 1.6rem; height: .7rem; margin-right: .35rem; }
.scroll { overflow-x: auto; margin: .8rem 0; }
.grid table { width: 100%; }
table { border-collapse: collapse; font-size: .93rem; }
caption { text-align: left; padding-bottom: .4rem; caption-side: top; }
th, td { padding: .32rem .8rem .32rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
thead th { color: var(--soft); font-weight: 600; white-space: nowrap; }
tbody th { font-weight: 500; }
.numbers td, .numbers thead th + th { text-align: right; padding: .32rem .2rem .32rem 1.2rem; }
.numbers td { font-variant-numeric: tabular-nums; white-space: nowrap; }
.figures { font-size: .88rem; }
.figures td:nth-child(2) { white-space: nowrap; font-variant-numeric: tabular-nums; }
.words td { overflow-wrap: anywhere; }
.words tbody th { white-space: nowrap; }
table.matrix { width: 100%; max-width: 26rem; table-layout: fixed; }
.matrix td { text-align: center; border: 2px solid var(--paper); padding: .7rem .3rem; }
.matrix td b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.matrix th { border: 0; vertical-align: middle; white-space: normal; padding: .4rem; }
.matrix thead th { text-align: center; }
table.heat { width: auto; max-width: none; table-layout: auto; }
.heat td { min-width: 7.5rem; font-size: .84rem; }
.heat tbody th, .heat thead th:first-child { text-align: left; white-space: nowrap; }
.heat .own { outline: 2px solid var(--ink); outline-offset: -3px; }
.right-answer { background: color-mix(in srgb, var(--blue) var(--share), var(--raised)); }
.wrong-answer { background: color-mix(in srgb, var(--orange) var(--share), var(--raised)); }
.examples { display: grid; gap: 1.1rem 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 16.5rem), 1fr)); }
.examples .pair { display: grid; grid-template-columns: 1fr 1fr; gap: 3px; max-width: 20rem; }
.examples .of-1 { grid-template-columns: 1fr; max-width: 10rem; }
.examples .of-3 { grid-template-columns: repeat(3, 1fr); }
.examples img { display: block; width: 100%; height: auto; border-radius: 3px;
  background: var(--raised); }
.examples figcaption { font-size: .84rem; line-height: 1.35; margin-top: .3rem; }
.pairs { display: grid; gap: 0 2rem; margin: .5rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
.pairs div { display: flex; gap: .8rem; justify-content: space-between; padding: .28rem 0;
  border-bottom: 1px solid var(--line); font-size: .93rem; }
.pairs dt { color: var(--soft); flex: none; }
.pairs dd { margin: 0; text-align: right; overflow-wrap: anywhere; min-width: 0; }
details { margin: .8rem 0; }
summary { cursor: pointer; color: var(--blue); }
pre { background: var(--raised); border-radius: .5rem; padding: .8rem 1rem;
  white-space: pre-wrap; overflow-wrap: anywhere;
  font: .86rem/1.55 ui-monospace, "DejaVu Sans Mono", monospace; margin: .6rem 0; }
.note { background: var(--raised); border-left: 3px solid var(--orange); padding: .5rem .9rem;
  border-radius: 0 .4rem .4rem 0; max-width: 75ch; }
:focus-visible { outline: 2px solid var(--blue); outline-offset: 2px; }
@media (max-width: 34rem) {
  body { padding-top: 1rem; }
  .tiles { grid-template-columns: 1fr 1fr; gap: .5rem; }
  .tiles b { font-size: 1.3rem; }
  .words tbody th { white-space: normal; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 11pt; }
  nav { display: none; }
  figure, tr, .tiles, .grid > * { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
