"""Control as inference with T steps to act: messages, their optimism, and what cures it.

Optimality of a step is a coin, `p(O_t = 1 | s, a) = exp(r(s,a) / temperature)`, and what an agent
should do is `p(a_t | s_t, O_{1:T})`. All values are in units of reward: temperature times a
logarithm. Nothing is discounted; `mdp.gamma` is used by `finite_horizon_*` only. (A discount is a
probability `1 - gamma` of moving to an absorbing state without reward: put it in the transitions.)

Source: Levine 2018 (arXiv 1805.00909), sections 2 and 3, with temperature 1 and a uniform prior.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory import solve
from jaxrl_pg.theory.mdp import MDP, uniform_policy
from jaxrl_pg.theory.soft import soft_values

__all__ = [
    "Messages",
    "Variational",
    "backward_messages",
    "best_case",
    "check_rewards",
    "elbo",
    "finite_horizon_evaluate",
    "finite_horizon_optimal",
    "log_optimality",
    "optimism",
    "posterior_dynamics",
    "posterior_start",
    "shift_rewards",
    "variational",
]

Scalar = jax.Array | float


class Messages(NamedTuple):
    """What a backward pass over T steps finds.

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
    """The best of the distributions that keep the true dynamics.

    Attributes:
        value: `[T + 1, S]`, the last row zeros.
        q: `[T, S, A]`.
        policy: `[T, S, A]`.
        elbo: `[]`, its bound on the log evidence, in nats.
    """

    value: jax.Array
    q: jax.Array
    policy: jax.Array
    elbo: jax.Array


# --- optimality -----------------------------------------------------------------------------------


def check_rewards(mdp: MDP) -> None:
    """Refuse rewards whose exponential is no probability; not to be called on traced arrays.

    Raises:
        ValueError: for a reward above zero.
    """
    most = float(jnp.max(mdp.reward))
    if most > 0.0:
        raise ValueError(f"largest reward is {most:g}, exp(r) no probability: use shift_rewards")


def shift_rewards(mdp: MDP) -> tuple[MDP, jax.Array]:
    """The MDP with its largest reward subtracted from all of them, and that amount `[]`.

    No posterior changes; values of T steps fall by T times the amount, and the log evidence by
    that over the temperature.
    """
    most = jnp.max(mdp.reward)
    return mdp._replace(reward=mdp.reward - most), most


def log_optimality(mdp: MDP, temperature: Scalar = 1.0) -> jax.Array:
    """`log p(O = 1 | s, a) = r / temperature`, `[S, A]`; a probability if no reward is above 0."""
    return mdp.reward / temperature


# --- exact inference ------------------------------------------------------------------------------


def backward_messages(
    mdp: MDP, horizon: int, prior: jax.Array | None = None, temperature: Scalar = 1.0
) -> Messages:
    """Messages `beta = exp(V / temperature)` from the last step to the first, in log space.

        beta_t(s,a) = p(O_t|s,a) E_{s'~P} beta_{t+1}(s')     beta_t(s) = E_{a~prior} beta_t(s,a)
        p(a_t | s_t, O_{1:T}) = prior(a|s) exp((Q - V) / temperature)

    `beta_t(s,a)` is in places printed as `p(O_{1:t} | s_t, a_t)`: it is `p(O_{t:T} | s_t, a_t)`;
    and the policy as `exp(Q - V)` alone, which the prior has to multiply. A reward above 0 makes
    the messages no probabilities but changes no policy.

    Args:
        mdp: the MDP.
        horizon: T.
        prior: `p(a|s)` `[S, A]`, uniform if None.
        temperature: of the optimality variables.
    """
    log_prior = _log(uniform_policy(mdp) if prior is None else prior)
    last = jnp.zeros_like(mdp.reward[:, 0])
    step = partial(_message, mdp, log_prior, temperature)
    _, (values, q) = jax.lax.scan(step, last, None, length=horizon, reverse=True)
    policy = jnp.exp(log_prior[None] + (q - values[:, :, None]) / temperature)
    log_evidence = jax.nn.logsumexp(values[0] / temperature, b=mdp.start)
    return Messages(jnp.concatenate([values, last[None]]), q, policy, log_evidence)


def posterior_start(mdp: MDP, messages: Messages, temperature: Scalar = 1.0) -> jax.Array:
    """`p(s_1 | O_{1:T}) = rho(s) exp(V_1 / temperature) / p(O_{1:T})`, `[S]`."""
    logits = messages.value[0] / temperature - messages.log_evidence
    return jnp.exp(_log(mdp.start) + logits)


def posterior_dynamics(mdp: MDP, messages: Messages, temperature: Scalar = 1.0) -> jax.Array:
    """`p(s'|s,a,O_{1:T})`, proportional to `P(s'|s,a) exp(V_{t+1}(s') / temperature)`.

    Dynamics as the agent would like them, `[T, S, A, S]`: the posterior policy is good for these.
    """
    logits = messages.value[1:] / temperature
    total = jax.vmap(partial(_log_mean_exp, mdp.transition))(logits)
    return jnp.exp(_log(mdp.transition)[None] + logits[:, None, None, :] - total[..., None])


def optimism(mdp: MDP, value: jax.Array, temperature: Scalar = 1.0) -> soft_values.Sides:
    """What inference expects of an action, and what there is to expect (left >= right).

        Q = r + temperature log E_{s'} exp(V(s') / temperature)  >=  r + E_{s'} V(s')

    Equal where V is the same in every state that can follow: always, for deterministic dynamics.

    Args:
        mdp: the MDP; its discount is not used.
        value: V of the states that follow, `[S]`.
        temperature: the lower, the more of an optimist.

    Returns:
        The two sides, `[S, A]` each.
    """
    hoped = mdp.reward + temperature * _log_mean_exp(mdp.transition, value / temperature)
    return soft_values.Sides(hoped, mdp.reward + mdp.transition @ value)


def best_case(mdp: MDP, horizon: int) -> tuple[jax.Array, jax.Array]:
    """`Q = r + max_{s' possible} V(s')`, `V = max_a Q`: as if the agent chose its own luck.

    What messages become as the temperature goes to 0, under any prior that allows every
    action; with `E_{s'}` for the first maximum it would be value iteration. At other temperatures
    `r + max V`, printed in places, is only what is above Q.

    Returns:
        V `[T + 1, S]` and Q `[T, S, A]`.
    """
    last = jnp.zeros_like(mdp.reward[:, 0])
    step = partial(_hope, mdp)
    _, (values, q) = jax.lax.scan(step, last, None, length=horizon, reverse=True)
    return jnp.concatenate([values, last[None]]), q


# --- inference that keeps the dynamics ------------------------------------------------------------


def variational(
    mdp: MDP, horizon: int, prior: jax.Array | None = None, temperature: Scalar = 1.0
) -> Variational:
    """The closest q to the posterior with the true start and dynamics: soft value iteration.

        Q = r + E_{s'} V(s')     V = temperature log E_{a~prior} exp(Q / temperature)
        q(a_t|s_t) = prior(a|s) exp((Q - V) / temperature)

    Its bound is below the log evidence by `KL(q || posterior)`: they are equal if start and
    dynamics are deterministic (not only if: it is enough that luck changes no value).
    """
    log_prior = _log(uniform_policy(mdp) if prior is None else prior)
    rewarded = _undiscounted(mdp, mdp.reward + temperature * log_prior)
    value, q = finite_horizon_optimal(rewarded, temperature, horizon)
    bound = jnp.vdot(mdp.start, value[0]) / temperature
    policy = soft_values.improve(q, temperature)
    q = jax.vmap(partial(solve.q_values, _undiscounted(mdp, mdp.reward)))(value[1:])
    return Variational(value, q, policy, bound)


def elbo(
    mdp: MDP, policies: jax.Array, prior: jax.Array | None = None, temperature: Scalar = 1.0
) -> jax.Array:
    """`E_q sum_t [r / temperature - KL(q(.|s_t) || prior)] <= log p(O_{1:T})`, in nats.

    With a uniform prior the KL is log|A| less the entropy of q. In places the evidence of a step
    is printed as `log p(O_{1:T} | s_t, a_t)`, for `log p(O_t | s_t, a_t)`, and the term of the
    start, which cancels, as `log p(s_t)`, for `log p(s_1)`.

    Args:
        mdp: the MDP.
        policies: q(a_t|s_t) `[T, S, A]`; -inf if it anywhere takes what the prior never does.
        prior: `[S, A]`, uniform if None.
        temperature: of the optimality variables.
    """
    log_prior = _log(uniform_policy(mdp) if prior is None else prior)
    possible = jnp.isfinite(log_prior)
    reward = mdp.reward + temperature * jnp.where(possible, log_prior, 0.0)
    values, _ = finite_horizon_evaluate(_undiscounted(mdp, reward), policies, temperature)
    bound = jnp.vdot(mdp.start, values[0]) / temperature
    return jnp.where(jnp.any((policies > 0.0) & ~possible[None]), -jnp.inf, bound)


def finite_horizon_evaluate(
    mdp: MDP, policies: jax.Array, temperature: Scalar, final_value: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Values with entropy of policies `[T, S, A]`; gamma discounts.

        Q_t = r + gamma P V_{t+1}     V_t = E_{a~pi_t} Q_t + temperature H(pi_t)

    Returns:
        V `[T + 1, S]`, its last row the final value (zeros if None), and Q `[T, S, A]`.
    """
    last = jnp.zeros_like(mdp.reward[:, 0]) if final_value is None else final_value
    step = partial(_back_up, mdp, temperature)
    _, (values, q) = jax.lax.scan(step, last, policies, reverse=True)
    return jnp.concatenate([values, last[None]]), q


def finite_horizon_optimal(
    mdp: MDP, temperature: Scalar, horizon: int, final_value: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """What `finite_horizon_evaluate` gives of the best policies, `softmax(Q_t / temperature)`."""
    last = jnp.zeros_like(mdp.reward[:, 0]) if final_value is None else final_value
    step = partial(_back_up_optimally, mdp, temperature)
    _, (values, q) = jax.lax.scan(step, last, None, length=horizon, reverse=True)
    return jnp.concatenate([values, last[None]]), q


# --- one step back --------------------------------------------------------------------------------


def _undiscounted(mdp: MDP, reward: jax.Array) -> MDP:
    return mdp._replace(reward=reward, gamma=jnp.ones_like(mdp.gamma))


def _log(probability: jax.Array) -> jax.Array:
    possible = probability > 0.0
    return jnp.where(possible, jnp.log(jnp.where(possible, probability, 1.0)), -jnp.inf)


def _log_mean_exp(transition: jax.Array, value: jax.Array) -> jax.Array:
    return jax.nn.logsumexp(value[None, None], axis=2, b=transition)


def _message(
    mdp: MDP, log_prior: jax.Array, temperature: Scalar, value: jax.Array, _: None
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    q = optimism(mdp, value, temperature).left
    value = temperature * jax.nn.logsumexp(log_prior + q / temperature, axis=1)
    return value, (value, q)


def _hope(mdp: MDP, value: jax.Array, _: None) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    possible = jnp.where(mdp.transition > 0.0, value[None, None], -jnp.inf)
    q = mdp.reward + jnp.max(possible, axis=2)
    value = jnp.max(q, axis=1)
    return value, (value, q)


def _back_up(
    mdp: MDP, temperature: Scalar, value: jax.Array, policy: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    q = solve.q_values(mdp, value)
    value = jnp.sum(policy * q, axis=1) + temperature * soft_values.entropy(policy)
    return value, (value, q)


def _back_up_optimally(
    mdp: MDP, temperature: Scalar, value: jax.Array, _: None
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    q = solve.q_values(mdp, value)
    value = soft_values.soft_maximum(q, temperature)
    return value, (value, q)
