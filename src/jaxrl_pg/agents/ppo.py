"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347).

One iteration collects `num_steps` steps of `num_envs` environments, estimates advantages with
GAE, and takes `num_epochs` passes of minibatch gradient steps on

    L = L_policy + vf_coef * L_value - ent_coef * H[pi]

where `L_policy` is the clipped surrogate (their equation 7) or the KL-penalised one (their
equation 8, with its adaptive coefficient).

Where it differs from the paper, as the field does: advantages normalised per minibatch, Adam
with eps 1e-5 and a global-norm clip, orthogonal initialisation, an optionally clipped value
loss, two separate torsos by default. Where it differs from most of the field: a step cut off by
a time limit bootstraps from the value of its own final observation.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.components import networks, normalize, on_policy, optim
from jaxrl_pg.components.epochs import EpochsConfig
from jaxrl_pg.components.on_policy import act, value
from jaxrl_pg.config import agent_config, check_choice
from jaxrl_pg.ops import batching, collectives, losses
from jaxrl_pg.types import Agent, Metrics, TrainState

__all__ = ["AGENT", "Config", "Learner", "act", "init", "iterate", "value"]


# Pieces that keep the layers' activations in a core's own cache, once each core has a device.
_CPU_ROWS = 4096


@agent_config
class Config(EpochsConfig):
    """Hyper-parameters of PPO; floats are pytree leaves, everything else is static."""

    objective: str = "clip"
    """policy objective: clip (clipped surrogate) or kl (adaptive KL penalty)"""
    clip_eps: float = 0.2
    """half-width of the band the probability ratio is clipped to"""
    clip_eps_vf: float | None = None
    """half-width of the band of the value estimate; None does not clip it"""
    kl_target: float = 0.01
    """KL per iteration that the adaptive penalty aims at, in nats (objective kl)"""
    target_kl: float | None = None
    """stop an iteration's updates once the KL exceeds 1.5 times this; None never stops"""
    vf_coef: float = 0.5
    """weight of the value loss"""
    normalize_advantage: bool = True
    """give every minibatch's advantages mean 0 and standard deviation 1"""
    rows_at_once: int = 0
    """rows whose gradient is computed at once; 0: all, or 4096 on each of several CPU devices"""

    def check(self) -> None:
        """Refuse combinations that cannot run."""
        super().check()
        check_choice("objective", self.objective, OBJECTIVES)
        if self.steps_per_iteration * self.num_epochs >= 2**31:
            raise ValueError(
                f"num_envs={self.num_envs} x num_steps={self.num_steps} x "
                f"num_epochs={self.num_epochs} is beyond the 2^31 rows that can be indexed: "
                "lower one of them"
            )


class Learner(NamedTuple):
    """PPO's own state.

    Attributes:
        params: of the policy and value networks.
        opt_state: Adam's moments.
        normalizer: statistics of observations and rewards.
        kl_coef: `[]` the adaptive penalty's coefficient (beta in the paper).
    """

    params: Any
    opt_state: Any
    normalizer: normalize.Normalizer
    kl_coef: jax.Array


def init(config: Config, key: jax.Array) -> TrainState:
    """A fresh train state: parameters, optimiser, statistics, first observations."""
    params, normalizer, actor, train_key = on_policy.start(config, key)
    learner = Learner(params, optim.init(params), normalizer, kl_coef=jnp.ones(()))
    return TrainState(learner, actor, (), train_key, jnp.zeros((), jnp.int32))


def iterate(config: Config, state: TrainState) -> tuple[TrainState, Metrics]:
    """Collect one rollout and learn from it."""
    experience = on_policy.gather(config, state)
    batch = on_policy.make_batch(config, state.learner, experience)
    learner = state.learner._replace(normalizer=experience.normalizer)
    learner, metrics = _update(config, learner, batch, experience.update_key, state.iteration)
    metrics["value/explained_variance"] = losses.explained_variance(batch.value, batch.target)
    return on_policy.advance(config, state, experience, learner, metrics)


def _update(
    config: Config, learner: Learner, batch: on_policy.Batch, key: jax.Array, iteration: jax.Array
) -> tuple[Learner, Metrics]:
    """All gradient steps of one iteration."""
    learning_rate = on_policy.learning_rate(config, iteration)
    indices = batching.minibatch_indices(
        key, batch.value.shape[0], config.num_epochs, config.num_minibatches
    )
    advantage = batch.advantage[indices]
    if config.normalize_advantage:
        advantage = collectives.standardize(advantage, config.num_devices)
    step = partial(_gradient_step, config, learner.kl_coef, learning_rate, batch)
    carry = (learner.params, learner.opt_state, jnp.zeros((), bool))
    (params, opt_state, _), metrics = jax.lax.scan(step, carry, (indices, advantage))
    last_kl = jnp.mean(metrics["policy/approx_kl"][-config.num_minibatches :])
    kl_coef = _adapt(config, learner.kl_coef, collectives.mean(last_kl, config.num_devices))
    learner = Learner(params, opt_state, learner.normalizer, kl_coef)
    metrics = jax.tree.map(jnp.mean, metrics)
    return learner, {**metrics, "learning_rate": learning_rate, "policy/kl_coef": kl_coef}


def _gradient_step(
    config: Config,
    kl_coef: jax.Array,
    learning_rate: jax.Array,
    batch: on_policy.Batch,
    carry: tuple[Any, Any, jax.Array],
    xs: tuple[jax.Array, jax.Array],
) -> tuple[tuple[Any, Any, jax.Array], Metrics]:
    params, opt_state, stopped = carry
    gradient = partial(_gradient, config, kl_coef, batch, params)
    cached = config.num_devices > 1 and jax.default_backend() == "cpu"
    most = config.rows_at_once or (_CPU_ROWS if cached else 0)
    grads, metrics = batching.mean_over_pieces(gradient, xs, most)
    grads, kl = collectives.mean((grads, metrics["policy/approx_kl"]), config.num_devices)
    new_params, new_opt_state, norm = optim.apply_gradients(
        params, opt_state, grads, learning_rate, config.max_grad_norm
    )
    if config.target_kl is not None:
        stopped = stopped | (kl > 1.5 * config.target_kl)
        keep = partial(jnp.where, stopped)
        new_params = jax.tree.map(keep, params, new_params)
        new_opt_state = jax.tree.map(keep, opt_state, new_opt_state)
    return (new_params, new_opt_state, stopped), {**metrics, "grad_norm": norm}


def _gradient(
    config: Config,
    kl_coef: jax.Array,
    batch: on_policy.Batch,
    params: Any,
    xs: tuple[jax.Array, jax.Array],
) -> tuple[Any, Metrics]:
    """Gradient of the mean loss over the rows named by `xs`, a pair of indices and advantages."""
    indices, advantage = xs
    rows = jax.tree.map(lambda x: x[indices], batch)._replace(advantage=advantage)
    return jax.grad(partial(_loss, config, kl_coef, rows), has_aux=True)(params)


def _loss(
    config: Config, kl_coef: jax.Array, rows: on_policy.Batch, params: Any
) -> tuple[jax.Array, Metrics]:
    dist, values = networks.apply(on_policy.network(config), params, rows.obs)
    family = on_policy.family(config)
    log_ratio = family.log_prob(dist, rows.action) - rows.log_prob
    policy_loss = OBJECTIVES[config.objective](config, kl_coef, log_ratio, rows.advantage)
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
        "policy/approx_kl": losses.approx_kl(log_ratio),
        "policy/clip_fraction": losses.clip_fraction(log_ratio, config.clip_eps),
    }


def _clip_objective(
    config: Config, kl_coef: jax.Array, log_ratio: jax.Array, advantage: jax.Array
) -> jax.Array:
    del kl_coef
    return losses.clipped_surrogate_loss(log_ratio, advantage, config.clip_eps)


def _kl_objective(
    config: Config, kl_coef: jax.Array, log_ratio: jax.Array, advantage: jax.Array
) -> jax.Array:
    del config
    return losses.surrogate_loss(log_ratio, advantage) + kl_coef * losses.approx_kl(log_ratio)


OBJECTIVES = {"clip": _clip_objective, "kl": _kl_objective}


def _adapt(config: Config, kl_coef: jax.Array, kl: jax.Array) -> jax.Array:
    """Double or halve the penalty's coefficient when the KL misses its target (section 4)."""
    if config.objective != "kl":
        return kl_coef
    factor = jnp.where(kl > 1.5 * config.kl_target, 2.0, 1.0)
    return kl_coef * jnp.where(kl < config.kl_target / 1.5, 0.5, factor)


AGENT = Agent("ppo", Config, init, iterate, act, value)
