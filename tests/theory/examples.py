"""The random problems that several test files share, and numbers of the worked example."""

import numpy as np

from jaxrl_pg.theory import mdp as mdps

LOGITS_G = np.array([[0.2, -0.1], [0.0, 0.3], [-0.4, 0.1]])
# The optimum of mdp_g(0.9), solved independently.
OPTIMAL_VALUE_G = [6.953829440521, 6.602933188485, 7.047981169654]
OPTIMAL_OBJECTIVE_G = 6.867390910737


def random_mdps(seed, num, states, actions, gamma=None, sparse=0.0):
    """Draw `num` random MDPs, along the first axis; discounts are below .99 unless given.

    In the share `sparse` of them, the last ones, a state has about two successors. They are drawn
    by NumPy: compiling JAX's generators takes longer than most of the theorems.
    """
    rng = np.random.default_rng(seed)
    weights = rng.exponential(size=(num, states, actions, states))
    thinned = weights[num - round(sparse * num) :]
    thinned *= rng.uniform(size=thinned.shape) < 2.0 / states
    thinned[..., 0] += 1e-3
    transition = weights / weights.sum(-1, keepdims=True)
    reward = rng.normal(size=(num, states, actions))
    start = rng.dirichlet(np.ones(states), num)
    gammas = rng.uniform(0.0, 0.99, num) if gamma is None else np.full(num, gamma)
    return mdps.MDP(transition, reward, start, gammas)


def random_policies(seed, num, states, actions):
    """Draw `num` policies, from nearly uniform to nearly deterministic."""
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.uniform(-2.0, 2.0, (num, 1, 1)))
    weights = np.exp(scale * rng.normal(size=(num, states, actions)))
    return weights / weights.sum(-1, keepdims=True)


def random_sizes(seed, num, low, high):
    """Draw `num` positive numbers whose logarithms are uniform from `low` to `high`."""
    return np.exp(np.random.default_rng(seed).uniform(low, high, num))
