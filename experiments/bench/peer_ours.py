"""How this library is asked for the facts of `peers.py`."""

import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import peer_facts
from peer_facts import LONG, OBS, RATE, SETTINGS, SHORT

import jaxrl_pg
import probes
from jaxrl_pg import envs, ppo
from jaxrl_pg.components import on_policy
from jaxrl_pg.running.options import Options


def facts() -> peer_facts.Facts:
    """All of them."""
    rings = {"": peer_facts.Ring(values, play)}
    return peer_facts.facts((), rings, resumed, seeds, rates)


def configured(ends: bool = False, steps: int = LONG) -> ppo.Config:
    """PPO on the ring."""
    env = probes.make_gymnax(ends)
    return ppo.Config(
        env=env, total_timesteps=steps, learning_rate=RATE, anneal_lr=False, **SETTINGS
    )


def train(config: ppo.Config, key: jax.Array) -> Any:
    """The trained learner."""
    return jaxrl_pg.train(config, key)[0].learner


def values(ends: bool) -> Any:
    """The trained critic's values."""
    config = configured(ends)
    return on_policy.value(config, train(config, jax.random.key(0)), OBS)


def play() -> Any:
    """Reset and step of 8 environments."""
    env = envs.make(probes.make_gymnax())

    def step(key: Any, state: Any) -> Any:
        state, seen = envs.step(env, key, jax.random.split(key)[0], state, jnp.zeros(8, int))
        return state, peer_facts.Step(seen.obs, seen.terminated, seen.truncated)

    return lambda key: envs.reset(env, key, 8)[0], step


def resumed() -> peer_facts.Pair:
    """Through the folder of a run, from which `resume` makes a named environment again."""
    quiet, config = Options(num_evals=0, quiet=True), configured(steps=2 * SHORT)
    config = config.replace(env="CartPole-v1")
    with tempfile.TemporaryDirectory() as folder:
        whole = jaxrl_pg.run(config, f"{folder}/whole", 0, quiet)
        jaxrl_pg.run(config.replace(total_timesteps=SHORT), f"{folder}/half", 0, quiet)
        again = jaxrl_pg.resume(f"{folder}/half", 2 * SHORT)
    return whole.state.learner.params, again.state.learner.params


def seeds() -> peer_facts.Pair:
    """By `jax.vmap` over keys."""
    config, keys = configured(steps=SHORT), jax.random.split(jax.random.key(0), 2)
    return peer_facts.beside_another(lambda key: train(config, key).params, keys, keys[1])


def rates() -> peer_facts.Pair:
    """By `jax.vmap` over the field of the configuration."""
    config, key = configured(steps=SHORT), jax.random.key(0)
    return peer_facts.two_rates(lambda x: train(config.replace(learning_rate=x), key).params)
