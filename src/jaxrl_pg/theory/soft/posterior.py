"""The posterior over trajectories of control as inference: which ones an optimal agent has taken.

    p(tau | O_{1:T} = 1)  proportional to  [ p(s_1) prod_t p(s_{t+1}|s_t, a_t) p(a_t|s_t) ]
                                           exp( sum_t r(s_t, a_t) / temperature )

The best trajectories are the most probable, and worse ones have exponentially smaller chances: a
model of behaviour that is good and not perfect. A posterior is again a Markov chain, with a start
and dynamics of its own; only if chance has no part in the true ones does a policy have the same
trajectories. Otherwise the posterior is lucky, and a policy, that cannot be, comes closest by
`inference.variational`.

As in `inference`, nothing is discounted, and T steps are taken. Source: Levine 2018
(arXiv 1805.00909), sections 2.2, 2.3 and 3.1.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import count, finite, unchecked
from jaxrl_pg.theory.checks import check_paths, checked
from jaxrl_pg.theory.learning.estimators import Trajectories, enumerate_trajectories
from jaxrl_pg.theory.mdp import MDP, uniform_policy
from jaxrl_pg.theory.probability import kl, log_of, mean_over
from jaxrl_pg.theory.soft.inference import Messages, posterior_dynamics, posterior_start

__all__ = [
    "Law",
    "divergence",
    "enumerated",
    "expected_reward",
    "law_of_policy",
    "log_probability",
    "posterior",
    "sample",
    "visitation",
]

Scalar = jax.Array | float
_LAW = unchecked()


class Law(NamedTuple):
    """A distribution of trajectories of T steps, as a Markov chain that changes with time.

    Attributes:
        start: `[S]`, p(s_1).
        policy: `[T, S, A]`, p(a_t|s_t).
        dynamics: `[T, S, A, S]`, p(s_{t+1}|s_t, a_t); the last ones are not used.
    """

    start: jax.Array
    policy: jax.Array
    dynamics: jax.Array


# --- laws -----------------------------------------------------------------------------------------


@checked(undiscounted=True)
def law_of_policy(mdp: MDP, policies: jax.Array) -> Law:
    """Return the law of the trajectories of a policy `[T, S, A]` in the MDP."""
    num_steps = policies.shape[0]
    dynamics = jnp.broadcast_to(mdp.transition[None], (num_steps, *mdp.transition.shape))
    return Law(mdp.start, policies, dynamics)


@checked(undiscounted=True)
def posterior(mdp: MDP, messages: Messages, temperature: Scalar = 1.0) -> Law:
    """Return the law `p(tau | O_{1:T})` from the messages of `inference.backward_messages`.

    p(s_1|O) prod_t p(a_t|s_t, O) p(s_{t+1}|s_t, a_t, O)
    """
    start = posterior_start(mdp, messages, temperature)
    return Law(start, messages.policy, posterior_dynamics(mdp, messages, temperature))


@checked(undiscounted=True)
def enumerated(
    mdp: MDP, horizon: int, prior: jax.Array | None = None, temperature: Scalar = 1.0
) -> Trajectories:
    """List all `(S A)^T` trajectories, each with the weight `p(tau | O_{1:T})`, by Bayes' rule.

    Args:
        mdp: the MDP.
        horizon: T.
        prior: `p(a|s)` `[S, A]`, uniform if None.
        temperature: of the optimality variables.

    Raises:
        ValueError: see `estimators.enumerate_trajectories`.
    """
    paths = enumerate_trajectories(mdp, uniform_policy(mdp) if prior is None else prior, horizon)
    log_joint = log_of(paths.weight) + jnp.sum(paths.reward, axis=1) / temperature
    return paths._replace(weight=jax.nn.softmax(log_joint))


# --- what follows from a law ----------------------------------------------------------------------


@checked(law=_LAW, paths=unchecked())
def log_probability(law: Law, paths: Trajectories) -> jax.Array:
    """Return `log p(tau)` of trajectories, `[N]`; their weights are not used."""
    check_paths(paths, *law.policy.shape[1:])
    step = jnp.arange(law.policy.shape[0])[None]
    chosen = log_of(law.policy)[step, paths.state, paths.action]
    here = step[:, :-1], paths.state[:, :-1], paths.action[:, :-1], paths.state[:, 1:]
    moved = log_of(law.dynamics)[here]
    begun = log_of(law.start)[paths.state[:, 0]]
    return begun + jnp.sum(chosen, axis=1) + jnp.sum(moved, axis=1)


@checked(law=_LAW)
def visitation(law: Law) -> jax.Array:
    """Return `p(s_t, a_t)` of every step, `[T, S, A]`, by a forward pass."""

    def forward(state: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        policy, dynamics = step
        pair = state[:, None] * policy
        return jnp.einsum("sa,sak->k", pair, dynamics), pair

    return jax.lax.scan(forward, law.start, (law.policy, law.dynamics))[1]


@checked(law=_LAW, reward=finite("SA"))
def expected_reward(law: Law, reward: jax.Array) -> jax.Array:
    """Return `E sum_t r(s_t, a_t)`, `[]`, of rewards `[S, A]`.

    Of the posterior it is the derivative of the log evidence by 1/temperature, and it does not fall
    when the temperature falls.
    """
    return jnp.sum(visitation(law) * reward[None])


@checked(law=_LAW, other=_LAW)
def divergence(law: Law, other: Law) -> jax.Array:
    """Return `KL(law || other)` of whole trajectories in nats, `[]`, by the chain rule.

        KL(p(s_1)) + sum_t E_law [ KL(p(a_t|s_t)) + KL(p(s_{t+1}|s_t, a_t)) ]

    Of the law of any policy to the posterior it is the log evidence minus `inference.elbo`.
    """
    pair = visitation(law)
    chosen = mean_over(jnp.sum(pair, axis=2), kl(law.policy, other.policy))
    moved = mean_over(pair[:-1], kl(law.dynamics[:-1], other.dynamics[:-1]))
    return kl(law.start, other.start) + chosen + moved


@checked(law=_LAW, reward=finite("SA"), num=count())
def sample(law: Law, reward: jax.Array, num: int, key: jax.Array) -> Trajectories:
    """Sample `num` independent trajectories, each of weight 1/num, with rewards from `[S, A]`."""

    def step(
        state: jax.Array, row: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        policy, dynamics, key = row
        action_key, state_key = jax.random.split(key)
        action = jax.random.categorical(action_key, policy[state])
        return jax.random.categorical(state_key, dynamics[state, action]), (state, action)

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        start_key, step_key = jax.random.split(key)
        first = jax.random.categorical(start_key, log_start)
        keys = jax.random.split(step_key, law.policy.shape[0])
        return jax.lax.scan(step, first, (log_policy, log_dynamics, keys))[1]

    log_start, log_policy, log_dynamics = (log_of(x) for x in law)
    state, action = (x.astype(jnp.int32) for x in jax.vmap(one)(jax.random.split(key, num)))
    weight = jnp.full((num,), 1.0 / num, reward.dtype)
    return Trajectories(state, action, reward[state, action], weight)
