"""Advantages and returns: worked numbers, loops, identities, and rlax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import signal

from jaxrl_pg.ops import returns

T, B = 13, 5
GAE = jax.jit(returns.gae)
DISCOUNTED = jax.jit(returns.discounted_returns)
N_STEP = jax.jit(returns.n_step_returns, static_argnums=5)
TO_GO = jax.jit(returns.reward_to_go)


def column(*numbers, dtype=jnp.float32):
    return jnp.array(numbers, dtype)[:, None]


def flags(*numbers):
    return column(*numbers, dtype=bool)


def rollout(seed, p_terminated=0.15, p_truncated=0.15):
    """A random rollout; all four combinations of the two flags occur."""
    rng = np.random.default_rng(seed)
    value, last_value = rng.normal(size=(T, B)), rng.normal(size=B)
    terminated = rng.random((T, B)) < p_terminated
    truncated = rng.random((T, B)) < p_truncated
    next_row = np.concatenate([value[1:], last_value[None]])
    next_value = np.where(terminated | truncated, rng.normal(size=(T, B)), next_row)
    arrays = rng.normal(size=(T, B)), value, next_value
    return *(np.float32(x) for x in arrays), terminated, truncated


def gae_loop(reward, value, next_value, terminated, truncated, gamma, gae_lambda):
    """The docstring's formula, one number at a time, in float64."""
    advantage = np.zeros(reward.shape, np.float64)
    for b in range(reward.shape[1]):
        after = 0.0
        for t in reversed(range(reward.shape[0])):
            delta = float(reward[t, b]) - float(value[t, b])
            if not terminated[t, b]:
                delta += gamma * float(next_value[t, b])
            if terminated[t, b] or truncated[t, b]:
                after = 0.0
            after = delta + gamma * gae_lambda * after
            advantage[t, b] = after
    return advantage


def discounted_returns_loop(reward, done, initial, gamma):
    collected = np.zeros(reward.shape, np.float64)
    carry = np.array(initial, np.float64)
    for t in range(reward.shape[0]):
        for b in range(reward.shape[1]):
            collected[t, b] = gamma * carry[b] + float(reward[t, b])
            carry[b] = 0.0 if done[t, b] else collected[t, b]
    return collected, carry


# --- worked numbers -----------------------------------------------------------------------------

REWARD = column(1.0, 0.0, 2.0, -1.0)
VALUE = column(0.5, 0.4, 0.3, 0.2)
NEVER = flags(0, 0, 0, 0)
THIRD = flags(0, 0, 1, 0)

# r = 1, 0, 2, -1; V = .5, .4, .3, .2; V(s_4) = .1; gamma = .9; the third step terminates.
#   delta_3 = -1 + .9 * .1 - .2 = -1.11
#   delta_2 =  2           - .3 =  1.7      (no future)
#   delta_1 =  0 + .9 * .3 - .4 = -0.13
#   delta_0 =  1 + .9 * .4 - .5 =  0.86
# The trace of step 2 is cut, so A_3 = delta_3 and A_2 = delta_2. Before it, with c = .9 lambda:
#   lambda 0:           A_1 = -.13                       A_0 = .86
#   lambda .95, c=.855: A_1 = -.13 + .855 * 1.7 = 1.3235 A_0 = .86 + .855 * 1.3235 = 1.9915925
#   lambda 1,   c=.9:   A_1 = -.13 + .9 * 1.7 = 1.4      A_0 = .86 + .9 * 1.4 = 2.12
TERMINATED = {
    0.0: (0.86, -0.13, 1.7, -1.11),
    0.95: (1.9915925, 1.3235, 1.7, -1.11),
    1.0: (2.12, 1.4, 1.7, -1.11),
}

# The same, but the third step is cut off by a time limit in a state of value .6:
#   delta_2 = 2 + .9 * .6 - .3 = 2.24, and nothing of step 3 flows into it.
#   lambda .95: A_1 = -.13 + .855 * 2.24 = 1.7852        A_0 = .86 + .855 * 1.7852 = 2.386346
#   lambda 1:   A_1 = -.13 + .9 * 2.24 = 1.886           A_0 = .86 + .9 * 1.886 = 2.5574
TRUNCATED = {
    0.0: (0.86, -0.13, 2.24, -1.11),
    0.95: (2.386346, 1.7852, 2.24, -1.11),
    1.0: (2.5574, 1.886, 2.24, -1.11),
}


@pytest.mark.parametrize("gae_lambda", [0.0, 0.95, 1.0])
def test_gae_stops_at_a_terminal_state(gae_lambda):
    next_value = column(0.4, 0.3, 0.6, 0.1)  # .6 must not be read
    advantage = GAE(REWARD, VALUE, next_value, THIRD, NEVER, 0.9, gae_lambda)
    assert_allclose(advantage[:, 0], TERMINATED[gae_lambda], rtol=1e-6)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.95, 1.0])
def test_gae_bootstraps_at_a_time_limit_and_cuts_the_trace(gae_lambda):
    next_value = column(0.4, 0.3, 0.6, 0.1)
    advantage = GAE(REWARD, VALUE, next_value, NEVER, THIRD, 0.9, gae_lambda)
    assert_allclose(advantage[:, 0], TRUNCATED[gae_lambda], rtol=1e-6)


def test_gae_both_at_once_is_terminal():
    next_value = column(0.4, 0.3, 0.6, 0.1)
    advantage = GAE(REWARD, VALUE, next_value, THIRD, THIRD, 0.9, 0.95)
    assert_allclose(advantage[:, 0], TERMINATED[0.95], rtol=1e-6)


def test_gae_without_an_end():
    # delta_2 = 2 + .9 * .2 - .3 = 1.88; lambda 1, c = .9:
    # A_3 = -1.11, A_2 = 1.88 - .9 * 1.11 = .881, A_1 = -.13 + .9 * .881 = .6629,
    # A_0 = .86 + .9 * .6629 = 1.45661
    next_value = column(0.4, 0.3, 0.2, 0.1)
    advantage = GAE(REWARD, VALUE, next_value, NEVER, NEVER, 0.9, 1.0)
    assert_allclose(advantage[:, 0], (1.45661, 0.6629, 0.881, -1.11), rtol=1e-6)


def test_gae_reads_nothing_beyond_a_terminal_state():
    next_value = column(0.4, 0.3, jnp.nan, 0.1)
    advantage = GAE(REWARD, VALUE, next_value, THIRD, NEVER, 0.9, 0.95)
    assert_allclose(advantage[:, 0], TERMINATED[0.95], rtol=1e-6)


def test_discounted_returns_worked():
    # gamma .5, carried in 4: .5*4 + 1 = 3; .5*3 + 2 = 3.5, its episode ends and is forgotten;
    # 0 + 3 = 3; .5*3 + 4 = 5.5, carried out.
    collected, carry = DISCOUNTED(
        column(1.0, 2.0, 3.0, 4.0), flags(0, 1, 0, 0), jnp.array([4.0]), 0.5
    )
    assert_allclose(collected[:, 0], (3.0, 3.5, 3.0, 5.5))
    assert_allclose(carry, [5.5])


def test_discounted_returns_forget_an_episode_that_ends_last():
    done = flags(0, 0, 0, 1)
    _, carry = DISCOUNTED(column(1.0, 2.0, 3.0, 4.0), done, jnp.array([4.0]), 0.5)
    assert_array_equal(carry, [0.0])


def test_successor_values_worked():
    value = jnp.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    final_value = jnp.array([[-1.0, -10.0], [-2.0, -20.0], [-3.0, -30.0]])
    done = jnp.array([[False, True], [False, False], [True, False]])
    got = returns.successor_values(value, jnp.array([4.0, 40.0]), final_value, done)
    assert_array_equal(got, [[2.0, -10.0], [3.0, 30.0], [-3.0, 40.0]])


# --- loops --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gamma", "gae_lambda"), [(0.99, 0.95), (0.9, 0.5), (1.0, 1.0), (1.0, 0.3), (0.7, 0.0)]
)
@pytest.mark.parametrize("seed", range(3))
def test_gae_is_its_loop(seed, gamma, gae_lambda):
    arrays = rollout(seed)
    want = gae_loop(*arrays, gamma, gae_lambda)
    assert_allclose(GAE(*arrays, gamma, gae_lambda), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("p_terminated", "p_truncated"), [(0, 0), (1, 0), (0, 1), (1, 1), (0.5, 0), (0, 0.5)]
)
def test_gae_is_its_loop_however_episodes_end(p_terminated, p_truncated):
    arrays = rollout(3, p_terminated, p_truncated)
    want = gae_loop(*arrays, 0.97, 0.9)
    assert_allclose(GAE(*arrays, 0.97, 0.9), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.9, 1.0])
def test_discounted_returns_are_their_loop(gamma):
    reward, value, _, terminated, truncated = rollout(4)
    done, initial = terminated | truncated, value[0]
    collected, carry = DISCOUNTED(reward, done, initial, gamma)
    want, want_carry = discounted_returns_loop(reward, done, initial, gamma)
    assert_allclose(collected, want, rtol=1e-5, atol=1e-5)
    assert_allclose(carry, want_carry, rtol=1e-5, atol=1e-5)


# --- identities ---------------------------------------------------------------------------------


def reward_to_go(reward, next_value, terminated, truncated, gamma):
    """Discounted reward until the episode's end, plus the value where it is cut off."""
    total = np.zeros(reward.shape, np.float64)
    for t in range(T):
        for b in range(B):
            weight, s = 1.0, t
            while True:
                total[t, b] += weight * reward[s, b]
                weight *= gamma
                if terminated[s, b]:
                    break
                if truncated[s, b] or s == T - 1:
                    total[t, b] += weight * next_value[s, b]
                    break
                s += 1
    return total


def test_lambda_one_plus_value_is_the_monte_carlo_return():
    reward, value, next_value, terminated, truncated = arrays = rollout(5)
    want = reward_to_go(reward, next_value, terminated, truncated, 0.9)
    assert_allclose(GAE(*arrays, 0.9, 1.0) + value, want, rtol=1e-5, atol=1e-5)


def test_lambda_zero_is_the_td_error():
    reward, value, next_value, terminated, _ = arrays = rollout(6)
    want = reward + 0.9 * next_value * ~terminated - value
    assert_allclose(GAE(*arrays, 0.9, 0.0), want, rtol=1e-5, atol=1e-5)


def test_gamma_zero_is_reward_less_value():
    reward, value, *_ = arrays = rollout(7)
    assert_allclose(GAE(*arrays, 0.0, 0.95), reward - value, rtol=1e-6, atol=1e-6)


def test_a_perfect_critic_has_no_advantage():
    # Reward 1 for ever at gamma .9 is worth 10, also where a time limit cuts it off.
    ten, never = jnp.full((T, B), 10.0), jnp.zeros((T, B), bool)
    cut = never.at[4].set(True)
    advantage = GAE(jnp.ones((T, B)), ten, ten, never, cut, 0.9, 0.95)
    assert_allclose(advantage, 0.0, atol=1e-5)


def test_nothing_crosses_the_end_of_an_episode():
    reward, value, next_value, _, _ = rollout(8)
    for ends in ((True, False), (False, True)):
        terminated, truncated = (np.zeros((T, B), bool) for _ in range(2))
        terminated[6], truncated[6] = ends
        whole = GAE(reward, value, next_value, terminated, truncated, 0.9, 0.95)
        shifted = GAE(
            reward + 100.0 * (np.arange(T) > 6)[:, None].astype(np.float32),
            value,
            next_value,
            terminated,
            truncated,
            0.9,
            0.95,
        )
        assert_array_equal(whole[:7], shifted[:7])
        assert np.all(shifted[7:] > whole[7:] + 99)


def test_environments_do_not_mix():
    arrays = rollout(9)
    order = np.array([3, 0, 4, 1, 2])
    whole = GAE(*arrays, 0.9, 0.95)
    assert_array_equal(GAE(*(x[:, order] for x in arrays), 0.9, 0.95), whole[:, order])


def test_discounted_returns_go_on_where_the_last_rollout_stopped():
    reward, value, _, terminated, _ = rollout(10)
    whole, carry = DISCOUNTED(reward, terminated, value[0], 0.9)
    head, middle = DISCOUNTED(reward[:5], terminated[:5], value[0], 0.9)
    tail, end = DISCOUNTED(reward[5:], terminated[5:], middle, 0.9)
    assert_array_equal(whole, np.concatenate([head, tail]))
    assert_array_equal(carry, end)


def test_gae_can_be_vmapped_over_gamma_and_lambda():
    arrays = rollout(11)
    gammas, lambdas = jnp.array([0.9, 0.99]), jnp.array([0.5, 0.95])
    both = jax.jit(jax.vmap(returns.gae, (*[None] * 5, 0, 0)))(*arrays, gammas, lambdas)
    for i in range(2):
        want = GAE(*arrays, gammas[i], lambdas[i])
        assert_allclose(both[i], want, rtol=1e-5, atol=1e-6)


def test_gae_refuses_shapes_that_differ():
    reward, value, next_value, terminated, truncated = rollout(12)
    with pytest.raises(AssertionError):
        returns.gae(reward, value, next_value[1:], terminated, truncated, 0.9, 0.95)
    with pytest.raises(AssertionError):
        returns.gae(reward, value, next_value, terminated[:, :1], truncated, 0.9, 0.95)


# --- independent implementations ----------------------------------------------------------------


def test_gae_against_rlax(rlax):
    reward, value, next_value, terminated, truncated = arrays = rollout(13)
    # rlax knows one kind of end; a time limit is a terminal step that also pays its last value.
    gamma, cut = 0.95, truncated & ~terminated
    paid = reward + gamma * np.where(cut, next_value, 0.0).astype(np.float32)
    discount = gamma * np.float32(~(terminated | truncated))
    values = np.concatenate([value, next_value[-1:]])
    oracle = jax.vmap(
        lambda r, d, v: rlax.truncated_generalized_advantage_estimation(r, d, 0.9, v), 1, 1
    )
    want = oracle(paid, discount, values)
    assert_allclose(GAE(*arrays, gamma, 0.9), want, rtol=1e-5, atol=1e-5)


def test_gae_plus_value_against_the_lambda_returns_of_rlax(rlax):
    reward, value, next_value, terminated, truncated = arrays = rollout(14)
    # Where the trace is cut the return is r + gamma V: lambda is 0 there.
    discount = 0.95 * np.float32(~terminated)
    trace = 0.9 * np.float32(~(terminated | truncated))
    want = jax.vmap(rlax.lambda_returns, 1, 1)(reward, discount, next_value, trace)
    assert_allclose(GAE(*arrays, 0.95, 0.9) + value, want, rtol=1e-5, atol=1e-5)


def test_discounted_returns_against_a_recursive_filter():
    reward, value, *_ = rollout(15)
    collected, carry = DISCOUNTED(reward, np.zeros((T, B), bool), value[0], 0.9)
    want, state = signal.lfilter([1.0], [1.0, -0.9], reward, axis=0, zi=0.9 * value[:1])
    assert_allclose(collected, want, rtol=1e-5, atol=1e-5)
    assert_allclose(0.9 * carry, state[0], rtol=1e-5, atol=1e-5)


# --- returns of n steps ---------------------------------------------------------------------------


def n_step_loop(reward, next_value, terminated, truncated, gamma, n):
    """The first n rewards, discounted, and then the value of where they led; in float64."""
    result = np.zeros(reward.shape, np.float64)
    for b in range(reward.shape[1]):
        for t in range(reward.shape[0]):
            discount, u = 1.0, t
            while True:
                result[t, b] += discount * float(reward[u, b])
                discount *= gamma
                over = terminated[u, b] or truncated[u, b] or u + 1 == reward.shape[0]
                if over or u + 1 == t + n:
                    if not terminated[u, b]:
                        result[t, b] += discount * float(next_value[u, b])
                    break
                u += 1
    return result


def test_n_step_returns_worked():
    # gamma .5, r = 1, 2, 3, 4; values of what the steps lead to 10, 20, 30, 40; the second step
    # is cut off. n = 1: 1 + 5, 2 + 10, 3 + 15, 4 + 20.
    # n = 2: 1 + .5 * (2 + 10); 2 + 10 (cut); 3 + .5 * (4 + 20); 4 + 20 (the rollout ends).
    reward, next_value = column(1.0, 2.0, 3.0, 4.0), column(10.0, 20.0, 30.0, 40.0)
    cut = flags(0, 1, 0, 0)
    assert_allclose(N_STEP(reward, next_value, NEVER, cut, 0.5, 1)[:, 0], (6.0, 12.0, 18.0, 24.0))
    assert_allclose(N_STEP(reward, next_value, NEVER, cut, 0.5, 2)[:, 0], (7.0, 12.0, 15.0, 24.0))
    # Terminated instead of cut: nothing follows the second step.
    assert_allclose(N_STEP(reward, next_value, cut, NEVER, 0.5, 2)[:, 0], (2.0, 2.0, 15.0, 24.0))


@pytest.mark.parametrize("n", [1, 2, 5, T, 10 * T])
def test_n_step_returns_are_the_loop(n):
    reward, _, next_value, *ends = rollout(n)
    result = N_STEP(reward, next_value, *ends, 0.9, n)
    assert_allclose(result, n_step_loop(reward, next_value, *ends, 0.9, n), rtol=1e-5, atol=1e-5)


def test_one_step_is_the_td_error_and_all_steps_are_monte_carlo():
    reward, value, *rest = rollout(3)
    for n, gae_lambda in ((1, 0.0), (T, 1.0)):
        advantage = GAE(reward, value, *rest, 0.9, gae_lambda)
        result = N_STEP(reward, *rest, 0.9, n) - value
        assert_allclose(result, advantage, rtol=1e-5, atol=1e-5)


# --- whole episodes -------------------------------------------------------------------------------


def test_reward_to_go_worked():
    # gamma .5, the second step ends an episode whose last observation is worth 8:
    # 2 + .5 * 8 = 6, 1 + .5 * 6 = 4; then 3 + .5 * 4 = 5 and 4, without what comes later.
    value = column(100.0, 8.0, 100.0, 100.0)  # read only at the end of an episode
    to_go = TO_GO(column(1.0, 2.0, 3.0, 4.0), flags(0, 1, 0, 0), value, 0.5)
    assert_allclose(to_go[:, 0], (4.0, 6.0, 5.0, 4.0))


def test_reward_to_go_is_gae_with_lambda_one_plus_the_value():
    reward, value, next_value, terminated, truncated = rollout(4)
    end = terminated | truncated
    worth = np.where(terminated, 0.0, next_value)
    worth[-1], end[-1] = np.where(terminated[-1], 0.0, next_value[-1]), True
    monte_carlo = GAE(reward, value, next_value, terminated, truncated, 0.9, 1.0) + value
    assert_allclose(TO_GO(reward, end, worth, 0.9), monte_carlo, rtol=1e-5, atol=1e-5)


def test_episode_starts_worked():
    done = jnp.array([[0, 1], [1, 1], [0, 0], [0, 0], [1, 0]], bool)
    expected = [[0, 0], [0, 1], [2, 2], [2, 2], [2, 2]]
    assert_array_equal(returns.episode_starts(done), expected)


# --- rewards of n steps ---------------------------------------------------------------------------


def n_step_rewards_loop(reward, done, gamma, n):
    """The docstring's formula, one number at a time."""
    total, count = np.zeros(reward.shape), np.zeros(reward.shape, int)
    for t in range(reward.shape[0]):
        for b in range(reward.shape[1]):
            for i in range(t, min(t + n, reward.shape[0])):
                total[t, b] += gamma ** (i - t) * float(reward[i, b])
                count[t, b] += 1
                if done[i, b]:
                    break
    return total, count


def test_rewards_of_n_steps_worked():
    # gamma = 1/2, n = 3; the second step ends an episode, the last one the rollout:
    # 1 + 2/2 = 2 of two steps; 2 of one; 4 + 8/2 + 16/4 = 12 of three; 8 + 16/2 = 16; 16
    reward, done = column(1.0, 2.0, 4.0, 8.0, 16.0), flags(0, 1, 0, 0, 0)
    total, count = returns.n_step_rewards(reward, done, 0.5, 3)
    assert_allclose(total[:, 0], [2.0, 2.0, 12.0, 16.0, 16.0])
    assert_array_equal(count[:, 0], [2, 1, 3, 2, 1])


@pytest.mark.parametrize("n", [1, 2, 4, 50])
def test_rewards_of_n_steps_are_those_of_the_loop_and_make_n_step_returns(n):
    reward, _, next_value, terminated, truncated = rollout(3)
    done = terminated | truncated
    total, count = returns.n_step_rewards(reward, jnp.asarray(done), 0.9, n)
    expected = n_step_rewards_loop(reward, done, 0.9, n)
    assert_allclose(total, expected[0], rtol=1e-5, atol=1e-6)
    assert_array_equal(count, expected[1])
    last = np.arange(T)[:, None] + np.asarray(count) - 1, np.arange(B)[None]
    bootstrap = np.where(terminated, 0.0, next_value)[last]
    whole = N_STEP(reward, next_value, terminated, truncated, 0.9, n)
    assert_allclose(total + 0.9**count * bootstrap, whole, rtol=1e-4, atol=1e-5)
