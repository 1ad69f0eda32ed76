"""SARSA, Q-learning and their kin: a replaying twin, exact and sampled limits, the cliff."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import random_mdps
from numpy.testing import assert_allclose
from scipy.special import logsumexp, softmax
from test_td import REPLAYED, replay, short_episodes

from jaxrl_pg.theory import mdp as mdps
from jaxrl_pg.theory import solve
from jaxrl_pg.theory.builders import cliff_walk
from jaxrl_pg.theory.learning import td_control
from jaxrl_pg.theory.learning.td import Settings

BACKUPS = {
    "sarsa": td_control.sarsa,
    "expected_sarsa": td_control.expected_sarsa,
    "q_learning": td_control.q_learning,
    "soft_q_learning": td_control.soft_q_learning,
}
RECORDS, STEPS, NOISY = 24, 500, 16
EPSILON, TEMPERATURE = 0.4, 0.3
# One row each: two that are replayed, one that is exact, and the noisy seeds.
TWINS = (
    Settings(0.3, 0.0, 0.3, 0.5, 0.0, max_steps=5),
    Settings(0.5, 0.2, 0.1, 0.0, 0.6, max_steps=50),
)
EXACT = Settings(1.0, 0.0, 1.0, 0.0, TEMPERATURE, max_steps=20)
SAMPLED = Settings(1.0, 0.75, EPSILON, 0.0, 0.0, max_steps=30)
GLIE = SAMPLED._replace(epsilon=1.0, decay=0.3)


def clockwork():
    """Return a deterministic MDP of four states, where learning with full steps is iteration."""
    successor = np.array([[1, 2], [3, 0], [2, 1], [0, 2]])
    reward = [[0.2, -0.5], [1.0, 0.1], [-0.3, 0.4], [0.0, 0.7]]
    return mdps.make(np.eye(4)[successor], reward, [0.25] * 4, 0.6)


def stack(*trees):
    return jax.tree.map(lambda *x: jnp.stack([jnp.asarray(leaf, float) for leaf in x]), *trees)


def chosen(which, q, action, policy, temperature):
    """Return the backup of that number; all of them are lanes of one program, compiled once."""
    return jnp.stack([f(q, action, policy, temperature) for f in BACKUPS.values()])[which]


@lru_cache
def all_learned():
    lanes = [(short_episodes(), settings) for settings in TWINS] + [(clockwork(), EXACT)]
    lanes += [(short_episodes(), SAMPLED)] * NOISY + [(short_episodes(), GLIE)] * NOISY
    batch, settings = stack(*(x for x, _ in lanes)), stack(*(x for _, x in lanes))
    settings = settings._replace(max_steps=settings.max_steps.astype(jnp.int32))

    def run(which, mdp, settings, key):
        backup = partial(chosen, which)
        return td_control.control(mdp, backup, settings, key, RECORDS, STEPS)

    each = jax.vmap(jax.vmap(run, (None, 0, 0, 0)), (0, None, 0, None))
    hot = settings.temperature.at[3 : 3 + NOISY].set(TEMPERATURE)  # for the soft one
    temperatures = jnp.stack([settings.temperature] * 3 + [hot])
    settings = jax.tree.map(lambda x: jnp.tile(x[None], (len(BACKUPS), 1)), settings)
    settings = settings._replace(temperature=temperatures)
    keys = jax.random.split(jax.random.key(1), len(lanes))
    course = jax.jit(each)(jnp.arange(len(BACKUPS)), batch, settings, keys)
    return jax.tree.map(np.asarray, course)


def learned(name):
    """Return the lanes of a backup: two to replay, one exact, the noisy ones, those of GLIE."""
    return jax.tree.map(lambda x: x[list(BACKUPS).index(name)], all_learned())


def behaviour_twin(q, epsilon, temperature):
    best = (q == q.max()) / (q == q.max()).sum()
    base = softmax(q / temperature) if temperature > 0 else best
    return (1 - epsilon) * base + epsilon / len(q)


def iterate(mdp, backup):
    """Iterate `Q = r + gamma P backup(Q)`; a terminal state has the value 0."""
    mdp = jax.tree.map(np.asarray, mdp)
    goes_on = ~np.all((np.einsum("sas->sa", mdp.transition) == 1) & (mdp.reward == 0), axis=1)
    q = np.zeros(mdp.reward.shape)
    for _ in range(200):
        value = goes_on * np.array([backup(x) for x in q])
        q = goes_on[:, None] * (mdp.reward + mdp.gamma * mdp.transition @ value)
    return q


LIMITS = {  # what each backup's Q is a fixed point of, for a behaviour's epsilon
    "sarsa": lambda q, eps: (1 - eps) * q.max() + eps * q.mean(),
    "expected_sarsa": lambda q, eps: (1 - eps) * q.max() + eps * q.mean(),
    "q_learning": lambda q, eps: q.max(),
    "soft_q_learning": lambda q, eps: TEMPERATURE * logsumexp(q / TEMPERATURE),
}


# --- twins and operators --------------------------------------------------------------------------


@pytest.mark.parametrize("name", BACKUPS)
@pytest.mark.parametrize("lane", [0, 1])
def test_every_step_equals_the_plain_loop(name, lane):
    course, settings = learned(name), TWINS[lane]
    q, visits = np.zeros((4, 2)), np.zeros((4, 2))

    def policy(s):
        epsilon = settings.epsilon * (1 + visits[s].sum()) ** -settings.decay
        return behaviour_twin(q[s], epsilon, settings.temperature)

    def learn(s, a, r, next_state, b, discount):
        row, tau = q[next_state], settings.temperature
        soft = tau * logsumexp(row / tau) if tau > 0 else row.max()
        value = {
            "sarsa": row[b],
            "expected_sarsa": policy(next_state) @ row,
            "q_learning": row.max(),
            "soft_q_learning": soft,
        }[name]
        error = r + discount * value - q[s, a]
        visits[s, a] += 1
        q[s, a] += settings.learning_rate * visits[s, a] ** -settings.power * error
        return error

    key = jax.random.split(jax.random.key(1), 3 + 2 * NOISY)[lane]
    errors, finished = replay(
        short_episodes(), policy, learn, settings.max_steps, key, (RECORDS, STEPS)
    )
    assert_allclose(course.error[lane, :REPLAYED].ravel(), errors, atol=1e-10)
    assert_allclose(course.tables.estimate[lane, REPLAYED - 1], q, atol=1e-10)
    assert course.episodes[lane, :REPLAYED].sum() == len(finished)


@pytest.mark.theorem
def test_backups_average_to_bellman_operators_on_ten_thousand_mdps():
    num, states, actions = 10_000, 3, 2
    rng = np.random.default_rng(2)
    batch = random_mdps(2, num, states, actions)
    first, second = rng.normal(size=(2, num, states, actions))
    temperature = np.exp(rng.normal(size=num))

    def operate(backup, mdp, q, temperature):
        def at(row):
            policy = td_control.behaviour(row, 0.3, 0.0)
            each = jax.vmap(lambda a: backup(row, a, policy, temperature))(jnp.arange(actions))
            return policy @ each

        return mdp.reward + mdp.gamma * mdp.transition @ jax.vmap(at)(q)

    @jax.jit
    def everything(batch, temperature, *tables):
        return {
            name: [jax.vmap(partial(operate, backup))(batch, q, temperature) for q in tables]
            for name, backup in BACKUPS.items()
        }

    result = jax.tree.map(np.asarray, everything(batch, temperature, first, second))
    gamma, q, tau = np.asarray(batch.gamma), first, temperature[:, None]
    expected = {
        "sarsa": 0.7 * q.max(2) + 0.3 * q.mean(2),
        "expected_sarsa": 0.7 * q.max(2) + 0.3 * q.mean(2),
        "q_learning": q.max(2),
        "soft_q_learning": tau * logsumexp(q / tau[..., None], axis=2),
    }
    for name, value in expected.items():
        looked_ahead = np.einsum("nsak,nk->nsa", batch.transition, value)
        want = np.asarray(batch.reward) + gamma[:, None, None] * looked_ahead
        assert_allclose(result[name][0], want, atol=1e-12)
        if name in ("q_learning", "soft_q_learning"):  # contractions by gamma
            apart = np.abs(result[name][0] - result[name][1]).max(axis=(1, 2))
            assert np.all(apart <= gamma * np.max(np.abs(first - second), axis=(1, 2)) + 1e-12)
    assert np.all(result["q_learning"][0] >= result["expected_sarsa"][0] - 1e-12)
    more = result["soft_q_learning"][0] - result["q_learning"][0]
    bound = gamma * temperature * np.log(actions)
    assert np.all(more > -1e-12)
    assert np.mean(more > 1e-3) > 0.9
    assert np.all(more <= bound[:, None, None] + 1e-12)


def test_behaviour_by_hand():
    q = jnp.array([1.0, 3.0, 3.0, 0.0])
    assert_allclose(td_control.behaviour(q, 0.2, 0.0), [0.05, 0.45, 0.45, 0.05])
    assert_allclose(td_control.behaviour(q, 1.0, 0.5), 0.25)
    # Two actions a temperature's log 3 apart: 1/4 and 3/4.
    q = jnp.array([0.0, 2.0 * np.log(3.0)])
    assert_allclose(td_control.behaviour(q, 0.0, 2.0), [0.25, 0.75])
    assert_allclose(td_control.soft_q_learning(q, 0, q, 2.0), 2.0 * np.log(4.0))
    assert_allclose(td_control.soft_q_learning(q, 0, q, 0.0), 2.0 * np.log(3.0))


# --- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["expected_sarsa", "q_learning", "soft_q_learning"])
def test_full_steps_on_clockwork_solve_it_exactly(name):
    # Nothing is random but which entry is next, so the limit is reached to rounding.
    result = learned(name).tables.estimate[2, -1]
    assert_allclose(result, iterate(clockwork(), partial(LIMITS[name], eps=1.0)), atol=1e-12)
    mdp = clockwork()
    if name == "q_learning":
        value = solve.policy_iteration(mdp).value
        assert_allclose(result, solve.q_values(mdp, value), atol=1e-12)
    if name == "expected_sarsa":  # epsilon is 1: the uniform policy
        assert_allclose(result, solve.evaluate(mdp, mdps.uniform_policy(mdp)).q, atol=1e-12)


@pytest.mark.parametrize("name", BACKUPS)
def test_small_steps_converge(name):
    # Steps n^-.75, 12,000 of them, 16 seeds. Their mean is within 6 standard errors (24 entries,
    # 15 degrees of freedom: false alarm 6e-4) and a bias of .01; a single seed was within .12.
    result = learned(name).tables.estimate[3 : 3 + NOISY, -1]
    truth = iterate(short_episodes(), partial(LIMITS[name], eps=EPSILON))
    error = result.std(axis=0) / NOISY**0.5
    assert np.all(np.abs(result.mean(axis=0) - truth) <= 6 * error + 0.01)
    assert np.max(np.abs(result - truth[None])) < 0.25
    if name == "q_learning":
        value = solve.policy_iteration(short_episodes()).value
        assert_allclose(truth, solve.q_values(short_episodes(), value), atol=1e-12)


def test_sarsa_that_stops_exploring_finds_the_optimum():
    result = learned("sarsa").tables.estimate[3 + NOISY :, -1]
    best = iterate(short_episodes(), lambda q: q.max())
    soft = iterate(short_episodes(), partial(LIMITS["sarsa"], eps=EPSILON))
    greedy = result.argmax(axis=2)[:, :3] == best.argmax(axis=1)[None, :3]
    assert greedy.mean() > 0.95
    assert np.abs(result.mean(axis=0) - best).max() < 0.3 * np.abs(soft - best).max()


def test_the_online_actor_critic_reaches_the_optimum():
    mdp = short_episodes()
    settings = Settings(learning_rate=0.1, actor_rate=0.05, max_steps=100)
    run = partial(td_control.actor_critic, mdp, settings, records=24, steps=500)
    keys = jax.random.split(jax.random.key(3), 16)
    course = jax.jit(jax.vmap(run))(keys)
    best = mdp.start @ solve.policy_iteration(mdp).value
    reached = jax.vmap(lambda x: solve.objective(mdp, jax.nn.softmax(x)))(
        course.tables.logits[:, -1]
    )
    uniform = solve.objective(mdp, mdps.uniform_policy(mdp))
    assert jnp.all(reached <= best + 1e-12)
    assert jnp.min((reached - uniform) / (best - uniform)) > 0.97
    assert_allclose(course.tables.logits.sum(axis=3), 0.0, atol=1e-10)
    value, logits = np.zeros(4), np.zeros((4, 2))

    def learn(s, a, r, next_state, _, discount):
        error = r + discount * value[next_state] - value[s]
        value[s] += 0.1 * error
        logits[s] += 0.05 * error * (np.eye(2)[a] - softmax(logits[s]))
        return error

    errors, _ = replay(mdp, lambda s: softmax(logits[s]), learn, 100, keys[0], (24, 500))
    assert_allclose(course.error[0, :REPLAYED].ravel(), errors, atol=1e-12)
    assert_allclose(course.tables.logits[0, REPLAYED - 1], logits, atol=1e-12)


# --- the cliff ------------------------------------------------------------------------------------


@lru_cache
def successors():
    return np.asarray(jax.jit(cliff_walk)().transition).argmax(axis=2)


def greedy_path(q, max_steps=60):
    states = [36]
    while states[-1] != 47 and len(states) < max_steps:
        states.append(int(successors()[states[-1], q[states[-1]].argmax()]))
    return states


def walk():
    """Run eight seeds of each backup; return them by name."""
    settings = Settings(0.5, 0.0, 0.1, max_steps=5_000)

    def run(which, key):
        backup = partial(chosen, which)
        return td_control.control(cliff_walk(0.99), backup, settings, key, 6, 2_000)

    each = jax.jit(jax.vmap(jax.vmap(run, (None, 0)), (0, None)))
    course = each(jnp.arange(len(BACKUPS)), jax.random.split(jax.random.key(4), 8))
    return {name: jax.tree.map(lambda x, i=i: x[i], course) for i, name in enumerate(BACKUPS)}


def test_on_the_cliff_q_learning_walks_the_edge_and_sarsa_the_safe_path():
    walked = {name: jax.tree.map(np.asarray, course) for name, course in walk().items()}
    edge = [36, *range(24, 36), 47]
    for q in walked["q_learning"].tables.estimate[:, -1]:
        assert greedy_path(q) == edge
    for q in walked["expected_sarsa"].tables.estimate[:, -1]:
        path = greedy_path(q)
        assert path[-1] == 47
        assert len(set(path) & set(edge[2:-2])) <= 2
    close = [
        len(set(greedy_path(q)) & set(edge[2:-2])) for q in walked["sarsa"].tables.estimate[:, -1]
    ]
    assert np.median(close) <= 2
    # While exploring, the safe path pays: returns of the last half, all eight seeds.
    paid = {
        name: walked[name].return_mean[:, 5:].mean(axis=1) for name in BACKUPS if "soft" not in name
    }
    assert paid["sarsa"].min() > paid["q_learning"].max()
    assert paid["expected_sarsa"].mean() > paid["sarsa"].mean()
