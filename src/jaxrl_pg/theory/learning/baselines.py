"""The baselines of least variance that depend on the step and the state, exactly.

With `g_t = grad log pi(a_t|s_t)` and rewards-to-go `G_t`, REINFORCE with a baseline is

    Y - sum_t b_t(s_t) g_t,    Y = sum_t g_t G_t

and unbiased for every b, because `E[g_t | s_1, a_1, ..., s_t] = 0`. For the same reason the parts
of different steps and states are uncorrelated, so that the least variance has a closed form, the
coefficients of a regression. Sources: Weaver and Tao 2001 and Greensmith, Bartlett and Baxter 2004
for one baseline; the closed form for all steps at once is worked out here.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import finite, require, unchecked
from jaxrl_pg.theory.checks import check_paths, checked
from jaxrl_pg.theory.learning.estimators import Trajectories

__all__ = ["baselined", "parameter_baseline", "scores", "state_baseline", "stepwise_baseline"]

_PATHS = unchecked()


@checked(paths=_PATHS)
def scores(logits: jax.Array, paths: Trajectories) -> jax.Array:
    """Return `g_t` `[N, T, A]`, of the row of logits of the state `s_t`; it is 0 in other rows."""
    check_paths(paths, *logits.shape)
    policy = jax.nn.softmax(logits)
    chosen = jax.nn.one_hot(paths.action, policy.shape[1], dtype=policy.dtype)
    return chosen - policy[paths.state]


@checked(paths=_PATHS, baseline=finite())
def baselined(logits: jax.Array, paths: Trajectories, baseline: jax.Array) -> jax.Array:
    """Return `sum_t g_t (G_t - b_t(s_t))` for every trajectory, `[N, S, A]`.

    Args:
        logits: theta `[S, A]`.
        paths: trajectories under `softmax(logits)`; nothing is discounted.
        baseline: b `[T, S]`, or one for each parameter of the state, `[T, S, A]`.
    """
    g, (num_steps, num_states) = scores(logits, paths), (paths.state.shape[1], logits.shape[0])
    fits = baseline.ndim in (2, 3) and baseline.shape[:2] == (num_steps, num_states)
    require(fits, f"baseline has shape {baseline.shape}: give [{num_steps}, {num_states}(, A)]")
    chosen = baseline[jnp.arange(num_steps)[None], paths.state]
    each = chosen if baseline.ndim == 3 else chosen[..., None]
    weighted = g * (_to_go(paths)[..., None] - each)
    return _in_rows(weighted, paths, logits.shape[0])


@checked(paths=_PATHS)
def stepwise_baseline(logits: jax.Array, paths: Trajectories) -> jax.Array:
    """Return the baseline that is best for each step alone, `[T, S]`.

        b_t(s) = E[ |g_t|^2 G_t | s_t = s ] / E[ |g_t|^2 | s_t = s ]

    It is often called optimal, and is so for one step; of more it leaves out of account how the
    steps vary together.
    """
    g = scores(logits, paths)
    own = jnp.sum(jnp.square(g), axis=2) * _to_go(paths)
    return _quotient(own, jnp.sum(jnp.square(g), axis=2), paths, logits.shape[0])


@checked(paths=_PATHS)
def state_baseline(logits: jax.Array, paths: Trajectories) -> jax.Array:
    """Return the baseline of the step and the state with the least total variance, `[T, S]`.

        b_t(s) = E[ g_t . Y | s_t = s ] / E[ |g_t|^2 | s_t = s ]

    and 0 where the action is certain or the state is not reached.
    """
    g = scores(logits, paths)
    products = g * _here(g, paths, logits.shape[0])
    return _quotient(
        jnp.sum(products, axis=2), jnp.sum(jnp.square(g), axis=2), paths, logits.shape[0]
    )


@checked(paths=_PATHS)
def parameter_baseline(logits: jax.Array, paths: Trajectories) -> jax.Array:
    """Return the baseline of least variance for each parameter by itself, `[T, S, A]`.

    b_t(s) of theta(s, a) is that of `state_baseline`, with the component a of g and Y alone.
    """
    g = scores(logits, paths)
    num_states = logits.shape[0]
    products = g * _here(g, paths, num_states)
    each = jax.vmap(lambda x, y: _quotient(x, y, paths, num_states), 2, 2)
    return each(products, jnp.square(g))


def _to_go(paths: Trajectories) -> jax.Array:
    """Return `G_t = sum_{u>=t} r_u`, `[N, T]`."""
    return jnp.cumsum(paths.reward[:, ::-1], axis=1)[:, ::-1]


def _in_rows(weighted: jax.Array, paths: Trajectories, num_states: int) -> jax.Array:
    """Return the sum over time of `[N, T, A]` in the rows of the states visited, `[N, S, A]`."""
    at_state = jax.nn.one_hot(paths.state, num_states, dtype=weighted.dtype)
    return jnp.einsum("nts,nta->nsa", at_state, weighted)


def _here(g: jax.Array, paths: Trajectories, num_states: int) -> jax.Array:
    """Return the row of Y that belongs to the state of each step, `[N, T, A]`."""
    rows = _in_rows(g * _to_go(paths)[..., None], paths, num_states)
    return jnp.take_along_axis(rows, paths.state[..., None], axis=1)


def _quotient(
    numerator: jax.Array, denominator: jax.Array, paths: Trajectories, num_states: int
) -> jax.Array:
    """Return the quotient of two means `[N, T]` given the state, `[T, S]`; 0 for 0 / 0."""
    at_state = jax.nn.one_hot(paths.state, num_states, dtype=numerator.dtype)
    above, below = (
        jnp.einsum("n,nts,nt->ts", paths.weight, at_state, x) for x in (numerator, denominator)
    )
    return jnp.where(below > 0, above / jnp.where(below > 0, below, 1.0), 0.0)
