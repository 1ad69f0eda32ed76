"""What every agent promises of `initial_policy`: the old networks, and all else fresh."""

import jax
import numpy as np
import pytest

from compare import assert_bit_equal, largest_difference, leaves_of
from jaxrl_pg import agents, envs
from jaxrl_pg.components import on_policy
from jaxrl_pg.training import priors

KEY = jax.random.key(7)
# Fields of a learner that are neither fresh nor `params` and `normalizer`: what they are made of.
FOLLOW = {
    "sac": {
        "target": lambda config, old: (
            old.params.value if config.variant == "value" else old.params.critics
        ),
        "log_alpha": lambda config, old: old.log_alpha if config.learn_alpha else None,
    },
    "soft_q_learning": {
        "target": lambda _, old: old.params,
        "sampler": lambda _, old: old.sampler,
    },
    "dqn": {"target": lambda _, old: old.params},
    "td3": {"target": lambda _, old: old.params},
    "ddpg": {"target": lambda _, old: old.params},
    "off_policy_actor_critic": {"expected_error": lambda _, old: old.expected_error},
    "analytical_replay": {
        "old": lambda _, old: old.params.policy,
        "target": lambda _, old: old.params.critics,
    },
    "analytical": {
        "critic": lambda _, old: old.critic,
        "prior": lambda config, old: (
            () if config.prior_coef is None else on_policy.Learner(old.params, (), old.normalizer)
        ),
    },
}


def test_every_agent_can_start_from_an_old_policy():
    assert [name for name, agent in agents.AGENTS.items() if agent.adopt is None] == []


@pytest.fixture
def started(contract):
    """A trained state, a fresh one of another seed, and that one with the old policy."""
    old, fresh = contract.singles[0][0], contract.init(contract.config, KEY)
    return old, fresh, priors.adopted(contract.config, fresh, priors.source_of(old))


def test_networks_and_statistics_are_the_old_ones_and_all_else_is_fresh(contract, started):
    old, fresh, new = started
    assert largest_difference(fresh.learner.params, old.learner.params) > 1e-3
    assert_bit_equal(new._replace(learner=()), fresh._replace(learner=()))
    made_of = FOLLOW.get(contract.case.agent, {})
    for name in new.learner._fields:
        expected = getattr(fresh.learner, name)
        if name in ("params", "normalizer"):
            expected = getattr(old.learner, name)
        elif name in made_of:
            given = made_of[name](contract.config, old.learner)
            expected = expected if given is None else given
        assert_bit_equal(getattr(new.learner, name), expected)


def test_it_acts_and_values_as_before(contract, started):
    old, _, new = started
    blank = envs.observations.blank(contract.spec.obs_shape, 64)
    obs = jax.tree.map(lambda x: x if x.dtype == bool else jax.random.normal(KEY, x.shape), blank)
    before, after = (
        contract.acting(contract.config, x.learner, obs, (contract.key, KEY)) for x in (old, new)
    )
    assert_bit_equal(before, after)


def test_it_trains_on_by_the_same_program(contract, started):
    _, fresh, new = started
    contract.iterations(contract.config, fresh, 0)
    traces = contract.traces["iterations"]
    state, metrics = contract.iterations(contract.config, new, 2)
    assert int(state.iteration) == 2
    assert largest_difference(state.learner.params, new.learner.params) > 1e-4
    for name, x in leaves_of(metrics).items():
        assert np.all(np.isfinite(x)) or "_mean" in name, name
    assert contract.traces["iterations"] == traces
