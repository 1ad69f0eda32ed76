"""Making environments: by name or from an object, checked once at the door."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax

from jaxrl_pg.envs import games, own, parameters, partly_observed, spaces, trial, wrappers
from jaxrl_pg.envs.adapters import gymnax, suites
from jaxrl_pg.types import EnvSpec

__all__ = ["OURS", "Env", "listing", "make", "names"]

OURS = {**games.GAMES, **partly_observed.TASKS}


_ABOUT = {
    "gymnasium": ": on the host, in Python; those registered here",
    "envpool": ": on the host, in C++",
}


class Env(NamedTuple):
    """An environment ready for use.

    Attributes:
        core: the object with gymnax's interface; static.
        params: its parameters, overrides applied; may be traced.
        spec: what networks must know; static.
    """

    core: Any
    params: Any
    spec: EnvSpec


def make(env: Any, env_params: dict[str, Any] | None = None) -> Env:
    """Make an environment by its name, or from an object with gymnax 1.0's interface.

    An object's `reset_env` and `step_env` are traced once, so that whatever does not fit is said in
    one sentence before anything is compiled.

    Args:
        env: such as `"CartPole-v1"`, another suite's such as `"brax:ant"` (see `suites`), a class
            of one's own as `"python:module:Class"` (see `own`), a name in `OURS`, or an object.
        env_params: values that replace the environment's default parameters, in their types.

    Raises:
        ValueError: for an unknown name or parameter (the nearest is named), a value that its
            parameter cannot hold, a wrapper that would be passed over, an observation or action
            space that no policy here can serve, or an environment that does not do as it says.
    """
    is_ours = isinstance(env, str) and env in OURS
    if not isinstance(env, str):
        core = env
    elif is_ours:
        core = _ours(env)
    elif env.startswith(f"{own.PREFIX}:"):
        core = own.make(env)
    elif ":" in env:
        core = suites.make(env)
    else:
        core = gymnax.make(env, also_known=tuple(OURS))
    wrappers.require_heard(core)
    gymnax.require_interface(core)
    params, spec, values = parameters.defaults(core), spaces.spec(core), dict(env_params or {})
    if values:
        params = parameters.replace(core, env, params, values)
        spaces.check_bounds(core, params, values)
    # The suites' own need no trial, which takes up to a second; their parameters are tested.
    if not (isinstance(env, str) and (is_ours or gymnax.is_shipped(core))):
        trial.require_sound(core, tuple(sorted(values)))
    return Env(core, params, spec)


@functools.cache
def _ours(name: str) -> Any:
    """The same object every time, since it is static; arrays that it makes are no tracers."""
    with jax.ensure_compile_time_eval():
        return OURS[name]()


def names() -> list[str]:
    """Return the names of the environments that need no suite."""
    return [*gymnax.names(), *OURS]


def listing() -> list[str]:
    """Return the name of every environment that can be made here, below a header for each suite.

    A suite that is not installed has one line, with the command that installs it.
    """
    lines = ["# built in (gymnax, and our own)", *names()]
    for suite in suites.SUITES:
        try:
            there = suites.listing(suite)
        except ValueError as error:
            there = [str(error)]
        lines += ["", f"# {suite}{_ABOUT.get(suite, '')}", *there]
    return lines
