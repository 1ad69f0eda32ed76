"""Policy and value networks: init and apply from a spec.

Batches are rows `[N, ...]` outside; inside they are columns (see `layers`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrl_pg.components.layers import Dense, Torso, TorsoFields
from jaxrl_pg.envs import observations
from jaxrl_pg.ops import full_normal
from jaxrl_pg.ops.distributions import Normal
from jaxrl_pg.types import ACTION_MASK, EnvSpec, Obs, ObsShape, Params

__all__ = [
    "ActorCritic",
    "Network",
    "Policy",
    "filled",
    "init_params",
    "legal",
    "legal_logits",
    "legal_only",
    "orthonormal_columns",
]

_LOG_STD_RANGE = (-20.0, 2.0)  # of a network's own log_std: the field's, after Haarnoja et al. 2018
_GAINS = {"policy_head": 0.01, "value_head": 1.0, "core": 1.0}
_LARGE_STACK = 2**22  # numbers in padded kernels
_IMPOSSIBLE = -1e9  # a logit whose probability is 0; -inf would make NaN of differences


def init_params(
    network: Any,
    key: jax.Array,
    obs_shape: ObsShape,
    action_shape: tuple[int, ...] = (),
) -> Params:
    """Return initial parameters: orthogonal kernels, scales 1, everything else zero.

    A kernel's gain is sqrt(2), but 0.01 in `policy_head` (first actions nearly uniform) and 1 in
    `value_head` and in a recurrent `core` (Andrychowicz et al. 2021, arXiv 2006.05990). All kernels
    come from one draw and one orthogonalisation, or a few where sizes differ much: one for each
    would cost more compile time than the whole update.

    Args:
        network: one of this package's, or a part of `own_network`.
        key: consumed.
        obs_shape: shape of one observation.
        action_shape: shape of one action, for networks that read actions too.
    """
    if not isinstance(network, Network):  # a user's, with initialisers of its own
        return network.init(key)
    obs: Any = observations.blank(obs_shape, 1)
    return filled(network, key, obs, *([jnp.zeros((1, *action_shape))] if action_shape else []))


def filled(network: Network, key: jax.Array, *inputs: Any, method: str | None = None) -> Params:
    """Return initial parameters of a network that is called with these inputs."""
    shapes = jax.eval_shape(lambda key: network.init(key, *inputs, method=method), key)
    flat, structure = jax.tree_util.tree_flatten_with_path(shapes)
    names = [[entry.key for entry in path] for path, _ in flat]
    kernels = [i for i, name in enumerate(names) if name[-1] == "kernel"]
    shapes_of = [flat[i][1].shape for i in kernels]
    sizes = [(math.prod(shape[:-1]), shape[-1]) for shape in shapes_of]
    frames = _orthonormal_frames(key, sizes)
    filled = [1.0 if name[-1] == "scale" else 0.0 for name in names]
    params = [
        jnp.full(leaf.shape, x, leaf.dtype) for (_, leaf), x in zip(flat, filled, strict=True)
    ]
    for i, frame in zip(kernels, frames, strict=True):
        gain = next((_GAINS[part] for part in names[i] if part in _GAINS), 2**0.5)
        params[i] = gain * frame.reshape(flat[i][1].shape)
    return jax.tree.unflatten(structure, params)


def legal(obs: Obs) -> jax.Array | None:
    """Return which actions are legal, `[..., A]` bool; None where observations have no mask.

    Where no action is legal, as may be after an episode's end, all are: a value of that state is
    then of ordinary size, should anything be bootstrapped from it.
    """
    mask = obs.get(ACTION_MASK) if isinstance(obs, dict) else None
    return None if mask is None else mask | ~jnp.any(mask, axis=-1, keepdims=True)


def legal_logits(obs: Obs, logits: Any) -> Any:
    """Return logits (or q-values) that give an illegal action probability exactly 0."""
    mask = legal(obs)
    return logits if mask is None else jnp.where(mask, logits, _IMPOSSIBLE)


def legal_only(obs: Obs, values: jax.Array) -> jax.Array:
    """Return values of actions `[..., A]`, with 0 for what is not legal."""
    mask = legal(obs)
    return values if mask is None else jnp.where(mask, values, 0.0)


def _orthonormal_frames(key: jax.Array, sizes: list[tuple[int, int]]) -> list[jax.Array]:
    """One matrix a size, with orthonormal columns, or rows where it is wider than high.

    They are padded into one stack. Small ones beside very large ones, such as the convolutions in
    front of a wide layer, get a stack of their own: else most of the work were zeros.
    """
    tall = [(max(size), min(size)) for size in sizes]
    height, width = (max(side) for side in zip(*tall, strict=True))
    areas = [math.prod(size) for size in sizes]
    kinds = [area.bit_length() // 3 for area in areas]  # alike up to a factor of 8
    is_wasteful = len(sizes) * height * width > max(_LARGE_STACK, 4 * sum(areas))
    if is_wasteful and len(set(kinds)) > 1:
        apart: dict[int, jax.Array] = {}
        for group, kind in zip(
            jax.random.split(key, len(set(kinds))), sorted(set(kinds)), strict=True
        ):
            members = [i for i, other in enumerate(kinds) if other == kind]
            frames = _orthonormal_frames(group, [sizes[i] for i in members])
            apart.update(zip(members, frames, strict=True))
        return [apart[i] for i in range(len(sizes))]
    rows, columns = jnp.arange(height)[None, :, None], jnp.arange(width)[None, None, :]
    heights = jnp.array([h for h, _ in tall])[:, None, None]
    widths = jnp.array([w for _, w in tall])[:, None, None]
    shape = (len(sizes), height, width)
    gaussian = jax.random.normal(key, (math.prod(shape),)).reshape(shape)
    q = orthonormal_columns(jnp.where((rows < heights) & (columns < widths), gaussian, 0.0))
    frames = [q[i, :h, :w] for i, (h, w) in enumerate(tall)]
    return [q if n >= m else q.T for q, (n, m) in zip(frames, sizes, strict=True)]


def orthonormal_columns(a: jax.Array) -> jax.Array:
    """Orthonormalise the columns of each matrix, from left to right (Gram-Schmidt, done twice).

    The result is the Q of a QR decomposition whose R has a positive diagonal, so that Gaussian
    entries give the uniform (Haar) distribution over orthonormal frames (Mezzadri 2007,
    arXiv math-ph/0609050). The second pass restores the orthogonality that rounding took from
    the first (Giraud et al. 2005). Columns of zeros stay zero, so matrices of different shapes
    can be padded into one stack.

    LAPACK's QR cannot be used inside a training program that may be vmapped: on CPU its batched
    form waits, inside a worker thread, for other workers of the same pool, and two of them at once
    on two cores wait for each other for ever (jaxlib 0.10.2).

    Args:
        a: `[L, n, k]`, `L` matrices with `k <= n` columns.

    Returns:
        `[L, n, k]`.
    """

    def add_column(q: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        j, column = row
        for _ in range(2):
            overlap = jnp.sum(q * column[:, :, None], axis=1, keepdims=True)
            column = column - jnp.sum(q * overlap, axis=2)
        norm = jnp.linalg.norm(column, axis=1, keepdims=True)
        column = jnp.where(norm > 0, column / jnp.where(norm > 0, norm, 1.0), 0.0)
        here = (jnp.arange(a.shape[2]) == j)[None, None, :]
        return jnp.where(here, column[:, :, None], q), None

    columns = (jnp.arange(a.shape[2]), jnp.moveaxis(a, 2, 0))
    return jax.lax.scan(add_column, jnp.zeros_like(a), columns)[0]


class Network(nn.Module):
    """A flax module whose results are arrays, or distributions' parameters, and nothing else."""

    if TYPE_CHECKING:

        def apply(  # type: ignore[override]
            self, params: Params, *inputs: Any, method: str | None = None
        ) -> Any:
            """Return what the network, or one of its methods by name, makes of the inputs."""


class ActorCritic(Network):
    """A policy and a value, on torsos of their own or on a shared one.

    Attributes:
        spec: of the environment.
        torso: the layers in front of each head.
        shared_torso: one torso for both heads.

    Box actions get a `log_std` that depends on no state, 0 at first.
    """

    spec: EnvSpec
    torso: TorsoFields
    shared_torso: bool = False

    def setup(self) -> None:
        """Make the torsos and heads."""
        self.policy_torso = Torso(True, *self.torso)
        self.value_torso = self.policy_torso if self.shared_torso else Torso(True, *self.torso)
        self.policy_head = Dense(self.spec.num_actions, columns=True)
        self.value_head = Dense(1, columns=True)
        if not self.spec.discrete:
            self.log_std = self.param(
                "log_std", nn.initializers.zeros_init(), (self.spec.num_actions,)
            )

    def policy(self, obs: Obs) -> jax.Array | Normal:
        """Return logits `[N, A]`, or a `Normal` of two `[N, A]`."""
        return self._distribution(obs, self.policy_head(self.policy_torso(obs)))

    def value(self, obs: Obs) -> jax.Array:
        """Return values `[N]`."""
        return self.value_head(self.value_torso(obs)).reshape(-1)

    def __call__(self, obs: Obs) -> tuple[Any, jax.Array]:
        """Return policy parameters and values; a shared torso is run once."""
        features = self.policy_torso(obs)
        params = self._distribution(obs, self.policy_head(features))
        if not self.shared_torso:
            features = self.value_torso(obs)
        return params, self.value_head(features).reshape(-1)

    def _distribution(self, obs: Obs, head: jax.Array) -> jax.Array | Normal:
        head = head.T
        if self.spec.discrete:
            return legal_logits(obs, head)
        return Normal(head, jnp.broadcast_to(self.log_std[None], head.shape))


class Policy(Network):
    """A policy alone: logits `[N, A]`, or a normal whose spread depends on the state, or a mean.

    Attributes:
        spec, torso: as in `ActorCritic`.
        covariance: diagonal for a `Normal`, full for a `FullNormal`, none for the mean alone.
    """

    spec: EnvSpec
    torso: TorsoFields
    covariance: str = "diagonal"

    @nn.compact
    def __call__(self, obs: Obs) -> jax.Array | Normal | full_normal.FullNormal:
        """Return the parameters of the action distributions, or Box actions before tanh."""
        torso = Torso(True, *self.torso, name="torso")
        size, full = self.spec.num_actions, self.covariance == "full"
        mean_only = self.spec.discrete or self.covariance == "none"
        width = size if mean_only else 2 * size
        width += full_normal.num_below(size) if full else 0
        head = Dense(width, columns=True, name="policy_head")(torso(obs)).T
        if self.spec.discrete:
            return legal_logits(obs, head)
        if mean_only:
            return head
        mean, log_std, below = jnp.split(head, (size, 2 * size), axis=1)
        log_std = jnp.clip(log_std, *_LOG_STD_RANGE)
        return full_normal.make(mean, log_std, below) if full else Normal(mean, log_std)
