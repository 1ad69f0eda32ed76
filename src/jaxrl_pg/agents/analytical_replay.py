"""The analytical update learned from a replay (Li, Clavette and He 2022, arXiv 2112.02045).

One iteration takes `num_steps` steps of `num_envs` environments into the replay, then
`num_updates` rounds on minibatches out of it: in each, one gradient step of the critics towards
expected SARSA, and one of the policy towards the closed form at the same states,

    J_Q = (Q_k - r - gamma V'(s'))^2 / 2 for every k,    V'(s') = E_{a~pi_old} min_k Q'_k(s',a)
    pi_target(a|s) = pi_old(a|s) exp(Q(s,a) / C) / Z(s),    Q = min_k Q_k
    L = KL(pi_target || pi) - ent_coef * H[pi]      (up to a constant)

where a prime marks exponential averages, and pi_old is the policy of up to `policy_period` rounds
ago: rounds, because they are what moves the policy, however many steps an iteration takes.

The update says of every state by itself what to do there: no expectation over the states of
pi_old is needed, and states may come from a replay. Over a finite action set all sums are exact.
Box actions are tanh of a normal: K of them, drawn from pi_old at each replayed state anew, stand
for it with equal masses, and the target is self-normalised weights, `softmax_k(Q / C)`. Drawn from
pi_old itself, they need no importance weights; the replay's own actions teach only the critics.
Likelihoods and KL are of the normal before tanh, whose Jacobian cancels; the entropy is the
action's. pi pays for its KL from pi_old, by mean and by covariance (MPO, Abdolmaleki et al. 2018).

C is chosen as by `analytical`, in every round; eps is a running mean of the rounds' largest |A|.
A KL target is met also where the critics see no difference between actions: there their noise
moves the policy, over a Box as far as its edges, and a small `kl_target` slows that. The
certificate is an estimate twice over, since its states are the replay's. A step cut off by a time
limit bootstraps from its own final observation. Observations are not normalised.

`mpo` and `crr` return the configurations of its kin.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.components import (
    kin,
    networks,
    off_policy,
    optim,
    replay,
    replay_updates,
    step_size,
    trust,
    written,
)
from jaxrl_pg.components.action_samples import Model, Sampled, for_each_draw
from jaxrl_pg.components.critics import q_of
from jaxrl_pg.components.off_policy import OffPolicyConfig, Rows
from jaxrl_pg.components.replay_updates import Draws
from jaxrl_pg.components.step_size import StepFields
from jaxrl_pg.components.trust import ConstraintFields
from jaxrl_pg.config import Fraction, Positive, Range
from jaxrl_pg.ops import closed_form, distributions, full_normal, soft
from jaxrl_pg.types import Agent, Metrics, Obs, OptState, TrainState

__all__ = [
    "AGENT",
    "Config",
    "Learner",
    "Params",
    "act",
    "adopt",
    "crr",
    "init",
    "iterate",
    "mpo",
    "value",
]


class Config(StepFields, ConstraintFields, OffPolicyConfig):
    """Hyper-parameters of the update from a replay; floats are pytree leaves."""

    num_critics: Annotated[int, Positive] = 2
    """Q networks, of which the least value counts"""
    policy_period: Annotated[int, Positive] = 100
    """rounds after which pi_old becomes the policy"""
    num_actions_sampled: Annotated[int, Range(2)] = 20
    """actions drawn from pi_old at each state (Box actions)"""
    covariance: Literal["diagonal", "full"] = "diagonal"
    """covariance of Box actions before tanh"""
    eps_decay: Annotated[float, Fraction] = 0.99
    """share of the old eps that a round keeps"""
    ent_coef: float = 0.0
    """weight of the policy's entropy"""
    weighting: Literal["exp", "clipped", "binary"] = "exp"
    """factor of an action in the target: exp(A / C), at most weight_clip (clipped), or 1 where
    A > 0 (binary)"""
    weight_clip: Annotated[float, Positive] = 20.0
    """largest exp(A / C) (weighting clipped)"""


def mpo(env: Any, **fields: Any) -> Config:
    """Return the configuration of MPO; see `components.kin.MPO`."""
    return Config(env=env, **{**kin.MPO, **fields})


def crr(env: Any, **fields: Any) -> Config:
    """Return the configuration with the weights of CRR; see `components.kin.CRR`."""
    return Config(env=env, **{**kin.CRR, **fields})


class Params(NamedTuple):
    """What is learned by gradients.

    Attributes:
        policy: parameters of the policy network.
        critics: parameters of the Q networks.
    """

    policy: Any
    critics: Any


class Learner(NamedTuple):
    """The agent's own state.

    Attributes:
        params: parameters of the networks.
        old: the policy's parameters when it was last copied, pi_old.
        target: averaged parameters of the Q networks.
        policy_opt: Adam's moments of the policy.
        critic_opt: Adam's moments of the Q networks.
        eps: `[]` running mean of the rounds' largest |A|.
        rounds: `[]` int32, rounds done.
        multipliers: logarithms of learned multipliers in a tuple, an empty one without.
        multiplier_opt: Adam's moments of these.
    """

    params: Params
    old: Any
    target: Any
    policy_opt: OptState
    critic_opt: OptState
    eps: jax.Array
    rounds: jax.Array
    multipliers: tuple[jax.Array, ...] = ()
    multiplier_opt: OptState = ()


def build(config: Config) -> Model:
    """Make the environment and the networks that a config names.

    Raises:
        ValueError: for a full covariance of actions that have none.
    """
    env = envs.of(config)
    if config.covariance == "full" and env.spec.discrete:
        raise ValueError(
            f"covariance='full' is of Box actions and {config.env!r} has none: give 'diagonal'"
        )
    full = config.covariance == "full"
    family = full_normal.FULL_NORMAL if full else distributions.family(env.spec.discrete)
    policy = off_policy.policy_network(config, env.spec, config.covariance)
    return Model(env, family, policy, off_policy.q_network(config, env.spec, config.num_critics))


def init(config: Config, key: jax.Array) -> TrainState[Learner]:
    """Return a fresh train state: parameters, optimisers, an empty replay, first observations."""
    model = build(config)
    obs_shape, action_shape = model.env.spec.obs_shape, model.env.spec.action_shape
    params_key, actor, memory, train_key = off_policy.start(config, model.env, key)
    policy_key, critic_key = jax.random.split(params_key)
    params = Params(
        networks.init_params(model.policy, policy_key, obs_shape),
        networks.init_params(model.critics, critic_key, obs_shape, action_shape),
    )
    multipliers = trust.start(config, model.env.spec.discrete)
    learner = Learner(
        params=params,
        old=params.policy,
        target=params.critics,
        policy_opt=optim.init(params.policy, config.optimizer),
        critic_opt=optim.init(params.critics, config.optimizer),
        eps=jnp.zeros(()),
        rounds=jnp.zeros((), jnp.int32),
        multipliers=multipliers,
        multiplier_opt=optim.init(multipliers, config.optimizer) if multipliers else (),
    )
    return TrainState(learner, actor, memory, train_key, jnp.zeros((), jnp.int32))


def adopt(config: Config, learner: Learner, given: Learner) -> Learner:
    """Return a fresh learner with the networks of another; its policy is pi_old at first."""
    params = given.params
    return learner._replace(
        params=params,
        old=params.policy,
        target=params.critics,
        policy_opt=optim.init(params.policy, config.optimizer),
        critic_opt=optim.init(params.critics, config.optimizer),
    )


def iterate(config: Config, state: TrainState[Learner]) -> tuple[TrainState[Learner], Metrics]:
    """Step the environments into the replay and learn from it."""
    model = build(config)
    spec, count = model.env.spec, config.num_actions_sampled
    experience = off_policy.gather(
        config, model.env, state, lambda obs: model.policy.apply(state.learner.params.policy, obs)
    )
    draws = replay_updates.draw(config, spec, experience, config.num_updates, 1, 2 * count)
    progress = step_size.progress(config, state.iteration)

    def update(learner: Learner, draws: Draws) -> tuple[Learner, Metrics]:
        """Take a gradient step of the critics, one of the policy, and pi_old when it is time."""
        rows, noise = replay.take(experience.memory, draws.places[0]), draws.noise
        if not spec.discrete:
            noise = noise.reshape(2, rows.reward.shape[0], count, -1)
        learner, metrics = _critic_step(config, model, learner, rows, noise[0])
        learner, fitted = _policy_step(config, model, learner, progress, rows.obs, noise[1])
        return learner, {**metrics, **fitted}

    learner, metrics = replay_updates.learn(config, state, experience, update, draws)
    return off_policy.advance(state, experience, learner, metrics)


def act(
    config: Config, learner: Learner, obs: Obs, key: jax.Array, deterministic: bool
) -> jax.Array:
    """Return raw actions for observations `[N, ...]`: sampled, or the policy's mode."""
    model = build(config)
    obs = envs.batch(model.env, obs)
    params = model.policy.apply(learner.params.policy, obs)
    return off_policy.act(model.env.spec, params, key, deterministic)


def value(config: Config, learner: Learner, obs: Obs) -> jax.Array:
    """Return the least Q `[N]` of observations `[N, ...]`: expected under pi, or at its mean."""
    model = build(config)
    obs = envs.batch(model.env, obs)
    num = jax.tree.leaves(obs)[0].shape[0]
    noise = jnp.zeros((num, 1, model.env.spec.num_actions))
    return _expected_q(model.actions(learner.params.policy, learner.params.critics, obs, noise))


def _critic_step(
    config: Config, model: Model, learner: Learner, rows: Rows, noise: jax.Array
) -> tuple[Learner, Metrics]:
    """Take one gradient step of the Q networks; the target follows."""
    actions = model.actions(learner.old, learner.target, rows.next_obs, noise)
    discount = off_policy.discount(config, rows)
    target = soft.backup(rows.reward, rows.terminated, _expected_q(actions), discount)

    def loss(critics: Any) -> tuple[jax.Array, Metrics]:
        q = q_of(model.critics, critics, rows.obs, rows.action)
        loss = soft.q_loss(q, target)
        return loss, {"loss/q": loss, "q/mean": jnp.mean(q)}

    critics = learner.params.critics
    grads, metrics = jax.grad(loss, has_aux=True)(critics)
    critics, critic_opt, norm = off_policy.gradient_step(config, critics, learner.critic_opt, grads)
    learner = learner._replace(
        params=learner.params._replace(critics=critics),
        target=soft.polyak_update(learner.target, critics, config.tau),
        critic_opt=critic_opt,
    )
    return learner, {**metrics, "grad_norm": norm}


def _policy_step(
    config: Config,
    model: Model,
    learner: Learner,
    progress: jax.Array,
    obs: Obs,
    noise: jax.Array,
) -> tuple[Learner, Metrics]:
    """Take one gradient step of the policy; every `policy_period` of them it becomes pi_old."""
    actions = model.actions(learner.old, learner.params.critics, obs, noise)
    log_target, eps, chosen = _e_step(config, learner, progress, obs, actions)
    policy, multipliers = learner.params.policy, learner.multipliers
    (grads, held), metrics = jax.grad(_policy_loss, (0, 6), has_aux=True)(
        policy, config, model, obs, actions, log_target, multipliers
    )
    policy, policy_opt, norm = off_policy.gradient_step(config, policy, learner.policy_opt, grads)
    multiplier_opt = learner.multiplier_opt
    if config.trust == "multipliers":
        multipliers, multiplier_opt, _ = off_policy.gradient_step(
            config, multipliers, multiplier_opt, held
        )
    # Whole periods are taken back long before an int32 is full.
    periods = max(1, 2**29 // config.policy_period) * config.policy_period
    rounds = learner.rounds + 1 - jnp.where(learner.rounds < 2**30, 0, periods)
    renewed = rounds % config.policy_period == 0
    learner = learner._replace(
        params=learner.params._replace(policy=policy),
        old=jax.tree.map(lambda new, old: jnp.where(renewed, new, old), policy, learner.old),
        policy_opt=policy_opt,
        eps=eps,
        rounds=rounds,
        multipliers=multipliers,
        multiplier_opt=multiplier_opt,
    )
    chosen |= trust.report(multipliers)
    return learner, {**chosen, **metrics, "policy/grad_norm": norm}


def _e_step(
    config: Config, learner: Learner, progress: jax.Array, obs: Obs, actions: Sampled
) -> tuple[jax.Array, jax.Array, Metrics]:
    """Return the target at some observations, `log pi_target` `[N, K]`, eps, and what is chosen."""
    advantage = closed_form.centred(actions.q, actions.log_prior)
    advantage = networks.legal_only(obs, advantage)
    eps = step_size.running_eps(learner.eps, advantage, learner.rounds, config.eps_decay)
    log_target, chosen = step_size.improve(
        config,
        config.gamma,
        actions.log_prior,
        advantage,
        eps,
        progress,
        config.weighting,
        config.weight_clip,
    )
    return log_target, eps, chosen


def _policy_loss(
    policy: Any,
    config: Config,
    model: Model,
    obs: Obs,
    actions: Sampled,
    log_target: jax.Array,
    multipliers: tuple[jax.Array, ...] = (),
) -> tuple[jax.Array, Metrics]:
    """Cross-entropy from the target, what normals pay for moving, and the entropy."""
    family, old = model.family, actions.dist
    dist = model.policy.apply(policy, obs)
    log_prob = model.log_prob(dist, actions)
    log_ratio = networks.legal_only(obs, log_prob - model.log_prob(old, actions))
    target, missed = jnp.exp(log_target), log_target - actions.log_prior - log_ratio
    loss = -jnp.mean(jnp.sum(target * log_prob, axis=1))
    entropy = jnp.mean(family.entropy(dist))
    if not model.env.spec.discrete:
        draws = family.sample(for_each_draw(dist), actions.noise)
        entropy += jnp.mean(distributions.tanh_log_volume(draws))
        if config.trust == "coefficients":
            loss += step_size.move_cost(config, family.kl, old, dist)
    if config.trust == "multipliers":
        loss += trust.holding_loss(config, family.kl, old, dist, multipliers[0])
    return loss - config.ent_coef * entropy, {
        "loss/policy": loss,
        "policy/entropy": entropy,
        "analytical/projection_kl": jnp.mean(jnp.sum(target * missed, axis=1)),
        "analytical/ratio_min": jnp.exp(jnp.min(log_ratio)),
        "analytical/ratio_max": jnp.exp(jnp.max(log_ratio)),
    }


def _expected_q(actions: Sampled) -> jax.Array:
    """`E_{a~pi_old} Q` `[N]`."""
    return jnp.sum(jnp.exp(actions.log_prior) * actions.q, axis=1)


AGENT = Agent(
    "analytical_replay", Config, init, iterate, act, value, adopt=adopt, written=written.policy
)
