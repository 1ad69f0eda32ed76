"""Improving a policy by the analytical update, with every quantity of its guarantee measured.

    J(pi_new) - J(pi) = C / (1 - gamma) E_{s~d_new}[KL(pi_new || pi) + KL(pi || pi_new)] >= 0

holds for every C > 0 and needs d_new, known only after acting. Before acting there is the
certificate `J(pi_new) >= J(pi) + C / (1 - gamma) E_{s~d}[log Z]`, which holds wherever the
expected-KL bound does with that C (Li, Clavette and He 2022).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.checks import checked
from jaxrl_pg.theory.mdp import MDP, uniform_policy
from jaxrl_pg.theory.probability import kl_divergence, log_of, mean_over
from jaxrl_pg.theory.solve import Solution, attainable, evaluate, policy_iteration
from jaxrl_pg.theory.updates.analytical import Update, analytical_update
from jaxrl_pg.theory.updates.constants import CONSTANT, Constant, Iterate

__all__ = ["Step", "account", "improve", "iterations_to_optimum"]


class Step(NamedTuple):
    """The quantities of one improvement, each `[]`.

    Attributes:
        objective: J of the old policy.
        constant: C.
        eps: `max |A|`.
        change: `J(pi_new) - J(pi)`.
        identity: `C / (1 - gamma) E_{d_new}[KL(pi_new||pi) + KL(pi||pi_new)]`, the same number.
        certificate: `J(pi) + C / (1 - gamma) E_d log Z`, known before acting; a lower bound on
            J(pi_new) wherever the expected-KL bound holds with C.
        slack: `J(pi_new) - certificate`; negative where the certificate does not hold.
        value_change: `min_s V_new(s) - V(s)`.
        kl: `E_d KL(pi_new || pi)`.
        kl_max: `max_s KL(pi_new || pi)`.
        kl_reverse: `E_d KL(pi || pi_new)`.
        ratio_min: `min pi_new / pi` over actions that pi takes.
        ratio_max: `max pi_new / pi`.
    """

    objective: jax.Array
    constant: jax.Array
    eps: jax.Array
    change: jax.Array
    identity: jax.Array
    certificate: jax.Array
    slack: jax.Array
    value_change: jax.Array
    kl: jax.Array
    kl_max: jax.Array
    kl_reverse: jax.Array
    ratio_min: jax.Array
    ratio_max: jax.Array


@checked()
def account(
    gamma: jax.Array,
    constant: jax.Array,
    log_policy: jax.Array,
    before: Solution,
    update: Update,
    after: Solution,
) -> Step:
    """Compute the `Step` of one update from the solutions before and after it.

    The identity at C = 0 is its limit `E_{d_new} E_pi_new A / (1 - gamma)`.

    Args:
        gamma: `[]`.
        constant: C `[]`.
        log_policy: the old policy, `[S, A]`.
        before: the solution of the old policy.
        update: the new policy.
        after: the solution of the new policy.
    """
    new = update.log_policy
    kl, kl_reverse = kl_divergence(new, log_policy), kl_divergence(log_policy, new)
    limit = jnp.sum(jnp.exp(new) * before.advantage, axis=1)
    both = kl + kl_reverse  # infinite where pi_new gives up an action, or rounds it to 0
    measured = (constant > 0) & jnp.isfinite(both)
    gap = jnp.where(measured, constant * jnp.where(measured, both, 0.0), limit)
    change = after.objective - before.objective
    promised = jnp.vdot(before.visitation, update.gain) / (1.0 - gamma)
    possible = jnp.isfinite(log_policy)
    ratio = jnp.where(possible, jnp.exp(new - jnp.where(possible, log_policy, 0.0)), 1.0)
    return Step(
        objective=before.objective,
        constant=constant,
        eps=jnp.max(jnp.abs(before.advantage)),
        change=change,
        identity=jnp.vdot(after.visitation, gap) / (1.0 - gamma),
        certificate=before.objective + promised,
        slack=change - promised,
        value_change=jnp.min(after.value - before.value),
        kl=mean_over(before.visitation, kl),
        kl_max=jnp.max(kl),
        kl_reverse=mean_over(before.visitation, kl_reverse),
        ratio_min=jnp.min(ratio),
        ratio_max=jnp.max(ratio),
    )


@checked(constant=CONSTANT)
def improve(
    mdp: MDP, log_policy: jax.Array, constant: Constant, num_iterations: int
) -> tuple[jax.Array, Step]:
    """Evaluate exactly and update, `num_iterations` times.

    Args:
        mdp: the MDP.
        log_policy: `[S, A]`, the first policy.
        constant: chooses C in each iteration.
        num_iterations: T.

    Returns:
        The last `log_policy` and the `Step` of every iteration, its entries `[T]`.
    """

    def iterate(
        carry: tuple[jax.Array, Solution], iteration: jax.Array
    ) -> tuple[tuple[jax.Array, Solution], Step]:
        log_policy, before = carry
        chosen = constant(Iterate(before, log_policy, mdp.gamma, iteration))
        update = analytical_update(log_policy, before.advantage, chosen)
        after = evaluate(mdp, jnp.exp(update.log_policy))
        step = account(mdp.gamma, chosen, log_policy, before, update, after)
        return (update.log_policy, after), step

    carry = (log_policy, evaluate(mdp, jnp.exp(log_policy)))
    (log_policy, _), steps = jax.lax.scan(iterate, carry, jnp.arange(num_iterations))
    return log_policy, steps


@checked(constant=CONSTANT)
def iterations_to_optimum(
    mdp: MDP, constant: Constant, fraction: float = 0.99, max_iterations: int = 100_000
) -> jax.Array:
    """Count the updates until `fraction` of `J* - J(uniform)` is gained, `[]` int32.

    They start from the uniform policy: 0 where nothing is gained but rounding, which is
    `8 max|V| / (1 - gamma)` times the precision. `max_iterations` where that many do not suffice.
    """

    def advance(
        carry: tuple[jax.Array, jax.Array, Solution],
    ) -> tuple[jax.Array, jax.Array, Solution]:
        iteration, log_policy, before = carry
        chosen = constant(Iterate(before, log_policy, mdp.gamma, iteration))
        log_policy = analytical_update(log_policy, before.advantage, chosen).log_policy
        return iteration + 1, log_policy, evaluate(mdp, jnp.exp(log_policy))

    log_policy = log_of(uniform_policy(mdp))
    solution = evaluate(mdp, jnp.exp(log_policy))
    gain = jnp.vdot(mdp.start, policy_iteration(mdp).value) - solution.objective
    rounding = attainable(0.0, solution.value / (1.0 - mdp.gamma))
    goal = solution.objective + fraction * jnp.where(gain > rounding, gain, 0.0)
    return jax.lax.while_loop(
        lambda carry: (carry[2].objective < goal) & (carry[0] < max_iterations),
        advance,
        (jnp.zeros((), jnp.int32), log_policy, solution),
    )[0]
