"""Players with local observations beside independent PPO, on JaxMARL's MPE_simple_spread.

    .venv/bin/python experiments/players/simple_spread.py

Three players are to cover three landmarks. `multi_agent` learns from what all of them see or from
each one's own part (`views`), in turn or at once (`order`). Everything is of the same rollouts,
minibatches, learning rate and entropy bonus; the return is the mean of what the players get in an
episode of 25 steps, whatever they learned from. Needs the extra `marl`.
"""

import json
from functools import partial
from typing import Any

import ippo
import jax
import jax.numpy as jnp
import jaxmarl
import numpy as np
import page

import jaxrl_pg
from jaxrl_pg import envs, multi_agent
from jaxrl_pg.components import rollout
from jaxrl_pg.envs.adapters.jaxmarl import from_jaxmarl
from jaxrl_pg.ops import joint_actions
from jaxrl_pg.types import Obs

SEEDS, NUM_EVALS, NUM_EPISODES, STEPS = 5, 10, 256, 512_000
SPREAD = jaxmarl.make("MPE_simple_spread_v3")
GAME = from_jaxmarl(SPREAD, max_steps_in_episode=25)
# Chosen on another seed, after 204,800 steps: 4 or 32 minibatches, rates of .00025 or .001, KL
# targets of .02, .1 or .5, correction_clip of 1 or 5. With JaxMARL's 4 the joint critic hardly
# learns.
SHARED = ippo.Settings(STEPS, num_minibatches=32, learning_rate=1e-3)
INDEPENDENT = {"independent PPO, as in JaxMARL": ippo.Settings(STEPS), "independent PPO": SHARED}
PLAYERS = multi_agent.Config(
    env=GAME,
    factors=GAME.factors,
    kl_target=0.02,
    **{
        name: getattr(SHARED, name)
        for name in ippo.Settings._fields
        if name not in ("clip_eps", "vf_coef")
    },
)
WAYS = {
    f"{order}, {seen}": PLAYERS.replace(order=order, views=views)
    for seen, views in {"all see all": (), "each its part": GAME.views}.items()
    for order in ("sequential", "simultaneous")
}


def independent(settings: ippo.Settings, key: jax.Array) -> jax.Array:
    """Train players by independent PPO; return the return `[NUM_EVALS]` at each evaluation."""
    env = envs.of(PLAYERS)

    def evaluated(state: ippo.State, key: jax.Array) -> tuple[ippo.State, jax.Array]:
        rounds = settings.num_iterations // NUM_EVALS
        state = jax.lax.fori_loop(0, rounds, lambda _, x: ippo.iterate(SPREAD, settings, x), state)

        def best(obs: Obs, key: jax.Array, hidden: Any) -> tuple[jax.Array, Any]:
            seen = jnp.reshape(obs, (NUM_EPISODES, len(GAME.views), -1))
            own = jnp.argmax(ippo.act(SPREAD, state.params, seen), axis=-1)
            return joint_actions.index(own, GAME.factors), hidden

        return state, jnp.mean(rollout.whole_episodes(env, best, key, NUM_EPISODES).returns)

    start = ippo.init(SPREAD, settings, key)
    return jax.lax.scan(evaluated, start, jax.random.split(key, NUM_EVALS))[1]


def in_turn(config: multi_agent.Config, key: jax.Array) -> jax.Array:
    """Train players by the closed-form update; return as `independent` does."""
    return jaxrl_pg.train(config, key, NUM_EVALS, NUM_EPISODES)[1]["eval/return_mean"]


def main() -> None:
    """Train everything, print the table, and write the returns of all evaluations."""
    keys = jax.random.split(jax.random.key(1), SEEDS)
    trained = {
        **{way: partial(independent, settings) for way, settings in INDEPENDENT.items()},
        **{way: partial(in_turn, config) for way, config in WAYS.items()},
    }
    returns = {}
    for way, train in trained.items():
        returns[way] = np.asarray(jax.jit(partial(jax.lax.map, train))(keys)).tolist()
        print(page.table(returns), flush=True)
    page.RESULTS.write_text(json.dumps(returns) + "\n")


if __name__ == "__main__":
    main()
