"""A tour of layers and classes, spelled out: an objective for each, with weights that cross-fade.

    - {cycle: [fire4, fire6, fire8], every: 4s, fade: 1s}

becomes three objectives, the first with the weight `cycle(sec/4, 0, 3, 1/4)` (see `schedule`). Each
keeps the place it was written at. Whoever reads the tree has checked the settings.
"""

from __future__ import annotations

from dreamflow.settings import Cycle, split_time
from dreamflow.strict_yaml import Mapping, Node, Scalar, Sequence

_CLOCKS = {"f": "t", "s": "sec", "%": "100*t/max(max_f,1)"}
"""What counts the units of a time."""


def spelled_out(item: Mapping, cycle: Cycle, weight: str) -> list[Node]:
    """The objectives that the list's `item`, which was read as `cycle`, is short for.

    `weight` is that of the whole tour, as text: a number or an expression in parentheses.
    """
    stops = item.entries["cycle"]
    assert isinstance(stops, Sequence)
    origin = item.entries.get("weight", stops)
    objectives: list[Node] = []
    for stop, turn in zip(stops.items, _turns(cycle), strict=True):
        text = turn if weight == "1" else f"{weight}*{turn}"
        subject = stop.entries if isinstance(stop, Mapping) else {"layer": stop}
        entries = {**subject, "weight": Scalar(origin.mark, text, text)}
        if "octaves" in item.entries:
            entries["octaves"] = item.entries["octaves"]
        objectives.append(Mapping(stop.mark, entries, {key: stop.mark for key in entries}))
    return objectives


def _turns(cycle: Cycle) -> list[str]:
    """An expression for each stop: 1 in its turn, 0 in the others', and all together always 1."""
    every, unit = split_time(cycle.every)
    fade, _ = split_time(cycle.fade)
    clock, count = f"{_CLOCKS[unit]}/{every}", len(cycle.cycle)
    return [f"cycle({clock}, {place}, {count}, {fade}/{every})" for place in range(count)]
