"""How Ajax is asked for the facts of `peers.py`, on its stacks of gymnax and of brax."""

import tempfile
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import peer_facts
from ajax.agents.PPO.PPO import PPO
from ajax.checkpoint import restore_into, save_checkpoint
from ajax.environments import create, interaction
from ajax.networks.networks import predict_value
from peer_facts import LONG, NUM_ENVS, NUM_STEPS, OBS, RATE, SHORT

import probes

LAYERS = ("64", "tanh", "64", "tanh")


def facts() -> peer_facts.Facts:
    """All of them."""
    rings = {
        "": peer_facts.Ring(lambda ends: values(probes.make_gymnax(ends)), play_gymnax),
        ", brax": peer_facts.Ring(lambda ends: values(brax_ring(ends)), play_brax),
    }
    return peer_facts.facts(("ajax-rl",), rings, resumed, seeds, rates)


def agent(env: Any, rate: Any = RATE) -> PPO:
    """PPO on the ring."""
    return PPO(
        env,
        n_envs=NUM_ENVS,
        n_steps=NUM_STEPS,
        n_epochs=4,
        num_minibatches=4,
        actor_learning_rate=rate,
        critic_learning_rate=rate,
        gamma=probes.DISCOUNT,
        actor_architecture=LAYERS,
        critic_architecture=LAYERS,
    )


def values(env: Any) -> Any:
    """The trained critic's values."""
    state = agent(env).train(seed=0, n_timesteps=LONG)[0]
    critic = jax.tree.map(lambda x: x[0], state.critic_state)
    return predict_value(critic, critic.params, OBS).mean(0).squeeze(-1)


def brax_ring(ends: bool, n_envs: int = NUM_ENVS) -> Any:
    """The ring in Ajax's stack of brax's wrappers."""
    import brax.envs

    brax.envs.register_environment("ring", lambda **kwargs: probes.make_brax(ends))
    return create.build_env_from_id("ring", n_envs=n_envs, episode_length=probes.LIMIT)[0]


def play_gymnax() -> Any:
    """Reset and step of 8 of gymnax's environments, a key for each."""
    env, params = probes.make_gymnax(), probes.Params()

    def reset(key: Any) -> Any:
        return interaction.reset(jax.random.split(key, 8), env, "gymnax", params)[1]

    def step(key: Any, state: Any) -> Any:
        keys, action = jax.random.split(key, 8), jnp.zeros(8, int)
        return shown(interaction.step(keys, state, action, env, "gymnax", params))

    return reset, step


def play_brax() -> Any:
    """Reset and step of 8 of brax's environments, one key for all."""
    env = brax_ring(False, 8)

    def step(key: Any, state: Any) -> Any:
        return shown(interaction.step(key, state, jnp.zeros((8, 1)), env, "brax", None))

    return lambda key: interaction.reset(key, env, "brax", None)[1], step


def shown(stepped: Any) -> Any:
    """The new state and what a step shows."""
    obs, state, _, terminated, truncated, _ = stepped
    return state, peer_facts.Step(obs, terminated > 0, truncated > 0)


def resumed() -> peer_facts.Pair:
    """By Ajax's own checkpoints."""
    one = agent(probes.make_gymnax())
    whole = one.train(seed=0, n_timesteps=2 * SHORT)[0]
    half = one.train(seed=0, n_timesteps=SHORT, total_timesteps=2 * SHORT)
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(half[0], f"{folder}/half")
        state = restore_into(one.train(seed=0, n_timesteps=0)[0], f"{folder}/half")
    rest = 2 * SHORT - int(state.collector_state.timestep[0])
    again = one.train(seed=0, n_timesteps=rest, initial_state=state)[0]
    return whole.actor_state.params, again.actor_state.params


def weights(one: PPO, seed: Any) -> Any:
    """The trained actor's weights."""
    return one.train(seed=seed, n_timesteps=SHORT)[0].actor_state.params


def seeds() -> peer_facts.Pair:
    """By Ajax's own list of seeds."""
    train = partial(weights, agent(probes.make_gymnax()))
    many = train([0, 1])
    return train([1]), jax.tree.map(lambda x: x[1:], many)


def rates() -> peer_facts.Pair:
    """By `jax.vmap` around making the agent and training it."""
    return peer_facts.two_rates(lambda rate: weights(agent(probes.make_gymnax(), rate), 0))
