"""PPO on one page computes what the library's PPO computes."""

import contextlib
import dataclasses
import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxrl_pg import ppo

FILE = Path(__file__).parents[1] / "examples" / "ppo_one_file.py"
SMALL = {"total_timesteps": 6_400, "num_envs": 8, "num_steps": 32, "num_minibatches": 4}


@pytest.fixture(scope="module")
def one_file():
    spec = importlib.util.spec_from_file_location(FILE.stem, FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def as_dtype(params, dtype):
    return jax.tree.map(lambda x: x.astype(dtype), params)


# In rounding alone they differ: the library multiplies matrices in columns, and its Adam works on
# one long vector. After 2 x 16 gradient steps that is one unit in the last place, of either type.
@pytest.mark.parametrize(
    ("env", "x64", "tolerance"), [("CartPole-v1", False, 1e-6), ("Pendulum-v1", True, 1e-14)]
)
def test_an_iteration_learns_the_same_as_that_of_ppo(one_file, env, x64, tolerance):
    # Time limits inside the rollout, so that the two kinds of ends have to be told apart.
    limit = {"max_steps_in_episode": 20}
    theirs = ppo.Config(env=env, env_params=limit, **SMALL)
    ours = one_file.Config(env=env, env_params=tuple(limit.items()), **SMALL)
    with jax.enable_x64(True) if x64 else contextlib.nullcontext():
        key = jax.random.key(0)
        state, page = ppo.init(theirs, key), one_file.init(ours, key)
        np.testing.assert_array_equal(page.actor[1], state.actor.obs)
        # The initial draws of the layers are flax's there, and ours here.
        assert jax.tree.map(np.shape, page.params) == jax.tree.map(np.shape, state.learner.params)
        params = as_dtype(state.learner.params, np.float64 if x64 else np.float32)
        optimizer = one_file.build(ours)[-1]
        page = page._replace(params=params, opt_state=optimizer.init(params))
        iterate = jax.jit(ppo.iterate), jax.jit(one_file.iterate, static_argnums=0)
        for _ in range(2):
            before = page.params
            state, metrics = iterate[0](theirs, state)
            page, mean_return = iterate[1](ours, page)
            moved = jax.tree.map(lambda x, y: np.max(np.abs(x - y)), page.params, before)
            assert min(jax.tree.leaves(moved)) > 1e-4
            for x, y in zip(
                jax.tree.leaves(page.params), jax.tree.leaves(state.learner.params), strict=True
            ):
                np.testing.assert_allclose(x, y, rtol=0, atol=tolerance)
            np.testing.assert_allclose(mean_return, metrics["train/return_mean"], rtol=1e-6)


def test_its_defaults_are_those_of_ppo(one_file):
    theirs = {f.name: getattr(ppo.Config(), f.name) for f in dataclasses.fields(ppo.Config)}
    page = one_file.Config()._asdict()
    differing = {name for name, value in page.items() if value != theirs[name]}
    assert differing == {"env_params", "total_timesteps"}


def test_it_is_one_page():
    lines = [line for line in FILE.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(lines) <= 150
