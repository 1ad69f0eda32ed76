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

- `none`: nothing, all ratios count as 1. The critic learns values of mu and the actor the best
  single change to it: the wrong policy where a state's worth depends on what pi does later
  (`theory.updates.off_policy_gradient.two_bets`).
- `importance`: ratios as they are, `w = rho`, in errors and in traces too: the estimator of the
  paper, of large variance where pi and mu are far from each other.
- `vtrace`: ratios clipped at `rho_clip`, `w = min(rho_clip, rho)` and so in errors, and at `c_clip`
  in traces (Espeholt et al. 2018, arXiv 1802.01561). With `gae_lambda=0` this is TD(0) with clipped
  ratios.

As in the paper, states are weighted as mu visits them, and how Q changes with pi is left out of the
gradient (their theorem 1). Where it differs: the critic takes semi-gradient steps instead of GTD's,
the actor's traces are forward views over a segment, and experience is replayed, as in ACER (Wang et
al. 2017, arXiv 1611.01224). Where it differs from most of the field: a step cut off by a time limit
bootstraps from its own final observation. Box actions are a normal's, as in `actor_critic`.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.components import networks, normalize, on_policy, optim, replay, rollout
from jaxrl_pg.components.on_policy import (
    ActorCriticModel,
    Learner,
    OnPolicyConfig,
    act,
    value,
)
from jaxrl_pg.config import Fraction, Positive, Range
from jaxrl_pg.ops import collectives, losses, off_policy_returns, running_stats
from jaxrl_pg.types import ActorState, Agent, Metrics, Obs, Params, TimeStep, TrainState, Transition

__all__ = [
    "AGENT",
    "Config",
    "Experience",
    "Learner",
    "Segments",
    "act",
    "gather",
    "init",
    "iterate",
    "value",
]


class Config(OnPolicyConfig):
    """Hyper-parameters of the off-policy actor-critic; floats are pytree leaves."""

    num_envs: Annotated[int, Positive] = 16
    """environments stepped side by side"""
    num_steps: Annotated[int, Positive] = 32
    """steps of each environment per iteration, which is the length of a segment"""
    learning_rate: Annotated[float, Positive] = 1e-3
    """Adam's step size, at the start if annealed"""
    correction: Literal["none", "importance", "vtrace"] = "vtrace"
    """what is done about actions of another policy"""
    rho_clip: Annotated[float, Positive] = 1.0
    """largest ratio of a TD error and of a policy gradient (correction vtrace)"""
    c_clip: Annotated[float, Positive] = 1.0
    """largest ratio of a trace (correction vtrace)"""
    gae_lambda: Annotated[float, Fraction] = 1.0
    """decay of the traces"""
    replay_ratio: Annotated[int, Range(0)] = 4
    """gradient steps on replayed segments for each one on the newest"""
    buffer_size: Annotated[int, Positive] = 32_768
    """steps kept in the replay, of the newest whole iterations"""
    behaviour_epsilon: Annotated[float, Fraction] = 0.0
    """share of uniformly random actions in the behaviour policy"""
    ent_coef: float = 0.003
    """weight of the entropy bonus"""
    vf_coef: float = 0.5
    """weight of the value loss"""

    def check(self) -> None:
        """Refuse a replay that does not hold one iteration."""
        super().check()
        if self.buffer_size < self.steps_per_iteration:
            raise ValueError(
                f"buffer_size={self.buffer_size} does not hold the {self.steps_per_iteration} "
                f"steps of an iteration: give at least as many, or replay_ratio=0"
            )


class Segments(NamedTuple):
    """Steps of `B` environments, `[T, B, ...]`; in the replay `[rows, T, ...]`.

    Attributes:
        obs: observation acted on, as the environment gave it.
        action: raw action.
        log_prob: `log mu(a|s)` of the policy that took it.
        reward: the environment's.
        terminated: the step ended the episode for good.
        truncated: the step was the episode's last because of a time limit.
        next_obs: the observation this step led to, before any reset.
    """

    obs: Obs
    action: jax.Array
    log_prob: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    next_obs: Obs


class Experience(NamedTuple):
    """What an iteration's steps gave.

    Attributes:
        actor: where the environments stand now.
        memory: the replay with the new segments in it.
        normalizer: after the new steps.
        episodes: sums over the episodes that ended, as from `rollout.collect`.
        update_key: for learning, another one on every device.
        next_key: of the next iteration.
    """

    actor: ActorState
    memory: replay.Replay
    normalizer: normalize.Normalizer
    episodes: Metrics
    update_key: jax.Array
    next_key: jax.Array


def init(config: Config, key: jax.Array) -> TrainState[Learner]:
    """Return a fresh train state: parameters, optimiser, an empty replay, first observations."""
    state = on_policy.init(config, key)
    spec = on_policy.build(config).env.spec
    step_obs = jax.tree.map(lambda x: x[0], state.actor.obs)
    number, flag = jnp.zeros(()), jnp.zeros((), bool)
    action = jnp.zeros(spec.action_shape, jnp.int32 if spec.discrete else jnp.float32)
    step = Segments(step_obs, action, number, number, flag, flag, next_obs=step_obs)
    segment = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((config.num_steps, *x.shape), x.dtype), step
    )
    num_segments = config.buffer_size // config.steps_per_iteration * config.num_envs
    return state._replace(memory=replay.init(segment, num_segments, config.num_devices))


def iterate(config: Config, state: TrainState[Learner]) -> tuple[TrainState[Learner], Metrics]:
    """Let the behaviour policy step the environments; learn from new and from older segments."""
    model = on_policy.build(config)
    experience = gather(config, model, state)
    rate = on_policy.learning_rate(config, state.iteration)
    seen = normalize.Normalizer(state.learner.normalizer.obs, experience.normalizer.reward)

    def update(carry: tuple[Params, Any], places: jax.Array) -> tuple[tuple[Params, Any], Metrics]:
        """Take one gradient step on the segments at these places of the replay."""
        params, opt_state = carry
        rows = replay.take(experience.memory, places)
        segments = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), rows)
        grads, metrics = jax.grad(_loss, has_aux=True)(params, config, model, seen, segments)
        params, opt_state, norm = optim.apply_gradients(
            params,
            opt_state,
            collectives.mean(grads),
            rate,
            config.max_grad_norm,
            config.optimizer,
        )
        return (params, opt_state), {**metrics, "grad_norm": norm}

    num_envs = state.actor.episode_return.shape[0]
    places = _places(experience, num_envs, config.replay_ratio)
    start = (state.learner.params, state.learner.opt_state)
    (params, opt_state), metrics = jax.lax.scan(update, start, places)
    learner = Learner(params, opt_state, experience.normalizer)
    metrics = {**jax.tree.map(jnp.mean, metrics), "learning_rate": rate, **experience.episodes}
    state = TrainState(
        learner, experience.actor, experience.memory, experience.next_key, state.iteration + 1
    )
    return state, rollout.episode_means(metrics)


def gather(config: Config, model: ActorCriticModel, state: TrainState[Learner]) -> Experience:
    """Let the behaviour policy take `num_steps` steps, into the replay and the normaliser."""
    env, learner = model.env, state.learner
    next_key, *keys = jax.random.split(state.key, 4)
    noise_key, env_key, update_key = collectives.device_keys(keys)
    noise = _noise(model, noise_key, (config.num_steps, state.actor.episode_return.shape[0]))

    def behave(obs: Obs, noise: Any, hidden: Any) -> tuple[jax.Array, jax.Array, Any]:
        dist = model.policy(learner, obs)
        return *_behaviour(model, dist, obs, noise, config.behaviour_epsilon), hidden

    def record(obs: Obs, action: jax.Array, log_prob: jax.Array, timestep: TimeStep) -> Segments:
        ends = (timestep.terminated, timestep.truncated)
        return Segments(obs, action, log_prob, timestep.reward, *ends, timestep.final_obs)

    actor, steps, episodes = rollout.collect(env, behave, record, state.actor, noise, env_key)
    # Rewards are kept as they are, since what they are divided by goes on changing.
    ends, unread = (steps.terminated, steps.truncated), jnp.zeros_like(steps.reward)
    rows = Transition(steps.obs, steps.action, steps.log_prob, steps.reward, *ends, unread)
    normalizer, discounted, _ = normalize.update(
        learner.normalizer, rows, actor.discounted_return, config.gamma
    )
    actor = actor._replace(discounted_return=discounted)
    memory = replay.add(state.memory, jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), steps))
    return Experience(actor, memory, normalizer, episodes, update_key, next_key)


def _places(experience: Experience, num_envs: int, replay_ratio: int) -> jax.Array:
    """Where the segments of each update are, `[1 + replay_ratio, num_envs]`: first the newest."""
    memory = experience.memory
    num_segments = memory.data.reward.shape[0]
    newest = (memory.position - num_envs + jnp.arange(num_envs)) % num_segments
    drawn = replay.draw(memory, experience.update_key, replay_ratio * num_envs)
    return jnp.concatenate([newest, drawn]).reshape(1 + replay_ratio, num_envs)


def _noise(model: ActorCriticModel, key: jax.Array, shape: tuple[int, int]) -> Any:
    """The randomness of actions: of pi, and of Box actions also which are random, and they."""
    spec = model.env.spec
    noise = model.family.noise(key, shape, spec.num_actions)
    if spec.discrete:
        return noise, (), ()
    choice_key, action_key = jax.random.split(jax.random.fold_in(key, 1))
    uniform = jax.random.uniform(action_key, noise.shape, minval=-1.0, maxval=1.0)
    return noise, jax.random.uniform(choice_key, shape), uniform


def _behaviour(
    model: ActorCriticModel, dist: Any, obs: Obs, noise: Any, epsilon: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
    """Actions of `mu = (1 - epsilon) pi + epsilon uniform`, and `log mu` of them, `[B, ...]`."""
    own, choice, uniform = noise
    log_own, log_random = jnp.log1p(-jnp.asarray(epsilon)), jnp.log(jnp.asarray(epsilon))
    if model.env.spec.discrete:
        even = jax.nn.log_softmax(networks.legal_logits(obs, jnp.zeros_like(dist)))
        logits = jnp.logaddexp(log_own + jax.nn.log_softmax(dist), log_random + even)
        action = model.family.sample(logits, own)
        return action, model.family.log_prob(logits, action)
    random = choice[:, None] < epsilon
    action = jnp.where(random, uniform, model.family.sample(dist, own))
    inside = jnp.all(jnp.abs(action) <= 1.0, axis=1)
    even = jnp.where(inside, -math.log(2.0) * action.shape[1], -jnp.inf)
    log_prob = model.family.log_prob(dist, action)
    return action, jnp.logaddexp(log_own + log_prob, log_random + even)


def _loss(
    params: Params,
    config: Config,
    model: ActorCriticModel,
    normalizer: normalize.Normalizer,
    segments: Segments,
) -> tuple[jax.Array, Metrics]:
    """The mean loss over some segments, and its parts."""
    shape = segments.reward.shape
    rows = jax.tree.map(on_policy.flatten, segments)
    dist, values = model.network.apply(params, normalize.observe(normalizer, rows.obs))
    next_obs = normalize.observe(normalizer, rows.next_obs)
    next_value = model.network.apply(params, next_obs, method="value").reshape(shape)
    log_prob = model.family.log_prob(dist, rows.action)
    ratio = off_policy_returns.importance_ratio(log_prob, rows.log_prob)
    weight, estimate = jax.lax.stop_gradient(
        _estimate(config, normalizer, segments, ratio, values, next_value)
    )
    policy_loss = losses.policy_gradient_loss(log_prob, weight * estimate.advantage.reshape(-1))
    target = estimate.target.reshape(-1)
    value_loss = losses.value_loss(values, target)
    entropy = jnp.mean(model.family.entropy(dist))
    total = policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy
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
    segments: Segments,
    ratio: jax.Array,
    values: jax.Array,
    next_value: jax.Array,
) -> tuple[jax.Array, off_policy_returns.VTrace]:
    """What ratios count as in the policy gradient, `[N]`; targets and advantages `[T, B]`."""
    shape, reward = segments.reward.shape, segments.reward
    if isinstance(normalizer.reward, running_stats.RunningStats):
        reward = reward / running_stats.std(normalizer.reward)
    if config.correction == "none":
        ratio = jnp.ones_like(ratio)
    rho_clip, c_clip = config.rho_clip, config.c_clip
    if config.correction != "vtrace":
        rho_clip = c_clip = jnp.inf
    estimate = off_policy_returns.vtrace(
        ratio.reshape(shape),
        reward,
        values.reshape(shape),
        next_value,
        segments.terminated,
        segments.truncated,
        config.gamma,
        config.gae_lambda,
        rho_clip,
        c_clip,
    )
    return jnp.minimum(rho_clip, ratio), estimate


AGENT = Agent("off_policy_actor_critic", Config, init, iterate, act, value)
