"""Values for an environment's parameters take their defaults' types, or are refused by name."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lines import Line, variant

from jaxrl_pg import envs

SHIPPED = [name for name in gymnax.registered_envs if name != "MNISTBandit-bsuite"]


def other(default):
    """A sensible value besides the default."""
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default + 1
    return 2 * default


@pytest.mark.parametrize("name", SHIPPED)
def test_every_parameter_of_every_environment_takes_every_kind_of_number(name):
    defaults = envs.make(name).params
    for key, default in vars(defaults).items():
        for value in (default, other(default)):
            plain = np.asarray(value).tolist()
            same = [plain, np.asarray(value), jnp.asarray(value)]
            same += [float(value), np.float64(value)] if np.ndim(value) == 0 else []
            for given in same:
                kept = getattr(envs.make(name, {key: given}).params, key)
                assert jnp.result_type(kept) == jnp.result_type(default), (key, given)
                np.testing.assert_allclose(kept, value, rtol=1e-6)


def test_true_and_false_count():
    """Worked by hand: at pace 1/2 the position is moved by 1/2, or by -1/2 backwards."""
    key = jax.random.key(0)
    for value, moved in ((True, -0.5), (np.bool_(False), 0.5), (1, -0.5), (0.0, 0.5)):
        env = envs.make(Line(), {"backwards": value})
        _, state = env.core.reset_env(key, env.params)
        _, after, *_ = env.core.step_env(key, state, 1, env.params)
        np.testing.assert_allclose(after.position - state.position, moved, rtol=1e-6)


def test_traced_values_take_the_types_too():
    """Configs hold floats, which are traced: 4.0 is four steps and 1.0 is True."""

    @jax.jit
    def made(values):
        params = envs.make(Line(), values).params
        return params.max_steps_in_episode, params.backwards, params.pace

    limit, backwards, pace = made({"max_steps_in_episode": 4.0, "backwards": 1.0, "pace": 2.5})
    assert (limit, backwards, pace) == (4, True, 2.5)
    assert (limit.dtype, backwards.dtype, pace.dtype) == (jnp.int32, jnp.bool_, jnp.float32)


@pytest.mark.parametrize(
    ("env", "values", "message"),
    [
        ("Pendulum-v1", {"g": "strong"}, r"\['g'\]='strong' of 'Pendulum-v1': give a number$"),
        ("Pendulum-v1", {"g": None}, "give a number$"),
        ("Pendulum-v1", {"g": [9.8]}, "give a number$"),
        ("Pendulum-v1", {"g": np.ones(2)}, "give a number$"),
        ("Pendulum-v1", {"g": float("nan")}, "give a number$"),
        ("Pendulum-v1", {"max_torque": -2.0}, "low=2.0 and high=-2.0"),
        ("Acrobot-v1", {"max_steps_in_episode": 9.5}, "give a whole number of 32 bits"),
        ("Acrobot-v1", {"max_steps_in_episode": 2**31}, "give a whole number of 32 bits"),
        ("Acrobot-v1", {"max_steps_in_episode": 0}, "at least 1 step, give 1 or more"),
        ("Acrobot-v1", {"max_steps_in_episode": -3.0}, "at least 1 step, give 1 or more"),
        ("Acrobot-v1", {"available_torque": [1, 2]}, r"an array of shape \(3,\) of numbers"),
        ("DeepSea-bsuite", {"deterministic": 0.5}, "give True or False"),
        ("DeepSea-bsuite", {"deterministic": "yes"}, "give True or False"),
        (Line(), {"stops": [0, 1, 2.5]}, r"an array of shape \(3,\) of whole numbers"),
    ],
)
def test_what_would_lose_something_is_refused_by_name(env, values, message):
    with pytest.raises(ValueError, match=message) as raised:
        envs.make(env, values)
    assert next(iter(values)) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_one_that_shapes_the_program_is_refused_by_name():
    def step_env(self, key, state, action, params):
        pace = -params.pace if params.backwards else params.pace
        return Line.step_env(self, key, state, pace * action, params.replace(backwards=False))

    env = variant(step_env=step_env)
    assert envs.make(env, {"pace": 2}).params.pace == 2.0
    with pytest.raises(ValueError, match=r"^Odd cannot be given env_params 'backwards': step_env"):
        envs.make(env, {"backwards": True})
