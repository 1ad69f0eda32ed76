"""Which libraries are measured beside this one: their rows, programs and environments.

Each has a file of results of its own, and its programs take turns with ours, so that it can be
measured, and fail, without the others.
"""

from pathlib import Path
from typing import NamedTuple

from rows import ROWS

__all__ = ["HERE", "LIBRARIES", "MACHINE", "PUREJAXRL", "RESULTS", "ROOT", "Library"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULTS = HERE / "results"
MACHINE = "machine"
PUREJAXRL = "luchris429/purejaxrl", "31756b197773a52db763fdbe6d635e4b46522a73"


class Library(NamedTuple):
    """What is measured in one session.

    Attributes:
        title: its name on the page.
        rows: those of `rows.py` that it can train.
        python: the Python that it needs, such as "3.12"; "" is the one this is run with.
        with_ours: ours is installed into its environment, and measured there.
    """

    title: str
    rows: tuple[str, ...]
    python: str = ""
    with_ours: bool = False


PPO_ROWS = tuple(name for name, row in ROWS.items() if row["agent"] == "ppo")
LIBRARIES = {
    "rejax": Library("rejax", tuple(ROWS)),
    "purejaxrl": Library("PureJaxRL", PPO_ROWS[:6]),
    "ajax": Library("Ajax", PPO_ROWS[:6], python="3.12", with_ours=True),
    "sbx": Library("SBX", ("pendulum-10k", "pendulum-100k", "pendulum-1m")),
    MACHINE: Library("this machine", ()),
}
