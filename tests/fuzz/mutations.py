"""Valid inputs, damaged to reach the code behind the first check too.

``Choices`` decides what is damaged: Hypothesis, which then looks for the smallest input that fails,
or random numbers, which are ten times as fast.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")
Seeds = Sequence[T] | Callable[[], Sequence[T]]  # a function where they take long to make


class Choices(Protocol):
    """Decides how an input is damaged."""

    def integer(self, low: int, high: int) -> int:
        """A number from ``low`` to ``high``."""

    def one_of(self, options: Sequence[T]) -> T:
        """One of the options."""

    def text(self, most: int) -> str:
        """At most so many characters of any kind."""


class Drawn:
    """Choices of Hypothesis."""

    def __init__(self, draw: Callable[..., Any]) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        number: int = self._draw(st.integers(low, high))
        return number

    def one_of(self, options: Sequence[T]) -> T:
        return options[self.integer(0, len(options) - 1)]

    def text(self, most: int) -> str:
        text: str = self._draw(st.text(max_size=most))
        return text


class Rolled:
    """Random choices."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        return low + int(self._random.random() * (high - low + 1))

    def one_of(self, options: Sequence[T]) -> T:
        return options[int(self._random.random() * len(options))]

    def text(self, most: int) -> str:
        ends = (0x7f, 0x7ff, 0xd7ff, 0x10ffff)
        return "".join(chr(self.integer(0, self.one_of(ends)))
                       for _ in range(self.integer(0, most)))


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


def damaged_bytes(choose: Choices, seeds: Seeds[bytes],
                  tokens: Sequence[bytes] = ()) -> bytes:
    """One of the seeds with up to six changes: bytes replaced, cut out, doubled or put in."""
    data = bytearray(choose.one_of(seeds() if callable(seeds) else seeds))
    extra = [*_NUMBERS, *tokens]
    for _ in range(choose.integer(1, 6)):
        at = choose.integer(0, len(data))
        change = choose.integer(0, 5)
        if change == 0:
            data[at:at + 1] = bytes([choose.integer(0, 255)])
        elif change == 1 and at < len(data):
            data[at] ^= 1 << choose.integer(0, 7)
        elif change == 2:
            word = choose.one_of(extra)
            data[at:at + len(word)] = word
        elif change == 3:
            data[at:at] = choose.one_of(extra)
        elif change == 4:
            del data[at:at + choose.one_of((1, 4, 64, len(data)))]
        else:
            data[at:at] = data[at:at + choose.integer(1, 64)]
    return bytes(data)


def damaged_text(choose: Choices, seeds: Seeds[str],
                 tokens: Sequence[str] = ()) -> str:
    """One of the seeds with up to six changes: words and lines replaced, cut out, doubled, put
    in."""
    text = choose.one_of(seeds() if callable(seeds) else seeds)
    words = [*_WORDS, *tokens]
    for _ in range(choose.integer(1, 6)):
        at = choose.integer(0, len(text))
        change = choose.integer(0, 4)
        if change == 0:
            end = at + choose.one_of((0, 1, 5, 40))
            text = text[:at] + choose.one_of(words) + text[end:]
        elif change == 1:
            text = text[:at] + choose.text(4) + text[at:]
        elif change == 2:
            text = text[:at] + text[at + choose.one_of((1, 10, len(text))):]
        else:
            lines = text.split("\n")
            line = choose.integer(0, len(lines) - 1)
            if change == 3:
                lines[line:line] = [lines[line]]
            else:
                del lines[line]
            text = "\n".join(lines)
    return text


def damaged_tree(choose: Choices, seeds: Sequence[Any]) -> Any:
    """One of the seeds, a tree of JSON, with up to four changes of values, keys and items."""
    tree = copy.deepcopy(choose.one_of(seeds))
    for _ in range(choose.integer(1, 4)):
        value = choose.one_of(_VALUES)
        parent, key = _place(choose, tree)
        if parent is None:
            return value if choose.integer(0, 9) == 0 else tree
        change = choose.integer(0, 5)
        if change == 0:
            del parent[key]
        elif change == 1 and isinstance(parent, dict):
            parent[choose.one_of(("", "x", "\ud800", "__class__", "epoch"))] = \
                parent.pop(key)
        elif change == 2 and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        elif change == 3:
            parent[key] = [parent[key]] if choose.integer(0, 1) else {"x": parent[key]}
        else:
            parent[key] = copy.deepcopy(value)
    return tree


def _place(choose: Choices, tree: Any) -> tuple[Any, Any]:
    """A container in the tree and one of its keys, found by going down from the root."""
    parent, key = None, None
    while isinstance(tree, (dict, list)) and tree:
        keys = list(tree) if isinstance(tree, dict) else range(len(tree))
        parent, key = tree, choose.one_of(keys)
        tree = parent[key]
        if choose.integer(0, 2) == 0:
            break
    return parent, key


def damaged_json(choose: Choices, seeds: Sequence[Any]) -> bytes:
    """A damaged tree as the bytes of a file, which may themselves be damaged: cut off, nested
    without end, with a key twice, in another encoding."""
    text = json.dumps(damaged_tree(choose, seeds))
    change = choose.integer(0, 19)
    if change == 0:
        text = text[:choose.integer(0, len(text))]
    elif change == 1:
        text = choose.one_of(("[", '{"a":', '{"epoch":1,"seconds":')) * 50_000
    elif change == 2:
        text = damaged_text(choose, [text], ('"a":', "NaN", "-Infinity", "1E400", "{", "\\u0000"))
    elif change == 3:
        text = text.replace("{", '{"epoch": "twice", ', 1)
    elif change == 4:
        return text.encode(choose.one_of(("utf-16", "utf-32", "utf-8-sig")))
    elif change == 5:
        return damaged_bytes(choose, [text.encode()], (b"\xff\xfe", b"\xc3", b"\xed\xa0\x80"))
    return text.encode("utf-8", "surrogatepass")
