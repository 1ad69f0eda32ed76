"""How rejax is asked for the facts of `peers.py`, with gymnax 0.0.9."""

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import peer_facts
import rejax
from peer_facts import LONG, OBS, RATE, SETTINGS, SHORT

import probes


def facts() -> peer_facts.Facts:
    """All of them."""
    rings = {"": peer_facts.Ring(values, play)}
    return peer_facts.facts(("rejax", "gymnax"), rings, resumed, seeds, rates)


def algorithm(ends: bool = False, steps: int = LONG) -> Any:
    """PPO on the ring, without any evaluation."""
    return rejax.PPO.create(
        env=probes.make_gymnax(ends, old=True),
        env_params=probes.Params(),
        learning_rate=RATE,
        total_timesteps=steps,
        eval_freq=steps,
        skip_initial_evaluation=True,
        **SETTINGS,
    ).replace(eval_callback=lambda *_: ())


def train(algo: Any, key: Any) -> Any:
    """The trained state."""
    return algo.train(key)[0]


def values(ends: bool) -> Any:
    """The trained critic's values."""
    algo = algorithm(ends)
    state = jax.jit(train)(algo, jax.random.PRNGKey(0))
    return algo.critic.apply(state.critic_ts.params, OBS)


def play() -> Any:
    """Reset and step of 8 environments."""
    env = probes.make_gymnax(old=True)

    def step(key: Any, state: Any) -> Any:
        keys = jax.random.split(key, 8)
        obs, state, _, done, _ = jax.vmap(env.step)(keys, state, jnp.zeros(8, int))
        return state, peer_facts.Step(obs, done)

    return lambda key: jax.vmap(env.reset)(jax.random.split(key, 8))[1], step


def resumed() -> peer_facts.Pair:
    """By pickling the state, as rejax writes no files."""
    key = jax.random.PRNGKey(0)
    whole, half = algorithm(steps=2 * SHORT), algorithm(steps=SHORT)
    state = jax.jit(lambda key: train(half, key))(key)
    kept = pickle.loads(pickle.dumps(jax.tree.flatten(jax.device_get(state))[0]))
    state = jax.tree.unflatten(jax.tree.structure(state), kept)
    again = jax.jit(lambda state: half.train(train_state=state)[0])(state)
    expected = jax.jit(lambda key: train(whole, key))(key)
    return expected.actor_ts.params, again.actor_ts.params


def seeds() -> peer_facts.Pair:
    """By `jax.vmap` over keys; the algorithm is an argument of the program and no constant."""
    algo, keys = algorithm(steps=SHORT), jax.random.split(jax.random.PRNGKey(0), 2)

    def of(key: Any) -> Any:
        return jax.jit(train)(algo, key).actor_ts.params

    return peer_facts.beside_another(of, keys, keys[1])


def rates() -> peer_facts.Pair:
    """By `jax.vmap` over the field of the algorithm."""
    algo, key = algorithm(steps=SHORT), jax.random.PRNGKey(0)

    @jax.jit
    def at(rate: Any) -> Any:
        return train(algo.replace(learning_rate=rate), key).actor_ts.params

    return peer_facts.two_rates(at)
