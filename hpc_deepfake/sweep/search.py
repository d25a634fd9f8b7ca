"""What a sweep varies: options of train with lists of values, or ranges to draw from."""

from __future__ import annotations

import argparse
import difflib
import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.options import Parser, is_number, is_whole
from hpc_deepfake.core.text import plural
from hpc_deepfake.train.options import parser as train_parser

# Options of train that a sweep can't vary, and what to do instead.
_FIXED = {"data": "all trials have the same --data",
          "run": "each trial has a run directory of its own",
          "resume": "a sweep always resumes", "no_report": "the sweep has a report",
          "seed": "use --repeats, which trains with consecutive seeds",
          "seeds": "use --repeats, which trains with consecutive seeds",
          "member": "use --repeats, which trains with consecutive seeds",
          "device": "all trials compute on the same one: give it after --",
          "recipe": "it stands for other options: vary these, or give it after --",
          "monitor": "the trials are ranked by it: give it after --",
          "timeline": "give it after --", "trace": "it is one file",
          "tensorboard": "give it after --, without DIR"}
_MOST_DRAWS = 1000  # in vain, for a combination that is new

Value = Any  # of an option: a number, a text, or whether a switch is given
Combination = dict[str, Value]  # by name of the option, as in config.json


@dataclass(frozen=True)
class Choice:
    """A list of values.

    Attributes:
        values: at least one.
    """

    values: tuple[Value, ...]

    def draw(self, chance: float) -> Value:
        """One of the values, by a number from 0 to below 1."""
        return self.values[int(chance * len(self.values))]


@dataclass(frozen=True)
class Range:
    """An interval of numbers.

    Attributes:
        low: the lowest, an int where only whole numbers are drawn.
        high: the highest, likewise.
        log: whether the logarithm is uniform, not the number.
        whole: whether only whole numbers are drawn.
    """

    low: float
    high: float
    log: bool
    whole: bool

    def draw(self, chance: float) -> Value:
        """A number, by one from 0 to below 1; of those that aren't whole, three digits."""
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        value = (low * (high / low) ** chance if self.log else low + chance * (high - low))
        rounded = round(value) if self.whole else float(f"{value:.3g}")
        return min(max(rounded, self.low), self.high)


Domain = Choice | Range


def read_grid(words: Sequence[str]) -> dict[str, Choice]:
    """What ``--grid`` varies: each word is NAME=VALUE,VALUE,….

    Raises:
        InputError: an option that train doesn't have, or an impossible value.
    """
    domains: dict[str, Choice] = {}
    for word in words:
        cli, action, text = _option("--grid", word)
        _once("--grid", action, domains)
        domains[action.dest] = _choice(cli, action, text, f"--grid {word}")
    return domains


def read_random(words: Sequence[str]) -> dict[str, Domain]:
    """What ``--random`` draws: each word is NAME=LOW:HIGH, NAME=log:LOW:HIGH or
    NAME=VALUE,VALUE,….

    Raises:
        InputError: an option that train doesn't have, or an impossible value or range.
    """
    domains: dict[str, Domain] = {}
    for word in words:
        cli, action, text = _option("--random", word)
        _once("--random", action, domains)
        where = f"--random {word}"
        match = re.fullmatch(r"(log:)?([^:,;]+):([^:,;]+)", text)
        if not match or not is_number(action):
            domains[action.dest] = _choice(cli, action, text, where)
            continue
        low, high = (cli.checked(action, end, where) for end in match.groups()[1:])
        if low >= high:
            raise InputError(f"{where}: give the lower end of the range first")
        if match[1] and low <= 0:
            raise InputError(f"{where}: a logarithmic range begins above 0")
        domains[action.dest] = Range(low, high, bool(match[1]), is_whole(action))
    return domains


def combinations(grid: dict[str, Choice], drawn: dict[str, Domain], draws: int,
                 seed: int) -> Iterator[Combination]:
    """All combinations of the grid; with ``drawn``, each of them with every draw.

    Args:
        grid: options with all of whose values a combination is made.
        drawn: options of which values are drawn at random.
        draws: number of draws, all different.
        seed: of the draws; the first ones are the same whatever their number.

    Raises:
        InputError: an option in both, or fewer different draws than asked for.
    """
    both = sorted(grid.keys() & drawn.keys())
    if both:
        raise InputError(f"--grid and --random: {both[0].replace('_', '-')} is in both; leave it "
                         "out of one")
    product = [dict(zip(grid, values, strict=True))
               for values in itertools.product(*(choice.values for choice in grid.values()))]
    for draw in _draws(drawn, draws, seed) if drawn else [{}]:
        for combination in product:
            yield {**combination, **draw}


def _draws(drawn: dict[str, Domain], draws: int, seed: int) -> Iterator[Combination]:
    generator = random.Random(seed)
    seen: set[tuple[Value, ...]] = set()
    for number in range(draws):
        for _ in range(_MOST_DRAWS):
            values = tuple(domain.draw(generator.random()) for domain in drawn.values())
            if values not in seen:
                break
        else:
            raise InputError(f"--trials {draws}: after {plural(number, 'draw')} no other "
                             "combination was found; give fewer, or wider ranges, or use --grid")
        seen.add(values)
        yield dict(zip(drawn, values, strict=True))


def _option(where: str, word: str) -> tuple[Parser, argparse.Action, str]:
    """The option of train that a word varies, and the text of its values."""
    name, equals, text = word.partition("=")
    if not equals or not text:
        raise InputError(f"{where} {word}: give NAME=VALUES, like learning-rate=1e-4,3e-4")
    cli = train_parser()
    options = cli.settable()
    key = name.removeprefix("--").replace("-", "_")
    action = options.get(key)
    if action is None or action.dest in _FIXED:
        possible = sorted(option.replace("_", "-") for option, other in options.items()
                          if other.dest not in _FIXED)
        why = f"a sweep can't vary it: {_FIXED[action.dest]}" if action else \
            f"train has no option --{key.replace('_', '-')}{_similar(key, possible)}"
        raise InputError(f"{where} {word}: {why}. Options to vary: {', '.join(possible)}")
    return cli, action, text


def _similar(key: str, possible: Sequence[str]) -> str:
    close = difflib.get_close_matches(key.replace("_", "-"), possible, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _once(where: str, action: argparse.Action, domains: dict[str, Any]) -> None:
    if action.dest in domains:
        raise InputError(f"{where}: {action.dest.replace('_', '-')} is given twice; give all of "
                         "its values in one word")


def _choice(cli: Parser, action: argparse.Action, text: str, where: str) -> Choice:
    """Values separated by commas, or by semicolons if they have commas themselves."""
    texts = [part for part in re.split(";" if ";" in text else ",", text) if part]
    values = [_switch(part, where) if action.nargs == 0 else cli.checked(action, part, where)
              for part in texts]
    if not values or len(set(values)) < len(values):
        raise InputError(f"{where}: give different values, separated by commas")
    return Choice(tuple(values))


def _switch(text: str, where: str) -> bool:
    if text not in ("true", "false"):
        raise InputError(f"{where}: this option has no value: give true (with it) or false "
                         "(without), or both")
    return text == "true"
