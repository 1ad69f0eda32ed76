"""The guess at how long training takes: operations counted by hand, and what they depend on."""

import jax
import jax.numpy as jnp
import pytest

from jaxrl_pg import actor_critic, ppo, sac
from jaxrl_pg.sweeps import time_estimate


def cost(fn, *args, num_updates=1):
    return time_estimate._cost(jax.make_jaxpr(fn)(*args).jaxpr, num_updates)


def test_a_product_in_a_loop_by_hand():
    def fn(x, w):
        return jax.lax.scan(lambda y, _: (y @ w, None), x, length=7)[0]

    # Seven products [4, 3] @ [3, 3]: 2 * 4 * 3 * 3 = 72 operations, and a kernel of 400, each.
    assert cost(fn, jnp.ones((4, 3)), jnp.ones((3, 3))) == 7 * (72 + 400)


def test_an_element_of_anything_else_by_hand():
    # Two arrays of 5 elements at 8 operations, two kernels of 400.
    assert cost(lambda x: jnp.exp(x) + x, jnp.ones(5)) == 2 * (400 + 5 * 8)


def test_a_convolution_by_hand():
    def fn(image, kernel):
        return jax.lax.conv_general_dilated(
            image, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    # 2 x 4 x 4 x 6 outputs of 3 x 3 x 5 multiplications and additions each, and a kernel.
    made = 2 * 4 * 4 * 6 * 2 * 3 * 3 * 5
    assert cost(fn, jnp.ones((2, 6, 6, 5)), jnp.ones((3, 3, 5, 6))) == made + 400


def test_a_loop_without_a_length_counts_as_the_gradient_steps_if_it_multiplies_matrices():
    def loop(body):
        return lambda x: jax.lax.while_loop(lambda y: y[0, 0] < 1, body, x)

    x = jnp.ones((2, 2))
    product = cost(lambda x: x @ x, x)
    element = cost(lambda x: x + 1, x)
    test = cost(lambda y: y[0, 0] < 1, x)
    assert cost(loop(lambda y: y @ y), x, num_updates=9) == 9 * (product + test)
    assert cost(loop(lambda y: y + 1), x, num_updates=9) == element + test


def test_what_an_agent_costs_follows_its_settings():
    small = {"num_envs": 64, "num_steps": 16, "hidden_sizes": (64, 64)}
    once = time_estimate.operations(ppo.Config(**small, num_epochs=1, num_minibatches=4))
    four = time_estimate.operations(ppo.Config(**small, num_epochs=4, num_minibatches=4))
    # Rollout, values and advantages are done once: about a quarter of a pass over the rows.
    assert 2.5 < four / once < 4
    assert time_estimate.operations(actor_critic.Config(**small)) < once
    some = time_estimate.operations(sac.Config(env="Pendulum-v1", num_updates=8))
    assert time_estimate.operations(
        sac.Config(env="Pendulum-v1", num_updates=64)
    ) / some == pytest.approx(8, rel=0.1)


def test_a_machine_multiplies_matrices_at_some_speed():
    assert 1e8 < time_estimate.speed() < 1e16
