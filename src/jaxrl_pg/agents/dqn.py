"""Deep Q-network: Q-learning from a replay with a target network (Mnih et al. 2015).

One iteration takes `num_steps` epsilon-greedy steps of `num_envs` environments into the replay,
then `num_updates` gradient steps on minibatches out of it, of

    J_Q = (Q(s, a) - r - gamma max_a' Q'(s', a'))^2 / 2

where Q' is the target network, which moves by `tau` towards Q after every `target_period` gradient
steps; `tau=1` copies it, as in the paper (doi 10.1038/nature14236, algorithm 1). With `double_q`
the action is chosen by Q and valued by Q', `Q'(s', argmax_a' Q(s', a'))`, which does not
overestimate by taking the largest of noisy values (van Hasselt et al. 2016, arXiv 1509.06461).

Uniform actions one by one reach little; with `duration_mu` an exploring action is repeated for a
random number of steps (temporally extended epsilon-greedy, Dabney et al. 2020, arXiv 2006.01782).
With `n_step` a target has several rewards (Hessel et al. 2018, arXiv 1710.02298).

Where it differs from the paper: Adam stands in for RMSProp, and the gradient's norm is clipped
(`max_grad_norm`) instead of every error. Where it differs from most of the field: several
environments step side by side, and a step cut off by a time limit bootstraps from its own final
observation. Observations are not normalised.

The trained agent acts greedily; where it is asked to sample it is epsilon-greedy with
`epsilon_end`.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.components import (
    exploration,
    networks,
    off_policy,
    optim,
    replay,
    replay_updates,
)
from jaxrl_pg.components.critics import q_network, q_of
from jaxrl_pg.components.exploration import EpsilonFields
from jaxrl_pg.components.off_policy import OffPolicyConfig, Rows
from jaxrl_pg.components.replay_updates import Draws
from jaxrl_pg.config import Positive, Range
from jaxrl_pg.ops import distributions, soft
from jaxrl_pg.types import Agent, Metrics, Obs, OptState, Params, TrainState

__all__ = ["AGENT", "Config", "Learner", "act", "adopt", "init", "iterate", "value"]


class Config(EpsilonFields, OffPolicyConfig):
    """Hyper-parameters of DQN; floats are pytree leaves, everything else static."""

    double_q: bool = False
    """choose the next action by the network and value it by the target network (double DQN)"""
    tau: Annotated[float, Range(0.0, 1.0, open_low=True)] = 1.0
    """share of the way that the target network moves when it does; 1 copies the network"""
    target_period: Annotated[int, Positive] = 250
    """gradient steps between moves of the target network"""
    max_grad_norm: Annotated[float, Positive] | None = 10.0
    """largest global norm of a gradient; None does not clip it"""


class Learner(NamedTuple):
    """DQN's own state.

    Attributes:
        params: parameters of the Q network.
        target: those of the target network.
        opt_state: Adam's moments.
        age: `[]` int32, gradient steps since the target network last moved.
    """

    params: Params
    target: Params
    opt_state: OptState
    age: jax.Array


def build(config: Config) -> tuple[envs.Env, Any]:
    """Make the environment and the Q network that a config names.

    Raises:
        ValueError: for real actions.
    """
    env = exploration.environment(config)
    return env, q_network(config, env.spec, 1)


def init(config: Config, key: jax.Array) -> TrainState[Learner]:
    """Return a fresh train state: parameters, optimiser, an empty replay, first observations."""
    env, network = build(config)
    params_key, actor, memory, train_key = off_policy.start(config, env, key)
    params = networks.init_params(network, params_key, env.spec.obs_shape)
    opt_state = optim.init(params, config.optimizer)
    learner = Learner(params, params, opt_state, jnp.zeros((), jnp.int32))
    return TrainState(learner, actor, memory, train_key, jnp.zeros((), jnp.int32))


def adopt(config: Config, learner: Learner, given: Learner) -> Learner:
    """Return a fresh learner with the Q network of another."""
    opt_state = optim.init(given.params, config.optimizer)
    return learner._replace(params=given.params, target=given.params, opt_state=opt_state)


def iterate(config: Config, state: TrainState[Learner]) -> tuple[TrainState[Learner], Metrics]:
    """Step the environments into the replay and learn from it."""
    env, network = build(config)
    epsilon = exploration.epsilon(config, state.iteration, config.num_iterations)
    # Random actions that are repeated are not the policy's, which has no memory of them.
    share = epsilon if config.duration_mu is None else 0.0

    def policy(obs: Obs) -> jax.Array:
        return exploration.policy(obs, network.apply(state.learner.params, obs)[0], share)

    experience = off_policy.gather(config, env, state, policy, epsilon)
    draws = replay_updates.draw(config, env.spec, experience, config.num_updates, steps=1, times=0)

    def update(learner: Learner, draws: Draws) -> tuple[Learner, Metrics]:
        """Take one gradient step; the target network moves when its time has come."""
        rows = replay.take(experience.memory, draws.places[0])
        grads, metrics = jax.grad(_loss, has_aux=True)(
            learner.params, config, network, learner.target, rows, epsilon
        )
        params, opt_state, norm = off_policy.gradient_step(
            config, learner.params, learner.opt_state, grads
        )
        age = learner.age + 1
        due = age >= config.target_period
        target = soft.polyak_update(learner.target, params, jnp.where(due, config.tau, 0.0))
        learner = Learner(params, target, opt_state, jnp.where(due, 0, age))
        return learner, {**metrics, "grad_norm": norm}

    learner, metrics = replay_updates.learn(config, state, experience, update, draws)
    return off_policy.advance(state, experience, learner, {**metrics, "epsilon": epsilon})


def act(
    config: Config, learner: Learner, obs: Obs, key: jax.Array, deterministic: bool
) -> jax.Array:
    """Return actions for observations `[N, ...]`: the best, or `epsilon_end`-greedy ones."""
    env, network = build(config)
    obs = envs.batch(env, obs)
    share = 0.0 if deterministic else config.epsilon_end
    logits = exploration.policy(obs, network.apply(learner.params, obs)[0], share)
    return off_policy.act(env.spec, logits, key, deterministic)


def value(config: Config, learner: Learner, obs: Obs) -> jax.Array:
    """Return `max_a Q(s, a)` `[N]` of observations `[N, ...]`, over the legal actions."""
    env, network = build(config)
    obs = envs.batch(env, obs)
    return exploration.greedy_value(obs, network.apply(learner.params, obs)[0])


def _loss(
    params: Params,
    config: Config,
    network: Any,
    target_params: Params,
    rows: Rows,
    epsilon: jax.Array,
) -> tuple[jax.Array, Metrics]:
    next_q = networks.legal_logits(rows.next_obs, network.apply(target_params, rows.next_obs)[0])
    next_value = jnp.max(next_q, axis=1)
    if config.double_q:
        chooser = networks.legal_logits(rows.next_obs, network.apply(params, rows.next_obs)[0])
        best = jax.nn.one_hot(jnp.argmax(chooser, axis=1), chooser.shape[1])
        next_value = jnp.sum(best * next_q, axis=1)
    discount = off_policy.discount(config, rows)
    target = soft.backup(rows.reward, rows.terminated, next_value, discount)
    q = q_of(network, params, rows.obs, rows.action)
    loss = soft.q_loss(q, target)
    logits = exploration.policy(rows.obs, network.apply(params, rows.obs)[0], epsilon)
    return loss, {
        "loss/q": loss,
        "q/mean": jnp.mean(q),
        "policy/entropy": jnp.mean(distributions.CATEGORICAL.entropy(logits)),
    }


AGENT = Agent("dqn", Config, init, iterate, act, value, adopt=adopt, actions="discrete")
