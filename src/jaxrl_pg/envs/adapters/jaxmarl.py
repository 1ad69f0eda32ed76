"""Environments of JaxMARL (Rutherford et al. 2024, arXiv 2311.10090) for agents who cooperate.

    game = jaxmarl.make("MPE_simple_spread_v3", max_steps_in_episode=25)
    multi_agent.Config(env=game, factors=game.factors, views=game.views)

An observation is all players' in a row, of which each sees its own by `views` (without them, all),
an action a joint one (`ops.joint_actions`), the reward the mean of what the players get. Needs the
extra `marl`.
"""

from __future__ import annotations

import dataclasses
import math
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.envs import wrappers
from jaxrl_pg.envs.adapters import gymnax

__all__ = ["Joint", "Params", "State", "from_jaxmarl", "make"]


class State(NamedTuple):
    """The state of an episode.

    Attributes:
        inner: JaxMARL's own state.
        time: `[]` int32, steps taken.
    """

    inner: Any
    time: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Params:
    """What can be overridden.

    Attributes:
        max_steps_in_episode: time limit; reaching it truncates and does not terminate.
    """

    max_steps_in_episode: Any

    def replace(self, **changes: Any) -> Params:
        """Return a copy with other values."""
        return dataclasses.replace(self, **changes)


class Joint:
    """A JaxMARL environment with gymnax 1.0's interface.

    JaxMARL says of a time limit that all are done, as of any end. So the limit is counted here: an
    end at the limit is a truncation, an earlier one is a termination.
    """

    def __init__(self, env: Any, params: Params) -> None:
        """Keep JaxMARL's environment, whose agents all have `Discrete` actions."""
        self._env, self._params = env, params

    @property
    def name(self) -> str:
        """Return what error messages call the environment."""
        return f"Joint({type(self._env).__name__})"

    @property
    def factors(self) -> tuple[int, ...]:
        """Return the number of actions of each player."""
        return tuple(int(self._env.action_space(agent).n) for agent in self._env.agents)

    @property
    def views(self) -> tuple[int, ...]:
        """Return how many numbers of the observation are each player's own."""
        return tuple(math.prod(self._env.observation_space(x).shape) for x in self._env.agents)

    @property
    def default_params(self) -> Params:
        """Return the time limit given."""
        return self._params

    def reset_env(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Return the first observation and state."""
        del params
        obs, inner = self._env.reset(key)
        return self._row(obs), State(inner, jnp.zeros((), jnp.int32))

    def step_env(
        self, key: jax.Array, state: State, action: jax.Array, params: Params
    ) -> tuple[jax.Array, State, jax.Array, jax.Array, dict[str, Any]]:
        """Return observation, state, reward, terminated and an empty info of one step."""
        agents, factors = self._env.agents, self.factors
        weights = (math.prod(factors[i + 1 :]) for i in range(len(factors)))
        own = (action // w % k for w, k in zip(weights, factors, strict=True))
        actions = dict(zip(agents, own, strict=True))
        obs, inner, rewards, done, _ = self._env.step_env(key, state.inner, actions)
        state = State(inner, state.time + 1)
        reward = jnp.mean(jnp.stack([jnp.asarray(rewards[agent], float) for agent in agents]))
        terminated = done["__all__"] & ~self.is_truncated(state, params)
        return self._row(obs), state, reward, terminated, {}

    def is_truncated(self, state: State, params: Params) -> jax.Array:
        """Say whether the time limit is reached."""
        return state.time >= params.max_steps_in_episode

    def observation_space(self, params: Params) -> Any:
        """Return the space of all players' observations in a row."""
        del params
        return gymnax.box(-jnp.inf, jnp.inf, (sum(self.views),))

    def action_space(self, params: Params) -> Any:
        """Return the space of joint actions."""
        del params
        return gymnax.discrete(math.prod(self.factors))

    def _row(self, obs: dict[str, jax.Array]) -> jax.Array:
        each = [jnp.asarray(obs[agent], float).reshape(-1) for agent in self._env.agents]
        return jnp.concatenate(each)


def from_jaxmarl(env: Any, max_steps_in_episode: int) -> Joint:
    """A JaxMARL environment object, for `Config(env=...)`.

    Args:
        env: whose agents all have a finite set of actions.
        max_steps_in_episode: the limit at which the environment ends an episode by itself, or less.

    Raises:
        ValueError: where an agent's actions are not `Discrete`, or a wrapper would be passed over.
    """
    wrappers.require_heard(env, called=("step_env",))
    kinds = {agent: type(env.action_space(agent)).__name__ for agent in env.agents}
    for agent, kind in kinds.items():
        if kind != "Discrete":
            raise ValueError(
                f"{type(env).__name__}: the actions of {agent} are {kind}: give an environment "
                "where they are Discrete"
            )
    return Joint(env, Params(max_steps_in_episode))


def make(name: str, max_steps_in_episode: int, **options: Any) -> Joint:
    """A JaxMARL environment by its name.

    Args:
        name: such as `"MPE_simple_spread_v3"`.
        max_steps_in_episode: as in `from_jaxmarl`.
        options: handed to `jaxmarl.make`.

    Raises:
        ValueError: where JaxMARL is not installed, or as in `from_jaxmarl`.
    """
    return from_jaxmarl(_jaxmarl().make(name, **options), max_steps_in_episode)


def _jaxmarl() -> Any:
    if find_spec("jaxmarl") is None:
        raise ValueError('JaxMARL environments need the extra: pip install "jaxrl-pg[marl]"')
    with jax.ensure_compile_time_eval():
        import jaxmarl
    return jaxmarl
