"""What is no finite number is traced to where it came from, and is never saved as good."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blank import state_of

import jaxrl_pg
from jaxrl_pg import agents, checkpoint
from jaxrl_pg.agents import actor_critic, ppo, soft_q_learning
from jaxrl_pg.running.divergence import (
    DivergedError,
    diverged,
    first_fault,
    unsound_evaluation,
)
from jaxrl_pg.running.hooks import Hooks
from jaxrl_pg.running.journal import Journal
from jaxrl_pg.running.options import Options
from jaxrl_pg.running.rows import known
from jaxrl_pg.running.run_folder import RunFolder
from probes import Probe, params

SIZES = {"num_envs": 6, "num_steps": 8, "hidden_sizes": (4,)}
STATE = state_of(ppo.Config(**SIZES, num_minibatches=2))
REPLAY = state_of(soft_q_learning.Config(**SIZES, buffer_size=60))
SETTINGS = "Likely causes: learning_rate too high"


class Faulty(Probe):
    """A probe that now and then gives one number that is not finite, whatever the action."""

    def __init__(self, what, value):
        super().__init__()
        self.what, self.value = what, value

    def step_env(self, key, state, action, params):
        obs, state, reward, terminated, info = super().step_env(key, state, action, params)
        bad = jax.random.uniform(key) < 0.01
        if self.what == "observation":
            obs = jnp.where(bad, obs.at[1].set(self.value), obs)
        else:
            reward = jnp.where(bad, self.value, reward)
        return obs, state, reward, terminated, info


def with_(state, part, name, place, value):
    """A state with one number changed."""
    leaf = getattr(getattr(state, part), name).copy()
    leaf[place] = value
    return state._replace(**{part: getattr(state, part)._replace(**{name: leaf})})


# --- a state --------------------------------------------------------------------------------------


def test_a_sound_state_has_no_fault():
    assert first_fault(STATE) is None
    assert first_fault(REPLAY) is None
    assert first_fault(jax.tree.map(jnp.asarray, REPLAY)) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_environment_is_named(value):
    for name, place, said in (
        ("obs", (3, 1), f"the observation of environment 3 is {value}"),
        ("episode_return", 5, f"the reward of environment 5 is {value}"),
        ("discounted_return", 0, f"the reward of environment 0 is {value}"),
    ):
        bad = with_(STATE, "actor", name, place, value)
        assert first_fault(bad) == said
        assert first_fault(jax.tree.map(jnp.asarray, bad)) == said


def test_several_environments_are_counted():
    bad = with_(STATE, "actor", "obs", slice(2, 5), math.nan)
    assert (
        first_fault(bad) == "the observation of environment 2 is nan, and 2 others are not finite"
    )
    assert "all 6 environments" in first_fault(with_(STATE, "actor", "obs", ..., math.nan))


def test_every_part_of_a_structured_observation_is_looked_at():
    obs = {"action_mask": np.ones((6, 2), bool), "place": np.zeros((6, 3), np.float32)}
    obs["place"][3, 1] = math.nan
    bad = STATE._replace(actor=STATE.actor._replace(obs=obs))
    assert first_fault(bad) == "the observation 'place' of environment 3 is nan"


def test_a_row_of_the_replay_is_traced_to_its_environment():
    rows = REPLAY.memory.data
    reward, next_obs = rows.reward.copy(), rows.next_obs.copy()
    reward[27] = math.inf  # 27 = 4 * 6 + 3
    next_obs[13, 2] = math.nan
    for data, said in (
        (
            rows._replace(reward=reward),
            r"memory.data.reward holds inf in row 27, from environment 3",
        ),
        (
            rows._replace(next_obs=next_obs),
            "memory.data.next_obs holds nan in row 13, from environment 1",
        ),
    ):
        assert first_fault(REPLAY._replace(memory=REPLAY.memory._replace(data=data))) == said


def test_a_parameter_is_named_and_a_scalar_may_be_infinite():
    bias = STATE.learner.params["params"]["value_head"]["bias"]
    bias[0] = math.inf
    try:
        assert first_fault(STATE) == "learner.params['params']['value_head']['bias'] holds inf"
    finally:
        bias[0] = 0.0
    best = STATE.learner._replace(kl_coef=np.array(-math.inf, np.float32))
    assert first_fault(STATE._replace(learner=best)) is None
    best = STATE.learner._replace(kl_coef=np.array(math.nan, np.float32))
    assert first_fault(STATE._replace(learner=best)) == "learner.kl_coef holds nan"


# --- the message ----------------------------------------------------------------------------------


def rows(*returns):
    """Rows of three iterations, the second with a diverged loss."""
    return [
        {"iteration": i, "loss/policy": loss, "train/return_mean": ret, "train/episodes": 2.0}
        for i, loss, ret in zip((4, 5, 6), (0.1, math.nan, math.nan), returns, strict=True)
    ]


def test_the_environment_is_suspected_first():
    bad = with_(STATE, "actor", "obs", (4, 0), math.inf)
    message = str(diverged(rows(1.0, 1.0, 1.0), 1, "loss/policy", "none was saved yet", bad))
    assert message.startswith("loss/policy is nan in iteration 5; none was saved yet. ")
    assert "Suspect the environment first: the observation of environment 4 is inf." in message
    assert SETTINGS in message
    message = str(diverged(rows(1.0, math.inf, 1.0), 1, "loss/policy", "", STATE))
    assert "first: the return of an episode in iteration 5 is no finite number" in message
    message = str(
        diverged(rows(1.0, 1.0, 1.0), 1, "loss/policy", "", STATE, lambda n: f"found {n}")
    )
    assert "first: found 1." in message


def test_a_sound_environment_is_not_suspected():
    message = str(diverged(rows(1.0, 1.0, 1.0), 1, "loss/policy", "", STATE, lambda number: None))
    assert "environment" not in message
    assert SETTINGS in message


def test_an_evaluation_that_is_not_finite_is_said():
    assert unsound_evaluation({"iteration": 3, "loss/policy": 1.0}) is None
    assert unsound_evaluation({"iteration": 3, "eval/return_mean": 1.0}) is None
    for value in (math.nan, -math.inf):
        line = unsound_evaluation({"iteration": 3, "eval/return_mean": value})
        assert line.startswith(f"the evaluation after iteration 3 gave a return of {value}")
        assert "\n" not in line


# --- runs -----------------------------------------------------------------------------------------


ONCE = [
    pytest.param("observation", math.nan),
    pytest.param("reward", math.inf, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("what", "value"), ONCE)
def test_a_run_names_the_environment_that_was_wrong_once(what, value, tmp_path):
    config = actor_critic.Config(
        **SIZES, env=Faulty(what, value), env_params=params(length=3), total_timesteps=960
    )
    with pytest.raises(DivergedError) as error:
        jaxrl_pg.run(config, tmp_path / "run", num_evals=0, quiet=True)
    assert f"Suspect the environment first: the {what} of environment " in str(error.value)
    assert checkpoint.steps(tmp_path / "run" / "checkpoints") == []


def test_a_state_with_a_fault_is_not_saved(tmp_path):
    config = ppo.Config(**SIZES, num_minibatches=2)
    saved = {"agent": "ppo", "env": "CartPole-v1", "config": {}, "options": {}, "seed": 0}
    folder = RunFolder.create(tmp_path / "run", saved)
    options = Options(quiet=True)
    with folder, Journal(config, folder, options, 0, Hooks()) as journal:
        journal.save(STATE._replace(iteration=np.int32(1)), 0.0)
        bad = with_(STATE, "actor", "obs", (2, 0), math.nan)
        with pytest.raises(DivergedError, match=r"environment 2 is nan after iteration 2.*is 1$"):
            journal.save(bad._replace(iteration=np.int32(2)), 0.0)
    assert checkpoint.steps(folder.checkpoints_dir) == [1]


@pytest.mark.slow
def test_a_replay_with_a_fault_in_it_ends_the_run(tmp_path):
    env = Faulty("observation", math.nan)
    config = soft_q_learning.Config(
        **SIZES, env=env, env_params=params(length=3), total_timesteps=480, learning_starts=10**6
    )
    with pytest.raises(DivergedError, match=r"from environment \d after .* not saved; none was"):
        jaxrl_pg.run(config, tmp_path / "run", num_evals=1, num_eval_episodes=2, quiet=True)
    assert checkpoint.steps(tmp_path / "run" / "checkpoints") == []


# --- jax_debug_nans -------------------------------------------------------------------------------


def test_means_over_no_episodes_are_unknown_to_the_host():
    row = {"train/episodes": 0.0, "train/return_mean": 0.0, "train/length_mean": 0.0, "loss": 0.0}
    assert [name for name, x in known(row).items() if math.isnan(x)] == [
        "train/return_mean",
        "train/length_mean",
    ]
    assert known({**row, "train/episodes": 1.0}) == {**row, "train/episodes": 1.0}


AGENTS = [
    pytest.param(name, marks=[] if name == "actor_critic" else pytest.mark.slow)
    for name in agents.AGENTS
]


@pytest.mark.parametrize("name", AGENTS)
def test_healthy_runs_go_through_when_jax_stops_at_nans(name, tmp_path):
    limit = {"max_steps_in_episode": 8} if name == "reinforce" else {}
    config = agents.AGENTS[name].Config(
        num_envs=4, num_steps=8, env_params=limit, total_timesteps=32
    )
    jax.clear_caches()
    with jax.debug_nans(True):
        result = jaxrl_pg.run(config, tmp_path / "run", num_evals=0, quiet=True)
    if name != "reinforce":  # no episode has ended
        assert np.isnan(result.metrics["train/return_mean"]).all()
    jax.clear_caches()
