"""The analytical update of a policy from estimated advantages.

    pi_new(a|s) = pi(a|s) exp(A(s,a) / C) / Z(s),    Z(s) = E_{a~pi} exp(A(s,a) / C)

Source: Li, Clavette and He 2022 (arXiv 2112.02045). Where all actions of a state are judged, this
is a softmax (`log_target`); where only the taken ones are, `pi_new / pi` is known up to a factor at
each of them, and is normalised over the batch (`log_weights`). C is the one number to choose: by
a bound's constant, or so that the policy moves by a given KL divergence (`constant_for_kl`).

Means over a batch that is continued on other devices: give `mean`, which averages over devices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import chex
import jax
import jax.numpy as jnp

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
Mean = Callable[[jax.Array], jax.Array]
_HALVINGS = 22
_LOG_SMALLEST, _LOG_LARGEST = -10.0, 15.0  # of C / scale, where a KL target is looked for
_SMALLEST_GAP = 1e-6  # of 1 - gamma, so that constants are finite for every discount


def _same(x: jax.Array) -> jax.Array:
    return x


def log_target(log_policy: jax.Array, advantage: jax.Array, constant: Scalar) -> jax.Array:
    """The updated policy's logarithm, `log pi + A / C - log Z`, all `[..., A]`.

    What depends on the state alone cancels, so Q in place of the advantage gives the same.

    Args:
        log_policy: of the old policy, normalised or not.
        advantage: in units of reward.
        constant: C > 0 `[]`, in units of reward.
    """
    chex.assert_equal_shape([log_policy, advantage])
    return jax.nn.log_softmax(log_policy + advantage / constant, axis=-1)


def log_weights(advantage: jax.Array, constant: Scalar, mean: Mean = _same) -> jax.Array:
    """Logarithms of self-normalised weights: `w = exp(A / C) / mean(exp(A / C))`, `[N]`.

    `w_i` estimates `pi_new / pi` at the i-th state and action of a batch from pi. There is one
    normaliser for the batch instead of one for each state, which scales how much a state counts
    in a weighted likelihood and not the policy that maximises it.

    Args:
        advantage: `[N]`.
        constant: C > 0 `[]`.
        mean: of a scalar over devices.
    """
    alpha = advantage / constant
    log_z = jax.nn.logsumexp(alpha) - math.log(advantage.shape[0])
    shift = mean(log_z)
    return alpha - shift - jnp.log(mean(jnp.exp(log_z - shift)))


def weights_kl(log_weight: jax.Array) -> jax.Array:
    """KL divergence of weights with mean 1 from uniform ones: `mean(w log w)`, in nats.

    It estimates `E_s KL(pi_new || pi)`, with the shift of weight between states on top.

    Args:
        log_weight: `[N]`, from `log_weights`.
    """
    return jnp.mean(_relative_entropy(log_weight))


def target_kl(log_target: jax.Array, log_policy: jax.Array) -> jax.Array:
    """`mean_s KL(pi_new(.|s) || pi(.|s))` in nats, from normalised logarithms `[N, A]`."""
    chex.assert_equal_shape([log_target, log_policy])
    terms = jnp.exp(log_policy) * _relative_entropy(log_target - log_policy)
    return jnp.mean(jnp.sum(terms, axis=-1))


def constant_for_weights(
    advantage: jax.Array, kl_target: Scalar, scale: jax.Array, mean: Mean = _same
) -> jax.Array:
    """The C at which `weights_kl(log_weights(advantage, C))` is `kl_target`.

    Args:
        advantage: `[N]`.
        kl_target, scale: as in `constant_for_kl`.
        mean: of a scalar over devices.
    """
    divergence = partial(_kl_of_weights, advantage, mean)
    return constant_for_kl(divergence, kl_target, scale)


def constant_for_target(
    log_policy: jax.Array,
    advantage: jax.Array,
    kl_target: Scalar,
    scale: jax.Array,
    mean: Mean = _same,
) -> jax.Array:
    """The C at which `mean_s KL(pi_new || pi)` of `log_target`'s policy is `kl_target`.

    Args:
        log_policy: `[N, A]`, normalised.
        advantage: `[N, A]`.
        kl_target, scale: as in `constant_for_kl`.
        mean: of a scalar over devices.
    """
    divergence = partial(_kl_of_target, log_policy, advantage, mean)
    return constant_for_kl(divergence, kl_target, scale)


def constant_for_kl(
    divergence: Callable[[jax.Array], jax.Array], kl_target: Scalar, scale: jax.Array
) -> jax.Array:
    """The C at which an update moves the policy by `kl_target`, by bisection of log C.

    It is then the multiplier of "largest E_{pi'} A with KL(pi' || pi) <= kl_target". Always the
    same number of halvings, so it can be vmapped and holds no branch; C has a relative error below
    1e-5. A target that no C reaches gives the smallest one looked for, `exp(-10)` times `scale`.

    Args:
        divergence: KL `[]` of the update with a given C `[]`, falling in C; the same number on
            all devices. What is not finite counts as too far.
        kl_target: in nats.
        scale: `[]`, the size of the advantages; C is looked for from exp(-10) to exp(15) of it.
    """
    scale = jnp.maximum(scale, 1e-12)
    bracket = (jnp.full_like(scale, _LOG_SMALLEST), jnp.full_like(scale, _LOG_LARGEST))
    halve = partial(_halve, divergence, kl_target, scale)
    (low, high), _ = jax.lax.scan(halve, bracket, None, _HALVINGS)
    return jnp.exp(0.5 * (low + high)) * scale


def scheduled_constant(start: Scalar, end: Scalar, progress: Scalar, eps: Scalar) -> jax.Array:
    """`C = start^(1 - p) end^p eps`: from `start eps` to `end eps` by equal factors.

    Args:
        start: C / eps at progress 0, above 0.
        end: C / eps at progress 1 and after, above 0.
        progress: p, from 0 on.
        eps: `max |A|`, in units of reward.
    """
    share = jnp.minimum(progress, 1.0)
    return jnp.exp((1.0 - share) * jnp.log(start) + share * jnp.log(end)) * eps


def paper_constant(gamma: Scalar, eps: Scalar) -> jax.Array:
    """`C = gamma^2 eps / (1 - gamma)^3`, as Li, Clavette and He print it.

    Args:
        gamma: discount.
        eps: `max |A|`, in units of reward.
    """
    return jnp.square(gamma) * eps / _gap(gamma) ** 3


def proved_constant(gamma: Scalar, eps: Scalar) -> jax.Array:
    """`C = (4 gamma + (1 - gamma) 2 / log 2) eps / (1 - gamma)`, at most `4 eps / (1 - gamma)`.

    With it `|J(pi') - L(pi')| <= C / (1 - gamma) E_{s~d} KL(pi' || pi)` is proved for every
    discount: docs/theory.md, "a slightly smaller constant".
    """
    return (4.0 * gamma + (1.0 - gamma) * 2.0 / math.log(2.0)) * eps / _gap(gamma)


def certificate(
    gain: jax.Array, divergence: jax.Array, constant: jax.Array, gamma: Scalar
) -> jax.Array:
    """What a bound with C promises of a new policy: a least value of `J(pi_new) - J(pi)`.

        (E_{s~d} E_{a~pi_new} A - C E_{s~d} KL(pi_new || pi)) / (1 - gamma)

    For the analytical update with this very C it is `C / (1 - gamma) E_{s~d} log Z`. It holds
    where A and d are exact; from estimates of them it is an estimate.

    Args:
        gain: `[]`, `E_{s~d} E_{a~pi_new} A`.
        divergence: `[]`, `E_{s~d} KL(pi_new || pi)`.
        constant: `[]`, with which the bound is proved: `proved_constant`.
        gamma: discount.
    """
    return (gain - constant * divergence) / _gap(gamma)


def surrogate_gain(log_ratio: jax.Array, advantage: jax.Array, gamma: Scalar) -> jax.Array:
    """The surrogate's `L(pi_new) - J(pi)`: `mean((pi_new / pi - 1) A) / (1 - gamma)`, `[]`.

    Subtracting 1 changes nothing in the mean, as `E_pi A = 0`, and takes noise away.

    Args:
        log_ratio: `[N]`, `log pi_new - log pi` of actions from pi.
        advantage: `[N]`.
        gamma: discount.
    """
    chex.assert_equal_shape([log_ratio, advantage])
    return jnp.mean(jnp.expm1(log_ratio) * advantage) / _gap(gamma)


def all_action_advantage(
    judged: jax.Array, log_policy: jax.Array, action: jax.Array, estimate: jax.Array, clip: Scalar
) -> jax.Array:
    """Advantages of all actions, a critic's corrected at the one that was taken.

        U = q - sum_a pi(a|s) q(s,a)
        A(s,b) = U(s,b) + 1[b = a] min(1 / pi(a|s), clip) (estimate - U(s,a))

    and shifted to `E_pi A = 0`. With no clip it is doubly robust: its mean over the taken action
    is exact if the estimate's mean or the critic is (Dudik, Langford and Li 2011).

    Args:
        judged: `[N, A]` q, the critic's.
        log_policy: `[N, A]`, normalised, of the policy that took the actions.
        action: `[N]` int32.
        estimate: `[N]` advantage of the taken action, from the rollout.
        clip: largest weight of the correction; 0 believes the critic alone.

    Returns:
        `[N, A]`, in units of reward.
    """
    chex.assert_equal_shape([judged, log_policy])
    advantage = centred(judged, log_policy)
    taken = jax.nn.one_hot(action, judged.shape[-1], dtype=judged.dtype)
    chance = jnp.sum(jnp.exp(log_policy) * taken, axis=-1)
    error = estimate - jnp.sum(advantage * taken, axis=-1)
    weight = jnp.minimum(1.0 / jnp.maximum(chance, 1e-8), clip)
    return centred(advantage + taken * (weight * error)[:, None], log_policy)


def centred(judged: jax.Array, log_policy: jax.Array) -> jax.Array:
    """`q(s,b) - sum_a pi(a|s) q(s,a)`: the advantages that action values stand for, `[N, A]`.

    Args:
        judged: `[N, A]` q, or anything that differs from it by a function of the state.
        log_policy: `[N, A]`, normalised.
    """
    chex.assert_equal_shape([judged, log_policy])
    return judged - jnp.sum(jnp.exp(log_policy) * judged, axis=-1, keepdims=True)


def _relative_entropy(log_ratio: jax.Array) -> jax.Array:
    """`r log r - r + 1`, of which none is negative; its mean is that of `r log r` if r's is 1."""
    return jnp.exp(log_ratio) * log_ratio - jnp.expm1(log_ratio)


def _kl_of_weights(advantage: jax.Array, mean: Mean, constant: jax.Array) -> jax.Array:
    return mean(weights_kl(log_weights(advantage, constant, mean)))


def _kl_of_target(
    log_policy: jax.Array, advantage: jax.Array, mean: Mean, constant: jax.Array
) -> jax.Array:
    return mean(target_kl(log_target(log_policy, advantage, constant), log_policy))


def _halve(
    divergence: Callable[[jax.Array], jax.Array],
    kl_target: Scalar,
    scale: jax.Array,
    bracket: tuple[jax.Array, jax.Array],
    _: None,
) -> tuple[tuple[jax.Array, jax.Array], None]:
    low, high = bracket
    middle = 0.5 * (low + high)
    near = divergence(jnp.exp(middle) * scale) <= kl_target
    return (jnp.where(near, low, middle), jnp.where(near, middle, high)), None


def _gap(gamma: Scalar) -> jax.Array:
    return jnp.maximum(1.0 - jnp.asarray(gamma), _SMALLEST_GAP)
