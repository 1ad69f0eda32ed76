"""Networks: initial parameters, shapes, layouts, and a forward pass by hand."""

import functools
import math
import re
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special

from jaxrl_pg.components import layers
from jaxrl_pg.components.networks import ActorCritic, TorsoFields, init_params
from jaxrl_pg.config import Activation
from jaxrl_pg.ops.distributions import Normal
from jaxrl_pg.types import EnvSpec

VECTOR = EnvSpec((4,), True, 3, ())
BOX = EnvSpec((4,), False, 2, (2,))
IMAGE = EnvSpec((10, 10, 4), True, 6, ())
SMALL_IMAGE = EnvSpec((4, 5, 2), True, 3, ())
HIDDEN = TorsoFields((6, 5))
KEY = jax.random.key(0)


def initialiser(network):
    return lambda key: init_params(network, key, network.spec.obs_shape)


@functools.cache
def initial(network):
    return jax.jit(initialiser(network))(KEY)


def observations(spec, n=7, seed=0):
    return np.random.default_rng(seed).normal(size=(n, *spec.obs_shape)).astype(np.float32)


def random_params(network, seed=1):
    """Parameters of which none is zero, so that every one of them matters."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(initialiser(network), KEY)
    return jax.tree.map(lambda leaf: np.float32(0.5 * rng.normal(size=leaf.shape)), shapes)


def by_name(params):
    flat, _ = jax.tree_util.tree_flatten_with_path(params["params"])
    return {"/".join(entry.key for entry in path): leaf for path, leaf in flat}


def named_leaves(params):
    return by_name(jax.tree.map(np.asarray, params))


# --- initial parameters -------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [VECTOR, BOX, IMAGE])
def test_kernels_are_orthogonal_with_their_gains_and_the_rest_is_zero(spec):
    leaves = named_leaves(initial(ActorCritic(spec, HIDDEN)))
    assert sum(name.endswith("kernel") for name in leaves) == (8 if spec is IMAGE else 6)
    for name, leaf in leaves.items():
        if not name.endswith("kernel"):
            assert_array_equal(leaf, np.zeros_like(leaf))
            continue
        gain = {"policy_head": 0.01, "value_head": 1.0}.get(name.split("/")[0], math.sqrt(2))
        matrix = np.float64(leaf.reshape(-1, leaf.shape[-1])) / gain
        tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
        assert_allclose(tall.T @ tall, np.eye(tall.shape[1]), atol=1e-5)


def test_each_kernel_has_a_draw_of_its_own():
    leaves = named_leaves(initial(ActorCritic(VECTOR, HIDDEN)))
    for layer in ("Dense_0", "Dense_1"):
        policy, value = (leaves[f"{part}_torso/{layer}/kernel"] for part in ("policy", "value"))
        assert policy.shape == value.shape
        assert np.abs(policy - value).max() > 0.1


def test_every_key_of_a_vmap_has_a_draw_of_its_own():
    network = ActorCritic(VECTOR, HIDDEN)
    keys = jnp.stack([jax.random.key(1), KEY, jax.random.key(2)])
    stacked = jax.jit(jax.vmap(initialiser(network)))(keys)
    for name, leaf in named_leaves(stacked).items():
        if name.endswith("kernel"):
            assert len({row.tobytes() for row in leaf}) == 3, name
    alone = initial(network)
    jax.tree.map(lambda a, b: assert_allclose(a[1], b, rtol=1e-4, atol=1e-6), stacked, alone)


def external_calls(fn, x):
    compiled = jax.jit(fn).lower(x).compile()
    return set(re.findall(r"lapack_\w+", compiled.as_text())), compiled


def test_initialisation_calls_no_lapack():
    # Two batched decompositions at once wait for each other for ever on a CPU of two cores.
    assert external_calls(jnp.linalg.qr, np.eye(3, dtype=np.float32)[None])[0]
    first, second = (initialiser(ActorCritic(spec, HIDDEN)) for spec in (VECTOR, IMAGE))
    keys = jax.random.split(KEY, 4)
    calls, both = external_calls(jax.vmap(lambda key: (first(key), second(key))), keys)
    assert not calls
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(both(keys)))


# --- the forward pass ---------------------------------------------------------------------------


def apply(network, params, obs):
    return jax.jit(network.apply)(params, obs)


@pytest.mark.parametrize("spec", [VECTOR, BOX])
def test_it_is_a_multilayer_perceptron(spec):
    network, obs = ActorCritic(spec, HIDDEN), observations(spec)
    params = random_params(network)
    leaves = named_leaves(params)

    def layer(name, x):
        return x @ leaves[f"{name}/kernel"] + leaves[f"{name}/bias"]

    def perceptron(part):
        x = obs
        for i in range(2):
            x = np.tanh(layer(f"{part}_torso/Dense_{i}", x))
        return layer(f"{part}_head", x)

    policy, value = apply(network, params, obs)
    assert_allclose(value, perceptron("value")[:, 0], rtol=1e-4, atol=1e-5)
    if spec.discrete:
        assert_allclose(policy, perceptron("policy"), rtol=1e-4, atol=1e-5)
    else:
        assert isinstance(policy, Normal)
        assert_allclose(policy.mean, perceptron("policy"), rtol=1e-4, atol=1e-5)
        assert_allclose(policy.log_std, np.tile(leaves["log_std"], (7, 1)))


def convolution(x, kernel, bias):
    """One 3x3 filter bank over the places it fits, one place at a time."""
    n, height, width, _ = x.shape
    y = np.zeros((n, height - 2, width - 2, kernel.shape[-1]))
    for i in range(height - 2):
        for j in range(width - 2):
            patch = x[:, i : i + 3, j : j + 3]
            y[:, i, j] = np.einsum("nijc,ijcf->nf", patch, kernel) + bias
    return y


@pytest.mark.parametrize("shared", [False, True])
def test_images_pass_a_convolution_first(shared):
    network = ActorCritic(SMALL_IMAGE, TorsoFields((5,), "relu", 3), shared)
    obs, params = observations(SMALL_IMAGE), random_params(network)
    leaves = named_leaves(params)

    def by_hand(part):
        torso = "policy_torso" if shared else f"{part}_torso"
        x = convolution(obs, leaves[f"{torso}/Conv_0/kernel"], leaves[f"{torso}/Conv_0/bias"])
        x = np.maximum(x, 0).reshape(7, -1)
        for name in (f"{torso}/Dense_0", f"{part}_head"):
            x = x @ leaves[f"{name}/kernel"] + leaves[f"{name}/bias"]
            x = x if name.endswith("head") else np.maximum(x, 0)
        return x

    policy, value = apply(network, params, obs)
    assert_allclose(policy, by_hand("policy"), rtol=1e-3, atol=1e-4)
    assert_allclose(value, by_hand("value")[:, 0], rtol=1e-3, atol=1e-4)


def shapes_of(network):
    """Shapes by name, and those of the policy and the value of 7 images of bits."""
    params = jax.eval_shape(initialiser(network), KEY)
    obs = jax.ShapeDtypeStruct((7, *network.spec.obs_shape), jnp.bool_)
    shapes = {name: leaf.shape for name, leaf in by_name(params).items()}
    return shapes, jax.eval_shape(network.apply, params, obs)


def test_shapes_of_a_minatar_network():
    shapes, (policy, value) = shapes_of(ActorCritic(IMAGE, TorsoFields((128,), "relu", 16)))
    for torso in ("policy_torso", "value_torso"):
        assert shapes[f"{torso}/Conv_0/kernel"] == (3, 3, 4, 16)
        assert shapes[f"{torso}/Conv_0/bias"] == (16,)
        assert shapes[f"{torso}/Dense_0/kernel"] == (8 * 8 * 16, 128)
    assert shapes["policy_head/kernel"] == (128, 6)
    assert shapes["value_head/kernel"] == (128, 1)
    assert (policy.shape, value.shape) == ((7, 6), (7,))
    assert policy.dtype == value.dtype == jnp.float32


def test_without_filters_images_are_flattened():
    shapes, _ = shapes_of(ActorCritic(IMAGE, TorsoFields((5,), conv_features=0)))
    assert shapes["policy_torso/Dense_0/kernel"] == (10 * 10 * 4, 5)
    assert not any("Conv" in name for name in shapes)


@pytest.mark.parametrize("spec", [BOX, SMALL_IMAGE])
def test_rows_and_columns_are_one_function_of_one_set_of_parameters(spec, monkeypatch):
    network, obs = ActorCritic(spec, TorsoFields((6, 5), conv_features=3)), observations(spec)
    used = random_params(network)
    results, shapes = [], []

    def loss(params):
        outputs = network.apply(params, obs)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(outputs)), outputs

    for widest in (0, 10**6):
        monkeypatch.setattr(layers, "_WIDEST_COLUMN", widest)
        shapes.append(jax.tree.map(jnp.shape, jax.eval_shape(initialiser(network), KEY)))
        results.append(jax.jit(lambda p: jax.grad(loss, has_aux=True)(p))(used))
    assert shapes[0] == shapes[1]
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-4, atol=1e-5), *results)


@pytest.mark.parametrize(("size", "rows"), [(4, 7), (128, 7), (129, 127), (300, 128)])
def test_narrow_observations_are_turned_and_with_wide_ones_the_kernel_or_product(size, rows):
    network = ActorCritic(EnvSpec((size,), True, 2, ()), TorsoFields((3,)))
    shapes = jax.eval_shape(initialiser(network), KEY)
    program = jax.make_jaxpr(network.apply)(shapes, jnp.zeros((rows, size)))
    turned = {
        line.outvars[0].aval.shape
        for line in program.eqns
        if line.primitive.name == "optimization_barrier"
    }
    wide = {(3, size)} if rows >= 128 else {(rows, 3)}
    assert turned == ({(size, rows)} if size <= 128 else wide)


@pytest.mark.parametrize(("spec", "shared"), [(VECTOR, True), (BOX, False)])
def test_policy_and_value_alone_are_the_two_together(spec, shared):
    network, obs = ActorCritic(spec, HIDDEN, shared_torso=shared), observations(spec)

    def both_ways(params):
        alone = [network.apply(params, obs, method=name) for name in ("policy", "value")]
        return tuple(alone), network.apply(params, obs)

    alone, together = jax.jit(both_ways)(random_params(network))
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-5, atol=1e-6), alone, together)


@pytest.mark.parametrize("shared", [False, True])
def test_torsos_are_shared_only_when_asked(shared):
    network, obs = ActorCritic(VECTOR, HIDDEN, shared_torso=shared), observations(VECTOR)
    params = random_params(network)
    assert ("value_torso" in params["params"]) == (not shared)

    def value(p):
        return jnp.sum(network.apply(p, obs, method="value"))

    gradient = jax.jit(jax.grad(value))(params)["params"]
    touched = max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient["policy_torso"]))
    assert (touched > 0) == shared
    assert all(np.all(np.asarray(x) == 0) for x in jax.tree.leaves(gradient["policy_head"]))


@pytest.mark.parametrize("name", typing.get_args(Activation))
def test_activations(name):
    tanh = math.sqrt(2 / math.pi) * (0.5 + 0.044715 * 0.5**3)
    at_half = {
        "tanh": math.tanh(0.5),
        "relu": 0.5,
        "swish": 0.5 / (1 + math.exp(-0.5)),
        "gelu": 0.25 * (1 + math.tanh(tanh)),
    }
    network = ActorCritic(EnvSpec((1,), True, 1, ()), TorsoFields((1,), name))
    dense = {"kernel": np.ones((1, 1), np.float32), "bias": np.zeros(1, np.float32)}
    torso, head = {"Dense_0": dense}, dense
    params = {"policy_torso": torso, "value_torso": torso, "policy_head": head, "value_head": head}
    policy, value = apply(network, {"params": params}, np.float32([[0.5], [-0.5]]))
    assert_allclose(policy[0, 0], at_half[name], rtol=1e-5)
    assert_allclose(value[0], at_half[name], rtol=1e-5)


def test_first_actions_are_nearly_uniform_and_first_values_are_not_all_zero():
    network, obs = ActorCritic(VECTOR, TorsoFields((32, 32))), observations(VECTOR)
    policy, value = apply(network, initial(network), obs)
    probability = special.softmax(policy, axis=-1)
    assert np.max(np.abs(probability - 1 / 3)) < 0.02
    assert np.std(value) > 0.02
