"""Parallelised Q-network, Q(lambda) without a replay (Gallici et al. 2024, arXiv 2407.04811).

One iteration collects `num_steps` steps of `num_envs` environments by an epsilon-greedy policy and
takes `num_epochs` passes of minibatch gradient steps on

    L = mean((Q(s_t, a_t) - G_t)^2) / 2
    G_t = r_t + gamma ((1 - lambda) max_a Q(s_{t+1}, a) + lambda G_{t+1})

with Q as it was when the rollout was done: Peng's Q(lambda) (Peng and Williams 1996), which is the
lambda-return of `V(s) = max_a Q(s, a)`. `q_lambda=0` is Q-learning of one step and 1 Monte Carlo
control. There is no target network and no replay: layer normalisation keeps the network stable
(their section 3), and many environments side by side take the place of old experience. A trace is
not cut where an exploring action was taken, so targets with lambda > 0 are those of a policy
between the greedy one and the one that acts.

Where it differs from the paper: Adam stands in for RAdam (`optimizer=optax.radam` is RAdam), and
convolutions are not normalised, only the layers behind them. Where it differs from the authors'
code and from CleanRL's: a step cut off by a time limit bootstraps from its own final observation
instead of ending like a terminal state.

The trained agent acts greedily; where it is asked to sample it is epsilon-greedy with
`epsilon_end`.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.components import (
    epochs,
    exploration,
    networks,
    normalize,
    on_policy,
    optim,
    rollout,
)
from jaxrl_pg.components.critics import q_network, q_of
from jaxrl_pg.components.exploration import EpsilonFields
from jaxrl_pg.components.on_policy import Batch, Learner, MinibatchFields
from jaxrl_pg.config import Activation, Fraction, Positive
from jaxrl_pg.ops import distributions, losses, returns
from jaxrl_pg.types import Agent, Metrics, Obs, Params, TrainState

__all__ = ["AGENT", "Config", "Learner", "act", "init", "iterate", "value"]


class Config(EpsilonFields, MinibatchFields):
    """Hyper-parameters of PQN; floats are pytree leaves, everything else static."""

    num_envs: Annotated[int, Positive] = 32
    """environments stepped side by side"""
    num_minibatches: Annotated[int, Positive] = 16
    """gradient steps per pass"""
    learning_rate: Annotated[float, Positive] = 1e-3
    """Adam's step size, at the start if annealed"""
    activation: Activation = "relu"
    """activation function of the hidden layers"""
    layer_norm: bool = True
    """normalise the features of each hidden layer before its activation"""
    max_grad_norm: Annotated[float, Positive] | None = 10.0
    """largest global norm of a gradient; None does not clip it"""
    q_lambda: Annotated[float, Fraction] = 0.65
    """decay of the return's trace"""


class QModel(NamedTuple):
    """The `models.Model` of an agent that acts by its Q network.

    Attributes:
        env: the environment.
        network: the Q network.
        epsilon: share of random actions.
        family: the distribution of actions.
    """

    env: envs.Env
    network: Any
    epsilon: jax.Array | float
    family: distributions.Distribution = distributions.CATEGORICAL

    def q(self, learner: Learner, obs: Obs) -> jax.Array:
        """Return `Q(s, a)` of every action, `[N, A]`, at raw observations `[N, ...]`."""
        return self.network.apply(learner.params, normalize.observe(learner.normalizer, obs))[0]

    def policy(self, learner: Learner, obs: Obs) -> jax.Array:
        """Return logits `[N, A]` of the epsilon-greedy policy at raw observations `[N, ...]`."""
        return exploration.policy(obs, self.q(learner, obs), self.epsilon)

    def value(self, learner: Learner, obs: Obs) -> jax.Array:
        """Return `max_a Q(s, a)` `[N]` of raw observations `[N, ...]`."""
        return exploration.greedy_value(obs, self.q(learner, obs))


def build(config: Config, epsilon: jax.Array | float) -> QModel:
    """Make the environment and the Q network that a config names.

    Raises:
        ValueError: for real actions.
    """
    env = exploration.environment(config)
    return QModel(env, q_network(config, env.spec, 1), epsilon)


def init(config: Config, key: jax.Array) -> TrainState[Learner]:
    """Return a fresh train state: parameters, optimiser, statistics, first observations."""
    env, network = build(config, config.epsilon_start)[:2]
    params_key, reset_key, train_key = jax.random.split(key, 3)
    params = networks.init_params(network, params_key, env.spec.obs_shape)
    normalizer = normalize.init(env.spec, config.normalize_obs, config.normalize_reward)
    learner = Learner(params, optim.init(params, config.optimizer), normalizer)
    actor = rollout.start(env, reset_key, config.num_envs)
    return TrainState(learner, actor, (), train_key, jnp.zeros((), jnp.int32))


def iterate(config: Config, state: TrainState[Learner]) -> tuple[TrainState[Learner], Metrics]:
    """Collect one rollout and learn from it."""
    epsilon = exploration.epsilon(config, state.iteration, config.num_iterations)
    model, learner = build(config, epsilon), state.learner
    experience = on_policy.gather(config, model, state)
    batch = targets(config, model, learner, experience)
    rate = on_policy.learning_rate(config, state.iteration)
    (params, opt_state), fitted = epochs.fit(
        config,
        lambda rows, params: _loss(model, rows, params),
        batch,
        (learner.params, learner.opt_state),
        experience.update_key,
        rate,
    )
    metrics = jax.tree.map(jnp.mean, fitted)
    metrics["learning_rate"] = rate
    metrics["epsilon"] = epsilon
    metrics["value/explained_variance"] = losses.explained_variance(batch.value, batch.target)
    learner = Learner(params, opt_state, experience.normalizer)
    return on_policy.advance(state, experience, learner, metrics)


def act(
    config: Config, learner: Learner, obs: Obs, key: jax.Array, deterministic: bool
) -> jax.Array:
    """Return actions for observations `[N, ...]`: the best, or `epsilon_end`-greedy ones."""
    model = build(config, 0.0 if deterministic else config.epsilon_end)
    return on_policy.choose(model, learner, envs.batch(model.env, obs), key, deterministic)


def value(config: Config, learner: Learner, obs: Obs) -> jax.Array:
    """Return `max_a Q(s, a)` `[N]` of observations `[N, ...]`, over the legal actions.

    With `normalize_reward` it is in units of the normalised reward.
    """
    model = build(config, 0.0)
    return model.value(learner, envs.batch(model.env, obs))


def targets(
    config: Config, model: QModel, learner: Learner, experience: on_policy.Experience
) -> Batch:
    """Return a rollout as rows with `G_t` as target, and `max_a Q(s_t, a)` as value."""
    value, next_value = on_policy.values(model, learner, experience)
    steps = experience.steps
    ends = (steps.terminated, steps.truncated)
    surplus = returns.gae(steps.reward, value, next_value, *ends, config.gamma, config.q_lambda)
    return on_policy.as_rows(model, learner.normalizer, experience, value, surplus)


def _loss(model: QModel, rows: Batch, params: Params) -> tuple[jax.Array, Metrics]:
    q = q_of(model.network, params, rows.obs, rows.action)[0]
    loss = losses.value_loss(q, rows.target)
    every_q = model.network.apply(params, rows.obs)[0]
    logits = exploration.policy(rows.obs, every_q, model.epsilon)
    return loss, {
        "loss/q": loss,
        "q/mean": jnp.mean(q),
        "policy/entropy": jnp.mean(model.family.entropy(logits)),
    }


AGENT = Agent("pqn", Config, init, iterate, act, value, adopt=on_policy.adopt, actions="discrete")
