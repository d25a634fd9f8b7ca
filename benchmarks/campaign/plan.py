"""Which fault comes when: a function of the seed and the number of the fault alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from .kinds import BEFORE, Kind
from .programs import Program

T = TypeVar("T")

LENGTH = 6  # faults of a chain; the last one runs to the end


@dataclass(frozen=True)
class Fault:
    """A planned fault.

    Attributes:
        number: of the campaign.
        event: after which it happens.
        fraction: of the time until the next event.
    """

    number: int
    program: Program
    kind: Kind
    event: str
    fraction: float


def deck(seed: str, cards: Sequence[T]) -> Iterator[T]:
    """All cards in a random order, then all in another one, and so on."""
    turn = 0
    while True:
        yield from random.Random(f"{seed}/{turn}").sample(cards, len(cards))
        turn += 1


def plan(seed: int, programs: Sequence[Program], kinds: Sequence[Kind],
         root: bool) -> Iterator[list[Fault]]:
    """The chains of a campaign: groups of programs in turn."""
    groups = [[program for program in programs if program.group == group]
              for group in dict.fromkeys(program.group for program in programs)]
    turns = [deck(f"{seed}/{group[0].group}", group) for group in groups]
    cards = {program: (_kinds(seed, program, kinds, root, False),
                       _kinds(seed, program, kinds, root, True)) for program in programs}
    number = 0
    while True:
        for turn in turns:
            program = next(turn)
            breaks, completes = cards[program]
            chosen = [kind for _, kind in zip(range(LENGTH - 1), breaks)]
            chain = sorted((_fault(seed, number + place, program, kind)
                            for place, kind in enumerate(chosen)), key=_order)
            last = [_fault(seed, number + len(chain), program, kind)
                    for _, kind in zip(range(1 if completes else 0), completes)]
            yield [replace(fault, number=number + place)
                   for place, fault in enumerate(chain + last)]
            number += len(chain + last)


def _kinds(seed: int, program: Program, kinds: Sequence[Kind], root: bool,
           completes: bool) -> Iterator[Kind]:
    cards = [kind for kind in kinds for _ in range(kind.weight)
             if kind.completes == completes and kind.fits(program, root)]
    return deck(f"{seed}/{program}/{program.options}/{completes}", cards) if cards else iter(())


def _fault(seed: int, number: int, program: Program, kind: Kind) -> Fault:
    chance = random.Random(f"{seed}/{number}")
    events = [event for event in kind.events or program.events
              if event in (BEFORE, *program.events)]
    return Fault(number, program, kind, chance.choice(events), chance.random())


def _order(fault: Fault) -> tuple[int, float]:
    """Later moments come later in a chain, as a resumed program has less left to do; what is done
    to finished things comes when there are some."""
    events = [*fault.program.events[:3], BEFORE, *fault.program.events[3:]]
    return events.index(fault.event), fault.fraction
