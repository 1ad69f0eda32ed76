"""brax: rigid bodies, simulated in JAX (Freeman et al. 2021, arXiv 2106.13281).

    ppo.Config(env="brax:ant?backend=spring")

The raw environments, without brax's wrappers: these start a new episode from a cached state, so
that every episode of an environment would begin alike. Options of a name are the arguments of the
environment's class, such as `backend` (`generalized`, `spring`, `positional`, `mjx`).
"""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg.envs.adapters import gymnax
from jaxrl_pg.envs.adapters.counted import Counted, Views

__all__ = ["make", "names", "options"]

_LIMIT = 1000  # brax's own default of `episode_length`


def names() -> list[str]:
    """Return the environments' names."""
    return sorted(set(_brax()._envs) - {"fast"})  # that one is for tests of brax's own


def options(task: str) -> dict[str, Any]:
    """Return the arguments of an environment's class, and their defaults."""
    arguments = inspect.signature(_brax()._envs[task].__init__).parameters.values()
    return {x.name: x.default for x in arguments if x.default is not x.empty} | {"n_frames": 1}


def make(name: str, task: str, **given: Any) -> Counted:
    """Make an environment.

    Args:
        name: what error messages call it.
        task: brax's name, such as `ant`.
        **given: arguments of its class.
    """
    suite = _brax()
    with _quiet():
        env = suite.get_environment(task, **given)

    def bare(state: Any) -> Any:
        """Drop what is not read in the next step."""
        # Environments that never terminate leave `done` as it is.
        return state.replace(obs=(), reward=(), done=jnp.zeros(()), metrics={})

    def start(key: jax.Array) -> tuple[Any, Any]:
        state = env.reset(key)
        return state.obs, bare(state)

    def advance(
        key: jax.Array, state: Any, action: jax.Array, limit: Any
    ) -> tuple[Any, Any, Any, Any]:
        del key, limit  # its randomness is in the state
        state = env.step(state.replace(metrics={}), action)  # which it fills in place
        return state.obs, bare(state), state.reward, state.done > 0

    shape = jax.eval_shape(start, jax.random.key(0))[0].shape
    actions = gymnax.box(-1.0, 1.0, (env.action_size,))
    unbounded = gymnax.box(-float("inf"), float("inf"), shape)
    views = Views(bodies=lambda state: _placed(env.sys, state), page=lambda x: _page(env.sys, x))
    return Counted(name, start, advance, unbounded, actions, _LIMIT, views)


def _placed(system: Any, state: Any) -> tuple[Any, Any]:
    """Return MuJoCo's model of a system, and its data in a state."""
    import mujoco

    data = mujoco.MjData(system.mj_model)
    data.qpos = state.pipeline_state.q
    mujoco.mj_kinematics(system.mj_model, data)
    return system.mj_model, data


def _page(system: Any, states: Any) -> str:
    """Return brax's viewer of an episode; a browser loads its script from the network."""
    from brax.io import html

    played = states.pipeline_state
    each = [jax.tree.map(lambda x, t=t: x[t], played) for t in range(len(played.q))]
    return str(html.render(system, each))


def _brax() -> ModuleType:
    """Import brax, which takes seconds."""
    with _quiet():
        from brax import envs

    return envs


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide what brax and MuJoCo print of backends that are not installed, and of maintenance."""
    logger = logging.getLogger("absl")
    level = logger.level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
