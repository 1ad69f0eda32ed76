"""The estimate of an iteration's memory, against what XLA plans for the compiled program."""

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import pytest

from jaxrl_pg import multi_agent, ppo, sac
from jaxrl_pg.config import agent_of
from jaxrl_pg.running import memory_estimate
from jaxrl_pg.training import population, program

CONFIGS = {
    "many_environments": ppo.Config(num_envs=512, num_steps=64, num_minibatches=4, num_epochs=2),
    "images": ppo.Config(env="Breakout-MinAtar", num_envs=64, num_steps=16, num_minibatches=4),
    "several_players": multi_agent.Config(num_envs=512, num_steps=16),
}


def planned(config):
    """Bytes that XLA sets aside for one iteration."""
    agent = agent_of(config)
    state = jax.eval_shape(partial(agent.init, config), jax.random.key(0))
    iterate = jax.jit(partial(agent.iterate, config), donate_argnums=0)
    compiled = iterate.lower(state).compile({"xla_backend_optimization_level": 0})
    plan = compiled.memory_analysis()
    own_outputs = plan.output_size_in_bytes - plan.alias_size_in_bytes
    return plan.argument_size_in_bytes + plan.temp_size_in_bytes + own_outputs


@pytest.mark.parametrize("name", CONFIGS)
def test_the_compilers_plan_is_between_the_two_figures(name):
    config = CONFIGS[name]
    assert memory_estimate.estimate(config) / 6 < planned(config) < memory_estimate.estimate(config)
    assert memory_estimate._iteration(config).least < planned(config)


def test_the_estimate_grows_with_the_rollout_and_is_divided_by_devices():
    config = CONFIGS["many_environments"]
    once = memory_estimate.estimate(config)
    assert 1.8 < memory_estimate.estimate(config.replace(num_steps=128)) / once < 2.2
    assert 1.8 < memory_estimate.estimate(config.replace(num_envs=1024)) / once < 2.2
    split = config.replace(num_envs=1024, num_devices=2)
    assert memory_estimate.estimate(split) == pytest.approx(once, rel=0.1)


def test_what_does_not_fit_is_refused_in_one_line(monkeypatch):
    config = CONFIGS["many_environments"]
    monkeypatch.setattr(memory_estimate, "available", lambda: 2**20)
    with pytest.raises(ValueError, match=r"one iteration needs at least 0\.0 GiB per") as caught:
        memory_estimate.require(config)
    assert "lower num_envs=512 or num_steps=64" in str(caught.value)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(memory_estimate, "available", lambda: memory_estimate.estimate(config))
    memory_estimate.require(config)


def test_the_estimate_and_the_run_share_one_trace(monkeypatch):
    """Tracing takes as long as all else between a command and its first step."""
    traced = []

    def counted(function):
        def count(*args):
            traced.append(function.__name__)
            return function(*args)

        return count

    monkeypatch.setattr(ppo.Config, "agent", ppo.AGENT)  # put back: an agent names itself there
    counts = {"init": counted(ppo.init), "iterate": counted(ppo.iterate)}
    agent = dataclasses.replace(ppo.AGENT, **counts)
    config = ppo.Config(num_envs=8, num_steps=8)
    memory_estimate.require(config, num_iterations=3)
    assert traced == ["init", "iterate"]
    state = jax.jit(agent.init).trace(config, jax.random.key(1)).out_info
    jax.jit(program.iterations, static_argnums=2, donate_argnums=1).trace(config, state, 3)
    assert traced == ["init", "iterate"]


@pytest.mark.parametrize(("layout", "factor"), [("map", 1), ("vmap", 8)])
def test_seeds_count(monkeypatch, layout, factor):
    """One after the other they work in the same memory; at once each needs its own."""
    config = CONFIGS["many_environments"]
    monkeypatch.setattr(population, "layout_here", lambda: layout)
    once = memory_estimate._iteration(config)
    each, work = once.arguments, factor * once.temporaries
    new = 8 * each if layout == "map" else 0
    least = 8 * each + int(memory_estimate._LEAST * (work + new))
    monkeypatch.setattr(memory_estimate, "available", lambda: least - 2)
    memory_estimate.require(config)
    with pytest.raises(ValueError, match=r"one iteration of 8 seeds needs .* lower num_seeds=8"):
        memory_estimate.require(config, num_seeds=8)
    monkeypatch.setattr(memory_estimate, "available", lambda: least + 2)
    memory_estimate.require(config, num_seeds=8)


def test_evaluations_count(monkeypatch):
    config = ppo.Config()
    few, many = (memory_estimate.estimate(config, number) for number in (8, 10**6))
    assert few == memory_estimate.estimate(config)
    assert many > 1e6 * 64 * 4  # a layer's features of every episode, as they are played at once
    monkeypatch.setattr(memory_estimate, "available", lambda: 2**24)
    memory_estimate.require(config, 8)
    with pytest.raises(ValueError, match="an evaluation of 1,000,000 episodes needs at least"):
        memory_estimate.require(config, 10**6)


class Compiled(NamedTuple):
    """What a compiled program says about itself."""

    argument_size_in_bytes: int = 2**20
    temp_size_in_bytes: int = 2**22
    output_size_in_bytes: int = 2**20
    alias_size_in_bytes: int = 2**20

    def memory_analysis(self):
        return self


def test_the_compilers_own_figure_decides(monkeypatch):
    config = CONFIGS["many_environments"]
    monkeypatch.setattr(memory_estimate, "available", lambda: 5 * 2**20)
    memory_estimate.require_compiled(Compiled(), config)
    with pytest.raises(ValueError, match=r"the compiled program needs at least .*num_envs=512"):
        memory_estimate.require_compiled(Compiled(alias_size_in_bytes=0), config)
    two = config.replace(num_devices=2)  # of a CPU, which share its memory
    with pytest.raises(ValueError, match="GiB per device and there are"):
        memory_estimate.require_compiled(Compiled(), two)


def test_a_container_may_have_less_than_the_machine(monkeypatch, tmp_path):
    limits = [tmp_path / name for name in ("none", "no number", "small")]
    limits[1].write_text("max\n")
    limits[2].write_text(f"{2**30}\n")
    monkeypatch.setattr(memory_estimate, "_CONTAINER_LIMITS", limits)
    assert memory_estimate.available() == 2**30


def test_a_machine_says_how_much_it_has():
    assert 2**28 < memory_estimate.available() < 2**50


def test_what_no_machine_has_is_refused_without_being_made():
    huge = ppo.Config(num_envs=2**20, num_steps=2**9, num_epochs=1)
    with pytest.raises(ValueError, match="GiB per device and there are"):
        memory_estimate.require(huge)


def test_a_replay_counts_and_is_split_over_devices(monkeypatch):
    """A million rows of 2 x 3 observations, action, reward and a flag: 33 bytes each."""
    config = sac.Config(env="Pendulum-v1", buffer_size=2**20)
    once = memory_estimate.estimate(config)
    assert 33 * 2**20 < once < 5 * 33 * 2**20  # the ring, and 2.5 times another after a row
    split = config.replace(buffer_size=2**21, num_envs=16, num_devices=2)
    assert memory_estimate.estimate(split) == pytest.approx(once, rel=0.1)
    monkeypatch.setattr(memory_estimate, "available", lambda: 2**20)
    with pytest.raises(ValueError, match="lower num_envs=8 or num_steps=8 or buffer_size=1048576"):
        memory_estimate.require(config)
