"""Configs and states as users give them: NumPy's values, mistaken ones, and those of another."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from blank import state_of

import jaxrl_pg
from jaxrl_pg.agents import actor_critic, analytical, dqn, ppo, pqn, sac, soft_q_learning, td3
from jaxrl_pg.components import optim

SIZES = {"num_envs": 4, "num_steps": 2, "hidden_sizes": (3,), "total_timesteps": 16}
CONFIG = ppo.Config(**SIZES, num_minibatches=2)
SAC = sac.Config(**SIZES, num_updates=1, buffer_size=32, batch_size=2)
KEY = jax.random.key(1)


@pytest.fixture(scope="module")
def states():
    return {"ppo": state_of(CONFIG), "sac": state_of(SAC)}


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("num_envs", np.int64(8), 8),
        ("num_steps", np.array(16), 16),
        ("num_epochs", jnp.asarray(3), 3),
        ("total_timesteps", np.uint64(10**10), 10**10),
        ("gamma", np.float32(0.5), 0.5),
        ("learning_rate", np.array(0.25), 0.25),
        ("ent_coef", jnp.asarray(0), 0.0),
        ("clip_eps_vf", np.float64(0.5), 0.5),
        ("anneal_lr", np.bool_(False), False),
        ("normalize_obs", np.array(True), True),
        ("layer_norm", jnp.asarray(True), True),
        ("objective", np.str_("kl"), "kl"),
        ("hidden_sizes", [16, 8], (16, 8)),
        ("hidden_sizes", np.array([16, 8]), (16, 8)),
        ("hidden_sizes", (np.int32(16), np.array(8)), (16, 8)),
        ("conv_layers", [[np.int64(4), 2]], ((4, 2),)),
        ("env_params", {"a": np.True_, "b": False, "c": np.int8(3)}, {"a": 1, "b": 0, "c": 3}),
    ],
)
def test_values_of_numpy_and_lists_are_kept_as_those_of_python(name, given, kept):
    config = ppo.Config(**{name: given})
    value = getattr(config, name)
    assert value == kept
    assert type(value) is type(kept)
    plain = ppo.Config(**{name: kept})
    assert config == plain
    assert hash(jax.tree.structure(config)) == hash(jax.tree.structure(plain))


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("num_envs", np.float64(8.5)),
        ("num_envs", jnp.arange(1, 3)),
        ("num_steps", np.bool_(True)),
        ("gamma", np.array(False)),
        ("gamma", np.array("0.9")),
        ("anneal_lr", np.array([True])),
        ("anneal_lr", np.int64(1)),
        ("objective", np.array(["clip", "kl"])),
        ("hidden_sizes", np.array([1.0, 2.0])),
        ("hidden_sizes", np.array(8)),
        ("hidden_sizes", [np.bool_(True)]),
        ("learning_rate", -np.ones(500)),
        ("env_params", {"a": "1"}),
    ],
)
def test_values_of_another_kind_are_refused_in_one_line(name, given):
    with pytest.raises(ValueError, match=rf"^{name}.*: .*") as error:
        ppo.Config(**{name: given})
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("name", ["num_envs", "total_timesteps", "anneal_lr", "hidden_sizes"])
@pytest.mark.parametrize("transform", [jax.jit, jax.vmap])
def test_a_traced_value_of_a_static_field_is_named(name, transform):
    def change(x):
        value = (x, 4) if name == "hidden_sizes" else x
        return jaxrl_pg.train(CONFIG.replace(**{name: value}), KEY)

    with pytest.raises(ValueError, match=rf"{name} is traced, and it shapes the compiled program"):
        transform(change)(jnp.arange(1, 3))


@pytest.mark.parametrize(
    "values",
    [
        {"num_envs": 2**31},
        {"num_steps": 10**12},
        {"total_timesteps": 2**62},
        {"num_epochs": 2**26, "num_minibatches": 1},
    ],
)
def test_what_32_bits_cannot_count_is_refused(values):
    with pytest.raises(ValueError, match=r"at most 2,147,483,647|beyond the 2\^31 rows"):
        ppo.Config(**values)


def test_a_replay_that_32_bits_cannot_index_is_refused():
    with pytest.raises(ValueError, match=r"buffer_size=2147483640.*2\^31"):
        sac.Config(buffer_size=2**31 - 8)


def test_rollouts_that_do_not_split_say_what_would():
    for values, remedy in (
        ({"num_envs": 4, "num_steps": 5}, "num_minibatches=5 or 10"),
        ({"num_envs": 6, "num_steps": 8, "num_devices": 2, "num_minibatches": 5}, "4 or 6"),
    ):
        with pytest.raises(ValueError, match=f"give an even split, such as .*{remedy}$"):
            ppo.Config(**values)
        with pytest.raises(ValueError, match=f"{remedy}$"):
            analytical.Config(**values)


@pytest.mark.parametrize("module", [ppo, actor_critic, sac, soft_q_learning, td3, pqn, dqn])
def test_clipping_of_gradients_can_be_switched_off(module):
    assert module.Config(max_grad_norm=None).max_grad_norm is None


def test_without_a_largest_norm_gradients_are_taken_as_they_are():
    params = {"w": np.float32([3.0, 4.0])}
    start = optim.init(params, optax.sgd)
    clipped, unclipped = (
        optim.apply_gradients(params, start, params, 1.0, largest, optax.sgd)
        for largest in (1.0, None)
    )
    # The gradient has norm 5: a fifth of it is taken, or all of it.
    np.testing.assert_allclose(clipped[0]["w"], [2.4, 3.2], rtol=1e-6)
    np.testing.assert_array_equal(unclipped[0]["w"], [0.0, 0.0])
    assert unclipped[2] == 5.0


# --- what is no config ----------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["ppo", ppo, ppo.Config, ppo.AGENT, None, {"env": "x"}, 3])
def test_what_is_no_config_is_answered_with_how_to_make_one(given, states, tmp_path):
    doors = [
        lambda: jaxrl_pg.run(given, tmp_path / "run"),
        lambda: jaxrl_pg.train(given, KEY),
        lambda: jaxrl_pg.init(given, KEY),
        lambda: jaxrl_pg.iterate(given, states["ppo"], 1),
        lambda: jaxrl_pg.evaluate(given, states["ppo"], KEY),
        lambda: jaxrl_pg.value(given, states["ppo"], jnp.zeros((1, 4))),
    ]
    for door in doors:
        with pytest.raises(ValueError, match=r"no agent has a config of type .*Config\(\)$"):
            door()
    assert list(tmp_path.iterdir()) == []


def test_an_array_of_hyper_parameters_needs_vmap(states, tmp_path):
    for name in ("learning_rate", "gamma"):
        config = CONFIG.replace(**{name: np.full(8, 0.1)})
        for door in (
            lambda config: jaxrl_pg.train(config, KEY),
            lambda config: jaxrl_pg.run(config, tmp_path / "run"),
            lambda config: jaxrl_pg.iterate(config, states["ppo"], 1),
            lambda config: jaxrl_pg.evaluate(config, states["ppo"], KEY),
        ):
            with pytest.raises(ValueError, match=rf"config\.{name} is an array.*vmap.*\(8,\)"):
                door(config)
    assert list(tmp_path.iterdir()) == []


def test_under_vmap_an_array_of_hyper_parameters_is_welcome():
    init = jax.vmap(lambda rate: jaxrl_pg.init(CONFIG.replace(learning_rate=rate), KEY))
    assert jax.eval_shape(init, jnp.ones(8)).iteration.shape == (8,)


# --- the state of another -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "owner", "said"),
    [
        (CONFIG, "sac", r"the state has a .*sac:Learner and ppo a .*ppo:Learner"),
        (SAC, "ppo", r"the state has a .*ppo:Learner and sac a .*sac:Learner"),
        (CONFIG.replace(hidden_sizes=(5,)), "ppo", r"kernel'\] is float32\[3,2\] .*float32\[5,2\]"),
        (CONFIG.replace(hidden_sizes=()), "ppo", r"state\.learner.* is .*makes"),
        (CONFIG.replace(hidden_sizes=(3, 3)), "ppo", r"Dense_1.* is missing"),
        (CONFIG.replace(env="Acrobot-v1"), "ppo", r"is float32\[2\] .* makes float32\[3\]"),
        (CONFIG.replace(normalize_obs=True), "ppo", r"normalizer\.obs\.count is missing"),
        (SAC.replace(num_critics=3), "sac", r"critic_2.* is missing"),
    ],
)
def test_the_state_of_another_config_is_named(config, owner, said, states):
    obs = jnp.zeros((2, 6 if config.env == "Acrobot-v1" else 4))
    for door in (
        lambda: jaxrl_pg.iterate(config, states[owner], 1),
        lambda: jaxrl_pg.evaluate(config, states[owner], KEY),
        lambda: jaxrl_pg.value(config, states[owner], obs),
    ):
        with pytest.raises(ValueError, match=said) as error:
            door()
        assert str(error.value).endswith("give the config that made the state")


def test_what_is_no_state_is_answered_with_how_to_make_one(states):
    for given in ((states["ppo"], {}), None, states["ppo"].learner):
        with pytest.raises(ValueError, match=r"state is a .*: give a train state, such as"):
            jaxrl_pg.iterate(CONFIG, given, 1)


def test_other_numbers_of_environments_are_named(states):
    with pytest.raises(ValueError, match=r"state\.actor\..* is .*\[4\].* makes .*\[8\]"):
        jaxrl_pg.iterate(CONFIG.replace(num_envs=8), states["ppo"], 1)


def test_the_states_of_many_members_need_vmap(states):
    many = jax.tree.map(lambda x: jnp.broadcast_to(x, (3, *x.shape)), states["ppo"])
    for door in (
        lambda states: jaxrl_pg.iterate(CONFIG, states, 1),
        lambda states: jaxrl_pg.evaluate(CONFIG, states, KEY, 2),
    ):
        with pytest.raises(ValueError, match=r"for the states of many members use jax\.vmap"):
            door(many)
    jax.eval_shape(jax.vmap(lambda state: jaxrl_pg.value(CONFIG, state, jnp.zeros((2, 4)))), many)


# --- static arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("door", "name"),
    [
        (lambda s, n: jaxrl_pg.train(CONFIG, KEY, num_evals=n), "num_evals"),
        (lambda s, n: jaxrl_pg.train(CONFIG, KEY, num_eval_episodes=n), "num_eval_episodes"),
        (lambda s, n: jaxrl_pg.iterate(CONFIG, s, n), "num_iterations"),
        (lambda s, n: jaxrl_pg.evaluate(CONFIG, s, KEY, n), "num_episodes"),
        (lambda s, n: jaxrl_pg.evaluate(CONFIG, s, KEY, 2, n), "deterministic"),
    ],
)
def test_a_traced_static_argument_is_answered_with_how_to_say_so(door, name, states):
    said = rf'^{name} cannot be traced: .*static_argnames=.*"{name}"'
    with pytest.raises(ValueError, match=said):
        jax.jit(door)(states["ppo"], 3)


@pytest.mark.parametrize("number", [-1, 2.5, True, "3", None, 2**31])
def test_bad_numbers_of_iterations_and_episodes_are_refused(number, states):
    for door in (
        lambda: jaxrl_pg.train(CONFIG, KEY, num_evals=number),
        lambda: jaxrl_pg.iterate(CONFIG, states["ppo"], number),
        lambda: jaxrl_pg.evaluate(CONFIG, states["ppo"], KEY, number),
    ):
        with pytest.raises(ValueError, match=r"give a whole number from [01] to 2\^31 - 1$"):
            door()
