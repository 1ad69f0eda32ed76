"""Runs that start from an old policy: what they take, say of it, refuse, and need when resumed."""

import json
import shutil

import jax
import numpy as np
import pytest
from flax import linen as nn

import jaxrl_pg
from compare import assert_bit_equal
from jaxrl_pg import actor_critic, analytical, ppo, sac, soft_q_learning
from jaxrl_pg.running import initial_state
from jaxrl_pg.running.trained_policy import Policy
from jaxrl_pg.training import priors
from jaxrl_pg.types import Agent, EnvSpec
from programs import SMALL, SMALL_PPO, SMALL_REPLAY

KEY = jax.random.key(0)
OPTIONS = {"quiet": True, "num_evals": 0}
OLD = ppo.Config(**SMALL_PPO, total_timesteps=128, normalize_obs=True)
# With the policy as its prior, which then is a part of the state; in a changed environment.
NEW = analytical.Config(
    **SMALL_PPO,
    total_timesteps=192,
    normalize_obs=True,
    prior_coef=0.1,
    env_params={"gravity": 20.0},
)


def state_of(config):
    """Return zeros in the shapes of a config's train state, without compiling anything."""
    shapes = jax.eval_shape(jaxrl_pg.init, config, KEY)._replace(key=())
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old") / "run"
    return jaxrl_pg.run(OLD, folder, **OPTIONS)


@pytest.fixture(scope="module")
def runs(old, tmp_path_factory):
    """A run that started from the old one, which is deleted, and a copy of it at its first save."""
    here = tmp_path_factory.mktemp("new")
    copy = shutil.copytree(old.run_dir, here / "old")
    whole = jaxrl_pg.run(NEW, here / "whole", seed=5, initial_policy=copy, **OPTIONS)
    cut = shutil.copytree(whole.run_dir, here / "cut")
    shutil.rmtree(cut / "checkpoints" / "3")
    shutil.rmtree(copy)
    return whole, cut, copy


def test_the_first_checkpoint_has_the_old_policy_and_its_statistics(old, runs):
    first = jaxrl_pg.load(runs[0].run_dir, step=0).state.learner
    before = old.state.learner
    for part in ("policy_torso", "policy_head"):
        assert_bit_equal(first.params["params"][part], before.params["params"][part])
    assert_bit_equal(first.normalizer.obs, before.normalizer.obs)
    assert_bit_equal(first.prior.params, first.params)
    # Another agent's values are not taken.
    fresh = jax.jit(analytical.init)(NEW, jax.random.key(5)).learner.params["params"]
    assert_bit_equal(first.params["params"]["value_torso"], fresh["value_torso"])


def test_it_learns_what_the_pure_program_does(old, runs):
    train = jax.jit(lambda config, key, learner: jaxrl_pg.train(config, key, 0, 1, learner))
    state, _ = train(NEW, jax.random.key(5), old.state.learner)
    assert_bit_equal(runs[0].state, state)


def test_it_is_resumed_bit_for_bit_after_the_old_folder_is_gone(runs):
    whole, cut, copy = runs
    assert not copy.exists()
    assert [path.name for path in (cut / "checkpoints").iterdir()] == ["0"]
    resumed = jaxrl_pg.resume(cut, **OPTIONS)
    assert_bit_equal(resumed.state, whole.state)
    saved = (json.loads((x / "config.json").read_text()) for x in (cut, whole.run_dir))
    one, other = (row["initial_policy"] for row in saved)
    assert one == other


def test_every_device_begins_with_it(old):
    source = priors.source_of(jax.device_get(old.state))
    state = initial_state.fresh(OLD.replace(num_devices=2), 5, source)
    assert_bit_equal(state.learner.params, old.state.learner.params)
    leaf = jax.tree.leaves(state.learner.params)[0]
    assert leaf.is_fully_replicated
    assert len(leaf.devices()) == 2


def test_without_any_checkpoint_it_does_not_begin_from_scratch(runs):
    _, cut, _ = runs
    lost = shutil.copytree(cut, cut.with_name("lost"))
    shutil.rmtree(lost / "checkpoints")
    (lost / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match="was to start from an old policy and was ended before"):
        jaxrl_pg.resume(lost, **OPTIONS)


def described(config, given, folder, monkeypatch, capsys, **options):
    """What a run writes down and prints of its initial policy, before it trains."""
    monkeypatch.setattr("jaxrl_pg.running.loop._go_on", lambda *args: None)
    jaxrl_pg.run(config, folder, initial_policy=given, num_evals=0, **options)
    saved = json.loads((folder / "config.json").read_text())["initial_policy"]
    return saved, capsys.readouterr().out


def test_config_json_says_from_where(old, tmp_path, monkeypatch, capsys):
    policy = jaxrl_pg.load(old.run_dir)
    policy.save(tmp_path / "alone")
    changed = OLD.replace(env_params={"gravity": 20.0})
    kinds = [old.run_dir, str(tmp_path / "alone"), policy, old.state, old.state.learner]
    rows = [
        described(changed, given, tmp_path / str(i), monkeypatch, capsys)
        for i, given in enumerate(kinds)
    ]
    digests = {row["digest"] for row, _ in rows}
    assert len(digests) == 1
    assert len(digests.pop()) == 64
    assert {row["networks"] for row, _ in rows} == {"all"}
    known = {"path": str(old.run_dir), "agent": "ppo", "step": 2}
    assert {name: rows[0][0][name] for name in known} == known
    assert rows[0][1] == f"starting from {old.run_dir} (ppo, iteration 2): all its networks\n"
    assert [row["path"] for row, _ in rows[1:]] == [str(tmp_path / "alone"), None, None, None]
    assert [row["agent"] for row, _ in rows[2:]] == ["ppo", None, None]
    assert rows[4][1] == "starting from a given policy: all its networks\n"
    row, line = described(NEW, old.run_dir, tmp_path / "other", monkeypatch, capsys)
    assert row["networks"] == "policy"
    assert line.endswith(": its policy alone\n")
    _, quiet = described(NEW, old.run_dir, tmp_path / "quiet", monkeypatch, capsys, quiet=True)
    assert quiet == ""


def test_parameters_alone_are_enough_where_nothing_is_normalised():
    config = OLD.replace(normalize_obs=False)
    params = jax.jit(ppo.init)(config, jax.random.key(3)).learner.params
    state = jax.jit(jaxrl_pg.init)(config, KEY, params)
    assert_bit_equal(state.learner.params, params)


def test_many_old_policies_are_one_program():
    config = OLD.replace(normalize_obs=False)
    keys = jax.random.split(KEY, 3)
    many = jax.jit(jax.vmap(ppo.init, (None, 0)))(config, keys)
    start = jax.jit(jax.vmap(jaxrl_pg.init, (None, 0, 0)))
    states = start(config, keys[::-1], many.learner)
    assert_bit_equal(states.learner.params, many.learner.params)
    assert not np.array_equal(states.actor.obs, many.actor.obs)
    rates = jax.vmap(lambda rate: config.replace(learning_rate=rate))(np.array([0.1, 0.2, 0.3]))
    again = jax.jit(jax.vmap(jaxrl_pg.init))(rates, keys[::-1], many.learner)
    assert_bit_equal(again, states)


def test_the_values_are_taken_only_whole():
    with_two = sac.Config(**SMALL_REPLAY)
    given = state_of(with_two)._replace(memory=())
    given = given._replace(
        learner=given.learner._replace(params=jax.tree.map(lambda x: x + 7, given.learner.params))
    )
    three = jax.eval_shape(sac.init, with_two.replace(num_critics=3), KEY)
    state = jaxrl_pg.init(with_two.replace(num_critics=3), KEY, Policy(with_two, given, 0))
    assert jax.tree.structure(three) == jax.tree.structure(state)
    assert all(np.all(np.asarray(x) == 7) for x in jax.tree.leaves(state.learner.params.policy))
    critics = jax.tree.leaves(state.learner.params.critics)
    assert not any(np.any(np.asarray(x) == 7) for x in critics)


# --- refusals -------------------------------------------------------------------------------------

PLAIN = ppo.Config(**SMALL_PPO)
MEMORY = PLAIN.replace(core="gru", core_size=4)


class Unwilling(actor_critic.Config):
    """Of an agent that does not say how to begin."""


UNWILLING = Agent(
    "unwilling", Unwilling, *[getattr(actor_critic, n) for n in ("init", "iterate", "act", "value")]
)


@pytest.mark.parametrize(
    ("config", "given", "message"),
    [
        (PLAIN, "runs/x", "initial_policy='runs/x' and no files are read here: give jaxrl_pg.load"),
        (
            PLAIN,
            sac.Config(**SMALL_REPLAY),
            r"initial_policy \(of sac\) has no policy network of the kind that ppo has: give a",
        ),
        (PLAIN, soft_q_learning.Config(**SMALL_REPLAY), r"\(of soft_q_learning\) has no policy n"),
        (PLAIN, MEMORY, "has core='gru' and this config None: give core='gru'"),
        (
            PLAIN,
            PLAIN.replace(hidden_sizes=(8, 4)),
            r"has hidden_sizes=\(8, 4\) and this config \(8, 8\): give hidden_sizes=\(8, 4\) "
            r"\(--hidden-sizes 8 4 in a shell\)",
        ),
        (PLAIN, PLAIN.replace(activation="relu"), "has activation='relu' and this config 'tanh'"),
        (
            PLAIN.replace(env="Acrobot-v1"),
            PLAIN,
            r"is of 'CartPole-v1' with obs_shape=\(4,\) and env='Acrobot-v1' has \(6,\): give a",
        ),
        (PLAIN.replace(env="Pendulum-v1"), PLAIN, "'Pendulum-v1' has"),
        (
            PLAIN,
            OLD,
            "has statistics to normalise observations by, and this config normalize_obs=False: "
            "give normalize_obs=True",
        ),
        (
            OLD,
            PLAIN,
            "has no statistics .* normalize_obs=True: give normalize_obs=False, or the whole",
        ),
        (Unwilling(**SMALL), PLAIN, "'unwilling' does not say how it begins with an old policy"),
    ],
)
def test_another_policy_is_refused_in_one_line(config, given, message):
    given = given if isinstance(given, str) else Policy(given, state_of(given), 0)
    with pytest.raises(ValueError, match=message) as error:
        jax.eval_shape(lambda key: jaxrl_pg.init(config, key, given), KEY)
    assert "\n" not in str(error.value)


def test_other_sizes_are_refused_where_no_config_says_so():
    learner = state_of(PLAIN).learner
    many = jax.tree.map(lambda x: np.stack([x, x]), learner)
    wide = state_of(PLAIN.replace(hidden_sizes=(8, 9))).learner
    for given, message in (
        (many, r"use jax.vmap for the policies of many"),
        (wide, r"\['kernel'\] \[9, 2\] and this config of ppo makes \[8, 2\]: give the same"),
        ({"w": np.zeros(3)}, "initial_policy has no policy network of the kind that ppo has"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            jax.eval_shape(jaxrl_pg.init, PLAIN, KEY, given)
        assert "\n" not in str(error.value)


def test_folders_that_hold_no_good_policy_are_refused_before_anything_is_written(old, tmp_path):
    damaged = shutil.copytree(old.run_dir, tmp_path / "damaged")
    for file in damaged.glob("checkpoints/*/state/**/*"):
        if file.is_file():
            file.write_bytes(b"?")
    nan = jax.tree.map(lambda x: np.full(np.shape(x), np.nan, np.float32), old.state.learner.params)
    unwilling = Unwilling(**SMALL)
    with pytest.raises(ValueError, match="'unwilling' does not say how it begins"):
        jaxrl_pg.run(unwilling, tmp_path / "run", initial_policy=old.run_dir, **OPTIONS)
    for given, message in (
        (tmp_path / "nowhere", r"no run in .*nowhere: expected .*nowhere/config.json"),
        (damaged, r"no good checkpoint in .*: checkpoint 2 is damaged"),
        (old.state.learner._replace(params=nan), r"initial_policy has .* that is not finite: give"),
        (3, "initial_policy has no policy network"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            jaxrl_pg.run(OLD, tmp_path / "run", initial_policy=given, **OPTIONS)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run").exists()


class Small(nn.Module):
    """A network of one's own."""

    spec: EnvSpec

    def setup(self):
        self.head, self.critic = nn.Dense(self.spec.num_actions), nn.Dense(1)

    def policy(self, obs):
        return self.head(obs)

    def value(self, obs):
        return self.critic(obs)[:, 0]


def test_objects_that_the_new_run_has_too_are_found(tmp_path, monkeypatch, capsys):
    config = PLAIN.replace(network=Small)
    Policy(config, state_of(config), 0).save(tmp_path / "old")
    described(config, tmp_path / "old", tmp_path / "run", monkeypatch, capsys)
    for other in (PLAIN, PLAIN.replace(network=lambda spec: Small(spec))):
        with pytest.raises(
            ValueError, match=r"old was given an object of .*:Small: in Python, pass network="
        ):
            jaxrl_pg.run(other, tmp_path / "other", initial_policy=tmp_path / "old", **OPTIONS)
    policy = jaxrl_pg.load(tmp_path / "old", network=Small)
    with pytest.raises(ValueError, match=r"has network='.*:Small' and this config None: give"):
        jaxrl_pg.run(PLAIN, tmp_path / "other", initial_policy=policy, **OPTIONS)
