"""The MDP of the worked numbers, which theory, agents and oracles share."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_pg.theory import mdp as mdps

POLICY_G = np.array([[0.6, 0.4], [0.3, 0.7], [0.5, 0.5]])


def mdp_g(gamma, dtype=None):
    """Return an MDP of three states and two actions, all of it formulas.

    P[s,a,k] is proportional to 1 + ((s+1)(a+2)(k+1)) mod 5, r[s,a] = ((3s+5a) mod 7)/7.
    """
    s, a, k = np.ogrid[:3, :2, :3]
    weights = 1.0 + ((s + 1) * (a + 2) * (k + 1)) % 5
    s, a = np.ogrid[:3, :2]
    reward = ((3 * s + 5 * a) % 7) / 7
    made = mdps.make(weights / weights.sum(2, keepdims=True), reward, [0.5, 0.3, 0.2], gamma)
    return made if dtype is None else jax.tree.map(lambda x: jnp.asarray(x, dtype), made)
