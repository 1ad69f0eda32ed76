"""The analytical update of a policy from estimated advantages.

    pi_new(a|s) = pi(a|s) exp(A(s,a) / C) / Z(s),    Z(s) = E_{a~pi} exp(A(s,a) / C)

Source: Li, Clavette and He 2022 (arXiv 2112.02045). It is the policy that maximises
`E_{pi_new} A - C KL(pi_new || pi)` in every state, also known as mirror descent or the
exponentiated gradient. C, in units of reward, is the one number to choose: a large C leaves the
policy as it is, and C -> 0 is the greedy policy of policy iteration.

Where the q-values of all actions are estimated, the update is a softmax (`log_target`):

    c = closed_form.constant_for_target(log_policy, advantage, kl_target, max_advantage)
    log_target = closed_form.log_target(log_policy, advantage, c)  # fit the policy to this

Where only the advantages of the actions taken are, `pi_new / pi` is known up to a factor at each of
them, and is normalised over the batch (`log_weights`):

    c = closed_form.constant_for_weights(advantage, kl_target, max_advantage)
    weight = jnp.exp(closed_form.log_weights(advantage, c))  # of a weighted likelihood

C can be the constant of a bound (`paper_constant`, `proved_constant`), follow a schedule
(`scheduled_constant`), or be such that the policy moves by a given KL divergence (`constant_for_kl`
and the two above).

Where the batch is split over devices, `log_weights` and the constants take their means over the
whole of it (`collectives.mean`); arrays are a device's own share.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from jaxrl_pg.ops import collectives

__all__ = [
    "all_action_advantage",
    "centred",
    "certificate",
    "constant_for_kl",
    "constant_for_target",
    "constant_for_weights",
    "log_target",
    "log_weights",
    "paper_constant",
    "proved_constant",
    "scheduled_constant",
    "surrogate_gain",
    "target_kl",
    "weights_kl",
]

Scalar = jax.Array | float
_NUM_HALVINGS = 22
_LOG_SMALLEST, _LOG_LARGEST = -10.0, 15.0  # of C / scale, where a KL target is looked for
_SMALLEST = 1e-12  # of C: advantages may all be 0, and so may gamma
_EXP_EULER = 1.7810724179901979  # the exponential of Euler's constant
_SMALLEST_GAP = 1e-6  # of 1 - gamma, so that constants are finite for every discount


def log_target(log_policy: jax.Array, advantage: jax.Array, constant: Scalar) -> jax.Array:
    """Return the logarithm of the updated policy, `log pi + A / C - log Z`.

    What depends on the state alone cancels, so that q-values in place of the advantage give the
    same. From a uniform policy, `Q / C` makes it the Boltzmann policy `softmax(Q / C)`; with the
    advantage of the entropy-regularised objective of temperature C it is so from any policy, which
    is the projection target of soft actor-critic.

    Args:
        log_policy: `[..., A]` of the old policy, normalised or not; -inf stays -inf.
        advantage: `[..., A]`, in units of reward.
        constant: C > 0 `[]`, in units of reward; the functions here that choose one never return
            0, not even where all advantages are 0.

    Returns:
        `[..., A]`, normalised.

    Raises:
        AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([log_policy, advantage])
    return jax.nn.log_softmax(log_policy + advantage / constant, axis=-1)


def log_weights(advantage: jax.Array, constant: Scalar) -> jax.Array:
    """Return logarithms of self-normalised weights, `w = exp(A / C) / mean(exp(A / C))`.

    `w_i` estimates `pi_new / pi` at the i-th state and action of a batch from pi. There is one
    normaliser for the batch instead of one for each state, which scales how much a state counts
    in a weighted likelihood and not the policy that maximises it. Weighted maximum likelihood with
    these weights is advantage-weighted regression (Peng et al. 2019, arXiv 1910.00177), and REPS
    without absorbed visits (`reps.log_weights`).

    Args:
        advantage: `[N]`, in units of reward; a constant added to all of it cancels.
        constant: C > 0 `[]`, in units of reward.

    Returns:
        `[N]`.
    """
    alpha = advantage / constant
    log_z = jax.nn.logsumexp(alpha) - math.log(advantage.shape[0])
    shift = collectives.mean(log_z)
    return alpha - shift - jnp.log(collectives.mean(jnp.exp(log_z - shift)))


def weights_kl(log_weight: jax.Array) -> jax.Array:
    """Return the KL divergence of weights with mean 1 from uniform ones, `mean(w log w)`.

    It estimates `E_s KL(pi_new || pi)`, with the shift of weight between states on top. Of N
    weights it is at most `log N`, where one row has all the weight.

    Args:
        log_weight: `[N]`, from `log_weights`.

    Returns:
        `[]` in nats, over a device's own rows.
    """
    return jnp.mean(_relative_entropy(log_weight))


def target_kl(log_target: jax.Array, log_policy: jax.Array) -> jax.Array:
    """Return `mean_s KL(pi_new(.|s) || pi(.|s))` in nats, `[]`.

    Args:
        log_target: `[N, A]`, normalised, the new policy's.
        log_policy: `[N, A]`, normalised.

    Raises:
        AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([log_target, log_policy])
    new, old = jnp.exp(log_target), jnp.exp(log_policy)
    log_ratio = jnp.where(new > 0, log_target, 0.0) - jnp.where(new > 0, log_policy, 0.0)
    near = log_ratio < 0.5 * math.log(jnp.finfo(log_ratio.dtype).max)
    terms = old * _relative_entropy(jnp.where(near & (new > 0), log_target - log_policy, 0.0))
    terms = jnp.where(new > 0, jnp.where(near, terms, new * log_ratio - new + old), old)
    return jnp.mean(jnp.sum(terms, axis=-1))


def constant_for_weights(advantage: jax.Array, kl_target: Scalar, scale: jax.Array) -> jax.Array:
    """Return the C at which `weights_kl(log_weights(advantage, C))` is `kl_target`.

    Args:
        advantage: `[N]`.
        kl_target: in nats.
        scale: `[]`, the size of the advantages, as in `constant_for_kl`.

    Returns:
        `[]` in units of reward.
    """
    return constant_for_kl(
        lambda constant: collectives.mean(weights_kl(log_weights(advantage, constant))),
        kl_target,
        scale,
    )


def constant_for_target(
    log_policy: jax.Array, advantage: jax.Array, kl_target: Scalar, scale: jax.Array
) -> jax.Array:
    """Return the C at which `mean_s KL(pi_new || pi)` of `log_target`'s policy is `kl_target`.

    Args:
        log_policy: `[N, A]`, normalised.
        advantage: `[N, A]`.
        kl_target: in nats.
        scale: `[]`, the size of the advantages, as in `constant_for_kl`.

    Returns:
        `[]` in units of reward.
    """

    def divergence(constant: jax.Array) -> jax.Array:
        new = log_target(log_policy, advantage, constant)
        return collectives.mean(target_kl(new, log_policy))

    return constant_for_kl(divergence, kl_target, scale)


def constant_for_kl(
    divergence: Callable[[jax.Array], jax.Array], kl_target: Scalar, scale: jax.Array
) -> jax.Array:
    """Return the C at which an update moves the policy by `kl_target`, by bisection of log C.

    It is then the multiplier of "largest E_{pi'} A with KL(pi' || pi) <= kl_target". Always the
    same number of halvings, so it can be vmapped and holds no branch; C has a relative error below
    1e-5. A target that no C reaches gives the smallest one looked for, `exp(-10)` times `scale`.

    Args:
        divergence: KL `[]` of the update with a given C `[]`, falling in C; the same number on
            all devices. What is not finite counts as too far.
        kl_target: in nats.
        scale: `[]`, the size of the advantages, for example their largest absolute value; C is
            looked for from exp(-10) to exp(15) of it.

    Returns:
        `[]` in the units of `scale`.
    """
    scale = jnp.maximum(scale, _SMALLEST)

    def halve(bracket: tuple[jax.Array, jax.Array], _: None) -> tuple[Any, None]:
        low, high = bracket
        middle = 0.5 * (low + high)
        near = divergence(jnp.exp(middle) * scale) <= kl_target
        return (jnp.where(near, low, middle), jnp.where(near, middle, high)), None

    bracket = (jnp.full_like(scale, _LOG_SMALLEST), jnp.full_like(scale, _LOG_LARGEST))
    (low, high), _ = jax.lax.scan(halve, bracket, None, _NUM_HALVINGS)
    return jnp.exp(0.5 * (low + high)) * scale


def scheduled_constant(start: Scalar, end: Scalar, progress: Scalar, eps: Scalar) -> jax.Array:
    """Return `C = start^(1 - p) end^p eps`: from `start eps` to `end eps` by equal factors.

    Args:
        start: C / eps at progress 0, above 0. `end = start` keeps C / eps constant.
        end: C / eps at progress 1 and after, above 0.
        progress: p, from 0 on.
        eps: `max |A|`, in units of reward.

    Returns:
        `[]` in units of reward.
    """
    share = jnp.minimum(progress, 1.0)
    scale = jnp.exp((1.0 - share) * jnp.log(start) + share * jnp.log(end))
    return jnp.maximum(scale * eps, _SMALLEST)


def paper_constant(gamma: Scalar, eps: Scalar) -> jax.Array:
    """Return `C = gamma^2 eps / (1 - gamma)^3`, as Li, Clavette and He print it.

    It is large for the usual discounts (980,100 eps at 0.99), and steps with it are small.

    Args:
        gamma: discount, in [0, 1].
        eps: `max |A|`, in units of reward.

    Returns:
        `[]` in units of reward; finite for gamma = 1, too.
    """
    return jnp.maximum(jnp.square(gamma) * eps / _gap(gamma) ** 3, _SMALLEST)


def proved_constant(gamma: Scalar, eps: Scalar) -> jax.Array:
    """Return `C = 1.7811 eps / (1 - gamma)`, where 1.7811 is exp of Euler's constant 0.5772.

    With it `|J(pi') - L(pi')| <= C / (1 - gamma) E_{s~d} KL(pi' || pi)` is proved for every
    discount (docs/theory.md), and no smaller number than 1.7811 would do for every discount.

    Args:
        gamma: discount, in [0, 1].
        eps: `max |A|`, in units of reward.

    Returns:
        `[]` in units of reward; finite for gamma = 1, too.
    """
    return jnp.maximum(_EXP_EULER * eps / _gap(gamma), _SMALLEST)


def certificate(
    gain: jax.Array, divergence: jax.Array, constant: jax.Array, gamma: Scalar
) -> jax.Array:
    """Return the lower bound of `J(pi_new) - J(pi)` that follows from a bound with constant C.

        (E_{s~d} E_{a~pi_new} A - C E_{s~d} KL(pi_new || pi)) / (1 - gamma)

    For the analytical update with this very C it is `C / (1 - gamma) E_{s~d} log Z`, which is never
    negative. It holds where A and d are exact; from estimates of them it is an estimate.

    Args:
        gain: `[]`, `E_{s~d} E_{a~pi_new} A`.
        divergence: `[]`, `E_{s~d} KL(pi_new || pi)`, in nats.
        constant: `[]`, with which the bound is proved: `proved_constant`.
        gamma: discount, in [0, 1].

    Returns:
        `[]` in units of the return.
    """
    cost = jnp.where(constant == 0, 0.0, constant * divergence)
    return (gain - cost) / _gap(gamma)


def surrogate_gain(log_ratio: jax.Array, advantage: jax.Array, gamma: Scalar) -> jax.Array:
    """Return the surrogate's gain `L(pi_new) - J(pi) = mean((pi_new / pi - 1) A) / (1 - gamma)`.

    Subtracting 1 changes nothing in the mean, as `E_pi A = 0`, and takes noise away: at
    `pi_new = pi` the estimate is exactly 0.

    Args:
        log_ratio: `[N]`, `log pi_new - log pi` of actions from pi.
        advantage: `[N]`, in units of reward.
        gamma: discount, in [0, 1].

    Returns:
        `[]` in units of the return.

    Raises:
        AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([log_ratio, advantage])
    excess = jnp.expm1(jnp.where(advantage == 0, 0.0, log_ratio))
    return jnp.mean(excess * advantage) / _gap(gamma)


def all_action_advantage(
    q: jax.Array, log_policy: jax.Array, action: jax.Array, estimate: jax.Array, clip: Scalar
) -> jax.Array:
    """Return advantages of all actions, a critic's corrected at the one that was taken.

        U(s,b) = q(s,b) - sum_a pi(a|s) q(s,a)
        A(s,b) = U(s,b) + 1[b = a] min(1 / pi(a|s), clip) (estimate - U(s,a))

    and shifted to `E_pi A = 0`. The clip trades bias for variance:

        clip = 0:         the critic alone
        clip = infinity:  doubly robust: its mean over the taken action is exact if the estimate's
                          mean or the critic is

    Source: Dudik, Langford and Li 2011 (arXiv 1103.4601).

    Args:
        q: `[N, A]`, the critic's.
        log_policy: `[N, A]`, normalised, of the policy that took the actions.
        action: `[N]` int32.
        estimate: `[N]` advantage of the taken action, from the rollout.
        clip: largest weight of the correction.

    Returns:
        `[N, A]`, in units of reward.

    Raises:
        AssertionError: if the shapes of `q` and `log_policy` differ.
    """
    chex.assert_equal_shape([q, log_policy])
    advantage = centred(q, log_policy)
    taken = jax.nn.one_hot(action, q.shape[-1], dtype=q.dtype)
    chance = jnp.sum(jnp.exp(log_policy) * taken, axis=-1)
    error = estimate - jnp.sum(advantage * taken, axis=-1)
    weight = jnp.minimum(1.0 / jnp.maximum(chance, 1e-8), clip)
    return centred(advantage + taken * (weight * error)[:, None], log_policy)


def centred(q: jax.Array, log_policy: jax.Array) -> jax.Array:
    """Return the advantages of q-values, `q(s,b) - sum_a pi(a|s) q(s,a)`.

    Args:
        q: `[N, A]` q-values, or anything that differs from them by a function of the state.
        log_policy: `[N, A]`, normalised.

    Returns:
        `[N, A]`, whose mean under the policy is 0.

    Raises:
        AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([q, log_policy])
    return q - jnp.sum(jnp.exp(log_policy) * q, axis=-1, keepdims=True)


def _relative_entropy(log_ratio: jax.Array) -> jax.Array:
    """Return `r log r - r + 1`, never negative; its mean is that of `r log r` if r's is 1."""
    ratio = jnp.exp(log_ratio)
    return ratio * jnp.where(ratio > 0, log_ratio, 0.0) - jnp.expm1(log_ratio)


def _gap(gamma: Scalar) -> jax.Array:
    return jnp.maximum(1.0 - jnp.asarray(gamma), _SMALLEST_GAP)
