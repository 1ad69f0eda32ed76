"""Returns and advantages over time-major rollouts `[T, B]`.

A rollout holds T steps of B environments, and episodes may end anywhere inside it. Two flags say
how a step ended its episode. A *terminated* step reached a terminal state, which has no future; a
*truncated* one was cut off, by a time limit say, and its future is worth `V(s'_t)`. `s'_t` is the
state that step t itself led to; where environments reset themselves, this is the final observation
and not the next row.

    next_value = returns.successor_values(value, last_value, final_value, terminated | truncated)
    advantage = returns.gae(reward, value, next_value, terminated, truncated, 0.99, 0.95)
    target = advantage + value  # the lambda-return, which the critic is fitted to
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

__all__ = [
    "discounted_returns",
    "episode_starts",
    "gae",
    "n_step_returns",
    "n_step_rewards",
    "reward_to_go",
    "successor_values",
]


def gae(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    gamma: jax.Array | float,
    gae_lambda: jax.Array | float,
) -> jax.Array:
    """Estimate advantages by generalised advantage estimation, GAE(gamma, lambda).

    The estimates are computed backwards from the last step:

        delta_t = r_t + gamma (1 - terminated_t) V(s'_t) - V(s_t)
        A_t     = delta_t + gamma lambda (1 - terminated_t) (1 - truncated_t) A_{t+1}

    A truncated step bootstraps from `V(s'_t)` and a terminated one does not; neither lets anything
    of the next episode flow back. The last row bootstraps like a truncated one.

    Inside an episode `A_t` is the mean of the n-step advantages with weights
    `(1 - lambda) lambda^(n-1)`, so that lambda trades the critic's bias for the rollout's variance:

        lambda = 0:  the TD error `delta_t`, the advantage of one-step actor-critic
        lambda = 1:  the Monte Carlo return less `V(s_t)`, REINFORCE with a baseline
        gamma = 0:   `r_t - V(s_t)`, whatever lambda is

    `advantage + value` is the lambda-return of TD(lambda), the usual target of the critic. With
    lambda = 1 it does not depend on the values inside an episode.

    Source: Schulman et al. 2016 (arXiv 1506.02438), equations 11, 12 and 16 to 18; time limits
    after Pardo et al. 2018 (arXiv 1712.00378), section 3.

    Args:
        reward: `[T, B]`.
        value: `[T, B]`, `V(s_t)`.
        next_value: `[T, B]`, `V(s'_t)`, from `successor_values`; not read where `terminated`.
        terminated: `[T, B]` bool. Where both flags are set, the step counts as terminated.
        truncated: `[T, B]` bool.
        gamma: discount, in [0, 1].
        gae_lambda: trace decay, in [0, 1].

    Returns:
        `[T, B]` advantages in units of reward.

    Raises:
        AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([reward, value, next_value, terminated, truncated])
    delta = reward + gamma * jnp.where(terminated, 0.0, next_value) - value
    decay = gamma * gae_lambda * (1.0 - (terminated | truncated))
    return _decayed_sum(delta, decay)


def n_step_returns(
    reward: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    gamma: jax.Array | float,
    num_steps: int,
) -> jax.Array:
    """Return the sum of n discounted rewards and the bootstrap value after them.

        G^1_t = r_t + gamma (1 - terminated_t) V(s'_t)
        G^n_t = r_t + gamma G^{n-1}_{t+1}, and G^1_t where step t ends its episode or the rollout

    A return so bootstraps earlier where fewer than n steps are left. What V is decides the method:

        n = 1:       the target of TD(0), or of Q-learning with `V(s) = max_a Q(s, a)`
        n >= T:      Monte Carlo returns of the rollout, those of A3C
        in between:  n-step TD (of Sarsa with `V(s') = Q(s', a')`)

    Less `V(s_t)` these are advantages: for n = 1 those of `gae` with lambda = 0, for n >= T those
    with lambda = 1. Nothing corrects for actions of another policy.

    Source: Sutton and Barto 2018, equation 7.1; Mnih et al. 2016 (arXiv 1602.01783), section 4.

    Args:
        reward: `[T, B]`.
        next_value: `[T, B]`, `V(s'_t)`, from `successor_values`; not read where `terminated`.
        terminated: `[T, B]` bool.
        truncated: `[T, B]` bool.
        gamma: discount, in [0, 1].
        num_steps: n, at least 1.

    Returns:
        `[T, B]` in units of reward.

    Raises:
        AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([reward, next_value, terminated, truncated])
    done = terminated | truncated
    bootstrap = jnp.where(terminated, 0.0, next_value)

    def one_step_more(_: jax.Array, shorter: jax.Array) -> jax.Array:
        after = jnp.concatenate([shorter[1:], bootstrap[-1:]])
        return reward + gamma * jnp.where(done, bootstrap, after)

    num_more = min(num_steps, reward.shape[0]) - 1
    return jax.lax.fori_loop(0, num_more, one_step_more, reward + gamma * bootstrap)


def n_step_rewards(
    reward: jax.Array, done: jax.Array, gamma: jax.Array | float, num_steps: int
) -> tuple[jax.Array, jax.Array]:
    """Return the sum of the next n discounted rewards, and how many they are.

        R_t = sum_{i<k} gamma^i r_{t+i},  k_t = n, or less where the episode or the rollout ends

    They make a transition of n steps, from s_t to the state that step `t + k_t - 1` leads to, out
    of which a replay's critic learns `R_t + gamma^k_t V(s'_{t + k_t - 1})`: n-step Q-learning. With
    the values at hand, `n_step_returns` is the same sum.

    Source: Sutton and Barto 2018, equation 7.1; Hessel et al. 2018 (arXiv 1710.02298), equation 2.

    Args:
        reward: `[T, B]`.
        done: `[T, B]` bool, whether the step was the last of its episode.
        gamma: discount, in [0, 1].
        num_steps: n, at least 1.

    Returns:
        R `[T, B]` in units of reward, and k `[T, B]` int32.

    Raises:
        AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([reward, done])
    last = done.at[-1].set(True)

    def one_step_more(
        _: jax.Array, shorter: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        total, count = (jnp.roll(x, -1, axis=0) for x in shorter)
        return reward + jnp.where(last, 0.0, gamma * total), jnp.where(last, 1, 1 + count)

    start = reward, jnp.ones(reward.shape, jnp.int32)
    return jax.lax.fori_loop(0, min(num_steps, reward.shape[0]) - 1, one_step_more, start)


def reward_to_go(
    reward: jax.Array, done: jax.Array, final_value: jax.Array, gamma: jax.Array | float
) -> jax.Array:
    """Return the discounted reward from each step to its episode's end.

        G_t = r_t + gamma G_{t+1}, and r_t + gamma final_value_t at an episode's last step

    It is REINFORCE's return. A `final_value` of 0 everywhere counts time limits as terminal
    states; the critic's value at truncated steps, and 0 at terminated ones, tells them apart.
    After the rollout's last step nothing is added, so the returns of an episode that goes on there
    are not whole; `episode_starts` finds them.

    Source: Sutton and Barto 2018, equations 3.8 and 3.9.

    Args:
        reward: `[T, B]`.
        done: `[T, B]` bool, whether the step was the last of its episode.
        final_value: `[T, B]`, the value of the final observation; read where `done`.
        gamma: discount, in [0, 1].

    Returns:
        `[T, B]` in units of reward.

    Raises:
        AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([reward, done, final_value])
    at_end = reward + gamma * jnp.where(done, final_value, 0.0)
    return _decayed_sum(at_end, gamma * (1.0 - done))


def episode_starts(done: jax.Array) -> jax.Array:
    """Find at which step of the rollout the episode of each step began.

    Args:
        done: `[T, B]` bool, whether the step was the last of its episode.

    Returns:
        `[T, B]` int32 from 0 to T - 1; 0 for an episode that was under way before the rollout.
    """
    steps = jnp.arange(1, done.shape[0], dtype=jnp.int32)[:, None]
    begun = jnp.where(done[:-1], steps, 0)
    first = jnp.zeros((1, done.shape[1]), jnp.int32)
    return jax.lax.cummax(jnp.concatenate([first, begun]), axis=0)


def discounted_returns(
    reward: jax.Array, done: jax.Array, initial: jax.Array, gamma: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
    """Return the discounted reward that each episode has collected so far.

        R_t = gamma R_{t-1} + r_t, with R_{t-1} = 0 at an episode's first step

    This runs forward in time and is no estimate of a value: it is the quantity by whose standard
    deviation rewards are divided when they are normalised (OpenAI baselines, `VecNormalize`).

    Args:
        reward: `[T, B]`.
        done: `[T, B]` bool, whether the step was the last of its episode.
        initial: `[B]`, `R_{-1}`, as the previous rollout returned it; zeros at first.
        gamma: discount, in [0, 1].

    Returns:
        `R` as `[T, B]`, and the `[B]` value to hand to the next rollout; both in units of reward.
    """

    def collect(
        collected: jax.Array, row: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        reward, done = row
        total = gamma * collected + reward
        return jnp.where(done, 0.0, total), total

    carry, collected = jax.lax.scan(collect, initial, (reward, done))
    return collected, carry


def successor_values(
    value: jax.Array, last_value: jax.Array, final_value: jax.Array, done: jax.Array
) -> jax.Array:
    """Return `V(s'_t)`: the next row's value, or the final observation's where an episode ends.

    Args:
        value: `[T, B]`, `V(s_t)`.
        last_value: `[B]`, the value of the observation after the rollout.
        final_value: `[T, B]`, the value of the final observation; read where `done`.
        done: `[T, B]` bool, whether the step was the last of its episode.

    Returns:
        `[T, B]`.
    """
    next_row = jnp.concatenate([value[1:], last_value[None]])
    return jnp.where(done, final_value, next_row)


def _decayed_sum(term: jax.Array, decay: jax.Array) -> jax.Array:
    """Return `y_t = term_t + decay_t y_{t+1}` with `y_T = 0`, all `[T, B]`."""

    def add(after: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        term, decay = row
        total = term + decay * after
        return total, total

    return jax.lax.scan(add, jnp.zeros_like(term[0]), (term, decay), reverse=True)[1]
