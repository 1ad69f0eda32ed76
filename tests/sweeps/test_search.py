"""Search: who survives and who is copied, and that nothing else of a member changes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_pg import ppo
from jaxrl_pg.sweeps import search
from jaxrl_pg.training import population
from jaxrl_pg.training.population import Population
from jaxrl_pg.types import TrainState

STEPS, ITERATIONS, EPISODES = 64, 60, 4  # environment steps of an iteration, iterations of a run
CONFIG = ppo.Config(
    env_params={"gravity": 9.8},
    num_envs=8,
    num_steps=8,
    num_epochs=4,
    num_minibatches=2,
    hidden_sizes=(8,),
    total_timesteps=ITERATIONS * STEPS,
)
BOUNDS = {"learning_rate": (1e-6, 0.011), "ent_coef": (0.005, 0.02)}
# Two of ten agents can learn.
RATES = [1e-6] * 3 + [1e-2] + [1e-6] * 4 + [1e-2] + [1e-6]


def planted():
    """Return ten configs, stacked too, and keys; `gamma`, which no search changes, differs."""
    members = [
        CONFIG.replace(learning_rate=rate, gamma=0.95 + 0.004 * i) for i, rate in enumerate(RATES)
    ]
    return members, population.stack(members), jax.random.split(jax.random.key(7), 10)


def evolve(configs, keys, key, ready_timesteps=6 * STEPS, mutate=BOUNDS):
    return search.population_based_training(
        configs, keys, ready_timesteps, mutate, key, EPISODES, "map"
    )


_evolve = jax.jit(evolve)


@functools.cache  # and no fixture, whose program would be compiled outside the strictness of tests
def evolved():
    """Run one search; its population is left on the device."""
    _, configs, keys = planted()
    found = _evolve(configs, keys, jax.random.key(1))
    return jax.device_get(found._replace(population=None)), found.population


def uninterrupted(configs, keys):
    """Train members to the end without a search; return them and their returns."""
    agents = search._init(configs, keys, "map")
    rest = jnp.int32(ITERATIONS), jnp.asarray(True), EPISODES, "map"
    agents, metrics = search._advance(configs, agents, *rest)
    return agents, np.asarray(metrics["eval/return_mean"])


@functools.cache
def unsearched():
    """Train the planted members to the end without a search."""
    return uninterrupted(*planted()[1:])


def numbers(tree):
    """Yield the leaves as numbers, those of random keys too."""
    for leaf in jax.tree.leaves(tree):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        yield np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def assert_same(left, right, i=..., j=...):
    """Compare leaf by leaf member `i` of one population with member `j` of the other."""
    for a, b in zip(numbers(left), numbers(right), strict=True):
        np.testing.assert_array_equal(a[i], b[j])


# --- successive halving ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num", "timesteps", "eta", "expected"),
    [
        # 100 steps are 2 iterations of 64: 9 x 2, 3 x 6, and the last one to the end.
        (9, 100, 3, [(9, 2), (3, 6), (1, 60)]),
        # 36 iterations are left of 60 after 24: 16 x 24, then 16 / 4 = 4 x min(96, 60).
        (16, 24 * 64, 4, [(16, 24), (4, 60)]),
        # floor(11 / 2) = 5, floor(5 / 2) = 2, 1.
        (11, 1, 2, [(11, 1), (5, 2), (2, 4), (1, 60)]),
        # floor(2 / 3) = 0, but one goes on.
        (2, 64, 3, [(2, 1), (1, 60)]),
        (1, 64, 3, [(1, 60)]),
    ],
)
def test_a_rung_has_an_eta_th_of_the_configs_and_eta_times_the_iterations(
    num, timesteps, eta, expected
):
    assert search.schedule(CONFIG, num, timesteps, eta) == expected


def test_the_first_of_equals_is_promoted_and_the_diverged_last():
    scores = [1.0, -np.inf, 5.0, 1.0, 9.0]
    assert search.promote(scores, 2) == [2, 4]
    assert search.promote(scores, 3) == [0, 2, 4]
    assert search.promote(scores, 4) == [0, 2, 3, 4]
    assert search.promote([-np.inf, -np.inf], 1) == [0]


# By member, in the order config, seed. Means 2, 15, 15; a member of the fourth config diverged.
FAKE_RETURNS = [
    dict(enumerate([1.0, 3.0, 10.0, 20.0, 30.0, 0.0, 99.0, 99.0])),
    {2: 5.0, 3: 5.0, 4: 2.0, 5: 9.0},  # means 5 and 5.5: the third config is the best
    {4: -1.0, 5: 2.0},
]


def test_halving_by_hand(monkeypatch):
    calls = []

    def fake_init(configs, keys, layout):
        assert layout == "vmap"
        return Population(jnp.arange(len(keys)), jnp.ones(len(keys), bool))

    def fake_advance(configs, agents, num_iterations, evaluate, num_eval_episodes, layout):
        assert evaluate
        ids = agents.states.tolist()
        calls.append((int(num_iterations), ids, configs.gamma.tolist(), num_eval_episodes, layout))
        returns = jnp.asarray([FAKE_RETURNS[len(calls) - 1][i] for i in ids])
        finite = jnp.asarray([i != 7 for i in ids])
        return Population(agents.states, finite), {"eval/return_mean": returns}

    monkeypatch.setattr(search, "_init", fake_init)
    monkeypatch.setattr(search, "_advance", fake_advance)
    configs = [CONFIG.replace(gamma=gamma) for gamma in (0.0, 0.25, 0.5, 0.75)]
    found = search.successive_halving(configs, (0, 1), 64, 2, 3, "vmap")
    # 4 configs x 1 iteration, 2 x 2, 1 x 60: each goes on from where it was, 1 + 1 + 58.
    assert calls == [
        (1, list(range(8)), [0.0, 0.0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75], 3, "vmap"),
        (1, [2, 3, 4, 5], [0.25, 0.25, 0.5, 0.5], 3, "vmap"),
        (58, [4, 5], [0.5, 0.5], 3, "vmap"),
    ]
    assert found.rungs == (
        search.Rung(64, (0, 1, 2, 3), (2.0, 15.0, 15.0, -np.inf)),
        search.Rung(128, (1, 2), (5.0, 5.5)),
        search.Rung(3840, (2,), (0.5,)),
    )
    assert found.best is configs[2]
    assert found.population.states.tolist() == [4, 5]


def test_survivors_are_uninterrupted_runs_bit_for_bit():
    configs = [CONFIG.replace(learning_rate=rate) for rate in (1e-6, 1e-5, 1e-4, 1e-2, 1e-3)]
    found = search.successive_halving(configs, (3, 5), 12 * STEPS, 5, EPISODES, "map")
    assert [rung.timesteps for rung in found.rungs] == [12 * STEPS, 60 * STEPS]
    (survivor,) = found.rungs[-1].configs
    assert found.best is configs[survivor]
    assert survivor > 0  # so that it had to be moved
    # These ten are never stopped; the sweep's tests show that they equal those of `train`.
    keys = jnp.stack([jax.random.key(seed) for _ in configs for seed in (3, 5)])
    stacked = population.stack([config for config in configs for _ in (3, 5)])
    agents, returns = uninterrupted(stacked, keys)
    for i in (0, 1):
        assert_same(found.population.states, agents.states, i, 2 * survivor + i)
    assert found.rungs[-1].scores == (np.mean(returns[2 * survivor : 2 * survivor + 2]),)
    assert max(found.rungs[0].scores) == found.rungs[0].scores[survivor]


# --- population-based training --------------------------------------------------------------------


_select = jax.jit(jax.vmap(search.select_parents, (None, 0)))


def parents_of(scores):
    """Return the parents of 64 draws."""
    return np.asarray(_select(jnp.asarray(scores), jax.random.split(jax.random.key(0), 64)))


def test_the_worst_fifth_gets_parents_of_the_best_fifth():
    scores = [5.0, 1.0, 9.0, 4.0, 3.0, 2.0, 8.0, 7.0, 6.0, 2.5]  # best 2 and 6, worst 1 and 5
    parents = parents_of(scores)
    others = [0, 2, 3, 4, 6, 7, 8, 9]
    np.testing.assert_array_equal(parents[:, others], np.tile(others, (64, 1)))
    for worst in (1, 5):  # both parents are drawn: all 64 alike has probability 2^-63
        assert set(parents[:, worst]) == {2, 6}
    assert any(parents[:, 1] != parents[:, 5])


def test_a_fifth_is_at_least_one_and_ties_go_by_order():
    np.testing.assert_array_equal(parents_of([1.0, 1.0, 1.0]), [[0, 1, 0]] * 64)
    # 14 / 5 is 2.8: two are replaced.
    assert (parents_of(np.arange(14.0)) != np.arange(14)).sum() == 2 * 64


def test_the_diverged_are_the_worst_and_no_parents():
    scores = np.full(10, -np.inf)
    scores[4] = -500.0
    expected = np.arange(10)
    expected[-2:] = 4
    np.testing.assert_array_equal(parents_of(scores), [expected] * 64)


def test_copies_have_their_parents_learner_and_their_own_environments():
    _, configs, keys = planted()
    gravity = jnp.arange(10.0) + 9.0
    configs = configs.replace(
        env_params={"gravity": gravity}, ent_coef=jnp.linspace(0.005, 0.02, 10)
    )
    agents = search._init(configs, keys, "map")
    agents = Population(agents.states._replace(iteration=jnp.arange(10)), jnp.arange(10) != 9)
    parents = jnp.asarray([0, 1, 3, 3, 4, 5, 6, 7, 8, 0])  # 2 copies 3; 9, diverged, copies 0
    inherit = jax.jit(functools.partial(search.inherit, mutate=BOUNDS, key=jax.random.key(2)))
    new_configs, new = inherit(configs, agents, parents)
    before, after = jax.device_get((configs, new_configs))
    assert bool(jnp.all(new.finite))
    assert_same(new.states.key, agents.states.key)
    assert_same(new.states.iteration, agents.states.iteration)
    for i, parent in enumerate(parents.tolist()):
        assert_same(new.states.learner, agents.states.learner, i, parent)
        assert_same(new.states.actor, agents.states.actor, i, parent if i == 9 else i)
        assert after.gamma[i] == before.gamma[parent]
        for field in BOUNDS:
            was, now = getattr(before, field)[parent], getattr(after, field)[i]
            assert now in (mutants(field, was) if parent != i else [was])
    assert_same(after.env_params, {"gravity": gravity})
    assert not np.array_equal(*next(numbers(new.states.key))[2:4])


def mutants(field, value):
    """Return 0.8 and 1.2 times a value, within the bounds."""
    low, high = np.float32(BOUNDS[field])
    value = np.float32(value)
    return [min(max(value * np.float32(factor), low), high) for factor in (0.8, 1.2)]


def test_both_factors_are_drawn_for_each_field_and_clipped():
    _, configs, _ = planted()
    configs = configs.replace(ent_coef=jnp.full(10, 0.01))
    nothing = Population(TrainState((), (), (), (), ()), jnp.ones(10, bool))
    inherit = functools.partial(search.inherit, configs, nothing, jnp.full(10, 3), BOUNDS)
    changed, _ = jax.jit(jax.vmap(inherit))(jax.random.split(jax.random.key(0), 32))
    copies = np.arange(10) != 3
    # 0.01 x 0.8 and 0.01 x 1.2; 0.01 x 0.8 and 0.01 x 1.2 = 0.012, of which 0.011 is allowed.
    expected = {"ent_coef": (0.008, 0.012), "learning_rate": (0.008, 0.011)}
    up = {}
    for field, (low, high) in expected.items():
        values = np.asarray(getattr(changed, field))[:, copies]
        up[field] = np.isclose(values, high, rtol=1e-6)
        assert np.all(up[field] | np.isclose(values, low, rtol=1e-6))
        # 288 fair coins: 144 up, with standard deviation sqrt(288) / 2 = 8.5.
        assert abs(up[field].sum() - 144) < 5 * 8.5
        np.testing.assert_array_equal(getattr(changed, field)[:, 3], np.float32(0.01))
    agree = (up["ent_coef"] == up["learning_rate"]).sum()
    assert abs(agree - 144) < 5 * 8.5  # the two coins are independent


def test_every_round_does_what_its_scores_say():
    found, _ = evolved()
    num_rounds = 10  # 60 iterations / 6
    assert found.scores.shape == found.parents.shape == (num_rounds, 10)
    copied = 0
    for r in range(num_rounds - 1):
        before, after = (jax.tree.map(lambda x, i=i: x[i], found.configs) for i in (r, r + 1))
        ranked = sorted(range(10), key=lambda i, r=r: (-found.scores[r, i], i))
        for i, parent in enumerate(found.parents[r]):
            assert parent in ranked[:2] if i in ranked[-2:] else parent == i
            assert after.gamma[i] == before.gamma[parent]
            for field in BOUNDS:
                was, now = getattr(before, field)[parent], getattr(after, field)[i]
                assert now in (mutants(field, was) if parent != i else [was])
            copied += parent != i
    assert copied == 2 * (num_rounds - 1)
    np.testing.assert_array_equal(found.parents[-1], np.arange(10))


def test_a_member_that_is_never_replaced_is_an_uninterrupted_run():
    (found, agents), (alone, returns) = evolved(), unsearched()
    own = np.flatnonzero(np.all(found.parents == np.arange(10), axis=0))
    assert len(own)
    for i in own:
        assert_same(agents.states, alone.states, i, i)
        assert found.scores[-1, i] == returns[i]


def test_the_same_key_gives_the_same_search_and_another_key_another():
    _, configs, keys = planted()
    found, agents = evolved()
    same, other = (_evolve(configs, keys, jax.random.key(seed)) for seed in (1, 2))
    assert_same(same, found._replace(population=agents))
    np.testing.assert_array_equal(other.scores[0], found.scores[0])  # nobody was copied yet
    assert not np.array_equal(other.configs.ent_coef, found.configs.ent_coef)


def test_a_population_that_cannot_learn_is_taken_over_by_those_that_can():
    found, (_, returns) = evolved()[0], unsearched()
    idle = np.asarray(RATES) < 1e-3
    assert np.mean(found.scores[-1][idle]) > 2 * np.mean(returns[idle])
    assert np.median(found.configs.learning_rate[0]) == np.float32(1e-6)
    assert np.median(found.configs.learning_rate[-1]) > 1e-3


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"configs": []}, r"0 configs, seeds=\[0\]: give some, a seed once"),
        ({"seeds": [1, 1]}, r"2 configs, seeds=\[1, 1\]: give some, a seed once"),
        ({"configs": [CONFIG, CONFIG.replace(num_envs=16)]}, "2 different static parts"),
        ({"min_timesteps": 0}, "min_timesteps=0: give a whole number from 1"),
        ({"min_timesteps": 3841}, "min_timesteps=3841: give at most 3840"),
        ({"eta": 1}, "eta=1: give a whole number from 2"),
        ({"num_eval_episodes": 0}, "num_eval_episodes=0: give a whole number from 1"),
        ({"layout": "vmpa"}, "layout='vmpa': did you mean 'vmap'"),
    ],
)
def test_bad_arguments_of_halving_are_refused(change, message):
    good = {"configs": [CONFIG, CONFIG], "seeds": [0], "min_timesteps": 64}
    with pytest.raises(ValueError, match=message):
        search.successive_halving(**{**good, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ready_timesteps": 4000}, "ready_timesteps=4000: give at most 3840"),
        (
            {"mutate": {"learning_rat": (0.1, 1.0)}},
            "mutate='learning_rat': did you mean 'learning_rate'",
        ),
        ({"mutate": {"num_envs": (8, 16)}}, "mutate='num_envs': .*allowed: clip_eps, ent_coef"),
        (
            {"mutate": {"clip_eps_vf": (0.1, 0.2)}},
            "mutate='clip_eps_vf': .*allowed: clip_eps, ent_coef",
        ),
        ({"mutate": {"gamma": (0.9, 1.2)}}, "gamma=1.2: give a number from 0 to 1"),
        ({"mutate": {"gamma": (0.9, 0.9)}}, r"mutate gamma=\(0.9, 0.9\): give low < high"),
        ({"keys": jax.random.split(jax.random.key(0), 9)}, r"keys \(9,\), float fields \[\(10,\)"),
        ({"configs": CONFIG}, r"float fields \[\(\)\]: stack N >= 2 of each"),
    ],
)
def test_bad_arguments_of_population_based_training_are_refused(change, message):
    _, configs, keys = planted()
    good = {"configs": configs, "keys": keys, "key": jax.random.key(0)}
    with pytest.raises(ValueError, match=message):
        evolve(**{**good, **change})


def test_members_that_the_devices_cannot_share_are_refused(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    _, configs, keys = planted()
    with pytest.raises(ValueError, match="10 agents on 4 devices: make it"):
        evolve(configs, keys, jax.random.key(0))
    # 4 x 3 agents could be shared, the 1 x 3 of the last rung cannot.
    with pytest.raises(ValueError, match="3 agents on 4 devices: make it"):
        search.successive_halving([CONFIG] * 4, (0, 1, 2), 64, 4)
