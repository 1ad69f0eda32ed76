"""Policy and value networks: init and apply from a spec.

Inside, a batch of narrow observations is a matrix of columns `[features, N]`. A weight's
gradient is then the product of two matrices that already lie in memory as a CPU wants them,
which takes half the time (docs/decisions.md). Wide observations stay rows, since turning them
would cost more than it saves. Outside, batches are rows `[N, ...]` as everywhere else.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrl_pg.config import BaseConfig
from jaxrl_pg.ops import full_normal
from jaxrl_pg.ops.distributions import Normal
from jaxrl_pg.types import EnvSpec, Params

__all__ = [
    "ActorCritic",
    "Dense",
    "Network",
    "Policy",
    "Torso",
    "TorsoFields",
    "in_columns",
    "init_params",
    "orthonormal_columns",
    "torso_fields",
]

_ACTIVATIONS = {"tanh": jnp.tanh, "relu": nn.relu, "swish": nn.swish, "gelu": nn.gelu}
_WIDEST_COLUMN = 128
_LOG_STD_RANGE = (-20.0, 2.0)  # of a network's own log_std: the field's, after Haarnoja et al. 2018
_GAINS = {"policy_head": 0.01, "value_head": 1.0}


def init_params(
    network: Any,
    key: jax.Array,
    obs_shape: tuple[int, ...],
    action_shape: tuple[int, ...] = (),
) -> Params:
    """Return initial parameters: orthogonal kernels, scales 1, everything else zero.

    A kernel's gain is sqrt(2), but 0.01 in `policy_head` (first actions nearly uniform) and 1 in
    `value_head` (Andrychowicz et al. 2021, arXiv 2006.05990). All kernels come from one draw and
    one orthogonalisation: separate ones cost more compile time than the whole update.

    Args:
        network: one of this package's, or a part of `own_network`.
        key: consumed.
        obs_shape: shape of one observation.
        action_shape: shape of one action, for networks that read actions too.
    """
    if not isinstance(network, Network):  # a user's, with initialisers of its own
        return network.init(key)
    inputs = [jnp.zeros((1, *shape)) for shape in (obs_shape, action_shape) if shape]
    shapes = jax.eval_shape(network.init, key, *inputs)
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


def _orthonormal_frames(key: jax.Array, sizes: list[tuple[int, int]]) -> list[jax.Array]:
    """One matrix a size, with orthonormal columns, or rows where it is wider than high."""
    tall = [(max(size), min(size)) for size in sizes]
    height, width = (max(side) for side in zip(*tall, strict=True))
    rows, columns = jnp.arange(height)[None, :, None], jnp.arange(width)[None, None, :]
    heights = jnp.array([h for h, _ in tall])[:, None, None]
    widths = jnp.array([w for _, w in tall])[:, None, None]
    shape = (len(sizes), height, width)
    gaussian = jax.random.normal(key, (math.prod(shape),)).reshape(shape)
    q = orthonormal_columns(jnp.where((rows < heights) & (columns < widths), gaussian, 0.0))
    frames = [q[i, :h, :w] for i, (h, w) in enumerate(tall)]
    return [q if n >= m else q.T for q, (n, m) in zip(frames, sizes, strict=True)]


def in_columns(spec: EnvSpec) -> bool:
    """Say whether networks lay a batch of such observations out in columns."""
    return math.prod(spec.obs_shape) <= _WIDEST_COLUMN


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


class TorsoFields(NamedTuple):
    """What a config says of the layers in front of every head; the fields of `Torso`."""

    hidden_sizes: tuple[int, ...]
    activation: str = "tanh"
    conv_features: int = 16
    conv_layers: tuple[tuple[int, ...], ...] = ()
    layer_norm: bool = False
    residual: bool = False


def torso_fields(config: BaseConfig) -> TorsoFields:
    """Read off a config what is in front of every head."""
    return TorsoFields(*(getattr(config, name) for name in TorsoFields._fields))


class Network(nn.Module):
    """A flax module whose results are arrays, or distributions' parameters, and nothing else."""

    if TYPE_CHECKING:

        def apply(  # type: ignore[override]
            self, params: Params, *inputs: jax.Array, method: str | None = None
        ) -> Any:
            """Return what the network, or one of its methods by name, makes of the inputs."""


class Dense(nn.Module):
    """`W^T x + b` on rows `[N, in] -> [N, out]` or on columns `[in, N] -> [out, N]`."""

    features: int
    columns: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the layer's output."""
        zeros = nn.initializers.zeros_init()
        kernel = self.param("kernel", zeros, (x.shape[0 if self.columns else 1], self.features))
        bias = self.param("bias", zeros, (self.features,))
        return kernel.T @ x + bias[:, None] if self.columns else x @ kernel + bias[None]


class Conv(nn.Module):
    """A convolution `[N, H, W, C] -> [N, H', W', features]` with square kernels.

    Written as one product with the shifted images side by side; XLA's own convolution takes four
    times as long to differentiate on a CPU.
    """

    features: int
    kernel_size: int
    stride: int = 1
    padding: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the layer's output."""
        size, stride, pad = self.kernel_size, self.stride, (self.padding, self.padding)
        x = jnp.pad(x, ((0, 0), pad, pad, (0, 0))) if self.padding else x
        height, width = ((n - size) // stride + 1 for n in x.shape[1:3])
        if height < 1 or width < 1:
            raise ValueError(
                f"a convolution of {size}x{size} does not fit an image of "
                f"{x.shape[1]}x{x.shape[2]}: give conv_layers with smaller kernels or with "
                "padding, or none and conv_features=0, which flattens images"
            )
        rows = [slice(i, i + stride * (height - 1) + 1, stride) for i in range(size)]
        columns = [slice(j, j + stride * (width - 1) + 1, stride) for j in range(size)]
        shifts = [x[:, i, j] for i in rows for j in columns]
        patches = jnp.concatenate(shifts, axis=-1).reshape(-1, size * size * x.shape[3])
        zeros = nn.initializers.zeros_init()
        kernel = self.param("kernel", zeros, (size, size, x.shape[3], self.features))
        bias = self.param("bias", zeros, (self.features,))
        product = patches @ kernel.reshape(-1, self.features)
        return (product + bias[None]).reshape(-1, height, width, self.features)


class LayerNorm(nn.Module):
    """Layer normalisation (Ba et al. 2016) of each sample's features, in rows or columns."""

    columns: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return features of mean 0 and standard deviation 1, scaled and shifted."""
        axis = 0 if self.columns else 1
        shape = (x.shape[axis],)
        scale = self.param("scale", nn.initializers.ones_init(), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), shape)
        centred = x - jnp.mean(x, axis=axis, keepdims=True)
        deviation = jnp.sqrt(jnp.mean(jnp.square(centred), axis=axis, keepdims=True) + 1e-6)
        scale, bias = (jnp.expand_dims(p, 1 - axis) for p in (scale, bias))
        return centred / deviation * scale + bias


class Torso(nn.Module):
    """Observations `[N, ...]` to features, `[N, hidden]` or in columns `[hidden, N]`.

    Images (three axes) pass one convolution of `conv_features` 3x3 filters first, as in the
    MinAtar paper (Young and Tian 2019, arXiv 1903.03176); 0 filters flattens them at once. With
    `conv_layers` they pass those instead. Actions `[N, A]`, where given, are appended to the
    flattened observations.

    Attributes:
        columns: lay features out in columns.
        hidden_sizes: widths of the layers.
        activation: a name in `_ACTIVATIONS`.
        conv_features: filters of the one convolution, 0 for none.
        conv_layers: `(features, kernel, stride, padding)` of each convolution; the last two may be
            left out.
        layer_norm: normalise each layer's features before the activation.
        residual: add a layer's input to its output where both are equally wide.
    """

    columns: bool
    hidden_sizes: tuple[int, ...]
    activation: str
    conv_features: int = 16
    conv_layers: tuple[tuple[int, ...], ...] = ()
    layer_norm: bool = False
    residual: bool = False

    @nn.compact
    def __call__(self, obs: jax.Array, action: jax.Array | None = None) -> jax.Array:
        """Return features."""
        act = _ACTIVATIONS[self.activation]
        x = obs.astype(jnp.float32)
        one_layer = ((self.conv_features, 3),) if self.conv_features else ()
        for layer in (self.conv_layers or one_layer) if x.ndim == 4 else ():
            x = act(Conv(*layer)(x))
        x = x.reshape(x.shape[0], -1)
        x = x if action is None else jnp.concatenate([x, action], axis=1)
        # Turned here and not, with the gradients, inside every product with a weight.
        x = jax.lax.optimization_barrier(x.T) if self.columns else x
        for size in self.hidden_sizes:
            y = Dense(size, self.columns)(x)
            y = act(LayerNorm(self.columns)(y) if self.layer_norm else y)
            x = x + y if self.residual and x.shape == y.shape else y
        return x


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
        self.columns = in_columns(self.spec)
        self.policy_torso = Torso(self.columns, *self.torso)
        self.value_torso = (
            self.policy_torso if self.shared_torso else Torso(self.columns, *self.torso)
        )
        self.policy_head = Dense(self.spec.num_actions, self.columns)
        self.value_head = Dense(1, self.columns)
        if not self.spec.discrete:
            self.log_std = self.param(
                "log_std", nn.initializers.zeros_init(), (self.spec.num_actions,)
            )

    def policy(self, obs: jax.Array) -> jax.Array | Normal:
        """Return logits `[N, A]`, or a `Normal` of two `[N, A]`."""
        return self._distribution(self.policy_head(self.policy_torso(obs)))

    def value(self, obs: jax.Array) -> jax.Array:
        """Return values `[N]`."""
        return self.value_head(self.value_torso(obs)).reshape(-1)

    def __call__(self, obs: jax.Array) -> tuple[Any, jax.Array]:
        """Return policy parameters and values; a shared torso is run once."""
        features = self.policy_torso(obs)
        params = self._distribution(self.policy_head(features))
        if not self.shared_torso:
            features = self.value_torso(obs)
        return params, self.value_head(features).reshape(-1)

    def _distribution(self, head: jax.Array) -> jax.Array | Normal:
        head = head.T if self.columns else head
        if self.spec.discrete:
            return head
        return Normal(head, jnp.broadcast_to(self.log_std[None], head.shape))


class Policy(Network):
    """A policy alone: logits `[N, A]`, or a normal whose spread depends on the state.

    Attributes:
        spec, torso: as in `ActorCritic`.
        covariance: diagonal for a `Normal`, full for a `FullNormal`.
    """

    spec: EnvSpec
    torso: TorsoFields
    covariance: str = "diagonal"

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array | Normal | full_normal.FullNormal:
        """Return the parameters of the action distributions."""
        columns = in_columns(self.spec)
        torso = Torso(columns, *self.torso, name="torso")
        size, full = self.spec.num_actions, self.covariance == "full"
        width = size if self.spec.discrete else 2 * size
        width += full_normal.num_below(size) if full else 0
        head = Dense(width, columns, name="policy_head")(torso(obs))
        head = head.T if columns else head
        if self.spec.discrete:
            return head
        mean, log_std, below = jnp.split(head, (size, 2 * size), axis=1)
        log_std = jnp.clip(log_std, *_LOG_STD_RANGE)
        return full_normal.make(mean, log_std, below) if full else Normal(mean, log_std)
