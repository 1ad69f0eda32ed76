"""Control as inference with T steps to act: messages, their optimism, and the variational remedy.

Optimality of a step is a binary variable, `p(O_t = 1 | s, a) = exp(r(s,a) / temperature)`, and the
policy inferred is `p(a_t | s_t, O_{1:T})`. All values are in units of reward: temperature times a
logarithm. Nothing is discounted, and `mdp.gamma` is not used. (A discount is a probability
`1 - gamma` of moving to an absorbing state without reward: put it in the transitions.)

Source: Levine 2018 (arXiv 1805.00909), sections 2 and 3, with temperature 1 and a uniform prior.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory import solve
from jaxrl_pg.theory.checks import checked
from jaxrl_pg.theory.mdp import MDP, uniform_policy
from jaxrl_pg.theory.probability import log_of
from jaxrl_pg.theory.soft import soft_values

__all__ = [
    "Messages",
    "Variational",
    "backward_messages",
    "best_case",
    "check_rewards",
    "elbo",
    "log_optimality",
    "optimism",
    "posterior_dynamics",
    "posterior_start",
    "shift_rewards",
    "variational",
]

Scalar = jax.Array | float


class Messages(NamedTuple):
    """The result of a backward pass over T steps.

    Attributes:
        value: `[T + 1, S]`, `V_t = temperature log p(O_{t:T} | s_t)`; the last row is zeros.
        q: `[T, S, A]`, `Q_t = temperature log p(O_{t:T} | s_t, a_t)`.
        policy: `[T, S, A]`, `p(a_t | s_t, O_{1:T})`.
        log_evidence: `[]`, `log p(O_{1:T})` in nats.
    """

    value: jax.Array
    q: jax.Array
    policy: jax.Array
    log_evidence: jax.Array


class Variational(NamedTuple):
    """The best variational distribution with the true dynamics.

    Attributes:
        value: `[T + 1, S]`, the last row zeros.
        q: `[T, S, A]`.
        policy: `[T, S, A]`.
        elbo: `[]`, its lower bound on the log evidence, in nats.
    """

    value: jax.Array
    q: jax.Array
    policy: jax.Array
    elbo: jax.Array


# --- optimality -----------------------------------------------------------------------------------


@checked(undiscounted=True)
def check_rewards(mdp: MDP) -> None:
    """Raise for rewards whose exponential is no probability; traced arrays are not supported.

    Raises:
        ValueError: for a reward above zero.
    """
    largest = float(jnp.max(mdp.reward))
    if largest > 0.0:
        raise ValueError(
            f"largest reward is {largest:g}, but exp(reward) has to be a probability, at most 1: "
            "use shift_rewards"
        )


@checked(undiscounted=True)
def shift_rewards(mdp: MDP) -> tuple[MDP, jax.Array]:
    """Return the MDP with its largest reward subtracted from all rewards, and that amount `[]`.

    No posterior changes; values of T steps fall by T times the amount, and the log evidence by
    that over the temperature.
    """
    largest = jnp.max(mdp.reward)
    return mdp._replace(reward=mdp.reward - largest), largest


@checked(undiscounted=True)
def log_optimality(mdp: MDP, temperature: Scalar = 1.0) -> jax.Array:
    """Return `log p(O = 1 | s, a) = r / temperature`, `[S, A]`, for rewards of at most 0."""
    return mdp.reward / temperature


# --- exact inference ------------------------------------------------------------------------------


@checked(undiscounted=True)
def backward_messages(
    mdp: MDP, horizon: int, prior: jax.Array | None = None, temperature: Scalar = 1.0
) -> Messages:
    """Compute the messages `beta = exp(V / temperature)` from the last step to the first.

        beta_t(s,a) = p(O_t|s,a) E_{s'~P} beta_{t+1}(s')     beta_t(s) = E_{a~prior} beta_t(s,a)
        p(a_t | s_t, O_{1:T}) = prior(a|s) exp((Q - V) / temperature)

    In log space. `beta_t(s,a)` is sometimes printed as `p(O_{1:t} | s_t, a_t)`, but it is
    `p(O_{t:T} | s_t, a_t)`; and the policy as `exp(Q - V)` alone, without the prior as a factor.
    With a reward above 0 the messages are no probabilities, but the policy is the same.

    Args:
        mdp: the MDP.
        horizon: T.
        prior: `p(a|s)` `[S, A]`, uniform if None.
        temperature: of the optimality variables.
    """
    log_prior = log_of(uniform_policy(mdp) if prior is None else prior)

    def pass_back(value: jax.Array, _: None) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        q = optimism(mdp, value, temperature).left
        value = _log_mean_exp(log_prior, q, temperature)
        return value, (value, q)

    last = jnp.zeros_like(mdp.reward[:, 0])
    _, (values, q) = jax.lax.scan(pass_back, last, None, length=horizon, reverse=True)
    policy = jnp.exp(log_prior[None] + (q - values[:, :, None]) / temperature)
    log_evidence = _log_mean_exp(log_of(mdp.start), values[0], temperature) / temperature
    return Messages(jnp.concatenate([values, last[None]]), q, policy, log_evidence)


@checked(undiscounted=True)
def posterior_start(mdp: MDP, messages: Messages, temperature: Scalar = 1.0) -> jax.Array:
    """Return `p(s_1 | O_{1:T}) = rho(s) exp(V_1 / temperature) / p(O_{1:T})`, `[S]`."""
    logits = messages.value[0] / temperature - messages.log_evidence
    return jnp.exp(log_of(mdp.start) + logits)


@checked(undiscounted=True)
def posterior_dynamics(mdp: MDP, messages: Messages, temperature: Scalar = 1.0) -> jax.Array:
    """Return `p(s'|s,a,O_{1:T})`, proportional to `P(s'|s,a) exp(V_{t+1}(s') / temperature)`.

    These dynamics `[T, S, A, S]` are biased towards high values, and the posterior policy is the
    one that suits them.
    """
    log_transition = log_of(mdp.transition)

    def posterior(value: jax.Array) -> jax.Array:
        total = _log_mean_exp(log_transition, value, temperature)
        return jnp.exp(log_transition + (value[None, None] - total[..., None]) / temperature)

    return jax.vmap(posterior)(messages.value[1:])


@checked(undiscounted=True)
def optimism(mdp: MDP, value: jax.Array, temperature: Scalar = 1.0) -> soft_values.Sides:
    """Return the value of an action by inference and its expectation (left >= right).

        Q = r + temperature log E_{s'} exp(V(s') / temperature)  >=  r + E_{s'} V(s')

    Equal where V is the same in every state that can follow: always, for deterministic dynamics.

    Args:
        mdp: the MDP; its discount is not used.
        value: V of the next states, `[S]`.
        temperature: of the optimality variables; the lower, the more optimistic.

    Returns:
        The two sides, `[S, A]` each.
    """
    inferred = mdp.reward + _log_mean_exp(log_of(mdp.transition), value, temperature)
    return soft_values.Sides(inferred, mdp.reward + mdp.transition @ value)


@checked(undiscounted=True)
def best_case(mdp: MDP, horizon: int) -> tuple[jax.Array, jax.Array]:
    """Return `Q = r + max_{s' possible} V(s')`, `V = max_a Q`, as if the agent chose the outcome.

    It is the limit of the messages as the temperature goes to 0, under any prior that allows every
    action; with `E_{s'}` for the first maximum it would be value iteration. At other temperatures
    `r + max V`, which is sometimes printed, is an upper bound on Q.

    Returns:
        V `[T + 1, S]` and Q `[T, S, A]`.
    """

    def back_up(value: jax.Array, _: None) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        possible = jnp.where(mdp.transition > 0.0, value[None, None], -jnp.inf)
        q = mdp.reward + jnp.max(possible, axis=2)
        value = jnp.max(q, axis=1)
        return value, (value, q)

    last = jnp.zeros_like(mdp.reward[:, 0])
    _, (values, q) = jax.lax.scan(back_up, last, None, length=horizon, reverse=True)
    return jnp.concatenate([values, last[None]]), q


# --- inference that keeps the dynamics ------------------------------------------------------------


@checked(undiscounted=True)
def variational(
    mdp: MDP, horizon: int, prior: jax.Array | None = None, temperature: Scalar = 1.0
) -> Variational:
    """Return the q closest to the posterior with the true start and dynamics: soft value iteration.

        Q = r + E_{s'} V(s')     V = temperature log E_{a~prior} exp(Q / temperature)
        q(a_t|s_t) = prior(a|s) exp((Q - V) / temperature)

    Its bound is below the log evidence by `KL(q || posterior)`. They are equal if start and
    dynamics are deterministic, and whenever chance changes no value.

    Args:
        mdp: the MDP.
        horizon: T.
        prior: `p(a|s)` `[S, A]`, uniform if None.
        temperature: of the optimality variables.
    """
    log_prior = log_of(uniform_policy(mdp) if prior is None else prior)
    rewarded = _undiscounted(mdp, mdp.reward + temperature * log_prior)
    value, q = solve.finite_horizon_optimal(rewarded, horizon, temperature=temperature)
    bound = jnp.vdot(mdp.start, value[0]) / temperature
    policy = soft_values.improve(q, temperature)
    plain = _undiscounted(mdp, mdp.reward)
    q = jax.vmap(lambda value: solve.q_values(plain, value))(value[1:])
    return Variational(value, q, policy, bound)


@checked(undiscounted=True)
def elbo(
    mdp: MDP, policies: jax.Array, prior: jax.Array | None = None, temperature: Scalar = 1.0
) -> jax.Array:
    """Return `E_q sum_t [r / temperature - KL(q(.|s_t) || prior)] <= log p(O_{1:T})`, in nats.

    With a uniform prior the KL is log|A| minus the entropy of q. The evidence of a step is
    sometimes printed as `log p(O_{1:T} | s_t, a_t)`, for `log p(O_t | s_t, a_t)`, and the term of
    the start, which cancels, as `log p(s_t)`, for `log p(s_1)`.

    Args:
        mdp: the MDP.
        policies: q(a_t|s_t) `[T, S, A]`; the bound is -inf if q takes an action of prior 0 in a
            state that it reaches by then.
        prior: `[S, A]`, uniform if None.
        temperature: of the optimality variables.
    """
    log_prior = log_of(uniform_policy(mdp) if prior is None else prior)
    possible = jnp.isfinite(log_prior)
    reward = mdp.reward + temperature * jnp.where(possible, log_prior, 0.0)
    rewarded = _undiscounted(mdp, reward)
    values, _ = solve.finite_horizon_evaluate(rewarded, policies, temperature=temperature)
    bound = jnp.vdot(mdp.start, values[0]) / temperature

    def follow(reached: jax.Array, policy: jax.Array) -> tuple[jax.Array, jax.Array]:
        taken = reached[:, None] & (policy > 0.0)
        further = jnp.any(taken[..., None] & (mdp.transition > 0.0), axis=(0, 1))
        return further, jnp.any(taken & ~possible)

    excluded = jax.lax.scan(follow, mdp.start > 0.0, policies)[1]
    return jnp.where(jnp.any(excluded), -jnp.inf, bound)


def _undiscounted(mdp: MDP, reward: jax.Array) -> MDP:
    return mdp._replace(reward=reward, gamma=jnp.ones_like(mdp.gamma))


def _log_mean_exp(log_weight: jax.Array, value: jax.Array, temperature: Scalar) -> jax.Array:
    """Return `temperature log sum_i w_i exp(V_i / temperature)`, over the last axis."""
    value = jnp.broadcast_to(value, log_weight.shape)
    possible = jnp.where(log_weight > -jnp.inf, value, -jnp.inf)
    best = jax.lax.stop_gradient(jnp.max(possible, axis=-1))
    below = jnp.where(log_weight > -jnp.inf, value - best[..., None], 0.0)
    return best + temperature * jax.nn.logsumexp(log_weight + below / temperature, axis=-1)
