"""A network and an optimiser of the user's own, in every agent that takes them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from numpy.testing import assert_allclose, assert_array_equal

import jaxrl_pg
from jaxrl_pg import agents
from jaxrl_pg.components import layers, networks, optim, own_network
from jaxrl_pg.components.networks import TorsoFields
from jaxrl_pg.ops.distributions import Normal
from jaxrl_pg.types import EnvSpec

SIZES = {"num_envs": 4, "num_steps": 8, "hidden_sizes": (8,), "total_timesteps": 4 * 32}
EPOCHS = {"num_epochs": 1, "num_minibatches": 2}
REPLAY = {"learning_starts": 32, "num_updates": 2, "batch_size": 8, "buffer_size": 64}
CASES = {
    "ppo": {**SIZES, **EPOCHS},
    "ppo-box": {**SIZES, **EPOCHS, "env": "Pendulum-v1"},
    "actor_critic": SIZES,
    "natural_gradient": {**SIZES, **EPOCHS},
    "off_policy_actor_critic": {**SIZES, "buffer_size": 64, "critic": "gradient_td"},
    "reps": {**SIZES, **EPOCHS, "critic_epochs": 1},
    "analytical": {**SIZES, **EPOCHS, "target": "all_actions"},
    "sac": {**SIZES, **REPLAY},
    "sac-box": {**SIZES, **REPLAY, "env": "Pendulum-v1", "variant": "value"},
    "soft_q_learning": {**SIZES, **REPLAY},
    "td3": {**SIZES, **REPLAY, "env": "Pendulum-v1"},
    "soft_q_learning-box": {**SIZES, **REPLAY, "env": "Pendulum-v1", "num_particles": 2},
    "pqn": {**SIZES, **EPOCHS},
    "dqn": {**SIZES, **REPLAY},
    "analytical_replay-box": {
        **SIZES,
        **REPLAY,
        "env": "Pendulum-v1",
        "num_actions_sampled": 3,
    },
}


class Own(nn.Module):
    """Two layers shared by policy and value, and a q-function beside them."""

    spec: EnvSpec

    def setup(self):
        self.body, self.q_body = nn.Dense(5), nn.Dense(6)
        size = self.spec.num_actions
        self.head = nn.Dense(size if self.spec.discrete else 2 * size)
        self.value_head = nn.Dense(1)
        self.q_head = nn.Dense(size if self.spec.discrete else 1)

    def policy(self, obs):
        head = self.head(nn.tanh(self.body(obs)))
        return head if self.spec.discrete else Normal(*jnp.split(head, 2, axis=1))

    def value(self, obs):
        return self.value_head(nn.tanh(self.body(obs)))[:, 0]

    def q(self, obs, action=None):
        x = obs if action is None else jnp.concatenate([obs, action], axis=1)
        q = self.q_head(nn.tanh(self.q_body(x)))
        return q if action is None else q[:, 0]

    def sampler(self, obs, noise):
        head = self.head(nn.tanh(self.q_body(jnp.concatenate([obs, noise], axis=1))))
        return head[:, : self.spec.num_actions]


def adamw(learning_rate):
    return optax.adamw(learning_rate, weight_decay=0.1)


def config_of(case, **changes):
    return agents.AGENTS[case.partition("-")[0]].Config(**{**CASES[case], **changes})


def train(config, key=0):
    return jax.jit(jaxrl_pg.train)(config, jax.random.key(key))


@pytest.mark.parametrize("case", CASES)
def test_an_agent_learns_with_them_as_with_its_own(case):
    config = config_of(case, network=Own, optimizer=adamw)
    state, metrics = train(config)
    fresh = jax.jit(config.agent.init)(config, jax.random.key(0))
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.learner.params):
        assert np.all(np.isfinite(leaf)), path
    kernels = [x for x in jax.tree.leaves(state.learner.params) if x.ndim >= 2]
    before = [x for x in jax.tree.leaves(fresh.learner.params) if x.ndim >= 2]
    assert {x.shape[-1] for x in kernels} & {5, 6}  # the widths of this module, not of the config
    assert all(np.any(a != b) for a, b in zip(kernels, before, strict=True))
    assert np.all(np.isfinite(metrics["grad_norm"]))
    obs = jnp.zeros((3, *jaxrl_pg.envs.make(config.env).spec.obs_shape))
    actions = config.agent.act(config, state.learner, obs, jax.random.key(1), False)
    assert len(actions) == 3
    assert config.agent.value(config, state.learner, obs).shape == (3,)


def test_policy_and_critics_have_the_parameters_that_their_method_touches():
    config = config_of("sac", network=Own)
    learner = jax.jit(config.agent.init)(config, jax.random.key(0)).learner
    assert set(learner.params.policy["params"]) == {"body", "head"}
    assert set(learner.params.critics["params"]) == {"q_body", "q_head"}
    kernel = learner.params.critics["params"]["q_body"]["kernel"]
    assert kernel.shape == (2, 4, 6)  # two critics of CartPole's four numbers
    assert np.any(kernel[0] != kernel[1])


def no_module(spec):
    return "nothing"


class NoPolicy(nn.Module):
    spec: EnvSpec

    def value(self, obs):
        return obs[:, 0]


@pytest.mark.parametrize(
    ("case", "network", "said"),
    [
        ("ppo", no_module, "gives no flax module: give a function from an EnvSpec"),
        ("ppo", "Own", "network='Own' gives no flax module"),
        ("ppo", NoPolicy, "has no method 'policy': ppo needs policy, value"),
        ("soft_q_learning", NoPolicy, "has no method 'q': soft_q_learning needs q"),
        ("pqn", NoPolicy, "has no method 'q': pqn needs q"),
    ],
)
def test_a_network_that_cannot_serve_is_refused(case, network, said):
    config = config_of(case, network=network)
    with pytest.raises(ValueError, match=said) as error:
        jax.eval_shape(lambda key: config.agent.init(config, key), jax.random.key(0))
    assert "\n" not in str(error.value)


def test_players_have_networks_of_their_own():
    with pytest.raises(ValueError, match="players have networks of this package's"):
        jaxrl_pg.multi_agent.Config(network=Own)


# --- a run's folder -------------------------------------------------------------------------------


def test_a_run_is_resumed_with_the_same_objects_and_with_no_others(tmp_path):
    config = config_of("ppo", network=Own, optimizer=adamw, anneal_lr=False)
    quiet = {"quiet": True, "num_evals": 1, "num_eval_episodes": 2}
    whole = jaxrl_pg.run(config, tmp_path / "whole", **quiet)
    half = config.replace(total_timesteps=64)
    jaxrl_pg.run(half, tmp_path / "half", **quiet)
    with pytest.raises(
        ValueError, match=rf"was given an object of {__name__}:Own: in Python, pass network="
    ):
        jaxrl_pg.resume(tmp_path / "half", total_timesteps=128)
    with pytest.raises(ValueError, match=r"was given network .*:Own and not .*:NoPolicy"):
        jaxrl_pg.resume(tmp_path / "half", total_timesteps=128, network=NoPolicy, optimizer=adamw)
    resumed = jaxrl_pg.resume(
        tmp_path / "half", total_timesteps=128, network=Own, optimizer=adamw, quiet=True
    )
    for a, b in zip(
        jax.tree.leaves(resumed.state.learner), jax.tree.leaves(whole.state.learner), strict=True
    ):
        assert_array_equal(a, b)
    policy = jaxrl_pg.load(tmp_path / "whole", network=Own, optimizer=adamw)
    assert policy(np.zeros(4)).shape == ()


# --- the optimiser --------------------------------------------------------------------------------


def test_a_step_is_the_optimisers_own_on_the_clipped_gradient():
    # |g| = 5, clipped to 1: g = (0.6, 0.8); SGD at 0.1: 1 - 0.06 and 2 - 0.08.
    params, grads = (
        {"a": jnp.array([1.0]), "b": jnp.array([2.0])},
        {
            "a": jnp.array([3.0]),
            "b": jnp.array([4.0]),
        },
    )
    state = optim.init(params, optax.sgd)
    params, _, norm = optim.apply_gradients(params, state, grads, 0.1, 1.0, optax.sgd)
    assert_allclose([params["a"][0], params["b"][0], norm], [0.94, 1.92, 5.0], rtol=1e-6)


def test_adam_brought_by_the_user_is_adam():
    def adam(learning_rate):
        return optax.adam(learning_rate, eps=1e-5)

    params = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([[0.5]])}
    own, ours = (params, optim.init(params, adam)), (params, optim.init(params))
    for i in range(5):
        grads = jax.tree.map(lambda x, i=i: jnp.sin(x + i), params)
        own = optim.apply_gradients(*own, grads, 0.01, 1e9, adam)[:2]
        ours = optim.apply_gradients(*ours, grads, 0.01, 1e9)[:2]
    for a, b in zip(jax.tree.leaves(own[0]), jax.tree.leaves(ours[0]), strict=True):
        assert_allclose(a, b, rtol=1e-6)


def test_a_learning_rate_is_swept_in_one_program_with_it():
    rates = jnp.array([1e-4, 1e-2])
    configs = jax.vmap(lambda rate: config_of("ppo", optimizer=adamw).replace(learning_rate=rate))(
        rates
    )
    states, _ = jax.jit(jax.vmap(jaxrl_pg.train, (0, None)))(configs, jax.random.key(0))
    alone, _ = train(config_of("ppo", optimizer=adamw, learning_rate=1e-2))
    for a, b in zip(
        jax.tree.leaves(states.learner.params), jax.tree.leaves(alone.learner.params), strict=True
    ):
        assert_allclose(a[1], b, rtol=1e-3, atol=1e-5)


# --- options of the package's own network ---------------------------------------------------------


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 0), (4, 2, 1), (2, 3, 0)])
def test_a_convolution_is_xlas(kernel, stride, padding):
    layer = layers.Conv(7, kernel, stride, padding)
    x = jax.random.normal(jax.random.key(0), (2, 9, 11, 3))
    params = {
        "params": {
            "kernel": jax.random.normal(jax.random.key(1), (kernel, kernel, 3, 7)),
            "bias": jnp.arange(7.0),
        }
    }
    expected = jax.lax.conv_general_dilated(
        x,
        params["params"]["kernel"],
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    result = layer.apply(params, x)
    assert_allclose(result, np.asarray(expected) + np.arange(7.0), rtol=1e-4, atol=1e-4)


def test_layer_normalisation_is_flax_and_the_same_in_rows_and_columns():
    x = jax.random.normal(jax.random.key(0), (4, 6)) * 3 + 1
    scale, bias = jnp.arange(1.0, 7.0), jnp.arange(6.0)
    params = {"params": {"scale": scale, "bias": bias}}
    expected = nn.LayerNorm().apply(params, x)
    assert_allclose(layers.LayerNorm(False).apply(params, x), expected, rtol=1e-4, atol=1e-5)
    assert_allclose(layers.LayerNorm(True).apply(params, x.T).T, expected, rtol=1e-4, atol=1e-5)


def test_a_residual_layer_adds_its_input_where_it_is_as_wide():
    torso = TorsoFields((3, 3), "relu", residual=True)
    network = networks.ActorCritic(EnvSpec((2,), True, 2, ()), torso)
    params = networks.init_params(network, jax.random.key(0), (2,))
    zeroed = jax.tree.map(lambda x: x, params)
    inner = zeroed["params"]["policy_torso"]["Dense_1"]
    zeroed["params"]["policy_torso"]["Dense_1"] = jax.tree.map(jnp.zeros_like, inner)
    obs = jnp.array([[0.3, -0.7], [1.0, 2.0]])
    # With a second layer of zeros the first one's features pass through it unchanged.
    first = params["params"]["policy_torso"]["Dense_0"]
    features = np.maximum(np.asarray(obs @ first["kernel"]) + np.asarray(first["bias"]), 0.0)
    logits = network.apply(zeroed, obs, method="policy")
    assert_allclose(logits, features @ params["params"]["policy_head"]["kernel"], rtol=1e-5)


@pytest.mark.parametrize("agent", ["ppo", "sac"])
def test_a_config_asks_for_them(agent):
    layers = ((4, 3, 2, 1), (5, 2))
    config = config_of(
        agent,
        env="Breakout-MinAtar",
        conv_layers=layers,
        layer_norm=True,
        residual=True,
        hidden_sizes=(8, 8),
    )
    params = jax.jit(config.agent.init)(config, jax.random.key(0)).learner.params
    paths = {
        jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    kernels = {leaf.shape for path, leaf in paths.items() if "Conv" in path and "kernel" in path}
    assert kernels == {(3, 3, 4, 4), (2, 2, 4, 5)}
    scales = [leaf for path, leaf in paths.items() if "scale" in path]
    assert scales
    assert all(np.all(scale == 1.0) for scale in scales)
    _, metrics = train(config)
    assert np.all(np.isfinite(metrics["grad_norm"]))


@pytest.mark.parametrize(
    "layers", [((4,),), ((4, 0),), ((4, 3, 1, -1),), ((4, 3, 1, 0, 0),), (4, 3), "conv"]
)
def test_layers_that_are_none_are_refused(layers):
    with pytest.raises(ValueError, match="give tuples of features, kernel, stride >= 1"):
        jaxrl_pg.ppo.Config(conv_layers=layers)


def test_a_kernel_larger_than_the_image_is_refused():
    config = config_of("ppo", env="Breakout-MinAtar", conv_layers=((4, 11),))
    with pytest.raises(ValueError, match="a convolution of 11x11 does not fit an image of 10x10"):
        jax.eval_shape(lambda key: config.agent.init(config, key), jax.random.key(0))


def test_module_is_made_from_the_environments_spec():
    spec = EnvSpec((4,), True, 2, ())
    part = own_network.policy_and_value(config_of("ppo", network=Own), spec)
    assert part.module == Own(spec)
