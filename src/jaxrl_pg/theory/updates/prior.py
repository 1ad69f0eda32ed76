"""The analytical update that keeps a prior: pi_new = pi^(1-b) prior^b exp(A / C) / Z.

It maximises, in every state, what the plain update does with the divergence split in two,

    E_{pi'} A - C [(1-b) KL(pi' || pi) + b KL(pi' || prior)],

so b = 0 is the plain update, and b = 1 forgets the old policy and is pulled to the prior alone. The
first two factors are the mixture `pi^(1-b) prior^b / M`, from which this is the plain update; the
mixture costs log(1/M) >= 0 in a state, and with it the guarantee of improvement.

Repeated with the plain advantage it stays where every state pays for its own divergence only:

    pi = prior exp(Q^pi / (b C)) / Z

With the advantage of the objective that counts all of them, J - t E sum_t gamma^t KL(pi || prior)
with t = b C, it goes to that objective's optimum, which is soft-optimal for the reward
`r + t log prior` (`regularised`, and `soft.soft_values` of it). Then it is also the plain update
with the soft advantage, and never loses for b <= 1. At gamma = 0 the two limits are the same.

Sources: Li, Clavette and He 2022 for b = 0; Geist, Scherrer and Pietquin 2019 (arXiv 1901.11275)
for regularised policy iteration; Vieillard et al. 2020 (arXiv 2003.14089) for two regularisers at
once.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import finite, log_rows, number
from jaxrl_pg.theory.checks import checked
from jaxrl_pg.theory.mdp import MDP
from jaxrl_pg.theory.probability import kl_divergence, times
from jaxrl_pg.theory.solve import evaluate
from jaxrl_pg.theory.updates.analytical import Update, analytical_update

__all__ = ["iterate", "mixture", "objective", "prior_update", "regularised", "residual"]

Scalar = jax.typing.ArrayLike


@checked(log_policy=log_rows("...A"), log_prior=log_rows("...A"), share=number(0.0, 1.0))
def mixture(
    log_policy: jax.Array, log_prior: jax.Array, share: Scalar
) -> tuple[jax.Array, jax.Array]:
    """Return the logarithm of the geometric mixture of two policies, and that of its normaliser M.

        pi^(1-b) prior^b / M,     M(s) = sum_a pi^(1-b) prior^b <= 1

    It minimises `(1-b) KL(p || pi) + b KL(p || prior)` over p, at `-log M` (Heskes 1998).

    Args:
        log_policy: `[..., A]`.
        log_prior: `[..., A]`.
        share: b in [0, 1], the prior's share.

    Returns:
        `[..., A]` and `[...]`; where no action is taken by both, and b is neither 0 nor 1, M is 0
        and there is no mixture (NaN).
    """
    share = jnp.asarray(share, log_policy.dtype)
    logits = times(1.0 - share, log_policy) + times(share, log_prior)
    return jax.nn.log_softmax(logits), jax.nn.logsumexp(logits, axis=-1)


@checked(log_prior=log_rows(), share=number(0.0, 1.0))
def prior_update(
    log_policy: jax.Array,
    log_prior: jax.Array,
    advantage: jax.Array,
    constant: Scalar,
    share: Scalar,
) -> Update:
    """Return the policy that maximises `objective`, and the maximum.

        pi_new(a|s) = pi(a|s)^(1-b) prior(a|s)^b exp(A(s,a) / C) / Z(s)

    A may be Q: what depends on the state alone cancels in the policy, and is added to the maximum.

    Args:
        log_policy: `[S, A]`.
        log_prior: `[S, A]`.
        advantage: `[S, A]`.
        constant: C >= 0 `[]`; C = 0 is greedy within the mixture's support.
        share: b in [0, 1], the prior's share.

    Returns:
        The policy, and as `gain` `[S]` the maximum, `C log Z`. At b > 0 it can be negative.
    """
    mixed, log_mass = mixture(log_policy, log_prior, share)
    update = analytical_update(mixed, advantage, constant)
    return Update(update.log_policy, update.gain + times(jnp.asarray(constant), log_mass))


@checked(log_new=log_rows(), log_prior=log_rows(), share=number(0.0, 1.0))
def objective(
    log_new: jax.Array,
    log_policy: jax.Array,
    log_prior: jax.Array,
    advantage: jax.Array,
    constant: Scalar,
    share: Scalar,
) -> jax.Array:
    """Return `E_{pi'} A - C [(1-b) KL(pi' || pi) + b KL(pi' || prior)]` of a policy pi', `[S]`."""
    share = jnp.asarray(share, advantage.dtype)
    near = times(1.0 - share, kl_divergence(log_new, log_policy))
    far = times(share, kl_divergence(log_new, log_prior))
    return jnp.sum(jnp.exp(log_new) * advantage, axis=1) - times(jnp.asarray(constant), near + far)


@checked(log_prior=log_rows(), share=number(0.0, 1.0))
def iterate(
    mdp: MDP,
    log_policy: jax.Array,
    log_prior: jax.Array,
    constant: Scalar,
    share: Scalar,
    num_iterations: int,
) -> jax.Array:
    """Evaluate exactly and update with the plain advantage, `num_iterations` times.

    Returns:
        Every policy, the first one in front, `[num_iterations + 1, S, A]`.
    """

    def step(log_policy: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        advantage = evaluate(mdp, jnp.exp(log_policy)).advantage
        new = prior_update(log_policy, log_prior, advantage, constant, share).log_policy
        return new, new

    _, rest = jax.lax.scan(step, log_policy, None, length=num_iterations)
    return jnp.concatenate([log_policy[None], rest])


@checked(log_policy=finite("SA"), log_prior=finite("SA"))
def residual(
    mdp: MDP, log_policy: jax.Array, log_prior: jax.Array, temperature: Scalar
) -> jax.Array:
    """Return how far a policy is from `prior exp(Q^pi / t) / Z`, the largest difference of logs.

    It is 0, `[]`, where `iterate` with `b C = t > 0` stays.
    """
    q = evaluate(mdp, jnp.exp(log_policy)).q
    there = jax.nn.log_softmax(log_prior + q / temperature)
    return jnp.max(jnp.abs(there - log_policy))


@checked(log_prior=finite("SA"), temperature=number(0.0))
def regularised(mdp: MDP, log_prior: jax.Array, temperature: Scalar) -> MDP:
    """Return the MDP in which entropy is worth what divergence from a prior costs in this one.

        r'(s,a) = r(s,a) + t log prior(a|s),    so that   r'_pi + t H(pi) = r_pi - t KL(pi || prior)

    `soft_values.evaluate` and the like, with this MDP and temperature t, then give values of the
    objective `J - t E sum_t gamma^t KL(pi || prior)` (Levine 2018, arXiv 1805.00909, section 2).

    Args:
        mdp: the MDP.
        log_prior: `[S, A]`, finite: an action that the prior never takes would cost infinitely.
        temperature: t `[]`.
    """
    return mdp._replace(reward=mdp.reward + temperature * log_prior)
