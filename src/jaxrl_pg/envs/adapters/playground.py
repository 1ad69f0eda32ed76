"""MuJoCo Playground (Zakka et al. 2025, arXiv 2502.08844); of it, DeepMind's control suite.

    ppo.Config(env="playground:CartpoleBalance")

The raw environments, without Playground's wrappers, simulated by MJX itself (`impl="jax"`), which
runs on every device. The tasks of robots need a download of models, and are not among these.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg.envs.adapters import gymnax
from jaxrl_pg.envs.adapters.counted import Counted, Views

__all__ = ["make", "names", "options"]


def names() -> list[str]:
    """Return the tasks of the control suite."""
    return sorted(_suite().ALL_ENVS)


def options(task: str) -> dict[str, Any]:
    """Return the seconds between two actions and between two steps of the simulation."""
    config = _suite().get_default_config(task)
    return {key: config[key] for key in ("ctrl_dt", "sim_dt")}


def make(name: str, task: str, **given: Any) -> Counted:
    """Make an environment.

    Args:
        name: what error messages call it.
        task: Playground's name, such as `CartpoleBalance`.
        **given: `ctrl_dt` and `sim_dt`, in seconds.

    Raises:
        ValueError: if an action does not last for at least one step of the simulation.
    """
    suite = _suite()
    env = suite.load(task, config_overrides={**given, "impl": "jax"})
    if env.sim_dt <= 0 or env.n_substeps < 1:
        raise ValueError(f"ctrl_dt={env.dt} must hold a step of sim_dt={env.sim_dt}, or several")

    def bare(state: Any) -> Any:
        """Drop what is not read in the next step."""
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

    def bodies(state: Any) -> tuple[Any, Any]:
        """Return MuJoCo's model, and its data in a state."""
        import mujoco

        data = mujoco.MjData(env.mj_model)
        data.qpos = state.data.qpos
        mujoco.mj_kinematics(env.mj_model, data)
        return env.mj_model, data

    observations = _unbounded(jax.eval_shape(start, jax.random.key(0))[0])
    actions = gymnax.box(-1.0, 1.0, (env.action_size,))
    limit = suite.get_default_config(task).episode_length
    return Counted(name, start, advance, observations, actions, limit, Views(bodies=bodies))


def _unbounded(obs: Any) -> Any:
    """Return the space of all observations with the shapes of one, an array or dict of arrays."""
    if isinstance(obs, Mapping):
        return gymnax.dict_space({key: _unbounded(part) for key, part in obs.items()})
    return gymnax.box(-float("inf"), float("inf"), obs.shape)


def _suite() -> ModuleType:
    """Import Playground, which takes seconds."""
    from mujoco_playground import dm_control_suite

    return dm_control_suite
