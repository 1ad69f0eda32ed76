"""Sizes from outside are refused in one line, at once, before anything of that size is made."""

import time

import pytest

from jaxrl_pg import ppo, reinforce, sac
from jaxrl_pg.cli import commands
from jaxrl_pg.running import memory_estimate, options, sizes
from jaxrl_pg.sweeps import experiment, study

HEAD = 'agent = "ppo"\nenv = "CartPole-v1"\n'


@pytest.fixture(autouse=True)
def _at_once():
    """Nothing here may take as long as making what is refused would."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 60  # on a busy machine, and with all imports


def refusal(text, tmp_path):
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(ValueError) as refused:
        experiment.load(path)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1000
    return str(refused.value)


GRID = "[grid]\n" + "".join(f"env_params.p{i} = [1, 2, 3, 4, 5, 6, 7, 8]\n" for i in range(12))
EXPERIMENTS = {
    "a product": (GRID, f"are {8**12 * 10:,} runs: give at most 100,000"),
    "seeds": ("seeds = 2147483647", "are 2,147,483,647 runs: give at most 100,000"),
    "a float of seeds": ("seeds = 3e9", "seeds=3000000000.0: give a whole number from 1"),
    "a text of seeds": ('seeds = "' + "9" * 10**5 + '"', "give a whole number from 1"),
    "draws": (
        "[sample]\nnum = 1073741824\ngamma = { low = 0.1, high = 0.2 }",
        "are 10,737,418,240 runs",
    ),
    "studies": (
        "seeds = 60000\n" + "".join(f'[[study]]\nname = "s{i}"\n' for i in range(9000)),
        "all studies together are 120,000 runs",
    ),
    "dotted keys": ("a" + ".b" * 20_000 + " = 1", "has a key of more than 32 parts"),
    "dotted keys in a header": ("[a" + ". b" * 20_000 + "]\nc = 1", "a key of more than 32 parts"),
    "quoted keys": ('x = { "a"' + '."b"' * 20_000 + " = 1 }", "a key of more than 32 parts"),
    "fields": (
        "[fixed]\n" + "".join(f"env_params.p{i} = 1\n" for i in range(20_000)),
        "[fixed] has 20,000 fields: give at most 100",
    ),
    "columns": (
        '[sample]\nnum = 1\nmethod = "random"\n'
        + "".join(f"p{i} = {{ low = 0, high = 1 }}\n" for i in range(5000)),
        "[sample] has 5,002 fields: give at most 100",
    ),
    "depth": ("a = " + "[" * 9000 + "]" * 9000, "lists in lists too deep"),
    "a large file": ("# " + "x" * 2_000_000, "is larger than 1,000,000 bytes"),
    "a number of digits": ("seeds = " + "9" * 9000, "is not TOML"),
    "evaluations": ("num_evals = 2000000000", "num_evals=2000000000: give at most 100,000"),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_counted_before_it_is_expanded(tmp_path, name):
    text, words = EXPERIMENTS[name]
    assert words in refusal(HEAD + text, tmp_path)


def test_what_people_write_is_not_refused(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text(
        HEAD
        + "# ......................................................... see docs.example.org/a.b.c\n"
        + "seeds = 1\n[fixed]\nhidden_sizes = [8, 8]  # a. b. c. d. e. f. g. h. i. j.\n"
        + "[grid]\ngamma = [0.1, 0.2]\n"
        + "env_params.gravity = [\n"
        + "".join(f"  {i}.5,\n" for i in range(40))
        + "]\n"
    )
    assert len(experiment.load(path).points) == 2 * 40
    assert study.MAX_RUNS >= 100_000


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: ppo.Config(total_timesteps=10**13),
            "are 4,882,812,500 iterations of 2,048 steps",
        ),
        (lambda: ppo.Config(total_timesteps=10**18), "or raise num_envs or num_steps"),
        (lambda: reinforce.Config(num_steps=10**12), "num_steps=1000000000000: give at most 2,147"),
        (
            lambda: sac.Config(env="Pendulum-v1", buffer_size=10**10),
            "buffer_size=10000000000: give at most",
        ),
        (lambda: ppo.Config(hidden_sizes=(64, 10**11)), "hidden_sizes=100000000000: give at most"),
        (
            lambda: ppo.Config(hidden_sizes=(4,) * 5000),
            "hidden_sizes has 5,000 entries: give at most",
        ),
        (lambda: ppo.Config(hidden_sizes=(2**30, 2**30)), "GiB per device and there are"),
        (lambda: reinforce.Config(num_envs=2**21, num_steps=2**9), "GiB per device and there are"),
    ],
)
def test_a_config_is_counted_before_it_is_traced(make, words):
    with pytest.raises(ValueError) as refused:
        memory_estimate.require(make())
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("number", [3 * 10**8, 2**31, 10**12])
def test_episodes_are_counted_before_they_are_played(number):
    with pytest.raises(ValueError, match="episodes"):
        memory_estimate.require_evaluation(ppo.Config(), number)


@pytest.mark.parametrize(
    "given",
    [
        {"num_evals": sizes.MAX_EVALS + 1},
        {"num_eval_episodes": 2**31},
        {"keep_last": 10**12},
    ],
)
def test_options_have_limits(given):
    ((name, value),) = given.items()
    with pytest.raises(ValueError, match=f"{name}={value}: give at most"):
        options.Options(**given)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train ppo --num-envs 4096 --num-devices 4096", "num_devices=4096: give at most 1,024"),
        ("sweep x --num-devices 1000000", "num_devices=1000000: give at most 1,024"),
        ("train ppo --total-timesteps 1e13", "are 4,882,812,500 iterations"),
        ("train ppo --total-timesteps 1e999999", "total_timesteps='1e999999': give a whole"),
        ("train ppo --num-eval-episodes 1e9", "an evaluation of 1,000,000,000 episodes needs"),
        ("train ppo --num-evals 1e9", "num_evals=1000000000: give at most 100,000"),
        (
            "train ppo --coordinator a:1 --num-processes 1000000000 --process-id 0",
            "num_processes=1000000000: give at most 10,000",
        ),
        (
            "train ppo --coordinator a:1 --num-processes 2 --process-id 0 --join-seconds 1e9",
            "join_seconds=1000000000: give a whole number from 1 to 86400",
        ),
    ],
)
def test_the_command_line_refuses_sizes(capsys, tmp_path, monkeypatch, command, words):
    monkeypatch.chdir(tmp_path)
    assert commands.main(command.split()) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
