"""Networks that a user brings: one flax module with the methods that an agent needs.

    class Small(nn.Module):
        spec: EnvSpec

        def setup(self):
            self.body = nn.Dense(32)
            self.head, self.critic = nn.Dense(self.spec.num_actions), nn.Dense(1)

        def policy(self, obs):
            return self.head(nn.relu(self.body(obs)))

        def value(self, obs):
            return self.critic(nn.relu(self.body(obs)))[:, 0]

    ppo.Config(network=Small)

A factory takes the environment's `EnvSpec` and returns the module. On observations `[N, ...]`,
`policy` gives logits `[N, A]` or a `Normal` of two `[N, A]`, and `value` gives `[N]`. Deterministic
policies are Box actions before tanh, `[N, A]`, or a `Normal`'s mean. Agents with critics call
`q(obs)` for `[N, A]` over a finite action set, or `q(obs, action)` for `[N]`, and soft Q-learning
`sampler(obs, noise)` for Box actions before tanh. Their policy and critics have parameters of their
own, those that the method touches, and several critics are several draws of them. Its layers may
compute in bfloat16 (`nn.Dense(32, dtype=jnp.bfloat16)`); what a method returns becomes float32.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrl_pg import precision
from jaxrl_pg.components import networks
from jaxrl_pg.config import BaseConfig
from jaxrl_pg.envs import observations
from jaxrl_pg.types import EnvSpec, Obs, Params

__all__ = [
    "ActorCriticPart",
    "Part",
    "critics",
    "module",
    "policy",
    "policy_and_value",
    "sampler",
]


class ActorCriticPart(NamedTuple):
    """A module's policy and value, called as a `networks.ActorCritic` is.

    Attributes:
        module: the user's.
        spec: the environment's.
    """

    module: nn.Module
    spec: EnvSpec

    def init(self, key: jax.Array) -> Params:
        """Return parameters, drawn by the module's own initialisers."""
        obs = observations.blank(self.spec.obs_shape, 1)
        return self.module.init(key, obs, method=lambda m, obs: (m.policy(obs), m.value(obs)))

    def apply(self, params: Params, obs: Obs, method: str | None = None) -> Any:
        """Return what a method gives, or the policy's parameters and the values."""
        if method is not None:
            output = precision.widened(self.module.apply(params, obs, method=method))
            return networks.legal_logits(obs, output) if method == "policy" else output
        return self.apply(params, obs, "policy"), self.apply(params, obs, "value")


class Part(NamedTuple):
    """One method of a module as a network of its own, called as `networks.Policy` or `Critics` is.

    Attributes:
        module: the user's.
        spec: the environment's.
        method: its name.
        copies: draws of the parameters, on an axis in front; None for one without an axis.
    """

    module: nn.Module
    spec: EnvSpec
    method: str
    copies: int | None = None

    def init(self, key: jax.Array) -> Params:
        """Return the parameters that the method touches, drawn by the module's own initialisers."""
        obs = observations.blank(self.spec.obs_shape, 1)
        takes_more = self.method in ("q", "sampler") and not self.spec.discrete
        inputs = (obs, jnp.zeros((1, *self.spec.action_shape))) if takes_more else (obs,)

        def draw(key: jax.Array) -> Params:
            return self.module.init(key, *inputs, method=self.method)

        return (
            draw(key) if self.copies is None else jax.vmap(draw)(jax.random.split(key, self.copies))
        )

    def apply(self, params: Params, *inputs: Any) -> Any:
        """Return what the method gives; of several draws `[copies, N, outputs]`."""

        def one(params: Params) -> Any:
            return precision.widened(self.module.apply(params, *inputs, method=self.method))

        if self.method == "policy":
            return networks.legal_logits(inputs[0], one(params))
        if self.copies is None:
            return one(params)
        outputs = jax.vmap(one)(params)
        return outputs if outputs.ndim == 3 else outputs[..., None]


def module(config: BaseConfig, spec: EnvSpec, *methods: str) -> nn.Module:
    """Make the module of a config's `network`.

    Raises:
        ValueError: if it is no flax module, or lacks a method that the agent needs.
    """
    made = config.network(spec) if callable(config.network) else None
    if not isinstance(made, nn.Module):
        raise ValueError(
            f"network={config.network!r} gives no flax module: give a function from an EnvSpec to "
            "a flax.linen module"
        )
    for name in methods:
        if not callable(getattr(made, name, None)):
            raise ValueError(
                f"network={config.network!r} has no method {name!r}: {config.agent.name} needs "
                f"{', '.join(methods)}"
            )
    return made


def policy_and_value(config: BaseConfig, spec: EnvSpec) -> ActorCriticPart:
    """Make the policy and value network of a config's `network`."""
    return ActorCriticPart(module(config, spec, "policy", "value"), spec)


def policy(config: BaseConfig, spec: EnvSpec) -> Part:
    """Make the policy of a config's `network`."""
    return Part(module(config, spec, "policy"), spec, "policy")


def critics(config: BaseConfig, spec: EnvSpec, method: str, copies: int) -> Part:
    """Make critics of a config's `network`, by its method `q` or `value`."""
    return Part(module(config, spec, method), spec, method, copies)


def sampler(config: BaseConfig, spec: EnvSpec) -> Part:
    """Make the network of a config's `network` that turns noise into actions."""
    return Part(module(config, spec, "sampler"), spec, "sampler", 1)
