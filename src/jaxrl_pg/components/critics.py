"""Critics: networks that give values of observations, or of observations and actions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrl_pg.components import own_network
from jaxrl_pg.components.layers import Dense, Torso, TorsoFields, torso_fields
from jaxrl_pg.components.networks import Network
from jaxrl_pg.config import BaseConfig
from jaxrl_pg.types import EnvSpec, Obs, Params

__all__ = ["Critic", "Critics", "q_network", "q_of"]


def q_network(config: BaseConfig, spec: EnvSpec, num_critics: int) -> Any:
    """Make Q networks: of all actions of a finite set, or of one given action."""
    if config.network is not None:
        return own_network.critics(config, spec, "q", num_critics)
    outputs = spec.num_actions if spec.discrete else 1
    return Critics(num_critics, spec, outputs, torso_fields(config))


def q_of(network: Any, params: Params, obs: Obs, action: jax.Array) -> jax.Array:
    """Return every critic's value `[num_critics, N]` of actions `[N, ...]`, discrete or real."""
    if not network.spec.discrete:
        return network.apply(params, obs, action)[..., 0]
    q = network.apply(params, obs)
    taken = jax.nn.one_hot(action, q.shape[-1], dtype=q.dtype)
    return jnp.sum(q * taken[None], axis=-1)


class Critic(Network):
    """Values of observations: one number, or one for each of a finite set of actions.

    Attributes:
        spec: of the environment.
        outputs: numbers an observation gets.
        torso: the layers in front of the head.
    """

    spec: EnvSpec
    outputs: int
    torso: TorsoFields

    @nn.compact
    def __call__(self, obs: Obs, action: jax.Array | None = None) -> jax.Array:
        """Return values `[N, outputs]`, of actions `[N, A]` where given."""
        torso = Torso(True, *self.torso, name="torso")
        return Dense(self.outputs, columns=True, name="value_head")(torso(obs, action)).T


class Critics(Network):
    """Several critics of one kind that share nothing.

    Attributes:
        num_critics: how many.
        spec, outputs, torso: of each, as in `Critic`.
    """

    num_critics: int
    spec: EnvSpec
    outputs: int
    torso: TorsoFields

    @nn.compact
    def __call__(self, obs: Obs, action: jax.Array | None = None) -> jax.Array:
        """Return values `[num_critics, N, outputs]`."""
        kind = (self.spec, self.outputs, self.torso)
        critics = [Critic(*kind, name=f"critic_{i}") for i in range(self.num_critics)]
        return jnp.stack([critic(obs, action) for critic in critics])
