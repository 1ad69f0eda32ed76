"""Policies and critics of soft actor-critic: forward passes by hand, shapes and layouts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxrl_pg.components import networks
from jaxrl_pg.components.critics import Critics, q_of
from jaxrl_pg.components.networks import TorsoFields
from jaxrl_pg.ops.distributions import Normal
from jaxrl_pg.types import EnvSpec

BOX = EnvSpec((4,), False, 2, (2,))
WIDE = EnvSpec((200,), False, 2, (2,))  # rows inside, where narrow observations are columns
DISCRETE = EnvSpec((4,), True, 3, ())
IMAGE = EnvSpec((5, 5, 2), False, 2, (2,))
KEY = jax.random.key(0)


def random_like(params, seed=1):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: np.float32(rng.normal(size=x.shape) * 0.3), params)


def inputs(spec, n=5):
    rng = np.random.default_rng(2)
    shapes = (spec.obs_shape, spec.action_shape)
    return [np.float32(rng.normal(size=(n, *shape))) for shape in shapes]


def by_hand(tree, x, head):
    """Two dense layers with a relu between, in numpy."""
    first, last = tree["torso"]["Dense_0"], tree[head]
    hidden = np.maximum(0.0, x @ first["kernel"] + first["bias"])
    return hidden @ last["kernel"] + last["bias"]


@pytest.mark.parametrize("spec", [BOX, WIDE], ids=["columns", "rows"])
def test_critics_of_real_actions_by_hand(spec):
    network = Critics(2, spec, 1, TorsoFields((6,), "relu"))
    params = random_like(networks.init_params(network, KEY, spec.obs_shape, spec.action_shape))
    obs, action = inputs(spec)
    q = q_of(network, params, obs, action)
    assert q.shape == (2, 5)
    x = np.concatenate([obs, action], axis=1)
    for i in (0, 1):
        expected = by_hand(params["params"][f"critic_{i}"], x, "value_head")[:, 0]
        assert_allclose(q[i], expected, rtol=1e-4, atol=1e-5)


def test_critics_of_a_finite_set_give_the_value_of_the_action_taken():
    network = Critics(2, DISCRETE, 3, TorsoFields((6,), "relu"))
    params = random_like(networks.init_params(network, KEY, (4,)))
    obs, action = inputs(DISCRETE)[0], np.array([0, 2, 1, 1, 0])
    q = q_of(network, params, obs, action)
    for i in (0, 1):
        every = by_hand(params["params"][f"critic_{i}"], obs, "value_head")
        assert_allclose(q[i], every[range(5), action], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spec", [BOX, WIDE], ids=["columns", "rows"])
def test_a_policy_of_real_actions_by_hand(spec):
    """`log_std` depends on the state and stays within [-20, 2]."""
    network = networks.Policy(spec, TorsoFields((6,), "relu"))
    params = random_like(networks.init_params(network, KEY, spec.obs_shape))
    params["params"]["policy_head"]["bias"][2:] = [30.0, -30.0]
    obs = inputs(spec)[0]
    dist = network.apply(params, obs)
    expected = by_hand(params["params"], obs, "policy_head")
    assert isinstance(dist, Normal)
    assert_allclose(dist.mean, expected[:, :2], rtol=1e-4, atol=1e-5)
    assert_array_equal(dist.log_std, np.broadcast_to([2.0, -20.0], (5, 2)))
    params["params"]["policy_head"]["bias"][2:] = 0.0
    free = network.apply(params, obs).log_std
    expected = by_hand(params["params"], obs, "policy_head")[:, 2:]
    assert_allclose(free, np.clip(expected, -20, 2), rtol=1e-4, atol=1e-5)
    assert np.ptp(free[:, 0]) > 0


@pytest.mark.parametrize("spec", [BOX, WIDE], ids=["columns", "rows"])
def test_a_deterministic_policy_gives_one_number_an_action_dimension(spec):
    network = networks.Policy(spec, TorsoFields((6,), "relu"), "none")
    params = random_like(networks.init_params(network, KEY, spec.obs_shape))
    obs = inputs(spec)[0]
    expected = by_hand(params["params"], obs, "policy_head")
    assert expected.shape == (5, 2)
    assert_allclose(network.apply(params, obs), expected, rtol=1e-4, atol=1e-5)


def test_a_policy_over_a_finite_set_gives_logits():
    network = networks.Policy(DISCRETE, TorsoFields((6,), "relu"))
    params = random_like(networks.init_params(network, KEY, (4,)))
    obs = inputs(DISCRETE)[0]
    expected = by_hand(params["params"], obs, "policy_head")
    assert_allclose(network.apply(params, obs), expected, rtol=1e-4, atol=1e-5)


def test_fresh_critics_differ_and_fresh_policies_hardly_prefer_an_action():
    critics = Critics(2, BOX, 1, TorsoFields((6,), "relu"))
    params = networks.init_params(critics, KEY, (4,), (2,))
    obs, action = inputs(BOX)
    q = q_of(critics, params, obs, action)
    assert np.min(np.abs(q[0] - q[1])) > 1e-3
    policy = networks.Policy(BOX, TorsoFields((6,), "relu"))
    dist = policy.apply(networks.init_params(policy, KEY, (4,)), obs)
    assert np.max(np.abs(dist.mean)) < 0.1
    assert np.max(np.abs(dist.log_std)) < 0.1


def test_images_and_actions_meet_after_the_convolution():
    network = Critics(1, IMAGE, 1, TorsoFields((6,), "relu", 3))
    params = networks.init_params(network, KEY, IMAGE.obs_shape, IMAGE.action_shape)
    torso = params["params"]["critic_0"]["torso"]
    # 3 x 3 places of 3 filters, and 2 action dimensions.
    assert torso["Dense_0"]["kernel"].shape == (3 * 3 * 3 + 2, 6)
    obs, action = inputs(IMAGE)
    slope = jax.grad(lambda a: jnp.sum(q_of(network, params, obs, a)))(action)
    assert np.all(np.any(slope != 0, axis=1))
