"""REINFORCE (Williams 1992), with every step of variance reduction as a switch.

One iteration starts `num_envs` environments afresh, steps each `num_steps` times, and takes one
gradient step on the policy gradient estimated from whole episodes,

    g = sum over steps of grad log pi(a_t|s_t) * w_t (G_t - b),   divided by the number of steps.

- `returns`: what follows an action, or also what came before it. `trajectory` gives every step
  its episode's return; `reward_to_go` only what came from it on (causality).
- `discount`: `none`; `from_t` counts time from the step, `G_t = sum_u gamma^(u-t) r_u`, as nearly
  everyone does, although it is the gradient of no objective (Nota and Thomas 2020, arXiv
  1906.07073); `from_start` counts it from the episode's start, which gives the step a weight
  `w_t = gamma^t` and is the gradient of the discounted return. A trajectory's return is discounted
  from its start by either.
- `baseline`: `none`; `average`, the mean return; `optimal`, the constant with the least variance,
  `E[u.s] / E[s.s]` for `s = sum w grad log pi` and `u = sum w G grad log pi`; `per_parameter`, the
  constant that is best for each parameter i by itself, `E[u_i s_i] / E[s_i^2]` (`E[s_i^2 R] /
  E[s_i^2]` of whole returns R); or `value`, a learned V(s_t) (of the episode's first state under
  `trajectory`). The constants for an environment are computed from all others, so that the estimate
  keeps its expectation. `optimal` and `per_parameter` take s and u of every environment: twice
  `num_envs` times as many numbers as there are parameters, and three backward passes for one.
  `per_parameter` needs many environments: with 16 of a small MDP its own noise raises the variance,
  from 0.53 to 0.56, and with 64 it falls from 0.49 to 0.45.
- `ent_coef` rewards entropy in the states visited; with `entropy_in_return` also as part of the
  return, which makes it the gradient of the entropy-regularised objective.

Which episodes count. A rollout cuts off the last episode of each environment. Leaving out whatever
was cut would prefer short episodes, so an episode counts if it began at least a time limit before
the rollout's end: whether it did is known before it begins. At the time limit itself `value` adds
what the last observation is worth; without it (or undiscounted) the limit belongs to the task.

Box actions are clipped to their bounds, and a wide policy can gain by hiding behind one; why, and
what `std_rate` and `bound_coef` do about it, is said in `components.on_policy_config`.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxrl_pg import envs
from jaxrl_pg.components import normalize, on_policy, rollout
from jaxrl_pg.components.on_policy import (
    ActorCriticModel,
    Experience,
    Learner,
    SingleStepConfig,
    act,
    value,
)
from jaxrl_pg.components.written import policy_and_value
from jaxrl_pg.config import Positive
from jaxrl_pg.ops import collectives, losses, returns
from jaxrl_pg.types import Agent, Metrics, Params, TrainState, Transition

__all__ = [
    "AGENT",
    "Config",
    "Learner",
    "Weights",
    "act",
    "gradient",
    "init",
    "iterate",
    "value",
    "weigh",
]


class Config(SingleStepConfig):
    """Hyper-parameters of REINFORCE; floats are pytree leaves, everything else is static."""

    num_envs: Annotated[int, Positive] = 8
    """environments stepped side by side"""
    num_steps: Annotated[int, Positive] = 500
    """steps of each environment per iteration, at least the environment's time limit"""
    learning_rate: Annotated[float, Positive] = 5e-3
    """Adam's step size, at the start if annealed"""
    returns: Literal["trajectory", "reward_to_go"] = "reward_to_go"
    """return of a step: the whole episode's (trajectory), or from the step on (reward_to_go)"""
    discount: Literal["none", "from_t", "from_start"] = "from_t"
    """discount by the time since the step (from_t), since the episode's start, or not at all"""
    baseline: Literal["none", "average", "optimal", "per_parameter", "value"] = "value"
    """subtracted from returns: their average, the least-variance constant (optimal), one for each
    parameter, or V(s)"""
    entropy_in_return: bool = False
    """count ent_coef times the entropy as reward as well"""
    vf_coef: float = 0.5
    """weight of the value loss (baseline value)"""

    def check(self) -> None:
        """Refuse to compare one environment with itself."""
        super().check()
        compares = self.baseline not in ("none", "value")
        if compares and self.num_envs // self.num_devices < 2:
            raise ValueError(
                f"baseline={self.baseline!r} compares environments and num_envs={self.num_envs} "
                f"on num_devices={self.num_devices}: give at least 2 on each"
            )


class Weights(NamedTuple):
    """What each step of a rollout counts in the gradient; all `[T, B]`.

    Attributes:
        counted: 0 where the step's episode does not count, else what makes the mean 1.
        factor: `w_t`, the discount that the step itself has.
        decay: the discount that the step's own entropy has.
        ret: `G_t`.
        baseline: `b`; 0 where every parameter has its own.
        target: what the critic should learn.
    """

    counted: jax.Array
    factor: jax.Array
    decay: jax.Array
    ret: jax.Array
    baseline: jax.Array
    target: jax.Array


def init(config: Config, key: jax.Array) -> TrainState[Learner]:
    """Return a fresh train state: parameters, optimiser, statistics, first observations."""
    limit = envs.time_limit(envs.of(config))
    if not isinstance(limit, jax.core.Tracer) and int(limit) > config.num_steps:
        raise ValueError(
            f"num_steps={config.num_steps} and an episode of {config.env} may take {int(limit)}: "
            "REINFORCE learns from whole episodes, give at least as many, or a shorter "
            "env_params['max_steps_in_episode']"
        )
    return on_policy.init(config, key)


def iterate(config: Config, state: TrainState[Learner]) -> tuple[TrainState[Learner], Metrics]:
    """Collect whole episodes and take one step along their gradient."""
    model, learner = on_policy.build(config), state.learner
    rate = on_policy.learning_rate(config, state.iteration)
    (reset_key,) = collectives.device_keys([jax.random.fold_in(state.key, 0)])
    envs.release(model.env, state.actor.env_state)
    fresh = rollout.start(model.env, reset_key, state.actor.episode_return.shape[0])
    experience = on_policy.gather(config, model, state._replace(actor=fresh))
    weights = weigh(config, model, learner, experience)
    grads, metrics = gradient(config, model, learner, experience, weights)
    learner, norm = on_policy.gradient_step(
        config, learner, experience, grads, rate, config.std_rate
    )
    metrics |= {
        "grad_norm": norm,
        "learning_rate": rate,
        "policy/baseline": jnp.mean(weights.counted * weights.baseline),
        "train/counted": jnp.mean(weights.counted > 0, dtype=jnp.float32),
    }
    return on_policy.advance(state, experience, learner, metrics)


def weigh(
    config: Config, model: ActorCriticModel, learner: Learner, experience: Experience
) -> Weights:
    """Say what each step counts in the gradient, of a rollout that begins with its episodes."""
    steps, whole = experience.steps, config.returns == "trajectory"
    done = steps.terminated | steps.truncated
    start = returns.episode_starts(done)
    gamma = 1.0 if config.discount == "none" else config.gamma
    reward, final_value = steps.reward, jnp.zeros_like(steps.reward)
    if config.entropy_in_return:
        entropy = model.family.entropy(
            model.policy(learner, jax.tree.map(on_policy.flatten, steps.obs))
        )
        reward = reward + config.ent_coef * entropy.reshape(reward.shape)
    if config.baseline == "value" and config.discount != "none":
        final_value = steps.final_value
    to_go = returns.reward_to_go(reward, done, final_value, gamma)
    counted = (start <= done.shape[0] - envs.time_limit(model.env)).astype(jnp.float32)
    elapsed = jnp.arange(done.shape[0])[:, None] - start
    weighted = config.discount == "from_start" and not whole
    decay = jnp.power(gamma, elapsed)
    # A trajectory's return has the entropy of all of its steps, discounted from its start.
    in_return = whole and config.entropy_in_return
    weights = Weights(
        counted=counted / collectives.mean(jnp.mean(counted)),
        factor=decay if weighted else jnp.ones_like(to_go),
        decay=decay if weighted or in_return else jnp.ones_like(to_go),
        ret=jnp.take_along_axis(to_go, start, axis=0) if whole else to_go,
        baseline=jnp.zeros_like(to_go),
        target=to_go,
    )
    baseline = _baseline(config, model, learner, experience, weights)
    if config.baseline == "value" and whole:
        baseline = jnp.take_along_axis(baseline, start, axis=0)
    return weights._replace(baseline=baseline)


def gradient(
    config: Config,
    model: ActorCriticModel,
    learner: Learner,
    experience: Experience,
    weights: Weights,
) -> tuple[Params, Metrics]:
    """Return the loss's gradient with respect to the learner's parameters, and the loss's parts."""
    obs = normalize.observe(learner.normalizer, experience.steps.obs)
    rows = jax.tree.map(on_policy.flatten, (obs, experience.steps.action, weights))
    grads, metrics = jax.grad(_loss, has_aux=True)(learner.params, config, model, *rows)
    if config.baseline == "per_parameter":
        s, u = _scores(model, learner, experience.steps, weights)
        constants = losses.leave_one_out_ratio(u * s, s * s)
        _, unravel = ravel_pytree(grads)
        taken_off = unravel(jnp.sum(constants * s, axis=0) / weights.ret.size)
        grads = jax.tree.map(jnp.add, grads, taken_off)
    return grads, metrics


def _baseline(
    config: Config,
    model: ActorCriticModel,
    learner: Learner,
    experience: Experience,
    weights: Weights,
) -> jax.Array:
    """`b` of every step, `[T, B]`."""
    if config.baseline in ("none", "per_parameter"):
        return weights.baseline
    if config.baseline == "value":
        return on_policy.values(model, learner, experience)[0]
    if config.baseline == "average":
        total = jnp.sum(weights.counted * weights.ret, axis=0)
        sums = total, jnp.sum(weights.counted, axis=0)
    else:
        s, u = _scores(model, learner, experience.steps, weights)
        sums = jnp.sum(u * s, axis=1), jnp.sum(s * s, axis=1)
    others = losses.leave_one_out_ratio(*sums)
    return jnp.broadcast_to(others[None], weights.ret.shape)


def _scores(
    model: ActorCriticModel, learner: Learner, steps: Transition, weights: Weights
) -> tuple[jax.Array, jax.Array]:
    """`s` and `u` of every environment, `[B, n]` of n parameters; see the file's docstring."""

    def score(obs: jax.Array, action: jax.Array, weight: jax.Array) -> jax.Array:
        """`sum_t weight_t grad log pi(a_t|s_t)` of one environment, as a vector."""
        log_prob, pull_back = jax.vjp(
            lambda params: model.family.log_prob(
                model.policy(learner._replace(params=params), obs), action
            ),
            learner.params,
        )
        return ravel_pytree(pull_back(weight.astype(log_prob.dtype))[0])[0]

    along_envs = jax.vmap(score, in_axes=1)
    factor = weights.counted * weights.factor
    s = along_envs(steps.obs, steps.action, factor)
    return s, along_envs(steps.obs, steps.action, factor * weights.ret)


def _loss(
    params: Params,
    config: Config,
    model: ActorCriticModel,
    obs: jax.Array,
    action: jax.Array,
    weights: Weights,
) -> tuple[jax.Array, Metrics]:
    dist, values = model.network.apply(params, obs)
    share = weights.counted * weights.factor
    advantage = share * (weights.ret - weights.baseline)
    policy_loss = losses.policy_gradient_loss(model.family.log_prob(dist, action), advantage)
    entropy = model.family.entropy(dist)
    total = policy_loss - config.ent_coef * jnp.mean(weights.counted * weights.decay * entropy)
    value_loss = 0.5 * jnp.mean(weights.counted * jnp.square(values - weights.target))
    if config.baseline == "value":
        total = total + config.vf_coef * value_loss
    if not model.env.spec.discrete:
        total = total + config.bound_coef * on_policy.bound_loss(model, dist)
    return total, {
        "loss/total": total,
        "loss/policy": policy_loss,
        "loss/value": value_loss,
        "policy/entropy": jnp.mean(weights.counted * entropy),
    }


AGENT = Agent(
    "reinforce", Config, init, iterate, act, value, adopt=on_policy.adopt, written=policy_and_value
)
