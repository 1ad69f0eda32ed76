"""MDPs that several test files share."""

import numpy as np

from jaxrl_pg.theory import mdp as mdps

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


def random_mdps(seed, num, states, actions, gamma=None, sparse=0.0):
    """`num` random MDPs side by side, each leaf's first axis; discounts below .99 unless given.

    In the share `sparse` of them, the last ones, about two states can follow another. Drawn by
    NumPy: compiling JAX's generators takes longer than most of the theorems.
    """
    rng = np.random.default_rng(seed)
    weights = rng.exponential(size=(num, states, actions, states))
    few = weights[num - round(sparse * num) :]
    few *= rng.uniform(size=few.shape) < 2.0 / states
    few[..., 0] += 1e-3
    transition = weights / weights.sum(-1, keepdims=True)
    reward = rng.normal(size=(num, states, actions))
    start = rng.dirichlet(np.ones(states), num)
    gammas = rng.uniform(0.0, 0.99, num) if gamma is None else np.full(num, gamma)
    return mdps.MDP(transition, reward, start, gammas)


def random_policies(seed, num, states, actions):
    """`num` policies, from nearly uniform to nearly deterministic."""
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.uniform(-2.0, 2.0, (num, 1, 1)))
    weights = np.exp(scale * rng.normal(size=(num, states, actions)))
    return weights / weights.sum(-1, keepdims=True)


def random_sizes(seed, num, low, high):
    """`num` positive numbers, their logarithms uniform from `low` to `high`."""
    return np.exp(np.random.default_rng(seed).uniform(low, high, num))
