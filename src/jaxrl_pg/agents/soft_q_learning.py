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

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.components import networks, off_policy, optim, replay, replay_updates
from jaxrl_pg.components.critics import q_of
from jaxrl_pg.components.off_policy import OffPolicyConfig, Rows
from jaxrl_pg.components.replay_updates import Draws
from jaxrl_pg.config import Positive
from jaxrl_pg.ops import distributions, soft
from jaxrl_pg.types import Agent, Metrics, Obs, OptState, Params, TrainState

__all__ = ["AGENT", "Config", "Learner", "act", "init", "iterate", "value"]


class Config(OffPolicyConfig):
    """Hyper-parameters of soft Q-learning; floats are pytree leaves, everything else static."""

    alpha: Annotated[float, Positive] = 0.1
    """temperature"""


class Learner(NamedTuple):
    """Soft Q-learning's own state.

    Attributes:
        params: parameters of the Q network.
        target: their exponential average.
        opt_state: Adam's moments.
    """

    params: Params
    target: Params
    opt_state: OptState


def build(config: Config) -> tuple[envs.Env, Any]:
    """Make the environment and the Q network that a config names.

    Raises:
        ValueError: for real actions.
    """
    env = envs.of(config)
    if not env.spec.discrete:
        raise ValueError(
            f"soft_q_learning sums over a finite action set and {config.env!r} has none: give an "
            "environment with discrete actions, or use sac"
        )
    return env, off_policy.q_network(config, env.spec, 1)


def init(config: Config, key: jax.Array) -> TrainState[Learner]:
    """Return a fresh train state: parameters, optimiser, an empty replay, first observations."""
    env, network = build(config)
    params_key, actor, memory, train_key = off_policy.start(config, env, key)
    params = networks.init_params(network, params_key, env.spec.obs_shape)
    learner = Learner(params, target=params, opt_state=optim.init(params, config.optimizer))
    return TrainState(learner, actor, memory, train_key, jnp.zeros((), jnp.int32))


def iterate(config: Config, state: TrainState[Learner]) -> tuple[TrainState[Learner], Metrics]:
    """Step the environments into the replay and learn from it."""
    env, network = build(config)
    experience = off_policy.gather(
        config, env, state, lambda obs: _logits(config, network, state.learner, obs)
    )
    draws = replay_updates.draw(config, env.spec, experience, config.num_updates, steps=1, times=0)

    def update(learner: Learner, draws: Draws) -> tuple[Learner, Metrics]:
        """Take one gradient step; the target follows."""
        rows = replay.take(experience.memory, draws.places[0])
        grads, metrics = jax.grad(_loss, has_aux=True)(
            learner.params, config, network, learner.target, rows
        )
        params, opt_state, norm = off_policy.gradient_step(
            config, learner.params, learner.opt_state, grads
        )
        target = soft.polyak_update(learner.target, params, config.tau)
        return Learner(params, target, opt_state), {**metrics, "grad_norm": norm}

    learner, metrics = replay_updates.learn(config, state, experience, update, draws)
    return off_policy.advance(state, experience, learner, metrics)


def act(
    config: Config, learner: Learner, obs: Obs, key: jax.Array, deterministic: bool
) -> jax.Array:
    """Return actions for observations `[N, ...]`: sampled, or the most probable ones."""
    env, network = build(config)
    obs = envs.batch(env, obs)
    return off_policy.act(env.spec, _logits(config, network, learner, obs), key, deterministic)


def value(config: Config, learner: Learner, obs: Obs) -> jax.Array:
    """Return the soft value `[N]` of observations `[N, ...]`, entropy included."""
    env, network = build(config)
    obs = envs.batch(env, obs)
    q = networks.legal_logits(obs, network.apply(learner.params, obs)[0])
    return soft.optimal_value(q, config.alpha)


def _loss(
    params: Params, config: Config, network: Any, target_params: Params, rows: Rows
) -> tuple[jax.Array, Metrics]:
    next_q = networks.legal_logits(rows.next_obs, network.apply(target_params, rows.next_obs)[0])
    next_value = soft.optimal_value(next_q, config.alpha)
    discount = off_policy.discount(config, rows)
    target = soft.backup(rows.reward, rows.terminated, next_value, discount)
    q = q_of(network, params, rows.obs, rows.action)
    loss = soft.q_loss(q, target)
    logits = networks.legal_logits(rows.obs, network.apply(params, rows.obs)[0] / config.alpha)
    return loss, {
        "loss/q": loss,
        "q/mean": jnp.mean(q),
        "policy/entropy": jnp.mean(distributions.CATEGORICAL.entropy(logits)),
        "alpha": jnp.asarray(config.alpha),
    }


def _logits(config: Config, network: Any, learner: Learner, obs: Obs) -> jax.Array:
    """Logits of the policy `exp((Q - V) / alpha)`; V cancels."""
    return networks.legal_logits(obs, network.apply(learner.params, obs)[0] / config.alpha)


AGENT = Agent("soft_q_learning", Config, init, iterate, act, value)
