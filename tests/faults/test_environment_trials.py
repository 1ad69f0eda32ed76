"""An environment that does not do as it says is refused at the door, in one sentence with its name.

Nothing is compiled here.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import spaces
from lines import Cells, Line, Params, State, returning, variant

from jaxrl_pg import envs, ppo

OBS, STATE = jnp.zeros(2), State(time=0, position=jnp.zeros(()))
NO_END = jnp.array(False)


def failing(*_):
    raise LookupError("no such map")


@dataclasses.dataclass(frozen=True)
class Mapped(Line):
    """Equal and hashed by its fields."""

    map: Any = ()


class Pair(NamedTuple):
    max_steps_in_episode: int = 3


@struct.dataclass
class Named(Params):
    level: str = "easy"


class Plain:
    """No class of gymnax's behind it, and no name."""

    default_params = Params()
    reset_env, step_env = Line.reset_env, Line.step_env
    get_obs, is_truncated = Line.get_obs, Line.is_truncated

    def observation_space(self, params):
        return Line.observations

    def action_space(self, params):
        return Line.actions


@dataclasses.dataclass
class Unregistered(Plain):
    """Parameters that are no pytree."""

    max_steps_in_episode: int = 3

    def replace(self, **changes):
        return dataclasses.replace(self, **changes)


def branching(self, key, state, action, params):
    return OBS, STATE, (1.0 if state.position > 0 else 0.0), NO_END, {}


WRONG = {
    "an array in it": (Mapped(np.ones((2, 2))), r"Mapped\(...\) cannot be hashed \(unhashable"),
    "an array of JAX in it": (Mapped(jnp.ones(2)), "cannot be hashed"),
    "a dict in it": (Mapped({"a": 1}), "cannot be hashed"),
    "parameters in a dict": (variant(parameters={"size": 2.0}), r"default_params is {'size': 2.0}"),
    "no parameters": (variant(parameters=None), "default_params is None: give a dataclass"),
    "a pair of parameters": (variant(parameters=Pair()), r"default_params is Pair\("),
    "parameters unregistered": (variant(parameters=Unregistered()), "are numbers and arrays"),
    "a word among them": (variant(parameters=Named()), r"default_params.level is 'easy'"),
    "parameters that raise": (variant(observation_space=failing), r"observation_space\(params\) r"),
    "no limit to speak of": (
        variant(parameters=Params(max_steps_in_episode=0)),
        "max_steps_in_episode=0: an episode has at least 1 step",
    ),
    "a space for a method": (variant(action_space=spaces.Discrete(3)), "not callable"),
    "no action": (variant(actions=spaces.Discrete(0)), r"Discrete\(0\) actions: give from 1"),
    "too many actions": (variant(actions=spaces.Discrete(2**31 - 1)), "actions: give from 1 to"),
    "no cell": (variant(observations=spaces.Discrete(0)), r"Discrete\(0\) observations: give"),
    "nothing to see": (variant(observations=spaces.Box(0, 1, (3, 0))), r"\(3, 0\) hold 0 numbers"),
    "no room to act": (variant(actions=spaces.Box(2.0, -2.0, (1,))), "low=2.0 and high=-2.0"),
    "bounds of no number": (variant(actions=spaces.Box(-1.0, jnp.nan, (2,))), "high=nan: give"),
    "bounds that do not fit": (
        variant(observations=spaces.Box(np.zeros(3), np.ones(3), (2,))),
        r"shape \(2,\) have bounds low=array",
    ),
    "another observation": (
        variant(observations=spaces.Box(-1, 1, (3,))),
        r"observation of reset_env is float32\[2\], .* shape \(3,\)",
    ),
    "a turned observation": (variant(observations=spaces.Box(-1, 1, (2, 1))), r"shape \(2, 1\)"),
    "a dict of observations": (
        variant(reset_env=returning({"a": OBS}, STATE)),
        "observation of reset_env is a dict",
    ),
    "a float for a cell": (
        variant(observations=spaces.Discrete(2), get_obs=lambda self, state, _: state.position),
        r"is float32\[\], and the space is Discrete\(2\): give one int32",
    ),
    "bytes that turn to floats": (
        variant(reset_env=returning(OBS.astype(jnp.uint8), STATE)),
        "are uint8.* after reset_env and float32",
    ),
    "rewards for each": (
        variant(step_env=returning(OBS, STATE, jnp.ones(3), NO_END, {})),
        r"the reward of step_env is float32\[3\]: give one number",
    ),
    "a reward in words": (
        variant(step_env=returning(OBS, STATE, "much", NO_END, {})),
        "the reward of step_env is a str",
    ),
    "ends for each": (
        variant(step_env=returning(OBS, STATE, 0.0, jnp.zeros((2, 2), bool), {})),
        r"terminated of step_env is bool\[2, 2\]",
    ),
    "limits for each": (
        variant(is_truncated=lambda *_: jnp.zeros(2, bool)),
        r"what is_truncated returns is bool\[2\]",
    ),
    "gymnasium's six": (
        variant(step_env=returning(OBS, STATE, 0.0, NO_END, NO_END, {})),
        "step_env returns 6 values: return observation, state, reward, terminated, info",
    ),
    "no info": (variant(step_env=returning(OBS, STATE, 0.0, NO_END)), "step_env returns 4 values"),
    "a reset with info": (variant(reset_env=returning(OBS, STATE, {})), "reset_env returns 3 valu"),
    "an observation alone": (variant(reset_env=lambda *_: OBS), r"reset_env returns float32\[2\]"),
    "a reset that raises": (variant(reset_env=failing), "reset_env raises LookupError: no such"),
    "a step that raises": (
        variant(step_env=failing),
        "step_env raises LookupError: no such map "
        r"\(test_environment_trials.py:\d+\)$",
    ),
    "a limit that raises": (variant(is_truncated=failing), "is_truncated raises LookupError"),
    "a limit that is none": (variant(is_truncated=None), "is_truncated is None, and no function"),
    "an if on a number": (
        variant(step_env=branching),
        r"Boo.* \(test_environment_trials.py:\d+\): use jnp.where or jax.lax.cond instead of `if`$",
    ),
    "too few arguments": (variant(step_env=lambda self, key: 0), "step_env raises TypeError"),
    "a state cut to whole numbers": (
        variant(reset_env=returning(OBS, State(time=0, position=0))),
        r"state.position is int32\[\] after reset_env and float32\[\] after step_env",
    ),
    "a state that grows": (
        variant(step_env=returning(OBS, STATE.replace(position=OBS), 0.0, NO_END, {})),
        r"state.position is float32\[\] after reset_env and float32\[2\]",
    ),
    "another state": (
        variant(step_env=returning(OBS, (OBS, OBS), 0.0, NO_END, {})),
        "give both the same parts",
    ),
    "a state that is no array": (
        variant(reset_env=returning(OBS, State(time=0, position=object()))),
        "the state of reset_env holds a object at state.position",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(case):
    env, message = WRONG[case]
    with pytest.raises(ValueError, match=message) as raised:
        envs.make(env)
    assert type(env).__name__ in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_is_harmless_passes():
    """No name, one number for a scalar, plain numbers and flags, any info, a hashable field."""
    step = variant(step_env=returning(np.zeros(2), State(1, np.float32(2)), 3, np.ones(1), "text"))
    for env in (Plain(), step, Mapped((1, 2)), Cells()):
        assert envs.make(env).spec.num_actions == 2


def test_it_is_tried_once(monkeypatch):
    calls = []
    env = variant(is_truncated=lambda *_: calls.append(1) or NO_END)
    for _ in range(3):
        jax.eval_shape(lambda: envs.make(env).params.pace)
    assert len(calls) == 1


def test_it_is_said_before_anything_is_compiled_or_written(tmp_path):
    import jaxrl_pg

    config = ppo.Config(env=variant(step_env=failing), num_minibatches=2)
    with pytest.raises(ValueError, match="Odd: step_env raises LookupError"):
        jaxrl_pg.run(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 3), (2, 9, 1), (9, 1, 1)])
def test_images_smaller_than_a_filter_are_refused_with_the_ways_out(shape):
    image = jnp.zeros(shape)
    small = variant(
        observations=spaces.Box(0, 1, shape),
        reset_env=returning(image, STATE),
        step_env=returning(image, STATE, 0.0, NO_END, {}),
    )
    config = ppo.Config(env=small, num_minibatches=2)
    init = lambda config: jax.eval_shape(ppo.init, config, jax.random.key(0))  # noqa: E731
    with pytest.raises(ValueError, match=rf"{shape[0]}x{shape[1]}: give conv_layers .* conv_feat"):
        init(config)
    init(config.replace(conv_features=0))
    init(config.replace(conv_layers=((4, 3, 1, 1),)))
