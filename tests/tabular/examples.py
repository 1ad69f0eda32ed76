"""MDPs that several test files share."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_pg.tabular import mdp as mdps

POLICY_G = np.array([[0.6, 0.4], [0.3, 0.7], [0.5, 0.5]])


def mdp_g(gamma):
    """The MDP of the worked numbers: three states, two actions, all of it formulas.

    P[s,a,k] is proportional to 1 + ((s+1)(a+2)(k+1)) mod 5, r[s,a] = ((3s+5a) mod 7)/7.
    """
    s, a, k = np.meshgrid(range(3), range(2), range(3), indexing="ij")
    weights = 1.0 + ((s + 1) * (a + 2) * (k + 1)) % 5
    transition = weights / weights.sum(axis=2, keepdims=True)
    reward = ((3 * s[..., 0] + 5 * a[..., 0]) % 7) / 7
    return mdps.make(transition, reward, [0.5, 0.3, 0.2], gamma)


@partial(jax.jit, static_argnames=("num", "states", "actions", "sparse"))
def random_mdps(key, num, states, actions, gamma, sparse=False):
    """`num` random MDPs side by side: every leaf has them on its first axis."""
    keys = jax.random.split(key, 4)
    weights = jax.random.exponential(keys[0], (num, states, actions, states))
    if sparse:
        mask = jax.random.uniform(keys[3], weights.shape) < 2.0 / states
        weights = jnp.where(mask, weights, 0.0).at[..., 0].add(1e-3)
    transition = weights / weights.sum(-1, keepdims=True)
    reward = jax.random.normal(keys[1], (num, states, actions))
    start = jax.random.dirichlet(keys[2], jnp.ones(states), (num,))
    gammas = jnp.broadcast_to(jnp.asarray(gamma, transition.dtype), (num,))
    return mdps.MDP(transition, reward, start, gammas)


@partial(jax.jit, static_argnames=("num", "states", "actions"))
def random_policies(key, num, states, actions):
    """`num` policies, from nearly uniform to nearly deterministic."""
    logits_key, scale_key = jax.random.split(key)
    scale = jnp.exp(jax.random.uniform(scale_key, (num, 1, 1), minval=-2.0, maxval=2.0))
    return jax.nn.softmax(scale * jax.random.normal(logits_key, (num, states, actions)))
