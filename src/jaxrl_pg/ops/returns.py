"""Returns and advantages over time-major rollouts `[T, B]`."""

from __future__ import annotations

from functools import partial

import chex
import jax
import jax.numpy as jnp

__all__ = [
    "discounted_returns",
    "episode_starts",
    "gae",
    "n_step_returns",
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
    """Generalised advantage estimates that tell a time limit from a terminal state.

    ```
    delta_t = r_t + gamma * (1 - terminated_t) * V(s'_t) - V(s_t)
    A_t     = delta_t + gamma * lambda * (1 - terminated_t) * (1 - truncated_t) * A_{t+1}
    ```

    `s'_t` is the state that step `t` itself led to: the next row inside an episode, the final
    observation at its end. A terminated step has no future; a truncated one bootstraps from
    `V(s'_t)`, and in both the sum stops. Source: Schulman et al. 2016 (arXiv 1506.02438),
    equation 16; time limits after Pardo et al. 2018 (arXiv 1712.00378), section 3.

    Args:
        reward: `[T, B]`.
        value: `[T, B]`, `V(s_t)`.
        next_value: `[T, B]`, `V(s'_t)`; see `successor_values`.
        terminated: `[T, B]` bool.
        truncated: `[T, B]` bool.
        gamma: discount, in [0, 1].
        gae_lambda: trace decay, in [0, 1]; 0 is the TD error, 1 the Monte Carlo advantage.

    Returns:
        `[T, B]` advantages in units of reward; `advantage + value` is the lambda-return.

    Raises:
        AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([reward, value, next_value, terminated, truncated])
    delta = reward + gamma * jnp.where(terminated, 0.0, next_value) - value
    decay = gamma * gae_lambda * (1.0 - (terminated | truncated))
    _, advantage = jax.lax.scan(
        _decayed_sum, jnp.zeros_like(delta[0]), (delta, decay), reverse=True
    )
    return advantage


def n_step_returns(
    reward: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    gamma: jax.Array | float,
    num_steps: int,
) -> jax.Array:
    """Returns that bootstrap after `n` steps, or where the episode or the rollout ends.

    `G^1_t = r_t + gamma (1 - terminated_t) V(s'_t)` and `G^n_t = r_t + gamma G^{n-1}_{t+1}` inside
    an episode. Source: Sutton and Barto 2018, equation 7.1.

    Args:
        reward: `[T, B]`.
        next_value: `[T, B]`, `V(s'_t)`; see `successor_values`.
        terminated: `[T, B]` bool.
        truncated: `[T, B]` bool.
        gamma: discount, in [0, 1].
        num_steps: n, at least 1; from T on these are Monte Carlo returns of the rollout.

    Returns:
        `[T, B]` in units of reward.
    """
    chex.assert_equal_shape([reward, next_value, terminated, truncated])
    ahead = jnp.where(terminated, 0.0, next_value)
    one_more = partial(_one_step_more, reward, ahead, terminated | truncated, gamma)
    longer = min(num_steps, reward.shape[0]) - 1
    return jax.lax.fori_loop(0, longer, one_more, reward + gamma * ahead)


def reward_to_go(
    reward: jax.Array, done: jax.Array, final_value: jax.Array, gamma: jax.Array | float
) -> jax.Array:
    """Discounted reward from each step to its episode's end: `G_t = r_t + gamma G_{t+1}`.

    At an episode's last step `G_t = r_t + gamma final_value_t`. After the rollout's last step
    nothing is added, so returns of episodes that go on there are not whole.

    Args:
        reward: `[T, B]`.
        done: `[T, B]` bool, the step was the last of its episode.
        final_value: `[T, B]`, what the last observation is worth; read where `done`.
        gamma: discount, in [0, 1].

    Returns:
        `[T, B]` in units of reward.
    """
    chex.assert_equal_shape([reward, done, final_value])
    at_end = reward + gamma * jnp.where(done, final_value, 0.0)
    decay = gamma * (1.0 - done)
    _, total = jax.lax.scan(_decayed_sum, jnp.zeros_like(reward[0]), (at_end, decay), reverse=True)
    return total


def episode_starts(done: jax.Array) -> jax.Array:
    """At which step of the rollout the episode of each step began, or 0: `[T, B]` int32.

    Args:
        done: `[T, B]` bool, the step was the last of its episode.
    """
    steps = jnp.arange(1, done.shape[0], dtype=jnp.int32)[:, None]
    begun = jnp.where(done[:-1], steps, 0)
    first = jnp.zeros((1, done.shape[1]), jnp.int32)
    return jax.lax.cummax(jnp.concatenate([first, begun]), axis=0)


def discounted_returns(
    reward: jax.Array, done: jax.Array, initial: jax.Array, gamma: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
    """Discounted reward collected so far in each episode: `R_t = gamma R_{t-1} + r_t`.

    This runs forward in time; its variance is what reward normalisation divides by.
    An episode's end is counted and then forgotten.

    Args:
        reward: `[T, B]`.
        done: `[T, B]` bool, the step was the last of its episode.
        initial: `[B]`, `R_{-1}` carried over from the rollout before.
        gamma: discount, in [0, 1].

    Returns:
        `R` as `[T, B]`, and the `[B]` value to carry into the next rollout.
    """
    carry, returns = jax.lax.scan(partial(_collect_return, gamma), initial, (reward, done))
    return returns, carry


def successor_values(
    value: jax.Array, last_value: jax.Array, final_value: jax.Array, done: jax.Array
) -> jax.Array:
    """`V(s'_t)` for every step: the next row's value, or the final observation's at an end.

    Args:
        value: `[T, B]`, `V(s_t)`.
        last_value: `[B]`, value of the observation after the rollout.
        final_value: `[T, B]`, value of the final observation; read where `done`.
        done: `[T, B]` bool.

    Returns:
        `[T, B]`.
    """
    following = jnp.concatenate([value[1:], last_value[None]])
    return jnp.where(done, final_value, following)


def _decayed_sum(carry: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    delta, decay = row
    total = delta + decay * carry
    return total, total


def _one_step_more(
    reward: jax.Array,
    ahead: jax.Array,
    done: jax.Array,
    gamma: jax.Array | float,
    _: jax.Array,
    shorter: jax.Array,
) -> jax.Array:
    """Returns of one step more than the given ones; `ahead` is what ends are followed by."""
    following = jnp.concatenate([shorter[1:], ahead[-1:]])
    return reward + gamma * jnp.where(done, ahead, following)


def _collect_return(
    gamma: jax.Array | float, carry: jax.Array, row: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    reward, done = row
    total = gamma * carry + reward
    return jnp.where(done, 0.0, total), total
