"""The tables of pages that are made from other kept results than a study's rows.

Each is named as a study's is: what stands in a page between `<!-- recorded: <name> <block> -->` and
`<!-- end -->` is written by `record.py` with the functions here, and a test compares it with them.
"""

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

__all__ = ["BLOCKS", "NAMES", "PAGES", "block"]

FOLDER = Path(__file__).parent
DOCS = FOLDER.parent / "docs"
SCALING = ("facts", "envs", "agents", "width", "replay", "kept", "memory")
SCALING += ("rates", "errors", "costs", "accelerators", "held")


def module(path: str) -> ModuleType:
    """Import a script by its path in this folder, which imports those beside it."""
    place = FOLDER / path
    sys.path.insert(0, str(place.parent))
    try:
        return importlib.import_module(place.stem)
    finally:
        sys.path.remove(str(place.parent))


def scaling(key: str) -> str:
    """Give a table of how time and memory grow (`make bench-scaling`)."""
    page = module("scaling/scaling_page.py")
    return page.BLOCKS[key](page.load())


def fine_tuning() -> str:
    """Give what an old policy is worth in a changed environment (`make fine-tuning`)."""
    script = module("fine_tuning/fine_tuning.py")
    return script.table(json.loads(script.RESULTS.read_text(encoding="utf-8")))


def players() -> str:
    """Give what players lose who see a part of the observation (`make players`)."""
    page = module("players/page.py")
    return page.table(json.loads(page.RESULTS.read_text(encoding="utf-8")))


def ratios(folder: str) -> str:
    """Give how far an iteration moves probabilities (`make ratios`)."""
    found = json.loads((FOLDER / folder / "ratios.json").read_text(encoding="utf-8"))
    return module("analytical_vs_ppo/ratios.py").table(found)


def variance(problem: str) -> str:
    """Give bias and variance of every estimator (`make variance`)."""
    script = module("variance/variance.py")
    return "\n".join(script.table(script.load()[problem]))


BLOCKS: dict[tuple[str, str], Callable[[], str]] = {
    **{("scaling", key): lambda key=key: scaling(key) for key in SCALING},
    ("fine_tuning", "table"): fine_tuning,
    ("players", "table"): players,
    ("ratios", "analytical_vs_ppo"): lambda: ratios("analytical_vs_ppo"),
    ("ratios", "kin"): lambda: ratios("kin"),
    ("variance", "MDP"): lambda: variance("MDP"),
    ("variance", "CartPole-v1"): lambda: variance("CartPole-v1"),
}
NAMES = {name for name, _ in BLOCKS}
PAGES = (
    DOCS / "scaling.md",
    DOCS / "how-to" / "fine-tune.md",
    FOLDER / "players" / "README.md",
    FOLDER / "kin" / "README.md",
    FOLDER / "variance" / "variance.md",
)
"""pages beside those of studies, with such tables"""


def block(name: str, key: str) -> str:
    """Return a block as Markdown."""
    if (name, key) not in BLOCKS:
        known = ", ".join(k for n, k in BLOCKS if n == name)
        raise ValueError(f"{name} has no block {key!r}: give one of {known}")
    return BLOCKS[name, key]()
