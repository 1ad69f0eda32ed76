"""The analytical update learned from a replay (Li, Clavette and He 2022, arXiv 2112.02045).

One iteration takes `num_steps` steps of `num_envs` environments into the replay, then
`num_updates` rounds on minibatches out of it: one gradient step of the critics towards expected
SARSA, and one of the policy towards the closed form at the same states,

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
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.components import networks, off_policy, optim, replay, replay_updates, step_size
from jaxrl_pg.components.off_policy import OffPolicyConfig, Rows
from jaxrl_pg.components.replay_updates import Draws
from jaxrl_pg.components.step_size import StepFields, TrustFields
from jaxrl_pg.config import agent_config, check_choice
from jaxrl_pg.ops import closed_form, distributions, full_normal, soft
from jaxrl_pg.types import Agent, Metrics, TrainState

__all__ = ["AGENT", "Config", "Learner", "Params", "act", "init", "iterate", "value"]

NORMALS = {"diagonal": distributions.DIAGONAL_NORMAL, "full": full_normal.FULL_NORMAL}


@agent_config
class Config(StepFields, TrustFields, OffPolicyConfig):
    """Hyper-parameters of the update from a replay; floats are pytree leaves."""

    num_critics: int = 2
    """Q networks, of which the least value counts"""
    policy_period: int = 100
    """rounds after which pi_old becomes the policy"""
    num_actions_sampled: int = 20
    """actions drawn from pi_old at each state (Box actions)"""
    covariance: str = "diagonal"
    """of Box actions before tanh: diagonal or full"""
    eps_decay: float = 0.99
    """share of the old eps that a round keeps"""
    ent_coef: float = 0.0
    """weight of the policy's entropy"""

    def check(self) -> None:
        """Refuse combinations that cannot run."""
        super().check()
        check_choice("step", self.step, step_size.STEPS)
        check_choice("covariance", self.covariance, NORMALS)


class Params(NamedTuple):
    """What is learned by gradients.

    Attributes:
        policy: of the policy network.
        critics: of the Q networks.
    """

    policy: Any
    critics: Any


class Learner(NamedTuple):
    """The agent's own state.

    Attributes:
        params: of the networks.
        old: the policy's parameters when it was last copied, pi_old.
        target: averaged parameters of the Q networks.
        policy_opt: Adam's moments of the policy.
        critic_opt: of the Q networks.
        eps: `[]` running mean of the rounds' largest |A|.
        rounds: `[]` int32, rounds done.
    """

    params: Params
    old: Any
    target: Any
    policy_opt: Any
    critic_opt: Any
    eps: jax.Array
    rounds: jax.Array


class Judged(NamedTuple):
    """Actions that stand for a policy, and what they are worth.

    Attributes:
        dist: parameters of the policy's distributions, `[N, ...]`.
        noise: `[N, K, A]` that the draws were made of, or `()` where they are all of a finite set.
        draws: `[N, K, A]` before tanh, or `()`.
        log_prior: `[N, K]` logarithm of each one's share of the policy.
        q: `[N, K]`.
    """

    dist: Any
    noise: Any
    draws: Any
    log_prior: jax.Array
    q: jax.Array


def init(config: Config, key: jax.Array) -> TrainState:
    """A fresh train state: parameters, optimisers, an empty replay, first observations."""
    spec = off_policy.spec(config)
    if config.covariance == "full" and spec.discrete:
        raise ValueError(
            f"covariance='full' is of Box actions and {config.env!r} has none: give 'diagonal'"
        )
    params_key, actor, memory, train_key = off_policy.start(config, key)
    policy_key, critic_key = jax.random.split(params_key)
    params = Params(
        networks.init_params(_policy_network(config), policy_key, spec.obs_shape),
        networks.init_params(_q_network(config), critic_key, spec.obs_shape, spec.action_shape),
    )
    moments = optim.init(params.policy), optim.init(params.critics)
    eps, rounds = jnp.zeros(()), jnp.zeros((), jnp.int32)
    learner = Learner(params, params.policy, params.critics, *moments, eps, rounds)
    return TrainState(learner, actor, memory, train_key, jnp.zeros((), jnp.int32))


def iterate(config: Config, state: TrainState) -> tuple[TrainState, Metrics]:
    """Step the environments into the replay and learn from it."""
    policy = partial(networks.apply, _policy_network(config), state.learner.params.policy)
    experience = off_policy.gather(config, state, policy)
    memory, key, times = experience.memory, experience.update_key, 2 * config.num_actions_sampled
    draws = replay_updates.draw(config, memory, key, config.num_updates, steps=1, times=times)
    update = partial(_update, config, memory, state.iteration)
    learner, metrics = replay_updates.learn(config, state, experience, update, draws)
    return off_policy.advance(config, state, experience, learner, metrics)


def act(
    config: Config, learner: Learner, obs: jax.Array, key: jax.Array, deterministic: bool
) -> jax.Array:
    """Raw actions for observations `[N, ...]`: sampled, or tanh of the mean, or the likeliest."""
    params = networks.apply(_policy_network(config), learner.params.policy, obs)
    return off_policy.act(config, params, key, deterministic)


def value(config: Config, learner: Learner, obs: jax.Array) -> jax.Array:
    """The least Q `[N]` of observations `[N, ...]`: expected under pi, or at its mean action."""
    noise = jnp.zeros((obs.shape[0], 1, off_policy.spec(config).num_actions))
    return _expected(_judge(config, *learner.params, obs, noise))


def _update(
    config: Config, memory: replay.Replay, iteration: jax.Array, learner: Learner, draws: Draws
) -> tuple[Learner, Metrics]:
    """One round: a gradient step of the critics, one of the policy, and pi_old when it is time."""
    rows, noise = replay.take(memory, draws.places[0]), draws.noise
    if not off_policy.spec(config).discrete:
        noise = noise.reshape(2, rows.reward.shape[0], config.num_actions_sampled, -1)
    learner, metrics = _critic_step(config, learner, rows, noise[0])
    learner, fitted = _policy_step(config, learner, iteration, rows.obs, noise[1])
    return learner, {**metrics, **fitted}


def _critic_step(
    config: Config, learner: Learner, rows: Rows, noise: jax.Array
) -> tuple[Learner, Metrics]:
    """One gradient step of the Q networks; the target follows."""
    judged = _judge(config, learner.old, learner.target, rows.next_obs, noise)
    target = soft.backup(rows.reward, rows.terminated, _expected(judged), config.gamma)
    loss = partial(_q_loss, config, rows, target)
    critics = learner.params.critics
    grads, metrics = jax.grad(loss, has_aux=True)(critics)
    critics, critic_opt, norm = off_policy.step(config, critics, learner.critic_opt, grads)
    params = learner.params._replace(critics=critics)
    follower = soft.follow(learner.target, critics, config.tau)
    learner = learner._replace(params=params, target=follower, critic_opt=critic_opt)
    return learner, {**metrics, "grad_norm": norm}


def _policy_step(
    config: Config, learner: Learner, iteration: jax.Array, obs: jax.Array, noise: jax.Array
) -> tuple[Learner, Metrics]:
    """One gradient step of the policy; every `policy_period` of them it becomes pi_old."""
    judged = _judge(config, learner.old, learner.params.critics, obs, noise)
    advantage = closed_form.centred(judged.q, judged.log_prior)
    eps = step_size.running_eps(config, learner.eps, advantage, learner.rounds)
    log_target, chosen = step_size.aim(config, judged.log_prior, advantage, eps, iteration)
    loss = partial(_policy_loss, config, obs, judged, log_target)
    policy = learner.params.policy
    grads, metrics = jax.grad(loss, has_aux=True)(policy)
    policy, policy_opt, norm = off_policy.step(config, policy, learner.policy_opt, grads)
    params, rounds = learner.params._replace(policy=policy), learner.rounds + 1
    renew = partial(jnp.where, rounds % config.policy_period == 0)
    old = jax.tree.map(renew, policy, learner.old)
    learner = learner._replace(params=params, old=old, policy_opt=policy_opt)
    metrics = {**chosen, **metrics, "policy/grad_norm": norm}
    return learner._replace(eps=eps, rounds=rounds), metrics


def _q_loss(config: Config, rows: Rows, aim: jax.Array, params: Any) -> tuple[jax.Array, Metrics]:
    q = networks.q_of(_q_network(config), params, rows.obs, rows.action)
    loss = soft.q_loss(q, aim)
    return loss, {"loss/q": loss, "q/mean": jnp.mean(q)}


def _policy_loss(
    config: Config, obs: jax.Array, judged: Judged, log_target: jax.Array, params: Any
) -> tuple[jax.Array, Metrics]:
    """Cross-entropy from the target, what normals pay for moving, and the entropy."""
    family, old = _family(config), judged.dist
    dist = networks.apply(_policy_network(config), params, obs)
    log_prob = _log_prob(config, dist, judged)
    log_ratio = log_prob - _log_prob(config, old, judged)
    target, missed = jnp.exp(log_target), log_target - judged.log_prior - log_ratio
    loss = -jnp.mean(jnp.sum(target * log_prob, axis=1))
    entropy = jnp.mean(family.entropy(dist))
    if not isinstance(dist, jax.Array):
        draws = family.sample(_for_each_draw(dist), judged.noise)
        entropy += jnp.mean(distributions.tanh_log_volume(draws))
        loss += step_size.move_cost(config, family.kl, old, dist)
    return loss - config.ent_coef * entropy, {
        "loss/policy": loss,
        "policy/entropy": entropy,
        "analytical/projection_kl": jnp.mean(jnp.sum(target * missed, axis=1)),
        "analytical/ratio_min": jnp.exp(jnp.min(log_ratio)),
        "analytical/ratio_max": jnp.exp(jnp.max(log_ratio)),
    }


def _judge(config: Config, policy: Any, critics: Any, obs: jax.Array, noise: jax.Array) -> Judged:
    """All actions of a finite set, or draws `[N, K, A]`, with the least of the critics' values."""
    dist = networks.apply(_policy_network(config), policy, obs)
    if isinstance(dist, jax.Array):
        q = networks.apply(_q_network(config), critics, obs)
        return Judged(dist, (), (), jax.nn.log_softmax(dist), jnp.min(q, axis=0))
    draws = _family(config).sample(_for_each_draw(dist), noise)
    num, times, size = draws.shape
    actions = jnp.tanh(draws).reshape(num * times, size)
    q = networks.apply(_q_network(config), critics, jnp.repeat(obs, times, axis=0), action=actions)
    prior = jnp.full((num, times), -math.log(times))
    return Judged(dist, noise, draws, prior, jnp.min(q, axis=0).reshape(num, times))


def _expected(judged: Judged) -> jax.Array:
    """`E_{a~pi_old} Q` `[N]`."""
    return jnp.sum(jnp.exp(judged.log_prior) * judged.q, axis=1)


def _log_prob(config: Config, dist: Any, judged: Judged) -> jax.Array:
    """`[N, K]` of the judged actions, of densities before tanh."""
    if isinstance(dist, jax.Array):
        return jax.nn.log_softmax(dist)
    return _family(config).log_prob(_for_each_draw(dist), judged.draws)


def _for_each_draw(dist: Any) -> Any:
    """Parameters `[N, ...]` as `[N, 1, ...]`."""
    return jax.tree.map(lambda x: x[:, None], dist)


def _family(config: Config) -> distributions.Distribution:
    discrete = off_policy.spec(config).discrete
    return distributions.CATEGORICAL if discrete else NORMALS[config.covariance]


def _policy_network(config: Config) -> networks.Policy:
    spec = off_policy.spec(config)
    return networks.Policy(spec, *off_policy.torso(config), covariance=config.covariance)


def _q_network(config: Config) -> networks.Critics:
    return off_policy.q_network(config, config.num_critics)


AGENT = Agent("analytical_replay", Config, init, iterate, act, value)
