"""Experiment files: what they expand to, what groups, what is drawn, what is refused."""

import dataclasses
import hashlib
import json
import random
import tomllib
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.stats import qmc

from jaxrl_pg.agents import ppo
from jaxrl_pg.sweeps import designs, experiment
from jaxrl_pg.types import Agent

ROOT = Path(__file__).parents[2]
HEAD = 'agent = "ppo"\nenv = "CartPole-v1"\nseeds = 1\n'


class OtherConfig(ppo.Config):
    """Another agent's: one field more, and one that only it may leave out."""

    tau: float = 0.5
    replay: int | None = 4


OTHER = Agent("other", OtherConfig, ppo.init, ppo.iterate, ppo.act, ppo.value)


def points_of(text, head=HEAD):
    return experiment.parse("x", tomllib.loads(head + text)).points


def values_of(text, field):
    return [getattr(point.config, field) for point in points_of(text)]


# --- expansion ------------------------------------------------------------------------------------


def test_what_is_not_said_is_the_default():
    found = experiment.parse("short", {"agent": "ppo", "env": "Acrobot-v1"})
    assert (found.name, found.num_evals, found.num_eval_episodes) == ("short", 10, 128)
    assert [point.seed for point in found.points] == list(range(10))
    assert {point.study for point in found.points} == {"short"}
    assert {point.agent for point in found.points} == {"ppo"}
    assert all(point.config == ppo.Config(env="Acrobot-v1") for point in found.points)


def test_every_combination_once_in_a_fixed_order():
    points = points_of(
        """
        total_timesteps = 9_000
        [fixed]
        num_envs = 16
        [grid]
        gamma = [0.9, 0.99]
        num_steps = [8, 16, 32]
        [sample]
        num = 4
        learning_rate = { low = 1e-5, high = 1e-2, log = true }
        """,
        'agent = "ppo"\nenv = ["CartPole-v1", "Acrobot-v1"]\nseeds = [3, 1]\n',
    )
    assert len(points) == 96  # 2 environments x (2 x 3) of the grid x 4 drawn x 2 seeds
    assert len({point.id for point in points}) == 96
    assert {point.config.num_envs for point in points} == {16}
    assert {point.config.total_timesteps for point in points} == {9000}
    order = [(p.config.env, p.config.gamma, p.config.num_steps, p.seed) for p in points]
    # The last thing named moves fastest; 2 seeds x 4 drawn = 8 points at each place of the grid.
    assert order[:3] == [("CartPole-v1", 0.9, 8, s) for s in (3, 1, 3)]
    assert order[8][2] == 16
    assert order[24] == ("CartPole-v1", 0.99, 8, 3)
    assert order[48] == ("Acrobot-v1", 0.9, 8, 3)
    drawn = [p.config.learning_rate for p in points[0:8:2]]
    assert [p.config.learning_rate for p in points[88:96:2]] == drawn  # the same everywhere
    assert len(set(drawn)) == 4


def test_values_become_what_the_config_wants():
    text = """
    [fixed]
    max_grad_norm = 1
    hidden_sizes = [8, 4]
    clip_eps_vf = "none"
    env_params = { length = 1 }
    [grid]
    target_kl = ["none", 0.01]
    env_params.gravity = [5, 9.8]
    [sample]
    num = 2
    env_params.force_mag = { low = 5.0, high = 20.0 }
    """
    points = points_of(text)
    config = points[0].config
    assert (config.max_grad_norm, config.hidden_sizes) == (1.0, (8, 4))
    assert isinstance(config.max_grad_norm, float)
    assert config.clip_eps_vf is None
    assert [p.config.target_kl for p in points[::4]] == [None, 0.01]
    assert [p.config.env_params["gravity"] for p in points[:4]] == [5.0, 5.0, 9.8, 9.8]
    assert all(p.config.env_params["length"] == 1.0 for p in points)
    assert all(5 <= p.config.env_params["force_mag"] <= 20 for p in points)


def test_agents_share_the_drawn_settings_and_keep_their_own_configs():
    text = "[sample]\nnum = 4\ngamma = { low = 0.9, high = 0.99 }"
    points = points_of(text, 'agent = ["ppo", "other"]\nenv = "CartPole-v1"\nseeds = 1\n')
    assert [point.agent for point in points] == ["ppo"] * 4 + ["other"] * 4
    assert [type(point.config) for point in points[3:5]] == [ppo.Config, OtherConfig]
    gammas = [point.config.gamma for point in points]
    assert gammas[:4] == gammas[4:]


def test_json_gives_the_same_experiment_again():
    text = '[grid]\nhidden_sizes = [[8], [8, 8]]\n[[study]]\nname = "a"\n[study.fixed]\ngamma = 1'
    first = experiment.parse("x", tomllib.loads(HEAD + text))
    assert experiment.parse("x", json.loads(json.dumps(first.table))) == first


# --- identity -------------------------------------------------------------------------------------


def test_the_id_is_a_hash_of_agent_config_and_seed():
    point = points_of("[fixed]\nlearning_rate = 1e-4\nnum_devices = 2")[0]
    fields = dataclasses.asdict(point.config)
    assert fields.pop("num_devices") == 2
    for later in ("dtype", "matmul_precision"):  # of which older sweeps knew nothing
        fields.pop(later)
    fields["hidden_sizes"] = list(fields["hidden_sizes"])
    text = json.dumps({"agent": "ppo", "config": fields, "seed": 0}, sort_keys=True)
    text = text.replace(", ", ",").replace(": ", ":")
    assert point.id == hashlib.sha256(text.encode()).hexdigest()[:12]


def test_another_precision_is_another_run_and_another_program():
    grid = '[grid]\ndtype = ["float32", "bfloat16"]\nmatmul_precision = ["high"]'
    points = [*points_of(grid), *points_of("")]
    assert len({point.id for point in points}) == 3
    assert len({group.id for group in experiment.groups(points)}) == 3


def test_recorded_runs_keep_their_ids_when_their_agent_gets_fields():
    """MountainCarContinuous, seed 0, of `agents_classic`, as its record names it."""
    text = "[fixed]\nnormalize_obs = true\nnormalize_reward = true\n"
    head = (
        'agent = "off_policy_actor_critic"\nenv = "MountainCarContinuous-v0"\nseeds = 1\n'
        "total_timesteps = 300_000\n"
    )
    before = points_of(f"{text}std_rate = 1.0\nbound_coef = 0.0", head)[0]
    assert before.id == "e67844502d72"
    assert points_of(text, head)[0].id != before.id


def test_ids_stay_when_the_experiment_grows():
    few = points_of("[grid]\ngamma = [0.9]")
    many = points_of(
        "[grid]\ngamma = [0.8, 0.9]\nnum_steps = [32, 64]",
        'agent = "ppo"\nenv = ["Acrobot-v1", "CartPole-v1"]\nseeds = 3\n',
    )
    assert {point.id for point in few} < {point.id for point in many}
    assert len({point.id for point in many}) == 24  # 2 environments x 2 x 2 x 3 seeds


# --- what is drawn --------------------------------------------------------------------------------


@pytest.mark.parametrize("column", range(10))
def test_sobol_is_scipys_up_to_a_digital_shift(column):
    drawn = np.array(designs.draw("sobol", 256, column, seed=7))
    bits = (drawn * 2**32).astype(np.uint64)
    theirs = qmc.Sobol(10, scramble=False).random(256)[:, column] * 2**32
    # The first of the unshifted points is 0, so what is drawn first is the shift itself.
    np.testing.assert_array_equal(bits ^ bits[0], theirs.astype(np.uint64))
    assert bits[0] != 0
    # The shift keeps the balance: one point in each of 256 cells.
    assert sorted((drawn * 256).astype(int)) == list(range(256))


def test_sobol_columns_have_orders_of_their_own():
    columns = [designs.draw("sobol", 64, column, seed=1) for column in range(2)]
    order = [np.argsort(column).tolist() for column in columns]
    assert order[0] != order[1] != list(range(64)) != order[0]


def test_random_is_the_standard_librarys_stream():
    stream = random.Random("5/2")
    assert designs.draw("random", 3, 2, seed=5) == [stream.random() for _ in range(3)]
    # Pinned: Python promises this stream, and ids rest on it.
    first = [round(u, 12) for u in designs.draw("random", 2, 0, seed=0)]
    assert first == [0.342684257637, 0.692442077321]


@pytest.mark.parametrize("method", designs.METHODS)
def test_designs_repeat_and_seeds_and_columns_differ(method):
    first = designs.draw(method, 64, 0, seed=0)
    assert designs.draw(method, 64, 0, seed=0) == first
    for other in (designs.draw(method, 64, 1, 0), designs.draw(method, 64, 0, 1)):
        # Independent uniforms in [0, 1]: |u - v| averages 1/3 and is seldom small.
        assert np.mean(np.abs(np.subtract(first, other)) < 0.01) < 0.2
    assert 0 <= min(first) < 0.1
    assert 0.9 < max(first) <= 1


def test_log_spreads_over_the_decades_and_linear_over_the_range():
    text = "[sample]\nnum = 16\n"
    rates = values_of(
        text + "learning_rate = { low = 1e-5, high = 1e-1, log = true }", "learning_rate"
    )
    decades = Counter(int(np.floor(np.log10(x))) for x in rates)
    assert decades == {-5: 4, -4: 4, -3: 4, -2: 4}  # 16 cells over 4 decades
    gammas = values_of(text + "gamma = { low = 0.9, high = 0.98 }", "gamma")
    assert Counter(int((x - 0.9) / 0.02) for x in gammas) == {0: 4, 1: 4, 2: 4, 3: 4}
    assert all(float(f"{x:.9g}") == x for x in rates + gammas)


def test_whole_numbers_and_choices_are_equally_frequent():
    text = "[sample]\nnum = 16\ngamma = { low = 0.9, high = 0.99 }\n"
    epochs = values_of(text + "num_epochs = { low = 2, high = 5, whole = true }", "num_epochs")
    assert Counter(epochs) == {2: 4, 3: 4, 4: 4, 5: 4}
    sizes = values_of(text + "hidden_sizes = { choices = [[8], [8, 8]] }", "hidden_sizes")
    assert Counter(sizes) == {(8,): 8, (8, 8): 8}
    # Octaves [1, 2), [2, 4), [4, 8), [8, 16): 15 + 1 = 2^4, so a quarter of a log range each.
    steps = values_of(
        text + "num_epochs = { low = 1, high = 15, whole = true, log = true }", "num_epochs"
    )
    assert Counter(int(np.log2(n)) for n in steps) == {0: 4, 1: 4, 2: 4, 3: 4}


def test_a_field_more_leaves_the_drawn_ones():
    one = "[sample]\nnum = 8\nseed = 3\ngamma = { low = 0.9, high = 0.99 }\n"
    two = one + "ent_coef = { low = 0.0, high = 0.1 }"
    assert values_of(one, "gamma") == values_of(two, "gamma")
    assert values_of(one, "gamma") != values_of(one.replace("3", "4"), "gamma")


# --- studies --------------------------------------------------------------------------------------


def test_a_study_inherits_and_overrides():
    points = points_of(
        """
        total_timesteps = 1_000_000
        [fixed]
        num_envs = 32
        ent_coef = 0.1
        [grid]
        gamma = [0.9, 0.99]
        [sample]
        num = 4
        learning_rate = { low = 1e-4, high = 1e-3 }
        [[study]]
        name = "as it is"
        [[study]]
        name = "pendulum"
        env = "Pendulum-v1"
        seeds = [5]
        total_timesteps = 2_000_000
        [study.fixed]
        gamma = 0.95
        ent_coef = 0.0
        [study.grid]
        learning_rate = [1e-3, 2e-3, 3e-3]
        [[study]]
        name = "more"
        env = "Acrobot-v1"
        [study.sample]
        num = 8
        """
    )
    assert Counter(point.study for point in points) == {
        "as it is": 8,  # 2 of the grid x 4 drawn
        "pendulum": 3,  # its own grid: gamma is fixed now, and nothing is left to draw
        "more": 16,
    }
    configs = [point.config for point in points if point.study == "pendulum"]
    assert configs == [
        ppo.Config(
            env="Pendulum-v1",
            total_timesteps=2_000_000,
            num_envs=32,
            ent_coef=0.0,
            gamma=0.95,
            learning_rate=rate,
        )
        for rate in (1e-3, 2e-3, 3e-3)
    ]
    assert {point.seed for point in points if point.study == "pendulum"} == {5}


# --- groups ---------------------------------------------------------------------------------------

VARIED = """
[fixed]
num_steps = 8
[grid]
learning_rate = [1e-4, 1e-3]
num_envs = [32, 64]
[[study]]
name = "plain"
[[study]]
name = "warm"
[study.fixed]
gamma = 0.9
[[study]]
name = "stop"
[study.fixed]
target_kl = 0.1
[[study]]
name = "moon"
[study.fixed]
env_params.gravity = 1.6
"""


def test_a_group_is_one_compiled_program():
    points = points_of(VARIED)
    found = experiment.groups(points)
    # 2 num_envs, each for plain and warm together, for stop and for moon: 6 programs. With 2
    # learning rates that is 4 points for plain and warm, 2 for the others.
    assert [len(group.points) for group in found] == [4, 4, 2, 2, 2, 2]
    studies = [[point.study for point in group.points] for group in found]
    assert studies[:2] == [["plain", "plain", "warm", "warm"]] * 2
    assert studies[2:] == [["stop"] * 2] * 2 + [["moon"] * 2] * 2
    assert found[0].points[0] == points[0]
    assert sorted(p.id for g in found for p in g.points) == sorted(p.id for p in points)
    traces = []

    @jax.jit
    def program(config):
        traces.append(config.num_envs)
        return config.learning_rate * 1.0

    for number, group in enumerate(found, start=1):
        for point in group.points:
            program(point.config)
        assert len(traces) == number


def test_agents_never_share_a_group():
    points = points_of("", 'agent = ["ppo", "other"]\nenv = "CartPole-v1"\nseeds = 2\n')
    found = experiment.groups(points)
    assert [(group.agent, len(group.points)) for group in found] == [("ppo", 2), ("other", 2)]
    assert found[0].id != found[1].id


def test_group_ids_name_the_program():
    found = experiment.groups(points_of(VARIED))
    assert len({group.id for group in found}) == 6
    again = experiment.groups(
        points_of(VARIED.replace("1e-4, ", ""), HEAD.replace("seeds = 1", "seeds = 3"))
    )
    assert [group.id for group in again] == [group.id for group in found]


def test_the_description_counts():
    text = """
    num_eval_episodes = 64
    total_timesteps = 500_000
    [grid]
    gamma = [0.9, 0.99]
    num_steps = [32, 128]
    """
    found = experiment.parse("sizes", tomllib.loads(HEAD.replace("seeds = 1", "seeds = 10") + text))
    lines = experiment.describe(found, experiment.groups(found.points)).splitlines()
    assert lines[0] == "sizes"
    assert lines[1].split() == ["agents", "40", "(settings:", "4)"]
    assert lines[2].split()[:2] == ["compilations", "2,"]
    # 64 x 32 = 2,048 steps an iteration, 245 of them: 501,760; 64 x 128 = 8,192, 62: 507,904.
    # 20 x 501,760 + 20 x 507,904 = 20,193,280.
    assert lines[3].split() == ["environment", "steps", "20,193,280"]
    assert lines[4].endswith("10 an agent, of 64 episodes")
    assert lines[5].endswith("ppo on CartPole-v1: 20 x 501,760 steps, num_steps=32")
    assert lines[6].endswith("ppo on CartPole-v1: 20 x 507,904 steps, num_steps=128")


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(ROOT.glob("experiments/*.toml")), ids=lambda p: p.stem)
def test_the_experiments_of_the_repository_expand(path, monkeypatch):
    if "brax:" in path.read_text():
        pytest.importorskip("brax")
    monkeypatch.chdir(ROOT)
    text = path.read_text()
    assert text.startswith("# ")
    assert text.splitlines()[0].endswith("?")
    try:
        found, by_path = experiment.load(path.stem), experiment.load(str(path))
    except ValueError as error:
        if "is not installed" not in str(error):
            raise
        pytest.skip("its environments are another suite's")
    assert (found.source, by_path.source) == (path.stem, str(path))
    assert found == by_path._replace(source=found.source)
    assert found.points


def test_a_missing_or_broken_file_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=r"'x': there is no folder experiments/ in .* give the path"
    ):
        experiment.load("x")
    with pytest.raises(ValueError, match=r"cannot read x\.toml .*: give the path of a"):
        experiment.load("x.toml")
    Path("experiments").mkdir()
    Path("experiments/first.toml").write_text(HEAD)
    Path("experiments/second.toml").write_text("agent = ")
    assert len(experiment.load("first").points) == 1
    with pytest.raises(
        ValueError, match=r"frist\.toml .*: did you mean 'first'\? allowed: first, s"
    ):
        experiment.load("frist")
    with pytest.raises(
        ValueError, match=r"^experiments/second\.toml is not TOML \(Invalid value .*: fix that line"
    ):
        experiment.load("experiments/second.toml")


# --- what is refused ------------------------------------------------------------------------------

REFUSED = {
    "top key": ("sedes = 3", "unknown key 'sedes': did you mean 'seeds'?"),
    "field at the top": ("gamma = 0.9", "unknown key 'gamma': write it under [fixed]"),
    "study key": ('[[study]]\nname = "a"\nnum_evals = 3', "study 'a': unknown key 'num_evals'"),
    "study without name": ("[[study]]\nseeds = 3", "study name=None: give every [[study]]"),
    "nameless": ('[[study]]\nname = ""', "study name='': give every [[study]] a name"),
    "two of a name": ('[[study]]\nname = "a"\n[[study]]\nname = "a"', "name of its own"),
    "study no list": ('[study]\nname = "a"', "study is no list of tables: write [[study]]"),
    "fixed field": ("[fixed]\ngama = 1", "unknown field 'gama': did you mean 'gamma'?"),
    "grid field": ("[grid]\nlerning_rate = [1]", "did you mean 'learning_rate'?"),
    "sampled field": (
        "[sample]\nnum = 2\ngama = { low = 0.1, high = 0.2 }",
        "unknown field 'gama': did you mean 'gamma'?",
    ),
    "value": ("[fixed]\ngamma = 1.5", "gamma=1.5: give a number from 0 to 1"),
    "none where it may not be": ('[fixed]\ngamma = "none"', "gamma='none': give a number"),
    "parameter": ("[fixed]\nenv_params.gravty = 5", "did you mean 'gravity'?"),
    "parameters no table": ("[fixed]\nenv_params = 5", "[fixed] env_params=5: give a table"),
    "env in a block": ('[grid]\nenv = ["CartPole-v1"]', "env is in [grid]: write env = [...]"),
    "block no table": ("grid = 3", "grid=3: give a table [grid] that is not empty"),
    "empty grid": ("[grid]", "grid={}: give a table [grid] that is not empty"),
    "empty list": ("[grid]\ngamma = []", "[grid] gamma=[]: give a list that is not empty"),
    "grid no list": ("[grid]\ngamma = 0.9", "[grid] gamma=0.9: give a list"),
    "twice": ("[fixed]\ngamma = 1\n[grid]\ngamma = [1]", "gamma is given in two places"),
    "timesteps twice": (
        "total_timesteps = 9\n[grid]\ntotal_timesteps = [9]",
        "total_timesteps is given in two places",
    ),
    "parameter twice": (
        "[fixed]\nenv_params.gravity = 1\n[grid]\nenv_params.gravity = [1]",
        "env_params.gravity is given in two places",
    ),
    "duplicate": (
        "[grid]\ngamma = [1, 1.0]",
        "study 'x', ppo on CartPole-v1 with gamma=1.0, seed 0: study 'x' has it already",
    ),
    "duplicate over studies": (
        '[[study]]\nname = "a"\n[[study]]\nname = "b"',
        "study 'b', ppo on CartPole-v1, seed 0: study 'a' has it already",
    ),
    "combination": (
        "[fixed]\nnum_steps = 1\n[grid]\nnum_envs = [32, 33]",
        "study 'x', ppo on CartPole-v1 with num_envs=33: num_envs=33 x num_steps=1 does not split",
    ),
    "evals": ("num_evals = 0", "num_evals=0: give a whole number from 1"),
    "episodes": ("num_eval_episodes = 1.5", "num_eval_episodes=1.5: give a whole number from 1"),
    "sample without num": (
        "[sample]\ngamma = { low = 0.1, high = 0.2 }",
        "[sample] num=None: give a whole number from 1",
    ),
    "sample without fields": ("[sample]\nnum = 2", "[sample] names no field"),
    "sample key": ('[sample]\nnum = 2\nmetod = "sobol"', "did you mean 'method'?"),
    "method": (
        '[sample]\nnum = 2\nmethod = "sobl"\ngamma = { low = 0.1, high = 0.2 }',
        "[sample] method='sobl': did you mean 'sobol'?",
    ),
    "latin hypercube": (
        '[sample]\nnum = 2\nmethod = "latin"\ngamma = { low = 0.1, high = 0.2 }',
        "[sample] method='latin': allowed: random, sobol",
    ),
    "sobol's number": (
        "[sample]\nnum = 12\ngamma = { low = 0.1, high = 0.2 }",
        "[sample] num=12 with sobol: give a power of two, as 16",
    ),
    "sobol's dimensions": (
        "[sample]\nnum = 2\n"
        + "".join(f"env_params.p{i} = {{ low = 0, high = 1 }}\n" for i in range(11)),
        "[sample] 11 fields with sobol: give 10 at most, or random",
    ),
}
SPECS = {
    "no table": ("gamma = 0.9", "a field takes { low = ..., high = ... } or { choices"),
    "key": ("gamma = { low = 0.1, hihg = 0.2 }", "key='hihg': did you mean 'high'?"),
    "both": ("gamma = { low = 0.1, choices = [1] }", "key='low': allowed: choices"),
    "no high": ("gamma = { low = 0.1 }", "give numbers for low and high"),
    "words": ('gamma = { low = "0", high = 1 }', "give numbers for low and high"),
    "infinite": ("gamma = { low = 0, high = inf }", "give numbers for low and high"),
    "equal": ("gamma = { low = 0.1, high = 0.1 }", "give low < high"),
    "log": ("gamma = { low = 0, high = 1, log = true }", "give low < high, and with log low > 0"),
    "log no switch": ("gamma = { low = 0.1, high = 1, log = 1 }", "give true or false for log"),
    "name": ("activation = { low = 1, high = 2 }", "activation is not a number, give { choices"),
    "switch": ("anneal_lr = { low = 0, high = 1 }", "anneal_lr is not a number, give { choices"),
    "sizes": ("hidden_sizes = { low = 4, high = 8 }", "hidden_sizes is not a number, give"),
    "count": ("num_epochs = { low = 1, high = 4 }", "takes whole numbers, add whole = true"),
    "halves": ("num_epochs = { low = 1, high = 4.5, whole = true }", "give whole numbers for low"),
    "no choices": ("gamma = { choices = [] }", "give a list of choices that is not empty"),
    "out of range": ("gamma = { low = 1.5, high = 2.0 }", "give a number from 0 to 1"),
    "same twice": ("num_epochs = { choices = [4] }", "has it already, remove one"),
}
HEADS = {
    "no agent": ('env = "CartPole-v1"', "study 'x': no agent: write agent = \"...\""),
    "no env": ('agent = "ppo"', "study 'x': no env: write env = \"...\""),
    "agent": ('agent = "pop"\nenv = "CartPole-v1"', "agent='pop': did you mean 'ppo'?"),
    "env": (
        'agent = "ppo"\nenv = "CartPole-v2"',
        "unknown environment 'CartPole-v2': did you mean 'CartPole-v1'?",
    ),
    "no envs": ('agent = "ppo"\nenv = []', "env=[]: write env"),
    "a number": ('agent = 3\nenv = "CartPole-v1"', "agent=3: write agent"),
    "no seeds": ('agent = "ppo"\nenv = "CartPole-v1"\nseeds = []', "seeds=[]: give how many"),
    "zero seeds": ('agent = "ppo"\nenv = "CartPole-v1"\nseeds = 0', "seeds=0: give a whole number"),
    "half a seed": (
        'agent = "ppo"\nenv = "CartPole-v1"\nseeds = [0.5]',
        "a seed=0.5: give a whole",
    ),
    "a yes": ('agent = "ppo"\nenv = "CartPole-v1"\nseeds = true', "seeds=True: give a whole"),
    "seed twice": (
        'agent = "ppo"\nenv = "CartPole-v1"\nseeds = [1, 1]',
        "seed 1: study 'x' has it",
    ),
    "negative": ('agent = "ppo"\nenv = "CartPole-v1"\nseeds = [-1]', "a seed=-1: give a whole"),
}
ALL_REFUSED = {
    **{name: (HEAD + text, words) for name, (text, words) in REFUSED.items()},
    **{
        f"sample: {name}": (f"{HEAD}[sample]\nnum = 2\n{text}", words)
        for name, (text, words) in SPECS.items()
    },
    **{f"head: {name}": case for name, case in HEADS.items()},
}


@pytest.mark.parametrize("name", ALL_REFUSED)
def test_mistakes_are_refused_in_one_clear_line(name):
    text, words = ALL_REFUSED[name]
    with pytest.raises(ValueError) as refusal:
        experiment.parse("x", tomllib.loads(text))
    message = str(refusal.value)
    assert words in message
    assert message.startswith("experiment 'x': ")
    assert "\n" not in message


def test_a_field_must_be_every_agents():
    head = 'agent = ["other", "ppo"]\nenv = "CartPole-v1"\n'
    with pytest.raises(ValueError, match=r"ppo on CartPole-v1.*: unknown field 'tau'"):
        points_of("[fixed]\ntau = 0.1", head)
    head = 'agent = "other"\nenv = "CartPole-v1"\nseeds = 1\n'
    assert points_of('[grid]\nreplay = ["none", 2]', head)[0].config.replay is None
    with pytest.raises(ValueError, match="replay takes whole numbers"):
        points_of("[sample]\nnum = 2\nreplay = { low = 1, high = 5 }", head)
