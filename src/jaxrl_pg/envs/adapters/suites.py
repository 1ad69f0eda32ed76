"""Environments of other suites by name: `suite:task`, or `suite:task?option=value&option=value`.

Each suite is an extra of its own, has one file here, and is imported when one of its environments
is named. A name says everything, so that the command line, sweeps, `resume` and `load` need no
object.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import math
from importlib import import_module
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl

import jax

from jaxrl_pg.config import nearest

__all__ = ["MODULES", "SUITES", "is_name", "listing", "make"]

SUITES = (
    "brax",
    "craftax",
    "envpool",
    "gymnasium",
    "jumanji",
    "navix",
    "pgx",
    "playground",
    "xminigrid",
)
MODULES = {"playground": "mujoco_playground"}  # of suites that are imported by another name
_LONGEST = 200  # characters of a name; folders are named after it
_WORDS = {"true": True, "false": False}


def is_name(env: Any) -> bool:
    """Say whether a value has the form of a suite's name, and the suite is one of these."""
    return isinstance(env, str) and ":" in env and env.partition(":")[0] in SUITES


def listing(suite: str) -> list[str]:
    """Return the names of a suite's environments.

    Raises:
        ValueError: with the command that installs it, if the suite is not installed.
    """
    with jax.ensure_compile_time_eval():
        return [f"{suite}:{task}" for task in _adapter(suite, f"{suite}:...").names()]


@functools.cache
def make(name: str) -> Any:
    """Make an environment by its name; the same name is the same object.

    Args:
        name: such as `brax:ant` or `brax:ant?backend=spring`.

    Raises:
        ValueError: for an unknown suite, task or option (the nearest is named), for an option's
            value that is not of its default's type, or for a suite that is not installed.
    """
    suite, task, given = _parsed(name)
    adapter = _adapter(suite, name)
    # Arrays that a suite makes must not be tracers, nor those of its modules, imported here.
    with jax.ensure_compile_time_eval():
        known = adapter.names()
        is_known = task in known or (hasattr(adapter, "knows") and adapter.knows(task))
        if not is_known:
            there = nearest(task, known, "jaxrl-pg envs")
            raise ValueError(f"unknown environment {name!r}: {there}")
        options = _options(name, given, adapter.options(task))
        try:
            return adapter.make(name, task, **options)
        except (AssertionError, KeyError, NotImplementedError, TypeError, ValueError) as error:
            line = (str(error).splitlines() or [""])[0]
            if line.startswith(repr(name)):  # it says so itself
                raise
            raise ValueError(
                f"{name!r} cannot be made ({type(error).__name__}: {line:.200}): give other "
                "options, or another environment"
            ) from error
        except OSError as error:
            line = (str(error).splitlines() or [""])[0]
            raise ValueError(f"{name!r} needs data that cannot be had here: {line:.200}") from error


def _parsed(name: str) -> tuple[str, str, dict[str, str]]:
    """Return suite, task and options of a name, before anything is imported."""
    if len(name) > _LONGEST:
        raise ValueError(f"env={name!r:.60}...: give a name of at most {_LONGEST} characters")
    suite, _, rest = name.partition(":")
    task, mark, query = rest.partition("?")
    if suite not in SUITES:
        raise ValueError(
            f"unknown suite {suite!r} of env={name!r}: {nearest(suite, SUITES)} (a class of your "
            f"own is python:{suite}:...)"
        )
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if mark else []
    except ValueError:
        pairs = []
    if (mark and not pairs) or len(dict(pairs)) < len(pairs):
        raise ValueError(
            f"env={name!r}: write options as name=value, joined by &, each once, such as "
            "brax:ant?backend=spring"
        )
    return suite, task, dict(pairs)


def _adapter(suite: str, name: str) -> ModuleType:
    """Return the file of a suite, if the suite is installed."""
    found = importlib.util.find_spec(MODULES.get(suite, suite))
    if found is None or found.origin is None:  # a folder of that name is no library
        raise ValueError(
            f'env={name!r} needs {suite}, which is not installed: pip install "jaxrl-pg[{suite}]" '
            f"(in a clone: make install EXTRAS={suite})"
        )
    return import_module(f"jaxrl_pg.envs.adapters.{suite}")


def _options(name: str, given: dict[str, str], allowed: dict[str, Any]) -> dict[str, Any]:
    """Return the values of options, each of its default's type."""
    options = {}
    for option, text in given.items():
        said = f"option {option!r} of {name!r}"
        if option not in allowed:
            either = nearest(option, allowed)
            raise ValueError(f"unknown {said}: {either} (env_params gives the time limit)")
        options[option] = _value(said, text, allowed[option])
    return options


def _value(said: str, text: str, default: Any) -> Any:
    """Return the value that a text stands for, of the type of an option's default."""
    try:
        value = _WORDS[text.lower()] if text.lower() in _WORDS else ast.literal_eval(text)
    except (MemoryError, RecursionError, SyntaxError, ValueError):
        value = text
    if type(default) is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if type(value) is not type(default) or isinstance(value, float):
        raise ValueError(f"{said}: give a value of the kind of its default, {default!r}")
    return value
