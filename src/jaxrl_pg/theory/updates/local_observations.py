"""The analytical update of a policy that sees an observation and not the state.

    A(o, a) = sum_s d(s|o) A(s, a),     d(s|o) = d(s) / (d of all states seen as o)
    pi_new(a|o) = pi(a|o) exp(A(o,a) / C) / Z(o)

Li, Clavette and He (2022) state their corollary for players who improve one at a time on local
observations O^i, with any C. If observations tell the states apart, that is so. If they do not, it
is not: the gain of the update is never negative at an observation, which is a mean over its states
as the old policy visits them, and may be a loss in a state that the new policy visits more.
`hidden_step` is an example. What remains: among all policies of the observation the update
maximises `E_d E_pi' A - C E_d KL(pi' || pi)`, which is 0 for pi itself. So with a constant C that
is proved to bound what E_d leaves out (`constants.expected_kl`) J never falls.

Several players are one at a time such a policy: A(s, a) is then `multi_agent.marginal_advantage`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import finite, indices, log_rows
from jaxrl_pg.theory.checks import below, checked
from jaxrl_pg.theory.mdp import MDP, make
from jaxrl_pg.theory.updates.analytical import Update, analytical_update

__all__ = ["hidden_step", "local_advantage", "local_update", "policy_of_states"]


@checked(advantage=finite("SA"), visitation=finite("S"), observation=indices("S"))
def local_advantage(
    advantage: jax.Array, visitation: jax.Array, observation: jax.Array, num_observations: int
) -> jax.Array:
    """Return `A(o, a)`, the mean advantage over the states that are seen as o.

    Args:
        advantage: `[S, A]`, of a policy of the observation.
        visitation: `[S]`, that policy's.
        observation: `[S]` int32, what is seen in each state.
        num_observations: O.

    Returns:
        `[O, A]`; 0 where no state of the observation is visited.
    """
    below("observation", observation, num_observations)
    observation = jnp.asarray(observation)
    weight = jax.ops.segment_sum(visitation, observation, num_observations)
    total = jax.ops.segment_sum(visitation[:, None] * advantage, observation, num_observations)
    return jnp.where(weight[:, None] > 0, total / jnp.where(weight > 0, weight, 1.0)[:, None], 0.0)


@checked(log_policy=log_rows("OA"), observation=indices("S"))
def policy_of_states(log_policy: jax.Array, observation: jax.Array) -> jax.Array:
    """Return the log-policy `[S, A]` of states whose observations `[S]` have `[O, A]`."""
    below("observation", observation, log_policy.shape[0])
    return log_policy[jnp.asarray(observation)]


@checked(
    log_policy=log_rows("OA"),
    advantage=finite("SA"),
    visitation=finite("S"),
    observation=indices("S"),
)
def local_update(
    log_policy: jax.Array,
    advantage: jax.Array,
    visitation: jax.Array,
    observation: jax.Array,
    constant: jax.typing.ArrayLike,
) -> Update:
    """Return the policy that maximises `E_d E_pi' A - C E_d KL(pi' || pi)` over policies of o.

    Args:
        log_policy: `[O, A]`.
        advantage: `[S, A]`, of that policy.
        visitation: `[S]`, that policy's.
        observation: `[S]` int32, what is seen in each state.
        constant: C.

    Returns:
        The update, of observations: `log_policy` `[O, A]`, `gain` `[O]`.
    """
    local = local_advantage(advantage, visitation, observation, log_policy.shape[0])
    return analytical_update(log_policy, local, constant)


@checked()
def hidden_step(gamma: jax.typing.ArrayLike = 0.9) -> tuple[MDP, jax.Array]:
    """Return an MDP, and its observations, on which the update loses though it gains at both.

    From state 0, action 1 leads to state 1, and action 0 to the end. In state 1, action 0 pays 1
    and action 1 costs 1; both end. States 0 and 1 are seen alike. A policy that takes action 1 with
    probability p has `J = gamma p (1 - 2 p)`, which is largest at 1/4. Where p is less, action 1
    has the larger advantage, and a small C takes it always, for J = -gamma.

    Args:
        gamma: discount.
    """
    successor = jnp.array([[2, 1], [2, 2], [2, 2]])
    transition = jax.nn.one_hot(successor, 3)
    reward = jnp.array([[0.0, 0.0], [1.0, -1.0], [0.0, 0.0]])
    start = jnp.array([1.0, 0.0, 0.0])
    return make(transition, reward, start, gamma), jnp.array([0, 0, 1])
