"""Maximum-entropy control: worked numbers, twins, and its theorems on 10,400 random MDPs each."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import OPTIMAL_VALUE_G, random_mdps, random_policies, random_sizes
from numpy.testing import assert_allclose
from scipy.special import logsumexp, softmax

from jaxrl_pg.theory import mdp as mdps
from jaxrl_pg.theory import probability, solve
from jaxrl_pg.theory.soft import soft_learning, soft_values
from worked import POLICY_G, mdp_g

SIZES = [(5, 3), (12, 4)]
PER_SIZE = 5200  # half dense, half sparse
NUM_ITERATES = 12  # of policy iteration: as good as converged
ROUNDING = 1e-9  # values reach 1,000: temperature 10, five actions, gamma .99


def one_state():
    """Return one state with rewards 1 and 0, gamma 1/2, for numbers by hand."""
    return mdps.make([[[1.0], [1.0]]], [[1.0, 0.0]], [1.0], 0.5)


def random_problems(states, actions, num=PER_SIZE):
    """Return dense and sparse MDPs, two policies each, temperatures from .01 to 10."""
    batch = random_mdps(states, num, states, actions, sparse=0.5)
    policies = random_policies(1, 2 * num, states, actions).reshape(2, num, states, actions)
    problems = (batch, *policies, random_sizes(2, num, np.log(0.01), np.log(10.0)))
    return jax.tree.map(jnp.asarray, problems)


def study(mdp, policy, other, temperature):
    """Compute every quantity of the theorems for one MDP."""
    pairs = jnp.stack([policy, other])
    both = jax.vmap(soft_values.evaluate, (None, 0, None))(mdp, pairs, temperature)
    improved = soft_values.improve(both.q[0], temperature)
    anywhere = mdp.reward + 3.0 * (policy - other)  # some Q that is no policy's
    by_policies = soft_values.policy_iterates(mdp, temperature, NUM_ITERATES, policy)
    best = soft_values.improve(by_policies.q[-1], temperature)
    old, new = jnp.stack([policy, policy, best]), jnp.stack([improved, other, policy])
    differences = jax.vmap(soft_values.performance_difference, (None, 0, 0, None))
    logits = jnp.stack([jnp.log(policy), jnp.zeros_like(policy)])
    return {
        "both": both,
        "evaluation": soft_values.evaluation_iterates(
            mdp, policy, temperature, NUM_ITERATES, anywhere
        ),
        "optimality": soft_values.value_iterates(mdp, temperature, NUM_ITERATES, anywhere),
        "by_values": soft_values.value_iterates(mdp, temperature, NUM_ITERATES, both.q[0]),
        "by_policies": by_policies,
        "difference": differences(mdp, old, new, temperature),
        "limit": soft_values.hard_limit(mdp, temperature),
        "special": jax.vmap(soft_learning.special_case, (None, 0, None))(mdp, logits, temperature),
    }


STUDY = jax.jit(jax.vmap(study))
EVALUATE = jax.jit(soft_values.evaluate)
SOLVERS = jax.jit(soft_values.value_iteration), jax.jit(soft_values.policy_iteration)


@cache
def studied(states, actions):
    problems = random_problems(states, actions)
    return problems, jax.tree.map(np.asarray, STUDY(*problems))


# --- worked numbers -------------------------------------------------------------------------------


def test_one_state_by_hand():
    # Uniform: each step earns 1/2 + log 2, so V = 1 + 2 log 2, Q = r + V/2, A = Q + log 2 - V.
    mdp, uniform = one_state(), jnp.array([[0.5, 0.5]])
    result = EVALUATE(mdp, uniform, 1.0)
    value = 1 + 2 * np.log(2)
    assert_allclose(result.value, [value], rtol=1e-14)
    assert_allclose(result.q, [[1 + value / 2, value / 2]], rtol=1e-14)
    assert_allclose(result.advantage, [[0.5, -0.5]], rtol=1e-14)
    assert_allclose(result.objective, value, rtol=1e-14)
    # Q differs by 1 between the actions whatever the policy, so one improvement is the optimum:
    # softmax(1, 0), V = log(e + 1) + V / 2.
    best = np.e / (np.e + 1)
    improved = soft_values.improve(result.q, 1.0)
    assert_allclose(improved, [[best, 1 - best]], rtol=1e-14)
    assert_allclose(EVALUATE(mdp, improved, 1.0).value, [2 * np.log(np.e + 1)], rtol=1e-14)
    sides = jax.jit(soft_values.performance_difference)(mdp, uniform, improved, 1.0)
    assert_allclose(sides.left, 2 * np.log(np.e + 1) - value, rtol=1e-13)
    assert_allclose(sides.right, 2 * np.log(np.e + 1) - value, rtol=1e-13)
    # At temperature 2 the entropy counts twice: Q / 2 differs by 1/2.
    hotter = EVALUATE(mdp, uniform, 2.0)
    assert_allclose(hotter.value, [1 + 4 * np.log(2)], rtol=1e-14)
    assert_allclose(solve.soft_maximum(jnp.array([1.0, 0.0]), 2.0), 2 * np.log(np.exp(0.5) + 1))
    # Where nothing is earned there is still entropy: temperature log 2 / (1 - 1/2).
    silent = mdp._replace(reward=jnp.zeros((1, 2)))
    assert_allclose(SOLVERS[1](silent, 3.0).value, [6 * np.log(2)], rtol=1e-14)


@pytest.mark.parametrize(
    ("gamma", "value", "first_action"),
    [
        (0.9, [7.222759474991, 6.914862018510, 7.357931984580], 0.015260404352),
        (0.5, [1.456820215702, 1.175748650166, 1.613670544745], 0.019941249934),
    ],
)
def test_worked_soft_optimum(gamma, value, first_action):
    # Of examples.mdp_g at temperature 0.2, solved independently.
    mdp = mdp_g(gamma)
    for solver in SOLVERS:
        result = solver(mdp, 0.2, 1e-13)
        assert_allclose(result.value, value, rtol=0, atol=1e-11)
        assert_allclose(result.policy[0], [first_action, 1 - first_action], atol=1e-11)
        assert_allclose(EVALUATE(mdp, result.policy, 0.2).value, value, rtol=0, atol=1e-11)


def test_an_action_never_taken_adds_no_entropy():
    mdp = mdp_g(0.9)
    greedy = jax.jit(solve.policy_iteration)(mdp).policy
    assert_allclose(probability.entropy(greedy), np.zeros(3))
    with_entropy, without = EVALUATE(mdp, greedy, 5.0), jax.jit(solve.evaluate)(mdp, greedy)
    assert_allclose(with_entropy.value, without.value, rtol=1e-14)
    assert_allclose(with_entropy.advantage, without.advantage, atol=1e-13)
    assert_allclose(probability.entropy(jnp.array([0.5, 0.25, 0.25])), 1.5 * np.log(2))
    grad = jax.jit(jax.grad(lambda x: soft_values.evaluate(mdp, x, 5.0).objective))(greedy)
    assert jnp.all(jnp.isfinite(grad))


# --- twins ----------------------------------------------------------------------------------------


def twin_evaluate(mdp, policy, temperature):
    gamma = float(mdp.gamma)
    chain = np.einsum("sa,sak->sk", policy, mdp.transition)
    reward = np.sum(policy * (mdp.reward - temperature * np.log(policy)), axis=1)
    value = np.linalg.solve(np.eye(len(chain)) - gamma * chain, reward)
    return value, mdp.reward + gamma * mdp.transition @ value


def twin_backup(mdp, policy, temperature, q):
    new = np.array(mdp.reward)
    for s, a, k, b in np.ndindex(*mdp.transition.shape, q.shape[1]):
        inner = q[k, b] - temperature * np.log(policy[k, b])
        new[s, a] += float(mdp.gamma) * mdp.transition[s, a, k] * policy[k, b] * inner
    return new


def test_backups_and_iterations_equal_their_numpy_twins():
    mdp = jax.tree.map(np.asarray, mdp_g(0.9))
    temperature = 0.7
    q = np.array([[1.0, -2.0], [0.3, 0.4], [5.0, 0.0]])

    backed = twin_backup(mdp, POLICY_G, temperature, q)
    assert_allclose(jax.jit(soft_values.backup)(mdp, POLICY_G, temperature, q), backed, rtol=1e-13)
    iterates = jax.jit(soft_values.evaluation_iterates, static_argnums=3)(
        mdp, POLICY_G, temperature, 2, q
    )
    twice = twin_backup(mdp, POLICY_G, temperature, backed)
    assert_allclose(iterates.q, [q, backed, twice], rtol=1e-13)
    assert_allclose(iterates.least_change, [np.min(backed - q), np.min(twice - backed)])

    by_values, by_policies = [np.zeros((3, 2))], [twin_evaluate(mdp, POLICY_G, temperature)[1]]
    for _ in range(4):
        value = temperature * logsumexp(by_values[-1] / temperature, axis=1)
        by_values.append(mdp.reward + 0.9 * mdp.transition @ value)
        policy = softmax(by_policies[-1] / temperature, axis=1)
        by_policies.append(twin_evaluate(mdp, policy, temperature)[1])
    result = jax.jit(soft_values.value_iterates, static_argnums=2)(mdp, temperature, 4)
    assert_allclose(result.q, by_values, rtol=1e-13)
    result = jax.jit(soft_values.policy_iterates, static_argnums=2)(mdp, temperature, 4, POLICY_G)
    assert_allclose(result.q, by_policies, rtol=1e-12)


@pytest.mark.parametrize(("states", "actions"), SIZES)
def test_evaluation_equals_its_numpy_twin(states, actions):
    (batch, policies, _, temperature), result = studied(states, actions)
    for i in (0, 1, PER_SIZE - 2, PER_SIZE - 1):
        one = jax.tree.map(lambda x, i=i: np.asarray(x[i]), batch)
        value, q = twin_evaluate(one, np.asarray(policies[i]), float(temperature[i]))
        assert_allclose(result["both"].value[i, 0], value, rtol=1e-10, atol=1e-10)
        assert_allclose(result["both"].q[i, 0], q, rtol=1e-10, atol=1e-10)


# --- theorems, on random MDPs ---------------------------------------------------------------------

ON_EVERY_SIZE = pytest.mark.parametrize(("states", "actions"), SIZES)


def distances(q, limit):
    """Return `max_{s,a} |Q_k - Q|`, `[N, K + 1]`."""
    return np.max(np.abs(np.asarray(q) - np.asarray(limit)[:, None]), axis=(2, 3))


def assert_contracts(q, limit, gamma):
    distance, gamma = distances(q, limit), np.asarray(gamma)[:, None]
    assert np.all(distance[:, 1:] <= gamma * distance[:, :-1] + ROUNDING)
    # Not all for nothing: there was a distance, and gamma is the rate that some come close to.
    assert np.all(distance[:, 0] > 0.0)
    assert np.max(distance[:, 1:2] / (gamma * distance[:, :1])) > 0.9


@pytest.mark.theorem
@ON_EVERY_SIZE
def test_lemma_1_evaluation_is_a_contraction_to_the_soft_q(states, actions):
    (batch, _, _, _), result = studied(states, actions)
    assert_contracts(result["evaluation"].q, result["both"].q[:, 0], batch.gamma)


@pytest.mark.theorem
@ON_EVERY_SIZE
def test_soft_value_iteration_is_a_contraction_to_the_soft_optimum(states, actions):
    (batch, _, _, _), result = studied(states, actions)
    assert_contracts(result["optimality"].q, result["by_policies"].q[:, -1], batch.gamma)


@pytest.mark.theorem
@ON_EVERY_SIZE
def test_soft_values_keep_their_equations(states, actions):
    (batch, policies, _, temperature), result = studied(states, actions)
    solution = jax.tree.map(lambda x: x[:, 0], result["both"])
    mean = np.sum(policies * solution.advantage, axis=2)
    assert_allclose(mean, 0.0, atol=ROUNDING)
    # J = sum_s d(s) [r_pi(s) + temperature H(s)] / (1 - gamma)
    entropy = -np.sum(policies * np.log(policies), axis=2)
    reward = np.sum(policies * batch.reward, axis=2) + temperature[:, None] * entropy
    flow = np.sum(solution.visitation * reward, axis=1) / (1 - batch.gamma)
    assert_allclose(solution.objective, flow, rtol=1e-10, atol=ROUNDING)


@pytest.mark.theorem
@ON_EVERY_SIZE
def test_lemma_2_improvement_is_never_worse_anywhere(states, actions):
    _, result = studied(states, actions)
    changes = np.asarray(result["by_policies"].least_change)
    assert np.min(changes) >= -ROUNDING
    assert np.median(changes[:, 0]) > 1e-3  # and improvement there was


@pytest.mark.theorem
@ON_EVERY_SIZE
def test_the_gain_of_an_improvement_is_a_divergence(states, actions):
    _, result = studied(states, actions)
    left, right = result["difference"]
    assert_allclose(left, right, rtol=1e-8, atol=1e-8)
    gain, between, lack = right.T
    assert np.min(gain) > 0.0
    assert np.max(lack) < 0.0
    assert np.min(between) < -0.01  # of any two policies, either can be the better
    assert np.max(between) > 0.01


@pytest.mark.theorem
@ON_EVERY_SIZE
def test_theorem_1_iteration_ends_at_a_policy_that_none_beats(states, actions):
    (batch, _, _, temperature), result = studied(states, actions)
    best = result["by_policies"].q[:, -1]
    assert np.min(best[:, None] - result["both"].q) >= -ROUNDING
    # A fixed point of the optimality operator, in NumPy.
    scale = np.asarray(temperature)[:, None]
    value = scale * logsumexp(best / scale[..., None], axis=2)
    backed = batch.reward + batch.gamma[:, None, None] * np.einsum(
        "nsak,nk->nsa", batch.transition, value
    )
    assert_allclose(backed, best, atol=ROUNDING)
    assert_allclose(result["limit"].soft, value, atol=ROUNDING)


@pytest.mark.theorem
@ON_EVERY_SIZE
def test_policy_iteration_is_never_behind_value_iteration(states, actions):
    _, result = studied(states, actions)
    lead = np.asarray(result["by_policies"].q - result["by_values"].q)
    assert_allclose(lead[:, 0], 0.0, atol=ROUNDING)
    assert np.min(lead) >= -ROUNDING
    assert np.median(np.max(lead[:, 1], axis=(1, 2))) > 1e-3
    # Started from the Q of a policy, value iteration rises everywhere as well.
    assert np.min(result["by_values"].least_change) >= -ROUNDING


@pytest.mark.theorem
@ON_EVERY_SIZE
def test_soft_values_stay_within_their_bound_of_hard_ones(states, actions):
    (batch, _, _, temperature), result = studied(states, actions)
    limit = result["limit"]
    bound = np.asarray(temperature * np.log(actions) / (1 - batch.gamma))
    assert_allclose(limit.bound, bound, rtol=1e-14)
    for above, below in ((limit.soft, limit.hard), (limit.hard, limit.obtained)):
        gap = np.asarray(above - below)
        assert np.min(gap) >= -ROUNDING
        assert np.all(gap <= bound[:, None] + ROUNDING)
    used = np.max(limit.soft - limit.hard, axis=1) / bound
    assert np.max(used) > 0.9  # at high temperatures the bound is nearly met


@pytest.mark.theorem
@ON_EVERY_SIZE
def test_soft_actor_critic_is_the_analytical_update_of_the_soft_advantage(states, actions):
    (_, _, _, temperature), result = studied(states, actions)
    special, uniform = (jax.tree.map(lambda x, i=i: x[:, i], result["special"]) for i in (0, 1))
    assert_allclose(special.soft_rule, special.projection, atol=1e-9)
    target = softmax(result["both"].q[:, 0] / temperature[:, None, None], axis=2)
    assert_allclose(special.projection, target, atol=1e-12)
    # With the advantage of the rewards alone it is so from the uniform policy.
    assert_allclose(uniform.plain_rule, uniform.projection, atol=1e-9)
    apart = np.max(np.abs(special.plain_rule - special.projection), axis=(1, 2))
    assert np.median(apart) > 0.1


def test_only_the_uniform_policy_is_a_fixed_point_without_reward():
    # Why the plain update agrees with soft actor-critic from no other policy: it does where
    # log pi is, up to a constant, the discounted entropy to come.
    batch, policies, others, temperature = studied(5, 3)[0]
    silent = batch._replace(reward=jnp.zeros_like(batch.reward))
    result = STUDY(silent, policies, others, temperature)
    best = result["by_policies"].q[:, -1]
    assert_allclose(softmax(best / temperature[:, None, None], axis=2), 1 / 3, atol=1e-12)
    gain = result["difference"].right[:, 0]
    assert np.all(gain > 0.0)


@pytest.mark.theorem
def test_the_entropy_regularised_gradient_equals_autodiff():
    batch, policies, _, temperature = random_problems(5, 3, 10_000)
    by_theorem, by_autodiff = both_gradients(batch, jnp.log(policies), temperature)
    assert_allclose(by_theorem, by_autodiff, rtol=1e-8, atol=1e-8)
    assert np.median(np.max(np.abs(by_theorem), axis=(1, 2))) > 0.1


@jax.jit
@jax.vmap
def both_gradients(mdp, logits, temperature):
    by_autodiff = jax.grad(
        lambda x: soft_values.evaluate(mdp, jax.nn.softmax(x), temperature).objective
    )
    return soft_values.policy_gradient(mdp, logits, temperature), by_autodiff(logits)


def test_the_entropy_regularised_gradient_equals_finite_differences_and_ends_at_the_optimum():
    mdp, temperature = mdp_g(0.9), 0.3
    logits, step = np.log(POLICY_G), 1e-5

    def objective(logits):
        policy = softmax(logits, axis=1)
        return mdp.start @ twin_evaluate(mdp, policy, temperature)[0]

    differences = np.zeros((3, 2))
    for s, a in np.ndindex(3, 2):
        up, down = logits.copy(), logits.copy()
        up[s, a] += step
        down[s, a] -= step
        differences[s, a] = (objective(up) - objective(down)) / (2 * step)
    gradient = jax.jit(soft_values.policy_gradient)
    assert_allclose(gradient(mdp, logits, temperature), differences, atol=1e-8)
    best = SOLVERS[1](mdp, temperature, 1e-13).policy
    assert_allclose(gradient(mdp, jnp.log(best), temperature), 0.0, atol=1e-12)


# --- solvers --------------------------------------------------------------------------------------


def test_value_iteration_keeps_its_promise():
    (batch, _, _, temperature), result = studied(5, 3)
    near = jax.tree.map(lambda x: x[:200], (batch, temperature))
    exact = result["limit"].soft[:200]
    solver = jax.jit(jax.vmap(soft_values.value_iteration, (0, 0, None)))
    for tolerance in (1e-2, 1e-9):
        by_values = solver(*near, tolerance)
        off = np.max(np.abs(by_values.value - exact), axis=1)
        assert np.all(off <= tolerance * batch.gamma[:200] / (1 - batch.gamma[:200]) + 1e-10)
        assert np.max(by_values.residual) <= tolerance
        assert (np.max(off) > 1e-3) == (tolerance == 1e-2)  # it does stop early
    stopped = SOLVERS[0](mdp_g(0.9), 1.0, 0.0, max_iterations=7)
    assert stopped.iterations == 7
    assert stopped.residual > 0


def test_the_temperature_goes_to_zero():
    mdp, limit = mdp_g(0.9), jax.jit(soft_values.hard_limit)
    for temperature in (1e-2, 1e-4, 1e-6):
        result = limit(mdp, temperature)
        assert_allclose(result.soft, result.hard, rtol=0, atol=result.bound)
        assert_allclose(result.obtained, result.hard, rtol=0, atol=result.bound)
        assert_allclose(result.bound, temperature * np.log(2) / 0.1, rtol=1e-12)
    assert_allclose(result.soft, OPTIMAL_VALUE_G, atol=1e-5)
    assert_allclose(result.hard, OPTIMAL_VALUE_G, atol=1e-11)


def test_single_precision_stays_single():
    mdp = jax.tree.map(lambda x: x.astype(jnp.float32), mdp_g(0.9))
    policy = mdps.uniform_policy(mdp)
    shapes = [
        jax.eval_shape(soft_values.evaluate, mdp, policy, 0.5),
        jax.eval_shape(soft_values.hard_limit, mdp, 0.5),
        jax.eval_shape(partial(soft_values.policy_iterates, num=2), mdp, 0.5),
        jax.eval_shape(soft_learning.special_case, mdp, policy, 0.5),
        jax.eval_shape(soft_values.policy_gradient, mdp, policy, 0.5),
        jax.eval_shape(soft_values.performance_difference, mdp, policy, policy, 0.5),
    ]
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.float32)}


# --- soft actor-critic ----------------------------------------------------------------------------


def test_losses_by_hand():
    log_half = np.log(0.5)
    uniform = jnp.full((2, 2), log_half)
    # Targets 1/2 + bonus and 2 + bonus beside values 0 and 1, the bonus temperature log 2.
    q = jnp.array([[1.0, 0.0], [2.0, 2.0]])
    for temperature in (1.0, 3.0):
        bonus = temperature * np.log(2)
        expected = 0.5 * ((0.5 + bonus) ** 2 + (1 + bonus) ** 2) / 2
        loss = soft_learning.value_loss(jnp.array([0.0, 1.0]), q, uniform, temperature)
        assert_allclose(loss, expected, rtol=1e-14)
    # Targets 0.5 + 0.5 * 2 = 1.5 and -1 + 0.5 * 4 = 1, off by 1/2 and 1: (1/4 + 1) / 2 / 2.
    args = (jnp.array([1.0, 2.0]), jnp.array([0.5, -1.0]), jnp.array([2.0, 4.0]), 0.5)
    assert_allclose(soft_learning.q_loss(*args), 0.3125, rtol=1e-15)
    # exp(Q)/Z = (3/4, 1/4): KL = log(2/3) / 2 + log(2) / 2 = log(4/3) / 2; nothing in a tie.
    q = jnp.array([[np.log(3.0), 0.0], [7.0, 7.0]])
    assert_allclose(soft_learning.policy_loss(uniform, q), np.log(4 / 3) / 4, rtol=1e-13)
    assert_allclose(soft_learning.policy_loss(uniform, 5 * q, 5.0), np.log(4 / 3) / 4, rtol=1e-13)
    target = soft_learning.average_target({"w": jnp.array(1.0)}, {"w": jnp.array(3.0)}, 0.1)
    assert_allclose(target["w"], 1.2, rtol=1e-15)


def test_each_loss_teaches_one_thing():
    rng = np.random.default_rng(0)
    value, q = rng.normal(size=4), rng.normal(size=(4, 3))
    log_policy = np.log(rng.dirichlet(np.ones(3), 4))
    wrong, right = slopes_of_losses(value, q, log_policy)
    assert all(jnp.all(g == 0) for g in jax.tree.leaves(wrong))
    assert all(jnp.all(g != 0) for g in right)


@jax.jit
def slopes_of_losses(value, q, log_policy):
    """Return the gradients that must be zero, and those that must not."""
    taken = q[:, 0]
    wrong = (
        jax.grad(soft_learning.value_loss, (1, 2))(value, q, log_policy),
        jax.grad(soft_learning.q_loss, (1, 2))(taken, value, value, 0.9),
        jax.grad(soft_learning.policy_loss, 1)(log_policy, q),
    )
    right = (
        jax.grad(soft_learning.value_loss)(value, q, log_policy),
        jax.grad(soft_learning.q_loss)(taken, value, value, 0.9),
        jax.grad(soft_learning.policy_loss)(log_policy, q),
    )
    return wrong, right


def test_the_improved_policy_has_the_least_policy_loss():
    rng = np.random.default_rng(1)
    q = rng.normal(size=(5, 4))
    best = jnp.log(soft_values.improve(q, 0.3))
    assert_allclose(soft_learning.policy_loss(best, q, 0.3), 0.0, atol=1e-14)
    others = jnp.log(rng.dirichlet(np.ones(4), (1000, 5)))
    policy_loss = jax.jit(jax.vmap(partial(soft_learning.policy_loss, q=q, temperature=0.3)))
    losses = policy_loss(others)
    assert np.min(losses) > 0.0


def algorithm_1(mdp, temperature, rates, tau, carry, _):
    """Take one gradient step of each loss of soft actor-critic, on tables."""
    value, q, logits, target = carry
    log_policy = jax.nn.log_softmax(logits)
    next_value = mdp.transition @ target
    d_value = jax.grad(soft_learning.value_loss)(value, q, log_policy, temperature)
    d_q = jax.grad(soft_learning.q_loss)(q, mdp.reward, next_value, mdp.gamma)

    def loss(logits):
        return soft_learning.policy_loss(jax.nn.log_softmax(logits), q, temperature)

    d_logits = jax.grad(loss)(logits)
    value, q = value - rates[0] * d_value, q - rates[1] * d_q
    target = soft_learning.average_target(target, value, tau)
    return (value, q, logits - rates[2] * d_logits, target), None


def test_algorithm_1_on_tables_learns_the_soft_optimum():
    mdp, temperature = mdp_g(0.9), 0.5
    table = jnp.zeros_like(mdp.reward)
    start = (table[:, 0], table, table, table[:, 0])
    step = partial(algorithm_1, mdp, temperature, (1.0, 2.0, 3.0), 0.3)
    (value, q, logits, _), _ = jax.jit(partial(jax.lax.scan, step, length=3000))(start, None)
    best = SOLVERS[1](mdp, temperature)
    assert_allclose(value, best.value, atol=1e-8)
    assert_allclose(q, solve.q_values(mdp, best.value), atol=1e-8)
    assert_allclose(jax.nn.softmax(logits), best.policy, atol=1e-8)
