"""Environments of other suites by name: `suite:task`, or `suite:task?option=value&option=value`.

Each suite is an extra of its own, has one file here, and is imported when one of its environments is
named. A name says everything, so that the command line, sweeps, `resume` and `load` need no object.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from importlib import import_module
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl

import jax

from jaxrl_pg.config import nearest

__all__ = ["SUITES", "installed", "is_name", "make"]

SUITES = ("brax", "craftax", "navix", "pgx", "xminigrid")


def is_name(env: str) -> bool:
    """Say whether a text has the form of a suite's name, and the suite is one of these."""
    return env.partition(":")[0] in SUITES


def installed() -> list[str]:
    """Return the suites that are installed here."""
    return [suite for suite in SUITES if importlib.util.find_spec(suite) is not None]


@functools.cache
def make(name: str) -> Any:
    """Make an environment by its name; the same name is the same object.

    Args:
        name: such as `brax:ant` or `brax:ant?backend=spring`.

    Raises:
        ValueError: for an unknown suite, task or option, or a suite that is not installed.
    """
    suite, _, rest = name.partition(":")
    task, _, query = rest.partition("?")
    adapter = _adapter(suite, name)
    known = adapter.names()
    if task not in known:
        raise ValueError(f"unknown environment {name!r}: {nearest(task, known)}")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        options = {key: _value(text) for key, text in pairs}
        with jax.ensure_compile_time_eval():  # arrays made here must not be tracers
            return adapter.make(name, task, **options)
    except (AssertionError, KeyError, NotImplementedError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{name!r}: {task} cannot be made with {query!r} ({reason}): options are written "
            "name=value, joined by &"
        ) from error


def _adapter(suite: str, name: str) -> ModuleType:
    """Return the file of a suite, if the suite is known and installed."""
    if suite not in SUITES:
        raise ValueError(f"unknown suite in {name!r}: {nearest(suite, list(SUITES))}")
    if importlib.util.find_spec(suite) is None:
        raise ValueError(
            f"{name!r} needs {suite}, which is not installed: pip install 'jaxrl-pg[{suite}]', or "
            f"make install EXTRAS={suite}"
        )
    return import_module(f"jaxrl_pg.envs.adapters.{suite}")


def _value(text: str) -> Any:
    """Return the number, boolean or None that a text is, or the text."""
    word = {"true": True, "false": False, "none": None}
    if text.lower() in word:
        return word[text.lower()]
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
