"""Hypothesis strategies that damage valid inputs, to reach the code behind the first check too."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

# what lengths, offsets and counts become
_NUMBERS = [bytes(2), b"\xff\xff", bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f",
            bytes(8), b"\xff" * 8, b"\x00\x01", b"\x01\x00\x00\x00"]
_VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 7, 0.5, -0.0, 1e-300, 1e308, float("nan"), float("inf"),
    float("-inf"), 2**31, 2**63, -2**63, 10**400, "", "x", "0", "-1", "1e999", "nan", "\0", "\n",
    "\ud800", "ünï 🖼", "a" * 300, "9" * 5000, "../../etc/passwd", "<b>&\"'", "{0.__class__}", [],
    {}, [[]], [None], [1, "x", None], {"": 0}, {"a": {"b": [1]}}, {"mean": "x"}, [{}], [[1], 2]]
_WORDS = ["", " ", "-", "--", "=", ":", ";", "|", ",", "\0", "\r", "\r\n", "\n", "\t", "\x1b[31m",
          "\x85", "\u2028", "\ud800", "\udcff", "\ufeff", "٣", "²", "0", "-1", "9" * 400,
          "9" * 5000,
          "1e999", "nan", "inf", "1_0", "0x10", "%", "{}", "{0}", "'", '"', "\\", "#", "[", "]",
          "None", "True", "../", "/", "a" * 300]


@st.composite
def damaged_bytes(draw: Callable[..., Any], seeds: Sequence[bytes],
                  tokens: Sequence[bytes] = ()) -> bytes:
    """One of the seeds with up to six changes: bytes replaced, cut out, doubled or put in."""
    data = bytearray(draw(st.sampled_from(seeds)))
    extra = [*_NUMBERS, *tokens]
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        change = draw(st.integers(0, 5))
        if change == 0:
            data[at:at + 1] = bytes([draw(st.integers(0, 255))])
        elif change == 1 and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif change == 2:
            word = draw(st.sampled_from(extra))
            data[at:at + len(word)] = word
        elif change == 3:
            data[at:at] = draw(st.sampled_from(extra))
        elif change == 4:
            del data[at:at + draw(st.sampled_from((1, 4, 64, len(data))))]
        else:
            data[at:at] = data[at:at + draw(st.integers(1, 64))]
    return bytes(data)


@st.composite
def damaged_text(draw: Callable[..., Any], seeds: Sequence[str],
                 tokens: Sequence[str] = ()) -> str:
    """One of the seeds with up to six changes: words and lines replaced, cut out, doubled, put
    in."""
    text: str = draw(st.sampled_from(seeds))
    words = [*_WORDS, *tokens]
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(text)))
        change = draw(st.integers(0, 4))
        if change == 0:
            end = at + draw(st.sampled_from((0, 1, 5, 40)))
            text = text[:at] + draw(st.sampled_from(words)) + text[end:]
        elif change == 1:
            text = text[:at] + draw(st.text(max_size=4)) + text[at:]
        elif change == 2:
            text = text[:at] + text[at + draw(st.sampled_from((1, 10, len(text)))):]
        else:
            lines = text.split("\n")
            line = draw(st.integers(0, len(lines) - 1))
            if change == 3:
                lines[line:line] = [lines[line]]
            else:
                del lines[line]
            text = "\n".join(lines)
    return text


@st.composite
def damaged_tree(draw: Callable[..., Any], seeds: Sequence[Any]) -> Any:
    """One of the seeds, a tree of JSON, with up to four changes of values, keys and items."""
    tree = copy.deepcopy(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        value = draw(st.sampled_from(_VALUES))
        parent, key = _place(draw, tree)
        if parent is None:
            return value if draw(st.integers(0, 9)) == 0 else tree
        change = draw(st.integers(0, 5))
        if change == 0:
            del parent[key]
        elif change == 1 and isinstance(parent, dict):
            parent[draw(st.sampled_from(("", "x", "\ud800", "__class__", "epoch")))] = \
                parent.pop(key)
        elif change == 2 and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        elif change == 3:
            parent[key] = [parent[key]] if draw(st.booleans()) else {"x": parent[key]}
        else:
            parent[key] = copy.deepcopy(value)
    return tree


def _place(draw: Callable[..., Any], tree: Any) -> tuple[Any, Any]:
    """A container in the tree and one of its keys, found by going down from the root."""
    parent, key = None, None
    while isinstance(tree, (dict, list)) and tree:
        keys = list(tree) if isinstance(tree, dict) else range(len(tree))
        parent, key = tree, draw(st.sampled_from(keys))
        tree = parent[key]
        if draw(st.integers(0, 2)) == 0:
            break
    return parent, key


@st.composite
def damaged_json(draw: Callable[..., Any], seeds: Sequence[Any]) -> bytes:
    """A damaged tree as the bytes of a file, which may themselves be damaged: cut off, nested
    without end, with a key twice, in another encoding."""
    text = json.dumps(draw(damaged_tree(seeds)))
    change = draw(st.integers(0, 19))
    if change == 0:
        text = text[:draw(st.integers(0, len(text)))]
    elif change == 1:
        text = draw(st.sampled_from(("[", '{"a":', '{"epoch":1,"seconds":'))) * 50_000
    elif change == 2:
        text = draw(damaged_text([text], ['"a":', "NaN", "-Infinity", "1E400", "{", "\\u0000"]))
    elif change == 3:
        text = text.replace("{", '{"epoch": "twice", ', 1)
    elif change == 4:
        return text.encode(draw(st.sampled_from(("utf-16", "utf-32", "utf-8-sig"))))
    elif change == 5:
        return draw(damaged_bytes([text.encode()], [b"\xff\xfe", b"\xc3", b"\xed\xa0\x80"]))
    return text.encode("utf-8", "surrogatepass")
