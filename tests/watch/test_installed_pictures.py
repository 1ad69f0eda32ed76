"""The suites that are installed here draw their own states."""

import importlib.util

import jax
import numpy as np
import pytest

from jaxrl_pg import envs, ppo
from jaxrl_pg.envs.adapters.suites import MODULES
from jaxrl_pg.training.recording import Recording
from jaxrl_pg.watch import stages
from jaxrl_pg.watch.scene import Scene

NAMES = [
    "brax:inverted_pendulum",
    "craftax:Craftax-Classic-Symbolic-v1",
    "jumanji:Snake-v1",
    "navix:Navix-DoorKey-5x5-v0",
    "pgx:2048",
    "pgx:minatar-breakout",
    "playground:CartpoleBalance",
    "xminigrid:MiniGrid-DoorKey-6x6",
]


def is_installed(name):
    suite = name.partition(":")[0]
    return importlib.util.find_spec(MODULES.get(suite, suite)) is not None


def twice(x):
    """An array of two steps on the host, of a random key its numbers."""
    is_key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.stack([np.asarray(jax.random.key_data(x) if is_key else x)] * 2)


@pytest.fixture(autouse=True)
def _loose_ranks():
    """Let suites promote ranks, as JAX does unless it is told not to."""
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_a_suites_first_state_is_drawn(name):
    if not is_installed(name):
        pytest.skip("the suite is not installed")
    env = envs.make(name)
    obs, state = jax.jit(env.core.reset_env)(jax.random.key(0), env.params)
    obs, states = jax.tree.map(twice, (obs, state))
    played = Recording(states, obs, np.zeros(1, np.int32), np.zeros(1, np.float32), True, False)
    draw = stages.stage_of(ppo.Config(env=name), env, 120).draw(Scene(env, played, 120), 0)
    picture = draw(0)
    assert picture.shape[1:] == (120, 3)
    assert picture.dtype == np.uint8
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 2
