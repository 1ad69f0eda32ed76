"""Environments of the user's own by a name: `python:module:Class`, on the import path or here.

    Config(env="python:maze:Maze")            # Maze() of maze.py in the working directory
    Config(env="python:maze:Maze?size=9")     # Maze(size=9)

The name stands in a run's config.json, so that resuming, evaluating and loading need no object: the
module is imported, as Python imports it, or from the working directory if it is nowhere else.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import jax

from jaxrl_pg.config import nearest
from jaxrl_pg.envs.adapters import suites

__all__ = ["PREFIX", "is_name", "make", "spelled_out"]

PREFIX = "python"


def is_name(env: Any) -> bool:
    """Say whether a value has the form of a name that says everything: a suite's, or a class's."""
    return suites.is_name(env) or (isinstance(env, str) and env.startswith(f"{PREFIX}:"))


def spelled_out(name: str) -> str:
    """Return the name that a short one stands for: `python:maze:Maze` for `maze:Maze`."""
    suite, mark, _ = name.partition(":")
    return f"{PREFIX}:{name}" if mark and suite not in (*suites.SUITES, PREFIX) else name


@functools.cache
def make(name: str) -> Any:
    """Make an environment by the path of its class; the same name is the same object.

    Args:
        name: `python:module:Class`, with `?option=value&...` for the class's arguments. An
            environment will do as well.

    Raises:
        ValueError: in one line, for a module that is not there or cannot be imported, for a name
            that it does not have or that is no environment's, or for arguments that the class does
            not take.
    """
    path, mark, query = name.partition("?")
    module_name, colon, attribute = path.removeprefix(f"{PREFIX}:").partition(":")
    if not colon or not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        raise ValueError(
            f"env={name!r}: give {PREFIX}:module:Class, such as {PREFIX}:maze:Maze for the class "
            "Maze of maze.py"
        )
    # What a module or an environment makes at first must not be tracers.
    with jax.ensure_compile_time_eval():
        module = _imported(module_name, name)
        if not hasattr(module, attribute):
            classes = [key for key, x in vars(module).items() if isinstance(x, type)]
            there = nearest(attribute, classes) if classes else "it has no class"
            raise ValueError(f"env={name!r}: {module_name} has no {attribute!r}: {there}")
        found, options = getattr(module, attribute), _options(name, query) if mark else {}
        if not (hasattr(found, "step_env") and hasattr(found, "reset_env")):
            # Nothing else is called: the name may stand in a folder that somebody else has made.
            raise ValueError(
                f"env={name!r}: {attribute} has no reset_env and step_env: give an environment's "
                "class"
            )
        if not isinstance(found, type):
            if options:
                raise ValueError(f"env={name!r}: {attribute} is an object and takes no options")
            return found
        try:
            return found(**options)
        except Exception as error:
            raise ValueError(
                f"env={name!r}: {attribute}({', '.join(options)}) cannot be made "
                f"({_line(error)}): give its arguments as {path}?name=value&name=value"
            ) from error


def _imported(module: str, name: str) -> Any:
    """Import a module, as Python does or else from the working directory."""
    here = os.getcwd()
    if not {"", here} & set(sys.path):
        sys.path.append(here)
        importlib.invalidate_caches()
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
            raise ValueError(
                f"env={name!r}: {module} needs {error.name}, which is not installed"
            ) from error
        beside = [path.stem for path in Path(here).glob("*.py")]
        close = difflib.get_close_matches(module, [*suites.SUITES, *beside], n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(
            f"env={name!r}: there is no module {module} in {here} or where Python looks "
            f"(PYTHONPATH): {hint}a suite's name begins with one of: {', '.join(suites.SUITES)}"
        ) from error
    except Exception as error:
        raise ValueError(f"env={name!r}: importing {module} failed ({_line(error)})") from error


def _options(name: str, query: str) -> dict[str, Any]:
    """Return the arguments in a name: Python's literals, and text where it is none."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        pairs = []
    if not pairs or len(dict(pairs)) < len(pairs) or not all(x.isidentifier() for x, _ in pairs):
        raise ValueError(f"env={name!r}: write arguments as name=value, joined by &, each once")
    return {option: _literal(text) for option, text in pairs}


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (MemoryError, RecursionError, SyntaxError, ValueError):
        return text


def _line(error: BaseException) -> str:
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first:.200}"
