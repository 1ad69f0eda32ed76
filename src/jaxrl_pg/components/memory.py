"""Memory: a recurrent core between the layers and the heads of a policy and value network.

    ppo.Config(env="MemoryChain-bsuite", core="gru", num_minibatches=4)

The core reads the layers' features one step after the other, and the heads read what it gives. A
minibatch is made of whole sequences: row `b` is environment `b`'s part of the rollout, from the
hidden state that it had at the rollout's beginning, and the core forgets where an episode begins.

A cell of one's own is a function from a size to a flax `RNNCellBase`, or to any flax module with
`initialize_carry(rng, input_shape)` (of which shapes are read; a sequence begins with zeros) and
`__call__(carry, x) -> (carry, y)`, on `[N, ...]`. A network of one's own (`network=`) has
`encode(obs)`, and its `policy` and `value` read what the core makes of that.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrl_pg import precision
from jaxrl_pg.components import layers, networks, own_network, rollout
from jaxrl_pg.config import BaseConfig, Positive, check_choice
from jaxrl_pg.envs import observations
from jaxrl_pg.ops.distributions import Normal
from jaxrl_pg.types import EnvSpec, Obs, Params

__all__ = ["MemoryFields", "Recurrent", "Sequences", "build", "cell_of", "init_params", "start"]

_CELLS: dict[str, Any] = {"gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}


class MemoryFields(BaseConfig):
    """Fields of agents that can have a memory."""

    core: Any = None
    """recurrent core behind the layers: gru, lstm, or a function from a size to a flax cell"""
    core_size: Annotated[int, Positive] = 64
    """features of the recurrent core"""

    def check(self) -> None:
        """Refuse what is no core."""
        super().check()
        if self.core is not None:
            cell_of(self)

    @property
    def rows_per_iteration(self) -> int:
        """Sequences in a rollout, one of each environment, where there is a core."""
        return self.num_envs if self.core is not None else super().rows_per_iteration


class Sequences(NamedTuple):
    """What a core needs to read a rollout's rows.

    Attributes:
        fresh: `[B, T]` bool, an episode begins at this step, within the rollout.
        hidden: `[B, ...]` before the first step.
    """

    fresh: jax.Array
    hidden: Any


class Body(networks.Network):
    """The layers in front of a core and the heads behind it, which share it.

    Attributes:
        spec: of the environment.
        torso: the layers.
    """

    spec: EnvSpec
    torso: layers.TorsoFields

    def setup(self) -> None:
        """Make layers and heads."""
        self.encoder = layers.Torso(False, *self.torso)
        self.policy_head = layers.Dense(self.spec.num_actions, False)
        self.value_head = layers.Dense(1, False)
        if not self.spec.discrete:
            self.log_std = self.param(
                "log_std", nn.initializers.zeros_init(), (self.spec.num_actions,)
            )

    def encode(self, obs: Obs) -> jax.Array:
        """Return features `[N, F]` of observations `[N, ...]`."""
        return self.encoder(obs)

    def policy(self, x: jax.Array) -> jax.Array | Normal:
        """Return logits `[N, A]`, or a `Normal` of two `[N, A]`."""
        head = self.policy_head(x)
        if self.spec.discrete:
            return head
        return Normal(head, jnp.broadcast_to(self.log_std[None], head.shape))

    def value(self, x: jax.Array) -> jax.Array:
        """Return values `[N]`."""
        return self.value_head(x).reshape(-1)


class Recurrent(networks.Network):
    """A policy and a value that remember.

    Attributes:
        spec: of the environment.
        core: the cell.
        body: a `Body`, or a user's module with the same methods.
    """

    spec: EnvSpec
    core: nn.Module
    body: nn.Module

    def step(self, obs: Obs, hidden: Any) -> tuple[Any, Any, jax.Array]:
        """Read one observation `[B, ...]` each.

        Returns:
            The hidden state after it, the policy's parameters, and values `[B]`.
        """
        hidden, y = self.core(hidden, self.body.encode(obs))
        params = networks.legal_logits(obs, precision.widened(self.body.policy(y)))
        return hidden, params, precision.widened(self.body.value(y))

    def __call__(self, obs: Obs, sequences: Sequences) -> tuple[Any, jax.Array]:
        """Read sequences `[B, T, ...]`; return the policy's parameters and values `[B, T]`."""
        shape = sequences.fresh.shape
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), obs)
        features = self.body.encode(rows).reshape(*shape, -1)

        def read(core: Any, hidden: Any, xs: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
            fresh, x = xs
            return core(rollout.forget(fresh, hidden), x)

        over_time = nn.scan(
            read, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1
        )
        _, y = over_time(self.core, sequences.hidden, (sequences.fresh, features))
        y = y.reshape(-1, y.shape[-1])
        params = networks.legal_logits(rows, precision.widened(self.body.policy(y)))
        whole = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), params)
        return whole, precision.widened(self.body.value(y)).reshape(shape)


def build(config: MemoryFields, spec: EnvSpec) -> Recurrent:
    """Make the network of a config with a core."""
    if config.network is None:
        body: nn.Module = Body(spec, layers.torso_fields(config))
    else:
        body = own_network.module(config, spec, "encode", "policy", "value")
    return Recurrent(spec, cell_of(config), body)


def cell_of(config: MemoryFields) -> Any:
    """Make the cell that a config names.

    Raises:
        ValueError: if it names none, or gives no flax module with `initialize_carry`.
    """
    if isinstance(config.core, str):
        check_choice("core", config.core, tuple(_CELLS))
        dtype = precision.compute_dtype(config.dtype)
        return _CELLS[config.core](features=config.core_size, dtype=dtype)
    made = config.core(config.core_size) if callable(config.core) else None
    if not (isinstance(made, nn.Module) and callable(getattr(made, "initialize_carry", None))):
        raise ValueError(
            f"core={config.core!r} gives no recurrent cell: give gru, lstm, or a function from a "
            "size to a flax module with initialize_carry, such as nn.SimpleCell"
        )
    return made


def start(network: Recurrent, num: int) -> Any:
    """Return what is remembered at the beginning of `num` episodes: zeros `[num, ...]`."""
    obs, key = observations.blank(network.spec.obs_shape, num), jax.random.key(0)

    def carry(obs: Obs) -> Any:
        features, _ = network.body.init_with_output(key, obs, method="encode")
        core: Any = network.core
        return core.initialize_carry(key, features.shape)

    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(carry, obs))


def init_params(network: Recurrent, key: jax.Array) -> Params:
    """Return initial parameters: ours as `networks.init_params` says, a user's parts by their own.

    Args:
        network: from `build`.
        key: consumed.
    """
    obs, hidden = observations.blank(network.spec.obs_shape, 1), start(network, 1)
    ours_key, theirs_key = jax.random.split(key)
    ours = networks.filled(network, ours_key, obs, hidden, method="step")
    own = [
        name
        for name, is_ours in (
            ("core", isinstance(network.core, tuple(_CELLS.values()))),
            ("body", isinstance(network.body, Body)),
        )
        if not is_ours
    ]
    if own:
        theirs = network.init(theirs_key, obs, hidden, method="step")["params"]
        ours["params"] |= {name: theirs[name] for name in own if name in theirs}
    return ours
