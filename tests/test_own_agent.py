"""An agent that is no part of the package, and a config that says more than its agent's own."""

import json
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl_pg
from jaxrl_pg import agents, ppo
from jaxrl_pg.components import on_policy, optim
from jaxrl_pg.components.on_policy import OnPolicyConfig
from jaxrl_pg.config import Positive
from jaxrl_pg.ops import collectives, losses, returns
from jaxrl_pg.sweeps import experiment
from jaxrl_pg.types import Agent, Metrics, TrainState

QUIET = {"quiet": True, "num_evals": 2, "num_eval_episodes": 2}
SIZES = {"num_envs": 4, "num_steps": 8, "hidden_sizes": (8,), "total_timesteps": 4 * 32}


# --- an agent in the user's own file: the policy gradient with a moving-average baseline ----------


class Config(OnPolicyConfig):
    """A field of its own beside those of every on-policy agent."""

    baseline_rate: Annotated[float, Positive] = 0.1
    """share of the new mean that the baseline takes in"""


class Learner(NamedTuple):
    params: object
    opt_state: object
    normalizer: object
    baseline: jax.Array


def init(config: Config, key: jax.Array) -> TrainState[Learner]:
    params, normalizer, actor, train_key = on_policy.start(config, key)
    learner = Learner(params, optim.init(params), normalizer, jnp.zeros(()))
    return TrainState(learner, actor, (), train_key, jnp.zeros((), jnp.int32))


def iterate(config: Config, state: TrainState[Learner]) -> tuple[TrainState[Learner], Metrics]:
    model, learner = on_policy.build(config), state.learner
    experience = on_policy.gather(config, model, state)
    steps = experience.steps
    done = steps.terminated | steps.truncated
    to_go = returns.reward_to_go(steps.reward, done, jnp.zeros_like(steps.reward), config.gamma)
    obs, action, weight = map(
        on_policy.flatten, (steps.obs, steps.action, to_go - learner.baseline)
    )

    def loss(params):
        dist = model.network.apply(params, obs, method="policy")
        loss = losses.policy_gradient_loss(model.family.log_prob(dist, action), weight)
        return loss, {"loss/policy": loss}

    grads, metrics = jax.grad(loss, has_aux=True)(learner.params)
    params, opt_state, norm = optim.apply_gradients(
        learner.params,
        learner.opt_state,
        collectives.mean(grads),
        config.learning_rate,
        config.max_grad_norm,
    )
    mean = collectives.mean(jnp.mean(to_go))
    baseline = learner.baseline + config.baseline_rate * (mean - learner.baseline)
    learner = Learner(params, opt_state, experience.normalizer, baseline)
    return on_policy.advance(state, experience, learner, {**metrics, "grad_norm": norm})


MEAN_BASELINE = Agent("mean_baseline", Config, init, iterate, on_policy.act, on_policy.value)


class Longer(ppo.Config):
    """PPO with a field that a study wants to keep beside the others."""

    note: str = "nothing"
    num_minibatches: Annotated[int, Positive] = 2
    num_epochs: Annotated[int, Positive] = 1


CONFIGS = {"agent": Config(**SIZES), "subclass": Longer(**SIZES, note="mine")}


def assert_same(left, right):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b)


def test_it_is_an_agent_by_name_and_its_configs_say_whose_they_are():
    assert agents.by_name("mean_baseline") is MEAN_BASELINE
    assert Config().agent is MEAN_BASELINE
    assert Longer().agent is ppo.AGENT
    assert "mean_baseline" not in agents.AGENTS
    with pytest.raises(ValueError, match=r"agent='mean_baselin': did you mean 'mean_baseline'"):
        agents.by_name("mean_baselin")


def test_its_floats_are_swept_in_one_program():
    rates = jnp.array([0.01, 0.5])
    configs = jax.vmap(lambda rate: CONFIGS["agent"].replace(baseline_rate=rate))(rates)
    states, metrics = jax.jit(jax.vmap(jaxrl_pg.train, (0, None)))(configs, jax.random.key(0))
    assert metrics["loss/policy"].shape == (2, 4)
    # A faster baseline is nearer to the returns, which are positive.
    assert states.learner.baseline[1] > states.learner.baseline[0] > 0


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_run_is_kept_and_resumed_bit_for_bit(kind, tmp_path):
    config = CONFIGS[kind]
    whole = jaxrl_pg.run(config, tmp_path / "whole", seed=1, **QUIET)
    short = config.replace(total_timesteps=2 * 32)
    jaxrl_pg.run(short, tmp_path / "half", seed=1, **QUIET)
    # The learning rate is annealed to the total, so that a longer run is another one.
    again = jaxrl_pg.resume(tmp_path / "whole", **{k: QUIET[k] for k in ("quiet",)})
    assert_same(again.state.learner, whole.state.learner)
    longer = jaxrl_pg.resume(tmp_path / "half", total_timesteps=4 * 32, quiet=True)
    assert type(longer.config) is type(config)
    assert longer.config == config
    assert int(longer.state.iteration) == 4
    policy = jaxrl_pg.load(tmp_path / "half")
    assert type(policy.config) is type(config)


def test_the_folder_says_which_class_it_was_and_imports_nothing(tmp_path):
    jaxrl_pg.run(CONFIGS["subclass"], tmp_path / "run", **QUIET)
    path = tmp_path / "run" / "config.json"
    saved = json.loads(path.read_text())
    assert saved["agent"] == "ppo"
    assert saved["config_class"] == f"{__name__}:Longer"
    path.write_text(json.dumps({**saved, "config_class": "antigravity:Config"}))
    with pytest.raises(ValueError, match=r"'antigravity:Config' is not defined in this program"):
        jaxrl_pg.resume(tmp_path / "run")


def test_a_config_of_the_package_keeps_its_agents_name_alone(tmp_path):
    assert agents.names_of(ppo.Config()) == {"agent": "ppo"}


@pytest.mark.parametrize("name", ["mean_baseline", f"{__name__}:Longer"])
def test_a_sweep_trains_them(name, tmp_path):
    sizes = "\n".join(f"{k} = {list(v) if k == 'hidden_sizes' else v}" for k, v in SIZES.items())
    text = f'agent = "{name}"\nenv = "CartPole-v1"\nseeds = 2\nnum_evals = 1\n'
    total, fixed = sizes.rsplit("\n", 1)[1], sizes.rsplit("\n", 1)[0]
    (tmp_path / "own.toml").write_text(
        f"{text}num_eval_episodes = 2\n{total}\n[fixed]\n{fixed}\n[grid]\ngamma = [0.9, 0.99]\n"
    )
    points = experiment.load(str(tmp_path / "own.toml")).points
    assert len(points) == 4
    folder = jaxrl_pg.sweep(tmp_path / "own.toml", tmp_path / "sweep", quiet=True)
    lines = (folder / "results.csv").read_text().splitlines()
    assert len(lines) == 1 + 4
    assert all(name in line for line in lines[1:])
