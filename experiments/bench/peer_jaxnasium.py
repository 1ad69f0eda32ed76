"""How jaxnasium is asked for the facts of `peers.py`, with its wrapper of gymnax."""

from typing import Any

import jax
import jax.numpy as jnp
import peer_facts
from jaxnasium.algorithms import PPO
from jaxnasium.wrappers import GymnaxWrapper
from peer_facts import LONG, OBS, RATE, SETTINGS, SHORT

import probes


def facts() -> peer_facts.Facts:
    """All of them."""
    rings = {"": peer_facts.Ring(values, play)}
    return peer_facts.facts(("jaxnasium",), rings, resumed, seeds, rates)


def algorithm(rate: Any = RATE, steps: int = LONG) -> PPO:
    """PPO without its normalisations."""
    return PPO(
        learning_rate_start=rate,
        total_timesteps=steps,
        normalize_observations=False,
        normalize_rewards=False,
        log_function=None,
        **SETTINGS,
    )


def environment(ends: bool = False) -> Any:
    """The ring in jaxnasium's wrapper."""
    return GymnaxWrapper(probes.make_gymnax(ends))


def weights(agent: PPO) -> list[Any]:
    """The actor's arrays, without its functions."""
    return [x for x in jax.tree.leaves(agent.actor) if hasattr(x, "dtype")]


def values(ends: bool) -> Any:
    """The trained critic's values."""
    agent = algorithm().train(jax.random.key(0), environment(ends))[0]
    return jax.vmap(agent.get_value)(OBS)


def play() -> Any:
    """Reset and step of 8 environments."""
    env = environment()

    def step(key: Any, state: Any) -> Any:
        keys = jax.random.split(key, 8)
        seen, state = jax.vmap(env.step)(keys, state, jnp.zeros(8, int))
        return state, peer_facts.Step(seen.observation, seen.terminated, seen.truncated)

    return lambda key: jax.vmap(env.reset)(jax.random.split(key, 8))[1], step


def resumed() -> peer_facts.Pair:
    """By going on with a trained agent."""
    key, env = jax.random.key(0), environment()
    whole = algorithm(steps=2 * SHORT).train(key, env)[0]
    half = algorithm(steps=SHORT).train(key, env)[0]
    return weights(whole), weights(half.train(key, env)[0])


def seeds() -> peer_facts.Pair:
    """By `jax.vmap` over keys."""
    keys, env = jax.random.split(jax.random.key(0), 2), environment()
    one = algorithm(steps=SHORT)
    return peer_facts.beside_another(lambda key: weights(one.train(key, env)[0]), keys, keys[1])


def rates() -> peer_facts.Pair:
    """By `jax.vmap` around making the agent and training it."""
    key, env = jax.random.key(0), environment()
    return peer_facts.two_rates(lambda x: weights(algorithm(x, SHORT).train(key, env)[0]))
