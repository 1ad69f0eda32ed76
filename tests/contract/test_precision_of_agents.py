"""What every agent promises of `dtype` and `matmul_precision`; only traced, nothing is compiled."""

import jax
import jax.numpy as jnp
import pytest
from contract_table import CASES

import jaxrl_pg
import probes
from jaxrl_pg import agents
from jaxrl_pg.components import on_policy
from jaxrl_pg.running.memory_estimate import inner_jaxprs
from jaxrl_pg.running.trained_policy import Policy
from jaxrl_pg.training import evaluation

KEY = jax.random.key(0)
# A row of each agent, those with a memory, and an image.
FIRST = {case.agent: name for name, case in reversed(CASES.items())}
ROWS = sorted({*FIRST.values(), "ppo-memory", "analytical-memory-masked", "sac-masked-stacked"})


def products_of(jaxpr):
    """The operands' types and the precision of every product of matrices in a traced program."""
    found = set()
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            name = str(eqn.params["precision"][0]) if eqn.params["precision"] else "None"
            found.add((*(str(v.aval.dtype) for v in eqn.invars), name))
        for inner in inner_jaxprs(eqn):
            found |= products_of(inner)
    return found


@pytest.mark.parametrize("name", ROWS)
def test_a_train_state_is_the_same_in_bfloat16_and_its_products_are_of_two_kinds(name):
    case = CASES[name]
    if case.agent == "natural_gradient":
        with pytest.raises(ValueError, match="conjugate gradient"):
            case.config(dtype="bfloat16")
        config = case.config()
    else:
        config = case.config(dtype="bfloat16")
    agent = agents.AGENTS[case.agent]
    before = jax.eval_shape(agent.init, case.config(), KEY)
    assert jax.eval_shape(agent.init, config, KEY) == before
    jaxpr, (after, metrics) = jax.make_jaxpr(agent.iterate, return_shape=True)(config, before)
    assert after == before
    assert {str(x.dtype) for x in jax.tree.leaves(metrics)} <= {"float32", "int32"}
    products = products_of(jaxpr.jaxpr)
    assert {precision for *_, precision in products} == {"HIGHEST"}
    types = {tuple(sorted(pair)) for *pair, _ in products}
    narrow = {("bfloat16", "bfloat16")} if config.dtype == "bfloat16" else set()
    assert types == {("float32", "float32"), *narrow}


class Multiplied(probes.Probe):
    """A probe whose physics has a product of matrices."""

    def step_env(self, key, state, action, params):
        obs, state, reward, done, info = super().step_env(key, state, action, params)
        return obs, state, jnp.eye(2).dot(jnp.stack([reward, reward]))[0], done, info


@pytest.mark.parametrize("name", ["default", "high", "highest"])
def test_all_that_a_config_computes_has_its_precision(name):
    """Environments in training and in evaluation, actions and values of a policy."""
    config = jaxrl_pg.ppo.Config(
        env=Multiplied(), num_envs=2, num_steps=2, num_minibatches=1, matmul_precision=name
    )
    state = jaxrl_pg.init(config, KEY)
    policy, obs = Policy(config, state, 0), jnp.zeros((3,))
    said = {"default": "None"}.get(name, name.upper())
    functions = {
        "iterate": lambda state: jaxrl_pg.iterate(config, state, 1),
        "evaluate": lambda state: evaluation.evaluate_episodes(config, state, KEY, 2, True),
        "value": lambda state: jaxrl_pg.value(config, state, obs),
        "act": lambda _: policy(obs),
        "drawn": lambda _: policy(obs, KEY),
    }
    for which, function in functions.items():
        products = products_of(jax.make_jaxpr(function)(state).jaxpr)
        assert {precision for *_, precision in products} == {said}, which


def test_an_agent_keeps_the_names_and_texts_of_its_functions():
    agent = agents.AGENTS["ppo"]
    assert agent.iterate.__wrapped__ is jaxrl_pg.ppo.iterate
    assert agent.iterate.__doc__ == jaxrl_pg.ppo.iterate.__doc__
    assert agent.memory.act.__wrapped__ is on_policy.MEMORY.act
