"""What the entropy of a policy is good for: the world, or its rewards, change after planning.

A policy is planned for one MDP and lives in another. If the change is the worst one of a certain
set, exactly the soft-optimal policy is the best plan: the theorem of `worst_case`. If it is drawn
from a few possibilities, what a policy earns is in `expected_objective`, and nothing can be said
in general.

Sources: Levine 2018 (arXiv 1805.00909), section 1, for the motive; Eysenbach and Levine 2022
(arXiv 2103.06257) and Brekelmans et al. 2022 (arXiv 2203.12592) for rewards that an adversary
chooses.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import finite, number, unchecked
from jaxrl_pg.theory.checks import checked
from jaxrl_pg.theory.mdp import MDP
from jaxrl_pg.theory.probability import log_of, times
from jaxrl_pg.theory.soft import soft_values
from jaxrl_pg.theory.solve import objective

__all__ = ["adversary", "allowance", "expected_objective", "worst_case"]

Scalar = jax.Array | float


@checked(worlds=unchecked(), chances=finite("W"))
def expected_objective(worlds: MDP, chances: jax.Array, policy: jax.Array) -> jax.Array:
    """Return `sum_w chance_w J_w(pi)`, `[]`, of a policy that does not know in which world it is.

    Args:
        worlds: W MDPs of one shape, along the first axis of every field.
        chances: `[W]`.
        policy: `[S, A]`, the same in all of them.
    """
    return jnp.vdot(chances, jax.vmap(objective, (0, None))(worlds, policy))


@checked(temperature=number(0.0))
def worst_case(mdp: MDP, policy: jax.Array, temperature: Scalar) -> jax.Array:
    """Return the least J of a policy when an adversary changes the rewards, `[]`.

        min { J(pi; r - x) : mean_a exp(x(s,a) / temperature) <= 1 in every state s }
            = J_soft(pi) - temperature log|A| / (1 - gamma)

    So the soft-optimal policy is the one whose worst case is best. *Proof.* For every x, by Gibbs'
    inequality, `E_pi x <= temperature [KL(pi || uniform) + log mean_a exp(x / temperature)]`, of
    which the second part is at most 0 here, with equality for the x of `adversary`; and
    `KL(pi || uniform) = log|A| - H(pi)`. A policy without doubts loses the most.

    Args:
        mdp: the MDP for which it was planned.
        policy: `[S, A]`.
        temperature: what the adversary may do: 0 is nothing; raising the cost of one action alone
            it can take away `temperature log|A|`, and pays for that by giving nothing back
            elsewhere.
    """
    soft = soft_values.evaluate(mdp, policy, temperature).objective
    num_actions = 1.0 * mdp.reward.shape[1]
    return soft - temperature * jnp.log(num_actions) / (1.0 - mdp.gamma)


@checked(temperature=number(0.0))
def adversary(policy: jax.Array, temperature: Scalar) -> jax.Array:
    """Return the x of the worst case, `temperature log(|A| pi)`, `[S, A]`.

    What is done more often than by chance becomes dearer, and what is never done gets a reward
    without limit: -inf. At temperature 0 nothing changes.
    """
    change = log_of(policy) + jnp.log(1.0 * policy.shape[1])
    return times(jnp.asarray(temperature), change)


@checked(change=finite("SA"), temperature=number(0.0, without="low"))
def allowance(change: jax.Array, temperature: Scalar) -> jax.Array:
    """Return `mean_a exp(x / temperature)`, `[S]`: a change is allowed where it is at most 1."""
    return jnp.mean(jnp.exp(change / temperature), axis=1)
