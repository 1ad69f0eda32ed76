"""Float32 is served as well as float64, mixtures of both are no accident, and it is said once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_pg.theory import builders, linear, mdp, solve
from jaxrl_pg.theory.soft import soft_values
from jaxrl_pg.theory.updates import reps


def test_iterations_end_where_rounding_begins():
    maker = jax.jit(jax.vmap(lambda key: builders.random_mdp(key, 6, 3, 0.97)))
    problems = maker(jax.random.split(jax.random.key(2), 6))
    assert problems.reward.dtype == np.float32
    iterated = jax.jit(jax.vmap(lambda m: soft_values.policy_iteration(m, 0.3)))(problems)
    assert np.max(iterated.iterations) < 30
    assert np.all(np.isfinite(iterated.value))
    swept = jax.jit(jax.vmap(solve.value_iteration))(problems)
    assert np.max(swept.iterations) < 2_000
    exact = jax.jit(jax.vmap(solve.policy_iteration))(problems)
    np.testing.assert_allclose(swept.value, exact.value, rtol=1e-3, atol=1e-3)


def test_what_was_made_in_one_precision_is_solved_in_the_other():
    single = builders.chain(4, 0.9)
    with jax.enable_x64(True):
        double = builders.chain(4, 0.9)
        mixed = [
            jax.eval_shape(solve.policy_iteration, single),
            jax.eval_shape(solve.value_iteration, single),
            jax.eval_shape(soft_values.policy_iteration, single, 0.1),
        ]
        assert {str(x.value.dtype) for x in mixed} == {"float32"}
        wide = jax.eval_shape(solve.evaluate, single, np.full((4, 2), 0.5))
        assert wide.value.dtype == np.float64
        log_policy = jax.ShapeDtypeStruct((4, 2), np.float64)
        updated = jax.eval_shape(lambda p: reps.reps_update(single, p, 0.1), log_policy)
        assert updated.value.dtype == np.float64
    assert solve.q_values(double, jnp.zeros(4)).dtype == np.float32


def test_float32_is_said_once(monkeypatch):
    monkeypatch.setattr(linear, "_warned", [])
    chain = builders.chain(3, 0.9)
    with pytest.warns(UserWarning, match="values are float32.*jax_enable_x64"):
        jax.eval_shape(solve.evaluate, chain, mdp.uniform_policy(chain))
    assert len(linear._warned) == 1
    with jax.enable_x64(True):
        chain = builders.chain(3, 0.9)
        jax.eval_shape(solve.evaluate, chain, mdp.uniform_policy(chain))
    assert len(linear._warned) == 1
