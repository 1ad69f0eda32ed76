"""Layers for images and structured observations, against other ways to compute them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from numpy.testing import assert_allclose, assert_array_equal

from jaxrl_pg.components import networks
from jaxrl_pg.components.layers import Impala, Residual, Torso, TorsoFields
from jaxrl_pg.envs import observations
from jaxrl_pg.types import EnvSpec

KEY = jax.random.key(0)
ATARI = EnvSpec((84, 84, 4), True, 6, ())
PARTS = (("place", (3,)), ("image", (4, 5, 2)), ("action_mask", (6,)), ("far", (1,)))
STRUCTURED = EnvSpec(PARTS, True, 6, ())


def torso(cnn="minatar", columns=False, hidden_sizes=(), **fields):
    return Torso(columns, hidden_sizes, fields.pop("activation", "relu"), cnn=cnn, **fields)


def shapes_of(module, shape, dtype=jnp.float32):
    """Parameters and output of images, by shapes alone."""
    images = jax.ShapeDtypeStruct((2, *shape), dtype)
    params = jax.eval_shape(module.init, KEY, images)
    return params, jax.eval_shape(module.apply, params, images)


def count(params):
    return sum(x.size for x in jax.tree.leaves(params))


def drawn(module, x, seed=0):
    """Parameters of which none is zero, so that every one of them matters."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(module.init, KEY, x)
    return jax.tree.map(lambda leaf: np.float32(0.3 * rng.normal(size=leaf.shape)), shapes)


# --- convolutions -------------------------------------------------------------------------------


def test_the_three_convolutions_of_mnih_et_al():
    """84 -> (84 - 8) / 4 + 1 = 20 -> (20 - 4) / 2 + 1 = 9 -> 9 - 3 + 1 = 7; 7 * 7 * 64 = 3136.

    8*8*4*32 + 32 = 8224, 4*4*32*64 + 64 = 32832, 3*3*64*64 + 64 = 36928: 77984 in all.
    """
    params, features = shapes_of(torso("nature"), (84, 84, 4))
    assert features.shape == (2, 3136)
    assert count(params) == 77984
    # The layer of 512 behind them: 3136 * 512 + 512.
    params, features = shapes_of(torso("nature", hidden_sizes=(512,)), (84, 84, 4))
    assert features.shape == (2, 512)
    assert count(params) == 77984 + 1606144


def test_the_fifteen_convolutions_of_espeholt_et_al():
    """Sides are halved and rounded up: 84 -> 42 -> 21 -> 11; 11 * 11 * 32 = 3872.

    A 3x3 convolution from m to n channels has 9 m n + n parameters: 4 -> 16 has 592, 16 -> 16
    2320, 16 -> 32 4640 and 32 -> 32 9248. In stages: 592 + 4 * 2320 = 9872, then
    4640 + 4 * 9248 = 41632, then 9248 + 4 * 9248 = 46240: 97744 in all.
    """
    params, features = shapes_of(torso("impala"), (84, 84, 4))
    assert features.shape == (2, 3872)
    assert count(params) == 97744
    assert len([x for x in jax.tree.leaves(params) if x.ndim == 4]) == 15
    # 10 -> 5 -> 3 -> 2 in MinAtar; 2 * 2 * 32 = 128.
    assert shapes_of(torso("impala"), (10, 10, 4))[1].shape == (2, 128)
    assert shapes_of(torso("impala"), (1, 1, 1))[1].shape == (2, 32)


def test_the_one_convolution_is_what_it_was():
    """10 - 3 + 1 = 8; 8 * 8 * 16 = 1024, and 9 * 4 * 16 + 16 = 592 parameters."""
    params, features = shapes_of(torso(), (10, 10, 4))
    assert (features.shape, count(params)) == ((2, 1024), 592)
    assert shapes_of(torso(conv_features=0), (10, 10, 4))[1].shape == (2, 400)


@pytest.mark.parametrize("cnn", ["nature", "impala", "minatar"])
def test_convolutions_of_ones_own_come_before_what_cnn_names(cnn):
    params, features = shapes_of(torso(cnn, conv_layers=((5, 2),)), (10, 10, 4))
    assert (features.shape, count(params)) == ((2, 9 * 9 * 5), 4 * 4 * 5 + 5)


def test_an_image_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match=r"8x8 does not fit an image of 7x9: give conv_layers"):
        shapes_of(torso("nature"), (7, 9, 4))


def pooled(x):
    """The largest of 3x3, every second one, in loops; what is outside counts as nothing.

    Padded as TensorFlow's SAME: `max(2 (out - 1) + 3 - n, 0)` in all, the smaller half in front.
    """
    num, *sides, channels = x.shape
    sizes = [-(-n // 2) for n in sides]
    top, left = (max(2 * (out - 1) + 3 - n, 0) // 2 for out, n in zip(sizes, sides, strict=True))
    result = np.full((num, *sizes, channels), -np.inf, np.float32)
    for i, j in np.ndindex(*sizes):
        for row, column in np.ndindex(3, 3):
            y, z = 2 * i - top + row, 2 * j - left + column
            if 0 <= y < sides[0] and 0 <= z < sides[1]:
                result[:, i, j] = np.maximum(result[:, i, j], x[:, y, z])
    return result


def convolved(params, x):
    """A 3x3 convolution by flax's own layer."""
    conv = nn.Conv(params["kernel"].shape[-1], (3, 3), padding=1)
    return np.asarray(conv.apply({"params": params}, x))


def residual(params, x):
    y = convolved(params["Conv_0"], np.maximum(x, 0.0))
    return x + convolved(params["Conv_1"], np.maximum(y, 0.0))


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(3).normal(size=(2, 6, 7, 3)).astype(np.float32)


def test_a_residual_block_by_another_convolution(image):
    module = Residual(3)
    params = drawn(module, image)
    expected = residual(params["params"], image)
    assert_allclose(module.apply(params, image), expected, rtol=1e-4, atol=1e-5)
    # With parameters of zero it is the identity.
    nothing = jax.tree.map(jnp.zeros_like, params)
    assert_array_equal(module.apply(nothing, image), image)


def test_the_residual_stack_by_loops(image):
    module = Impala()
    params = drawn(module, image)
    x, inside = image, params["params"]
    for stage in range(3):
        x = pooled(convolved(inside[f"Conv_{stage}"], x))
        for block in range(2):
            x = residual(inside[f"Residual_{2 * stage + block}"], x)
    x = np.maximum(x, 0.0)
    assert x.shape == (2, 1, 1, 32)
    assert_allclose(jax.jit(module.apply)(params, image), x, rtol=1e-3, atol=1e-4)


# --- what features are made of ------------------------------------------------------------------


def test_images_of_bytes_are_divided_by_255_and_nothing_else_is():
    rng = np.random.default_rng(0)
    byte = rng.integers(0, 256, size=(2, 4, 5, 3), dtype=np.uint8)
    flat = torso(conv_features=0)

    def read(x):
        return np.asarray(flat.apply({}, jax.tree.map(jnp.asarray, x)))

    assert_allclose(read(byte), byte.reshape(2, -1) / 255.0, rtol=1e-6)
    assert_array_equal(read(byte.astype(np.float32)), byte.reshape(2, -1))
    assert_array_equal(read(byte > 99), (byte > 99).reshape(2, -1))
    assert_array_equal(read(byte[:, 0, 0]), byte[:, 0, 0])  # a vector of bytes is no image
    assert_allclose(
        read({"a": byte, "b": byte[:, 0, 0]}),
        np.concatenate([byte.reshape(2, -1) / 255.0, byte[:, 0, 0]], axis=1),
        rtol=1e-6,
    )
    assert read(byte).dtype == np.float32


def seen(num=3, seed=0):
    rng = np.random.default_rng(seed)
    shapes = observations.shapes(PARTS)
    arrays = {name: rng.normal(size=(num, *shape)) for name, shape in shapes.items()}
    arrays = {name: jnp.asarray(x, jnp.float32) for name, x in arrays.items()}
    return {**arrays, "action_mask": jnp.asarray(rng.random((num, 6)) < 0.5).at[:, 0].set(True)}


@pytest.mark.parametrize("columns", [False, True])
def test_parts_are_joined_in_the_order_of_their_names_without_the_mask(columns):
    """far, then the image through its convolution, then place: 1 + 2 * 3 * 16 + 3 features."""
    obs = seen()
    module = torso(columns=columns)
    params = drawn(module, obs)
    conv = nn.Conv(16, (3, 3), padding="VALID")
    image = conv.apply({"params": params["params"]["Conv_0"]}, obs["image"])
    expected = np.concatenate(
        [obs["far"], np.maximum(image, 0.0).reshape(3, -1), obs["place"]], axis=1
    )
    features = np.asarray(module.apply(params, obs))
    assert_allclose(features.T if columns else features, expected, rtol=1e-4, atol=1e-5)


def test_every_image_has_convolutions_of_its_own():
    obs = {name: jnp.ones((2, 4, 4, 1)) for name in ("left", "right")}
    params, features = (
        jax.eval_shape(torso().init, KEY, obs),
        jax.eval_shape(lambda: torso().init_with_output(KEY, obs)[0]),
    )
    assert (features.shape, count(params)) == ((2, 2 * 2 * 2 * 16), 2 * (9 * 16 + 16))


@pytest.mark.parametrize(("width", "residual"), [(128, False), (129, False), (129, True)])
def test_wide_observations_stay_rows_until_the_first_layer(width, residual):
    """What it gives, and its gradient, are those of rows throughout, on either side of the limit.

    As many rows as features: a residual layer could then add rows to columns and not notice.
    """
    obs = jnp.asarray(np.random.default_rng(0).normal(size=(width, width)), jnp.float32)
    given = {"hidden_sizes": (width, 3), "residual": residual, "activation": "tanh"}
    rows, columns = (torso(columns=columns, **given) for columns in (False, True))
    params = drawn(rows, obs)

    def loss(params, module):
        features = module.apply(params, obs)
        features = features.T if module.columns else features
        return jnp.sum(features @ jnp.arange(3.0)), features

    (grads, features), (grads_columns, features_columns) = (
        jax.grad(loss, has_aux=True)(params, module) for module in (rows, columns)
    )
    assert_allclose(features_columns, features, rtol=1e-4, atol=1e-4)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-3, atol=1e-3), grads_columns, grads)


def test_rows_and_columns_give_the_same_from_structured_observations():
    obs, outputs = seen(), []
    for columns in (True, False):
        module = Torso(columns, (7, 5), "tanh")
        features = np.asarray(module.apply(drawn(module, obs, seed=1), obs))
        outputs.append(features.T if columns else features)
    assert_allclose(*outputs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shared", [False, True])
def test_the_mask_is_no_input(shared):
    """It forbids, and beyond that neither values nor the other logits depend on it."""
    network = networks.ActorCritic(STRUCTURED, TorsoFields((5,)), shared)
    obs = seen()
    every = {**obs, "action_mask": jnp.ones((3, 6), bool)}
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(lambda key: networks.init_params(network, key, PARTS), KEY)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), shapes)
    apply = jax.jit(network.apply)
    (masked, value), (free, same) = apply(params, obs), apply(params, every)
    assert_array_equal(value, same)
    mask = np.asarray(obs["action_mask"])
    assert_array_equal(np.asarray(masked)[mask], np.asarray(free)[mask])
    assert np.all(np.asarray(masked)[~mask] == -1e9)
    assert np.all(np.abs(np.asarray(free)) < 1e3)


def test_parameters_of_structured_observations_count_no_mask():
    """Policy and value: (1 + 96 + 3) features to 5, 5 to 6 and 5 to 1, a convolution each.

    2 * (100 * 5 + 5) + 5 * 6 + 6 + 5 + 1 + 2 * (9 * 2 * 16 + 16).
    """
    network = networks.ActorCritic(STRUCTURED, TorsoFields((5,)))
    shapes = jax.eval_shape(lambda key: networks.init_params(network, key, PARTS), KEY)
    assert count(shapes) == 2 * 505 + 36 + 6 + 2 * 304


def sizes_in(jaxpr):
    """Of every array of a program, inner programs included."""
    for equation in jaxpr.eqns:
        yield from (x.aval.size for x in equation.outvars)
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from sizes_in(inner)


@pytest.mark.parametrize(("cnn", "hidden"), [("nature", 512), ("impala", 256)])
def test_large_networks_are_made_without_padding_small_kernels_to_large_ones(cnn, hidden):
    """Two torsos, each with a layer of 3136 x 512 or 3872 x 256; one stack would be 16 times that.

    Those took 11 and 13 seconds and 600 and 970 MB to make.
    """
    network = networks.ActorCritic(ATARI, TorsoFields((hidden,), "relu", cnn=cnn))

    def init(key):
        return networks.init_params(network, key, ATARI.obs_shape)

    assert max(sizes_in(jax.make_jaxpr(init)(KEY).jaxpr)) <= 2 * 3136 * 512


def test_kernels_are_orthonormal_whatever_stack_they_were_made_in(monkeypatch):
    """Each but for its gain of sqrt(2), or 0.01 and 1 in the heads; all are different draws."""
    monkeypatch.setattr(networks, "_LARGE_STACK", 100)
    network = networks.ActorCritic(EnvSpec((10, 10, 2), True, 3, ()), TorsoFields((40,), "relu"))
    params = jax.jit(lambda key: networks.init_params(network, key, (10, 10, 2)))(KEY)
    kernels = [x.reshape(-1, x.shape[-1]) for x in jax.tree.leaves(params) if x.ndim > 1]
    assert len(kernels) == 6
    for kernel in kernels:
        tall = kernel if kernel.shape[0] >= kernel.shape[1] else kernel.T
        product = np.asarray(tall.T @ tall, float)
        assert_allclose(product, product[0, 0] * np.eye(len(product)), atol=1e-5)
        assert np.min(np.abs(product[0, 0] - np.array([2.0, 1.0, 1e-4]))) < 1e-5
    one, two = (
        params["params"][f"{name}_torso"]["Dense_0"]["kernel"] for name in ("policy", "value")
    )
    assert np.max(np.abs(one - two)) > 0.01
