"""Boxes of actions with one bound or none: a bound is kept, and where tanh needs two, both are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces
from lines import variant
from numpy.testing import assert_array_equal

from jaxrl_pg import analytical_replay, envs, ppo, sac, td3

INF = float("inf")
SQUASHED = [sac, analytical_replay, td3]


def moved(low, high, size=2):
    return variant(actions=spaces.Box(low, high, (size,)))


@pytest.mark.parametrize("agent", SQUASHED, ids=lambda agent: agent.AGENT.name)
@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (-1.5, INF, "dimension 0 of the actions of Odd is from -1.5 to inf"),
        (-INF, INF, "dimension 0 of the actions of Odd is from -inf to inf"),
        (-np.finfo(np.float32).max, 0.0, "dimension 0 .* is from -3.40282e.38 to 0"),
        (np.array([0.0, -INF]), np.array([1.0, 5.0]), "dimension 1 .* is from -inf to 5"),
    ],
)
def test_squashed_agents_refuse_a_dimension_without_two_bounds(agent, low, high, message):
    config = agent.Config(env=moved(low, high))
    with pytest.raises(ValueError, match=message) as raised:
        jax.eval_shape(agent.init, config, jax.random.key(0))
    assert str(raised.value).startswith(agent.AGENT.name)
    jax.eval_shape(ppo.init, ppo.Config(env=config.env), jax.random.key(0))


@pytest.mark.parametrize("agent", SQUASHED, ids=lambda agent: agent.AGENT.name)
def test_they_take_two_bounds_that_a_parameter_gives(agent):
    def action_space(self, params):
        return spaces.Box(-params.pace, params.pace, (1,))

    env = variant(action_space=action_space)
    init = lambda pace: jax.eval_shape(  # noqa: E731
        agent.init, agent.Config(env=env, env_params={"pace": pace}), jax.random.key(0)
    )
    init(2.0)
    with pytest.raises(ValueError, match=r"from -1e.30 to 1e.30"):
        agent.init(agent.Config(env=env, env_params={"pace": 1e30}), jax.random.key(0))


def test_a_bound_is_never_passed():
    """Below 3 and above -2, one dimension each; the third has none, the fourth has both."""
    low, high = jnp.array([-INF, -2.0, -INF, 0.0]), jnp.array([3.0, INF, INF, 10.0])
    raw = jnp.array([-50.0, -2.5, -0.5, 0.0, 2.5, 3.5, 70.0])
    actions = envs.to_env_action(envs.make(moved(low, high, 4)), jnp.tile(raw[:, None], (1, 4)))
    assert_array_equal(actions[:, 0], jnp.minimum(raw, 3.0))
    assert_array_equal(actions[:, 1], jnp.maximum(raw, -2.0))
    assert_array_equal(actions[:, 2], raw)
    assert_array_equal(actions[:, 3], [0.0, 0.0, 2.5, 5.0, 10.0, 10.0, 10.0])
