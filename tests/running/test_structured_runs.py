"""Runs on structured observations, masks and choices: saved, resumed, loaded, and diverged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import jaxrl_pg
import structured
from compare import assert_bit_equal
from jaxrl_pg import ppo
from jaxrl_pg.running.divergence import first_fault
from jaxrl_pg.types import ActorState, TrainState
from programs import TINY

CONFIG = ppo.Config(
    env=structured.PAIRS,
    frame_stack=2,
    normalize_obs=True,
    anneal_lr=False,
    total_timesteps=96,
    **TINY,
)
OBS = {
    "walker.far": np.zeros((5, 2)),
    "walker.place": np.ones((5, 4)),
    "phase": np.zeros((5, 6)),
    "action_mask": np.eye(6, dtype=bool)[:5].reshape(5, 2, 3),
}


def test_a_run_goes_on_bit_for_bit_and_its_policy_takes_what_is_legal(tmp_path):
    jaxrl_pg.run(CONFIG, tmp_path / "whole")
    jaxrl_pg.run(CONFIG.replace(total_timesteps=48), tmp_path / "parts")
    jaxrl_pg.resume(tmp_path / "parts", total_timesteps=96, env=structured.PAIRS)
    whole, parts = (
        jaxrl_pg.load(tmp_path / name, env=structured.PAIRS) for name in ("whole", "parts")
    )
    assert whole.step == parts.step == 6
    assert_bit_equal(whole.state, parts.state)
    whole.save(tmp_path / "alone")
    alone = jaxrl_pg.load(tmp_path / "alone", env=structured.PAIRS)
    for policy in (whole, alone):
        only = np.stack(np.unravel_index(np.arange(5), structured.NVEC), axis=1)
        assert_array_equal(policy(OBS), only)
        assert_array_equal(policy(OBS, jax.random.key(0)), only)
    assert_array_equal(whole.value(OBS), alone.value(OBS))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.array([0.0, np.nan, 0.0]), "the observation 'far' of environment 1 is nan"),
        (np.full(3, np.inf), "the observation 'far' of all 3 environments is no finite number"),
    ],
)
def test_a_part_that_is_no_finite_number_is_named(value, said):
    obs = {"far": value, "action_mask": np.ones((3, 2), bool)}
    actor = ActorState((), obs, np.zeros(3), np.zeros(3, int), np.zeros(3))
    for given in (actor, jax.tree.map(jnp.asarray, actor)):
        assert first_fault(TrainState((), given, (), jax.random.key(0), 0)) == said


def test_a_row_of_a_replay_names_the_environment_that_it_is_from():
    """Six rows of three environments: the fifth is from the second one."""
    obs = {"far": np.zeros(3), "near": np.zeros(3)}
    actor = ActorState((), obs, np.zeros(3), np.zeros(3, int), np.zeros(3))
    memory = {"obs": {"far": np.array([0.0, 0.0, 0.0, 0.0, np.nan, 0.0])}}
    said = first_fault(TrainState((), actor, memory, jax.random.key(0), 0))
    assert said == "memory['obs']['far'] holds nan in row 4, from environment 1"
