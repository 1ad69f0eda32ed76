"""A run that two devices share, and what tells two such runs apart."""

import sys

import jax

from compare import assert_bit_equal
from jaxrl_pg import ppo
from programs import SMALL_PPO

CONFIG = ppo.Config(
    **SMALL_PPO,
    anneal_lr=False,
    normalize_obs=True,
    normalize_reward=True,
    num_devices=2,
    total_timesteps=256,
)
OPTIONS = {"quiet": True, "num_evals": 2, "num_eval_episodes": 2}
CLI = [sys.executable, "-c", "import sys; from jaxrl_pg.cli import main; sys.exit(main())"]


def numbers(tree):
    """Yield the leaves, random keys as the numbers they are."""
    for leaf in jax.tree.leaves(tree):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        yield jax.random.key_data(leaf) if is_key else leaf


assert_same_state = assert_bit_equal
