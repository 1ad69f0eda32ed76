"""Which name was meant: by its letters, or as other libraries have it."""

import dataclasses
import inspect

import pytest

import jaxrl_pg
from jaxrl_pg import dqn, ppo, spelling
from jaxrl_pg.cli.policies import EvaluateFlags
from jaxrl_pg.cli.training import TrainFlags
from jaxrl_pg.running.options import Options
from jaxrl_pg.spelling import nearest
from jaxrl_pg.sweeps.study import STUDY_KEYS


def test_nearest():
    assert nearest("gama", ["tau", "gamma"]) == "did you mean 'gamma'? allowed: gamma, tau"
    assert nearest("xyz", ["tau", "gamma"]) == "allowed: gamma, tau"
    assert nearest(3, ["a"]) == "allowed: a"
    assert nearest("to_go", ["reward_to_go", "x"]) == (
        "did you mean 'reward_to_go'? allowed: reward_to_go, x"
    )
    few, many = ["maze", "mazes"], [f"maze{i}" for i in range(9)]
    assert nearest("mase", few, "list") == "did you mean 'maze'? allowed: maze, mazes"
    assert nearest("maze", many, "list") == (
        "did you mean 'maze8'? near it are maze7 and maze6; `list` lists all"
    )
    assert nearest("xyz", many, "list") == "`list` lists all"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "seed",
            "jaxrl_pg.run(config, seed=...), `jaxrl-pg train --seed` or seeds above [fixed]",
        ),
        (
            "n_seeds",
            "did you mean 'seeds'? it belongs to a run, not to a config: give ",
        ),
        ("eval_freq", "did you mean 'num_evals'? it belongs to a run, not to a config: give"),
        ("run_dir", "give jaxrl_pg.run(config, run_dir=...) or `jaxrl-pg train --run-dir`"),
        ("loggers", "give jaxrl_pg.run(config, loggers=...)"),
        ("num_env", "did you mean 'num_envs'? allowed: "),
    ],
)
def test_a_config_says_where_to_give_what_belongs_to_a_run(given, message):
    with pytest.raises(ValueError, match=f"^unknown field '{given}': ") as caught:
        ppo.Config(**{given: 1})
    assert message in str(caught.value)


def test_all_that_belongs_to_a_run_is_known_and_can_be_given_where_it_is_said():
    in_python = {*inspect.signature(jaxrl_pg.run).parameters} - {"config", "options", "changes"}
    in_python |= {field.name for field in dataclasses.fields(Options)}
    said = {spelling.ARGUMENTS.get(name, name) for name in spelling.OF_A_RUN}
    assert said == in_python
    flags = {field.name for cls in (TrainFlags, Options) for field in dataclasses.fields(cls)}
    options = {option for option, _ in spelling.OF_A_RUN.values() if option}
    assert {option[2:].replace("-", "_") for option in options} == flags - {"tuned"}
    keys = {key for _, key in spelling.OF_A_RUN.values() if key}
    assert keys <= {*STUDY_KEYS, "num_evals", "num_eval_episodes"}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        *[("lr", "learning_rate"), ("LR", "learning_rate"), ("steps", "total_timesteps")],
        *[("n_envs", "num_envs"), ("n_steps", "num_steps"), ("epochs", "num_epochs")],
        *[
            ("UPDATE_EPOCHS", "num_epochs"),
            ("clip_range", "clip_eps"),
            ("net_arch", "hidden_sizes"),
        ],
        *[("entropy_coef", "ent_coef"), ("discount", "gamma"), ("env_id", "env")],
    ],
)
def test_what_other_libraries_call_a_field_is_known(theirs, ours):
    with pytest.raises(ValueError, match=f"unknown field '{theirs}': did you mean '{ours}'"):
        ppo.Config(**{theirs: 1})


def test_an_agent_without_the_likeliest_field_is_told_of_its_own():
    with pytest.raises(ValueError, match="did you mean 'n_step'"):
        dqn.Config(n_steps=3)
    with pytest.raises(ValueError, match="did you mean 'num_updates'"):
        dqn.Config(epochs=3)


def test_every_name_that_is_proposed_is_one():
    configs_of = [getattr(jaxrl_pg, name).Config for name in jaxrl_pg.AGENT_NAMES]
    takes = inspect.signature(jaxrl_pg.run).parameters
    classes = [*configs_of, Options, TrainFlags, EvaluateFlags]
    fields = {field.name for cls in classes for field in dataclasses.fields(cls)}
    assert not spelling.ELSEWHERE.keys() - fields - set(takes)
