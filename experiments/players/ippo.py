"""Independent PPO for the players of a JaxMARL game (de Witt et al. 2020, arXiv 2011.09533).

    L = sum_i L_PPO(pi(a_i | o_i), V(o_i))        one network for all players, each fed its own view

Every player is a learner of its own reward, for whom the others are part of the environment; what
they learn is added up in one network. The settings are those of JaxMARL's `ippo_ff_mpe` (Rutherford
et al. 2024, arXiv 2311.10090), and as there the end of an episode at the time limit counts as
termination and the value loss is clipped.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.components import networks, optim
from jaxrl_pg.components.layers import TorsoFields
from jaxrl_pg.ops import batching, distributions, losses, returns
from jaxrl_pg.types import EnvSpec

__all__ = ["Settings", "State", "act", "init", "iterate"]

FAMILY = distributions.CATEGORICAL


class Settings(NamedTuple):
    """Hyper-parameters, with JaxMARL's values."""

    total_timesteps: int
    learning_rate: float = 2.5e-4
    num_envs: int = 16
    num_steps: int = 128
    num_epochs: int = 4
    num_minibatches: int = 4
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_eps: float = 0.2
    ent_coef: float = 0.01
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5

    @property
    def num_iterations(self) -> int:
        """Return how many rollouts there are."""
        return self.total_timesteps // (self.num_envs * self.num_steps)


class State(NamedTuple):
    """What there is between two iterations.

    Attributes:
        params, opt_state: of the one network, and Adam's moments.
        game: the states of the environments.
        obs: `[E, I, D]`, what each player sees.
        key: for all that is random from here on.
        iteration: `[]` int32.
    """

    params: Any
    opt_state: Any
    game: Any
    obs: jax.Array
    key: jax.Array
    iteration: jax.Array


class Rows(NamedTuple):
    """Steps of all players, `[T, E I]` or, shuffled, `[N]`."""

    obs: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    reward: jax.Array
    done: jax.Array


def network(env: Any) -> networks.ActorCritic:
    """Return the network that all players share: two layers of 64, for policy and value each."""
    one = env.agents[0]
    shape, num = env.observation_space(one).shape, int(env.action_space(one).n)
    return networks.ActorCritic(EnvSpec(shape, True, num, ()), TorsoFields((64, 64)))


def init(env: Any, settings: Settings, key: jax.Array) -> State:
    """Return the start of a run."""
    params_key, reset_key, key = jax.random.split(key, 3)
    model = network(env)
    params = networks.init_params(model, params_key, model.spec.obs_shape)
    obs, game = jax.vmap(env.reset)(jax.random.split(reset_key, settings.num_envs))
    start = State(
        params, optim.init(params), game, in_rows(env, obs), key, jnp.zeros((), jnp.int32)
    )
    return start


def act(env: Any, params: Any, obs: jax.Array) -> jax.Array:
    """Return logits `[E, I, A]` of what the players see, `[E, I, D]`."""
    logits = network(env).apply(params, obs.reshape(-1, obs.shape[-1]))[0]
    return logits.reshape(*obs.shape[:2], -1)


def in_rows(env: Any, by_player: dict[str, jax.Array]) -> jax.Array:
    """Return what is there for each player, `[E, ...]` each, as `[E, I, ...]`."""
    return jnp.stack([by_player[player] for player in env.agents], axis=1)


def iterate(env: Any, settings: Settings, state: State) -> State:
    """Collect one rollout and learn from it."""
    model, flat = network(env), (-1, state.obs.shape[-1])

    def step(carry: Any, key: jax.Array) -> tuple[Any, Rows]:
        game, obs = carry
        action_key, step_key = jax.random.split(key)
        logits, value = model.apply(state.params, obs.reshape(flat))
        noise = FAMILY.noise(action_key, value.shape, logits.shape[1])
        action = FAMILY.sample(logits, noise)
        own = action.reshape(obs.shape[:2])
        following, game, reward, done, _ = jax.vmap(env.step)(
            jax.random.split(step_key, settings.num_envs),
            game,
            {player: own[:, i] for i, player in enumerate(env.agents)},
        )
        reward, done = (in_rows(env, x).reshape(-1) for x in (reward, done))
        log_prob = FAMILY.log_prob(logits, action)
        row = Rows(obs.reshape(flat), action, log_prob, value, reward, done)
        return (game, in_rows(env, following)), row

    rollout_key, update_key, key = jax.random.split(state.key, 3)
    keys = jax.random.split(rollout_key, settings.num_steps)
    (game, obs), rows = jax.lax.scan(step, (state.game, state.obs), keys)
    last_value = model.apply(state.params, obs.reshape(flat))[1]
    following = jnp.concatenate([rows.value[1:], last_value[None]])
    never = jnp.zeros_like(rows.done)
    advantage = returns.gae(
        rows.reward, rows.value, following, rows.done, never, settings.gamma, settings.gae_lambda
    )
    rows, advantage, target = jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[2:]), (rows, advantage, advantage + rows.value)
    )
    rate = optim.linear_anneal(settings.learning_rate, state.iteration, settings.num_iterations)
    indices = batching.minibatch_indices(
        update_key, len(target), settings.num_epochs, settings.num_minibatches
    )

    def minibatch_step(carry: Any, some: jax.Array) -> tuple[Any, None]:
        params, opt_state = carry
        grads = jax.grad(loss)(
            params, model, settings, *jax.tree.map(lambda x: x[some], (rows, advantage, target))
        )
        return optim.apply_gradients(params, opt_state, grads, rate, settings.max_grad_norm)[
            :2
        ], None

    start = (state.params, state.opt_state)
    (params, opt_state), _ = jax.lax.scan(minibatch_step, start, indices)
    return State(params, opt_state, game, obs, key, state.iteration + 1)


def loss(
    params: Any,
    model: networks.ActorCritic,
    settings: Settings,
    rows: Rows,
    advantage: jax.Array,
    target: jax.Array,
) -> jax.Array:
    """The clipped surrogate, the clipped value loss and the entropy bonus over some rows."""
    logits, value = model.apply(params, rows.obs)
    log_ratio = FAMILY.log_prob(logits, rows.action) - rows.log_prob
    advantage = (advantage - jnp.mean(advantage)) / (jnp.std(advantage) + 1e-8)
    policy_loss = losses.clipped_surrogate_loss(log_ratio, advantage, settings.clip_eps)
    value_loss = losses.clipped_value_loss(value, rows.value, target, settings.clip_eps)
    entropy = jnp.mean(FAMILY.entropy(logits))
    return policy_loss + settings.vf_coef * value_loss - settings.ent_coef * entropy
