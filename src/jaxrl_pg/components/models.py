"""What a config of an on-policy agent names, made: its environment, network and distribution.

A model is built once an iteration and handed on. It values, it says how to act, and it reads the
rows that losses are about, with or without a memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, TypeGuard

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.components import layers, memory, networks, normalize, own_network
from jaxrl_pg.components.on_policy_config import OnPolicyConfig
from jaxrl_pg.ops import distributions
from jaxrl_pg.types import Memory, Obs, Params

__all__ = [
    "MEMORY",
    "ActorCriticModel",
    "Batch",
    "Model",
    "act",
    "bound_loss",
    "build",
    "choose",
    "remembers",
    "value",
    "value_after",
]


class Batch(NamedTuple):
    """A rollout as rows, `[N, ...]` with `N = num_envs * num_steps`.

    With a recurrent core a row is an environment's sequence, `[B, T, ...]`.

    Attributes:
        obs: observations as networks see them, normalised.
        action: raw actions.
        log_prob: of the actions, when they were taken.
        value: the critic's values when the rollout was done.
        advantage: an estimate of `Q(s, a) - V(s)`.
        target: what the critic should learn, `advantage + value`.
        sequences: what a core needs to read the rows; `()` without one.
    """

    obs: Obs
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    advantage: jax.Array
    target: jax.Array
    sequences: Any = ()


class Model(Protocol):
    """What a config names, made: built once an iteration and handed on."""

    @property
    def env(self) -> envs.Env:
        """The environment."""

    @property
    def family(self) -> distributions.Distribution:
        """The distribution of the environment's kind of action."""

    def policy(self, learner: Any, obs: Obs) -> Any:
        """Return the parameters of the action distributions at raw observations `[N, ...]`."""

    def value(self, learner: Any, obs: Obs) -> jax.Array:
        """Return the critic's values `[N]` of raw observations `[N, ...]`."""


def remembers(model: Any) -> TypeGuard[ActorCriticModel]:
    """Say whether a model's network has a recurrent core."""
    return isinstance(getattr(model, "network", None), memory.Recurrent)


class ActorCriticModel(NamedTuple):
    """The `Model` of agents with one `networks.ActorCritic`.

    Attributes:
        env: the environment.
        family: the distribution of the environment's kind of action.
        network: the policy and value network, `networks.ActorCritic` or called as it is, or a
            `memory.Recurrent`.
    """

    env: envs.Env
    family: distributions.Distribution
    network: Any

    def policy(self, learner: Any, obs: Obs) -> Any:
        """Return the parameters of the action distributions at raw observations `[N, ...]`."""
        obs = normalize.observe(learner.normalizer, obs)
        return self.network.apply(learner.params, obs, method="policy")

    def value(self, learner: Any, obs: Obs, hidden: Any = ()) -> jax.Array:
        """Return the critic's values `[N]` of raw observations `[N, ...]`."""
        if remembers(self):
            return self.step(learner, obs, hidden)[2]
        obs = normalize.observe(learner.normalizer, obs)
        return self.network.apply(learner.params, obs, method="value")

    def step(self, learner: Any, obs: Obs, hidden: Any) -> tuple[Any, Any, jax.Array]:
        """Return what a core remembers after raw observations, `policy` and `value`."""
        obs = normalize.observe(learner.normalizer, obs)
        return self.network.apply(learner.params, obs, hidden, method="step")

    def read(self, params: Params, rows: Batch) -> tuple[Any, jax.Array]:
        """Return the policy's parameters and the values of some rows."""
        if remembers(self):
            return self.network.apply(params, rows.obs, rows.sequences)
        return self.network.apply(params, rows.obs)


def bound_loss(model: ActorCriticModel, dist: Any) -> jax.Array | float:
    """Return how far Box actions' means lie beyond their bounds, and how much wider they are.

        mean over rows of sum over dimensions of (distance of the mean)^2 + max(log std, 0)^2

    Beyond a bound all actions are clipped to the same one, so that no reward leads back; and a
    standard deviation of 1 is half of the box, of which more changes little but the entropy.
    Dimensions without bounds, and finite action sets, have nothing of it: 0.

    Args:
        model: whose actions they are.
        dist: what the policy network gave, of `[..., D]`.
    """
    if model.env.spec.discrete:
        return 0.0
    space = model.env.core.action_space(model.env.params)
    is_wide = envs.spaces.is_bounded(space, dist.log_std.shape) & (dist.log_std > 0)
    width = jnp.where(is_wide, dist.log_std, 0.0)
    distance = envs.spaces.beyond(space, dist.mean)
    return jnp.mean(jnp.sum(jnp.square(distance) + jnp.square(width), axis=-1))


def value_after(model: Model, learner: Any, obs: Obs, hidden: Any) -> jax.Array:
    """Return values `[N]` of raw observations, with what a core remembers if there is one."""
    return model.value(learner, obs, hidden) if remembers(model) else model.value(learner, obs)


def build(config: OnPolicyConfig) -> ActorCriticModel:
    """Make the environment and the network that a config names."""
    env = envs.of(config)
    torso = layers.torso_fields(config)
    network: Any = networks.ActorCritic(env.spec, torso, config.shared_torso)
    if isinstance(config, memory.MemoryFields) and config.core is not None:
        network = memory.build(config, env.spec)
    elif config.network is not None:
        network = own_network.policy_and_value(config, env.spec)
    return ActorCriticModel(env, distributions.family(env.spec.discrete), network)


def act(
    config: OnPolicyConfig, learner: Any, obs: Obs, key: jax.Array, deterministic: bool
) -> jax.Array:
    """Return raw actions for observations `[N, ...]`: sampled, or the most probable ones."""
    model = build(config)
    return choose(model, learner, envs.batch(model.env, obs), key, deterministic)


def value(config: OnPolicyConfig, learner: Any, obs: Obs) -> jax.Array:
    """Return the critic's value `[N]` of observations `[N, ...]`.

    With `normalize_reward` it is in units of the normalised reward.
    """
    model = build(config)
    return model.value(learner, envs.batch(model.env, obs))


def choose(model: Model, learner: Any, obs: Obs, key: jax.Array, deterministic: bool) -> jax.Array:
    """Return what `act` does, for any model."""
    return _drawn(model, model.policy(learner, obs), obs, key, deterministic)


def _drawn(model: Model, params: Any, obs: Obs, key: jax.Array, deterministic: bool) -> jax.Array:
    """Actions out of distributions at observations `[N, ...]`."""
    if deterministic:
        return model.family.mode(params)
    num = jax.tree.leaves(obs)[0].shape[:1]
    noise = model.family.noise(key, num, model.env.spec.num_actions)
    return model.family.sample(params, noise)


def _start_memory(config: OnPolicyConfig, num: int) -> Any:
    model = build(config)
    return memory.start(model.network, num) if remembers(model) else ()


def _act_with_memory(
    config: OnPolicyConfig,
    learner: Any,
    obs: Obs,
    key: jax.Array,
    deterministic: bool,
    hidden: Any,
) -> tuple[jax.Array, Any]:
    model = build(config)
    obs = envs.batch(model.env, obs)
    hidden, params, _ = model.step(learner, obs, hidden)
    return _drawn(model, params, obs, key, deterministic), hidden


def _value_with_memory(config: OnPolicyConfig, learner: Any, obs: Obs, hidden: Any) -> jax.Array:
    model = build(config)
    return model.value(learner, envs.batch(model.env, obs), hidden)


MEMORY = Memory(_start_memory, _act_with_memory, _value_with_memory)
