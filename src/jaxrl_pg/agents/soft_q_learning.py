"""Soft Q-learning over a finite action set (Haarnoja et al. 2017, arXiv 1702.08165).

One iteration takes `num_steps` steps of `num_envs` environments into the replay, then
`num_updates` gradient steps on minibatches out of it, of

    J_Q = (Q - r - gamma V'(s'))^2 / 2,    V = alpha log sum_a exp(Q / alpha)

(their equation 11, the value their equation 6 as a sum), where V' is that of an exponential
average of Q. There is no policy network: the policy is `exp((Q - V) / alpha)`, their equation 5.

Where it differs from the paper: the action set is finite, so that sum and sampling are exact and
no sampling network is needed. Where it differs from most of the field: a step cut off by a time
limit bootstraps from its own final observation. Observations are not normalised.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.components import networks, off_policy, optim, replay, replay_updates
from jaxrl_pg.components.off_policy import OffPolicyConfig, Rows
from jaxrl_pg.components.replay_updates import Draws
from jaxrl_pg.config import agent_config
from jaxrl_pg.ops import distributions, soft
from jaxrl_pg.types import Agent, Metrics, TrainState

__all__ = ["AGENT", "Config", "Learner", "act", "init", "iterate", "value"]


@agent_config
class Config(OffPolicyConfig):
    """Hyper-parameters of soft Q-learning; floats are pytree leaves, everything else static."""

    alpha: float = 0.1
    """temperature"""


class Learner(NamedTuple):
    """Soft Q-learning's own state.

    Attributes:
        params: of the Q network.
        target: their exponential average.
        opt_state: Adam's moments.
    """

    params: Any
    target: Any
    opt_state: Any


def init(config: Config, key: jax.Array) -> TrainState:
    """A fresh train state: parameters, optimiser, an empty replay, first observations."""
    spec = off_policy.spec(config)
    if not spec.discrete:
        raise ValueError(
            f"soft_q_learning sums over a finite action set and {config.env!r} has none: give an "
            "environment with discrete actions, or use sac"
        )
    params_key, actor, memory, train_key = off_policy.start(config, key)
    params = networks.init_params(_network(config), params_key, spec.obs_shape)
    learner = Learner(params, target=params, opt_state=optim.init(params))
    return TrainState(learner, actor, memory, train_key, jnp.zeros((), jnp.int32))


def iterate(config: Config, state: TrainState) -> tuple[TrainState, Metrics]:
    """Step the environments into the replay and learn from it."""
    experience = off_policy.gather(config, state, partial(_logits, config, state.learner))
    memory, key = experience.memory, experience.update_key
    draws = replay_updates.draw(config, memory, key, config.num_updates, steps=1, times=0)
    update = partial(_update, config, memory)
    learner, metrics = replay_updates.learn(config, state, experience, update, draws)
    return off_policy.advance(config, state, experience, learner, metrics)


def act(
    config: Config, learner: Learner, obs: jax.Array, key: jax.Array, deterministic: bool
) -> jax.Array:
    """Actions for observations `[N, ...]`: sampled, or the most probable ones."""
    return off_policy.act(config, _logits(config, learner, obs), key, deterministic)


def value(config: Config, learner: Learner, obs: jax.Array) -> jax.Array:
    """The soft value `[N]` of observations `[N, ...]`, entropy included."""
    return soft.optimal_value(_q(config, learner.params, obs), config.alpha)


def _update(
    config: Config, memory: replay.Replay, learner: Learner, draws: Draws
) -> tuple[Learner, Metrics]:
    """One gradient step; the target follows."""
    rows = replay.take(memory, draws.places[0])
    loss = partial(_loss, config, learner.target, rows)
    grads, metrics = jax.grad(loss, has_aux=True)(learner.params)
    params, opt_state, norm = off_policy.step(config, learner.params, learner.opt_state, grads)
    target = soft.follow(learner.target, params, config.tau)
    return Learner(params, target, opt_state), {**metrics, "grad_norm": norm}


def _loss(config: Config, target_params: Any, rows: Rows, params: Any) -> tuple[jax.Array, Metrics]:
    next_value = soft.optimal_value(_q(config, target_params, rows.next_obs), config.alpha)
    target = soft.backup(rows.reward, rows.terminated, next_value, config.gamma)
    q = networks.q_of(_network(config), params, rows.obs, rows.action)
    loss = soft.q_loss(q, target)
    entropy = distributions.CATEGORICAL.entropy(_q(config, params, rows.obs) / config.alpha)
    return loss, {
        "loss/q": loss,
        "q/mean": jnp.mean(q),
        "policy/entropy": jnp.mean(entropy),
        "alpha": jnp.asarray(config.alpha),
    }


def _logits(config: Config, learner: Learner, obs: jax.Array) -> jax.Array:
    """Of the policy `exp((Q - V) / alpha)`; V cancels."""
    return _q(config, learner.params, obs) / config.alpha


def _q(config: Config, params: Any, obs: jax.Array) -> jax.Array:
    return networks.apply(_network(config), params, obs)[0]


def _network(config: Config) -> networks.Critics:
    return off_policy.q_network(config, 1)


AGENT = Agent("soft_q_learning", Config, init, iterate, act, value)
