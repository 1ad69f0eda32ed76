"""Configurations: what is traced, what is static, what is refused and in which words."""

import dataclasses
import json
import math
import re
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from jaxrl_pg import agents
from jaxrl_pg import config as configs
from jaxrl_pg.agents import actor_critic, ppo
from jaxrl_pg.config import BaseConfig, Fraction, Positive, PytreeDataclass, Range


class Named:
    """An object that can be hashed."""


class Small(PytreeDataclass):
    """Every kind of field once."""

    gamma: Annotated[float, Fraction] = 0.9
    clip_eps_vf: float | None = None
    env_params: dict[str, float] = dataclasses.field(default_factory=dict)
    num_steps: int = 8
    hidden_sizes: tuple[int, ...] = (4, 3)
    activation: Literal["tanh", "relu"] = "tanh"
    anneal_lr: bool = False

    @property
    def horizon(self) -> float:
        return 1.0 / (1.0 - self.gamma)


# --- a pytree -----------------------------------------------------------------------------------


def test_floats_are_leaves_and_the_rest_is_static():
    config = Small(clip_eps_vf=0.2, env_params={"length": 0.7, "gravity": 9.8})
    flat, structure = jax.tree_util.tree_flatten_with_path(config)
    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in flat}
    assert leaves == {
        ".gamma": 0.9,
        ".clip_eps_vf": 0.2,
        ".env_params['gravity']": 9.8,
        ".env_params['length']": 0.7,
    }
    assert jax.tree.unflatten(structure, jax.tree.leaves(config)) == config


def test_the_static_part_is_hashable_and_tells_configs_apart():
    structure = jax.tree.structure(Small())
    assert hash(structure) == hash(jax.tree.structure(Small(gamma=0.5)))
    assert structure == jax.tree.structure(Small(gamma=0.5))
    for change in (
        {"num_steps": 9},
        {"hidden_sizes": (4,)},
        {"activation": "relu"},
        {"anneal_lr": True},
        {"clip_eps_vf": 0.1},
    ):
        assert structure != jax.tree.structure(Small(**change)), change


def test_ppos_floats_are_leaves():
    fields = dataclasses.fields(ppo.Config)
    names = {f.name for f in fields if "float" in f.type and isinstance(f.default, float)}
    assert "learning_rate" in names
    leaves, _ = jax.tree_util.tree_flatten_with_path(ppo.Config())
    assert {path[0].name for path, _ in leaves} == names
    hash(jax.tree.structure(ppo.Config()))


def test_a_change_of_leaves_compiles_nothing_anew():
    traces = []

    @jax.jit
    def horizon(config):
        traces.append(config.num_steps)
        return config.horizon

    for gamma, want in ((0.9, 10.0), (0.5, 2.0), (0.75, 4.0)):
        assert_allclose(horizon(Small(gamma=gamma)), want, rtol=1e-5)
    assert traces == [8]
    horizon(Small(num_steps=9))
    assert traces == [8, 9]


def test_leaves_can_be_vmapped_differentiated_and_mapped():
    gammas = jnp.array([0.5, 0.9, 0.75])
    swept = Small().replace(gamma=gammas)
    horizons = jax.jit(jax.vmap(lambda config: config.horizon))(swept)
    assert_allclose(horizons, [2.0, 10.0, 4.0], rtol=1e-5)
    gradient = jax.grad(lambda config: config.horizon)(Small(gamma=0.5))
    assert_allclose(gradient.gamma, 4.0, rtol=1e-6)  # d/dg 1/(1-g) = 1/(1-g)^2
    assert (gradient.num_steps, gradient.activation) == (8, "tanh")
    # What JAX rebuilds is not checked: it may hold anything.
    assert jax.tree.map(lambda _: "leaf", Small()).gamma == "leaf"


def test_a_leaf_can_be_replaced_by_a_traced_value():
    def shorter(gamma):
        config = Small().replace(gamma=gamma * 0.5)
        return config.horizon, config

    horizon, config = jax.jit(shorter)(1.0)
    assert_allclose(horizon, 2.0)
    assert isinstance(config, Small)
    assert_allclose(config.gamma, 0.5)


# --- making one ---------------------------------------------------------------------------------


def test_frozen_and_by_keyword_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Small().gamma = 0.5
    with pytest.raises(TypeError):
        Small(0.5)


def test_replace_changes_what_it_is_told_and_checks_it():
    config = Small(num_steps=9)
    assert config.replace(gamma=0.5) == Small(num_steps=9, gamma=0.5)
    assert config == Small(num_steps=9)
    with pytest.raises(ValueError, match=r"gamma=2: give a number from 0 to 1"):
        config.replace(gamma=2)
    with pytest.raises(ValueError, match="did you mean 'gamma'"):
        config.replace(gama=0.5)


def test_whole_environment_parameters_make_the_same_program_as_floats():
    limit = Small(env_params={"max_steps_in_episode": 500}).env_params["max_steps_in_episode"]
    assert isinstance(limit, float)
    assert limit == 500


def test_defaults_are_not_shared():
    first, second = Small(), Small()
    assert first.env_params is not second.env_params


@pytest.mark.parametrize("name", sorted(agents.AGENTS))
def test_a_default_is_that_of_the_first_class_that_states_the_field(name):
    """A parent's default is not hidden by what another parent has inherited."""
    config = agents.AGENTS[name].Config
    for field in dataclasses.fields(config):
        stating = [x for x in config.__mro__ if field.name in vars(x).get("__annotations__", {})]
        if field.default is not dataclasses.MISSING:
            assert field.default == getattr(stating[0], field.name), field.name


def test_whole_numbers_become_floats_where_a_float_is_wanted():
    config = Small(gamma=1, clip_eps_vf=2)
    assert type(config.gamma) is type(config.clip_eps_vf) is float
    assert (config.gamma, config.clip_eps_vf) == (1.0, 2.0)
    assert type(ppo.Config(vf_coef=1).vf_coef) is float
    assert type(config.num_steps) is int


def test_a_million_may_be_written_as_a_float_where_it_is_whole():
    config = ppo.Config(total_timesteps=1e6, num_envs=np.float32(8.0))
    assert (config.total_timesteps, config.num_envs) == (1_000_000, 8)
    assert type(config.total_timesteps) is type(config.num_envs) is int
    assert config == ppo.Config(total_timesteps=1_000_000, num_envs=8)


def test_arrays_are_welcome_as_leaves():
    assert_allclose(Small(gamma=np.array([0.5, 0.9])).gamma, [0.5, 0.9])
    with pytest.raises(ValueError, match="gamma="):
        Small(gamma=np.array([0.5, 1.1]))
    assert_allclose(Small(gamma=jnp.float32(0.5)).gamma, 0.5)


# --- refusals -----------------------------------------------------------------------------------

PROBABILITY = "a number from 0 to 1"
POSITIVE = "a number > 0"
NATURAL = "a whole number >= 1"
SWITCH = "True or False"

REFUSED = [
    ("gamma", [-0.1, 1.5, math.nan, math.inf, -math.inf, "0.9", None, True, 2], PROBABILITY),
    ("gae_lambda", [-1e-9, 1.0001, 2, math.nan], PROBABILITY),
    ("learning_rate", [0.0, 0, -1e-3, math.nan, math.inf], POSITIVE),
    ("max_grad_norm", [0.0, -1.0], POSITIVE),
    ("clip_eps", [0.0, -0.2, math.nan, None], POSITIVE),
    ("clip_eps_vf", [0.0, -0.2, math.nan, True], POSITIVE),
    ("target_kl", [0.0, -0.2], POSITIVE),
    ("penalty_kl", [0.0, -0.2], POSITIVE),
    ("ent_coef", [-0.01, math.nan, math.inf], "a number >= 0"),
    ("vf_coef", [-0.5], "a number >= 0"),
    ("log_std_init", [-21, 10.5, math.nan], "a number from -20 to 10"),
    ("num_envs", [0, -1, 2.5, math.nan, "8", None, True], NATURAL),
    ("num_steps", [0, 1.5, 1e-3, math.inf, math.nan], NATURAL),
    ("num_epochs", [0, 0.5], NATURAL),
    ("num_minibatches", [0, -4], NATURAL),
    ("num_devices", [0], NATURAL),
    ("total_timesteps", [0, 1e6 + 0.5, True], NATURAL),
    ("conv_features", [-1, 0.5], "a whole number >= 0"),
    (
        "hidden_sizes",
        [(64, 0), (-1,), (64, 0.5), (True, 4), ((3, 4), (5, 6)), "64", None, 64, 64.0],
        "a tuple of whole numbers >= 1",
    ),
    ("gamma", [False, [0.9, 0.99]], "a number from 0 to 1"),
    ("num_envs", [(4, 8)], NATURAL),
    ("anneal_lr", [0, 1, "yes", None], SWITCH),
    ("normalize_obs", [1.0], SWITCH),
]


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [(name, value, allowed) for name, values, allowed in REFUSED for value in values],
)
def test_a_bad_value_is_refused_in_one_line_with_what_is_allowed(name, value, allowed):
    with pytest.raises(ValueError) as error:
        ppo.Config(**{name: value})
    message = str(error.value)
    said = re.fullmatch(r"(\w+)=(.+): give (.+)", message)
    assert said, message
    assert said[1] == name
    assert said[3] == allowed
    assert said[2] == repr(value)


@pytest.mark.parametrize(
    "values",
    [
        {"gamma": 0.0, "gae_lambda": 1.0},
        {"gamma": 1, "gae_lambda": 0},
        {"clip_eps_vf": None, "target_kl": None},
        {"ent_coef": 0.0, "vf_coef": 0},
        {"conv_features": 0, "hidden_sizes": (1,)},
        {"num_envs": np.int64(4), "num_steps": 1, "num_minibatches": 1, "num_epochs": 1},
        {"log_std_init": -20},
        {"total_timesteps": 1},
    ],
)
def test_the_ends_of_the_ranges_are_allowed(values):
    config = ppo.Config(**values)
    assert all(getattr(config, name) == value for name, value in values.items())


@pytest.mark.parametrize(
    ("given", "whole", "said"),
    [
        (Positive, False, "a number > 0"),
        (Positive, True, "a whole number >= 1"),
        (Range(2), True, "a whole number >= 2"),
        (Range(), False, "a number >= 0"),
        (Fraction, False, "a number from 0 to 1"),
        (Range(-math.inf), False, "a number"),
        (Range(0.0, 1.0, open_low=True), False, "a number > 0 and <= 1"),
        (Range(0.0, 1.0, open_low=True, open_high=True), False, "a number > 0 and < 1"),
    ],
)
def test_a_range_says_what_it_holds(given, whole, said):
    assert given.describe(whole) == said


def test_the_ends_of_an_open_range_are_not_in_it():
    open_range = Range(0.0, 1.0, open_low=True, open_high=True)
    assert open_range.holds(np.array([1e-30, 0.5, 0.999]))
    assert not open_range.holds(np.array(0.0))
    assert not open_range.holds(np.array(1.0))
    assert not Range().holds(np.array(1e39))  # more than a float32 can hold
    assert not Range().holds(np.array(math.nan))


def test_a_subclass_is_a_config_of_the_same_agent_with_more_fields():
    class Longer(ppo.Config):
        warm_up: Annotated[int, Positive] = 3
        gamma: Annotated[float, Fraction] = 0.5

    config = Longer(warm_up=4, clip_eps=0.1)
    assert (config.gamma, config.warm_up, config.clip_eps) == (0.5, 4, 0.1)
    assert config.agent is ppo.AGENT
    assert {".gamma", ".clip_eps"} <= {
        jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(config)
    }
    with pytest.raises(ValueError, match=r"warm_up=0: give a whole number >= 1"):
        config.replace(warm_up=0)
    with pytest.raises(ValueError, match="even split"):  # the parent's own check is asked
        Longer(num_minibatches=7)


def test_a_config_of_no_agent_says_so():
    class Nobodys(BaseConfig):
        pass

    for config in (Nobodys(), {}):
        with pytest.raises(ValueError, match=r"no agent has a config of type \w+: give an agent"):
            configs.agent_of(config)


def test_an_unknown_field_names_the_nearest_and_all():
    with pytest.raises(ValueError) as error:
        ppo.Config(learning_rat=1e-3)
    message = str(error.value)
    assert "'learning_rat'" in message
    assert "did you mean 'learning_rate'?" in message
    assert "gae_lambda" in message
    assert "\n" not in message
    with pytest.raises(ValueError) as error:
        ppo.Config(zzzz=1)
    assert "did you mean" not in str(error.value)


def test_a_bad_choice_names_the_nearest():
    with pytest.raises(ValueError, match="objective='clipp': did you mean 'clip'"):
        ppo.Config(objective="clipp")
    with pytest.raises(ValueError, match=r"activation='than': did you mean 'tanh'.*relu"):
        ppo.Config(activation="than")


def test_batches_that_do_not_split_are_refused():
    for values in (
        {"num_envs": 5, "num_steps": 3, "num_minibatches": 4, "num_devices": 1},
        # 2 devices of 2 environments x 3 steps: 6 rows each do not split in 4
        {"num_envs": 4, "num_steps": 3, "num_devices": 2, "num_minibatches": 4},
    ):
        with pytest.raises(ValueError, match="even split") as error:
            ppo.Config(**values)
        for name in ("num_envs", "num_steps", "num_minibatches", "num_devices"):
            assert f"{name}=" in str(error.value)
    with pytest.raises(ValueError, match="num_envs=8 does not split over num_devices=3"):
        ppo.Config(num_envs=8, num_steps=8, num_devices=3, num_minibatches=1)
    with pytest.raises(ValueError, match=r"2\^31"):
        ppo.Config(num_envs=2**16, num_steps=2**13, num_epochs=4, num_minibatches=1)


def test_iterations_are_rounded_up():
    # 4 x 5 = 20 steps an iteration
    values = {"num_envs": 4, "num_steps": 5, "num_minibatches": 1}
    assert ppo.Config(**values).steps_per_iteration == 20
    for total, want in ((1, 1), (20, 1), (21, 2), (100, 5)):
        assert ppo.Config(total_timesteps=total, **values).num_iterations == want


# --- plain values -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        Small(),
        Small(gamma=1, clip_eps_vf=0.1, hidden_sizes=(7,), env_params={"length": 0.7}),
        ppo.Config(),
        ppo.Config(env="Pendulum-v1", target_kl=0.02, hidden_sizes=(32, 16), anneal_lr=False),
    ],
)
def test_round_trip_through_json(config):
    text = json.dumps(configs.to_dict(config), allow_nan=False)
    again = configs.from_dict(type(config), json.loads(text))
    assert again == config
    assert jax.tree.structure(again) == jax.tree.structure(config)


def test_to_dict_is_plain():
    config = ppo.Config(
        env=Named(),
        gamma=np.float32(0.5),
        vf_coef=jnp.array([0.25, 0.5]),
        num_envs=np.int64(8),
        hidden_sizes=(64, 32),
        num_minibatches=1,
    )
    values = configs.to_dict(config)
    assert values["gamma"] == 0.5
    assert values["vf_coef"] == [0.25, 0.5]
    assert values["num_envs"] == 8
    assert values["hidden_sizes"] == [64, 32]
    assert values["clip_eps_vf"] is None
    assert values["env"].endswith(":Named")
    json.dumps(values)


def test_an_older_config_is_what_it_was():
    """Fields that came later, and whose defaults would change what a run learns, are as before."""
    config = actor_critic.Config(gamma=0.5)
    values = configs.to_dict(config)
    assert configs.from_dict(actor_critic.Config, values) == config
    older = {name: x for name, x in values.items() if name not in ("std_rate", "bound_coef")}
    assert configs.from_dict(actor_critic.Config, older) == config.replace(
        std_rate=1.0, bound_coef=0.0
    )


def test_from_dict_refuses_what_the_class_does():
    with pytest.raises(ValueError, match=r"unknown field 'gama': did you mean 'gamma'"):
        configs.from_dict(Small, {"gama": 0.5})
    with pytest.raises(ValueError, match=r"gamma=1\.5"):
        configs.from_dict(Small, {"gamma": 1.5})


@pytest.mark.parametrize(
    "values", [{"env_params": {"x": float("nan")}}, {"env_params": 3}, {"gamma": 10**400}]
)
def test_other_bad_values_are_refused(values):
    with pytest.raises(ValueError, match="give"):
        ppo.Config(**values)


def test_no_hidden_layer_is_a_linear_policy():
    assert ppo.Config(hidden_sizes=()).hidden_sizes == ()


def test_a_list_of_sizes_becomes_a_tuple():
    assert ppo.Config(hidden_sizes=[8, 4]).hidden_sizes == (8, 4)
