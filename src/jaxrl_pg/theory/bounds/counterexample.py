"""An MDP on which the expected-KL bound of Li, Clavette and He (2022), as printed, is false."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.checks import checked
from jaxrl_pg.theory.mdp import MDP

__all__ = ["Counterexample", "chain", "expected_kl_counterexample"]

# The lean c_k of the new policy in the six states of the chain, and in the state that stays.
_LEAN = (0.0093, 0.0277, 0.0728, 0.1734, 0.3704, 0.6748, 1.0)


class Counterexample(NamedTuple):
    """An MDP and two policies on it that together contradict a statement.

    Attributes:
        mdp: S states, two actions.
        policy: pi `[S, 2]`.
        new_policy: pi' `[S, 2]`.
    """

    mdp: MDP
    policy: jax.Array
    new_policy: jax.Array


@checked()
def expected_kl_counterexample(gamma: jax.typing.ArrayLike) -> Counterexample:
    """Return the MDP on which the printed expected-KL bound fails at gamma 1/2.

    Eight states and two actions: a `chain` of six states before the one that stays, with leans
    .0093, .0277, .0728, .1734, .3704, .6748 and 1: J(pi) = 0, max|A| = 1, and the distance of
    J(pi') from the surrogate is 1.0276 times what Li, Clavette and He 2022 print as its bound for
    every gamma in [0.5, 1).
    """
    return chain(gamma, jnp.asarray(_LEAN))


@checked()
def chain(gamma: jax.typing.ArrayLike, lean: jax.Array) -> Counterexample:
    """Return a row of bets of one unit, the worst family known for the bound.

    In state k action 0 earns 1 and leads to k + 1, or stays if k is the last of the row; action 1
    costs 1 and leads to an absorbing state without reward. The old policy is (1/2, 1/2), the new
    one ((1 + c_k)/2, (1 - c_k)/2): V = 0 and A = +-1 under the old one.

    Args:
        gamma: `[]`.
        lean: c `[N]`, in [-1, 1]: of the states in the row, then of the one that stays.

    Returns:
        The chain and both policies; it starts in the first of its N + 1 states, and the last is
        absorbing.
    """
    n = lean.shape[0]  # the absorbing state
    dtype = lean.dtype
    successor = jnp.eye(n + 1, dtype=dtype)[jnp.minimum(jnp.arange(n) + 1, n - 1)]
    lost = jnp.zeros((n + 1, n + 1), dtype).at[:, n].set(1.0)
    transition = jnp.stack([jnp.concatenate([successor, lost[n:]]), lost], axis=1)
    reward = jnp.zeros((n + 1, 2), dtype).at[:n, 0].set(1.0).at[:n, 1].set(-1.0)
    start = jnp.zeros(n + 1, dtype).at[0].set(1.0)
    even = jnp.full((n + 1, 2), 0.5, dtype)
    leaning = jnp.stack([1.0 + lean, 1.0 - lean], axis=1) / 2.0
    mdp = MDP(transition, reward, start, jnp.asarray(gamma, dtype))
    return Counterexample(mdp, even, even.at[:n].set(leaning))
