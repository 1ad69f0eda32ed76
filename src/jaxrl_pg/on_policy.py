"""What on-policy agents share: acting, and turning a rollout into rows to learn from.

An agent's config has the fields `env`, `env_params`, `num_steps`, `gamma`, `gae_lambda`,
`hidden_sizes`, `activation`, `conv_features`, `shared_torso` and `log_std_init`; its learner has
`params` (of a `networks.ActorCritic`) and `normalizer`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg import envs, networks, normalize, rollout
from jaxrl_pg.ops import distributions, returns
from jaxrl_pg.types import ActorState, EnvSpec, Metrics, Transition

__all__ = [
    "Batch",
    "act",
    "collect",
    "family",
    "init_params",
    "make_batch",
    "network",
    "value",
]


class Batch(NamedTuple):
    """A rollout as rows, `[N, ...]` with `N = num_envs * num_steps`.

    Attributes:
        obs: observations as networks see them, normalised.
        action: raw actions.
        log_prob: of the actions, when they were taken.
        value: the critic's values when the rollout was done.
        advantage: GAE.
        target: what the critic should learn, `advantage + value`.
    """

    obs: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    advantage: jax.Array
    target: jax.Array


def init_params(config: Any, key: jax.Array) -> Any:
    """Fresh parameters of the policy and the value network."""
    spec = _spec(config)
    params = networks.init_params(network(config), key, spec.obs_shape)
    if not spec.discrete:
        params["params"]["log_std"] += config.log_std_init
    return params


def act(
    config: Any, learner: Any, obs: jax.Array, key: jax.Array, deterministic: bool
) -> jax.Array:
    """Raw actions for observations `[N, ...]`: sampled, or the most probable ones."""
    params = _apply(config, learner, obs, "policy")
    if deterministic:
        return family(config).mode(params)
    noise = family(config).noise(key, obs.shape[:1], _spec(config).num_actions)
    return family(config).sample(params, noise)


def value(config: Any, learner: Any, obs: jax.Array) -> jax.Array:
    """The critic's value `[N]` of observations `[N, ...]`.

    With `normalize_reward` it is in units of the normalised reward.
    """
    return _apply(config, learner, obs, "value")


def collect(
    config: Any, learner: Any, actor: ActorState, noise_key: jax.Array, env_key: jax.Array
) -> tuple[ActorState, Transition, Metrics]:
    """`num_steps` steps of this device's environments; returns what `rollout.collect` does."""
    env = envs.make(config.env, config.env_params)
    batch_shape = (config.num_steps, actor.obs.shape[0])
    noise = family(config).noise(noise_key, batch_shape, env.spec.num_actions)
    policy, critic = partial(_sample, config, learner), partial(value, config, learner)
    return rollout.collect(env, policy, critic, actor, noise, env_key)


def make_batch(config: Any, learner: Any, last_obs: jax.Array, steps: Transition) -> Batch:
    """Values, advantages and targets of a rollout that led to `last_obs`."""
    every_obs = jnp.concatenate([steps.obs, last_obs[None]])
    every_value = value(config, learner, _flatten(every_obs)).reshape(every_obs.shape[:2])
    values, end = every_value[:-1], steps.terminated | steps.truncated
    following = returns.successor_values(values, every_value[-1], steps.final_value, end)
    flags = (steps.terminated, steps.truncated)
    advantage = returns.gae(
        steps.reward, values, following, *flags, config.gamma, config.gae_lambda
    )
    obs = normalize.observe(learner.normalizer, steps.obs)
    target = advantage + values
    batch = Batch(obs, steps.action, steps.log_prob, values, advantage, target)
    return jax.tree.map(_flatten, batch)


def network(config: Any) -> networks.ActorCritic:
    """The policy and value network that a config asks for."""
    torso = (config.hidden_sizes, config.activation, config.conv_features, config.shared_torso)
    return networks.ActorCritic(_spec(config), *torso)


def family(config: Any) -> distributions.Distribution:
    """The distribution of the environment's kind of action."""
    return distributions.family(_spec(config).discrete)


def _sample(
    config: Any, learner: Any, obs: jax.Array, noise: jax.Array
) -> tuple[jax.Array, jax.Array]:
    params = _apply(config, learner, obs, "policy")
    action = family(config).sample(params, noise)
    return action, family(config).log_prob(params, action)


def _apply(config: Any, learner: Any, obs: jax.Array, part: str) -> Any:
    obs = normalize.observe(learner.normalizer, obs)
    return networks.apply(network(config), learner.params, obs, part)


def _spec(config: Any) -> EnvSpec:
    return envs.make(config.env).spec


def _flatten(x: jax.Array) -> jax.Array:
    return x.reshape(-1, *x.shape[2:])
