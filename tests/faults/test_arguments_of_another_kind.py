"""Arguments of another kind than a function takes are refused in one line, and first of all."""

import jax
import pytest

import jaxrl_pg
from jaxrl_pg import ppo
from jaxrl_pg.components import optim

CONFIG = ppo.Config(num_envs=4, num_steps=8, num_minibatches=2, total_timesteps=64)
CALLS = {
    "a number for a folder": (lambda: jaxrl_pg.run(CONFIG, 5), "run_dir=5: give a path"),
    "a NUL in a folder": (lambda: jaxrl_pg.run(CONFIG, "a\0b"), "give a path"),
    "a number to resume": (lambda: jaxrl_pg.resume(3.5), "run_dir=3.5: give a path"),
    "nothing to load": (lambda: jaxrl_pg.load(None), "path=None: give a path"),
    "a dict for options": (
        lambda: jaxrl_pg.run(CONFIG, "x", options={"quiet": True}),
        "or single options by name",
    ),
    "one logger": (lambda: jaxrl_pg.run(CONFIG, "x", loggers=None), "give a list of loggers"),
    "a dict for a sweep": (lambda: jaxrl_pg.sweep({"agent": "ppo"}), "give a path"),
    "a sweep's options": (
        lambda: jaxrl_pg.sweep("x", options="fast"),
        "or single options by name",
    ),
    "an optimiser that makes none": (
        lambda: optim.init({"w": jax.numpy.ones(2)}, lambda learning_rate: 3),
        "gives a int: give a function from a learning rate",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_each_is_refused_in_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    call, words = CALLS[name]
    with pytest.raises(ValueError) as refused:
        call()
    assert words in str(refused.value)
    assert str(refused.value).isprintable()
    assert not list(tmp_path.iterdir())
