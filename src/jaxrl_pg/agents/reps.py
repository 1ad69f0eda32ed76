"""Relative entropy policy search (Peters, Mulling and Altun 2010), with networks.

One iteration collects a rollout of distribution q, minimises the dual of the problem "largest E_p r
with KL(p || q) <= kl_target",

    g(eta, V) = eta kl_target + eta log E_q exp(delta / eta) + (1 - gamma) E_{s0} V,
    delta = r + gamma (1 - terminated) V(s') - V(s),

and fits the policy to `p = q exp(delta / eta) / Z` by weighted likelihood. eta is solved for in
every pass over the rollout (at its minimum the divergence is `kl_target`), V takes gradient steps.

That is REPS proper: `critic="dual"` and `gae_lambda=0`, the defaults. The V that minimises the
dual makes p a distribution that a policy can have, and is fixed up to a constant only: `value` then
returns no estimate of the policy's value. With a lambda above 0, weights are from that
V's generalised advantages. With `critic="returns"` V is fitted to the lambda-returns instead and is
that of the policy; eta is then the C of the analytical update of taken actions by a KL target.

Where it differs from the paper: discounted; networks instead of features, gradient steps instead
of BFGS; one successor for each step instead of the expected one, which adds the noise of
transitions to delta (none where they are deterministic); Gaussians may pay for the KL from the old
policy. A step cut off by a time limit bootstraps from the value of its own final observation, as
V was when the step was taken.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.components import epochs, normalize, on_policy, optim, step_size
from jaxrl_pg.components.epochs import Fit
from jaxrl_pg.components.on_policy import (
    ActorCriticModel,
    Batch,
    EpochsConfig,
    Experience,
    act,
    value,
)
from jaxrl_pg.components.step_size import TrustFields
from jaxrl_pg.components.written import policy_and_value
from jaxrl_pg.config import Fraction, Positive
from jaxrl_pg.ops import batching, losses, reps
from jaxrl_pg.ops.distributions import Normal
from jaxrl_pg.types import Agent, Metrics, OptState, Params, TrainState

__all__ = ["AGENT", "Config", "Learner", "act", "adopt", "init", "iterate", "value"]


class Config(TrustFields, EpochsConfig):
    """Hyper-parameters of REPS; floats are pytree leaves."""

    kl_target: Annotated[float, Positive] = 0.1
    """bound on KL(p || q), epsilon in the paper, in nats"""
    critic: Literal["dual", "returns"] = "dual"
    """what V is fitted to: the dual's minimum (REPS proper), or the policy's returns"""
    critic_epochs: Annotated[int, Positive] = 4
    """passes over a rollout that fit V"""
    gae_lambda: Annotated[float, Fraction] = 0.0
    """decay of the advantage estimate's trace: 0 weighs by delta alone, as REPS proper does"""

    def check(self) -> None:
        """Refuse a shared torso."""
        super().check()
        if self.shared_torso:
            raise ValueError(
                "shared_torso=True: the dual's steps must leave the policy; give False"
            )


class Learner(NamedTuple):
    """The agent's own state.

    Attributes:
        params: parameters of the policy and value networks.
        opt_state: Adam's moments of the policy's steps.
        critic_opt_state: Adam's moments of V's steps.
        normalizer: statistics of observations and rewards.
    """

    params: Params
    opt_state: OptState
    critic_opt_state: OptState
    normalizer: normalize.Normalizer


class Steps(NamedTuple):
    """The rollout as V is fitted to it, `[N, ...]`.

    Attributes:
        obs: observations as networks see them.
        next_obs: their successors; anything where an episode ended.
        reward: the rewards.
        discount: gamma where `next_obs` is the successor, 0 where the episode ended.
        final: gamma V of the step's own final observation where it was cut off, 0 elsewhere.
        target: lambda-returns.
    """

    obs: jax.Array
    next_obs: jax.Array
    reward: jax.Array
    discount: jax.Array
    final: jax.Array
    target: jax.Array


class Rows(NamedTuple):
    """What the policy is fitted to, `[N, ...]`.

    Attributes:
        batch: the rollout.
        log_weight: log w, of mean 1 over the batch.
        old: parameters of the old policy.
    """

    batch: Batch
    log_weight: jax.Array
    old: Any


def init(config: Config, key: jax.Array) -> TrainState[Learner]:
    """Return a fresh train state: parameters, optimisers, statistics, first observations."""
    params, normalizer, actor, train_key = on_policy.start(config, key)
    learner = Learner(
        params,
        optim.init(params, config.optimizer),
        optim.init(params, config.optimizer),
        normalizer,
    )
    return TrainState(learner, actor, (), train_key, jnp.zeros((), jnp.int32))


def adopt(config: Config, learner: Learner, given: Learner) -> Learner:
    """Return a fresh learner with the networks and statistics of another."""
    critic_opt_state = optim.init(given.params, config.optimizer)
    learner = on_policy.adopt(config, learner, given)
    return learner._replace(critic_opt_state=critic_opt_state)


def iterate(config: Config, state: TrainState[Learner]) -> tuple[TrainState[Learner], Metrics]:
    """Collect one rollout and learn from it."""
    model = on_policy.build(config)
    experience = on_policy.gather(config, model, state)
    batch = on_policy.make_batch(config, model, state.learner, experience)
    learner = state.learner._replace(normalizer=experience.normalizer)
    rate = on_policy.learning_rate(config, state.iteration)
    critic_key, policy_key = jax.random.split(experience.update_key)
    steps = _steps(config, learner, experience, batch.target)
    absorbed = jnp.zeros(())
    if config.critic == "dual":
        absorbed = reps.absorbed_mass(experience.steps.terminated, config.gamma)
    learner, fitted = _fit_critic(config, model, learner, steps, absorbed, critic_key, rate)
    if config.critic == "dual":  # weights by the V that has just been fitted
        batch = on_policy.make_batch(config, model, learner, experience)
    rows, metrics = _weigh(config, model, learner, batch, absorbed)
    (stepped, opt_state), projected = epochs.fit(
        config,
        lambda rows, params: _policy_loss(config, model, rows, params),
        rows,
        (learner.params, learner.opt_state),
        policy_key,
        rate,
    )
    params = epochs.hold(config, model.network, "policy", batch.obs, learner.params, stepped)
    metrics["value/explained_variance"] = losses.explained_variance(batch.value, batch.target)
    metrics["learning_rate"] = rate
    metrics |= {**fitted, **jax.tree.map(jnp.mean, projected)}
    learner = learner._replace(params=params, opt_state=opt_state)
    return on_policy.advance(state, experience, learner, metrics)


def _steps(config: Config, learner: Learner, experience: Experience, target: jax.Array) -> Steps:
    steps = experience.steps
    every_obs = jax.tree.map(
        lambda x, last: jnp.concatenate([x, last[None].astype(x.dtype)]),
        steps.obs,
        experience.actor.obs,
    )
    every_obs = normalize.observe(learner.normalizer, every_obs)
    goes_on = ~(steps.terminated | steps.truncated)
    discount, final = config.gamma * goes_on, config.gamma * steps.final_value
    flat = on_policy.flatten
    obs, next_obs = (
        jax.tree.map(lambda x, part=part: flat(x[part]), every_obs)
        for part in (slice(None, -1), slice(1, None))
    )
    return Steps(obs, next_obs, flat(steps.reward), flat(discount), flat(final), target)


def _fit_critic(
    config: Config,
    model: ActorCriticModel,
    learner: Learner,
    steps: Steps,
    absorbed: jax.Array,
    key: jax.Array,
    rate: jax.Array,
) -> tuple[Learner, Metrics]:
    """Take V's gradient steps, with the best eta of every pass; metrics are of the last."""
    num, passes = steps.reward.shape[0], config.critic_epochs
    indices = batching.minibatch_indices(key, num, passes, config.num_minibatches)
    indices = indices.reshape(passes, config.num_minibatches, -1)

    def one_pass(start: Fit, indices: jax.Array) -> tuple[Fit, Metrics]:
        delta = _bellman_error(model, steps, start[0])
        eta = reps.temperature(delta, config.kl_target, absorbed)

        def minibatch_step(start: Fit, indices: jax.Array) -> tuple[Fit, Metrics]:
            return epochs.gradient_step(
                config,
                lambda rows, params: _critic_loss(config, model, rows, params, eta, absorbed),
                jax.tree.map(lambda x: x[indices], steps),
                start,
                rate,
            )

        fit, metrics = jax.lax.scan(minibatch_step, start, indices)
        return fit, {"loss/value": jnp.mean(metrics["loss/value"])}

    start = (learner.params, learner.critic_opt_state)
    (stepped, opt_state), metrics = jax.lax.scan(one_pass, start, indices)
    params = epochs.hold(config, model.network, "value", steps.obs, learner.params, stepped)
    learner = learner._replace(params=params, critic_opt_state=opt_state)
    return learner, jax.tree.map(lambda x: x[-1], metrics)


def _critic_loss(
    config: Config,
    model: ActorCriticModel,
    steps: Steps,
    params: Params,
    eta: jax.Array,
    absorbed: jax.Array,
) -> tuple[jax.Array, Metrics]:
    """The dual in V of some rows, or half the squared distance from the lambda-returns."""
    if config.critic == "dual":
        delta = _bellman_error(model, steps, params)
        loss = reps.dual(delta, steps.reward, eta, config.kl_target, absorbed)
    else:
        values = model.network.apply(params, steps.obs, method="value")
        loss = losses.value_loss(values, steps.target)
    return loss, {"loss/value": loss}


def _bellman_error(model: ActorCriticModel, steps: Steps, params: Params) -> jax.Array:
    """`r + gamma (1 - terminated) V(s') - V(s)`, `[N]`."""
    value = model.network.apply(params, steps.obs, method="value")
    next_value = model.network.apply(params, steps.next_obs, method="value")
    return steps.reward + steps.final + steps.discount * next_value - value


def _weigh(
    config: Config, model: ActorCriticModel, learner: Learner, batch: Batch, absorbed: jax.Array
) -> tuple[Rows, Metrics]:
    """The weights of the taken actions, scaled to mean 1 over the batch."""
    eta = reps.temperature(batch.advantage, config.kl_target, absorbed)
    old = model.network.apply(learner.params, batch.obs, method="policy")
    metrics = {
        "reps/eta": eta,
        "reps/kl": reps.weights_kl(batch.advantage, eta, absorbed),
        "reps/absorbed": absorbed,
    }
    return Rows(batch, reps.log_weights(batch.advantage, eta, 0.0), old), metrics


def _policy_loss(
    config: Config, model: ActorCriticModel, rows: Rows, params: Params
) -> tuple[jax.Array, Metrics]:
    """Weighted likelihood, less entropy, and what Gaussians pay for moving."""
    family, dist = model.family, model.network.apply(params, rows.batch.obs, method="policy")
    log_prob = family.log_prob(dist, rows.batch.action)
    loss = losses.policy_gradient_loss(log_prob, jnp.exp(rows.log_weight))
    if isinstance(dist, Normal):
        loss += step_size.move_cost(config, family.kl, rows.old, dist)
    entropy = jnp.mean(family.entropy(dist))
    return loss - config.ent_coef * entropy, {
        "loss/policy": loss,
        "policy/entropy": entropy,
        "policy/approx_kl": losses.approx_kl(log_prob - rows.batch.log_prob),
    }


AGENT = Agent("reps", Config, init, iterate, act, value, adopt=adopt, written=policy_and_value)
