"""What every agent promises, whatever it computes: see `jaxrl_pg.types.Agent`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract_table import CASES, NUM_ITERATIONS

from compare import assert_bit_equal, largest_difference, leaves_of
from jaxrl_pg import agents
from jaxrl_pg.config import agent_of
from jaxrl_pg.training import program
from jaxrl_pg.types import TrainState

# A gradient in the action; the policy is deterministic, and has no entropy.
BOX_ONLY = {"ddpg", "td3"}
# Of values alone, by which the policy is given.
WITHOUT_POLICY_LOSS = {"multi_agent", "soft_q_learning", "pqn", "dqn"}
KEY = jax.random.key(0)
SIZE = 64  # steps in an iteration of every case


def params_of(result, row=...):
    return {name: x[row] for name, x in leaves_of(result[0].learner.params).items()}


def test_the_table_covers_every_agent_with_every_kind_of_action_that_it_takes():
    assert {case.agent for case in CASES.values()} == set(agents.AGENTS)
    for name, agent in agents.AGENTS.items():
        envs = {case.values["env"] for case in CASES.values() if case.agent == name}
        if agent.actions == "discrete":
            with pytest.raises(ValueError, match="finite action set"):
                jax.eval_shape(partial(agent.init, agent.Config(env="Pendulum-v1")), KEY)
            envs.add("Pendulum-v1")
        if agent.actions == "Box":
            with pytest.raises(ValueError, match="has a finite action set: give"):
                jax.eval_shape(partial(agent.init, agent.Config(env="CartPole-v1")), KEY)
            envs.add("CartPole-v1")
        assert {"CartPole-v1", "Pendulum-v1"} <= envs


def test_an_agent_is_found_by_the_type_of_its_config(contract):
    assert agent_of(contract.config) is contract.agent
    assert contract.agent.name == contract.case.agent
    with pytest.raises(ValueError, match="no agent has a config of type dict: give an agent"):
        agent_of({})


# --- the compiled program -------------------------------------------------------------------------


def test_training_compiles_and_is_a_function_of_its_arguments(contract):
    state, metrics = contract.together
    again = contract.train_together()
    assert_bit_equal((state, metrics), again)
    assert contract.traces["batched"] == 1
    assert isinstance(state, TrainState)
    np.testing.assert_array_equal(state.iteration, NUM_ITERATIONS)


def test_floats_of_a_config_are_arguments_and_changing_them_traces_nothing_again(contract):
    assert len(contract.singles) == len(contract.rows) >= 3
    assert contract.traces["init"] == contract.traces["iterations"] == 1


def test_every_member_of_a_batch_is_the_member_trained_alone(contract):
    # The batched program orders sums of float32 differently; 16 gradient steps carry an error of
    # 1e-7 to 1e-5 (measured), and the smallest true difference between rows is 5e-3.
    states, metrics = contract.together
    for row, single in enumerate(contract.singles):
        together = leaves_of((states, {name: metrics[name] for name in single[1]}))
        for name, value in leaves_of(single).items():
            if value.dtype.kind == "f":
                np.testing.assert_allclose(
                    together[name][row], value, rtol=1e-3, atol=1e-5, err_msg=name
                )
            else:
                np.testing.assert_array_equal(together[name][row], value, err_msg=name)
    assert set(metrics) == {*contract.singles[0][1], "timesteps"}


def test_seeds_and_float_hyper_parameters_make_different_members(contract):
    for row, name in enumerate(contract.rows):
        if name != "base":
            base, other = params_of(contract.together, 0), params_of(contract.together, row)
            assert largest_difference(base, other) > 1e-3, name
            alone = params_of(contract.singles[0]), params_of(contract.singles[row])
            assert largest_difference(*alone) > 1e-3, name


def test_seeds_differ_in_every_part_from_the_first_draw_on(contract):
    one, other = (contract.init(*contract.rows[name]) for name in ("base", "seed"))
    kernels = [name for name in params_of([one]) if "kernel" in name]
    assert len(kernels) >= 3
    for name in kernels:
        assert not np.array_equal(params_of([one])[name], params_of([other])[name]), name
    first, second = (leaves_of(state.actor.obs) for state in (one, other))
    assert any(not np.array_equal(x, second[name]) for name, x in first.items())
    assert any(not np.array_equal(x[:1], x[1:2]) for x in first.values())


def test_an_iteration_leaves_the_spec_of_the_state_as_it_was(contract):
    before = jax.eval_shape(contract.agent.init, contract.config, contract.key)
    after, _ = jax.eval_shape(contract.agent.iterate, contract.config, before)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    paths = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(before)]
    specs = [[(x.shape, x.dtype, x.weak_type) for x in jax.tree.leaves(t)] for t in (before, after)]
    assert dict(zip(paths, specs[0], strict=True)) == dict(zip(paths, specs[1], strict=True))
    assert not any(weak for _, _, weak in specs[0])


def test_every_leaf_of_the_actor_has_the_environments_first(contract):
    for name, leaf in leaves_of(contract.start.actor).items():
        assert leaf.shape[:1] == (contract.config.num_envs,), name


def test_iterations_in_two_pieces_are_the_iterations_bit_for_bit(contract):
    half = NUM_ITERATIONS // 2
    state, first = contract.iterations(contract.config, contract.start, half)
    state, second = contract.iterations(contract.config, state, half)
    metrics = {name: np.concatenate([x[:half], second[name][:half]]) for name, x in first.items()}
    assert_bit_equal((state, metrics), contract.singles[0])
    assert contract.traces["iterations"] == 1


# --- metrics --------------------------------------------------------------------------------------


def test_total_timesteps_are_rounded_up_to_whole_iterations(contract):
    assert contract.config.total_timesteps % SIZE != 0
    assert contract.config.steps_per_iteration == SIZE
    assert contract.config.num_iterations == NUM_ITERATIONS
    np.testing.assert_array_equal(
        contract.trained[1]["timesteps"], SIZE * np.arange(1, NUM_ITERATIONS + 1)
    )
    assert contract.config.replace(total_timesteps=4 * SIZE).num_iterations == 4
    assert contract.config.replace(total_timesteps=4 * SIZE + 1).num_iterations == 5
    assert contract.config.replace(total_timesteps=1).num_iterations == 1


def test_metrics_are_finite_scalars_with_the_names_that_all_agents_share(contract):
    metrics = {name: np.asarray(x) for name, x in contract.trained[1].items()}
    shared = {"timesteps", "train/return_mean", "train/length_mean", "train/episodes"}
    assert shared | {"grad_norm", "learning_rate"} <= set(metrics)
    assert ("policy/entropy" in metrics) != (contract.case.agent in BOX_ONLY)
    assert ("loss/q" if contract.case.agent in WITHOUT_POLICY_LOSS else "loss/policy") in metrics
    for name, values in metrics.items():
        assert values.shape == (NUM_ITERATIONS,), name
        assert values.dtype in (np.float32, np.int32), name
        known = metrics["train/episodes"] > 0
        means = name in ("train/return_mean", "train/length_mean")
        np.testing.assert_array_equal(np.isfinite(values), known if means else True, err_msg=name)
    assert metrics["train/episodes"].sum() > 0


def test_metrics_of_an_iteration_are_bytes_and_not_rollouts(contract):
    # One number each, as shown above, whatever is rolled out.
    assert sum(x.dtype.itemsize for x in contract.trained[1].values()) < 256


@pytest.mark.parametrize("contract", ["ppo-continuous"], indirect=True)
def test_evaluating_changes_nothing_and_adds_its_own_metrics(contract):
    train = jax.jit(program.train, static_argnums=(2, 3))
    without = train(contract.config, contract.key, 0)
    compiled = train._cache_size()
    train(contract.config.replace(gamma=0.5), contract.key, 0)
    assert train._cache_size() == compiled  # floats are arguments of a single agent's training too
    state, metrics = train(contract.config, contract.key, 3, 2)
    evaluations = {name: np.asarray(metrics.pop(name)) for name in list(metrics) if "eval/" in name}
    assert_bit_equal((state, metrics), without)
    # Four iterations in chunks of one, three evaluations: spread evenly, the last at the end.
    np.testing.assert_array_equal(evaluations.pop("eval/timesteps"), SIZE * np.array([2, 3, 4]))
    means = {"eval/return_mean", "eval/return_std", "eval/length_mean", "eval/finished"}
    assert set(evaluations) == means
    for name, values in evaluations.items():
        assert values.shape == (3,), name
        assert np.all(np.isfinite(values)), name
    np.testing.assert_array_equal(evaluations["eval/finished"], 1.0)


# --- acting ---------------------------------------------------------------------------------------


def test_act_and_value_have_their_shapes(contract):
    values = contract.acts["value"]
    assert (values.shape, values.dtype) == ((64,), jnp.float32)
    for actions in (*contract.acts["greedy"], *contract.acts["drawn"]):
        assert actions.shape == (64, *contract.spec.action_shape)
        kind = jnp.integer if contract.spec.discrete else jnp.float32
        assert jnp.issubdtype(actions.dtype, kind)
        if contract.spec.discrete:
            assert set(np.unique(actions)) <= set(range(contract.spec.num_actions))


def test_a_deterministic_act_ignores_its_key_and_a_sampled_one_does_not(contract):
    np.testing.assert_array_equal(*contract.acts["greedy"])
    assert not np.array_equal(*contract.acts["drawn"])


def test_acting_on_one_observation_is_acting_on_it_among_others(contract):
    alone, among = contract.acts["alone"], contract.acts["greedy"][0]
    np.testing.assert_allclose(alone, among[:1], rtol=1e-5, atol=1e-6)
