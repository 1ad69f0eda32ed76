"""An environment of your own, compiled into the training program, and PPO that solves it.

    python examples/own_environment.py

Ten places in a row, 0 to 9. An episode begins at place 4. Each step to the left or right costs 0.1;
place 0 ends the episode and pays 1, place 9 ends it and pays 3. So the best return is that of five
steps to the right, 3 - 5 * 0.1 = 2.5, and the nearer end is worth only 1 - 4 * 0.1 = 0.6.
"""

import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import spaces

import jaxrl_pg
from jaxrl_pg import ppo

OPTIMUM = 2.5


class State(NamedTuple):
    place: jax.Array
    time: jax.Array


@struct.dataclass
class Params:
    step_cost: float = 0.1  # env_params={"step_cost": 0.2} gives another
    max_steps_in_episode: int = 50


class Row:
    default_params = Params()

    def observation_space(self, params):
        return spaces.Discrete(10)

    def action_space(self, params):
        return spaces.Discrete(2)

    def reset_env(self, key, params):
        state = State(jnp.int32(4), jnp.int32(0))
        return state.place, state

    def step_env(self, key, state, action, params):
        state = State(state.place + 2 * action - 1, state.time + 1)
        reward = jnp.where(state.place == 9, 3.0, jnp.where(state.place == 0, 1.0, 0.0))
        terminated = (state.place == 0) | (state.place == 9)
        return state.place, state, reward - params.step_cost, terminated, {}

    def is_truncated(self, state, params):  # a time limit, which is not the end of what may come
        return state.time >= params.max_steps_in_episode


def main(total_timesteps=50_000):
    config = ppo.Config(env=Row(), total_timesteps=int(total_timesteps))
    state, _ = jax.jit(jaxrl_pg.train)(config, jax.random.key(0))
    returns = jaxrl_pg.evaluate(config, state, jax.random.key(1), num_episodes=16)
    print(f"return {returns.mean():.2f}, the best possible is {OPTIMUM}")
    return returns


if __name__ == "__main__":
    main(*sys.argv[1:])
