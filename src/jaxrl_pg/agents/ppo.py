"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347).

One iteration collects `num_steps` steps of `num_envs` environments, estimates advantages with
GAE, and takes `num_epochs` passes of minibatch gradient steps on

    L = L_policy + vf_coef * L_value - ent_coef * H[pi]

where `L_policy` is the clipped surrogate (their equation 7) or the KL-penalised one (their
equation 8, with its adaptive coefficient). The KL that is penalised, and that `target_kl` stops at,
is the paper's KL(old || new), or by `kl_direction` KL(new || old), which the bounds in `theory` are
about; close by, both are the same.

Where it differs from the paper, as the field does: advantages normalised per minibatch, Adam
with eps 1e-5 and a global-norm clip, orthogonal initialisation, an optionally clipped value
loss, two separate torsos by default. Where it differs from most of the field: a step cut off by
a time limit bootstraps from the value of its own final observation.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.components import normalize, on_policy, optim
from jaxrl_pg.components.memory import MemoryFields
from jaxrl_pg.components.on_policy import (
    MEMORY,
    ActorCriticModel,
    Batch,
    EpochsConfig,
    act,
    value,
)
from jaxrl_pg.components.written import policy_and_value
from jaxrl_pg.config import Positive
from jaxrl_pg.ops import batching, collectives, losses
from jaxrl_pg.ops.losses import KlDirection
from jaxrl_pg.types import Agent, Metrics, OptState, Params, TrainState

__all__ = ["AGENT", "Config", "Learner", "act", "init", "iterate", "value"]

# Beyond these the KL penalty's coefficient could not come back from 0 or infinity.
_KL_COEF_RANGE = (2.0**-64, 2.0**64)


class Config(MemoryFields, EpochsConfig):
    """Hyper-parameters of PPO; floats are pytree leaves, everything else is static."""

    objective: Literal["clip", "kl"] = "clip"
    """policy objective: clipped surrogate (clip) or adaptive KL penalty (kl)"""
    clip_eps: Annotated[float, Positive] = 0.2
    """half-width of the band the probability ratio is clipped to"""
    clip_eps_vf: Annotated[float, Positive] | None = None
    """half-width of the band of the value estimate; None does not clip it"""
    penalty_kl: Annotated[float, Positive] = 0.01
    """KL per iteration that the adaptive penalty aims at, in nats (objective kl); it is measured
    before each gradient step, and so always 0 where num_epochs and num_minibatches are 1"""
    target_kl: Annotated[float, Positive] | None = None
    """stop an iteration's updates once the KL before a gradient step, 0 before the first, exceeds
    1.5 times this; None never stops"""
    kl_direction: KlDirection = "old_new"
    """which KL is penalised, or stops: KL(old || new), as in the paper, or KL(new || old)"""
    vf_coef: float = 0.5
    """weight of the value loss"""
    normalize_advantage: bool = True
    """give every minibatch's advantages mean 0 and standard deviation 1"""


class Learner(NamedTuple):
    """PPO's own state.

    Attributes:
        params: parameters of the policy and value networks.
        opt_state: Adam's moments.
        normalizer: statistics of observations and rewards.
        kl_coef: `[]` the adaptive penalty's coefficient (beta in the paper).
    """

    params: Params
    opt_state: OptState
    normalizer: normalize.Normalizer
    kl_coef: jax.Array


def init(config: Config, key: jax.Array) -> TrainState[Learner]:
    """Return a fresh train state: parameters, optimiser, statistics, first observations."""
    params, normalizer, actor, train_key = on_policy.start(config, key)
    learner = Learner(
        params, optim.init(params, config.optimizer), normalizer, kl_coef=jnp.ones(())
    )
    return TrainState(learner, actor, (), train_key, jnp.zeros((), jnp.int32))


def iterate(config: Config, state: TrainState[Learner]) -> tuple[TrainState[Learner], Metrics]:
    """Collect one rollout and learn from it."""
    model = on_policy.build(config)
    experience = on_policy.gather(config, model, state)
    batch = on_policy.make_batch(config, model, state.learner, experience)
    learner = state.learner._replace(normalizer=experience.normalizer)
    rate = on_policy.learning_rate(config, state.iteration)
    learner, metrics = _update(config, model, learner, batch, experience.update_key, rate)
    metrics["learning_rate"] = rate
    metrics["value/explained_variance"] = losses.explained_variance(batch.value, batch.target)
    return on_policy.advance(state, experience, learner, metrics)


def _update(
    config: Config,
    model: ActorCriticModel,
    learner: Learner,
    batch: Batch,
    key: jax.Array,
    rate: jax.Array,
) -> tuple[Learner, Metrics]:
    """Take all gradient steps of one iteration."""
    indices = batching.minibatch_indices(
        key, batch.value.shape[0], config.num_epochs, config.num_minibatches
    )
    advantage = batch.advantage[indices]
    if config.normalize_advantage:
        rows = advantage.reshape(advantage.shape[0], -1)
        advantage = collectives.standardize(rows).reshape(advantage.shape)

    def minibatch_step(carry: Any, xs: tuple[jax.Array, jax.Array]) -> tuple[Any, Metrics]:
        (params, opt_state, stopped), (indices, advantage) = carry, xs
        rows = jax.tree.map(lambda x: x[indices], batch)._replace(advantage=advantage)
        gradient = jax.grad(_loss, has_aux=True)
        max_rows = collectives.rows_at_once(lambda rows: model.read(params, rows), rows, rows.obs)
        grads, metrics = batching.mean_over_pieces(
            lambda rows: gradient(params, config, model, rows, learner.kl_coef), rows, max_rows
        )
        grads, kl = collectives.mean((grads, metrics["policy/approx_kl"]))
        new_params, new_opt_state, metrics["grad_norm"] = optim.apply_gradients(
            params, opt_state, grads, rate, config.max_grad_norm, config.optimizer
        )
        if config.target_kl is not None:
            stopped = stopped | (kl > 1.5 * config.target_kl)
            new_params, new_opt_state = jax.tree.map(
                lambda old, new: jnp.where(stopped, old, new),
                (params, opt_state),
                (new_params, new_opt_state),
            )
        return (new_params, new_opt_state, stopped), metrics

    carry = (learner.params, learner.opt_state, jnp.zeros((), bool))
    (params, opt_state, _), metrics = jax.lax.scan(minibatch_step, carry, (indices, advantage))
    last_kl = jnp.mean(metrics["policy/approx_kl"][-config.num_minibatches :])
    kl_coef = _adapted(config, learner.kl_coef, collectives.mean(last_kl))
    learner = Learner(params, opt_state, learner.normalizer, kl_coef)
    return learner, {**jax.tree.map(jnp.mean, metrics), "policy/kl_coef": kl_coef}


def _loss(
    params: Params, config: Config, model: ActorCriticModel, rows: Batch, kl_coef: jax.Array
) -> tuple[jax.Array, Metrics]:
    """The mean loss over some rows, and its parts."""
    family = model.family
    dist, values = model.read(params, rows)
    log_ratio = family.log_prob(dist, rows.action) - rows.log_prob
    if config.objective == "clip":
        policy_loss = losses.clipped_surrogate_loss(log_ratio, rows.advantage, config.clip_eps)
    else:
        policy_loss = losses.surrogate_loss(log_ratio, rows.advantage)
        policy_loss += kl_coef * losses.approx_kl(log_ratio, config.kl_direction)
    if config.clip_eps_vf is None:
        value_loss = losses.value_loss(values, rows.target)
    else:
        value_loss = losses.clipped_value_loss(values, rows.value, rows.target, config.clip_eps_vf)
    entropy = jnp.mean(family.entropy(dist))
    total = policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy
    return total, {
        "loss/total": total,
        "loss/policy": policy_loss,
        "loss/value": value_loss,
        "policy/entropy": entropy,
        "policy/approx_kl": losses.approx_kl(log_ratio, config.kl_direction),
        "policy/clip_fraction": losses.clip_fraction(log_ratio, config.clip_eps),
    }


def _adapted(config: Config, kl_coef: jax.Array, kl: jax.Array) -> jax.Array:
    """Double or halve the penalty's coefficient when the KL misses its target (section 4)."""
    if config.objective != "kl":
        return kl_coef
    factor = jnp.where(kl > 1.5 * config.penalty_kl, 2.0, 1.0)
    kl_coef = kl_coef * jnp.where(kl < config.penalty_kl / 1.5, 0.5, factor)
    return jnp.clip(kl_coef, *_KL_COEF_RANGE)


AGENT = Agent(
    "ppo", Config, init, iterate, act, value, MEMORY, on_policy.adopt, written=policy_and_value
)
