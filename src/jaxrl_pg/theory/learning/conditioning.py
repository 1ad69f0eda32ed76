"""Classical conditioning: TD(0) on given sequences of stimuli, with every reward-prediction error.

The stimuli are a sequence of features; no action is chosen, and nothing is random.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import finite, number, require
from jaxrl_pg.theory.checks import checked

__all__ = ["Conditioning", "condition", "serial_compound", "td0"]

Number = float | jax.Array


class Conditioning(NamedTuple):
    """The results of N trials of T steps with F features.

    Attributes:
        weight: `[N, F]` after each trial.
        value: `[N, T + 1]`, the predictions at the beginning of each trial.
        error: `[N, T]`, the reward-prediction errors.
    """

    weight: jax.Array
    value: jax.Array
    error: jax.Array


@checked(weight=finite("F"), feature=finite("PF"), reward=finite("T"), gamma=number(0.0, 1.0))
def td0(
    weight: jax.Array,
    feature: jax.Array,
    reward: jax.Array,
    learning_rate: Number,
    gamma: Number = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """Run online TD(0) with `V_t = w . x_t` on one sequence.

        delta_t = r_t + gamma V_{t+1} - V_t,    w <- w + alpha delta_t x_t

    With one-hot features it is the tabular `V(s) <- V(s) + alpha delta`; the end of an episode is
    a row of zeros. With T = 1 and zeros to follow it is the rule of Rescorla and Wagner 1972.
    Source: Sutton 1988; delta as the dopamine response: Schultz, Dayan and Montague 1997.

    Args:
        weight: w `[F]`.
        feature: x `[T + 1, F]`.
        reward: `[T]`, `r_t` arrives with `x_{t+1}`.
        learning_rate: alpha.
        gamma: discount, in [0, 1].

    Returns:
        The new w `[F]`, and delta `[T]`.
    """
    _check_lengths(feature, reward)

    def step(
        weight: jax.Array, inputs: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        feature, next_feature, reward = inputs
        error = reward + gamma * jnp.vdot(weight, next_feature) - jnp.vdot(weight, feature)
        return weight + learning_rate * error * feature, error

    return jax.lax.scan(step, weight, (feature[:-1], feature[1:], reward))


@checked(weight=finite("F"), feature=finite("NPF"), reward=finite("NT"), gamma=number(0.0, 1.0))
def condition(
    feature: jax.Array,
    reward: jax.Array,
    learning_rate: Number,
    gamma: Number = 1.0,
    weight: jax.Array | None = None,
) -> Conditioning:
    """Run `td0` on one trial after another, keeping the weights.

    Args:
        feature: `[N, T + 1, F]`.
        reward: `[N, T]`.
        learning_rate: alpha.
        gamma: discount.
        weight: `[F]` to begin with; zeros if None.
    """
    _check_lengths(feature, reward)

    def trial(
        weight: jax.Array, inputs: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, Conditioning]:
        feature, reward = inputs
        value = feature @ weight
        weight, error = td0(weight, feature, reward, learning_rate, gamma)
        return weight, Conditioning(weight, value, error)

    weight = jnp.zeros_like(feature[0, 0]) if weight is None else weight
    return jax.lax.scan(trial, weight, (feature, reward))[1]


def _check_lengths(feature: jax.Array, reward: jax.Array) -> None:
    """Raise unless there is one row of features more than rewards."""
    rows, num = feature.shape[-2], reward.shape[-1]
    require(rows == num + 1, f"feature has {rows} rows for {num} rewards: give {num + 1}")


def serial_compound(onset: jax.Array, num_times: int) -> jax.Array:
    """Return the complete serial compound, one feature for every moment since every stimulus.

    With a reward L steps after a single stimulus, step size alpha and discount 1, the error of
    trial n at k < L steps before the reward is the binomial probability of k successes in n - 1
    draws of probability alpha: a wave that moves back alpha steps a trial. At the stimulus it is
    the probability of at least L successes. Source: Montague, Dayan and Sejnowski 1996; the
    binomial follows from `V_k <- (1 - alpha) V_k + alpha V_{k-1}`.

    Args:
        onset: `[K]` int, the time when each stimulus begins; negative if it is absent.
        num_times: T + 1.

    Returns:
        `[num_times, K * num_times]`, 1 where the stimulus began that many steps ago.
    """
    onset = jnp.asarray(onset)
    since = jnp.arange(num_times)[:, None] - onset[None]
    trace = jax.nn.one_hot(since, num_times, dtype=float)
    return jnp.where((onset >= 0)[None, :, None], trace, 0.0).reshape(num_times, -1)
