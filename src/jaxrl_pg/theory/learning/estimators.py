"""Every REINFORCE estimator of a finite MDP, with its exact mean and variance.

With T steps to act and a softmax policy `pi = softmax(theta)` there are `(S A)^T` trajectories:
few enough, on a small MDP, to list them all and take expectations without sampling. Batches of
sampled trajectories go through the same functions, with weights 1/N in place of probabilities.
Episodes end after T steps, and the value after the last step is 0.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.ops.returns import gae
from jaxrl_pg.theory.arguments import finite, number, require
from jaxrl_pg.theory.checks import check_paths, checked
from jaxrl_pg.theory.mdp import MDP
from jaxrl_pg.theory.solve import finite_horizon_evaluate

__all__ = [
    "Estimates",
    "Moments",
    "Trajectories",
    "enumerate_trajectories",
    "estimates",
    "exact_moments",
    "gae_estimates",
    "moments",
    "optimal_baseline",
    "sample_trajectories",
    "undiscounted_values",
]

_MAX_TRAJECTORIES = 2**20


class Trajectories(NamedTuple):
    """N trajectories of T steps.

    Attributes:
        state: `[N, T]` int32.
        action: `[N, T]` int32.
        reward: `[N, T]`.
        weight: `[N]`, sums to one: the probability of each, or 1/N where they were sampled.
    """

    state: jax.Array
    action: jax.Array
    reward: jax.Array
    weight: jax.Array


class Estimates(NamedTuple):
    """One array for every estimator of the gradient; from `estimates` the gradients `[N, S, A]`.

    Here `g_t = grad log pi(a_t|s_t)`, `R = sum_t r_t`, and sums over t run to the end. Values are
    undiscounted, for the number of steps that remain.

    Attributes:
        raw: `(sum_t g_t) R`.
        average_baseline: `(sum_t g_t) (R - E R)`.
        optimal_baseline: the same with the best constant of each parameter.
        causal: `sum_t g_t sum_{u>=t} r_u`.
        causal_value: `sum_t g_t (sum_{u>=t} r_u - V_t(s_t))`.
        advantage: `sum_t g_t A_t(s_t, a_t)`.
        td_error: `sum_t g_t (r_t + V_{t+1}(s_{t+1}) - V_t(s_t))`.
        option_1: `sum_t g_t sum_{u>=t} gamma^(u-t) r_u`, discounted from each step on.
        option_2: `(sum_t g_t) sum_u gamma^u r_u`, discounted from the start on.
        option_2_causal: `sum_t gamma^t g_t sum_{u>=t} gamma^(u-t) r_u`.
    """

    raw: jax.Array
    average_baseline: jax.Array
    optimal_baseline: jax.Array
    causal: jax.Array
    causal_value: jax.Array
    advantage: jax.Array
    td_error: jax.Array
    option_1: jax.Array
    option_2: jax.Array
    option_2_causal: jax.Array


class Moments(NamedTuple):
    """The first two moments of a gradient estimator, or of each in an `Estimates`.

    Attributes:
        mean: `[S, A]`.
        variance: `[]`, summed over the parameters; of N trajectories averaged, 1/N of it.
    """

    mean: jax.Array | Estimates
    variance: jax.Array | Estimates


@checked(undiscounted=True)
def enumerate_trajectories(mdp: MDP, policy: jax.Array, horizon: int) -> Trajectories:
    """List all `(S A)^T` trajectories, each with its probability.

        p(tau) = rho(s_0) pi(a_0|s_0) prod_{t>0} P(s_t|s_{t-1}, a_{t-1}) pi(a_t|s_t)

    Args:
        mdp: the MDP.
        policy: `[S, A]`.
        horizon: T.

    Raises:
        ValueError: if there are more than 2^20 of them.
    """
    num_states, num_actions = mdp.reward.shape
    pairs, total = num_states * num_actions, (num_states * num_actions) ** horizon
    if total > _MAX_TRAJECTORIES:
        raise ValueError(
            f"{total} trajectories of {horizon} steps are more than {_MAX_TRAJECTORIES}: "
            "give a shorter horizon"
        )
    scale = jnp.asarray([pairs**t for t in reversed(range(horizon))])
    pair = jnp.arange(total)[:, None] // scale[None] % pairs
    state, action = pair // num_actions, pair % num_actions
    moves = mdp.transition[state[:, :-1], action[:, :-1], state[:, 1:]]
    weight = mdp.start[state[:, 0]] * jnp.prod(policy[state, action], axis=1)
    weight = weight * jnp.prod(moves, axis=1)
    integers = state.astype(jnp.int32), action.astype(jnp.int32)
    return Trajectories(*integers, mdp.reward[state, action], weight)


@checked(undiscounted=True)
def sample_trajectories(
    mdp: MDP, policy: jax.Array, horizon: int, num: int, key: jax.Array
) -> Trajectories:
    """Sample `num` independent trajectories of a policy `[S, A]`, each of weight 1/num."""

    def act(state: jax.Array, key: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        action_key, state_key = jax.random.split(key)
        action = jax.random.choice(action_key, policy.shape[1], p=policy[state]).astype(jnp.int32)
        next_state = jax.random.choice(state_key, policy.shape[0], p=mdp.transition[state, action])
        return next_state.astype(jnp.int32), (state, action)

    def roll_out(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        start_key, step_key = jax.random.split(key)
        state = jax.random.choice(start_key, mdp.start.shape[0], p=mdp.start)
        keys = jax.random.split(step_key, horizon)
        return jax.lax.scan(act, state.astype(jnp.int32), keys)[1]

    state, action = jax.vmap(roll_out)(jax.random.split(key, num))
    weight = jnp.full((num,), 1.0 / num, mdp.reward.dtype)
    return Trajectories(state, action, mdp.reward[state, action], weight)


@checked(undiscounted=True)
def undiscounted_values(mdp: MDP, policy: jax.Array, horizon: int) -> tuple[jax.Array, jax.Array]:
    """Return V `[T + 1, S]` and Q `[T, S, A]` of the sum of rewards with T steps to act."""
    steps = jnp.broadcast_to(policy[None], (horizon, *policy.shape))
    return finite_horizon_evaluate(mdp._replace(gamma=jnp.ones_like(mdp.gamma)), steps)


@checked(undiscounted=True)
def estimates(mdp: MDP, logits: jax.Array, paths: Trajectories) -> Estimates:
    """Return every estimator's gradient for every trajectory, `[N, S, A]`.

    Down to `td_error` all have the gradient of the undiscounted `E sum_t r_t` as their mean,
    `option_2` and `option_2_causal` that of `E sum_t gamma^t r_t`; `option_1` has the gradient of
    neither, nor of any function (Nota and Thomas 2020). The two baselines are weighted means over
    `paths`: exact where those are all, from the batch otherwise, which then also shrinks the mean
    of `average_baseline` by `1 - 1/N`. Sources: Williams 1992; Sutton et al. 2000; Greensmith,
    Bartlett and Baxter 2004 on baselines.

    Args:
        mdp: the MDP; its gamma is that of the options.
        logits: theta `[S, A]`.
        paths: from `enumerate_trajectories` or `sample_trajectories` under `softmax(logits)`.
    """
    check_paths(paths, *logits.shape)
    horizon = paths.state.shape[1]
    policy = jax.nn.softmax(logits)
    value, q = undiscounted_values(mdp, policy, horizon)
    lag = jnp.arange(horizon)[None] - jnp.arange(horizon)[:, None]
    later = jnp.where(lag >= 0, 1.0, 0.0).astype(logits.dtype)
    discounted = later * mdp.gamma ** jnp.maximum(lag, 0)
    step = jnp.arange(horizon)[None]
    to_go = paths.reward @ later.T
    discounted_to_go = paths.reward @ discounted.T
    total = to_go[:, :1]
    average = paths.weight @ total[:, 0]
    here = value[step, paths.state]

    def sum_of(weight: jax.Array) -> jax.Array:
        return _weighted_scores(policy, paths, weight)

    scores = sum_of(jnp.ones_like(paths.reward))
    return Estimates(
        raw=scores * total[..., None],
        average_baseline=scores * (total[..., None] - average),
        optimal_baseline=scores * (total[..., None] - _best_constant(paths, scores)[None]),
        causal=sum_of(to_go),
        causal_value=sum_of(to_go - here),
        advantage=sum_of(q[step, paths.state, paths.action] - here),
        td_error=sum_of(paths.reward + _next(here) - here),
        option_1=sum_of(discounted_to_go),
        option_2=scores * discounted_to_go[:, :1, None],
        option_2_causal=sum_of(mdp.gamma**step * discounted_to_go),
    )


@checked(value=finite("TS"), gamma=number(0.0, 1.0))
def gae_estimates(
    logits: jax.Array,
    paths: Trajectories,
    value: jax.Array,
    gamma: jax.Array | float,
    gae_lambda: jax.Array | float,
) -> jax.Array:
    """Return `sum_t g_t A_t` with generalised advantage estimates from a critic, `[N, S, A]`.

    gamma 1 and the true undiscounted values give `td_error` at lambda 0 and `causal_value` at
    lambda 1, the same mean in between; a wrong critic biases every lambda below 1.
    Source: Schulman et al. 2016.

    Args:
        logits: theta `[S, A]`.
        paths: trajectories under `softmax(logits)`.
        value: `[T, S]` or more rows, the critic at each step; after the last step it is 0.
        gamma: discount.
        gae_lambda: decay of the trace, in [0, 1].
    """
    check_paths(paths, *logits.shape)
    horizon = paths.state.shape[1]
    fits = value.shape[0] >= horizon
    require(fits, f"value has {value.shape[0]} rows: give one for each of {horizon} steps")
    here = value[jnp.arange(horizon)[None], paths.state]
    last = jnp.broadcast_to(jnp.arange(horizon)[:, None] == horizon - 1, here.T.shape)
    next_value = _next(here).T
    never = jnp.zeros_like(last)
    advantage = gae(paths.reward.T, here.T, next_value, last, never, gamma, gae_lambda)
    return _weighted_scores(jax.nn.softmax(logits), paths, advantage.T)


def optimal_baseline(logits: jax.Array, paths: Trajectories) -> jax.Array:
    """Return the constant of every parameter `[S, A]` that minimises its variance.

        b_j = E[g_j^2 R] / E[g_j^2],    g_j = sum_t d log pi(a_t|s_t) / d theta_j

    and 0 where g_j is always 0. Source: Greensmith, Bartlett and Baxter 2004.
    """
    check_paths(paths, *logits.shape)
    policy = jax.nn.softmax(logits)
    return _best_constant(paths, _weighted_scores(policy, paths, jnp.ones_like(paths.reward)))


def moments(weight: jax.Array, sample: jax.Array) -> Moments:
    """Return mean and total variance of one estimator, of `weight [N]` and `sample [N, S, A]`."""
    mean = jnp.tensordot(weight, sample, 1)
    squares = jnp.sum(jnp.square(sample - mean[None]), axis=(1, 2))
    return Moments(mean, jnp.vdot(weight, squares))


@checked(undiscounted=True)
def exact_moments(mdp: MDP, logits: jax.Array, horizon: int) -> Moments:
    """Return mean `[S, A]` and total variance `[]` of every estimator, over all trajectories.

    Args:
        mdp: the MDP.
        logits: theta `[S, A]`.
        horizon: T; `(S A)^T` trajectories are held at once.

    Raises:
        ValueError: see `enumerate_trajectories`.
    """
    paths = enumerate_trajectories(mdp, jax.nn.softmax(logits), horizon)
    each = [moments(paths.weight, sample) for sample in estimates(mdp, logits, paths)]
    means, variances = zip(*each, strict=True)
    return Moments(Estimates(*means), Estimates(*variances))


def _weighted_scores(policy: jax.Array, paths: Trajectories, weight: jax.Array) -> jax.Array:
    """Return `sum_t w_t grad log pi(a_t|s_t)` `[N, S, A]` for weights `[N, T]`."""
    at_state = jax.nn.one_hot(paths.state, policy.shape[0], dtype=policy.dtype)
    chosen = jax.nn.one_hot(paths.action, policy.shape[1], dtype=policy.dtype)
    return jnp.einsum("nt,nts,nta->nsa", weight, at_state, chosen - policy[paths.state])


def _best_constant(paths: Trajectories, scores: jax.Array) -> jax.Array:
    squares = jnp.square(scores)
    total = jnp.tensordot(paths.weight, squares, 1)
    with_return = jnp.tensordot(paths.weight * jnp.sum(paths.reward, axis=1), squares, 1)
    return jnp.where(total > 0, with_return / jnp.where(total > 0, total, 1.0), 0.0)


def _next(here: jax.Array) -> jax.Array:
    """Return `V_{t+1}(s_{t+1})` from `V_t(s_t)` `[N, T]`; 0 after the last step."""
    return jnp.concatenate([here[:, 1:], jnp.zeros_like(here[:, :1])], axis=1)
