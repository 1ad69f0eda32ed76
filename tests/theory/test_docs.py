"""Every dotted name that docs/theory.md prints exists."""

import importlib
import re
from pathlib import Path

import pytest

import jaxrl_pg

PAGE = Path(__file__).parents[2] / "docs" / "theory.md"
DOTTED = set(re.findall(r"`([a-z_]+(?:\.[a-z_0-9*]+)+)`", PAGE.read_text()))
NAMES = sorted(x for x in DOTTED if not x.endswith(".py") and not x.startswith(("jax.", "lax.")))
OUTSIDE = ("jaxrl_pg", "ops", "envs", "training")


def resolve(name):
    """Import as much of a dotted path as is modules, and take the rest as attributes."""
    parts, result = name.split("."), jaxrl_pg
    path = "jaxrl_pg"
    for part in parts:
        path = f"{path}.{part}"
        try:
            result = importlib.import_module(path)
        except ModuleNotFoundError:
            result = getattr(result, part)
    return result


def test_the_index_names_functions_of_every_sub_package():
    assert len(NAMES) > 50
    assert {name.split(".")[0] for name in NAMES} >= {"learning", "bounds", "updates", "soft"}


@pytest.mark.parametrize("name", NAMES)
def test_a_dotted_name_of_the_page_exists(name):
    if name.split(".")[0] not in OUTSIDE:
        name = f"theory.{name}"
    name = name.removeprefix("jaxrl_pg.")
    room, _, last = name.rpartition(".")
    if "*" not in last:
        assert resolve(name) is not None
        return
    pattern = re.compile(last.replace("*", ".*"))
    assert any(map(pattern.fullmatch, resolve(room).__all__))
