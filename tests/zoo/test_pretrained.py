"""The zoo's policies: read, used like any other, and as good as they are said to be."""

import math
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxrl_pg
from jaxrl_pg import zoo
from jaxrl_pg.cli import commands

TRAINED = {entry.policy: entry for entry in zoo.entries() if entry.pretrained is not None}
NUM_EPISODES = 1024
FALSE_ALARM = 1e-4
# The lowest return that an episode can have.
LOWEST = {
    "CartPole-v1": 0.0,
    "Acrobot-v1": -500.0,
    "MountainCar-v0": -200.0,
    "Pendulum-v1": -3255.0,  # 200 steps of pi^2 + 0.1 x 8^2 + 0.001 x 2^2
    "MountainCarContinuous-v0": -100.0,
    "Catch-bsuite": -1.0,
    "MemoryChain-bsuite": -1.0,
    "TMaze": -10.0,  # 100 steps against the wall
}


def shortfall(std, span, num):
    """How far the mean of `num` episodes stays below the true one with the false-alarm rate.

    Bernstein's inequality: P(mean <= mu - t) <= exp(-num t^2 / (2 (std^2 + span t / 3))), for
    returns of at least mu - span.
    """
    log = math.log(1 / FALSE_ALARM)
    return (span * log / 3 + math.sqrt((span * log / 3) ** 2 + 2 * num * log * std**2)) / num


def bound(entry):
    """The mean return that `NUM_EPISODES` episodes of a policy must have.

    The recorded moments are of 10,000 episodes that may not have shown a rare failure, so that one
    more with the lowest return is counted among them. Their mean is uncertain itself.
    """
    said = entry.pretrained
    num, span = said["num_episodes"], said["return_mean"] - LOWEST[entry.env]
    std = math.sqrt(said["return_std"] ** 2 + span**2 / (num + 1))
    return said["return_mean"] - shortfall(std, span, NUM_EPISODES) - shortfall(std, span, num)


@pytest.mark.parametrize("name", TRAINED)
def test_a_policy_reaches_its_recorded_return(name):
    returns = jaxrl_pg.load(name).evaluate(jax.random.key(3), NUM_EPISODES)
    assert float(returns.mean()) >= bound(TRAINED[name])


def test_the_bound_is_near_the_recorded_return_and_refuses_a_poor_policy():
    entry = TRAINED["zoo:CartPole-v1/ppo"]
    assert 480 < bound(entry) < entry.pretrained["return_mean"]
    policy = jaxrl_pg.load(entry.policy)
    nothing = jax.tree.map(lambda x: 0 * x, policy.state.learner.params)
    learner = policy.state.learner._replace(params=nothing)
    state = policy.state._replace(learner=learner)
    returns = jaxrl_pg.evaluate(policy.config, state, jax.random.key(3), NUM_EPISODES)
    assert float(returns.mean()) < bound(entry)


def test_there_are_a_dozen_of_a_few_kilobytes():
    assert len(TRAINED) >= 12
    files = {path.with_suffix(".toml") for path in Path(zoo.__file__).parent.glob("*/*.npz")}
    assert files == {entry.path for entry in TRAINED.values()}
    sizes = [zoo.pretrained.place(entry).stat().st_size for entry in TRAINED.values()]
    assert max(sizes) <= 20_000
    assert sum(sizes) <= 150_000


@pytest.mark.parametrize("name", TRAINED)
def test_a_policy_has_every_array_that_it_reads(name):
    policy = jaxrl_pg.load(name)
    assert policy.step == policy.config.num_iterations
    for array in jax.tree.leaves(policy.state):
        assert np.all(np.isfinite(array))
    entry = TRAINED[name]
    assert {"jaxrl-pg", "jax", "gymnax"} <= entry.pretrained["versions"].keys()
    assert policy.config == zoo.config(entry.env, entry.agent, **entry.pretrained["settings"])
    # Traced without being run: act and value, with a core where there is one.
    obs, hidden = policy.config.env, policy.start(1)
    env = jaxrl_pg.envs.of(policy.config)
    obs = jaxrl_pg.envs.observations.blank(env.spec.obs_shape, 1)
    rest = {"hidden": hidden} if jax.tree.leaves(hidden) else {}
    jax.eval_shape(lambda x: policy(x, **rest), obs)
    assert jax.eval_shape(lambda x: policy.value(x, **rest), obs).shape == (1,)


def test_a_loaded_policy_is_saved_and_loaded_again(tmp_path):
    policy = jaxrl_pg.load("zoo:CartPole-v1/ppo")
    policy.save(tmp_path / "policy")
    again = jaxrl_pg.load(tmp_path / "policy")
    assert jaxrl_pg.load(Path("zoo:CartPole-v1/ppo")).config == policy.config
    obs = jax.random.normal(jax.random.key(0), (64, 4))
    assert np.array_equal(policy(obs), again(obs))
    assert np.array_equal(policy.value(obs), again.value(obs))
    assert again.config == policy.config


def test_what_is_written_is_read(tmp_path, monkeypatch):
    policy = jaxrl_pg.load("zoo:CartPole-v1/ppo")
    zoo.pretrained.write(tmp_path / "x.npz", policy.config, policy.state)
    with np.load(tmp_path / "x.npz") as file:
        names = set(file)
    assert "iteration" in names
    assert not any("opt_state" in name for name in names)
    monkeypatch.setattr(zoo.pretrained, "place", lambda entry: tmp_path / "x.npz")
    again = jaxrl_pg.load("zoo:CartPole-v1/ppo")
    equal = jax.tree.map(np.array_equal, policy.state, again.state)
    assert jax.tree.all(equal)


def test_a_run_starts_from_a_policy_of_the_zoo():
    config = zoo.config("CartPole-v1", "ppo", hidden_sizes=(16, 16))
    policy = jaxrl_pg.load("zoo:CartPole-v1/ppo")
    start = jaxrl_pg.running.initial_policy.read(config, "zoo:CartPole-v1/ppo")
    assert start.row["path"] == "zoo:CartPole-v1/ppo"
    assert start.row["networks"] == "all"
    equal = jax.tree.map(np.array_equal, start.source.learner.params, policy.state.learner.params)
    assert jax.tree.all(equal)


def test_unknown_names_and_what_does_not_belong_are_refused():
    for name, said in {
        "zoo:CartPole-v1/ppp": "no policy 'zoo:CartPole-v1/ppp': did you mean zoo:CartPole-v1/ppo?",
        "zoo:Craftax": "give zoo:ENV/AGENT, such as zoo:CartPole-v1/ppo",
        "zoo:craftax:Craftax-Classic-Symbolic-v1/ppo": "has settings and no policy",
    }.items():
        with pytest.raises(ValueError) as caught:
            jaxrl_pg.load(name)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="single policy of its own: leave step, env out"):
        jaxrl_pg.load("zoo:CartPole-v1/ppo", step=3, env="CartPole-v1")


def test_evaluate_takes_a_policy_of_the_zoo_and_a_saved_one(capsys, tmp_path):
    jaxrl_pg.load("zoo:CartPole-v1/ppo").save(tmp_path / "saved")
    for policy in ("zoo:CartPole-v1/ppo", str(tmp_path / "saved")):
        assert commands.main(["evaluate", policy, "--num-episodes", "4"]) == 0
        assert "return 500.00" in capsys.readouterr().out
    assert commands.main(["evaluate", "zoo:CartPole-v2/ppo"]) == 2
    assert "did you mean zoo:CartPole-v1/ppo?" in capsys.readouterr().err
