"""Policies of every kind of network, made without training, and what they are asked."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from boxes import BITS, FREE, INDEX, LARGE, REACH, SMALL

from corridor import CORRIDOR
from jaxrl_pg.running.trained_policy import Policy
from jaxrl_pg.training import devices
from jaxrl_pg.types import TrainState
from structured import FORMS, MASKED, PAIRS

BATCHES = (1, 7, 64)
TINY = {"hidden_sizes": (6, 6)}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "tanh": ("ppo", {**TINY, "env": "CartPole-v1"}),
    "relu-residual-normalised": (
        "ppo",
        {**TINY, "env": FREE, "activation": "relu", "residual": True, "normalize_obs": True},
    ),
    "swish-layer-norm-shared": (
        "ppo",
        {
            **TINY,
            "env": "Pendulum-v1",
            "activation": "swish",
            "layer_norm": True,
            "shared_torso": True,
        },
    ),
    "gelu": ("reinforce", {**TINY, "env": "CartPole-v1", "activation": "gelu"}),
    "no-layers": ("reps", {**TINY, "env": "CartPole-v1", "hidden_sizes": ()}),
    "index": ("actor_critic", {**TINY, "env": INDEX}),
    "index-stacked": ("actor_critic", {**TINY, "env": INDEX, "frame_stack": 3}),
    "minatar": ("ppo", {**TINY, "env": BITS, "conv_features": 2}),
    "nature": ("actor_critic", {**TINY, "env": LARGE, "cnn": "nature"}),
    "impala": ("ppo", {**TINY, "env": SMALL, "cnn": "impala"}),
    "greedy-normalised": ("pqn", {**TINY, "env": "CartPole-v1", "normalize_obs": True}),
    "strides": (
        "ppo",
        {**TINY, "env": SMALL, "conv_layers": ((3, 3, 2, 1), (2, 2)), "normalize_obs": True},
    ),
    "structured-stacked": ("sac", {**TINY, "env": CORRIDOR, "frame_stack": 2}),
    "tuples": ("ppo", {**TINY, "env": FORMS["tuple"]}),
    "masked-greedy": ("dqn", {**TINY, "env": MASKED, "epsilon_end": 0.3}),
    "gru": ("analytical", {**TINY, "env": PAIRS, "core": "gru", "core_size": 5}),
    "lstm": (
        "ppo",
        {**TINY, "env": "Pendulum-v1", "core": "lstm", "core_size": 5, "normalize_obs": True},
    ),
    "tanh-normal": ("sac", {**TINY, "env": REACH}),
    "full-covariance": ("analytical_replay", {**TINY, "env": REACH, "covariance": "full"}),
    "deterministic": ("ddpg", {**TINY, "env": REACH, "exploration_noise": 0.4}),
    "boltzmann": ("soft_q_learning", {**TINY, "env": MASKED, "alpha": 0.5}),
    "sampler": ("soft_q_learning", {**TINY, "env": REACH, "num_particles": 4}),
    "players": ("multi_agent", {**TINY, "env": "CartPole-v1", "factors": (2, 1)}),
    "players-with-views": (
        "multi_agent",
        {
            **TINY,
            "env": "CartPole-v1",
            "factors": (1, 2),
            "views": (1, 3),
            "normalize_obs": True,
            "hidden_sizes": (),
        },
    ),
}


def filled(config):
    """A policy of random parameters, of the size of trained ones; nothing is compiled for it."""
    learner, rng = devices.state_shapes(config).learner, np.random.default_rng(0)

    def draw(path, x):
        name = jax.tree_util.keystr(path)
        if "normalizer" in name:
            count = {"count": 50.0, "low": 0.0}
            known = next((v for part, v in count.items() if part in name), None)
            return np.full(x.shape, known, x.dtype) if known is not None else draws(x) ** 2 + 1
        fan_in = np.prod(x.shape[-4:-1]) if x.ndim > 1 else 9.0
        return draws(x) / np.sqrt(fan_in).astype(np.float32)

    def draws(x):
        return rng.normal(size=x.shape).astype(np.float32)

    learner = jax.tree_util.tree_map_with_path(
        lambda path, x: draw(path, x) if jnp.issubdtype(x.dtype, jnp.floating) else x, learner
    )
    return Policy(config, TrainState(learner, (), (), (), jnp.int32(3)), 3)


def observations(parts, num, rng):
    """Random observations `[num, ...]` as the environment gives them."""
    drawn = {}
    for part in parts:
        shape = (num, *part["shape"])
        if part["kind"] == "discrete":
            drawn[part["name"]] = rng.integers(0, part["num"], num)
        elif part["dtype"] == "uint8":
            drawn[part["name"]] = rng.integers(0, 256, shape).astype(np.uint8)
        elif part["dtype"] == "bool":
            drawn[part["name"]] = rng.random(shape) < 0.4
        else:
            drawn[part["name"]] = rng.normal(size=shape).astype(np.float32)
    return drawn.get("", drawn)


def require_equal(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        y = np.asarray(y)
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        # In units of the box, where that is larger than [-1, 1].
        atol = 0.0 if y.dtype == np.int32 else 1e-6 * max(1.0, np.abs(y).max())
        np.testing.assert_allclose(x, y, rtol=0, atol=atol)
