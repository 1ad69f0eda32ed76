"""How Brax's own PPO and the wrappers of its training are asked for the facts of `peers.py`."""

from typing import Any

import jax
import jax.numpy as jnp
import peer_facts
from brax.envs.wrappers import training
from brax.training.agents.ppo import networks
from brax.training.agents.ppo import train as ppo
from peer_facts import LONG, NUM_ENVS, NUM_STEPS, OBS, RATE, SHORT

import probes


def facts() -> peer_facts.Facts:
    """All of them."""
    rings = {"": peer_facts.Ring(values, play)}
    return peer_facts.facts(("brax",), rings, resumed, seeds, rates)


def train(steps: int = SHORT, seed: Any = 0, rate: Any = RATE, **more: Any) -> Any:
    """The trained weights, by PPO without any evaluation."""
    settings = {"environment": probes.make_brax(), **more}
    return ppo.train(
        num_timesteps=steps,
        episode_length=probes.LIMIT,
        num_envs=NUM_ENVS,
        unroll_length=NUM_STEPS,
        batch_size=NUM_ENVS // 4,
        num_minibatches=4,
        num_updates_per_batch=4,
        learning_rate=rate,
        discounting=probes.DISCOUNT,
        normalize_observations=False,
        num_evals=1,
        run_evals=False,
        seed=seed,
        **settings,
    )[1]


def values(ends: bool) -> Any:
    """The trained critic's values."""
    params = train(LONG, environment=probes.make_brax(ends))
    made = networks.make_ppo_networks(probes.PLACES, 1)
    return made.value_network.apply(params[0], params[2], OBS)


def play() -> Any:
    """Reset and step of 8 environments."""
    env = training.wrap(probes.make_brax(), episode_length=probes.LIMIT)

    def step(key: Any, state: Any) -> Any:
        state = env.step(state, jnp.zeros((8, 1)))
        cut = state.info["truncation"] > 0
        return state, peer_facts.Step(state.obs, (state.done > 0) & ~cut, cut)

    return lambda key: env.reset(jax.random.split(key, 8)), step


def resumed() -> peer_facts.Pair:
    """By its `restore_params`."""
    half = train()
    return train(2 * SHORT)[1], train(restore_params=half)[1]


def seeds() -> peer_facts.Pair:
    """By `jax.vmap` over seeds."""
    return peer_facts.beside_another(lambda seed: train(seed=seed)[1], jnp.arange(2), 1)


def rates() -> peer_facts.Pair:
    """By `jax.vmap` over the argument."""
    return peer_facts.two_rates(lambda rate: train(rate=rate)[1])
