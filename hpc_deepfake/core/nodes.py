"""Ranks and the nodes that they run on, as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby


def label(ranks: Iterable[int], hosts: Sequence[str], nodes: Sequence[int]) -> str:
    """``n02`` for all ranks of a node, ``rank 3 on n02`` for some of them; names up to 4 nodes.

    Args:
        ranks: those to name.
        hosts: host name of each rank.
        nodes: number of each rank's node: its lowest rank.
    """
    by_node: dict[int, list[int]] = {}
    for rank in sorted(ranks):
        by_node.setdefault(nodes[rank], []).append(rank)
    sizes = Counter(nodes)
    names = [hosts[node] if len(group) == sizes[node]
             else f"rank{'s' * (len(group) > 1)} {ranges(group)} on {hosts[node]}"
             for node, group in by_node.items()]
    more = f" and {len(names) - 4} more nodes" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


def ranges(numbers: Iterable[int]) -> str:
    """``0-3, 7`` for 0, 1, 2, 3, 7."""
    runs = [[n for _, n in run] for _, run in
            groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
