"""What agents with factored policies share: networks, acting, and rows to learn from.

Every agent i has a policy `pi_i(a_i|s)` and a network of its own; they act together, by
`pi(a|s) = prod_i pi_i(a_i|s)`, on the same observation. A config is an `EpochsConfig` with
`factors`; its learner has `params` (a `Parts`) and `normalizer`. See `ops.joint` for joint actions.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.components import networks, normalize, on_policy, rollout
from jaxrl_pg.ops import collectives, distributions, joint_actions, returns
from jaxrl_pg.types import ActorState, EnvSpec, TrainState

__all__ = [
    "Parts",
    "act",
    "critic",
    "gather",
    "init_params",
    "log_policies",
    "make_batch",
    "policy",
    "start",
    "value",
]

FAMILY = distributions.CATEGORICAL


class Parts(NamedTuple):
    """What there is of the policies and of the critic: parameters, an optimiser's state.

    Attributes:
        policies: stacked, `[I, ...]`.
        critic: of V and of every joint action.
    """

    policies: Any
    critic: Any


def init_params(config: Any, key: jax.Array) -> Parts:
    """Fresh parameters of every agent's policy and of the critic."""
    policy_key, critic_key = jax.random.split(key)
    obs_shape = _spec(config).obs_shape
    fresh = partial(networks.init_params, policy(config), obs_shape=obs_shape)
    policies = jax.vmap(fresh)(jax.random.split(policy_key, len(config.factors)))
    return Parts(policies, networks.init_params(critic(config), critic_key, obs_shape))


def start(config: Any, key: jax.Array) -> tuple[Parts, normalize.Normalizer, ActorState, jax.Array]:
    """Parameters, normaliser statistics, first observations, and the key to train with."""
    params_key, reset_key, train_key = jax.random.split(key, 3)
    params, env = init_params(config, params_key), envs.make(config.env, config.env_params)
    normalizer = normalize.init(env.spec, config.normalize_obs, config.normalize_reward)
    return params, normalizer, rollout.start(env, reset_key, config.num_envs), train_key


def act(
    config: Any, learner: Any, obs: jax.Array, key: jax.Array, deterministic: bool
) -> jax.Array:
    """Joint actions for observations `[N, ...]`: sampled, or the most probable ones."""
    logits = _joint_logits(config, learner, obs)
    if deterministic:
        return FAMILY.mode(logits)
    return FAMILY.sample(logits, FAMILY.noise(key, obs.shape[:1], logits.shape[1]))


def value(config: Any, learner: Any, obs: jax.Array) -> jax.Array:
    """The critic's value `[N]` of observations `[N, ...]`."""
    obs = normalize.observe(learner.normalizer, obs)
    return networks.apply(critic(config), learner.params.critic, obs)[0][:, 0]


def gather(config: Any, state: TrainState) -> on_policy.Experience:
    """One rollout of all agents, taken into the normaliser's statistics."""
    env, learner = envs.make(config.env, config.env_params), state.learner
    next_key, *keys = jax.random.split(state.key, 4)
    noise_key, env_key, update_key = collectives.device_keys(keys, config.num_devices)
    batch_shape = (config.num_steps, state.actor.obs.shape[0])
    noise = FAMILY.noise(noise_key, batch_shape, env.spec.num_actions)
    sample, judge = partial(_sample, config, learner), partial(value, config, learner)
    actor, steps, episodes = rollout.collect(env, sample, judge, state.actor, noise, env_key)
    normalizer, discounted, reward = normalize.update(
        learner.normalizer, steps, actor.discounted_return, config.gamma, config.num_devices
    )
    actor = actor._replace(discounted_return=discounted)
    steps = steps._replace(reward=reward)
    return on_policy.Experience(steps, actor, normalizer, episodes, update_key, next_key)


def make_batch(config: Any, learner: Any, experience: on_policy.Experience) -> on_policy.Batch:
    """Rows with generalised advantages."""
    steps = experience.steps
    obs = jnp.concatenate([steps.obs, experience.actor.obs[None]])
    every = value(config, learner, on_policy.flatten(obs)).reshape(obs.shape[:2])
    ended = steps.terminated | steps.truncated
    later = returns.successor_values(every[:-1], every[-1], steps.final_value, ended)
    flags = (steps.terminated, steps.truncated)
    advantage = returns.gae(
        steps.reward, every[:-1], later, *flags, config.gamma, config.gae_lambda
    )
    return on_policy.as_rows(learner, steps, every[:-1], advantage)


def _sample(
    config: Any, learner: Any, obs: jax.Array, noise: jax.Array
) -> tuple[jax.Array, jax.Array]:
    logits = _joint_logits(config, learner, obs)
    action = FAMILY.sample(logits, noise)
    return action, FAMILY.log_prob(logits, action)


def _joint_logits(config: Any, learner: Any, obs: jax.Array) -> jax.Array:
    obs = normalize.observe(learner.normalizer, obs)
    every = log_policies(config, learner.params.policies, obs)
    return joint_actions.joint_log_policy(every, config.factors)


def log_policies(config: Any, policies: Any, obs: jax.Array) -> jax.Array:
    """Every agent's, `[I, N, K]`."""
    logits = jax.vmap(partial(networks.apply, policy(config), obs=obs))(policies)
    return joint_actions.only_own(logits, jnp.array(config.factors))


def policy(config: Any) -> networks.Policy:
    """One agent's network, with as many actions as the one who has most."""
    spec = _spec(config)._replace(num_actions=max(config.factors))
    return networks.Policy(spec, config.hidden_sizes, config.activation, config.conv_features)


def critic(config: Any) -> networks.Critics:
    """V in front, then what every joint action is worth, up to a shift in each state."""
    spec = _spec(config)
    torso = (config.hidden_sizes, config.activation, config.conv_features)
    return networks.Critics(1, spec, 1 + spec.num_actions, *torso)


def _spec(config: Any) -> EnvSpec:
    spec = envs.make(config.env).spec
    if not spec.discrete:
        raise ValueError(
            f"env={config.env!r}: agents who take turns need a finite action set; give another"
        )
    if math.prod(config.factors) != spec.num_actions:
        raise ValueError(
            f"factors={config.factors} make {math.prod(config.factors)} joint actions and "
            f"{config.env!r} has {spec.num_actions}: give factors with that product"
        )
    return spec
