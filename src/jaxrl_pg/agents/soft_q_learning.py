"""Soft Q-learning (Haarnoja et al. 2017, arXiv 1702.08165).

One iteration takes `num_steps` steps of `num_envs` environments into the replay, then
`num_updates` gradient steps on minibatches out of it, of

    J_Q = (Q - r - gamma V'(s'))^2 / 2,    V = alpha log integral exp(Q(s, a) / alpha) da

(their equation 11, the value their equation 6), where V' is that of an exponential average of Q.
The policy is `exp((Q - V) / alpha)`, their equation 5.

Over a finite action set the integral is a sum, and sampling is exact. Of Box actions V is
estimated from uniform ones, and a network that turns noise into actions is taught to draw from the
policy: at every state of a minibatch it draws `num_particles` actions, and Stein variational
gradient descent says where each is to move (`ops.stein`). Unlike a normal, it can choose between
several ways of doing something.

Where it differs from the paper: the particles are moved before tanh, where the density of the
policy is `exp(Q / alpha) (1 - tanh^2)`, and all of them carry the kernel, where the paper has two
sets. Where it differs from most of the field: a step cut off by a time limit bootstraps from its
own final observation. Observations are not normalised.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.components import (
    layers,
    networks,
    off_policy,
    optim,
    own_network,
    replay,
    replay_updates,
)
from jaxrl_pg.components.critics import Critics, q_of
from jaxrl_pg.components.off_policy import OffPolicyConfig, Rows
from jaxrl_pg.components.replay_updates import Draws
from jaxrl_pg.components.written import Written, network
from jaxrl_pg.config import Positive, Range
from jaxrl_pg.ops import distributions, soft, stein
from jaxrl_pg.types import Agent, EnvSpec, Metrics, Obs, OptState, Params, TrainState

__all__ = [
    "AGENT",
    "Config",
    "Learner",
    "act",
    "adopt",
    "init",
    "iterate",
    "value",
    "written",
]


class Config(OffPolicyConfig):
    """Hyper-parameters of soft Q-learning; floats are pytree leaves, everything else static."""

    alpha: Annotated[float, Positive] = 0.1
    """temperature"""
    num_particles: Annotated[int, Range(2)] = 16
    """actions a state in an estimate of V, and in an update of the sampler (Box actions)"""


class Learner(NamedTuple):
    """Soft Q-learning's own state.

    Attributes:
        params: parameters of the Q network.
        target: their exponential average.
        opt_state: Adam's moments.
        sampler: parameters of the network that draws Box actions; `()` over a finite action set.
        sampler_opt: Adam's moments of those.
    """

    params: Params
    target: Params
    opt_state: OptState
    sampler: Params = ()
    sampler_opt: OptState = ()


class Model(NamedTuple):
    """What a config names, made: the environment, the Q network, and the sampler or None."""

    env: envs.Env
    q: Any
    sampler: Any

    def actions(self, params: Params, obs: Obs, noise: jax.Array) -> jax.Array:
        """Return the sampler's actions before tanh `[N, A]`, of noise `[N, A]`."""
        return self.sampler.apply(params, obs, noise)[0]

    def q_values(self, params: Params, obs: Obs, action: jax.Array) -> jax.Array:
        """Return q-values `[K, N]` of Box actions `[K, N, A]`."""
        return jax.vmap(lambda action: q_of(self.q, params, obs, action)[0])(action)


def build(config: Config) -> Model:
    """Make the environment and the networks that a config names."""
    env = envs.of(config)
    sampler: Any = None
    if not env.spec.discrete:
        sampler = Critics(1, env.spec, env.spec.num_actions, layers.torso_fields(config))
        if config.network is not None:
            sampler = own_network.sampler(config, env.spec)
    return Model(env, off_policy.q_network(config, env.spec, 1), sampler)


def init(config: Config, key: jax.Array) -> TrainState[Learner]:
    """Return a fresh train state: parameters, optimisers, an empty replay, first observations."""
    model = build(config)
    spec = model.env.spec
    params_key, actor, memory, train_key = off_policy.start(config, model.env, key)
    if spec.discrete:
        params = networks.init_params(model.q, params_key, spec.obs_shape)
        learner = Learner(params, target=params, opt_state=optim.init(params, config.optimizer))
    else:
        q_key, sampler_key = jax.random.split(params_key)
        params = networks.init_params(model.q, q_key, spec.obs_shape, spec.action_shape)
        sampler = networks.init_params(
            model.sampler, sampler_key, spec.obs_shape, spec.action_shape
        )
        opt_state, sampler_opt = (optim.init(x, config.optimizer) for x in (params, sampler))
        learner = Learner(params, params, opt_state, sampler, sampler_opt)
    return TrainState(learner, actor, memory, train_key, jnp.zeros((), jnp.int32))


def adopt(config: Config, learner: Learner, given: Learner) -> Learner:
    """Return a fresh learner with the networks of another."""
    params, sampler = given.params, given.sampler
    sampler_opt = learner.sampler_opt
    opt_state = optim.init(params, config.optimizer)
    if jax.tree.leaves(sampler):
        sampler_opt = optim.init(sampler, config.optimizer)
    return Learner(params, params, opt_state, sampler, sampler_opt)


def iterate(config: Config, state: TrainState[Learner]) -> tuple[TrainState[Learner], Metrics]:
    """Step the environments into the replay and learn from it."""
    model = build(config)
    spec = model.env.spec
    experience = off_policy.gather(
        config, model.env, state, lambda obs: _policy(config, model, state.learner, obs)
    )
    times = 0 if spec.discrete else 2 * config.num_particles
    draws = replay_updates.draw(config, spec, experience, config.num_updates, steps=1, times=times)

    def update(learner: Learner, draws: Draws) -> tuple[Learner, Metrics]:
        """Take one gradient step of Q, and one of the sampler; the target follows."""
        rows = replay.take(experience.memory, draws.places[0])
        for_value, for_sampler = jnp.split(draws.noise, 2)
        grads, metrics = jax.grad(_loss, has_aux=True)(
            learner.params, config, model, learner.target, rows, for_value
        )
        params, opt_state, norm = off_policy.gradient_step(
            config, learner.params, learner.opt_state, grads
        )
        target = soft.polyak_update(learner.target, params, config.tau)
        learner = learner._replace(params=params, target=target, opt_state=opt_state)
        metrics["grad_norm"] = norm
        if model.sampler is not None:
            learner, sampler_metrics = _teach(config, model, learner, rows.obs, for_sampler)
            metrics.update(sampler_metrics)
        return learner, metrics

    learner, metrics = replay_updates.learn(config, state, experience, update, draws)
    return off_policy.advance(state, experience, learner, metrics)


def act(
    config: Config, learner: Learner, obs: Obs, key: jax.Array, deterministic: bool
) -> jax.Array:
    """Return actions for observations `[N, ...]`: sampled, or the most probable ones.

    The most probable Box action is the best by Q of `num_particles` draws, which are always the
    same.
    """
    model = build(config)
    obs = envs.batch(model.env, obs)
    policy = _policy(config, model, learner, obs)
    if deterministic and model.sampler is not None:
        fixed = _fixed_noise(config, model, obs)
        action = jax.vmap(lambda noise: off_policy.sample(policy, noise))(fixed)
        best = jnp.argmax(model.q_values(learner.params, obs, action), axis=0)
        return action[best, jnp.arange(best.size)]
    if model.sampler is not None:
        num = jax.tree.leaves(obs)[0].shape[0]
        return off_policy.sample(policy, off_policy.noise(model.env.spec, key, 1, num)[0])
    return off_policy.act(model.env.spec, policy, key, deterministic)


def value(config: Config, learner: Learner, obs: Obs) -> jax.Array:
    """Return the soft value `[N]` of observations `[N, ...]`, entropy included.

    Of Box actions it is estimated from `num_particles` ones, which are always the same.
    """
    model = build(config)
    obs = envs.batch(model.env, obs)
    q = _q_values(model, learner.params, obs, _fixed_noise(config, model, obs))
    return _soft_value(config, model, q)


def written(config: Config, learner: Learner) -> Written:
    """Write out Boltzmann's policy; or the sampler, and Q and the draws by which it chooses."""
    spec = envs.of(config).spec
    if spec.discrete:
        distribution = {"kind": "categorical", "temperature": float(config.alpha)}
        return Written(distribution, network(learner.params, "value_head"))
    q = network(learner.params, "value_head", "q/")
    sampler = network(learner.sampler, "value_head", "sampler/")
    return Written(
        {"kind": "sampler"}, {**q, **sampler, "particles": _particles(config, spec)[:, 0]}
    )


def _q_values(model: Model, params: Params, obs: Obs, noise: jax.Array) -> jax.Array:
    """Q `[N, A]` of all actions, or `[N, K]` of Box actions that normal noise makes uniform."""
    if model.sampler is None:
        return networks.legal_logits(obs, model.q.apply(params, obs)[0])
    action = jax.lax.erf(noise / jnp.sqrt(2.0))  # 2 Phi(z) - 1
    return model.q_values(params, obs, action).T


def _soft_value(config: Config, model: Model, q: jax.Array) -> jax.Array:
    """V `[N]` by the values of `_q_values`."""
    if model.sampler is None:
        return soft.optimal_value(q, config.alpha)
    return soft.optimal_value_of_box(q, config.alpha, model.env.spec.num_actions)


def _loss(
    params: Params,
    config: Config,
    model: Model,
    target_params: Params,
    rows: Rows,
    noise: jax.Array,
) -> tuple[jax.Array, Metrics]:
    next_q = _q_values(model, target_params, rows.next_obs, noise)
    next_value = _soft_value(config, model, next_q)
    discount = off_policy.discount(config, rows)
    target = soft.backup(rows.reward, rows.terminated, next_value, discount)
    q = q_of(model.q, params, rows.obs, rows.action)
    loss = soft.q_loss(q, target)
    metrics = {"loss/q": loss, "q/mean": jnp.mean(q), "alpha": jnp.asarray(config.alpha)}
    if model.sampler is None:
        logits = networks.legal_logits(rows.obs, model.q.apply(params, rows.obs)[0] / config.alpha)
        metrics["policy/entropy"] = jnp.mean(distributions.CATEGORICAL.entropy(logits))
    else:  # at the next observations: of exp((Q - V) / alpha) it is (V - E Q) / alpha
        expected_q = jnp.sum(jax.nn.softmax(next_q / config.alpha) * next_q, axis=-1)
        metrics["policy/entropy"] = jnp.mean(next_value - expected_q) / config.alpha
    return loss, metrics


def _teach(
    config: Config, model: Model, learner: Learner, obs: Obs, noise: jax.Array
) -> tuple[Learner, Metrics]:
    """Take one gradient step of the sampler: each of its actions is to move as `stein` says.

    The gradient of `-phi . u(sampler)` is what moves the actions u by phi (their equation 14).
    """

    def log_density(u: jax.Array) -> jax.Array:
        """Sum of the logarithms, up to constants; no action's depends on another."""
        q = model.q_values(learner.params, obs, jnp.tanh(u))
        return jnp.sum(q / config.alpha + distributions.tanh_log_volume(u))

    def loss(sampler: Params) -> tuple[jax.Array, Metrics]:
        u = jax.vmap(lambda noise: model.actions(sampler, obs, noise))(noise)
        particles, score = (jnp.moveaxis(x, 0, 1) for x in (u, jax.grad(log_density)(u)))
        phi = stein.direction(particles, score)
        action = jnp.tanh(particles)
        return -jnp.mean(jnp.sum(phi * particles, axis=-1)), {
            "policy/stein": jnp.sqrt(jnp.mean(jnp.sum(phi**2, axis=-1))),
            "policy/action_std": jnp.mean(jnp.std(action, axis=1)),
        }

    grads, metrics = jax.grad(loss, has_aux=True)(learner.sampler)
    sampler, sampler_opt, _ = off_policy.gradient_step(
        config, learner.sampler, learner.sampler_opt, grads
    )
    return learner._replace(sampler=sampler, sampler_opt=sampler_opt), metrics


def _policy(config: Config, model: Model, learner: Learner, obs: Obs) -> Any:
    """Logits of `exp((Q - V) / alpha)`, where V cancels; or a function from noise to actions."""
    if model.sampler is not None:
        return lambda noise: model.actions(learner.sampler, obs, noise)
    return networks.legal_logits(obs, model.q.apply(learner.params, obs)[0] / config.alpha)


def _fixed_noise(config: Config, model: Model, obs: Obs) -> jax.Array:
    """Noise `[K, N, A]`, the same for every observation and whenever it is asked for."""
    one = _particles(config, model.env.spec)
    return jnp.broadcast_to(one, (one.shape[0], jax.tree.leaves(obs)[0].shape[0], *one.shape[2:]))


def _particles(config: Config, spec: EnvSpec) -> jax.Array:
    """Return the noise `[K, 1, A]` of the draws from which the most probable action is taken."""
    return off_policy.noise(spec, jax.random.key(0), config.num_particles, 1)


AGENT = Agent("soft_q_learning", Config, init, iterate, act, value, adopt=adopt, written=written)
