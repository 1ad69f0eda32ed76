"""What is no policy, MDP or parameter is refused in one line by every function of the theory."""

import importlib
import inspect
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_pg import theory
from jaxrl_pg.theory import builders, linear, mdp, probability, solve
from jaxrl_pg.theory.arguments import ARGUMENTS
from jaxrl_pg.theory.bounds import improvement_bounds, shift
from jaxrl_pg.theory.learning import bandits, conditioning, estimators, td, td_control
from jaxrl_pg.theory.soft import inference, soft_learning, soft_values
from jaxrl_pg.theory.updates import (
    analytical,
    constants,
    improvement,
    multi_agent,
    neighbours,
    reps,
)
from worked import POLICY_G, mdp_g

# Functions of records that other functions made, of single entries, or that check by themselves.
OPEN = {"make", "moments", "optimal_baseline", "interact", "move", "serial_compound"}
LOG_G = np.log(POLICY_G)
ADVANTAGE = np.zeros((3, 2))
KEY = np.zeros(2)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def public_functions():
    for module in pkgutil.walk_packages(theory.__path__, "jaxrl_pg.theory."):
        loaded = importlib.import_module(module.name)
        if module.name.endswith(("arguments", "checks")):
            continue
        for name in getattr(loaded, "__all__", ()):
            value = getattr(loaded, name)
            if inspect.isfunction(value) and value.__module__ == module.name:
                yield f"{module.name}.{name}", value


def test_no_function_of_the_theory_has_another_door():
    functions = dict(public_functions())
    assert len(functions) > 90
    for name, function in functions.items():
        known = set(inspect.signature(function).parameters) & set(ARGUMENTS)
        if known and name.rsplit(".", 1)[1] not in OPEN:
            assert hasattr(function, "__wrapped__"), f"{name} does not check {known}"


WRONG_POLICIES = [
    (LOG_G, "rows of .*policy must be at least 0 and sum to 1.*not log-probabilities"),
    (2.0 * POLICY_G, "sums to 2"),
    (POLICY_G + 1e-3, r"sums to 1\.002"),
    (POLICY_G * [2.0, -1.0], "sum to 1"),
    ([[1.5, -0.5]] * 3, r"smallest entry is -0\.5"),
    (np.where(POLICY_G > 0.6, np.nan, POLICY_G), "nan"),
    (POLICY_G[:2], r"policy has shape \(2, 2\)"),
    (POLICY_G.T, r"policy has shape \(2, 3\): give \[3, 2\]"),
    (POLICY_G[0], r"policy has shape \(2,\)"),
]


@pytest.mark.parametrize(("policy", "line"), WRONG_POLICIES)
def test_what_is_no_policy_is_refused(policy, line):
    for function in (
        solve.evaluate,
        solve.objective,
        solve.visitation,
        solve.reachable,
        mdp.induced,
        lambda m, p: improvement_bounds.compare(m, POLICY_G, new_policy=p),
        lambda m, p: shift.per_step(m, p, 3),
        lambda m, p: soft_values.evaluate(m, p, 0.1),
        lambda m, p: estimators.undiscounted_values(m, p, 2),
        lambda m, p: td.predict(m, p, td.Settings(), KEY, 1, 1),
    ):
        with pytest.raises(ValueError, match=line) as caught:
            function(mdp_g(0.9), policy)
        assert "\n" not in str(caught.value)


WRONG_LOGS = [POLICY_G, LOG_G + 0.01, np.full((3, 2), np.nan), LOG_G[:1], 5.0 * LOG_G]


@pytest.mark.parametrize("log_policy", WRONG_LOGS)
def test_what_are_no_log_probabilities_is_refused(log_policy):
    for function in (
        lambda m, p: analytical.analytical_update(p, ADVANTAGE, 1.0),
        lambda m, p: analytical.weighted_softmax(p, ADVANTAGE, 1.0),
        lambda m, p: improvement.improve(m, p, constants.greedy, 1),
        lambda m, p: reps.reps_update(m, p, 0.1),
        lambda m, p: neighbours.ppo_step(m, p, 0.1),
        lambda m, p: neighbours.trust_region_step(m, p, 0.1),
        lambda m, p: multi_agent.simultaneous_update(m, p[None], constants.greedy),
    ):
        with pytest.raises(ValueError, match=r"log_polic(y|ies)|(advantage|q) has shape"):
            function(mdp_g(0.5), log_policy)


M = mdp_g(0.9)
OUT_OF_RANGE = [
    (lambda: solve.evaluate(M._replace(gamma=1.0), POLICY_G), r"gamma is 1: give one in \[0, 1\)"),
    (lambda: solve.policy_iteration(M._replace(gamma=-0.1)), "gamma is -0.1"),
    (lambda: solve.value_iteration(M._replace(reward=M.reward / 0.0)), "reward has an entry"),
    (lambda: solve.objective(M._replace(transition=1.1 * M.transition), POLICY_G), "rows of trans"),
    (lambda: solve.visitation(M._replace(start=M.start - 0.1), POLICY_G), "rows of start"),
    (lambda: solve.evaluate(POLICY_G, M), "give an MDP"),
    (lambda: solve.q_values(M, np.zeros(2)), r"value has shape \(2,\): give \[3\]"),
    (lambda: solve.soft_maximum(np.zeros(2), -1.0), "temperature is -1"),
    (lambda: soft_values.policy_iteration(M, np.nan), "temperature is nan"),
    (lambda: soft_learning.special_case(M, -np.inf * POLICY_G, 1.0), "logits"),
    (lambda: inference.backward_messages(M, 2, temperature=0.0), "temperature is 0"),
    (lambda: inference.backward_messages(M, 2, prior=LOG_G), "rows of prior"),
    (lambda: analytical.analytical_update(LOG_G, ADVANTAGE, -0.1), "constant is -0.1"),
    (lambda: analytical.weighted_softmax(LOG_G, ADVANTAGE, 0.0), "constant is 0"),
    (lambda: improvement.improve(M, LOG_G, 0.5, 1), "constant is 0.5: give a function"),
    (lambda: constants.scaled(-1.0), "scale is -1"),
    (lambda: reps.reps_update(M, LOG_G, -0.1), "epsilon is -0.1"),
    (lambda: reps.dual(M, LOG_G, 0.1, 1.0, np.zeros(3)), r"rows of exp\(log_q\)"),
    (lambda: neighbours.natural_gradient_step(M, LOG_G, 0.0), "step_size is 0"),
    (lambda: multi_agent.joint_policy(np.zeros((2, 3, 2))), "log_policies"),
    (lambda: multi_agent.sequential_sweep(M, np.stack([LOG_G] * 2), constants.greedy), "joint"),
    (lambda: bandits.objective([1.0, np.inf], [0.0, 0.0]), "reward has an entry inf"),
    (lambda: bandits.learn([1.0], [0.0], 0.1, 0.0, 0.1, -1.0, KEY, 2), "noise is -1"),
    (lambda: conditioning.td0(np.zeros(1), np.ones((3, 1)), np.ones(2), 0.1, 2.0), "gamma is 2"),
    (lambda: td_control.behaviour(np.zeros(2), 1.5, 0.0), "epsilon is 1.5"),
    (
        lambda: td_control.control(
            M, td_control.sarsa, td.Settings(epsilon=2.0), KEY, records=1, steps=1
        ),
        "epsilon is 2",
    ),
    (lambda: linear.factorize(-np.eye(2), 0.9), "rows of transition"),
    (lambda: probability.entropy(LOG_G), "rows of policy"),
    (lambda: probability.kl(POLICY_G, LOG_G), "rows of q"),
    (lambda: probability.kl_divergence(POLICY_G, LOG_G), r"rows of exp\(log_p\)"),
    (lambda: probability.log_of(-POLICY_G), "probability is -0.6"),
    (lambda: builders.frozen_lake(1.0), "gamma is 1"),
    (lambda: builders.chain(slip=-0.5), "slip is -0.5"),
    (lambda: builders.chain(num_states=2.5), "num_states is 2.5: give a whole number"),
    (lambda: builders.grid(("SF", "F")), r"lengths \[1, 2\]"),
    (lambda: builders.grid(("FG",)), "no S"),
    (lambda: builders.four_rooms(goal=(0, 0)), "goal is"),
    (lambda: builders.two_state_plateau(start=(0.8, 0.8)), "rows of start"),
    (lambda: builders.bandit((1.0, np.nan)), "rewards has an entry nan"),
    (lambda: builders.garnet(jax.random.key(0), 3, 2, 4, 0.9), "branching is 4"),
]


@pytest.mark.parametrize(("call", "line"), OUT_OF_RANGE)
def test_what_is_out_of_range_is_refused(call, line):
    with pytest.raises(ValueError, match=line) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_rounding_is_no_reason_to_refuse():
    rng = np.random.default_rng(1)
    single = rng.dirichlet(np.ones(500), 3).astype(np.float32)
    for rows in (single, single.astype(np.float64)):
        probability.entropy(rows)
        probability.kl_divergence(np.log(rows), np.log(rows))
    with np.errstate(divide="ignore"):
        logs = np.log([[1.0, 0.0], [0.5, 0.5], [1e-300, 1.0]])
    analytical.analytical_update(logs, ADVANTAGE, 0.0)


def test_traced_values_are_not_asked_for_and_their_shapes_are():
    shapes = jax.eval_shape(solve.evaluate, M, jax.ShapeDtypeStruct((3, 2), float))
    assert shapes.q.shape == (3, 2)
    with pytest.raises(ValueError, match="policy has shape"):
        jax.eval_shape(solve.evaluate, M, jax.ShapeDtypeStruct((2, 3), float))
    batched = jax.eval_shape(jax.vmap(solve.evaluate, (None, 0)), M, jnp.zeros((7, 3, 2)))
    assert batched.value.shape == (7, 3)
