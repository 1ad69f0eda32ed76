"""The methods related to the analytical update, each as one exact step on a finite MDP.

A step is `(mdp, log_policy, ...) -> log_policy`; log-probabilities `[S, A]` are logits too, and
gradients are taken with respect to them. The deep methods have exact advantages and visitations
here in place of their estimates, which leaves the update itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import function, unchecked
from jaxrl_pg.theory.checks import checked
from jaxrl_pg.theory.mdp import MDP, greedy_policy
from jaxrl_pg.theory.probability import kl_divergence, log_of, mean_over, times
from jaxrl_pg.theory.solve import Solution, evaluate, policy_gradient
from jaxrl_pg.theory.updates.analytical import analytical_update

__all__ = [
    "Mixture",
    "a2c_step",
    "ascend",
    "clipped_surrogate",
    "conservative_step",
    "likelihood_surrogate",
    "natural_gradient_step",
    "penalised_surrogate",
    "policy_gradient_step",
    "policy_iteration_step",
    "ppo_step",
    "reverse_projection",
    "surrogate",
    "trust_region_step",
]

_HALVINGS = 30


class Mixture(NamedTuple):
    """The result of a conservative step.

    Attributes:
        log_policy: `[S, A]`.
        rate: alpha `[]`, the share of the greedy policy in it.
        certificate: `[]`, the guaranteed change of J.
    """

    log_policy: jax.Array
    rate: jax.Array
    certificate: jax.Array


@checked()
def policy_iteration_step(mdp: MDP, log_policy: jax.Array) -> jax.Array:
    """Return the greedy policy of Q, the first best action in every state (Howard 1960)."""
    return log_of(greedy_policy(evaluate(mdp, jnp.exp(log_policy)).q))


@checked()
def conservative_step(mdp: MDP, log_policy: jax.Array) -> Mixture:
    """Take a step of conservative policy iteration, a mixture with the greedy policy pi_g.

        pi_new = (1 - alpha) pi + alpha pi_g,   G = E_{s~d} E_{pi_g} A,   w = max_s |E_{pi_g} A|
        J(pi_new) - J(pi) >= [alpha G - 2 alpha^2 gamma w / (1 - gamma)] / (1 - gamma)

    with the alpha in [0, 1] that maximises the right side. Source: Kakade and Langford 2002,
    theorem 4.1, its `1 - gamma (1 - alpha)` bounded by `1 - gamma`.
    """
    solution = evaluate(mdp, jnp.exp(log_policy))
    greedy = greedy_policy(solution.q)
    gains = jnp.sum(greedy * solution.advantage, axis=1)
    gain = jnp.vdot(solution.visitation, gains)
    curvature = 2.0 * mdp.gamma * jnp.max(jnp.abs(gains)) / (1.0 - mdp.gamma)
    interior = gain / jnp.where(curvature > 0, 2.0 * curvature, 1.0)
    rate = jnp.where(curvature > 0, jnp.clip(interior, 0.0, 1.0), 1.0)
    mixed = (1.0 - rate) * jnp.exp(log_policy) + rate * greedy
    certificate = (rate * gain - rate**2 * curvature) / (1.0 - mdp.gamma)
    return Mixture(log_of(mixed), rate, certificate)


@checked()
def natural_gradient_step(
    mdp: MDP, log_policy: jax.Array, step_size: jax.typing.ArrayLike
) -> jax.Array:
    """Take a natural policy gradient step of a softmax policy, `theta + eta F^+ grad J`.

        F = E_{s~d, a~pi}[grad log pi grad log pi^T],   F^+ grad J = A / (1 - gamma) + f(s)

    and f(s) shifts the logits of a state alike, so this is the analytical update with
    C = (1 - gamma) / eta; it is also policy mirror descent with step eta / (1 - gamma) on Q and
    the KL divergence. Sources: Kakade 2001; Agarwal et al. 2021.
    """
    advantage = evaluate(mdp, jnp.exp(log_policy)).advantage
    return analytical_update(log_policy, advantage, (1.0 - mdp.gamma) / step_size).log_policy


@checked()
def policy_gradient_step(
    mdp: MDP, log_policy: jax.Array, learning_rate: jax.typing.ArrayLike
) -> jax.Array:
    """Take a step of exact gradient ascent on J in logits, which never lowers J at any rate.

    With x = d(s) pi(a|s) A(s,a) / (1 - gamma) the new policy is proportional to pi exp(eta x), so
    that E_pi_new A has the sign of sum_a pi A exp(eta x). This is 0 at eta = 0 and grows with eta,
    in every state; the performance-difference lemma does the rest. It needs exact advantages and
    logits that no two states share.
    """
    return jax.nn.log_softmax(log_policy + learning_rate * policy_gradient(mdp, log_policy))


@checked()
def ppo_step(
    mdp: MDP,
    log_policy: jax.Array,
    learning_rate: jax.typing.ArrayLike,
    clip_eps: jax.typing.ArrayLike = 0.2,
    num_steps: int = 10,
) -> jax.Array:
    """Take `num_steps` of gradient ascent on PPO's clipped objective (Schulman et al. 2017)."""
    solution = evaluate(mdp, jnp.exp(log_policy))
    return ascend(
        lambda logits: clipped_surrogate(solution, log_policy, clip_eps, logits),
        log_policy,
        learning_rate,
        num_steps,
    )


@checked()
def a2c_step(
    mdp: MDP, log_policy: jax.Array, learning_rate: jax.typing.ArrayLike, num_steps: int = 10
) -> jax.Array:
    """Take `num_steps` of gradient ascent on A2C's objective, all with the data of the old policy.

    Its gradient, `d(s) pi_old(a|s) A(s,a)` because E_pi_old A = 0, is the same at every step: all
    of them are one policy-gradient step with the rate (1 - gamma) learning_rate num_steps, which
    only their number limits.
    """
    solution = evaluate(mdp, jnp.exp(log_policy))
    return ascend(
        lambda logits: likelihood_surrogate(solution, log_policy, logits),
        log_policy,
        learning_rate,
        num_steps,
    )


@checked()
def trust_region_step(mdp: MDP, log_policy: jax.Array, target: jax.typing.ArrayLike) -> jax.Array:
    """Take a step of TRPO, along the natural gradient with `E_d KL(pi || pi_new) <= target`.

    The first length is that at which the quadratic model of the KL meets the target,
    `sqrt(2 target / E_{d,pi} A^2)`. The step is halved until it keeps the constraint and does not
    lower the surrogate; after 30 halvings the policy stays. Source: Schulman et al. 2015,
    appendix C.
    """
    solution = evaluate(mdp, jnp.exp(log_policy))

    def refused(carry: tuple[jax.Array, jax.Array]) -> jax.Array:
        halvings, length = carry
        log_new = jax.nn.log_softmax(log_policy + length * solution.advantage)
        kl = mean_over(solution.visitation, kl_divergence(log_policy, log_new))
        gain = jnp.sum(jnp.exp(log_new) * solution.advantage, axis=1)
        allowed = (kl <= target) & (jnp.vdot(solution.visitation, gain) >= 0.0)
        return ~allowed & (halvings < _HALVINGS)

    weights = solution.visitation[:, None] * jnp.exp(log_policy)
    norm = jnp.sum(weights * solution.advantage**2)
    length = jnp.where(norm > 0, jnp.sqrt(2.0 * target / jnp.where(norm > 0, norm, 1.0)), 0.0)
    carry = (jnp.zeros((), jnp.int32), length)
    halvings, length = jax.lax.while_loop(refused, lambda x: (x[0] + 1, 0.5 * x[1]), carry)
    length = jnp.where(halvings < _HALVINGS, length, 0.0)
    return jax.nn.log_softmax(log_policy + length * solution.advantage)


# --- objectives, functions of the last argument, the logits ---------------------------------------


@checked()
def surrogate(solution: Solution, log_old: jax.Array, logits: jax.Array) -> jax.Array:
    """Return `E_{s~d, a~pi_old}[ratio A]` `[]`, the first order of (1 - gamma) times J's change."""
    ratio, weights = _ratio(solution, log_old, logits, solution.advantage == 0)
    return jnp.sum(weights * ratio * solution.advantage)


@checked()
def clipped_surrogate(
    solution: Solution, log_old: jax.Array, clip_eps: jax.typing.ArrayLike, logits: jax.Array
) -> jax.Array:
    """Return `E_{s~d, a~pi_old} min(ratio A, clip(ratio, 1 - eps, 1 + eps) A)` `[]`.

    Source: Schulman et al. 2017 (arXiv 1707.06347), equation 7.
    """
    ratio, weights = _ratio(solution, log_old, logits, solution.advantage >= 0)
    clipped = jnp.clip(ratio, 1.0 - clip_eps, 1.0 + clip_eps)
    return jnp.sum(weights * jnp.minimum(ratio * solution.advantage, clipped * solution.advantage))


@checked()
def likelihood_surrogate(solution: Solution, log_old: jax.Array, logits: jax.Array) -> jax.Array:
    """Return `E_{s~d, a~pi_old}[A log pi(a|s)]` `[]`, the objective of A2C (Mnih et al. 2016)."""
    weights = solution.visitation[:, None] * jnp.exp(log_old) * solution.advantage
    return jnp.sum(weights * jnp.where(weights == 0, 0.0, jax.nn.log_softmax(logits)))


@checked()
def penalised_surrogate(
    solution: Solution, log_old: jax.Array, constant: jax.typing.ArrayLike, logits: jax.Array
) -> jax.Array:
    """Return `E_{s~d}[E_pi A - C KL(pi || pi_old)]` `[]`, maximised by the analytical update."""
    log_policy = jax.nn.log_softmax(logits)
    kl = kl_divergence(log_policy, log_old)
    gain = jnp.sum(jnp.exp(log_policy) * solution.advantage, axis=1)
    return mean_over(solution.visitation, gain - times(jnp.asarray(constant, kl.dtype), kl))


@checked()
def reverse_projection(
    visitation: jax.Array, log_target: jax.Array, logits: jax.Array
) -> jax.Array:
    """Return `E_{s~d} KL(pi || target)` `[]`, to be minimised.

    With the analytical update as the target it is the penalised surrogate again:

        grad KL(pi || pi_new) = -(1/C) grad [E_pi A - C KL(pi || pi_old)]   in every state.
    """
    return mean_over(visitation, kl_divergence(jax.nn.log_softmax(logits), log_target))


@checked(goal=function("of logits [S, A]"), logits=unchecked())
def ascend(
    goal: Callable[[jax.Array], jax.Array],
    logits: jax.Array,
    learning_rate: jax.typing.ArrayLike,
    num_steps: int,
) -> jax.Array:
    """Take `num_steps` of gradient ascent on `goal`; return a normalised `log_policy [S, A]`."""
    gradient = jax.grad(goal)
    logits = jax.lax.fori_loop(0, num_steps, lambda _, x: x + learning_rate * gradient(x), logits)
    return jax.nn.log_softmax(logits)


def _ratio(
    solution: Solution, log_old: jax.Array, logits: jax.Array, harmless: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return pi / pi_old and the weights of the states and actions.

    The ratio is 1 where pi_old is 0, and bounded where the objective does not depend on how large
    it is, so that no infinite one is multiplied by 0.
    """
    weights = solution.visitation[:, None] * jnp.exp(log_old)
    taken = weights > 0
    log_policy = jnp.where(taken, jax.nn.log_softmax(logits), 0.0)
    log_ratio = log_policy - jnp.where(taken, log_old, 0.0)
    large = 0.9 * jnp.log(jnp.finfo(log_ratio.dtype).max).astype(log_ratio.dtype)
    return jnp.exp(jnp.where(harmless, jnp.minimum(log_ratio, large), log_ratio)), weights
