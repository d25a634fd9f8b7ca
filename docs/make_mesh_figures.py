"""Draw the pictures of docs/model-parallelism.md: communication in a mesh, and two real traces.

    python docs/make_mesh_figures.py [GPIPE.json 1F1B.json]

``train --mesh pipeline=2 --trace FILE`` writes the traces; without them the second picture is not
drawn again.
"""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path
from typing import Any

IMAGES = Path(__file__).parent / "images"
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .small { font-size: 11px } .title { font-weight: 600 } .on { fill: #fff; font-size: 11px }
  .box { fill: #eef3f8; stroke: #57606a } .group { fill: none; stroke: #8c959f }
  .line { fill: none; stroke-width: 2 } .axis { stroke: #8c959f }
  .pipeline { stroke: #1b6ca8 } .tensor { stroke: #c8553d } .data { stroke: #6a8d3a }
  .forward { fill: #1b6ca8 } .backward { fill: #c8553d } .update { fill: #6a8d3a }
  .message { stroke: #8c959f; stroke-dasharray: 2 2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .box { fill: #1f2937; stroke: #9aa4af } .on { fill: #fff }
    .pipeline { stroke: #58a6dd } .tensor { stroke: #f0876f } .data { stroke: #a5c977 }
  }
"""


def svg(width: int, height: int, parts: list[str], title: str) -> str:
    """An SVG file of these parts."""
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" aria-label="{escape(title)}">\n'
            f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n")


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> str:
    """One line of text."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def rect(x: float, y: float, width: float, height: float, kind: str, note: str = "") -> str:
    """A rectangle with a tooltip."""
    return (f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2" '
            f'class="{kind}"><title>{escape(note)}</title></rect>')


def line(points: str, kind: str) -> str:
    """A path, with arrows at both ends unless it is a message."""
    ends = "" if kind == "message" else ' marker-start="url(#m)" marker-end="url(#m)"'
    return f'<path d="{points}" class="line {kind}"{ends}/>'


MARKER = ('<defs><marker id="m" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="5" '
          'markerHeight="5" orient="auto-start-reverse"><path d="M0 0 8 4 0 8z" '
          'fill="context-stroke"/></marker></defs>')


def mesh() -> str:
    """Who communicates with whom in a mesh of data=2,tensor=2,pipeline=2."""
    parts, wide, high = [MARKER], 184, 64
    columns, rows, step = (52, 326), (48, 158), 256
    for data in (0, 1):
        top = data * step
        parts += [rect(12, top + 14, 538, 230, "group"),
                  text(281, top + 34, f"data {data}: its share of each micro-batch", "title")]
        for stage, x in enumerate(columns):
            for tensor, y in enumerate(rows):
                rank = (data * 2 + stage) * 2 + tensor
                blocks = ("conv1, bn1", "conv2, bn2, dense1–2")[stage]
                parts += [rect(x, top + y, wide, high, "box"),
                          text(x + wide / 2, top + y + 20, f"rank {rank}", "title"),
                          text(x + wide / 2, top + y + 37, f"stage {stage}: {blocks}", "small"),
                          text(x + wide / 2, top + y + 53, f"shard {tensor} of 2", "small")]
            middle = x + wide / 2
            parts.append(line(f"M{middle} {top + rows[0] + high + 3}V{top + rows[1] - 3}",
                              "tensor"))
        for y in rows:
            parts.append(line(f"M{columns[0] + wide + 3} {top + y + 32}H{columns[1] - 3}",
                              "pipeline"))
    for number, y in enumerate(rows):
        for edge, direction in ((columns[0] - 3, -1), (columns[1] + wide + 3, 1)):
            parts.append(line(f"M{edge} {y + 32}h{direction * (13 + 9 * number)}V{step + y + 32}"
                              f"H{edge}", "data"))
    legend = (("pipeline", "between stages: activations forward, gradients back,",
               "per micro-batch; MPI, while both compute"),
              ("tensor", "between shards: sums and gathers within each layer,",
               "forward and backward, per micro-batch; Horovod"),
              ("data", "between ranks of the same stage and shard:",
               "sum of the gradients, once per step; Horovod"))
    for entry, (kind, *words) in enumerate(legend):
        y = 80 + 66 * entry
        parts += [line(f"M572 {y}h44", kind), *(text(628, y - 3 + 17 * number, word, "", "start")
                                               for number, word in enumerate(words))]
    parts += [text(572, 300, "Only rank 0 holds complete weights: it distributes them,",
                   "", "start"),
              text(572, 317, "and gathers them from data 0 for a checkpoint.", "", "start")]
    return svg(990, 512, parts, "Eight ranks of a mesh, and who communicates with whom")


def gantt(traces: dict[str, Path]) -> str:
    """One step of each run as a Gantt chart, by the name of the schedule."""
    parts, left, width, top = [], 70, 830, 20
    steps = {name: one_step(path) for name, path in traces.items()}
    longest = max(end for _, end in steps.values())
    scale = width / longest
    for name, (events, end) in steps.items():
        parts.append(text(left, top + 4, f"{name}: one step, {end:.0f} ms", "title", "start"))
        for rank in (0, 1):
            y = top + 16 + 34 * rank
            parts.append(text(left - 8, y + 18, f"stage {rank}", "small", "end"))
            parts.append(f'<path d="M{left} {y + 26}h{end * scale:.1f}" class="axis"/>')
        for event in events:
            x, length = left + event["begin"] * scale, event["ms"] * scale
            y = top + 16 + 34 * event["rank"]
            kind = {"forward": "forward", "backward": "backward"}.get(event["name"], "update")
            number = event["args"].get("micro")
            parts.append(rect(x, y, max(length, 0.5), 24, kind,
                              f"{event['name']} {'' if number is None else number}: "
                              f"{event['ms']:.1f} ms"))
            if number is not None and length > 10:
                parts.append(text(x + length / 2, y + 16, str(number), "on"))
        top += 112
    parts += [rect(left, top, 14, 12, "forward"), text(left + 20, top + 11, "forward", "", "start"),
              rect(left + 100, top, 14, 12, "backward"),
              text(left + 120, top + 11, "backward", "", "start"),
              rect(left + 210, top, 14, 12, "update"),
              text(left + 230, top + 11, "sums over the ranks, optimizer; in the gaps the stage "
                   "waits", "", "start")]
    return svg(930, top + 24, parts, "Two stages at work: GPipe and 1F1B")


def one_step(path: Path) -> tuple[list[dict[str, Any]], float]:
    """Events of the shortest step after the first two, in milliseconds from its start, and its
    length."""
    events = [event for event in json.loads(path.read_text())["traceEvents"]
              if event["ph"] == "X"]
    ends: dict[int, float] = {}
    for event in events:
        if event["args"].get("what") == "end of the step":
            number = event["args"]["step"]
            ends[number] = max(ends.get(number, 0), event["ts"] + event["dur"])
    begins = [event["ts"] for event in events if event["pid"] == 0
              and event["name"] == "forward" and event["args"]["micro"] == 0]
    spans = [(end - begin, begin, end) for end in sorted(ends.values())[2:]
             for begin in [max(time for time in begins if time < end)]]
    length, begin, end = min(spans)
    work = [{"name": event["name"], "rank": event["pid"], "begin": (event["ts"] - begin) / 1e3,
              "ms": event["dur"] / 1e3, "args": event["args"]} for event in events
             if begin <= event["ts"] < end and event["name"] != "wait"]
    return work, length / 1e3


def main() -> None:
    """Draw both pictures."""
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return
    (IMAGES / "mesh.svg").write_text(mesh(), encoding="utf-8")
    if sys.argv[1:]:
        gpipe, one_forward = map(Path, sys.argv[1:])
        (IMAGES / "schedules.svg").write_text(gantt({"GPipe": gpipe, "1F1B": one_forward}),
                                              encoding="utf-8")


if __name__ == "__main__":
    main()
