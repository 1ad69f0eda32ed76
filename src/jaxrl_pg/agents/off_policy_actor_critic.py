"""Off-policy actor-critic (Degris, White and Sutton 2012, arXiv 1205.4839), from a replay.

One iteration lets a behaviour policy mu take `num_steps` steps of `num_envs` environments. They go
into a replay as segments, one of each environment, and the policy pi learns from the newest ones
once and from `replay_ratio` draws of as many older ones, each time by a gradient step on

    L = -mean(w log pi(a|s) A) + vf_coef * mean((V(s) - v)^2) / 2 - ent_coef * H[pi]

whose weights w, constants in the loss, are importance ratios `rho = pi(a|s) / mu(a|s)`. Targets v
and advantages A are made anew from the segment by `ops.off_policy_returns.vtrace`. mu is pi as it
was when it acted, so that older policies' experience is learned from; and `behaviour_epsilon` of
its actions are uniformly random, all of them at 1, which makes mu a fixed policy. `correction` says
what is done about mu not being pi:

- `none`: nothing, all ratios count as 1. The critic learns values of mu and the actor one change to
  it, the largest `mu(a|s) A(s,a)`: the wrong policy where a state's worth depends on what pi does
  later (`theory.updates.off_policy_gradient.two_bets`).
- `importance`: ratios as they are, `w = rho`, in errors and in traces too: the estimator of the
  paper, of large variance where pi and mu are far from each other.
- `vtrace`: ratios clipped at `rho_clip`, `w = min(rho_clip, rho)` and so in errors, and at `c_clip`
  in traces (Espeholt et al. 2018, arXiv 1802.01561). With `gae_lambda=0` this is TD(0) with clipped
  ratios.

The critic takes semi-gradient steps, which can diverge off-policy, or with `critic="gradient_td"`
those of gradient TD, as in the paper: a second network h learns the error `v - V` that a state is
to expect, and the value loss becomes `losses.gradient_td_loss`.

As in the paper, states are weighted as mu visits them, and how Q changes with pi is left out of the
gradient (their theorem 1). Where it differs: traces are forward views over a segment, and
experience is replayed, as in ACER (Wang et al. 2017, arXiv 1611.01224). Where it differs from most
of the field: a step cut off by a time limit bootstraps from its own final observation. Box actions
are a normal's, as in `actor_critic`, with `std_rate` and `bound_coef` as said in
`components.on_policy_config`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.components import (
    layers,
    networks,
    normalize,
    on_policy,
    optim,
    own_network,
    rollout,
    segments,
)
from jaxrl_pg.components.critics import Critic
from jaxrl_pg.components.on_policy import ActorCriticModel, SingleStepConfig, act, value
from jaxrl_pg.components.segments import Segments, SegmentsConfig
from jaxrl_pg.components.written import policy_and_value
from jaxrl_pg.config import Fraction, Positive
from jaxrl_pg.ops import collectives, losses, off_policy_returns, running_stats
from jaxrl_pg.types import Agent, Metrics, OptState, Params, TrainState

__all__ = ["AGENT", "Config", "Learner", "act", "adopt", "init", "iterate", "value"]


class Config(SegmentsConfig, SingleStepConfig):
    """Hyper-parameters of the off-policy actor-critic; floats are pytree leaves."""

    later: ClassVar[dict[str, Any]] = SingleStepConfig.before

    learning_rate: Annotated[float, Positive] = 1e-3
    """Adam's step size, at the start if annealed"""
    correction: Literal["none", "importance", "vtrace"] = "vtrace"
    """what is done about actions of another policy"""
    rho_clip: Annotated[float, Positive] = 1.0
    """largest ratio of a TD error and of a policy gradient (correction vtrace)"""
    c_clip: Annotated[float, Positive] = 1.0
    """largest ratio of a trace (correction vtrace)"""
    gae_lambda: Annotated[float, Fraction] = 0.95
    """decay of the traces"""
    critic: Literal["td", "gradient_td"] = "td"
    """how the critic learns: semi-gradient steps (td) or corrected ones (gradient_td)"""
    ent_coef: float = 0.003
    """weight of the entropy bonus"""
    vf_coef: float = 0.5
    """weight of the value loss"""


class Learner(NamedTuple):
    """The agent's own state.

    Attributes:
        params: of the policy and value networks.
        expected_error: of the network h, `()` without gradient TD.
        opt_state: Adam's moments, of both.
        normalizer: statistics of observations and rewards.
    """

    params: Params
    expected_error: Params
    opt_state: OptState
    normalizer: normalize.Normalizer


def init(config: Config, key: jax.Array) -> TrainState[Learner]:
    """Return a fresh train state: parameters, optimiser, an empty replay, first observations."""
    model, second = on_policy.build(config), second_network(config)
    params, normalizer, actor, train_key = on_policy.start(config, key)
    expected: Params = ()
    if second is not None:
        second_key = jax.random.fold_in(key, 1)
        expected = networks.init_params(second, second_key, model.env.spec.obs_shape)
    opt_state = optim.init((params, expected), config.optimizer)
    learner = Learner(params, expected, opt_state, normalizer)
    memory = segments.start(config, model, actor)
    return TrainState(learner, actor, memory, train_key, jnp.zeros((), jnp.int32))


def adopt(config: Config, learner: Learner, given: Learner) -> Learner:
    """Return a fresh learner with the networks and statistics of another."""
    params, expected = given.params, given.expected_error
    opt_state = optim.init((params, expected), config.optimizer)
    return Learner(params, expected, opt_state, given.normalizer)


def second_network(config: Config) -> Any:
    """Make the network h of gradient TD, `[N, ...] -> [1, N, 1]` or `[N, 1]`; None without."""
    if config.critic == "td":
        return None
    spec = on_policy.build(config).env.spec
    if config.network is not None:
        return own_network.critics(config, spec, "value", 1)
    return Critic(spec, 1, layers.torso_fields(config))


def iterate(config: Config, state: TrainState[Learner]) -> tuple[TrainState[Learner], Metrics]:
    """Let the behaviour policy step the environments; learn from new and from older segments."""
    model, second = on_policy.build(config), second_network(config)
    old = state.learner
    experience = segments.gather(config, model, old, state)
    rate = on_policy.learning_rate(config, state.iteration)
    # Observations as they were seen when acting, so that the ratios of the newest steps are 1.
    seen = normalize.Normalizer(old.normalizer.obs, experience.normalizer.reward)

    def update(carry: tuple[Params, OptState], places: jax.Array) -> tuple[Any, Metrics]:
        """Take one gradient step on the segments at these places of the replay."""
        params, opt_state = carry
        part = segments.take(experience.memory, places)
        grads, metrics = jax.grad(_loss, has_aux=True)(params, config, model, second, seen, part)
        stepped, opt_state, norm = optim.apply_gradients(
            params,
            opt_state,
            collectives.mean(grads),
            rate,
            config.max_grad_norm,
            config.optimizer,
        )
        params = on_policy.paced(params, stepped, config.std_rate)
        return (params, opt_state), {**metrics, "grad_norm": norm}

    start = ((old.params, old.expected_error), old.opt_state)
    places = segments.places(experience, config.replay_ratio)
    (params, opt_state), metrics = jax.lax.scan(update, start, places)
    learner = Learner(*params, opt_state, experience.normalizer)
    metrics = {**jax.tree.map(jnp.mean, metrics), "learning_rate": rate, **experience.episodes}
    state = TrainState(
        learner, experience.actor, experience.memory, experience.next_key, state.iteration + 1
    )
    return state, rollout.episode_means(metrics)


def _loss(
    params: tuple[Params, Params],
    config: Config,
    model: ActorCriticModel,
    second: Any,
    normalizer: normalize.Normalizer,
    part: Segments,
) -> tuple[jax.Array, Metrics]:
    """The mean loss over some segments, and its parts."""
    rows = jax.tree.map(on_policy.flatten, part)
    obs = normalize.observe(normalizer, rows.obs)
    dist, values = model.network.apply(params[0], obs)
    next_obs = normalize.observe(normalizer, rows.next_obs)
    next_values = model.network.apply(params[0], next_obs, method="value")
    log_prob = model.family.log_prob(dist, rows.action)
    ratio = jax.lax.stop_gradient(off_policy_returns.importance_ratio(log_prob, rows.log_prob))
    weight, estimate = _estimate(config, normalizer, part, ratio, values, next_values)
    policy_loss = losses.policy_gradient_loss(log_prob, weight * estimate.advantage.reshape(-1))
    target = estimate.target.reshape(-1)
    if second is None:
        value_loss = losses.value_loss(values, jax.lax.stop_gradient(target))
    else:
        expected = second.apply(params[1], obs).reshape(-1)
        value_loss = losses.gradient_td_loss(values, target, expected)
    entropy = jnp.mean(model.family.entropy(dist))
    total = policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy
    if not model.env.spec.discrete:
        total += config.bound_coef * on_policy.bound_loss(model, dist)
    return total, {
        "loss/total": total,
        "loss/policy": policy_loss,
        "loss/value": value_loss,
        "policy/entropy": entropy,
        "policy/ratio_mean": jnp.mean(ratio),
        "policy/ratio_max": jnp.max(ratio),
        "policy/clip_fraction": jnp.mean(ratio > config.rho_clip),
        "policy/effective_share": off_policy_returns.effective_share(ratio),
        "value/explained_variance": losses.explained_variance(values, target),
    }


def _estimate(
    config: Config,
    normalizer: normalize.Normalizer,
    part: Segments,
    ratio: jax.Array,
    values: jax.Array,
    next_values: jax.Array,
) -> tuple[jax.Array, off_policy_returns.VTrace]:
    """What ratios count as in the policy gradient, `[N]`; targets and advantages `[T, B]`."""
    shape, reward = part.reward.shape, part.reward
    if isinstance(normalizer.reward, running_stats.RunningStats):
        reward = reward / running_stats.spread(normalizer.reward)
    if config.correction == "none":
        ratio = jnp.ones_like(ratio)
    rho_clip, c_clip = config.rho_clip, config.c_clip
    if config.correction != "vtrace":
        rho_clip = c_clip = jnp.inf
    estimate = off_policy_returns.vtrace(
        ratio.reshape(shape),
        reward,
        values.reshape(shape),
        next_values.reshape(shape),
        part.terminated,
        part.truncated,
        config.gamma,
        config.gae_lambda,
        rho_clip,
        c_clip,
    )
    return jnp.minimum(rho_clip, ratio), estimate


AGENT = Agent(
    "off_policy_actor_critic",
    Config,
    init,
    iterate,
    act,
    value,
    adopt=adopt,
    written=policy_and_value,
)
