"""V-trace and importance ratios: worked numbers, a loop, identities, exact MDPs, and rlax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from jaxrl_pg.ops import off_policy_returns, returns

T, B = 13, 5
VTRACE = jax.jit(off_policy_returns.vtrace)


def column(*numbers, dtype=jnp.float32):
    return jnp.array(numbers, dtype)[:, None]


def rollout(seed, p_terminated=0.15, p_truncated=0.15):
    """Ratios between 0.1 and 9 and a random rollout; all combinations of the two flags occur."""
    rng = np.random.default_rng(seed)
    value, last_value = rng.normal(size=(T, B)), rng.normal(size=B)
    terminated = rng.random((T, B)) < p_terminated
    truncated = rng.random((T, B)) < p_truncated
    next_row = np.concatenate([value[1:], last_value[None]])
    next_value = np.where(terminated | truncated, rng.normal(size=(T, B)), next_row)
    ratio = np.exp(rng.normal(size=(T, B)))
    arrays = ratio, rng.normal(size=(T, B)), value, next_value
    return *(np.float32(x) for x in arrays), terminated, truncated


def explicit(arrays, gamma, gae_lambda, rho_clip, c_clip):
    """The sum of the paper's equation 1, term by term in float64, and the advantage by its target.

    A_t = r_t + gamma [lambda v_{t+1} + (1 - lambda) V(s_{t+1})] - V(s_t)
    """
    ratio, reward, value, next_value, terminated, truncated = map(np.asarray, arrays)
    ends = terminated | truncated
    target = value.astype(np.float64)
    for b in range(value.shape[1]):
        for s in range(value.shape[0]):
            weight = 1.0
            for t in range(s, value.shape[0]):
                future = 0.0 if terminated[t, b] else gamma * float(next_value[t, b])
                delta = float(reward[t, b]) + future - float(value[t, b])
                target[s, b] += weight * min(rho_clip, float(ratio[t, b])) * delta
                if ends[t, b]:
                    break
                weight *= gamma * gae_lambda * min(c_clip, float(ratio[t, b]))
    after = next_value.astype(np.float64)
    goes_on = ~ends[:-1]
    mixed = gae_lambda * target[1:] + (1.0 - gae_lambda) * value[1:]
    after[:-1] = np.where(goes_on, mixed, after[:-1])
    return target, reward + gamma * np.where(terminated, 0.0, after) - value


# --- worked numbers -----------------------------------------------------------------------------

# r = 1, 0, 2; V = .5, .4, .3; V(s_3) = .1; gamma = .5; ratios 2, .5, 4.
#   delta_0 = 1 + .5 * .4 - .5 = .7    delta_1 = .5 * .3 - .4 = -.25   delta_2 = 2 + .05 - .3 = 1.75
# Clips of 1, lambda = 1: rho = c = 1, .5, 1.
#   e_2 = 1.75                                           A_2 = 1.75
#   e_1 = .5 * -.25 + .5 * .5 * 1.75 = .3125             A_1 = -.25 + .5 * 1.75 = .625
#   e_0 = .7 + .5 * .3125 = .85625                       A_0 = .7 + .5 * .3125 = .85625
# rho_clip = 3, c_clip = 1:
#   e_2 = 5.25; e_1 = -.125 + .25 * 5.25 = 1.1875; e_0 = 1.4 + .5 * 1.1875 = 1.99375
#   A_2 = 1.75; A_1 = -.25 + .5 * 5.25 = 2.375;    A_0 = .7 + .5 * 1.1875 = 1.29375
# No clips, lambda = .5, so that a trace decays by .25:
#   e_2 = 7;    e_1 = -.125 + .5 * .25 * 7 = .75;  e_0 = 1.4 + 2 * .25 * .75 = 1.775
#   A_2 = 1.75; A_1 = -.25 + .25 * 7 = 1.5;        A_0 = .7 + .25 * .75 = .8875
WORKED = {
    "clips of 1": ((1.0, 1.0, 1.0), (0.85625, 0.3125, 1.75), (0.85625, 0.625, 1.75)),
    "wide rho": ((1.0, 3.0, 1.0), (1.99375, 1.1875, 5.25), (1.29375, 2.375, 1.75)),
    "no clips": ((0.5, np.inf, np.inf), (1.775, 0.75, 7.0), (0.8875, 1.5, 1.75)),
}
RATIO, REWARD, VALUE = column(2.0, 0.5, 4.0), column(1.0, 0.0, 2.0), column(0.5, 0.4, 0.3)
NEVER = column(0, 0, 0, dtype=bool)


@pytest.mark.parametrize("name", WORKED)
def test_vtrace_worked(name):
    values, error, advantage = WORKED[name]
    next_value = column(0.4, 0.3, 0.1)
    found = VTRACE(RATIO, REWARD, VALUE, next_value, NEVER, NEVER, 0.5, *values)
    assert_allclose(found.target[:, 0], np.add((0.5, 0.4, 0.3), error), rtol=1e-6)
    assert_allclose(found.advantage[:, 0], advantage, rtol=1e-6)


def test_an_end_in_the_middle_worked():
    """The same with clips of 1, and the second step the last of its episode, in a state worth .6.

    Terminated: delta_1 = 0 - .4; e_1 = .5 * -.4 = -.2;  e_0 = .7 + .5 * -.2 = .6
    Truncated:  delta_1 = .3 - .4; e_1 = .5 * -.1 = -.05; e_0 = .7 + .5 * -.05 = .675
    """
    second, next_value = column(0, 1, 0, dtype=bool), column(0.4, 0.6, 0.1)
    for terminated, truncated, error, advantage in (
        (second, NEVER, (0.6, -0.2, 1.75), (0.6, -0.4, 1.75)),
        (NEVER, second, (0.675, -0.05, 1.75), (0.675, -0.1, 1.75)),
        (second, second, (0.6, -0.2, 1.75), (0.6, -0.4, 1.75)),
    ):
        found = VTRACE(RATIO, REWARD, VALUE, next_value, terminated, truncated, 0.5, 1.0, 1.0, 1.0)
        assert_allclose(found.target[:, 0] - VALUE[:, 0], error, rtol=1e-5, atol=1e-7)
        assert_allclose(found.advantage[:, 0], advantage, rtol=1e-5)


def test_ratios_and_what_weighted_samples_are_worth_worked():
    log_pi, log_mu = jnp.log(jnp.array([0.9, 0.1])), jnp.log(jnp.array([0.3, 0.4]))
    ratio = off_policy_returns.importance_ratio(log_pi, log_mu)
    assert_allclose(ratio, [3.0, 0.25], rtol=1e-6)
    # (3.25 / 2)^2 / ((9 + .0625) / 2) = 2.640625 / 4.53125
    assert_allclose(off_policy_returns.effective_share(ratio), 0.5827586, rtol=1e-6)
    assert_allclose(off_policy_returns.effective_share(jnp.full(7, 1e30)), 1.0)
    assert_allclose(off_policy_returns.effective_share(jnp.array([0.0, 0.0, 5.0, 0.0])), 0.25)
    assert_allclose(off_policy_returns.effective_share(jnp.zeros(3)), 0.0)


# --- loops and identities -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        (0.99, 1.0, 1.0, 1.0),
        (0.9, 0.5, 2.0, 1.0),
        (1.0, 0.8, np.inf, np.inf),
        (0.9, 0.0, 0.5, 0.3),
    ],
)
def test_vtrace_is_its_sum(values):
    arrays = rollout(0)
    target, advantage = explicit(arrays, *values)
    found = VTRACE(*arrays, *values)
    assert_allclose(found.target, target, rtol=1e-4, atol=1e-4)
    assert_allclose(found.advantage, advantage, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("p_terminated", "p_truncated"), [(0, 0), (1, 0), (0, 1), (0.5, 0.5)])
def test_vtrace_is_its_sum_however_episodes_end(p_terminated, p_truncated):
    arrays = rollout(1, p_terminated, p_truncated)
    target, advantage = explicit(arrays, 0.97, 0.9, 1.5, 1.0)
    found = VTRACE(*arrays, 0.97, 0.9, 1.5, 1.0)
    assert_allclose(found.target, target, rtol=1e-5, atol=1e-5)
    assert_allclose(found.advantage, advantage, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])
def test_on_policy_it_is_the_lambda_return_and_gae(gae_lambda):
    _, *arrays = rollout(2)
    reward, value, next_value, *ends = arrays
    found = VTRACE(np.ones_like(reward), *arrays, 0.9, gae_lambda, 1.0, 1.0)
    advantage = returns.gae(*arrays, 0.9, gae_lambda)
    assert_allclose(found.advantage, advantage, rtol=1e-5, atol=1e-5)
    assert_allclose(found.target, advantage + value, rtol=1e-5, atol=1e-5)
    if gae_lambda == 1.0:
        n_step = returns.n_step_returns(reward, next_value, *ends, 0.9, T)
        assert_allclose(found.target, n_step, rtol=1e-5, atol=1e-5)


def test_without_traces_it_is_td_with_clipped_ratios():
    ratio, reward, value, next_value, terminated, _ = arrays = rollout(3)
    delta = reward + 0.9 * next_value * ~terminated - value
    for gae_lambda, c_clip in ((0.0, 1.0), (1.0, 0.0)):
        found = VTRACE(*arrays, 0.9, gae_lambda, 2.0, c_clip)
        assert_allclose(found.target, value + np.minimum(2.0, ratio) * delta, rtol=1e-4, atol=1e-5)


def test_an_action_that_pi_never_takes_teaches_the_critic_nothing():
    """And what comes after it is nothing to the steps before."""
    ratio, reward, *rest = rollout(4, 0, 0)
    ratio[6] = 0.0
    found = VTRACE(ratio, reward, *rest, 0.9, 1.0, 1.0, 1.0)
    changed = np.where(np.arange(T)[:, None] > 6, reward + 50.0, reward).astype(np.float32)
    again = VTRACE(ratio, changed, *rest, 0.9, 1.0, 1.0, 1.0)
    assert_allclose(found.target[6], rest[0][6])
    assert_allclose(again.target[:7], found.target[:7])
    assert np.all(np.abs(again.target[7:] - found.target[7:]) > 1.0)


def test_infinite_errors_do_not_cross_the_end_of_an_episode():
    ratio, reward, value, next_value, *_ = rollout(5)
    terminated, never = np.zeros((T, B), bool), np.zeros((T, B), bool)
    terminated[6] = True
    ratio[7:] = 1e38
    found = VTRACE(ratio, reward, value, next_value, terminated, never, 1.0, 1.0, np.inf, np.inf)
    assert np.all(np.isfinite(found.target[:7]))
    assert np.all(np.isfinite(found.advantage[:7]))
    assert not np.all(np.isfinite(found.target[7:]))


def test_vtrace_refuses_shapes_that_differ():
    ratio, *rest = rollout(6)
    with pytest.raises(AssertionError):
        off_policy_returns.vtrace(ratio[1:], *rest, 0.9, 1.0, 1.0, 1.0)
    with pytest.raises(AssertionError):
        off_policy_returns.importance_ratio(ratio, ratio[1:])


# --- independent implementations ----------------------------------------------------------------


@pytest.mark.parametrize(("gae_lambda", "rho_clip"), [(1.0, 1.0), (0.9, 2.5), (0.0, 0.7)])
def test_vtrace_against_rlax(rlax, gae_lambda, rho_clip):
    ratio, reward, value, next_value, terminated, truncated = arrays = rollout(7)
    # rlax knows one kind of end; a time limit is a terminal step that also pays its last value.
    # It clips the advantage's weight itself, and has a c_clip of 1.
    gamma, cut = 0.95, truncated & ~terminated
    paid = reward + gamma * np.where(cut, next_value, 0.0).astype(np.float32)
    discount = gamma * np.float32(~(terminated | truncated))
    oracle = jax.vmap(
        lambda v, after, r, d, rho: rlax.vtrace_td_error_and_advantage(
            v, after, r, d, rho, gae_lambda, rho_clip, 1.5
        ),
        1,
        1,
    )
    want = oracle(value, next_value, paid, discount, ratio)
    found = VTRACE(*arrays, gamma, gae_lambda, rho_clip, 1.0)
    assert_allclose(found.target - value, want.errors, rtol=1e-4, atol=1e-5)
    weighted = np.minimum(1.5, ratio) * found.advantage
    assert_allclose(weighted, want.pg_advantage, rtol=1e-4, atol=1e-5)
