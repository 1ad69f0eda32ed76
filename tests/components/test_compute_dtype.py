"""Networks that compute in bfloat16: where they do, where not, and how near they are to float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_array_equal

import jaxrl_pg
from jaxrl_pg import agents, precision
from jaxrl_pg.components import critics, layers, memory, networks, own_network
from jaxrl_pg.config import from_dict, to_dict
from jaxrl_pg.envs import observations
from jaxrl_pg.running.memory_estimate import inner_jaxprs
from jaxrl_pg.types import EnvSpec

KEY, NUM, STEPS = jax.random.key(0), 32, 8
NARROW = EnvSpec((4,), True, 3, ())
WIDE = EnvSpec((200,), False, 2, (2,))
IMAGE = EnvSpec((9, 9, 3), True, 4, ())
PARTS = EnvSpec((("far", (3,)), ("image", (6, 6, 2)), ("action_mask", (4,))), True, 4, ())
FIELDS = {"hidden_sizes": (32, 32), "dtype": "bfloat16"}


def torso(**fields):
    return layers.TorsoFields(**{**FIELDS, **fields})


# A network, the values that it is called with besides observations, and its float32 products: the
# heads, of which a `Network` of a policy and a value has two.
NETWORKS = {
    "columns": (networks.ActorCritic(NARROW, torso()), (), 2),
    "rows": (networks.ActorCritic(WIDE, torso(activation="relu", residual=True)), (), 2),
    "shared-norm": (networks.ActorCritic(NARROW, torso(layer_norm=True), True), (), 2),
    "convolution": (networks.ActorCritic(IMAGE, torso(activation="swish")), (), 2),
    "impala": (networks.ActorCritic(IMAGE, torso(cnn="impala")), (), 2),
    "structured": (networks.Policy(PARTS, torso(activation="gelu")), (), 1),
    "twin-critics": (critics.Critics(2, WIDE, 1, torso()), (jnp.ones((NUM, 2)),), 2),
}


def network_of(name, dtype):
    network, rest, heads = NETWORKS[name]
    return network.clone(torso=network.torso._replace(dtype=dtype)), rest, heads


def core_of(core, dtype):
    config = agents.AGENTS["ppo"].Config(**{**FIELDS, "dtype": dtype}, core=core, core_size=16)
    return memory.build(config, NARROW)


def observed(spec):
    """Observations like those that were normalised; images of bits, and every action legal."""
    rng = np.random.default_rng(0)
    blank = observations.blank(spec.obs_shape, NUM)

    def drawn(x):
        if x.dtype == bool:
            return np.ones(x.shape, bool)
        return np.float32(rng.random(x.shape) < 0.3 if x.ndim == 4 else rng.normal(size=x.shape))

    return jax.tree.map(drawn, blank)


def products_of(jaxpr):
    """The types of the operands and of the result of every product of matrices."""
    found = []
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            found.append(tuple(str(v.aval.dtype) for v in (*eqn.invars, *eqn.outvars)))
        for inner in inner_jaxprs(eqn):
            found += products_of(inner)
    return found


def near(found, expected, share):
    """Hold the differences of all numbers to a share of their root mean square."""
    for tree in (found, expected):
        assert {x.dtype for x in jax.tree.leaves(tree)} == {np.dtype("float32")}
    found, expected = (np.asarray(ravel_pytree(tree)[0]) for tree in (found, expected))
    error = np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))
    assert 1e-4 < error < share, error


@pytest.mark.parametrize("name", NETWORKS)
def test_hidden_layers_compute_in_bfloat16_and_heads_and_parameters_in_float32(name):
    network, rest, heads = network_of(name, "bfloat16")
    obs = observed(network.spec)
    params = jax.eval_shape(network.init, KEY, obs, *rest)
    assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype("float32")}
    outputs = jax.eval_shape(network.apply, params, obs, *rest)
    assert {x.dtype for x in jax.tree.leaves(outputs)} == {np.dtype("float32")}
    products = products_of(jax.make_jaxpr(network.apply)(params, obs, *rest).jaxpr)
    assert products.count(("float32",) * 3) == heads
    assert set(products) - {("float32",) * 3} == {("bfloat16",) * 3}


@pytest.mark.parametrize("name", NETWORKS)
def test_float32_stays_without_a_conversion(name):
    network, rest, _ = network_of(name, "float32")
    obs = observed(network.spec)
    params = jax.eval_shape(network.init, KEY, obs, *rest)
    assert "bf16" not in str(jax.make_jaxpr(network.apply)(params, obs, *rest))


# Where a unit of a ReLU is near 0, rounding decides whether it learns.
ERRORS = {
    **dict.fromkeys(("columns", "shared-norm", "structured", "twin-critics"), (0.01, 0.02)),
    **{"convolution": (0.02, 0.02), "rows": (0.01, 0.12)},
}


@pytest.mark.parametrize("name", ERRORS)
def test_outputs_and_gradients_are_near_those_of_float32(name):
    """A bfloat16 keeps 8 bits: it rounds to 1 part in 512 at most, in every layer again."""
    network, rest, _ = NETWORKS[name]
    obs, rng = observed(network.spec), np.random.default_rng(1)
    params = networks.init_params(network, KEY, network.spec.obs_shape, rest and (2,))
    # Heads of a policy begin nearly at 0, where there would be little to compare.
    params = jax.tree.map(lambda x: np.float32(x + 0.05 * rng.normal(size=x.shape)), params)
    weights = jax.tree.map(
        lambda x: np.float32(rng.normal(size=x.shape)),
        jax.eval_shape(network.apply, params, obs, *rest),
    )

    def loss(params, dtype):
        outputs = network_of(name, dtype)[0].apply(params, obs, *rest)
        return jnp.vdot(ravel_pytree(outputs)[0], ravel_pytree(weights)[0]), outputs

    grad = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
    (narrow, found), (wide, expected) = (grad(params, x) for x in ("bfloat16", "float32"))
    share_of_outputs, share_of_gradient = ERRORS[name]
    near(found, expected, share_of_outputs)
    near(narrow, wide, share_of_gradient)


# --- memory -------------------------------------------------------------------------------------


@pytest.mark.parametrize("core", ["gru", "lstm"])
def test_a_core_multiplies_in_bfloat16_and_remembers_in_float32(core):
    """What it remembers is added to at every step, and 8 bits would lose what is added."""
    networks_of = {dtype: core_of(core, dtype) for dtype in ("bfloat16", "float32")}
    rng = np.random.default_rng(0)
    obs = np.float32(rng.normal(size=(NUM, STEPS, 4)))
    hidden = memory.start(networks_of["bfloat16"], NUM)
    assert {x.dtype for x in jax.tree.leaves(hidden)} == {np.dtype("float32")}
    sequences = memory.Sequences(np.zeros((NUM, STEPS), bool), hidden)
    params = jax.eval_shape(lambda key: memory.init_params(networks_of["bfloat16"], key), KEY)
    params = jax.tree.map(lambda x: np.float32(0.3 * rng.normal(size=x.shape)), params)
    found, expected = (
        jax.jit(networks_of[dtype].apply)(params, obs, sequences) for dtype in networks_of
    )
    near(found, expected, 0.02)
    traced = jax.make_jaxpr(networks_of["bfloat16"].apply)(params, obs, sequences)
    assert products_of(traced.jaxpr).count(("float32",) * 3) == 2  # the heads
    after = jax.eval_shape(
        lambda *args: networks_of["bfloat16"].apply(*args, method="step"), params, obs[:, 0], hidden
    )
    assert {x.dtype for x in jax.tree.leaves(after)} == {np.dtype("float32")}


# --- networks and cells of one's own ------------------------------------------------------------


class Half(nn.Module):
    """A module whose layers are the user's, in bfloat16."""

    spec: EnvSpec

    def setup(self):
        self.head = nn.Dense(self.spec.num_actions, dtype=jnp.bfloat16)

    def policy(self, obs):
        return self.head(obs)

    def value(self, obs):
        return self.head(obs)[:, 0]

    def q(self, obs):
        return self.head(obs)

    def encode(self, obs):
        return self.head(obs)


def test_what_a_module_of_ones_own_returns_becomes_float32():
    config, obs = jaxrl_pg.ppo.Config(network=Half), jnp.zeros((NUM, 4))
    parts = {
        "both": own_network.policy_and_value(config, NARROW),
        "q": own_network.critics(config, NARROW, "q", 2),
    }
    for part in parts.values():
        outputs = jax.eval_shape(lambda key, part=part: part.apply(part.init(key), obs), KEY)
        assert {x.dtype for x in jax.tree.leaves(outputs)} == {np.dtype("float32")}
    network = memory.build(jaxrl_pg.ppo.Config(network=Half, core="gru", core_size=4), NARROW)
    network = network.clone(body=HalfHeads(NARROW))
    start = memory.start(network, NUM)
    _, *outputs = jax.eval_shape(
        lambda key: network.apply(memory.init_params(network, key), obs, start, method="step"), KEY
    )
    assert {x.dtype for x in jax.tree.leaves(outputs)} == {np.dtype("float32")}


class HalfHeads(Half):
    """The same around a core."""

    def setup(self):
        self.first = nn.Dense(4, dtype=jnp.bfloat16)
        self.head = nn.Dense(self.spec.num_actions, dtype=jnp.bfloat16)

    def encode(self, obs):
        return self.first(obs)


def test_the_field_says_nothing_about_layers_of_ones_own():
    with pytest.raises(ValueError, match=r"dtype='bfloat16' and network=.*Half.*: give the layers"):
        jaxrl_pg.ppo.Config(network=Half, dtype="bfloat16")


# --- the fields ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"dtype": "bf16"}, "dtype='bf16': did you mean 'bfloat16'? allowed: bfloat16, float32"),
        ({"dtype": "float16"}, "dtype='float16': did you mean 'bfloat16'?"),
        ({"dtype": jnp.bfloat16}, "allowed: bfloat16, float32"),
        (
            {"matmul_precision": "higest"},
            "matmul_precision='higest': did you mean 'highest'? allowed: default, high, highest",
        ),
    ],
)
def test_other_values_are_refused_in_one_line(values, said):
    with pytest.raises(ValueError) as error:
        jaxrl_pg.ppo.Config(**values)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_natural_steps_are_not_taken_in_bfloat16():
    with pytest.raises(ValueError, match=r"dtype='bfloat16': conjugate gradient .*dtype='float32'"):
        jaxrl_pg.natural_gradient.Config(dtype="bfloat16")


def test_both_fields_are_static():
    structures = {
        jax.tree.structure(jaxrl_pg.sac.Config(**values))
        for values in ({}, {"dtype": "bfloat16"}, {"matmul_precision": "high"})
    }
    assert len(structures) == 3


@pytest.mark.parametrize("name", sorted(agents.AGENTS))
def test_a_config_without_the_fields_is_as_its_run_was(name):
    """Float32 networks, and products as JAX was set; other fields keep what they stood for."""
    config = agents.AGENTS[name].Config(env="Pendulum-v1")
    old = {k: x for k, x in to_dict(config).items() if k not in ("dtype", "matmul_precision")}
    assert from_dict(type(config), old) == config.replace(matmul_precision="default")
    if "std_rate" in old:
        for field in ("std_rate", "bound_coef"):
            old.pop(field)
        found = from_dict(type(config), old)
        assert (found.std_rate, found.bound_coef) == (1.0, 0.0)
        assert (found.dtype, found.matmul_precision) == ("float32", "default")


# --- products -----------------------------------------------------------------------------------


def test_on_a_cpu_every_precision_gives_the_same_bits():
    network, obs = network_of("columns", "float32")[0], observed(NARROW)
    params = networks.init_params(network, KEY, NARROW.obs_shape)
    found = []
    for name in ("default", "high", "highest"):
        with precision.products(name):
            grad = jax.jit(jax.grad(lambda p: sum(map(jnp.sum, network.apply(p, obs)))))
            found.append(ravel_pytree(grad(params))[0])
    assert_array_equal(found[0], found[1])
    assert_array_equal(found[0], found[2])


def test_the_default_leaves_products_to_jax():
    x = jnp.ones((2, 2))
    with precision.products("default"):
        assert "HIGH" not in str(jax.make_jaxpr(jnp.dot)(x, x))
        with jax.default_matmul_precision("tensorfloat32"):
            assert "Precision.HIGH," in str(jax.make_jaxpr(jnp.dot)(x, x))
