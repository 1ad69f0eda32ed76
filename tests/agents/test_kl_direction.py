"""Either KL divergence of two policies, in PPO's penalty and stop and in natural steps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import probes
from jaxrl_pg import natural_gradient, ppo
from jaxrl_pg.components import on_policy

KINDS = {"discrete": probes.Probe(), "box": probes.Probe(discrete=False)}
# Samples whose ratios are 2 and 1/2. KL(old || new): .30685 and .19315, mean 1/4.
# KL(new || old): .38629 and .15343, mean .26986.
LOG_RATIO = np.log(np.float32([2.0, 0.5]))
WORKED = {"old_new": 0.25, "new_old": 0.26986039}
# Updates stop above 1.5 times this, .26, which lies between them.
TARGET_KL = 0.26 / 1.5
UPDATE = jax.jit(lambda config, *args: ppo._update(config, on_policy.build(config), *args))
IMPROVE = jax.jit(
    lambda config, *args: natural_gradient._improve(config, on_policy.build(config), *args)
)


def rows_of(config, params):
    """Two rows that the policy of some parameters takes with those ratios; nothing to gain."""
    model, obs = on_policy.build(config), jnp.ones((2, 3))
    dist = model.network.apply(params, obs, method="policy")
    action = jnp.zeros(2, jnp.int32) if model.env.spec.discrete else jnp.array([[0.5], [-1.0]])
    log_prob = model.family.log_prob(dist, action) - LOG_RATIO
    zeros = jnp.zeros(2)
    return on_policy.Batch(obs, action, log_prob, value=zeros, advantage=zeros, target=zeros)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("direction", WORKED)
def test_ppo_penalises_and_stops_at_the_kl_that_is_asked_for(kind, direction):
    config = ppo.Config(
        env=KINDS[kind],
        num_envs=2,
        num_steps=1,
        num_epochs=1,
        num_minibatches=1,
        hidden_sizes=(4,),
        ent_coef=0.0,
        vf_coef=0.0,
        normalize_advantage=False,
        objective="kl",
        penalty_kl=0.26 / 1.5,
        target_kl=TARGET_KL,
        kl_direction=direction,
    )
    learner = jax.jit(ppo.init)(config, jax.random.key(0)).learner
    learner = learner._replace(kl_coef=jnp.float32(3.0))
    rows = jax.jit(rows_of)(config, learner.params)
    after, metrics = UPDATE(config, learner, rows, jax.random.key(0), jnp.float32(0.01))
    assert_allclose(metrics["policy/approx_kl"], WORKED[direction], rtol=1e-5)
    assert_allclose(metrics["loss/total"], 3.0 * WORKED[direction], rtol=1e-5)
    # Above .26 updates stop at once, and the coefficient doubles; below, neither.
    too_far = direction == "new_old"
    moved = np.any(after.params["params"]["policy_head"]["bias"] != 0)
    assert moved == (not too_far)
    assert_allclose(after.kl_coef, 6.0 if too_far else 3.0)


def normal_kl(p, q):
    """`KL(p || q)` of normals of one coordinate, in plain numbers."""
    (mean_p, std_p), (mean_q, std_q) = p, q
    return np.log(std_q / std_p) + (std_p**2 + (mean_p - mean_q) ** 2) / (2 * std_q**2) - 0.5


def test_a_natural_step_of_normals_has_the_kl_that_is_asked_for():
    """Both by the closed form from the policies before and after; the step is the same one."""
    config = natural_gradient.Config(
        env=KINDS["box"],
        num_envs=2,
        num_steps=1,
        num_minibatches=1,
        hidden_sizes=(),
        method="npg",
        max_kl=0.3,
    )
    params = jax.jit(on_policy.start)(config, jax.random.key(0))[0]
    rows = jax.jit(rows_of)(config, params)._replace(advantage=jnp.array([1.0, -1.0]))

    def policy(params):
        network = on_policy.build(config).network
        dist = jax.jit(partial(network.apply, method="policy"))(params, rows.obs)
        return float(dist.mean[0, 0]), float(jnp.exp(dist.log_std[0, 0]))

    after, kl = {}, {}
    for direction in WORKED:
        new, metrics = IMPROVE(config.replace(kl_direction=direction), params, rows)
        after[direction], kl[direction] = policy(new), float(metrics["policy/kl"])
    assert_array_equal(after["old_new"], after["new_old"])
    before, new = policy(params), after["old_new"]
    assert_allclose(kl["old_new"], normal_kl(before, new), rtol=1e-4)
    assert_allclose(kl["new_old"], normal_kl(new, before), rtol=1e-4)
    assert abs(kl["old_new"] - kl["new_old"]) > 0.02


def test_another_direction_is_refused():
    for config in (ppo.Config, natural_gradient.Config):
        with pytest.raises(ValueError, match=r"kl_direction='reverse': .*allowed: new_old, old_ne"):
            config(kl_direction="reverse")
