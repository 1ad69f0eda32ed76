"""An index that no row has is refused in one line: JAX would silently take another row, or none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from jaxrl_pg.theory.learning import bandits, baselines, estimators, monte_carlo, td_control, traces
from jaxrl_pg.theory.learning.traces import ACCUMULATING, Episode
from jaxrl_pg.theory.soft import inverse, posterior
from jaxrl_pg.theory.updates import local_observations as local
from worked import POLICY_G, mdp_g

EVEN = np.full((2, 2), 0.5)
LAW = posterior.Law(np.ones(2) / 2.0, np.full((2, 2, 2), 0.5), np.full((2, 2, 2, 2), 0.5))


def episode(state):
    return Episode(np.array(state), np.ones(2), np.ones(2))


def paths(state=1, action=1):
    moves = np.array([[0, state]]), np.array([[action, 0]])
    return estimators.Trajectories(*moves, np.ones((1, 2)), np.ones(1))


def seen(call):
    """Return the calls that look at an observation for two rows, with state 0 seen as it says."""
    return lambda index: call(np.array([index, 0, 1]))


def lived(call):
    return lambda index: call(episode([0, index, 1]))


LOCAL = np.log(EVEN), np.ones((3, 2)), np.ones(3) / 3.0
# What looks at the row that it is given, of two: a state, observation, action or arm.
LOOKS = {
    "local_advantage": seen(lambda o: local.local_advantage(*LOCAL[1:], o, 2)),
    "local_update": seen(lambda o: local.local_update(*LOCAL, o, 1.0)),
    "policy_of_states": seen(lambda o: local.policy_of_states(LOCAL[0], o)),
    "online": lived(lambda e: traces.online(np.zeros(2), e, ACCUMULATING, 0.5, 0.1)),
    "offline": lived(lambda e: traces.offline(np.zeros(2), e, ACCUMULATING, 0.5, 0.1)),
    "forward_view": lived(lambda e: traces.forward_view(np.zeros(2), e, 0.5, 0.1)),
    "lambda_returns": lived(lambda e: traces.lambda_returns(np.zeros(2), e, 0.5)),
    "average": lived(
        lambda e: monte_carlo.average(
            jax.tree.map(lambda x: x[None], e), monte_carlo.every_visit, num_states=2
        )
    ),
    "gae_estimates": lambda s: estimators.gae_estimates(EVEN, paths(s), EVEN, 0.9, 0.5),
    "optimal_baseline": lambda a: estimators.optimal_baseline(EVEN, paths(action=a)),
    "scores": lambda a: baselines.scores(EVEN, paths(action=a)),
    "baselined": lambda s: baselines.baselined(EVEN, paths(s), EVEN),
    "stepwise_baseline": lambda s: baselines.stepwise_baseline(EVEN, paths(s)),
    "state_baseline": lambda s: baselines.state_baseline(EVEN, paths(s)),
    "parameter_baseline": lambda s: baselines.parameter_baseline(EVEN, paths(s)),
    "empirical_counts": lambda s: inverse.empirical_counts(np.ones((2, 2, 1)), paths(s), 0.9),
    "log_probability": lambda a: posterior.log_probability(LAW, paths(action=a)),
    "gradient_estimate": lambda a: bandits.gradient_estimate(1.0, EVEN[0], np.array(a), 0.0),
    "sarsa": lambda a: td_control.sarsa(EVEN[0], np.array(a), EVEN[0], 0.0),
}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", LOOKS)
def test_an_index_past_the_end_is_refused(name):
    for index in (2, -1):
        with pytest.raises(ValueError, match=f"{index}.*give whole numbers from 0") as caught:
            LOOKS[name](index)
        assert "\n" not in str(caught.value)


def test_the_last_index_is_not():
    for name in ("local_advantage", "policy_of_states", "scores", "gradient_estimate", "sarsa"):
        LOOKS[name](1)


def test_estimates_of_paths_in_a_larger_mdp_are_refused():
    with pytest.raises(ValueError, match=r"paths.state has an entry 3: .* from 0 to 2"):
        estimators.estimates(mdp_g(0.9), np.log(POLICY_G), paths(3))


def test_no_critic_or_baseline_is_used_twice_for_the_steps_that_it_lacks():
    with pytest.raises(ValueError, match="value has 1 rows: give one for each of 2 steps"):
        estimators.gae_estimates(EVEN, paths(), EVEN[:1], 0.9, 0.5)
    with pytest.raises(ValueError, match=r"baseline has shape \(1, 2\): give \[2, 2"):
        baselines.baselined(EVEN, paths(), EVEN[:1])


def test_traced_indices_are_not_asked_for():
    run = jax.vmap(lambda o: local.policy_of_states(LOCAL[0], o))
    assert jax.eval_shape(run, jnp.zeros((5, 3), int)).shape == (5, 3, 2)


def test_an_episode_may_have_whole_numbers_and_another_precision():
    # Undiscounted to the end 1 + 1 and 1; with the first discount halved 1 + 1/2 and 1.
    given = Episode([0, 1, 1], [1, 1], np.array([1.0, 0.0]))
    returns = traces.lambda_returns(np.zeros(2, np.float32), given, 1.0)
    assert_allclose(returns, [2.0, 1.0])
    several = Episode(np.array([[0, 1, 1]]), np.array([[1, 1]]), np.array([[0.5, 0.0]]))
    found = monte_carlo.average(several, monte_carlo.every_visit, 2)
    assert_allclose(found.value, [[1.5, 1.0]])
