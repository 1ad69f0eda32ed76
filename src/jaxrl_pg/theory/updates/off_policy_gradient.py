"""The policy gradient from another policy's steps, exactly, and what importance ratios repair."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import number, rows
from jaxrl_pg.theory.checks import checked
from jaxrl_pg.theory.mdp import MDP
from jaxrl_pg.theory.solve import evaluate, visitation

__all__ = ["TwoBets", "clipped_policy", "corrected_gradient", "two_bets", "uncorrected_gradient"]


class TwoBets(NamedTuple):
    """A problem on which learning from another policy's steps goes wrong without ratios.

    Attributes:
        mdp: two states with a choice and an end, `[3, 2, 3]`.
        behaviour: the uniform policy `[3, 2]`.
    """

    mdp: MDP
    behaviour: jax.Array


@checked(behaviour=rows())
def corrected_gradient(mdp: MDP, logits: jax.Array, behaviour: jax.Array) -> jax.Array:
    """Return the off-policy policy gradient of a softmax policy, its expectation over mu's steps.

        E_{s~d_mu, a~mu}[rho A_pi grad log pi] / (1 - gamma),    rho = pi(a|s) / mu(a|s)
        in theta(s,a): d_mu(s) pi(a|s) A_pi(s,a) / (1 - gamma)

    It is the policy gradient but for the weights of the states, which are those of mu. As a
    gradient of `E_{s~d_mu} V_pi` it lacks what Q changes by. With logits that no two states share a
    step along it still lowers V nowhere, by the argument of `neighbours.policy_gradient_step`; with
    parameters that states share it can end in a wrong policy (Imani, Graves and White 2018, arXiv
    1811.09013). For `mu = pi` it is `solve.policy_gradient`. Source: Degris, White and Sutton 2012
    (arXiv 1205.4839), theorem 1.

    Args:
        mdp: the MDP.
        logits: theta `[S, A]`.
        behaviour: mu `[S, A]`.

    Returns:
        `[S, A]`.
    """
    policy = jax.nn.softmax(logits)
    weights = visitation(mdp, behaviour)[:, None] * policy
    return weights * evaluate(mdp, policy).advantage / (1.0 - mdp.gamma)


@checked(behaviour=rows())
def uncorrected_gradient(mdp: MDP, logits: jax.Array, behaviour: jax.Array) -> jax.Array:
    """Return what becomes of `corrected_gradient` where all ratios count as 1.

        E_{s~d_mu, a~mu}[A_mu grad log pi] / (1 - gamma)
        in theta(s,a): d_mu(s) mu(a|s) A_mu(s,a) / (1 - gamma)

    Without ratios the critic's fixed point is the value of mu, and pi's probabilities drop out, for
    `sum_a mu A_mu = 0`. The gradient is the same at every pi: in the states that mu visits the
    policy goes to `argmax_a mu(a|s) A_mu(s,a)` and stays there. That is an improvement of mu, for
    A_mu is not negative there, and not the best policy. Nor is it always the greedy action of Q_mu:
    it is where mu is uniform or chooses between two actions, but an action that is second best and
    that mu takes often goes before the best that it takes seldom.

    Args:
        mdp: the MDP.
        logits: theta `[S, A]`, of which only the shape matters.
        behaviour: mu `[S, A]`.

    Returns:
        `[S, A]`.
    """
    solution = evaluate(mdp, behaviour)
    weights = solution.visitation[:, None] * behaviour
    return weights * solution.advantage / (1.0 - mdp.gamma) + jnp.zeros_like(logits)


@checked(behaviour=rows(), rho_clip=number(0.0, without="low"))
def clipped_policy(
    policy: jax.Array, behaviour: jax.Array, rho_clip: jax.typing.ArrayLike
) -> jax.Array:
    """Return the policy that V-trace evaluates with ratios clipped at `rho_clip`, `[S, A]`.

        pi_rho(a|s) = min(rho_clip mu(a|s), pi(a|s)) / sum_b min(rho_clip mu(b|s), pi(b|s))

    It is pi where no ratio is above `rho_clip`, and mu for one so small that all are. Source:
    Espeholt et al. 2018 (arXiv 1802.01561), equation 2.

    Args:
        policy: pi `[S, A]`.
        behaviour: mu `[S, A]`, positive for an action of every state that pi takes.
        rho_clip: `[]`.
    """
    kept = jnp.minimum(rho_clip * behaviour, policy)
    return kept / jnp.sum(kept, axis=1, keepdims=True)


@checked()
def two_bets(gamma: jax.typing.ArrayLike = 0.9) -> TwoBets:
    """Return the MDP on which learning from uniform steps without ratios ends in the wrong policy.

    In the first state, action 0 pays 0.6 and ends the episode; action 1 pays nothing and leads to
    the second state, where action 0 pays 1 and action 1 pays nothing, and both end the episode.

    The second bet is worth 1 to whoever plays it well, and so gamma in the first state: more than
    0.6 for gamma > 0.6. The uniform policy wins it half of the time: `A_mu(0, 1) < 0`, since
    gamma / 2 < 0.6 for every gamma. Without ratios the critic says so for ever, and the actor stops
    at 0.6. With ratios it says so until pi has learned to win the second bet, which uniform steps
    visit whatever pi does, and then pi goes on to gamma.

    Args:
        gamma: `[]`, above 0.6 for the two to differ.
    """
    transition = jnp.zeros((3, 2, 3)).at[:, :, 2].set(1.0).at[0, 1].set(jnp.eye(3)[1])
    reward = jnp.array([[0.6, 0.0], [1.0, 0.0], [0.0, 0.0]])
    mdp = MDP(transition, reward, jnp.eye(3)[0], jnp.asarray(gamma, reward.dtype))
    return TwoBets(mdp, jnp.full((3, 2), 0.5))
