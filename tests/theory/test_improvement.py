"""The analytical update: worked numbers, twins, its identity on thousands of MDPs, certificates."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import OPTIMAL_OBJECTIVE_G, random_mdps, random_policies, random_sizes
from numpy.testing import assert_allclose

from jaxrl_pg.theory import solve
from jaxrl_pg.theory.bounds import improvement_bounds
from jaxrl_pg.theory.probability import kl_divergence, log_of
from jaxrl_pg.theory.updates import analytical, constants, improvement
from jaxrl_pg.theory.updates.analytical import analytical_update
from worked import POLICY_G, mdp_g

NUM = 6000
SHAPES = [(2, 2, False), (6, 3, True)]


# Compiled as wholes: operation by operation they take several times as long.
evaluate = jax.jit(solve.evaluate)
update_of = jax.jit(analytical_update)
kl_of = jax.jit(kl_divergence)
COUNT = jax.jit(
    jax.vmap(
        lambda mdp: improvement.iterations_to_optimum(mdp, constants.scaled(1.0), max_iterations=50)
    )
)
weighted_softmax = jax.jit(analytical.weighted_softmax)


def one_step(mdp, log_policy, scale):
    """Return the step with C = scale eps, the error of log Z = KL(pi || pi_new), and max |V|."""
    before = evaluate(mdp, jnp.exp(log_policy))
    constant = scale * jnp.max(jnp.abs(before.advantage))
    update = analytical_update(log_policy, before.advantage, constant)
    after = evaluate(mdp, jnp.exp(update.log_policy))
    step = improvement.account(mdp.gamma, constant, log_policy, before, update, after)
    difference = update.gain - constant * kl_divergence(log_policy, update.log_policy)
    return step, jnp.max(jnp.abs(difference)), jnp.max(jnp.abs(before.value))


@jax.jit
def run(mdp, log_policy, temperatures):
    """Return six improvements with the C given."""
    return improvement.improve(mdp, log_policy, constants.scheduled(temperatures), 6)


step_once = jax.jit(one_step)
many_steps = jax.jit(jax.vmap(one_step))


def stepped(*problems):
    return jax.tree.map(np.asarray, many_steps(*problems))


def many(states, actions, sparse):
    """Return random MDPs and policies."""
    batch = random_mdps(states, NUM, states, actions, sparse=sparse)
    return batch, np.log(random_policies(2, NUM, states, actions))


# --- worked numbers: examples.mdp_g, solved independently -----------------------------------------

WORKED = [
    # gamma, C, J', certificate, E_d KL(new||old), max KL
    (0.9, constants.by_paper, 4.082540616609, 4.081699406174, 2.102396202273e-7, 5.081917809256e-7),
    (0.9, constants.scaled(40.0), 4.115047088837, 4.097925817732, 8.656828965418e-5, None),
    (
        *(0.9, constants.expected_kl, 4.157978955090, 4.119288611189),
        *(4.387975681956e-4, 1.062866834712e-3),
    ),
    (
        *(0.5, constants.expected_kl, 0.853082125637, 0.809320993619),
        *(1.309361885266e-2, 2.722276394577e-2),
    ),
    (0.9, constants.fixed(1.0), 4.774864192193, 4.424798093545, 0.03435114547160, None),
    (0.9, constants.fixed(0.1), 6.662865388840, 5.952055592511, 0.6515525236739, None),
    (0.5, constants.by_paper, 0.920953998582, 0.843200652507, 0.04120899548719, None),
]


@pytest.mark.parametrize(("gamma", "choose", "objective", "certificate", "kl", "kl_max"), WORKED)
def test_worked_steps(gamma, choose, objective, certificate, kl, kl_max):
    mdp, log_policy = mdp_g(gamma), jnp.log(POLICY_G)
    solution = evaluate(mdp, jnp.asarray(POLICY_G))
    constant = choose(constants.Iterate(solution, log_policy, mdp.gamma, jnp.asarray(0)))
    step, _, _ = step_once(mdp, log_policy, constant / jnp.max(jnp.abs(solution.advantage)))
    assert_allclose(step.objective + step.change, objective, rtol=0, atol=1e-11)
    assert_allclose(step.objective + step.identity, objective, rtol=0, atol=1e-11)
    assert_allclose(step.certificate, certificate, rtol=0, atol=1e-11)
    assert_allclose(step.kl, kl, rtol=1e-9)
    assert_allclose(step.slack, objective - certificate, rtol=0, atol=1e-11)
    if kl_max is not None:
        assert_allclose(step.kl_max, kl_max, rtol=1e-9)


@pytest.mark.parametrize(
    ("gamma", "choose", "constant"),
    [
        # eps = 0.493950759693 at 0.9 and 0.465733262842 at 0.5
        (0.9, constants.by_paper, 400.100115350934),  # .81 eps / .001
        (0.9, constants.expected_kl, 8.7976207393),  # 17.8107241799 eps
        (0.5, constants.by_paper, 0.931466525685),  # .25 eps / .125 = 2 eps
        (0.9, constants.scaled(3.0), 3 * 0.493950759693),
        (0.9, constants.greedy, 0.0),
        (0.9, constants.geometric(2.0, 0.5), 2 * 0.5**3 * 0.493950759693),
        (0.9, constants.scheduled(jnp.array([1.0, 2.0, 3.0, 4.0])), 4.0),
        (0.9, constants.scheduled(jnp.array([1.0, 2.0])), 2.0),
        (0.9, constants.fixed(0.7), 0.7),
    ],
)
def test_worked_constants(gamma, choose, constant):
    mdp = mdp_g(gamma)
    solution = evaluate(mdp, jnp.asarray(POLICY_G))
    got = choose(constants.Iterate(solution, jnp.log(POLICY_G), mdp.gamma, jnp.asarray(3)))
    assert_allclose(got, constant, rtol=0, atol=1e-9)


def test_worked_policies():
    mdp = mdp_g(0.9)
    advantage = evaluate(mdp, jnp.asarray(POLICY_G)).advantage
    new = update_of(jnp.log(POLICY_G), advantage, 40 * 0.493950759693).log_policy
    want = [0.589959617633, 0.302208710494, 0.504606280985]
    assert_allclose(jnp.exp(new[:, 0]), want, rtol=0, atol=1e-11)
    new = update_of(jnp.log(POLICY_G), advantage, 1.0).log_policy
    want = [0.397046624246, 0.345263776665, 0.590021548511]
    assert_allclose(jnp.exp(new[:, 0]), want, rtol=0, atol=1e-11)
    step, _, _ = step_once(mdp, jnp.log(POLICY_G), 1 / 0.493950759693)
    assert_allclose(step.ratio_min, 0.661744374, rtol=0, atol=1e-9)
    assert_allclose(step.ratio_max, 1.507383439, rtol=0, atol=1e-9)


# --- the rule -------------------------------------------------------------------------------------


def test_an_update_by_hand():
    # pi = (1/4, 3/4), A = (3, -1), C = 1 / log 2: weights 2^3 / 4 = 2 and 3/4 / 2 = 3/8,
    # Z = 19/8, pi_new = (16/19, 3/19).
    log_policy = jnp.log(jnp.array([[0.25, 0.75]]))
    constant = 1 / math.log(2)
    update = update_of(log_policy, jnp.array([[3.0, -1.0]]), constant)
    assert_allclose(jnp.exp(update.log_policy), [[16 / 19, 3 / 19]], rtol=1e-14)
    assert_allclose(update.gain, [constant * math.log(19 / 8)], rtol=1e-14)
    interval = jax.jit(analytical.ratio_interval)
    low, high = interval(log_policy, jnp.array([[3.0, -1.0]]), constant)
    assert_allclose([low[0], high[0]], [0.5 / (19 / 8), 8 / (19 / 8)], rtol=1e-14)


def test_no_temperature_is_policy_iteration_that_shares_ties_and_keeps_the_support():
    log_policy = log_of(jnp.array([[0.1, 0.3, 0.6], [0.5, 0.5, 0.0]]))
    advantage = jnp.array([[1.0, 1.0, -2 / 3], [0.5, -0.5, 9.0]])
    want = [[0.25, 0.75, 0.0], [1.0, 0.0, 0.0]]
    update = analytical_update(log_policy, advantage, 0.0)
    assert_allclose(jnp.exp(update.log_policy), want, rtol=1e-14)
    assert_allclose(update.gain, [1.0, 0.5])
    nearly = update_of(log_policy, advantage, 1e-4)
    assert_allclose(jnp.exp(nearly.log_policy), want, atol=1e-14)
    assert_allclose(nearly.gain, [1 + 1e-4 * math.log(0.4), 0.5 + 1e-4 * math.log(0.5)])
    jitted = update_of(log_policy, advantage, 0.0)
    assert_allclose(jnp.exp(jitted.log_policy), want, rtol=1e-14)


def test_probabilities_too_small_for_a_float_come_back():
    # After the first update action 1 has log-probability -2000, its probability is 0 as a float.
    start = jnp.log(jnp.array([[0.5, 0.5]]))
    away = update_of(start, jnp.array([[1.0, -1.0]]), 1e-3).log_policy
    assert_allclose(away, [[0.0, -2000.0]], atol=1e-12)
    back = update_of(away, jnp.array([[0.0, 4.0]]), 1e-3).log_policy
    assert_allclose(jnp.exp(back), [[0.0, 1.0]], atol=1e-300)


def test_the_weighted_softmax_of_q_is_the_same_rule():
    q = np.random.default_rng(0).normal(size=(7, 4))
    policy = random_policies(1, 1, 7, 4)[0]
    advantage = q - np.sum(policy * q, axis=1, keepdims=True)
    for constant in (0.05, 1.0, 40.0):
        by_q = weighted_softmax(np.log(policy), q, constant)
        by_advantage = update_of(np.log(policy), advantage, constant).log_policy
        assert_allclose(by_q, by_advantage, atol=1e-12)
        direct = policy * np.exp(q / constant)
        assert_allclose(np.exp(by_q), direct / direct.sum(1, keepdims=True), rtol=1e-12)


def test_updates_add_up():
    # pi_k is proportional to pi_0 exp(sum_j A_j / C_j), whatever the C_j.
    mdp, log_policy = mdp_g(0.9), jnp.log(POLICY_G)
    temperatures = jnp.array([0.7, 2.0, 0.3])  # the last one from then on
    total, now = log_policy, log_policy
    for constant in (0.7, 2.0, 0.3, 0.3, 0.3, 0.3):
        advantage = evaluate(mdp, jnp.exp(now)).advantage
        total = total + advantage / constant
        now = update_of(now, advantage, constant).log_policy
    assert_allclose(now, jax.nn.log_softmax(total), atol=1e-13)
    assert_allclose(run(mdp, log_policy, temperatures)[0], now, atol=1e-12)


def test_kl_divergence_keeps_its_digits():
    p, q = np.array([[0.2, 0.3, 0.5]]), np.array([[0.25, 0.25, 0.5]])
    plain = 0.2 * math.log(0.8) + 0.3 * math.log(1.2)
    assert_allclose(kl_of(np.log(p), np.log(q)), [plain], rtol=1e-14)
    # p = (1/2 + h, 1/2 - h) from the uniform: [(1+y) log(1+y) + (1-y) log(1-y)] / 2 with y = 2h
    # is y^2/2 + y^4/12 + y^6/30 + ...
    for h in (1e-3, 1e-7):
        exact = h**2 * 2 + 4 * h**4 / 3 + 32 * h**6 / 15
        half = np.log(np.full((1, 2), 0.5))
        got = kl_of(np.log1p(np.array([[2 * h, -2 * h]])) + half, half)
        assert_allclose(got, [exact], rtol=1e-9)
    zero = log_of(jnp.array([[1.0, 0.0]]))
    half = np.log(np.full((1, 2), 0.5))
    assert_allclose(kl_of(zero, half), [math.log(2)])
    assert_allclose(kl_of(zero, zero), [0.0])
    assert kl_of(half, zero)[0] == np.inf


# --- every C, thousands of MDPs -------------------------------------------------------------------


@pytest.mark.theorem
@pytest.mark.parametrize(("states", "actions", "sparse"), SHAPES)
def test_the_identity_holds_and_no_state_loses_for_any_constant(states, actions, sparse):
    batch, log_policies = many(states, actions, sparse)
    paper = improvement_bounds.paper_constant(batch.gamma, 1.0)
    lowest, highest = math.log(1e-6), np.maximum(np.log(paper), 0.0)
    draw = np.random.default_rng(3).uniform(size=NUM)
    scale = np.exp(lowest + draw * (highest - lowest))
    step, gain_error, size = stepped(batch, log_policies, scale)
    rounding = 1e-12 * (1 + size) / (1 - batch.gamma)
    assert np.all(np.abs(step.change - step.identity) < rounding)
    assert np.all(gain_error < 1e-9)  # log Z = KL(pi || pi_new)
    assert np.all(step.value_change > -rounding)
    assert np.median(step.change) > 1e-3  # and it is no identity of zeros
    # The ratios lie in the interval guaranteed for c = C / eps.
    low, high = analytical.guaranteed_ratio_interval(scale)
    assert np.all(step.ratio_max <= high * (1 + 1e-9))
    assert np.all(step.ratio_min >= low * (1 - 1e-9))


@pytest.mark.theorem
@pytest.mark.parametrize(("states", "actions", "sparse"), SHAPES)
def test_the_certificate_holds_from_its_constant_on_and_not_far_below(states, actions, sparse):
    batch, log_policies = many(states, actions, sparse)
    proved = improvement_bounds.expected_kl_constant(batch.gamma, 1.0)
    more = random_sizes(4, NUM, -4.0, 4.0).clip(1.0)  # for half of them the constant itself
    step, _, size = stepped(batch, log_policies, proved * more)
    assert np.all(step.slack > -1e-12 * (1 + size))
    assert np.all(step.certificate >= step.objective)
    # For small steps the certificate promises half of the change.
    share = (step.certificate - step.objective) / step.change
    assert abs(np.median(share) - 0.5) < 0.01
    step, _, size = stepped(batch, log_policies, np.full(NUM, 0.01))
    assert np.mean(step.slack < -1e-6) > 0.03
    assert np.all(step.change > -1e-11 * (1 + size))  # the promise breaks, the policy improves


def test_the_clip_range_of_ppo_is_a_constant_from_five_and_a_half_on():
    # exp(1/c) = 1.2 at c = 1 / log 1.2 = 5.4848; below, exp(-.18232 - .01662) = .8196 >= .8.
    low, high = analytical.guaranteed_ratio_interval(1 / math.log(1.2))
    assert_allclose([low, high], [math.exp(-math.log(1.2) - math.log(1.2) ** 2 / 2), 1.2])
    assert low > 0.8
    assert analytical.guaranteed_ratio_interval(5.48)[1] > 1.2
    # The paper's constant: c = 2 at gamma .5, 810 at .9, 980,100 at .99.
    for c, want in ((2, (0.535, 1.649)), (810, (0.998765, 1.001235))):
        assert_allclose(
            analytical.guaranteed_ratio_interval(c), want, atol=5e-4 if c == 2 else 1e-6
        )
    low, high = analytical.guaranteed_ratio_interval(0.99**2 / 0.01**3)
    assert_allclose([1 - low, high - 1], 1.02e-6, rtol=1e-2)


# --- choosing C, and iterating --------------------------------------------------------------------


def test_a_kl_target_is_met_or_as_nearly_as_can_be():
    batch, log_policies = many(5, 3, True)
    batch, log_policies = jax.tree.map(lambda x: x[:200], (batch, log_policies))

    def moved(mdp, log_policy, target):
        solution = solve.evaluate(mdp, jnp.exp(log_policy))
        choose = constants.kl_target(target)
        constant = choose(constants.Iterate(solution, log_policy, mdp.gamma, jnp.asarray(0)))
        new = analytical_update(log_policy, solution.advantage, constant).log_policy
        return jnp.vdot(solution.visitation, kl_divergence(new, log_policy)), constant

    move = jax.jit(jax.vmap(moved, (0, 0, None)))
    kl, constant = move(batch, log_policies, 0.01)
    greedy_kl, _ = move(batch, log_policies, 1e9)  # out of reach: the policy becomes greedy
    reachable = greedy_kl > 0.01
    assert_allclose(kl[reachable], 0.01, rtol=1e-9)
    assert_allclose(kl[~reachable], greedy_kl[~reachable], atol=1e-8)
    assert jnp.mean(reachable) > 0.9
    assert jnp.all(constant > 0)


def test_improving_equals_a_plain_loop():
    mdp, policy = mdp_g(0.9), POLICY_G.copy()
    temperatures = 0.5 * 0.9 ** jnp.arange(6)
    log_policy, steps = run(mdp, jnp.log(POLICY_G), temperatures)
    for k in range(6):
        solution = evaluate(mdp, jnp.asarray(policy))
        advantage, visited = np.asarray(solution.advantage), np.asarray(solution.visitation)
        constant = 0.5 * 0.9**k
        weights = policy * np.exp(advantage / constant)
        partition = weights.sum(1)
        new = weights / partition[:, None]
        log_ratio = np.log(new / policy)
        after = evaluate(mdp, jnp.asarray(new))
        both = (new * log_ratio - policy * log_ratio).sum(1)
        certificate = solution.objective + constant / 0.1 * visited @ np.log(partition)
        twin = {
            "objective": solution.objective,
            "constant": constant,
            "eps": np.abs(advantage).max(),
            "change": after.objective - solution.objective,
            "identity": constant / 0.1 * after.visitation @ both,
            "certificate": certificate,
            "slack": after.objective - certificate,
            "value_change": (after.value - solution.value).min(),
            "kl": visited @ (new * log_ratio).sum(1),
            "kl_max": (new * log_ratio).sum(1).max(),
            "kl_reverse": -visited @ (policy * log_ratio).sum(1),
            "ratio_min": (new / policy).min(),
            "ratio_max": (new / policy).max(),
        }
        assert set(twin) == set(steps._fields)
        for name, want in twin.items():
            assert_allclose(getattr(steps, name)[k], want, rtol=1e-9, atol=1e-12, err_msg=name)
        policy = new
    assert_allclose(jnp.exp(log_policy), policy, rtol=1e-9)


def test_steps_of_the_proved_constant_keep_their_promise_one_after_another():
    batch = random_mdps(12, 200, 5, 3, sparse=0.5)
    log_policies = np.log(random_policies(13, 200, 5, 3))

    def improve(mdp, log_policy):
        return improvement.improve(mdp, log_policy, constants.expected_kl, 8)[1]

    steps = jax.tree.map(np.asarray, jax.jit(jax.vmap(improve))(batch, log_policies))
    assert steps.change.shape == (200, 8)
    assert np.all(steps.change > -1e-11)  # J never falls
    assert np.all(steps.slack > -1e-11)  # and rises by what was promised before
    assert np.all(steps.certificate >= steps.objective)
    assert np.median(steps.change) > 1e-4


def test_no_temperature_is_accounted_for_by_the_limit_of_the_identity():
    _, steps = run(mdp_g(0.9), jnp.log(POLICY_G), jnp.zeros(6))
    assert_allclose(steps.change, steps.identity, atol=1e-13)
    assert_allclose(steps.objective[-1], OPTIMAL_OBJECTIVE_G, atol=1e-11)
    assert steps.slack[0] > 0


def test_iterations_to_the_optimum_grow_in_proportion_to_the_constant():
    batch = random_mdps(9, 20, 8, 4, 0.9)

    def iterations(mdp, scale, limit):
        choose = constants.scaled(scale)
        return improvement.iterations_to_optimum(mdp, choose, max_iterations=limit)

    count = jax.jit(jax.vmap(iterations, (0, None, None)))
    medians = [float(jnp.median(count(batch, c, 10**6))) for c in (0.1, 1.0, 10.0)]
    assert medians[0] <= 5
    assert 20 <= medians[1] <= 40  # about 29 C / eps
    assert 9 <= medians[2] / medians[1] <= 11
    assert jnp.all(count(batch, 1.0, 3) == 3)
    # Counted by a plain loop on one of them.
    mdp = jax.tree.map(lambda x: np.asarray(x[0]), batch)
    policy, objectives = np.full((8, 4), 0.25), []
    for _ in range(200):
        transition = np.einsum("sa,sak->sk", policy, mdp.transition)
        value = np.linalg.solve(np.eye(8) - 0.9 * transition, (policy * mdp.reward).sum(1))
        objectives.append(mdp.start @ value)
        advantage = mdp.reward + 0.9 * mdp.transition @ value - value[:, None]
        policy = policy * np.exp(advantage / np.abs(advantage).max())
        policy /= policy.sum(1, keepdims=True)
    gained = (np.array(objectives) - objectives[0]) / (objectives[-1] - objectives[0])
    assert count(batch, 1.0, 10**6)[0] == np.argmax(gained >= 0.99)


@pytest.mark.parametrize("kind", ["constant rewards", "actions that do not matter"])
def test_where_nothing_is_to_gain_no_update_is_counted(kind):
    """Two solves of one value differ by up to 1.3 max|V| eps / (1 - gamma) on such problems."""
    for dtype in (np.float64, np.float32):
        batch = random_mdps(3, 40, 5, 3, np.repeat([0.5, 0.9, 0.99, 0.9999], 10))
        if kind == "constant rewards":
            batch = batch._replace(reward=np.broadcast_to(batch.reward[:, :1, :1], (40, 5, 3)))
        else:
            batch = batch._replace(
                reward=np.repeat(batch.reward[:, :, :1], 3, axis=2),
                transition=np.repeat(batch.transition[:, :, :1], 3, axis=2),
            )
        batch = jax.tree.map(lambda x, dtype=dtype: jnp.asarray(x, dtype), batch)
        assert np.all(COUNT(batch) == 0)


def test_a_gain_above_rounding_is_counted():
    # One action is better by 1e-6 in one of five states, where every step pays 1.
    batch = random_mdps(4, 40, 5, 3, 0.99)
    small = np.zeros((40, 5, 3))
    small[:, 0, 0] = 1e-6
    same = np.repeat(batch.transition[:, :, :1], 3, axis=2)
    counts = COUNT(batch._replace(reward=1.0 + small, transition=same))
    assert np.all((counts > 0) & (counts < 50))


def test_float32_works():
    def improve(mdp, log_policy):
        return improvement.improve(mdp, log_policy, constants.kl_target(0.01), 3)

    with jax.enable_x64(False):
        log_policy, steps = jax.jit(improve)(mdp_g(0.9), jnp.log(jnp.asarray(POLICY_G)))
    assert log_policy.dtype == steps.kl.dtype == jnp.float32
    assert_allclose(steps.kl, 0.01, rtol=1e-3)
    assert_allclose(steps.change, steps.identity, rtol=1e-3)
