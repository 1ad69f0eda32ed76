"""Soft actor-critic: its losses, and the update that it is a special case of.

These are functions of arrays, so that each can be compared with `soft_values`, which is exact.
Haarnoja et al. is "Soft Actor-Critic" (2018, arXiv 1801.01290), printed with temperature 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory import solve
from jaxrl_pg.theory.arguments import finite, log_rows, logits_of, number, unchecked
from jaxrl_pg.theory.checks import checked
from jaxrl_pg.theory.mdp import MDP
from jaxrl_pg.theory.probability import kl_divergence, log_of_taken
from jaxrl_pg.theory.soft import soft_values

__all__ = [
    "SpecialCase",
    "average_target",
    "policy_loss",
    "q_loss",
    "special_case",
    "value_loss",
]

Scalar = jax.Array | float


class SpecialCase(NamedTuple):
    """The policies `[S, A]` after three forms of one update, see `special_case`.

    Attributes:
        soft_rule: the analytical update with the soft advantage.
        plain_rule: the analytical update with the advantage of the rewards alone.
        projection: the target that soft actor-critic fits its policy to.
    """

    soft_rule: jax.Array
    plain_rule: jax.Array
    projection: jax.Array


@checked(value=finite("N"), log_policy=log_rows("NA"), q=finite("NA"), temperature=number(0.0))
def value_loss(
    value: jax.Array, q: jax.Array, log_policy: jax.Array, temperature: Scalar = 1.0
) -> jax.Array:
    """Return `J_V = 1/2 mean_s (V - E_{a~pi}[Q - temperature log pi])^2`.

    Its gradient is with respect to V only. Source: Haarnoja et al., equation 5.

    Args:
        value: `[N]`.
        q: `[N, A]`.
        log_policy: `[N, A]`.
        temperature: weight of the entropy.
    """
    policy = jnp.exp(log_policy)
    target = jnp.sum(policy * (q - temperature * log_of_taken(policy)), axis=1)
    return 0.5 * jnp.mean(jnp.square(value - jax.lax.stop_gradient(target)))


@checked(q=finite(), gamma=number(0.0, 1.0), target_next_value=finite())
def q_loss(
    q: jax.Array, reward: jax.Array, target_next_value: jax.Array, gamma: Scalar
) -> jax.Array:
    """Return `J_Q = 1/2 mean (Q - r - gamma V_target(s'))^2`.

    Its gradient is with respect to Q only. Source: Haarnoja et al., equations 7 and 8.

    Args:
        q: of the actions taken, any shape.
        reward: the same shape.
        target_next_value: the same shape, V of the target network at the next state.
        gamma: discount.
    """
    target = reward + gamma * target_next_value
    return 0.5 * jnp.mean(jnp.square(q - jax.lax.stop_gradient(target)))


@checked(log_policy=log_rows("NA"), q=finite("NA"))
def policy_loss(log_policy: jax.Array, q: jax.Array, temperature: Scalar = 1.0) -> jax.Array:
    """Return `J_pi = mean_s KL(pi || exp(Q / temperature) / Z)`.

    Its gradient is with respect to the policy only. Source: Haarnoja et al., equation 10.

    Args:
        log_policy: `[N, A]`.
        q: `[N, A]`.
        temperature: weight of the entropy.
    """
    below = q - jnp.max(q, axis=1, keepdims=True)
    log_target = jax.lax.stop_gradient(jax.nn.log_softmax(below / temperature))
    return jnp.mean(kl_divergence(log_policy, log_target))


@checked(target=unchecked())
def average_target(target: Any, online: Any, tau: Scalar) -> Any:
    """Return `tau psi + (1 - tau) psi_target` of two pytrees of the same structure."""
    return jax.tree.map(lambda old, new: tau * new + (1.0 - tau) * old, target, online)


@checked(logits=logits_of(everywhere=True))
def special_case(mdp: MDP, logits: jax.Array, temperature: Scalar) -> SpecialCase:
    """Return soft actor-critic as an analytical update, and the updates it is confused with.

    The update is `pi_new = pi exp(A / C) / Z` with C = temperature, where

        A = Q_soft - temperature log pi - V_soft   gives   softmax(Q_soft / temperature)

    because `log pi` cancels: this is soft actor-critic. Li, Clavette and He 2022 print the target
    as `exp(Q~ / C) / Z` with `Q~ = Q + C log pi` and call Q~ the soft Q; that is the update with
    the plain advantage. The two agree only from the uniform policy: they differ by `log pi`
    and by the entropy to come, which cancel where pi is the fixed point of soft improvement
    without reward.

    Args:
        mdp: the MDP.
        logits: `[S, A]`, finite, of the policy before the update.
        temperature: weight of the entropy, and C.
    """
    log_policy = jax.nn.log_softmax(logits)
    policy = jnp.exp(log_policy)
    plain = solve.evaluate(mdp, policy).advantage
    with_entropy = soft_values.evaluate(mdp, policy, temperature)
    baseline = temperature * log_policy + with_entropy.value[:, None]
    advantage = with_entropy.q - baseline
    return SpecialCase(
        jax.nn.softmax(log_policy + advantage / temperature),
        jax.nn.softmax(log_policy + plain / temperature),
        soft_values.improve(with_entropy.q, temperature),
    )
