"""Every replay agent takes the discount of a target from its rows where they are of many steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from jaxrl_pg import analytical_replay, dqn, sac, soft_q_learning, td3
from jaxrl_pg.components.off_policy import Rows
from programs import shaken

N = 6
AGENTS = [dqn, soft_q_learning, sac, analytical_replay, td3]


def rows_of(discount, box=False):
    rng = np.random.default_rng(0)
    size = 3 if box else 4
    obs, next_obs = (jnp.asarray(rng.normal(size=(N, size)), jnp.float32) for _ in range(2))
    reward = jnp.asarray(rng.normal(size=N), jnp.float32)
    action = jnp.linspace(-1.0, 1.0, N)[:, None] if box else jnp.arange(N) % 2
    return Rows(obs, action, reward, jnp.arange(N) < 2, next_obs, discount)


def critic_loss(agent, config, rows):
    """The loss that an agent's own critic step reports."""
    learner = jax.eval_shape(agent.init, config, jax.random.key(0)).learner
    learner = shaken(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), learner), 0)
    if agent is dqn:
        _, network = agent.build(config)
        return agent._loss(learner.params, config, network, learner.target, rows, 0.1)[0]
    model = agent.build(config)
    if agent is soft_q_learning:
        return agent._loss(learner.params, config, model, learner.target, rows, ())[0]
    if agent is td3:
        return agent._critic_step(config, model, learner, rows, jnp.zeros((N, 1)))[1]["loss/q"]
    if agent is sac:
        params = learner.params.critics, learner.params.value
        return sac._critic_loss(params, config, model, learner, rows, jnp.zeros(N))[0]
    return agent._critic_step(config, model, learner, rows, ())[1]["loss/q"]


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.AGENT.name)
def test_a_discount_in_the_rows_counts_like_a_gamma_of_that_size(agent):
    values = {"hidden_sizes": (4,), "num_steps": 8}
    box = agent is td3
    one = critic_loss(agent, agent.Config(gamma=0.36, **values), rows_of((), box))
    many = agent.Config(gamma=0.6, n_step=2, **values)
    assert_allclose(critic_loss(agent, many, rows_of(jnp.full(N, 0.36), box)), one, rtol=1e-5)
    assert abs(critic_loss(agent, many, rows_of(jnp.full(N, 0.6), box)) - one) > 1e-3
