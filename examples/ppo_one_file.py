"""Proximal policy optimisation on one page (Schulman et al. 2017, arXiv 1707.06347).

    python examples/ppo_one_file.py                    # CartPole-v1, 500,000 steps
    python examples/ppo_one_file.py Acrobot-v1

An iteration plays `num_steps` steps in each of `num_envs` environments, estimates how much better
than expected each action was, and improves policy and critic by many small gradient steps. All of
it is one compiled program. A test holds it to `jaxrl_pg.ppo`, of which this is the core.
"""

import sys
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxrl_pg import envs
from jaxrl_pg.ops import batching, distributions, losses, returns
from jaxrl_pg.types import EnvSpec


class Config(NamedTuple):
    env: str = "CartPole-v1"
    env_params: tuple = ()  # such as (("gravity", 5.0),)
    total_timesteps: int = 500_000
    num_envs: int = 64  # B
    num_steps: int = 32  # T, of each environment in an iteration
    num_epochs: int = 4
    num_minibatches: int = 32
    learning_rate: float = 5e-4  # falls to 0
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_eps: float = 0.2
    vf_coef: float = 0.5
    ent_coef: float = 0.01
    max_grad_norm: float = 0.5


class Torso(nn.Module):
    @nn.compact
    def __call__(self, x):
        for _ in range(2):
            x = nn.tanh(nn.Dense(64, kernel_init=nn.initializers.orthogonal(2**0.5))(x))
        return x


class ActorCritic(nn.Module):
    """Observations [..., n] to the parameters of the policy pi(.|s), and the value V(s) [...]."""

    spec: EnvSpec

    @nn.compact
    def __call__(self, obs):
        size, orthogonal = self.spec.num_actions, nn.initializers.orthogonal
        policy = nn.Dense(size, kernel_init=orthogonal(0.01), name="policy_head")
        value = nn.Dense(1, kernel_init=orthogonal(1.0), name="value_head")
        head = policy(Torso(name="policy_torso")(obs))
        if not self.spec.discrete:  # real actions: a normal whose spread no state changes
            log_std = self.param("log_std", nn.initializers.zeros_init(), (size,))
            head = distributions.Normal(head, jnp.broadcast_to(log_std, head.shape))
        return head, value(Torso(name="value_torso")(obs))[..., 0]


class State(NamedTuple):
    params: dict
    opt_state: tuple
    actor: tuple  # of B environments: their states, what they show, rewards of the episodes so far
    key: jax.Array


def num_iterations(config):
    return -(-config.total_timesteps // (config.num_envs * config.num_steps))


def build(config):
    """Make what a config names: environment, network, distribution of actions, optimiser."""
    env = envs.make(config.env, dict(config.env_params))
    steps = config.num_epochs * config.num_minibatches  # gradient steps of an iteration

    def learning_rate(step):
        return config.learning_rate * (1.0 - step // steps / num_iterations(config))

    clip = optax.clip_by_global_norm(config.max_grad_norm)
    optimizer = optax.chain(clip, optax.adam(learning_rate, eps=1e-5))
    return env, ActorCritic(env.spec), distributions.family(env.spec.discrete), optimizer


def init(config, key):
    env, network, _, optimizer = build(config)
    params_key, reset_key, key = jax.random.split(key, 3)
    env_state, obs = envs.reset(env, reset_key, config.num_envs)
    params = network.init(params_key, obs)
    return State(params, optimizer.init(params), (env_state, obs, jnp.zeros(config.num_envs)), key)


def iterate(config, state):
    """Collect a rollout and learn from it; return the state and the ended episodes' mean return."""
    env, network, family, optimizer = build(config)
    next_key, noise_key, env_key, update_key = jax.random.split(state.key, 4)
    T, B = config.num_steps, config.num_envs

    def step(actor, xs):
        (env_state, obs, total), (noise, keys) = actor, xs
        dist, value = network.apply(state.params, obs)
        action = family.sample(dist, noise)
        env_state, after = envs.step(env, *keys, env_state, action)
        total, done = total + after.reward, after.terminated | after.truncated
        row = obs, action, family.log_prob(dist, action), value, after, jnp.where(done, total, 0.0)
        return (env_state, after.obs, jnp.where(done, 0.0, total)), row

    noise = family.noise(noise_key, (T, B), env.spec.num_actions)
    keys = jax.random.split(env_key, 2 * T).reshape(T, 2)
    actor, rows = jax.lax.scan(step, state.actor, (noise, keys))
    obs, action, old_log_prob, value, after, total = rows  # all [T, B, ...]

    # A terminated episode has no future. One that a time limit cut off has: the value of its own
    # last observation, which is not that of the next row, where a new episode has begun.
    next_value = network.apply(state.params, after.final_obs)[1]
    ends = after.terminated, after.truncated
    advantage = returns.gae(after.reward, value, next_value, *ends, config.gamma, config.gae_lambda)
    batch = obs, action, old_log_prob, advantage, advantage + value
    batch = jax.tree.map(lambda x: x.reshape(T * B, *x.shape[2:]), batch)

    def loss(params, rows):
        obs, action, old_log_prob, advantage, target = rows
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        dist, value = network.apply(params, obs)
        log_ratio = family.log_prob(dist, action) - old_log_prob
        policy_loss = losses.clipped_surrogate_loss(log_ratio, advantage, config.clip_eps)
        value_loss = losses.value_loss(value, target)
        entropy = family.entropy(dist).mean()
        return policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy

    def gradient_step(carry, rows):
        params, opt_state = carry
        grads = jax.grad(loss)(params, jax.tree.map(lambda x: x[rows], batch))
        updates, opt_state = optimizer.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    minibatches = batching.minibatch_indices(  # [num_epochs * num_minibatches, rows of each]
        update_key, T * B, config.num_epochs, config.num_minibatches
    )
    learned, _ = jax.lax.scan(gradient_step, (state.params, state.opt_state), minibatches)
    mean_return = total.sum() / (after.terminated | after.truncated).sum()  # NaN if none ended
    return State(*learned, actor, next_key), mean_return


@partial(jax.jit, static_argnums=0)
def train(config, key):
    """Return the last state, and each iteration's mean return; vmap it over keys for seeds."""

    def iteration(state, _):
        return iterate(config, state)

    return jax.lax.scan(iteration, init(config, key), length=num_iterations(config))


def main(env="CartPole-v1", total_timesteps=500_000):
    config = Config(env=env, total_timesteps=int(total_timesteps))
    _, mean_return = train(config, jax.random.key(0))
    iterations = num_iterations(config)
    for part in np.array_split(np.arange(iterations), min(10, iterations)):
        timesteps = (part[-1] + 1) * config.num_envs * config.num_steps
        print(f"{timesteps:>9,} steps: mean return {jnp.nanmean(mean_return[part]):.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
