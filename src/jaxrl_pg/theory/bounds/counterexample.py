"""An MDP on which the expected-KL bound of Li, Clavette and He (2022), as printed, is false."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import number
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


@checked(chance=number(0.0, 0.5, "low"))
def chain(
    gamma: jax.typing.ArrayLike, lean: jax.Array, chance: jax.typing.ArrayLike = 0.5
) -> Counterexample:
    """Return a row of fair bets, the worst family known for the bound.

    In state k action 1 costs 1 and leads to an absorbing state without reward; action 0 earns
    `p_k/(1 - p_k)`, at most 1, and leads to k + 1, or stays if k is the last of the row. The old
    policy takes action 1 with probability `p_k`, the new one with `p_k (1 - c_k)`. So V = 0, A is
    the reward, and the likelihood ratios are `1 - c_k` and `1 + c_k p_k/(1 - p_k)`.

    Args:
        gamma: `[]`.
        lean: c `[N]`, in [-1, 1]: of the states in the row, then of the one that stays.
        chance: p `[N]` or `[]`, in (0, 1/2]. At 1/2 the rewards are 1 and -1.

    Returns:
        The chain and both policies; it starts in the first of its N + 1 states, and the last is
        absorbing.
    """
    n = lean.shape[0]  # the absorbing state
    dtype = lean.dtype
    chance = jnp.broadcast_to(jnp.asarray(chance, dtype), (n,))
    successor = jnp.eye(n + 1, dtype=dtype)[jnp.minimum(jnp.arange(n) + 1, n - 1)]
    lost = jnp.zeros((n + 1, n + 1), dtype).at[:, n].set(1.0)
    transition = jnp.stack([jnp.concatenate([successor, lost[n:]]), lost], axis=1)
    reward = jnp.zeros((n + 1, 2), dtype)
    reward = reward.at[:n, 0].set(chance / (1.0 - chance)).at[:n, 1].set(-1.0)
    start = jnp.zeros(n + 1, dtype).at[0].set(1.0)
    mdp = MDP(transition, reward, start, jnp.asarray(gamma, dtype))
    falls = jnp.append(chance, 0.5)
    new_falls = jnp.append(chance * (1.0 - lean), 0.5)
    old, new = (jnp.stack([1.0 - fall, fall], axis=1) for fall in (falls, new_falls))
    return Counterexample(mdp, old, new)
