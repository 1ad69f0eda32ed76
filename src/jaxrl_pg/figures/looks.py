"""What each method looks like: a colour, a dash and a marker, the same in every figure.

The colours are those of Okabe and Ito, "Color universal design" (2008), which people with any kind
of colour vision can tell apart, without their yellow, which is invisible on white paper. No two
methods share both colour and dash, and no two of a colour share the marker, so that a figure can
also be read in grey.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = [
    "BLUE",
    "COLOURS",
    "DASHED",
    "DASHES",
    "DASH_DOTTED",
    "DOTTED",
    "GREEN",
    "INK",
    "METHODS",
    "ORANGE",
    "PURPLE",
    "SKY",
    "SOLID",
    "VERMILLION",
    "Look",
    "assign",
    "known",
    "look_of",
]

BLUE = "#0072b2"
VERMILLION = "#d55e00"
GREEN = "#009e73"
ORANGE = "#e69f00"
PURPLE = "#cc79a7"
SKY = "#56b4e9"
INK = "#1d2126"  # of text and axes too: a page in the dark shows it light
COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, INK)
Dash = str | tuple[float, tuple[float, ...]]
SOLID = "-"
DASHED = (0, (4.0, 1.4))  # in units of the line's width
DOTTED = (0, (1.0, 1.1))
DASH_DOTTED = (0, (5.0, 1.4, 1.0, 1.4))
DASHES: tuple[Dash, ...] = (SOLID, DASHED, DOTTED, DASH_DOTTED)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
_ALIKE = 3  # lines of one method that dash and marker tell apart


class Look(NamedTuple):
    """How the line of one method is drawn.

    Attributes:
        colour: as `#rrggbb`.
        dash: a line style of matplotlib.
        marker: a marker of matplotlib.
    """

    colour: str
    dash: Dash = SOLID
    marker: str = "o"

    def line(self) -> dict[str, Any]:
        """Return the keyword arguments of matplotlib's `plot`."""
        return {"color": self.colour, "linestyle": self.dash, "marker": self.marker}


METHODS = {
    "analytical": Look(BLUE, SOLID, "o"),
    "ppo": Look(VERMILLION, SOLID, "s"),
    "actor_critic": Look(GREEN, SOLID, "^"),
    "reinforce": Look(PURPLE, SOLID, "D"),
    "natural_gradient": Look(SKY, SOLID, "v"),
    "sac": Look(ORANGE, SOLID, "P"),
    "reps": Look(INK, SOLID, "X"),
    "analytical_replay": Look(BLUE, DASHED, ">"),
    "off_policy_actor_critic": Look(GREEN, DASHED, "<"),
    "td3": Look(PURPLE, DASHED, ">"),
    "dqn": Look(SKY, DASHED, "<"),
    "soft_q_learning": Look(ORANGE, DASHED, "D"),
    "multi_agent": Look(INK, DASHED, "o"),
    "pqn": Look(VERMILLION, DASHED, "^"),
    "ddpg": Look(PURPLE, DOTTED, "v"),
    "v_mpo": Look(GREEN, DASH_DOTTED, "P"),
    "awr": Look(ORANGE, DASH_DOTTED, "^"),
    "mdpo": Look(PURPLE, DASH_DOTTED, "X"),
    "mpo": Look(SKY, DASH_DOTTED, "s"),
    "crr": Look(INK, DASH_DOTTED, "D"),
    "algorithm_1": Look(ORANGE, DOTTED, "o"),
}
"""every agent of the package, and the named settings of some"""


def known(name: str) -> bool:
    """Say whether the table has the method, written as an agent's name or as `V-MPO`."""
    return _key(name) in METHODS


def look_of(name: str) -> Look:
    """Return the look of one method; one that the table lacks gets a colour by its name."""
    order = list(_in_turn())
    return METHODS.get(_key(name)) or order[zlib.crc32(_key(name).encode()) % len(COLOURS)]


def assign(methods: Mapping[str, str]) -> dict[str, Look]:
    """Give every line of a figure a look, no two the same.

    A method that has one line looks as it does everywhere. Up to three lines of one method share
    its colour and differ in dash and marker; more than three take colours that no other method of
    the figure has, and if a figure holds only one method, its lines take the colours in turn.

    Args:
        methods: the method of each line, by the line's label.

    Returns:
        The look of each label, in the same order. It depends on nothing but these names.
    """
    every = list(_in_turn())
    if len(set(methods.values())) == 1 < len(methods):
        return dict(zip(methods, every, strict=False))
    count = Counter(methods.values())
    reserved = {look_of(method).colour for method in count if known(method)}
    found: dict[str, Look] = {}
    for label in sorted(methods, key=lambda x: (not known(methods[x]), count[methods[x]] > _ALIKE)):
        method, wanted = methods[label], look_of(methods[label])
        taken = set(found.values())
        used = reserved | {look.colour for look in taken}
        fresh = [look for look in every if look.colour not in used]
        same = [look for look in every if look.colour == wanted.colour]
        dashes = {look.dash for look in taken if look.colour == wanted.colour}
        same = [look for look in same if look.dash not in dashes] + same
        is_first = all(methods[other] != method for other in found)
        if is_first and known(method):
            choices = [wanted, *same]
        elif is_first:
            choices = [*([] if wanted.colour in used else [wanted]), *fresh, *same]
        else:
            choices = [*(fresh if count[method] > _ALIKE else []), *same]
        found[label] = next((x for x in [*choices, *every] if x not in taken), wanted)
    return {label: found[label] for label in methods}


def _key(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def _in_turn() -> Iterator[Look]:
    """Yield looks, all colours with one dash before the next dash."""
    number = 0
    for turn in range(len(_MARKERS)):
        for colour in COLOURS:
            yield Look(colour, DASHES[turn % len(DASHES)], _MARKERS[number % len(_MARKERS)])
            number += 1
