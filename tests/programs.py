"""Tiny configs, parameters to put into networks, and the compiler's options beside the default.

The default, which `conftest.py` sets for all tests, compiles fast and computes slowly.
"""

import jax
import jax.numpy as jnp
import numpy as np

# For programs that compute for longer than they compile.
LONG = {"xla_backend_optimization_level": 1}

EPOCHS = {"num_epochs": 2, "num_minibatches": 2}
TINY = {"num_envs": 4, "num_steps": 4, "hidden_sizes": (4,), **EPOCHS}
# Iterations of 64 steps.
SMALL = {"num_envs": 8, "num_steps": 8, "hidden_sizes": (8, 8), "learning_rate": 0.01}
SMALL_PPO = {**SMALL, **EPOCHS}
# A replay that is overwritten, and is no multiple of what an iteration adds; the first iteration
# learns nothing.
SMALL_REPLAY = {
    **SMALL,
    "num_updates": 4,
    "batch_size": 32,
    "buffer_size": 100,
    "learning_starts": 64,
}


def shaken(tree, seed):
    """Return parameters that are all different from each other and from what they were."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(x + rng.normal(size=x.shape), x.dtype), tree)
